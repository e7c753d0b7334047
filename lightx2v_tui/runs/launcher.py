"""The one engine of the app: the run under way, the runs that wait for it, and those that ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import count

from engine.spec.events import TERMINAL, Done, Event, stages_of
from lightx2v_tui.host import HostMemory, read_memory
from lightx2v_tui.launch.forecast import NOTHING_HELD, Held
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.runs.attempts import OnAsk
from lightx2v_tui.runs.device_lock import DeviceBusy
from lightx2v_tui.runs.eta import kind_of
from lightx2v_tui.runs.expected import Expected
from lightx2v_tui.runs.folder import RunFolder, RunRecord, new_run
from lightx2v_tui.runs.resume import Resumed
from lightx2v_tui.runs.session import Session
from lightx2v_tui.runs.tracker import RunView, Tracker

KEPT = 50  # runs that can be looked back at


@dataclass(frozen=True)
class Wanted:
    """A planned run; `own_folder` puts its video into the run's folder."""

    number: int
    plan: Plan
    own_folder: bool
    resumed: Resumed | None = None  # what it goes on with


@dataclass(frozen=True)
class Run:
    """A run that was started: what it does, where it keeps its files, and what it has told."""

    plan: Plan
    folder: RunFolder
    tracker: Tracker
    own_folder: bool
    held: Held = NOTHING_HELD  # by the engine when it began
    memory: HostMemory | None = None  # of the machine then

    @property
    def ended(self) -> bool:
        """True once the engine gave the terminal event."""
        return self.tracker.view.terminal is not None


