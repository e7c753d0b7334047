"""The runs so far: look at one, run it again, change it, or clear it away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.timer import Timer
from textual.widgets import DataTable, Input, Static

from engine.spec.errors import EngineError
from lightx2v_tui import paths
from lightx2v_tui.launch.forecast import Held
from lightx2v_tui.messages import ErrorMet, PresetOpened, RunWanted
from lightx2v_tui.output import printable
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import history
from lightx2v_tui.runs.history import PastRun
from lightx2v_tui.screens.again import deleted, log_or_reason, planned, preset_or_error
from lightx2v_tui.screens.dialogs import Question, TextDialog
from lightx2v_tui.screens.going_on import GoingOnScreen
from lightx2v_tui.screens.past import Detail, explain, haystack, look_at
from lightx2v_tui.screens.reveal import AskVideo
from lightx2v_tui.screens.run_table import RunTable
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.key_bar import KeyBar
from lightx2v_tui.widgets.picture import PictureView

BATCH = 40  # runs that are read before the screen shows them
LOOK_SECONDS = 0.12  # the cursor rests so long before a run is looked at
FIT_SECONDS = 0.1  # a window that is dragged has many sizes, of which the last one counts
WATCH_SECONDS = 3.0  # between two looks at runs that are under way
KEPT_DETAILS = 50
NO_MATCH = "Nothing matches. Escape shows all runs."
NOTHING = "Nothing was made yet. Escape goes back; Enter on a model opens the form to make a video."
NEEDS_RUN = ("edit", "again", "new_seed", "go_on", "watch", "copy", "delete", "log")


class HistoryScreen(GoingOnScreen):
    """Past runs, the newest first, and a pane that shows one."""

    CSS_PATH = "history.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-high")]
    BINDINGS = [
        Binding("e", "edit", "Edit and run", id="history.edit", show=False,
                tooltip="Open the launch form with everything as it was in this run"),
        Binding("r", "again", "Again", id="history.again",
                tooltip="Make the same video once more, from the same seed"),
        Binding("n", "new_seed", "New seed", id="history.new_seed",
                tooltip="Make it once more from another seed"),
        Binding("u", "go_on", "Go on", id="history.go_on",
                tooltip="Go on with a run that ended early, from its last finished step"),
        Binding("y", "copy", "Copy", id="history.copy",
                tooltip="Copy the path of the video to the terminal's clipboard"),
        Binding("l", "log", "Log", id="history.log", tooltip="Read the end of its log"),
        Binding("m", "reveal", "Open mp4", id="history.reveal", show=False,
                tooltip="Show the settings stored in any mp4 that this app made"),
        Binding("slash", "filter", "Find", id="history.filter",
                tooltip="Show the runs that hold what is typed"),
        Binding("d,delete", "delete", "Delete", id="history.delete", show=False,
                tooltip="Delete the run's folder, after asking"),
        Binding("f5", "reload", "Read again", id="history.reload", show=False,
                tooltip="Read the runs again from the disk"),
        Binding("tab", "app.focus_next", "Details", id="history.details", show=False,
                tooltip="Go to the pane, to scroll it"),
        Binding("escape", "back", "Back", id="history.back", tooltip="Clear the filter or go back"),
    ]  # fmt: skip

    def __init__(self, held: Callable[[], Held] = Held) -> None:
        """`held` says what the engine holds, for planning runs."""
        super().__init__(classes="history")
        self._held = held
        self._runs: dict[str, PastRun] = {}
        self._details: dict[str, Detail] = {}
        self._reading = 0  # which reading of the disk is the newest
        self._whole = False  # whether it has come to its end
        self._soon: Timer | None = None
        self._resized: Timer | None = None
        self._planning = False

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        with Container(id="body"):
            with Vertical(id="list"):
                yield Input(id="filter", placeholder="filter: words of the prompt, model, status…",
                            compact=True)  # fmt: skip
                yield RunTable(id="runs")
                yield Static(NOTHING, id="nothing", markup=False)
            with Container(id="detail", classes="panel"):
                yield PictureView(id="picture", classes="-none")
                with VerticalScroll(id="scroll"):
                    yield Static(id="about", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Start reading."""
        self.query_one(TitleBar).place = "History"
        self.query_one(RunTable).focus()
        self.set_interval(WATCH_SECONDS, self._watch_running)
        self.action_reload()

    def action_reload(self) -> None:
        """Read the runs from the disk."""
        self._reading += 1
        self._whole = False
        self._read(self._reading, history.newest_first(), {})

    def run_ended(self) -> None:
        """A run of this app has ended: its folder says how."""
        self._details.clear()
        self.action_reload()

    def _read(self, reading: int, source: Iterator[PastRun], before: dict[str, PastRun]) -> None:
        """Read some runs on a thread, show them, and go on with the rest."""

        def take(batch: list[PastRun]) -> None:
            if reading != self._reading or not self.is_mounted:
                return
            runs = {**before, **{run.id: run for run in batch}}
            self._whole = not batch
            if batch:
                self._read(reading, source, runs)
            if not batch or len(runs) > len(self._runs):
                self._show_runs(runs)

        in_background(self, lambda: list(islice(source, BATCH)), take)

    def _show_runs(self, runs: dict[str, PastRun]) -> None:
        self._runs = dict(sorted(runs.items(), key=lambda item: (-item[1].when, item[0])))
        self._fill()

    def _fill(self) -> None:
        shown = self._shown()
        self.query_one(RunTable).show(shown)
        self._tell_count(len(shown))
        self.set_class(self._whole and not shown, "-empty")
        self.query_one("#nothing", Static).update(NO_MATCH if self._runs else NOTHING)
        self.refresh_bindings()
        self._look_soon()

    def _tell_count(self, shown: int) -> None:
        total = len(self._runs)
        told = f"{total} run{'' if total == 1 else 's'}"
        if self._words():
            told = f"{shown} of {told}"
        self.query_one(TitleBar).state = told if self._whole else f"{told}, reading…"

    def _words(self) -> list[str]:
        return self.query_one("#filter", Input).value.lower().split()

    def _shown(self) -> Sequence[PastRun]:
        words = self._words()
        return [r for r in self._runs.values() if all(word in haystack(r) for word in words)]

    @property
    def current(self) -> PastRun | None:
        """The run under the cursor; the footer asks before there is a table."""
        return next((self._runs.get(table.current) for table in self.query(RunTable)), None)

    def on_resize(self, event: events.Resize) -> None:
        """Give the columns the width there is now."""
        del event
        if self._resized is not None:
            self._resized.stop()
        self._resized = self.set_timer(FIT_SECONDS, self._fit)

    def _fit(self) -> None:
        if self._runs and not self.query_one(RunTable).fits:
            self._fill()

    @on(DataTable.RowHighlighted)
    def _on_highlighted(self) -> None:
        self.refresh_bindings()
        self._look_soon()

    def _look_soon(self) -> None:
        """Show what is known at once, and look at the files once the cursor rests."""
        if self._soon is not None:
            self._soon.stop()
        run = self.current
        detail = self._details.get(run.id) if run else None
        self._explain(run, detail)
        if run is not None and detail is None:
            self._soon = self.set_timer(LOOK_SECONDS, partial(self._look, run))

    def _look(self, run: PastRun) -> None:
        in_background(self, lambda: look_at(run), partial(self._take_detail, run))

    def _take_detail(self, run: PastRun, detail: Detail) -> None:
        if not self.is_mounted:
            return
        while len(self._details) >= KEPT_DETAILS:
            del self._details[next(iter(self._details))]
        self._details[run.id] = detail
        if self.current is not None and self.current.id == run.id:
            self._explain(run, detail)
            self.refresh_bindings()

    def _explain(self, run: PastRun | None, detail: Detail | None) -> None:
        picture = detail.picture if detail else None
        view = self.query_one(PictureView)
        view.set_class(picture is None, "-none")
        view.picture = picture
        about = explain(run, detail, time.time()) if run else Content("")
        self.query_one("#about", Static).update(about)
        self.query_one("#detail").border_title = escape(printable(run.id)) if run else ""

    def _watch_running(self) -> None:
        """Read those again that were running; nothing else changes by itself."""
        running = [run for run in self._runs.values() if run.status == "running"]
        if not running or self.app.screen is not self:
            return
        in_background(
            self, lambda: [history.read_run(run.folder) for run in running], self._take_running
        )

    def _take_running(self, runs: list[PastRun | None]) -> None:
        if not self.is_mounted:
            return
        fresh = {run.id: run for run in runs if run is not None}
        for run in fresh.values():
            if run.status != "running":
                self._details.pop(run.id, None)
        self._show_runs({**self._runs, **fresh})

    def reason_against(self, action: str) -> str:
        """Say why an action cannot be done now; empty where it can."""
        if action not in NEEDS_RUN:
            return ""
        run = self.current
        if run is None:
            return "There is no run under the cursor."
        detail = self._details.get(run.id, Detail(has_log=True, has_video=run.status == "done"))
        if action in ("again", "new_seed") and self._planning:
            return "It is being prepared."
        reasons = {
            "go_on": (not run.can_go_on, "It is done." if run.status == "done" else "It goes on."),
            "watch": (run.status != "running", "It is not under way."),
            "copy": (not detail.has_video, "This run has no video."),
            "delete": (run.status == "running", "It is still running."),
            "log": (not detail.has_log, "This run has no log."),
        }
        against, reason = reasons.get(action, (bool(detail.problem and not detail.preset),
                                               "Its settings cannot be read."))  # fmt: skip
        return reason if against else ""

    @on(DataTable.RowSelected)
    async def _on_selected(self) -> None:
        run = self.current
        watched = run is not None and run.status == "running"
        await self.run_action("watch" if watched else "edit")

    def action_edit(self) -> None:
        """Open the launch form on the run's settings."""
        if self.current is not None:
            self._with_preset(self.current, lambda preset: self.post_message(PresetOpened(preset)))

    def action_again(self) -> None:
        """Run it again from the same seed."""
        if self.current is not None:
            self._with_preset(self.current, self._ask_and_plan)

    def action_new_seed(self) -> None:
        """Run it again from another seed."""
        import secrets

        seed = secrets.randbelow(2**32)
        if self.current is not None:
            self._with_preset(
                self.current, lambda preset: self._ask_and_plan(replace(preset, seed=seed))
            )

    def _with_preset(self, run: PastRun, use: Callable[[Preset], object]) -> None:
        """Read the run's preset on a thread, then use it."""

        def take(result: Preset | EngineError) -> None:
            if isinstance(result, EngineError):
                self.post_message(ErrorMet(result))
            else:
                use(result)

        in_background(self, lambda: preset_or_error(run), take)

    def _ask_and_plan(self, preset: Preset) -> None:
        """Plan a run; a video that the user had put somewhere is not replaced unasked."""
        if preset.output is None or not preset.output.exists():
            self._plan(preset)
            return
        question = f"{preset.output} is there already. Making it again replaces it."
        self.app.push_screen(
            Question("Replace the video?", question),
            lambda yes: self._plan(preset) if yes else None,
        )

    def _plan(self, preset: Preset) -> None:
        self._planning = True
        self.refresh_bindings()
        in_background(self, partial(planned, preset, self._held()), self._take_plan)

    def _take_plan(self, result: RunWanted | EngineError) -> None:
        self._planning = False
        self.refresh_bindings()
        self.post_message(ErrorMet(result) if isinstance(result, EngineError) else result)

    def action_copy(self) -> None:
        """Copy the path of the video."""
        if self.current is not None:
            path = self.current.output or ""
            self.app.copy_to_clipboard(path)
            self.notify(printable(paths.short(path)), title="Copied", markup=False)

    def action_log(self) -> None:
        """Read the end of the log."""
        run = self.current
        if run is None:
            return

        def show(text: str) -> None:
            self.app.push_screen(TextDialog(f"Log of {run.id}", text))

        in_background(self, lambda: log_or_reason(run), show)

    def action_reveal(self) -> None:
        """Ask for an mp4, and open the settings in it."""
        self.app.push_screen(AskVideo(), self._open_revealed)

    def _open_revealed(self, preset: Preset | None) -> None:
        if preset is not None:
            self.post_message(PresetOpened(preset))

    def action_delete(self) -> None:
        """Delete the run's folder, after asking."""
        run = self.current
        if run is None:
            return
        own = history.keeps_own_video(run, history.video_of(run))
        what = "its video, settings and log" if own else "its settings and log; no video is in it"
        question = f"{run.folder}\n\nwith {what}. This cannot be undone."
        self.app.push_screen(
            Question("Delete this run?", question), lambda yes: self._delete(run) if yes else None
        )

    def _delete(self, run: PastRun) -> None:
        def take(error: EngineError | None) -> None:
            if error is not None:
                self.post_message(ErrorMet(error))
            self._details.pop(run.id, None)
            self.action_reload()

        in_background(self, lambda: deleted(run), take)

    def action_filter(self) -> None:
        """Type what is looked for."""
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    @on(Input.Changed, "#filter")
    def _on_filter(self) -> None:
        self._fill()

    @on(Input.Submitted, "#filter")
    def _on_filtered(self) -> None:
        self.query_one(RunTable).focus()

    def action_back(self) -> None:
        """Clear the filter; without one, go back."""
        if not self.has_class("-filtering"):
            self.app.pop_screen()
            return
        self.remove_class("-filtering")
        self.query_one("#filter", Input).value = ""
        self.query_one(RunTable).focus()
