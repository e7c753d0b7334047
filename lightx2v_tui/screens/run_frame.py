"""What every screen of a run has: stages, meters, pictures, notes, its end, its log."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll

from engine.spec.errors import EngineError
from engine.spec.picture import Picture
from lightx2v_tui import paths, settings
from lightx2v_tui.output import printable
from lightx2v_tui.screens.run_line import LineScreen
from lightx2v_tui.screens.run_machine import MachineScreen
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.facts import Facts
from lightx2v_tui.widgets.key_bar import KeyBar
from lightx2v_tui.widgets.log_pane import LogPane
from lightx2v_tui.widgets.meter_panel import MeterPanel
from lightx2v_tui.widgets.notes import Notes
from lightx2v_tui.widgets.outcome import Outcome
from lightx2v_tui.widgets.preview import PreviewPanel
from lightx2v_tui.widgets.stages import StageList
from lightx2v_tui.widgets.waiting import WaitingList

SHOWN_FRAMES, FRAME_WIDTH, FRAME_HEIGHT = 8, 160, 100  # of the video that was made


class RunFrame(MachineScreen, LineScreen):
    """The frame around one run, whoever works on it."""

    CSS_PATH = "run.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high"), (44, "-tall")]
    BINDINGS = [
        Binding("c", "cancel", "Cancel", id="run.cancel", tooltip="Cancel this run"),
        Binding("enter", "play", "Play", id="run.play", tooltip="Show the video once more"),
        Binding("y", "copy", "Copy", id="run.copy", tooltip="Copy the path of the video"),
        Binding("p", "preview", "Preview", id="run.preview", show=False,
                tooltip="Show pictures, or hide them"),
        Binding("l", "log", "Log", id="run.log", tooltip="Show the run's log, or hide it"),
    ]  # fmt: skip

    def __init__(self, *, classes: str) -> None:
        super().__init__(classes=classes)
        self._frames: tuple[Picture, ...] = ()  # of the finished video

    @property
    def made(self) -> Path | None:
        """The video, once there is one."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        with VerticalScroll(id="content"):
            yield Notes(id="notes")
            with Horizontal(id="columns"):
                with Vertical(id="left"):
                    yield StageList(id="stages")
                    yield MeterPanel(id="machine")
                    yield Facts(id="facts-left")
                with Vertical(id="right"):
                    yield PreviewPanel(id="preview")
                    yield Facts(id="facts-right")
            yield Outcome(id="outcome")
            yield WaitingList(id="waiting")
            yield LogPane(id="log")
        yield KeyBar(compact=True)

    def on_mount(self) -> None:
        """Hide what is only shown when it is asked for."""
        self.set_class(not settings.load()[0].preview, "-no-preview")
        self.query_one(LogPane).set_shown(shown=False)

    def follow_log(self, path: Path) -> None:
        """Show a log from now on, where a log is shown."""
        log = self.query_one(LogPane)
        log.follow(path)
        log.set_shown(shown=log.display)

    def keep_place(self) -> None:
        """The columns are never lower than what must be seen in them; then the screen scrolls."""
        needed = self.query_one(StageList).rows + self.query_one(MeterPanel).rows
        facts = self.query_one("#facts-left")
        needed += facts.outer_size.height if facts.display else 0
        columns = self.query_one("#columns")
        if columns.styles.min_height is None or columns.styles.min_height.value != needed:
            columns.styles.min_height = needed

    def show_video(self, path: Path) -> None:
        """Show the video itself, unless another one is shown by then."""

        def work() -> tuple[Picture, ...]:
            from lightx2v_tui.pictures import read_frames

            try:
                return read_frames(path, SHOWN_FRAMES, FRAME_WIDTH, FRAME_HEIGHT)
            except EngineError:  # it is gone already; the path is told all the same
                return ()

        def take(frames: tuple[Picture, ...]) -> None:
            if frames and self.is_mounted and path == self.made:
                self._frames = frames
                self.query_one(PreviewPanel).play_once("The video", frames)
                self.refresh_bindings()

        in_background(self, work, take)

    def action_play(self) -> None:
        """Show the video once more."""
        self.query_one(PreviewPanel).play_once("The video", self._frames)

    def action_copy(self) -> None:
        """Copy the path of the video to the terminal's clipboard."""
        path = str(self.made or "")
        self.app.copy_to_clipboard(path)
        self.notify(printable(paths.short(path)), title="Copied", markup=False)

    def action_preview(self) -> None:
        """Show pictures or hide them, now and from now on."""
        hidden = not self.has_class("-no-preview")
        self.set_class(hidden, "-no-preview")
        if problem := settings.change(preview=not hidden):
            self.notify(problem, severity="warning", markup=False)

    def action_log(self) -> None:
        """Show the log or hide it."""
        log = self.query_one(LogPane)
        log.set_shown(shown=not log.display)
        self.set_class(log.display, "-log")
        if log.display:
            log.focus()
            self.call_after_refresh(log.scroll_visible, animate=False)
        else:
            self.set_focus(None)  # not what happens to be next

    def action_back(self) -> None:
        """Close the log; else back to where it was opened, and a run goes on."""
        if self.query_one(LogPane).display:
            self.action_log()
        else:
            self.app.pop_screen()
