"""What a run has told so far, folded into one frozen view that a screen can draw at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.spec.events import (
    STAGES,
    TERMINAL,
    Attempt,
    BytesRead,
    Done,
    Event,
    FrameDone,
    LoraApplied,
    MemoryUsed,
    Noted,
    Preview,
    Resumed,
    StageStarted,
    StepDone,
    Waiting,
)
from lightx2v_tui.runs.progress import told


@dataclass(frozen=True)
class StageView:
    """One stage: times in seconds of the clock, and how far it is."""

    name: str
    started: float | None = None
    ended: float | None = None
    done: int = 0
    total: int = 0
    detail: str = ""
    broken_off: bool = False
    component: str = ""  # whose bytes it counts
    before: int = 0  # bytes of the components that it loaded before this one


@dataclass(frozen=True)
class RunView:
    """All stages of a run, its step times, its memory, and how it ended."""

    started: float
    stages: tuple[StageView, ...]
    steps: tuple[float, ...] = ()
    memory: MemoryUsed | None = None
    ram_peak: int = 0  # the most of all that was told
    loras: tuple[LoraApplied, ...] = ()
    terminal: Event | None = None
    preview: Preview | None = None
    paused: float | None = None  # since when
    notes: tuple[str, ...] = ()
    waiting: str = ""  # for what only the user can mend

    @property
    def current(self) -> StageView | None:
        """The stage under way."""
        running = (stage for stage in self.stages if stage.started is not None)
        return next((stage for stage in running if stage.ended is None), None)

    def skipped(self, stage: StageView) -> bool:
        """True where the run went past a stage: what it makes was kept from the run before."""
        later = self.stages[self.stages.index(stage) + 1 :]
        return stage.started is None and any(other.started is not None for other in later)

    @property
    def seconds_per_step(self) -> float | None:
        """Mean of the steps so far; the first one warms up and counts only while it is alone."""
        steps = self.steps[1:] or self.steps
        return sum(steps) / len(steps) if steps else None

    def total(self, now: float) -> float:
        """Seconds from the start to the end of the last stage, or to now while one is under way."""
        ends = [stage.ended for stage in self.stages if stage.ended is not None]
        if self.terminal is not None and ends:
            return max(ends) - self.started
        return self.at(now) - self.started

    def at(self, now: float) -> float:
        """The time that screens count to: a paused run's clock stands still."""
        return now if self.paused is None else self.paused

    def remaining(self, now: float) -> float | None:
        """Seconds until the stage under way ends, where it counts its units."""
        stage = self.current
        if stage is None or stage.started is None or not stage.done or not stage.total:
            return None
        if stage.name == "denoise" and self.seconds_per_step is not None:
            return (stage.total - stage.done) * self.seconds_per_step
        return (self.at(now) - stage.started) * (stage.total - stage.done) / stage.done


class Tracker:
    """Folds events into a `RunView`; `take` is called on the engine's thread, the rest on any."""

    def __init__(
        self, stages: Sequence[str] = tuple(STAGES), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # the screen pauses what the engine's thread folds
        self.view = RunView(clock(), tuple(StageView(name) for name in stages))

    def take(self, event: Event) -> None:
        """Fold one event in; the view is replaced, never changed."""
        with self._lock:
            self._take(event)

    def pause(self) -> None:
        """Let the clock stand still."""
        with self._lock:
            if self.view.paused is None and self.view.terminal is None:
                self.view = replace(self.view, paused=self._clock())

    def resume(self) -> None:
        """Let the clock go on as if no time had passed."""
        with self._lock:
            view = self.view
            if view.paused is None:
                return
            lost, current = self._clock() - view.paused, view.current
            stages = tuple(
                replace(stage, started=(stage.started or 0.0) + lost) if stage is current else stage
                for stage in view.stages
            )
            started = view.started + lost
            self.view = replace(view, started=started, stages=stages, paused=None)

    def _take(self, event: Event) -> None:
        waiting = event.reason if isinstance(event, Waiting) else ""
        view = self.view = replace(self.view, waiting=waiting)
        match event:
            case Noted() | Resumed() | Attempt():
                self.view = self._told(event)
            case StageStarted(stage=name, total=total):
                self.view = self._start(name, total)
            case BytesRead():
                self.view = self._read(event)
            case StepDone(step=step, steps=steps, seconds=seconds):
                view = self._advance(step, steps, "")
                self.view = replace(view, steps=(*view.steps, seconds))
            case FrameDone(frame=frame, frames=frames):
                self.view = self._advance(frame, frames, "")
            case Preview():
                self.view = replace(view, preview=event)
            case LoraApplied():
                self.view = replace(view, loras=(*view.loras, event))
            case MemoryUsed():
                peak = max(view.ram_peak, event.ram)
                self.view = replace(view, memory=event, ram_peak=peak)
            case _ if isinstance(event, TERMINAL):
                whole = isinstance(event, Done)
                view = self._end(view, broken_off=not whole)
                self.view = replace(view, terminal=event, paused=None)

    @property
    def _now(self) -> float:
        """The time that events are noted with: that of the pause, while what is under way ends."""
        return self.view.at(self._clock())

    def _told(self, event: Noted | Resumed | Attempt) -> RunView:
        """Keep what was told; another attempt begins with the first stage again."""
        view = replace(self.view, notes=(*self.view.notes, told(event)))
        if isinstance(event, Attempt):
            stages = tuple(StageView(stage.name) for stage in view.stages)
            view = replace(view, stages=stages, steps=(), loras=())
        return view

    def _start(self, name: str, total: int) -> RunView:
        view = self._end(self.view)
        stages = tuple(
            replace(stage, started=self._now, ended=None, total=total)
            if stage.name == name
            else stage
            for stage in view.stages
        )
        return replace(view, stages=stages)

    def _end(self, view: RunView, *, broken_off: bool = False) -> RunView:
        current, now = view.current, self._now
        stages = tuple(
            replace(stage, ended=now, broken_off=broken_off) if stage is current else stage
            for stage in view.stages
        )
        return replace(view, stages=stages)

    def _read(self, event: BytesRead) -> RunView:
        """Count bytes; where a stage loads several components, those of all of them."""
        current = self.view.current
        if current is None:
            return self.view
        another = current.component not in ("", event.component)
        before = current.total if another else current.before
        stages = tuple(
            replace(stage, component=event.component, before=before, detail=event.file,
                    done=before + event.done, total=before + event.total)
            if stage is current else stage
            for stage in self.view.stages
        )  # fmt: skip
        return replace(self.view, stages=stages)

    def _advance(self, done: int, total: int, detail: str) -> RunView:
        current = self.view.current
        stages = tuple(
            replace(stage, done=done, total=total, detail=detail) if stage is current else stage
            for stage in self.view.stages
        )
        return replace(self.view, stages=stages)
