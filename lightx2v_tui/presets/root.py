"""The model root a preset is about, and how a preset is moved to another one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from engine.spec.errors import CheckpointError, JobError
from lightx2v_tui.catalog import Kind, ModelRoot, component_at, inspect_roots
from lightx2v_tui.presets import Preset


def on_model(preset: Preset, model: Path) -> Preset:
    """Move a preset to another model root: paths into its old root are looked up anew."""
    old = preset.model_path
    moved: dict[str, Path | None] = {
        name: None
        for name in ("dit", "t5", "clip", "tokenizer", "vae", "tiny_vae")
        if old and (path := getattr(preset, name)) and path.is_relative_to(old)
    }
    if not model.is_file():
        return replace(preset, model_path=model.absolute(), **moved)  # type: ignore[arg-type]
    # one file of a folder that holds several models
    named = moved | {"model_path": model.parent.absolute(), "dit": model.absolute()}
    return replace(preset, dit_precision=None, **named)  # type: ignore[arg-type]


def model_at(path: Path, dit: Path | None = None) -> ModelRoot | None:
    """The model in a folder, or of one DiT file; of several the one that `dit` belongs to.

    Raises:
        CheckpointError: the folder cannot be read.
        JobError: there are several, and nothing says which.
    """
    try:
        roots = inspect_roots(path)
    except OSError as error:
        raise CheckpointError(
            f"The model folder {path.name} cannot be read",
            f"{path}: {error.strerror}",
            "Bring the folder back, or choose another model: in the list, or with `--model`.",
        ) from error
    if len(roots) > 1 and dit is not None:
        roots = tuple(root for root in roots if dit.absolute() in root.dit_places) or roots
    distinct = {root.name: root for root in roots}
    if len(distinct) > 1:
        files = [c.files[0].name for root in roots for c in root.components() if c.kind is Kind.DIT]
        raise JobError(
            f"{path.name} holds {len(distinct)} models",
            f"{', '.join(list(distinct)[:4])}{', …' if len(distinct) > 4 else ''}",
            f"Name the DiT's file, e.g. {path / files[0] if files else path}.",
        )
    return next(iter(roots), None)


def model_of(preset: Preset) -> ModelRoot | None:
    """The model a preset names, with the parts that it names from other folders.

    Raises:
        JobError, CheckpointError: the folder cannot be read, or holds several models.
    """
    root = model_at(preset.model_path, preset.dit) if preset.model_path else None
    if root is None:
        return None
    named = {Kind.T5: preset.t5, Kind.CLIP: preset.clip, Kind.VAE: preset.vae,
             Kind.TINY_VAE: preset.tiny_vae}  # fmt: skip
    have = {file.absolute() for component in root.components() for file in component.files}
    offers = list(root.offers)
    for kind, path in named.items():
        if path is not None and path.absolute() not in have:
            with suppress(CheckpointError):  # told when it is picked: the model lacks it
                offers.append(component_at(path, kind))
    return replace(root, offers=tuple(offers), tokenizer_offer=preset.tokenizer)
