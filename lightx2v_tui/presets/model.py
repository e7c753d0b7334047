"""What a preset says, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.spec.architecture import DitArchitecture
from engine.spec.errors import JobError
from engine.spec.job import Lora
from engine.spec.precision import Precision


class PresetError(JobError):
    """A preset cannot be used; `what` names file and line."""


@dataclass(frozen=True)
class Preset:
    """What a preset says; None where it says nothing."""

    model_cls: str | None = None
    task: str | None = None
    model_path: Path | None = None
    dit: Path | None = None
    dit_precision: Precision | None = None
    t5: Path | None = None
    t5_precision: Precision | None = None
    tokenizer: Path | None = None
    clip: Path | None = None
    clip_precision: Precision | None = None
    vae: Path | None = None
    tiny_vae: Path | None = None
    use_tiny_vae: bool | None = None
    infer_steps: int | None = None
    timesteps: tuple[int, ...] | None = None
    shift: float | None = None
    enable_cfg: bool | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    random_seed: bool | None = None  # the launch form draws a seed for each run
    output: Path | None = None
    image: Path | None = None
    sampler: str | None = None
    batched_guidance: bool | None = None
    preview: str | None = None  # what a run is watched by on a screen: off, latents or tiny vae
    loras: tuple[Lora, ...] | None = None
    cpu_offload: bool | None = None
    t5_cpu_offload: bool | None = None
    clip_cpu_offload: bool | None = None
    vae_cpu_offload: bool | None = None
    unload_modules: bool | None = None
    use_tiling_vae: bool | None = None
    tiny_vae_denormalized: bool | None = None
    attention: str | None = None
    architecture: DitArchitecture | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    own_extra: Mapping[str, object] = field(default_factory=dict)
    mm_extra: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    #: The keys this app knows, in the words of the file they were read from.
    words: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


def with_values(preset: Preset, **values: object) -> Preset:
    """Replace the fields whose value is not None."""
    given = {name: value for name, value in values.items() if value is not None}
    return replace(preset, **given)  # type: ignore[arg-type] # checked by the dataclass's callers
