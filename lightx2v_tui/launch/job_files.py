"""The files of a job: each component is found, or what is missing or broken is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import CheckpointError, JobError
from engine.spec.header import read_header
from engine.spec.job import Lora, Previews, Weights
from engine.spec.precision import Precision
from lightx2v_tui.catalog import TITLES, TOKENIZER, Component, Kind, component_at
from lightx2v_tui.presets import Preset


@dataclass(frozen=True)
class Parts:
    """The components a job is made of."""

    dit: Component
    t5: Component
    clip: Component | None
    vae: Component
    vae_encoder: Component | None
    preview_vae: Component | None = None


def parts_of(full: Preset, dit: Component) -> Parts:
    """Find what a job needs beside its DiT.

    Raises:
        CheckpointError, JobError: a component is missing, broken or of another precision.
    """
    t5 = component_of(full, Kind.T5, full.t5, full.t5_precision)
    tiny = bool(full.use_tiny_vae)
    kind, path = (Kind.TINY_VAE, full.tiny_vae) if tiny else (Kind.VAE, full.vae)
    vae = component_of(full, kind, path, None)
    clip = encoder = None
    if dit.architecture is not None and dit.architecture.image_dim is not None:
        clip = component_of(full, Kind.CLIP, full.clip, full.clip_precision)
    if full.task == "i2v":
        encoder = component_of(full, Kind.VAE, full.vae, None) if tiny else vae
    return Parts(dit, t5, clip, vae, encoder)


def preview_vae_of(preset: Preset, wanted: Previews, notes: list[str]) -> Component | None:
    """The tiny VAE for previews, and for a run that the full one is too much for; None without.

    Where it cannot be used and previews want it, a note says why.
    """
    try:
        return component_of(preset, Kind.TINY_VAE, preset.tiny_vae, None)
    except CheckpointError as error:
        if wanted is Previews.TINY_VAE:
            notes.append(f"{error.what}; previews are made from latents")
        return None


def check_loras(loras: Sequence[Lora]) -> None:
    """Make sure that every LoRA can be read.

    Raises:
        CheckpointError: one is missing or broken.
    """
    for lora in loras:
        try:
            read_header(lora.path)
        except CheckpointError as error:
            raise CheckpointError(
                f"The LoRA {lora.path.name} cannot be read",
                f"{error.what}: {error.why}",
                "Take it out of the LoRAs, or fetch the file again.",
            ) from error


def component_of(
    preset: Preset, kind: Kind, path: Path | None, precision: Precision | None
) -> Component:
    """Find one component of a preset.

    Raises:
        CheckpointError: it is missing or broken.
        JobError: it is of another precision than the preset says.
    """
    if path is None:
        raise _absent(preset, kind, precision)
    component = component_at(path, kind)
    if not component.usable:
        raise broken(kind, component)
    if precision is not None and component.precision is not precision:
        raise JobError(
            f"The {TITLES[kind]} is not {precision.value}",
            f"{path} holds {component.scheme}",
            "Name the files of the precision you want, or change the precision.",
        )
    return component


def _absent(preset: Preset, kind: Kind, precision: Precision | None) -> CheckpointError:
    where = f"{preset.model_path} has none" if preset.model_path else "the preset names no file"
    wanted = f"{precision.value} " if precision else ""
    fix = "Give the model's root folder with --model, or name the file in the preset."
    if preset.model_path:
        fix = f"Run lightx2v-tui scan {preset.model_path} to see what is missing."
    return CheckpointError(f"There is no {wanted}{TITLES[kind]}", where, fix)


def broken(kind: Kind, component: Component) -> CheckpointError:
    """The error for a component that cannot be used."""
    problem = component.problems[0] if component.problems else f"it is stored as {component.scheme}"
    return CheckpointError(
        f"The {TITLES[kind]} cannot be used",
        problem,
        "Download its files again, or choose another precision.",
    )


def tokenizer_of(preset: Preset, t5: Component) -> Path:
    """The tokenizer the preset names, or the one beside the T5 file, as LightX2V looks for it."""
    beside = t5.files[0].parent / TOKENIZER
    folder = preset.tokenizer or beside
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            "The T5 tokenizer is missing",
            f"{folder / 'tokenizer.json'} does not exist",
            "Put the google/umt5-xxl folder of the model beside its T5 file.",
        )
    return folder


def weights_of(component: Component) -> Weights:
    """The files of a usable component, and what they hold."""
    assert component.precision is not None  # `usable` was checked
    return Weights(component.files, component.precision)
