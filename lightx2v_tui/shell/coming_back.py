"""The part of the app that knows what runs elsewhere, what can go on, and what waits its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from textual.timer import Timer

from lightx2v_tui.messages import EngineAsked, ErrorMet, ResumeWanted, WatchWanted
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.shell.leaving import LeavingApp
from lightx2v_tui.widgets.background import in_background

if TYPE_CHECKING:
    from engine.spec.errors import EngineError
    from engine.spec.ladder import Ask
    from lightx2v_tui.runs.device_lock import DeviceBusy
    from lightx2v_tui.runs.history import PastRun
    from lightx2v_tui.runs.launcher import Launcher, Run
    from lightx2v_tui.runs.resume import Resumed
    from lightx2v_tui.runs.surroundings import Glimpse, Surroundings

FIRST_GLANCE = 0.3  # seconds after the first frame
GLANCE_SECONDS = 4.0  # between two looks at the runs of other processes
RETRY_SECONDS = 1.0  # between two tries to get a device that another process holds

Want = Callable[[bool], "Run | None"]  # starts a run; told whether it may wait for its device


class Answer:
    """What the engine's thread waits for."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._yes = False

    def give(self, yes: bool) -> None:
        """Answer; only the first answer counts."""
        if not self._given.is_set():
            self._yes = yes
            self._given.set()

    def wait(self) -> bool:
        """Wait for the answer."""
        self._given.wait()
        return self._yes


