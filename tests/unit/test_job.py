"""A job refuses numbers that no video can have, and says which key to set to what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.demo import DIT
from engine.spec.errors import JobError
from engine.spec.job import MAX_SEED, Job, StepDistill, Weights, rounded_frames
from engine.spec.precision import ComputeDtype, Precision, QuantCompute

JOB = Job(
    dit=Weights((Path("dit"),), Precision.FP8),
    architecture=DIT,
    t5=Weights((Path("t5"),), Precision.BF16),
    tokenizer=Path("google"),
    vae=Weights((Path("vae"),), Precision.BF16),
    tiny_vae=False,
    schedule=StepDistill(),
    prompt="a fox",
    negative_prompt="",
    seed=42,
    width=832,
    height=480,
    frames=81,
    fps=16,
    device="cpu",
    compute_dtype=ComputeDtype.FLOAT32,
    quant_compute=QuantCompute.AUTO,
    output=Path("out.mp4"),
)


def test_latents_are_an_eighth_in_space_and_a_quarter_in_time() -> None:
    assert JOB.latent_shape == (16, 21, 60, 104)
    assert replace(JOB, frames=1, width=16, height=32).latent_shape == (16, 1, 4, 2)


@pytest.mark.parametrize("frames", [1, 5, 81, 121])
@pytest.mark.parametrize("seed", [0, MAX_SEED])
@pytest.mark.parametrize("size", [16, 480, 8192])
def test_the_edges_of_every_range_are_allowed(frames: int, seed: int, size: int) -> None:
    assert replace(JOB, frames=frames, seed=seed, width=size, height=size, fps=240).fps == 240


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("frames", 0, "is 1 "), ("frames", -3, "is 1 "), ("frames", 80, "is 77 "),
        ("frames", 2, "is 1 "), ("height", 490, "is 496 (`target_height`)"),
        ("height", 479, "is 480 (`target_height`)"), ("width", 8, "is 16 (`target_width`)"),
        ("width", 0, "is 16 (`target_width`)"), ("width", -832, "is 16 (`target_width`)"),
        ("width", 8208, "is 8192 (`target_width`)"), ("fps", 0, "16"), ("fps", 241, "16"),
        ("seed", -1, "seed"), ("seed", MAX_SEED + 1, "seed"),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused_with_a_number_that_works(
    field: str, value: int, fix: str
) -> None:
    with pytest.raises(JobError) as caught:
        replace(JOB, **{field: value})
    assert str(value) in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "steps", [(), (250, 500), (500, 500), (1001, 500), (1000, 0), (1000, -1), (1000, 750, 800)]
)
def test_a_step_list_that_does_not_fall_from_1000_to_1_is_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(JobError, match="step list"):
        replace(JOB, schedule=StepDistill(steps))


@pytest.mark.parametrize("steps", [(1000,), (1,), (1000, 1), (1000, 750, 500, 250)])
def test_falling_step_lists_are_allowed(steps: tuple[int, ...]) -> None:
    assert replace(JOB, schedule=StepDistill(steps)).schedule.timesteps == steps


@pytest.mark.parametrize("shift", [0, -1.0, 100.1, float("nan"), float("inf")])
def test_a_shift_that_means_nothing_is_refused(shift: float) -> None:
    with pytest.raises(JobError, match="shift"):
        replace(JOB, schedule=StepDistill(shift=shift))


def test_frames_are_rounded_down_to_4k_plus_1() -> None:
    counts = [rounded_frames(frames) for frames in range(-2, 12)]
    assert counts == [1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9]
