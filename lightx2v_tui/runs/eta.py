"""How long the whole run will still take, said only where every part of it is known."""

from __future__ import annotations

from collections.abc import Hashable

from engine.spec.job import Job
from lightx2v_tui.runs.tracker import RunView
from lightx2v_tui.units import seconds

FROM = ("denoise", "load_vae", "decode")  # before these, networks are read or are there already


def kind_of(job: Job) -> Hashable:
    """What the stages' times depend on: runs that differ only in words and seeds take as long."""
    return (
        job.dit, job.vae, job.schedule, job.guidance, job.loras, job.attention, job.placings,
        job.width, job.height, job.frames, job.tiny_vae, job.tiling,
        job.device, job.compute_dtype, job.quant_compute,
    )  # fmt: skip


def whole(view: RunView, now: float, earlier: RunView | None) -> float | None:
    """Seconds until the run ends: of the stage under way, and of the later ones last time.

    Args:
        view: the run.
        now: the time on the clock.
        earlier: a run of the same kind that came to its end.

    Returns:
        None where a part of it is not known.
    """
    stage, remaining = view.current, view.remaining(now)
    if stage is None or remaining is None or stage.name not in FROM:
        return None
    later = [other.name for other in view.stages[view.stages.index(stage) + 1 :]]
    if later and earlier is None:
        return None
    for other in earlier.stages if earlier is not None else ():
        if other.name in later and other.started is not None and other.ended is not None:
            remaining += other.ended - other.started
    return remaining


def to_go(view: RunView, now: float, earlier: RunView | None) -> str:
    """What a title says of it; of the stage under way alone where the later ones are not known."""
    if view.waiting:
        return ""
    left = whole(view, now, earlier)
    if left is not None:
        return f", about {seconds(left)} to go"
    least = view.remaining(now) if view.current and view.current.name in FROM else None
    return f", over {seconds(least)} to go" if least and least >= 1 else ""