class ReturningApp(LeavingApp):
    """Shows what other processes run, and goes on with what ended early."""

    _surroundings: Surroundings | None = None
    _glimpse: Glimpse | None = None
    _glancing = False
    _retrying: Timer | None = None

    def __init__(self) -> None:
        super().__init__()
        self._answers: list[Answer] = []  # that the engine waits for

    @property
    def launcher(self) -> Launcher:
        """The one engine and its line of runs, made when it is first needed."""
        raise NotImplementedError

    def show_error(self, error: EngineError, log: str = "") -> None:
        """Tell an error."""
        raise NotImplementedError

    def action_view_run(self) -> None:
        """Show the run under way, or the last one."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Look around, once the first frame is there."""
        self.set_timer(FIRST_GLANCE, self.glance)
        self.set_interval(GLANCE_SECONDS, self.glance)

    # what goes on elsewhere, and what can go on here

    @property
    def elsewhere(self) -> tuple[PastRun, ...]:
        """The runs of other processes."""
        return self._glimpse.running if self._glimpse is not None else ()

    @property
    def early(self) -> tuple[PastRun, ...]:
        """The runs that ended early and are still offered."""
        return self._glimpse.early if self._glimpse is not None else ()

    def glance(self) -> None:
        """Look at the runs, unless the last look has not come back yet."""
        if self._glancing or self.hung_up:
            return
        self._glancing = True

        def look() -> Glimpse:
            from lightx2v_tui.runs.surroundings import Surroundings

            self._surroundings = self._surroundings or Surroundings()
            return self._surroundings.look()

        in_background(self, look, self._take_glimpse)

    def _take_glimpse(self, glimpse: Glimpse) -> None:
        self._glancing = False
        first, before = self._glimpse is None, self._glimpse
        if glimpse == before:
            return
        self._glimpse = glimpse
        self.tell_notice()
        self.refresh_bindings()
        if first and glimpse.fresh and isinstance(self.screen, ModelsScreen):
            self._offer(glimpse.fresh)
            if self._surroundings is not None:
                in_background(self, self._surroundings.offered, lambda _: None)

    def tell_notice(self) -> None:
        """Say on the first screen what goes on elsewhere, what waits, and what can go on."""
        from lightx2v_tui.runs.watching import how_far, in_short

        lines: list[tuple[str, str]] = []
        behind = self._launcher.behind if self._launcher is not None else None
        if behind is not None:
            lines.append((f"○ waits: {behind.what}   v shows it", "$warning"))
        elif self.elsewhere:
            run, more = self.elsewhere[0], len(self.elsewhere) - 1
            others = f" and {more} more" if more else ""
            text = f"● process {run.pid} makes {in_short(run)}{others}   v shows it"
            lines.append((text, "$accent"))
        if self.early:
            run, more = self.early[0], len(self.early) - 1
            text = f"a run was {run.status} at {how_far(run)}   u goes on with it"
            if more:
                text = f"{len(self.early)} runs ended early and can go on   u shows them"
            lines.append((f"‖ {text}", "$warning"))
        for screen in self.screen_stack:
            if isinstance(screen, ModelsScreen):
                screen.tell_notice(lines)

    def action_offers(self) -> None:
        """Offer to go on with what ended early."""
        self._offer(self.early)

    def _offer(self, runs: tuple[PastRun, ...]) -> None:
        from lightx2v_tui.screens.resume_offer import ResumeOffer

        offer = ResumeOffer(runs)

        def take(go_on: bool | None) -> None:
            if go_on and offer.chosen is not None:
                self.post_message(ResumeWanted(offer.chosen.folder))
            elif go_on is not None and self._surroundings is not None:
                self._dismiss(self._surroundings, [run.id for run in runs])

        self.push_screen(offer, take)

    def _dismiss(self, surroundings: Surroundings, runs: list[str]) -> None:
        in_background(self, lambda: surroundings.dismiss(runs), lambda _: self.glance())

    def on_resume_wanted(self, message: ResumeWanted) -> None:
        """Read what is needed to go on, on a thread; then go on."""
        held = self.launcher.held()

        def read() -> Resumed | EngineError:
            from engine.spec.errors import EngineError
            from lightx2v_tui.runs.resume import resumed

            try:
                return resumed(message.folder, held=held)
            except EngineError as error:
                return error
            except OSError as error:
                return EngineError("The run cannot go on", str(error))

        in_background(self, read, self._go_on)

    def _go_on(self, found: Resumed | EngineError) -> None:
        from lightx2v_tui.runs.resume import Resumed

        if not isinstance(found, Resumed):
            self.post_message(ErrorMet(found))
            return
        self.begin(lambda patient: self.launcher.resume_run(found, patient=patient))

    def on_watch_wanted(self, message: WatchWanted) -> None:
        """Show a run: that of this app itself as its own."""
        if message.run.is_own:
            self.action_view_run()
        else:
            self.watch_runs((message.run, *(r for r in self.elsewhere if r.id != message.run.id)))

    def watch_runs(self, runs: tuple[PastRun, ...]) -> None:
        """Show the first of some runs, in the one screen there is for it."""
        from lightx2v_tui.screens.watch import WatchScreen

        shown = next((s for s in self.screen_stack if isinstance(s, WatchScreen)), None)
        if shown is None:
            self.push_screen(WatchScreen(self.launcher, runs))
            return
        while self.screen is not shown:
            self.pop_screen()
        shown.watch_run(runs[0])

    # one engine a device

    def begin(self, want: Want) -> None:
        """Start a run, or let it wait; where another process holds its device, ask first."""
        from lightx2v_tui.runs.device_lock import DeviceBusy

        with self.told("The run could not be recorded"):
            try:
                run = want(False)
            except DeviceBusy as busy:
                self._ask_to_wait(busy, want)
                return
            if run is None:
                self._tell_place()
            self.action_view_run()

    def _tell_place(self) -> None:
        place = len(self.launcher.waiting)
        text = f"after {place} other run{'s' if place > 1 else ''}"
        self.notify(text, title="Queued")

    def _ask_to_wait(self, busy: DeviceBusy, want: Want) -> None:
        from lightx2v_tui.screens.resume_offer import DeviceTaken

        holder = next((run for run in self.elsewhere if run.id == busy.holder.run), None)
        question = DeviceTaken(busy, watchable=holder is not None)

        def take(yes: bool | None) -> None:
            if not yes:
                return
            with self.told("The run could not be recorded"):
                want(True)
                self._wait_for_device()
                if question.watched and holder is not None:
                    self.watch_runs((holder,))

        self.push_screen(question, take)

    def _wait_for_device(self) -> None:
        """Try again and again while the first of the line waits for its device."""
        behind = self.launcher.behind
        self.tell_notice()
        self.refresh_bindings()
        if behind is None:
            self._stop_retrying()
            self.action_view_run()
        elif self._retrying is None:
            text = f"{behind.what}. The run starts once that has ended; q drops it."
            self.notify(text, title="Waiting", markup=False)
            self._retrying = self.set_interval(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        with self.told("The next run could not be recorded"):
            started = self.launcher.start_next()
            if started is not None:
                self.notify("The device is free.", title="The run has started")
            if self.launcher.behind is None:
                self._stop_retrying()
                self.tell_notice()
            if started is not None and not self.screen.is_modal:
                self.action_view_run()

    def _stop_retrying(self) -> None:
        if self._retrying is not None:
            self._retrying.stop()
            self._retrying = None

    def start_next(self) -> None:
        """Start the next in line, or wait for its device."""
        with self.told("The next run could not be recorded"):
            self.launcher.start_next()
        if self.launcher.behind is not None:
            self._wait_for_device()

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Tell what goes wrong inside."""
        from engine.spec.errors import EngineError

        try:
            yield
        except EngineError as error:
            self.show_error(error)
        except OSError as error:
            self.show_error(EngineError(what, str(error)))

    # what the engine asks

    def ask_user(self, ask: Ask) -> bool:
        """Let the user answer; called, and waited in, on the engine's thread."""
        answer = Answer()
        self._answers.append(answer)
        if self.hung_up or not self.post_message(EngineAsked(ask.question, answer.give)):
            answer.give(False)
        return answer.wait()

    def on_engine_asked(self, message: EngineAsked) -> None:
        """Show what the engine asks."""
        from lightx2v_tui.screens.dialogs import Question

        def take(yes: bool | None) -> None:
            message.answer(bool(yes))

        text = f"Nothing else is left to try.\n\n{message.question}\n\nNo ends the run."
        self.push_screen(Question("Memory is not enough", text), take)

    def answer_for_nobody(self) -> None:
        """Answer what the engine asks with no: nobody is there any more."""
        for answer in self._answers:
            answer.give(False)
