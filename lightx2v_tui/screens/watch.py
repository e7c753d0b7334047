"""A run that another process works on: how far it is, its log, its end; it can be cancelled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from textual.binding import Binding

from engine.spec.errors import EngineError
from engine.spec.events import Done
from lightx2v_tui.host import HostMemory
from lightx2v_tui.messages import ErrorMet, ResumeWanted
from lightx2v_tui.output import printable
from lightx2v_tui.runs import eta, history
from lightx2v_tui.runs.folder import ask_cancel
from lightx2v_tui.runs.launcher import Launcher, Run
from lightx2v_tui.runs.watching import facts_of, view_of
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.screens.run_frame import RunFrame
from lightx2v_tui.units import duration, seconds
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.facts import Facts
from lightx2v_tui.widgets.log_pane import LogPane
from lightx2v_tui.widgets.meter_panel import MeterPanel
from lightx2v_tui.widgets.notes import Notes
from lightx2v_tui.widgets.outcome import Outcome, Result
from lightx2v_tui.widgets.preview import PreviewPanel
from lightx2v_tui.widgets.stages import StageList

INTERVAL = 1.0  # seconds between two looks at its record
ELSEWHERE = "Its pictures are in the app that makes it; the video is shown here at the end."
HAS_ENDED = "The run has ended."
#: Actions that are for a run under way, or for one that has ended.
ONE_TIME = ("cancel", "copy", "play", "go_on")


class WatchScreen(RunFrame):
    """One run of another process, from what it writes down about itself."""

    BINDINGS = [
        Binding("u", "go_on", "Go on", id="watch.resume",
                tooltip="Go on with this run here, from its last finished step"),
        Binding("left_square_bracket", "look(-1)", "Another run", id="watch.earlier", show=False,
                tooltip="Look at the run before this one"),
        Binding("right_square_bracket", "look(1)", "Another run", id="watch.later", show=False,
                tooltip="Look at the run after this one"),
        Binding("escape", "back", "Back", id="watch.back", tooltip="Back; the run goes on"),
    ]  # fmt: skip

    def __init__(self, launcher: Launcher, runs: Sequence[history.PastRun]) -> None:
        """`runs` are those that can be looked at, the first one first."""
        super().__init__(classes="watch")
        self._launcher = launcher
        self._runs = {run.id: run for run in runs}
        self._watched = runs[0]
        self._looking = self._cancelling = False

    def on_mount(self) -> None:
        """Start looking."""
        self._clocks = [self.set_interval(INTERVAL, self._look, pause=True),
                        self.set_interval(INTERVAL, self.read_machine, pause=True)]  # fmt: skip
        self.watch_run(self._watched)

    def watch_run(self, run: history.PastRun) -> None:
        """Show a run from now on."""
        self._runs.setdefault(run.id, run)
        self._watched, self._frames, self.ram_peak = run, (), 0
        self._cancelling = False
        self.query_one(
            TitleBar
        ).place = f"{printable(run.facts.model or run.id)} › Run of process {run.pid}"
        for facts in self.query(Facts):
            facts.tell(facts_of(run))
        self.query_one(MeterPanel).begin()
        self.query_one(Outcome).clear()
        self.query_one(PreviewPanel).say("Preview", ELSEWHERE)
        self.follow_log(run.log)
        for timer in self._clocks:
            timer.resume()
        self._take(run)
        if run.status == "running":
            self.read_machine()

    def show_run(self, run: Run) -> None:
        """Show a run that was started here."""
        del run
        self.call_later(self.app.run_action, "view_run")

    @property
    def measured(self) -> str:
        """The device of the run that is shown; empty where it has ended."""
        return self._watched.device if self._watched.status == "running" else ""

    @property
    def made(self) -> Path | None:
        """The video, once there is one."""
        run = self._watched
        return Path(run.output) if run.status == "done" and run.output else None

    def read_memory(self) -> HostMemory:
        """Read the RAM, on a thread; that of the run's process instead of this one's."""
        from lightx2v_tui.runs.processes import memory_of

        return replace(super().read_memory(), process=memory_of(self._watched.pid or 0))

    def _look(self) -> None:
        """Read the record again, unless a disk has not answered the last time."""
        if not self._looking and self.is_active:
            self._looking = True
            in_background(self, partial(history.read_run, self._watched.folder), self._take_look)

    def _take_look(self, run: history.PastRun | None) -> None:
        self._looking = False
        if run is None or not self.is_mounted or run.id != self._watched.id:
            return
        self._watched = self._runs[run.id] = run
        self._take(run)

    def _take(self, run: history.PastRun) -> None:
        """Draw what a record says."""
        now = time.monotonic()
        view = view_of(run, now - time.time())
        spent = view.total(now)
        self.query_one(StageList).show(view, now)
        self.query_one(Notes).show(view.waiting, view.notes)
        self.show_waiting()
        if view.terminal is not None:
            self._show_end(run, Result(view.terminal, spent, run.facts.seed, run.log, run.kept))
        else:
            words = "cancelling…" if self._cancelling else "waiting" if view.waiting else "running"
            self.query_one(TitleBar).state = f"{words} {seconds(spent)}{eta.to_go(view, now, None)}"
        self.keep_place()
        self.refresh_bindings()

    def _show_end(self, run: history.PastRun, result: Result) -> None:
        for timer in self._clocks:
            timer.pause()
        self.query_one(Outcome).show(result)
        self.query_one(MeterPanel).show_end(None, self.ram_peak)
        self.query_one(LogPane).rest()
        took = f" in {duration(result.seconds)}" if isinstance(result.event, Done) else ""
        self.query_one(TitleBar).state = f"{run.status}{took}"
        if self.made is not None:
            self.show_video(self.made)
        self.call_after_refresh(self.query_one(Outcome).scroll_visible, animate=False)

    def reason_against(self, action: str) -> str:
        """Say why an action cannot be done now; empty where it can."""
        run, dropped = self._watched, self._launcher.dropped
        return {
            "cancel": "" if run.status == "running" else HAS_ENDED,
            "play": "" if self._frames else "There is no video to show.",
            "copy": "" if self.made is not None else "There is no video yet.",
            "go_on": "" if run.kept or dropped else "It has not ended early.",
            "look": "" if len(self._runs) > 1 else "There is no other run.",
        }.get(action, "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey out what cannot be done now, but keep what belongs to the end out of the footer."""
        allowed = super().check_action(action, parameters)
        return False if allowed is None and action in ONE_TIME else allowed

    def action_cancel(self) -> None:
        """Ask the other process to stop, after asking here."""
        run = self._watched
        text = (f"Process {run.pid} works on it. It stops at its next block; the steps that were "
                "done are kept.")  # fmt: skip
        self.app.push_screen(Question("Cancel this run?", text), partial(self._cancel, run))

    def _cancel(self, run: history.PastRun, yes: bool | None) -> None:
        if not yes:
            return
        try:
            ask_cancel(run.folder)
        except EngineError as error:
            self.post_message(ErrorMet(error))
            return
        if run.id == self._watched.id:
            self._cancelling = True
            self._take(self._watched)

    def action_go_on(self) -> None:
        """Put back what was taken out of the line; else go on with the run that is shown."""
        if self._launcher.dropped is not None:
            self.action_put_back()
        else:
            self.post_message(ResumeWanted(self._watched.folder))

    def action_look(self, by: int) -> None:
        """Look at another run."""
        ids = list(self._runs)
        here = ids.index(self._watched.id)
        self.watch_run(self._runs[ids[(here + by) % len(ids)]])
