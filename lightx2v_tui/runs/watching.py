"""A run that another process works on, as its record tells it: what a screen can draw of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.spec.errors import EngineError
from engine.spec.events import CancelledByUser, Done, Event, Failed, stages_of
from lightx2v_tui.runs.history import PastRun
from lightx2v_tui.runs.tracker import RunView, StageView

INTERRUPTED = EngineError(
    "The run was interrupted",
    "the process that worked on it has ended",
    "u goes on with it, from its last finished step.",
)


def view_of(run: PastRun, shift: float) -> RunView:
    """What the record of a run says, as if its events had come here.

    Args:
        run: the record.
        shift: what must be added to its times to get those of the screen's clock.
    """
    began = run.since if run.since is not None else run.when
    ended = began + run.seconds if run.status != "running" else None
    return RunView(
        started=began + shift,
        stages=tuple(_stages(run, ended, shift)),
        steps=(run.seconds_per_step,) * run.step if run.seconds_per_step is not None else (),
        terminal=ending_of(run),
        notes=run.notes,
        waiting=run.waiting if run.status == "running" else "",
    )


def _stages(run: PastRun, ended: float | None, shift: float) -> Iterator[StageView]:
    """The stages, each of which ends where the next one begins."""
    names = stages_of(image=run.facts.image)
    for place, name in enumerate(names):
        stage = StageView(name)
        if (start := run.began.get(name)) is not None:  # two may begin in one millisecond
            later = [run.began[other] for other in names[place + 1 :] if other in run.began]
            end = min(later, default=ended)
            stage = replace(
                stage, started=start + shift, ended=None if end is None else end + shift
            )
        if name == run.stage:
            broken_off = run.status not in ("running", "done")
            stage = replace(stage, done=run.done, total=run.total, broken_off=broken_off)
        elif name == "denoise" and run.steps and stage.started is not None:
            stage = replace(stage, done=run.step, total=run.steps)
        yield stage


def ending_of(run: PastRun) -> Event | None:
    """How a run ended, as the event that its own process was told; None while it is under way."""
    if run.status == "running":
        return None
    if run.status == "done":
        return Done(Path(run.output or ""), run.seconds)
    if run.status == "cancelled":
        return CancelledByUser()
    if run.status == "failed":
        what, why, fix = (*(run.error or "The run failed").splitlines(), "", "", "")[:3]
        return Failed(EngineError(what, why, fix))
    return Failed(INTERRUPTED)


def facts_of(run: PastRun) -> Iterator[str]:
    """What a run makes, line by line."""
    facts = run.facts
    if facts.width:
        yield f"{facts.width}x{facts.height}, {facts.frames} frames"
    if facts.seed is not None:
        yield f"seed {facts.seed}"
    if run.device:
        yield run.device
    if facts.prompt:
        yield facts.prompt


def in_short(run: PastRun) -> str:
    """A run in a few words: what it makes, and how far it is."""
    facts = run.facts
    size = f"{facts.width}x{facts.height}, {facts.frames} frames" if facts.width else run.id
    return f"{size}, {how_far(run)}"


def how_far(run: PastRun) -> str:
    """The last finished step of a run."""
    return f"step {run.step} of {run.steps}" if run.steps else "before its first step"