class Launcher:
    """Starts one run at a time; what is wanted meanwhile waits in a line that can be reordered."""

    def __init__(self, on_end: Callable[[Event], None], on_ask: OnAsk | None = None) -> None:
        """`on_end` is given the terminal event of each run, on the engine's thread.

        There `on_ask` answers, too, whether a run may be made with less where memory is lacking.
        """
        self._on_end = on_end
        self._session = Session(self._take, on_ask=on_ask)
        self._numbers = count(1)
        self._earlier: dict[Hashable, RunView] = {}
        self._expected: dict[RunFolder, Expected] = {}
        self._ended: deque[Run] = deque()
        self._dropped: tuple[int, Wanted] | None = None
        self.runs: tuple[Run, ...] = ()  # the newest last
        self.waiting: tuple[Wanted, ...] = ()
        self.behind: DeviceBusy | None = None  # who holds the device of the first that waits

    @property
    def run(self) -> Run | None:
        """The run under way, or the last one."""
        return self.runs[-1] if self.runs else None

    @property
    def busy(self) -> bool:
        """True while a run is under way, until the engine has told how it ended."""
        return self._session.busy or (self.run is not None and not self.run.ended)

    @property
    def paused(self) -> bool:
        """True while the run under way waits for the user."""
        return self._session.paused

    def want(self, plan: Plan, *, own_folder: bool, patient: bool = False) -> Run | None:
        """Put a run at the end of the line, and start the first of it where nothing is under way.

        Returns:
            What was started; None where it waits.

        Raises:
            EngineError, OSError: no run's folder can be made; the line is as it was.
            DeviceBusy: another process holds its device, and it is not `patient`.
        """
        return self._line_up(Wanted(next(self._numbers), plan, own_folder), patient=patient)

    def resume_run(self, found: Resumed, *, patient: bool = False) -> Run | None:
        """Go on with a run that `resume.resumed` found, at the end of the line; else as `want`.

        Raises:
            EngineError: it was taken up elsewhere meanwhile; the line is as it was.
            DeviceBusy: another process holds its device, and it is not `patient`.
        """
        wanted = Wanted(next(self._numbers), found.plan, own_folder=False, resumed=found)
        return self._line_up(wanted, patient=patient)

    def _line_up(self, wanted: Wanted, *, patient: bool) -> Run | None:
        before = self.waiting
        self.waiting = (*before, wanted)
        try:
            started = self.start_next()
            if self.behind is not None and not (before or patient):
                raise self.behind
        except BaseException:
            self.waiting, self.behind = before, None
            raise
        return started

    def start_next(self) -> Run | None:
        """Start the first of the line; None where there is none, or a run is under way.

        One whose device another process holds stays the first: `behind` says who that is.

        Raises:
            EngineError, OSError: the run's folder cannot be made; it is still the first.
        """
        self.behind = None
        if self.busy or not self.waiting:
            return None
        try:
            run = self._start(self.waiting[0])
        except DeviceBusy as busy:
            self.behind = busy
            return None
        self.waiting = self.waiting[1:]
        return run

    def skip(self) -> None:
        """Take the first of the line out, as it cannot start."""
        self.waiting, self.behind = self.waiting[1:], None

    def move(self, number: int, by: int) -> None:
        """Move a waiting run towards the front (by < 0) or the end of the line."""
        line = list(self.waiting)
        here = self._place(number)
        if here is not None:
            wanted = line.pop(here)
            line.insert(max(0, here + by), wanted)
            self.waiting = tuple(line)

    def drop(self, number: int) -> None:
        """Take a waiting run out of the line; the last one taken can be put back."""
        here = self._place(number)
        if here is not None:
            self._dropped = (here, self.waiting[here])
            self.waiting = (*self.waiting[:here], *self.waiting[here + 1 :])

    @property
    def dropped(self) -> Wanted | None:
        """What `put_back` would put back."""
        return self._dropped[1] if self._dropped else None

    def put_back(self) -> Run | None:
        """Put the last run that was taken out back to its place; started where nothing runs.

        Raises:
            EngineError, OSError: its folder cannot be made; it waits.
        """
        if self._dropped is None:
            return None
        (here, wanted), self._dropped = self._dropped, None
        self.waiting = (*self.waiting[:here], wanted, *self.waiting[here:])
        return self.start_next()

    def take_ended(self) -> Run | None:
        """Give the next run whose end nobody has taken yet, in the order they ended."""
        return self._ended.popleft() if self._ended else None

    def earlier(self, run: Run) -> RunView | None:
        """A run of the same kind that came to its end: later ones take about as long."""
        return self._earlier.get(kind_of(run.plan.job))

    def expected(self, run: Run) -> Expected | None:
        """What a run was expected to take, where that was foreseen."""
        return self._expected.get(run.folder)

    def expect(self, run: Run, expected: Expected) -> None:
        """Keep what a run is expected to take."""
        self._expected[run.folder] = expected

    def cancel(self) -> None:
        """Ask the run under way to stop at its next block, tile or frame."""
        self._session.cancel()

    def interrupt(self) -> None:
        """Let the run under way stop because the app must end, and none start after it."""
        self.waiting = ()
        self._session.interrupt()

    def abandon(self) -> None:
        """Note that the run under way ends with this process, at once."""
        self._session.abandon()

    def remark(self, text: str) -> None:
        """Write a line to the log of the run under way."""
        if self.run is not None and not self.run.ended:
            self.run.folder.write_log(text)

    def pause(self) -> None:
        """Let the run under way wait at its next block, tile or frame."""
        if self.run is not None and not self.run.ended:
            self._session.pause()
            self.run.tracker.pause()

    def resume(self) -> None:
        """Let a paused run go on."""
        self._session.resume()
        if self.run is not None:
            self.run.tracker.resume()

    def held(self) -> Held:
        """What the engine holds already."""
        return self._session.held()

    def unload(self) -> bool:
        """Let go of everything that is loaded; False while a run is under way."""
        return self._session.unload()

    def close(self, seconds: float) -> None:
        """Cancel, and wait at most `seconds` for the engine to end."""
        self.waiting = ()
        self._session.cancel()
        self._session.wait(seconds)

    def _place(self, number: int) -> int | None:
        """Where in the line a run is."""
        return next((i for i, wanted in enumerate(self.waiting) if wanted.number == number), None)

    def _start(self, wanted: Wanted) -> Run:
        self._session.reserve(wanted.plan.job.device)  # before there is a folder
        try:
            return self._begin(wanted)
        except BaseException:
            self._session.rest()
            raise

    def _begin(self, wanted: Wanted) -> Run:
        going_on = wanted.resumed
        folder = going_on.folder if going_on else new_run()
        plan = wanted.plan.with_output(folder.output) if wanted.own_folder else wanted.plan
        earlier = going_on.earlier if going_on else None
        record = RunRecord(folder, plan.preset, job=plan.job, earlier=earlier)
        tracker = Tracker(stages_of(image=plan.job.image is not None))
        run = Run(plan, folder, tracker, wanted.own_folder, self._session.held(), read_memory())
        self.runs = (*self.runs, run)[-KEPT:]
        self._session.start(plan.job, folder, record)
        return run

    def _take(self, event: Event) -> None:
        """Fold an event into the run, on the engine's thread; screens look when they draw."""
        run = self.run
        if run is None:
            return
        run.tracker.take(event)
        if isinstance(event, Done):
            self._earlier[kind_of(run.plan.job)] = run.tracker.view
        if isinstance(event, TERMINAL):
            self._ended.append(run)
            self._on_end(event)
