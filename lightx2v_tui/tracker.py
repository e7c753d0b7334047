"""What a run has told so far, folded into one frozen view that a screen can draw at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.spec.events import (
    STAGES,
    TERMINAL,
    BytesRead,
    Done,
    Event,
    FrameDone,
    LoraApplied,
    MemoryUsed,
    StageStarted,
    StepDone,
)


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


@dataclass(frozen=True)
class RunView:
    """All stages of a run, its step times, its memory, and how it ended."""

    started: float
    stages: tuple[StageView, ...]
    steps: tuple[float, ...] = ()
    memory: MemoryUsed | None = None
    loras: tuple[LoraApplied, ...] = ()
    terminal: Event | None = None

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
        return (max(ends) if self.terminal is not None and ends else now) - self.started

    def remaining(self, now: float) -> float | None:
        """Seconds until the stage under way ends, where it counts its units."""
        stage = self.current
        if stage is None or stage.started is None or not stage.done or not stage.total:
            return None
        if stage.name == "denoise" and self.seconds_per_step is not None:
            return (stage.total - stage.done) * self.seconds_per_step
        return (now - stage.started) * (stage.total - stage.done) / stage.done


class Tracker:
    """Folds events into a `RunView`; `take` is called on the engine's thread, `view` on any."""

    def __init__(
        self, stages: Sequence[str] = tuple(STAGES), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.view = RunView(clock(), tuple(StageView(name) for name in stages))

    def take(self, event: Event) -> None:
        """Fold one event in; the view is replaced, never changed."""
        view = self.view
        match event:
            case StageStarted(stage=name, total=total):
                self.view = self._start(name, total)
            case BytesRead(file=file, done=done, total=total):
                self.view = self._advance(done, total, file)
            case StepDone(step=step, steps=steps, seconds=seconds):
                view = self._advance(step, steps, "")
                self.view = replace(view, steps=(*view.steps, seconds))
            case FrameDone(frame=frame, frames=frames):
                self.view = self._advance(frame, frames, "")
            case LoraApplied():
                self.view = replace(view, loras=(*view.loras, event))
            case MemoryUsed():
                self.view = replace(view, memory=event)
            case _ if isinstance(event, TERMINAL):
                whole = isinstance(event, Done)
                self.view = replace(self._end(view, broken_off=not whole), terminal=event)

    def _start(self, name: str, total: int) -> RunView:
        view = self._end(self.view)
        stages = tuple(
            replace(stage, started=self._clock(), ended=None, total=total)
            if stage.name == name
            else stage
            for stage in view.stages
        )
        return replace(view, stages=stages)

    def _end(self, view: RunView, *, broken_off: bool = False) -> RunView:
        current, now = view.current, self._clock()
        stages = tuple(
            replace(stage, ended=now, broken_off=broken_off) if stage is current else stage
            for stage in view.stages
        )
        return replace(view, stages=stages)

    def _advance(self, done: int, total: int, detail: str) -> RunView:
        current = self.view.current
        stages = tuple(
            replace(stage, done=done, total=total, detail=detail) if stage is current else stage
            for stage in self.view.stages
        )
        return replace(self.view, stages=stages)
