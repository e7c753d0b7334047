"""A `Job` names every file, precision and number of one generation; nothing after it guesses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path

from engine.spec.architecture import SPATIAL_STRIDE, TEMPORAL_STRIDE, DitArchitecture
from engine.spec.errors import JobError
from engine.spec.precision import ComputeDtype, Precision, QuantCompute

SIZE_STEP = 16  # the VAE's stride of 8 times the DiT's patch of 2
MAX_SIZE = 8192
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
class UniPC:
    """Wan's own schedule: FlowUniPC of order 2 over evenly spaced, then shifted sigmas."""

    steps: int = 50
    shift: float = 5.0


@dataclass(frozen=True)
class Euler:
    """The plain first-order schedule over the same sigmas."""

    steps: int = 50
    shift: float = 5.0


Schedule = StepDistill | UniPC | Euler


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance; `batched` asks both questions in one forward."""

    scale: float
    batched: bool = False


@dataclass(frozen=True)
class Lora:
    """A LoRA file and how strongly it is applied."""

    path: Path
    strength: float = 1.0


class Placing(str, Enum):
    """Where a network stays when it has done its part of a run."""

    RESIDENT = "resident"  # on the device, for the next run
    CPU = "cpu"  # in RAM, moved to the device for its part
    DROP = "drop"  # nowhere: loaded anew for the next run


@dataclass(frozen=True)
class Placings:
    """Where each network stays."""

    dit: Placing = Placing.RESIDENT
    t5: Placing = Placing.RESIDENT
    clip: Placing = Placing.RESIDENT
    vae: Placing = Placing.RESIDENT


class Previews(str, Enum):
    """What a run shows of its video while it denoises."""

    OFF = "off"
    LATENTS = "latents"  # all latent frames, by a linear fit
    TINY_VAE = "tiny vae"  # one frame, decoded


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
    schedule: Schedule
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
    clip: Weights | None = None
    vae_encoder: Weights | None = None
    image: Path | None = None
    guidance: Guidance | None = None
    loras: tuple[Lora, ...] = ()
    placings: Placings = Placings()
    tiling: bool = False
    tiny_vae_denormalized: bool = False
    attention: str = "sdpa"
    preview: Previews = Previews.OFF
    preview_vae: Weights | None = None  # tiny: for previews, or where the full one is too much
    checkpoint: Path | None = None  # kept after every step; what is there is gone on with

    def __post_init__(self) -> None:
        _check_size("width", self.width)
        _check_size("height", self.height)
        if self.frames < 1 or (self.frames - 1) % TEMPORAL_STRIDE:
            raise JobError(
                f"A video cannot have {self.frames} frames",
                "the VAE makes one frame, and then four for every further latent: 1, 5, 9, … 81",
                f"The nearest count is {rounded_frames(self.frames)} (`target_video_length`).",
            )
        if not 1 <= self.fps <= 240:
            raise JobError(
                f"{self.fps} frames a second is out of range", "fps goes from 1 to 240", "Use 16."
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise JobError(
                f"The seed {self.seed} is out of range",
                f"seeds go from 0 to {MAX_SEED}",
                "Choose a seed in that range.",
            )
        _check_schedule(self.schedule)
        if self.output.suffix.lower() != ".mp4":
            raise JobError(
                f"The output {self.output.name} is not an mp4",
                "videos are written as H.264 in mp4",
                f"Call it {self.output.stem or 'video'}.mp4.",
            )
        if self.guidance is not None and not 0 <= self.guidance.scale <= 100:
            raise JobError(
                f"A guidance scale of {self.guidance.scale:g} cannot be used",
                "`sample_guide_scale` goes from 0 to 100",
                "Use 5, or set `enable_cfg` to false.",
            )
        _check_image(self)
        if self.preview is Previews.TINY_VAE and self.preview_vae is None:
            raise JobError(
                "There is no tiny VAE to make previews with",
                "previews of that kind are decoded",
                "Choose previews from latents, or put taew2_1.pth beside the model's other files.",
            )

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape of the latents: [C, T, H/8, W/8]."""
        return (
            self.architecture.out_dim,
            (self.frames - 1) // TEMPORAL_STRIDE + 1,
            self.height // SPATIAL_STRIDE,
            self.width // SPATIAL_STRIDE,
        )


def partial_of(output: Path) -> Path:
    """The name a video has until it is whole."""
    return output.with_name(f".{output.stem}.partial.mp4")


def rounded_frames(frames: int) -> int:
    """Round a frame count down to 4k+1; at least 1."""
    return max(1, (frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)


def _check_size(name: str, size: int) -> None:
    if size < SIZE_STEP or size % SIZE_STEP or size > MAX_SIZE:
        nearest = min(MAX_SIZE, max(SIZE_STEP, round(size / SIZE_STEP) * SIZE_STEP))
        raise JobError(
            f"A {name} of {size} pixels cannot be made",
            f"width and height are multiples of {SIZE_STEP}, from {SIZE_STEP} to {MAX_SIZE}",
            f"The nearest is {nearest} (`target_{name}`).",
        )


def fit_area(image: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Fit a video to an image's proportions, as Wan does: same area, both sides cut to 16.

    Args:
        image: width and height of the image.
        width: the width asked for; with `height` it gives the area.
        height: the height asked for.

    Returns:
        Width and height of the video.
    """
    ratio, area = image[1] / image[0], width * height
    tall, wide = math.sqrt(area * ratio) + 1e-6, math.sqrt(area / ratio) + 1e-6
    return (
        max(SIZE_STEP, int(wide // SIZE_STEP) * SIZE_STEP),
        max(SIZE_STEP, int(tall // SIZE_STEP) * SIZE_STEP),
    )


def _check_image(job: Job) -> None:
    wants = job.architecture.task == "i2v"
    if wants and job.image is None:
        raise JobError(
            "This model needs an image",
            "it makes image-to-video: the image is the first frame",
            "Name a PNG, JPEG or WebP file as the image.",
        )
    if wants and job.vae_encoder is None:
        raise JobError(
            "Image-to-video needs the full VAE",
            "it encodes the first frame; a tiny VAE only decodes here",
            "Put Wan2.1_VAE.pth beside the model's other files.",
        )
    if job.image is not None and not wants:
        raise JobError(
            "This model takes no image",
            "it makes text-to-video",
            "Leave the image away, or choose an image-to-video model.",
        )


def _check_schedule(schedule: Schedule) -> None:
    if not 0 < schedule.shift <= 100:
        raise JobError(
            f"A shift of {schedule.shift} cannot be used",
            "`sample_shift` is above 0 and at most 100",
            "Use 5, which most Wan 2.1 models were trained with.",
        )
    if not isinstance(schedule, StepDistill):
        if not 1 <= schedule.steps <= 1000:
            raise JobError(
                f"{schedule.steps} steps cannot be made",
                "`infer_steps` goes from 1 to 1000",
                "Use 40 or 50; step-distilled models use `denoising_step_list`.",
            )
        return
    steps = schedule.timesteps
    falling = all(later < earlier for earlier, later in pairwise(steps))
    if not steps or not falling or steps[0] > 1000 or steps[-1] < 1:
        raise JobError(
            f"The step list {list(steps)} cannot be used",
            "it needs at least one timestep, falling, between 1000 and 1",
            "Set `denoising_step_list` to [1000, 750, 500, 250].",
        )
