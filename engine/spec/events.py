"""What a run tells while it works: frozen events, one of them terminal and last."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from engine.spec.errors import EngineError
from engine.spec.picture import Picture

#: Stages in the order a run takes them, and how the screens call them.
STAGES = {
    "prepare": "Prepare engine",
    "load_t5": "Load text encoder",
    "encode_text": "Encode prompt",
    "load_clip": "Load image encoders",
    "encode_image": "Encode image",
    "load_dit": "Load DiT",
    "denoise": "Denoise",
    "load_vae": "Load VAE",
    "decode": "Decode and write video",
}
IMAGE_STAGES = ("load_clip", "encode_image")


def stages_of(*, image: bool) -> tuple[str, ...]:
    """The stages of a run, with or without an image to start from."""
    return tuple(name for name in STAGES if image or name not in IMAGE_STAGES)


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; `total` counts its units: bytes, steps or frames (0: not counted)."""

    kind: ClassVar[str] = "stage"
    stage: str
    total: int = 0


@dataclass(frozen=True)
class BytesRead:
    """Weights are being read: `done` of `total` bytes, now from `file`."""

    kind: ClassVar[str] = "bytes"
    component: str
    file: str
    done: int
    total: int


@dataclass(frozen=True)
class StepDone:
    """Denoising step `step` (from 1) of `steps` took `seconds`."""

    kind: ClassVar[str] = "step"
    step: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Preview:
    """What the video will look like, as far as step `step` (from 1) knows: frames in order."""

    kind: ClassVar[str] = "preview"
    step: int
    frames: tuple[Picture, ...]


@dataclass(frozen=True)
class FrameDone:
    """`frame` (from 1) of `frames` was decoded and encoded."""

    kind: ClassVar[str] = "frame"
    frame: int
    frames: int


@dataclass(frozen=True)
class LoraApplied:
    """A LoRA changed `matched` layers; `unmatched` keys name none, `ignored` are no LoRA's."""

    kind: ClassVar[str] = "stage"
    path: Path
    matched: int
    unmatched: int
    ignored: int = 0
    stage: str = "apply_lora"


@dataclass(frozen=True)
class MemoryUsed:
    """Bytes in use: resident memory of the process, and allocated on the CUDA device."""

    kind: ClassVar[str] = "memory"
    ram: int
    vram: int
    vram_peak: int


@dataclass(frozen=True)
class Noted:
    """Something worth knowing that does not end the run, in one sentence."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Resumed:
    """The run goes on behind step `step` of `steps`, where an earlier one ended."""

    kind: ClassVar[str] = "resumed"
    step: int
    steps: int


@dataclass(frozen=True)
class Waiting:
    """The run waits for what only the user can mend, until the next event of another kind."""

    kind: ClassVar[str] = "waiting"
    reason: str


@dataclass(frozen=True)
class Saved:
    """A file was written completely."""

    kind: ClassVar[str] = "saved"
    path: Path


@dataclass(frozen=True)
class Attempt:
    """Memory was not enough: the run begins its attempt `number` (from 2), as `what` says."""

    kind: ClassVar[str] = "attempt"
    number: int
    what: str


@dataclass(frozen=True)
class Done:
    """Terminal: the video is at `path`."""

    kind: ClassVar[str] = "done"
    path: Path
    seconds: float


@dataclass(frozen=True)
class Failed:
    """Terminal: the run ended with an error."""

    kind: ClassVar[str] = "failed"
    error: EngineError


@dataclass(frozen=True)
class CancelledByUser:
    """Terminal: the stop event was honoured; no video was written."""

    kind: ClassVar[str] = "cancelled"


Event = (
    StageStarted | BytesRead | StepDone | Preview | FrameDone | LoraApplied | MemoryUsed | Noted
    | Resumed | Waiting | Saved | Attempt | Done | Failed | CancelledByUser
)  # fmt: skip
TERMINAL = (Done, Failed, CancelledByUser)


def describe_lora(event: LoraApplied) -> str:
    """What a LoRA did, in words."""
    unmatched = f", {event.unmatched} keys fit nothing" if event.unmatched else ""
    ignored = f", {event.ignored} keys ignored" if event.ignored else ""
    return f"{event.matched} layers changed{unmatched}{ignored}"


def as_json(event: Event) -> dict[str, object]:
    """One event as the JSON object of `--progress json`."""
    if isinstance(event, Failed):
        error = event.error
        fields: dict[str, object] = {"what": error.what, "why": error.why, "fix": error.fix}
    elif isinstance(event, Preview):
        fields = {"step": event.step, "frames": len(event.frames)}
    else:
        fields = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(event).items()
        }
    return {"event": event.kind, **fields}
