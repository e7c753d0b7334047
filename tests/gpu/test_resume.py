"""On a CUDA device: a run goes on bit for bit, and comes through with less memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.pipeline import Engine, run
from engine.spec.control import RunControl
from engine.spec.errors import OutOfMemoryFailure
from engine.spec.events import Done, Event, Failed, Resumed, StepDone
from engine.spec.job import Euler, Job, Placing, Placings, Schedule, StepDistill, UniPC
from engine.spec.ladder import lower
from engine.spec.precision import Precision
from tests.engine.support import make_job

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CUDA = torch.device("cuda:0")


def follow(job: Job, step: int | None = None, engine: Engine | None = None) -> list[Event]:
    """Run to the end, or until a step was told."""
    events: list[Event] = []
    running = run(job, RunControl(), engine or Engine())
    for event in running:
        events.append(event)
        if step is not None and isinstance(event, StepDone) and event.step == step:
            running.close()  # type: ignore[attr-defined] # a generator
            break
    return events


@pytest.mark.parametrize("schedule", [StepDistill(), UniPC(4), Euler(4)], ids=type)
@pytest.mark.parametrize("precision", list(Precision))
def test_ended_after_any_step_it_goes_on_bit_for_bit(
    precision: Precision, schedule: Schedule, demo_model: Path, tmp_path: Path
) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", precision=precision, tiny=True,
                   schedule=schedule, device="cuda:0")  # fmt: skip
    assert isinstance(follow(job)[-1], Done)
    video = job.output.read_bytes()
    for step in range(1, 5):
        kept = replace(job, checkpoint=tmp_path / f"{step}.safetensors")
        follow(kept, step)
        events = follow(kept)
        assert isinstance(events[-1], Done)
        assert Resumed(step, 4) in events
        assert job.output.read_bytes() == video


def test_a_lower_plan_comes_through_where_the_first_did_not(
    demo_model: Path, tmp_path: Path
) -> None:
    """Decoding finds half of what it takes whole; tiles take less, and no step is lost."""
    job = make_job(demo_model, tmp_path / "a.mp4", device="cuda:0", width=512, height=512,
                   placings=Placings(*[Placing.DROP] * 4),
                   checkpoint=tmp_path / "c.safetensors")  # fmt: skip
    follow(job)  # kernels and libraries take memory once
    Path(tmp_path / "c.safetensors").unlink()
    torch.cuda.reset_peak_memory_stats(CUDA)
    follow(job, 4)
    total = torch.cuda.get_device_properties(CUDA).total_memory
    base = torch.cuda.memory_reserved(CUDA)
    follow(job)
    peak = torch.cuda.max_memory_allocated(CUDA)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((base + peak / 2) / total, CUDA)
    try:
        last = follow(job)[-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, OutOfMemoryFailure)
        assert (last.error.stage, last.error.device) == ("decode", "cuda")
        lowered = lower(job, last.error)
        assert isinstance(lowered, Job)
        assert lowered.tiling
        events = follow(lowered)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)
    assert isinstance(events[-1], Done), events[-1]
    assert Resumed(4, 4) in events
