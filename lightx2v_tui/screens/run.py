"""The run: stages, steps, pictures, meters, the line behind it, and the path of the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from textual.binding import Binding

from engine.spec.events import Done, Failed
from engine.spec.job import Job, Previews
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.messages import CancelWanted, ErrorMet, PauseWanted, RunWanted
from lightx2v_tui.output import printable
from lightx2v_tui.runs import eta
from lightx2v_tui.runs.launcher import Launcher, Run
from lightx2v_tui.runs.tracker import RunView
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.screens.run_frame import RunFrame
from lightx2v_tui.screens.run_machine import ForeseeingScreen
from lightx2v_tui.units import duration, seconds
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.facts import Facts
from lightx2v_tui.widgets.log_pane import LogPane
from lightx2v_tui.widgets.meter_panel import MeterPanel
from lightx2v_tui.widgets.notes import Notes
from lightx2v_tui.widgets.outcome import Outcome, Result, ending_of
from lightx2v_tui.widgets.preview import PreviewPanel
from lightx2v_tui.widgets.stages import StageList

INTERVAL = 0.5  # seconds between two drawings of the progress
METER_INTERVAL = 1.0
#: Actions that are for a run under way, or for one that has ended: never for both.
ONE_TIME = ("pause", "cancel", "again", "copy", "play")
STILL_RUNNING = "The run has not ended yet."
HAS_ENDED = "The run has ended."


class RunScreen(RunFrame, ForeseeingScreen):
    """One run, live, and its end; then the next one of the line."""

    BINDINGS = [
        Binding("space", "pause", "Pause", id="run.pause", tooltip="Let the run wait, or go on"),
        Binding("r", "again", "Again", id="run.again", tooltip="Run again with the same seed"),
        Binding("n", "new_seed", "New seed", id="run.new_seed",
                tooltip="Run with another seed, after this one"),
        Binding("u", "put_back", "Undo", id="run.put_back", show=False,
                tooltip="Put the run back that was taken out of the line"),
        Binding("left_square_bracket", "look(-1)", "Earlier run", id="run.earlier", show=False,
                tooltip="Look at the run before this one"),
        Binding("right_square_bracket", "look(1)", "Later run", id="run.later", show=False,
                tooltip="Look at the run after this one"),
        Binding("escape", "back", "Back", id="run.back", tooltip="Back; a run goes on"),
    ]  # fmt: skip

    def __init__(self, launcher: Launcher, run: Run) -> None:
        super().__init__(classes="run")
        self._launcher, self._run = launcher, run
        self._asked: Run | None = None  # which run is to be cancelled
        self._cancelling: Run | None = None
        self._ended_early = False  # before there was a screen to show it on

    def on_mount(self) -> None:
        """Start drawing."""
        draw, read = partial(self._if_seen, self._draw), partial(self._if_seen, self.read_machine)
        self._drawing = self.set_interval(INTERVAL, draw, pause=True)
        self._metering = self.set_interval(METER_INTERVAL, read, pause=True)
        self.show_run(self._run)

    def _if_seen(self, act: Callable[[], None]) -> None:
        """Do it unless another screen is in front, which would be drawn anew for it."""
        if self.is_active:
            act()

    def show_run(self, run: Run) -> None:
        """Show a run from now on, whether it is under way or has ended."""
        self._run, self._frames, self.ram_peak = run, (), 0
        model, runs = run.plan.preset.model_path, self._launcher.runs
        which = f"Run {runs.index(run) + 1} of {len(runs)}" if run in runs and runs[1:] else "Run"
        self.query_one(TitleBar).place = f"{printable(model.name)} › {which}" if model else which
        for facts in self.query(Facts):
            facts.show(run.plan.job)
        self.query_one(MeterPanel).begin()
        self.query_one(Outcome).clear()
        self.follow_log(run.folder.log)
        self.query_one(PreviewPanel).say("Preview", _no_picture(run.plan.job))
        if run.ended:
            news, self._ended_early = self._ended_early, False
            self._show_end(news=news)
            return
        self._drawing.resume()
        self._metering.resume()
        self.read_machine()
        self._draw()
        self.refresh_bindings()

    @property
    def run_shown(self) -> Run:
        """The run that stands on the screen."""
        return self._run

    @property
    def made(self) -> Path | None:
        """The video, once there is one."""
        return self._run.plan.job.output if isinstance(self._view.terminal, Done) else None

    @property
    def _view(self) -> RunView:
        return self._run.tracker.view

    def _draw(self) -> None:
        now, view = time.monotonic(), self._view
        if view.terminal is None:
            self.query_one(TitleBar).state = self._state(view, now)
        self.query_one(StageList).show(view, now)
        self.query_one(Notes).show(view.waiting, view.notes)
        if view.preview is not None and view.terminal is None:
            title = f"Preview, step {view.preview.step}"
            self.query_one(PreviewPanel).play(title, view.preview.frames)
        self.show_waiting()
        self.keep_place()

    def _state(self, view: RunView, now: float) -> str:
        spent = seconds(view.total(now))
        if self._cancelling is self._run:
            return f"cancelling… {spent}"
        if view.paused is not None:
            return f"paused {spent}"
        word = "waiting" if view.waiting else "running"
        return f"{word} {spent}{eta.to_go(view, now, self._launcher.earlier(self._run))}"

    def run_ended(self, run: Run) -> None:
        """A run has ended, and the next one may have begun: show what is worth seeing."""
        if not self.is_mounted:
            self._ended_early = True
            return
        newest = self._launcher.run
        if run is not self._run:  # somebody looks back at an earlier one
            self._toast(run)
        elif newest is not None and newest is not run:
            self._toast(run)
            self.show_run(newest)
        else:
            if not self.is_active:
                self._toast(run)
            self._show_end(news=True)
        self.show_waiting()
        self.refresh_bindings()

    def _toast(self, run: Run) -> None:
        """Tell how a run ended that is not shown."""
        if run.tracker.view.terminal is not None:
            told = ending_of(run.tracker.view.terminal)
            look = "; h shows it, and its log" if told.severity == "error" else ""
            self.notify(
                f"{told.text}{look}", title=told.title, severity=told.severity, markup=False
            )

    def _show_end(self, *, news: bool = False) -> None:
        """Show how the run ended; an error is told to whoever watches only while it is news."""
        self._cancelling = None
        self._drawing.pause()
        self._metering.pause()
        view = self._view
        total = view.total(time.monotonic())
        peak = max(view.ram_peak, self.ram_peak)
        self.query_one(StageList).show(view, view.started + total)
        self.query_one(Notes).show("", view.notes)
        run = self._run
        if view.terminal is not None:
            kept = run.folder.checkpoint.exists()
            result = Result(view.terminal, total, run.plan.job.seed, run.folder.log, kept)
            self.query_one(Outcome).show(result)
        panel = self.query_one(MeterPanel)
        if (expected := self._launcher.expected(self._run)) is not None:
            panel.expect(expected)
        panel.show_end(view.memory, peak)
        self.query_one(LogPane).rest()
        title, preview = self.query_one(TitleBar), self.query_one(PreviewPanel)
        if view.preview is not None:
            preview.play_once(f"Preview, step {view.preview.step}", view.preview.frames)
        elif not isinstance(view.terminal, Done):
            preview.say("Preview", "It ended before the first picture.")
        match view.terminal:
            case Done(path=path):
                title.state = f"done in {duration(total)}"
                self.show_video(path)
            case Failed(error=error):
                title.state = "failed"
                if news:
                    self.post_message(ErrorMet(error, str(self._run.folder.log)))
            case _:
                title.state = "cancelled"
        self.show_waiting()
        self.keep_place()
        self.refresh_bindings()
        self.call_after_refresh(self.query_one(Outcome).scroll_visible, animate=False)

    def reason_against(self, action: str) -> str:
        """Say why an action cannot be done now; empty where it can."""
        ended, runs = self._run.ended, self._launcher.runs
        return {
            "pause": HAS_ENDED if ended else "",
            "cancel": HAS_ENDED if ended else "",
            "play": "" if self._frames else "There is no video to show.",
            "again": "" if ended else STILL_RUNNING,
            "copy": "" if isinstance(self._view.terminal, Done) else "There is no video yet.",
            "put_back": "" if self._launcher.dropped else "Nothing was taken out of the line.",
            "look": "" if runs[1:] else "There is no other run.",
        }.get(action, "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey out what cannot be done now, but keep what belongs to the end out of the footer."""
        allowed = super().check_action(action, parameters)
        return False if allowed is None and action in ONE_TIME else allowed

    def action_pause(self) -> None:
        """Let the run wait, or go on."""
        self.post_message(PauseWanted())

    def action_cancel(self) -> None:
        """Cancel, after asking."""
        self._asked = self._run
        waiting = len(self._launcher.waiting)
        then = f" Then the next run starts ({waiting} waiting)." if waiting else ""
        done = "The steps that were done are kept: u in the history goes on with it."
        if not self._run.folder.checkpoint.exists():
            done = "No step is done yet: nothing of it is kept."
        text = f"{done}{then}"
        self.app.push_screen(Question("Cancel this run?", text), self._cancel)

    def _cancel(self, yes: bool | None) -> None:
        """Cancel the run that was asked about: another one may be under way by now."""
        if yes and self._asked is self._launcher.run and self._asked and not self._asked.ended:
            self._cancelling = self._asked
            self.post_message(CancelWanted())
            self._draw()

    def action_again(self) -> None:
        """Run the same job again."""
        self._want(self._run.plan)

    def action_new_seed(self) -> None:
        """Run with another random seed, beside this video where it has a name of its own."""
        import secrets

        plan = self._run.plan
        old, new = plan.job.seed, secrets.randbelow(2**32)
        plan = plan.with_seed(new)
        if not self._run.own_folder:
            output = plan.job.output
            plan = plan.with_output(
                output.with_stem(f"{output.stem.removesuffix(f'-{old}')}-{new}")
            )
        self._want(plan)

    def _want(self, plan: Plan) -> None:
        self.post_message(RunWanted(plan, self._run.own_folder))

    def action_look(self, by: int) -> None:
        """Look at another run of this session."""
        runs = self._launcher.runs
        here = runs.index(self._run) if self._run in runs else 0
        if 0 <= here + by < len(runs):
            self.show_run(runs[here + by])
        else:
            self.notify("This is the first run." if by < 0 else "This is the newest run.")


def _no_picture(job: Job) -> str:
    """Why there is no picture yet."""
    if job.preview is Previews.OFF:
        return "This run makes no previews; its video is shown at the end."
    return "The first picture comes after the first step."
