"""A `Job` names every file, precision and number of one generation; nothing after it guesses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from engine.spec.architecture import SPATIAL_STRIDE, TEMPORAL_STRIDE, DitArchitecture
from engine.spec.errors import JobError
from engine.spec.precision import ComputeDtype, Precision, QuantCompute

SIZE_STEP = 16  # the VAE's stride of 8 times the DiT's patch of 2
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Weights:
    """The files one component is read from, and the precision they are expected to hold."""

    files: tuple[Path, ...]
    precision: Precision


@dataclass(frozen=True)
class StepDistill:
    """A step-distilled schedule: which of 1000 timesteps are visited, and the shift."""

    timesteps: tuple[int, ...] = (1000, 750, 500, 250)
    shift: float = 5.0


@dataclass(frozen=True)
class Job:
    """One generation, completely specified.

    Raises:
        JobError: a number is out of its range; nothing was read or computed.
    """

    dit: Weights
    architecture: DitArchitecture
    t5: Weights
    tokenizer: Path
    vae: Weights
    tiny_vae: bool
    schedule: StepDistill
    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    frames: int
    fps: int
    device: str
    compute_dtype: ComputeDtype
    quant_compute: QuantCompute
    output: Path
    settings: str = ""
    save_tensors: Path | None = None

    def __post_init__(self) -> None:
        _check_size("width", self.width)
        _check_size("height", self.height)
        if self.frames < 1 or (self.frames - 1) % TEMPORAL_STRIDE:
            raise JobError(
                f"A video cannot have {self.frames} frames",
                "the VAE makes one frame, and then four for every further latent: 1, 5, 9, … 81",
                f"Set `target_video_length` to {rounded_frames(self.frames)}.",
            )
        if not 1 <= self.fps <= 240:
            raise JobError(
                f"{self.fps} frames a second is out of range", "fps goes from 1 to 240", "Use 16."
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise JobError(
                f"The seed {self.seed} is out of range",
                f"seeds go from 0 to {MAX_SEED}",
                "Choose a smaller seed.",
            )
        _check_schedule(self.schedule)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape of the latents: [C, T, H/8, W/8]."""
        return (
            self.architecture.out_dim,
            (self.frames - 1) // TEMPORAL_STRIDE + 1,
            self.height // SPATIAL_STRIDE,
            self.width // SPATIAL_STRIDE,
        )


def rounded_frames(frames: int) -> int:
    """Round a frame count down to 4k+1, as LightX2V does; at least 1."""
    return max(1, (frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)


def _check_size(name: str, size: int) -> None:
    if size < SIZE_STEP or size % SIZE_STEP or size > 8192:
        nearest = min(8192, max(SIZE_STEP, round(size / SIZE_STEP) * SIZE_STEP))
        raise JobError(
            f"A {name} of {size} pixels cannot be made",
            f"width and height are multiples of {SIZE_STEP}, from {SIZE_STEP} to 8192",
            f"Set `target_{name}` to {nearest}.",
        )


def _check_schedule(schedule: StepDistill) -> None:
    steps = schedule.timesteps
    falling = all(later < earlier for earlier, later in pairwise(steps))
    if not steps or not falling or steps[0] > 1000 or steps[-1] < 1:
        raise JobError(
            f"The step list {list(steps)} cannot be used",
            "it needs at least one timestep, falling, between 1000 and 1",
            "Set `denoising_step_list` to [1000, 750, 500, 250].",
        )
    if not 0 < schedule.shift <= 100:
        raise JobError(
            f"A shift of {schedule.shift} cannot be used",
            "`sample_shift` is above 0 and at most 100",
            "Use 5, which the distilled models were trained with.",
        )
