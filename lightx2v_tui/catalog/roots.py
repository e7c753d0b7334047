"""The guide's two layouts: precision folders, each with its own T5, VAE and config.json.

`original/ fp8/ int8/` hold models of 40 or 50 steps, `distill_models/ distill_fp8/
distill_int8/` step-distilled ones; `loras/` lies beside them.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.spec.architecture import DitArchitecture
from engine.spec.precision import Precision
from lightx2v_tui.catalog.components import find_components
from lightx2v_tui.catalog.disk import disk_of
from lightx2v_tui.catalog.model import TITLES, Component, Kind, ModelRoot, Variant

PLAIN = {"original": Precision.BF16, "fp8": Precision.FP8, "int8": Precision.INT8}
DISTILLED = {
    "distill_models": Precision.BF16,
    "distill_fp8": Precision.FP8,
    "distill_int8": Precision.INT8,
}
FOLDERS = {**PLAIN, **DISTILLED}
TOKENIZER = Path("google/umt5-xxl")


def inspect_root(path: Path) -> ModelRoot | None:
    """Look at one folder; None where it is not a model root.

    Raises:
        OSError: the folder cannot be read.
    """
    folders = {entry.name for entry in os.scandir(path) if _is_dir(entry)}
    distilled = bool(folders & DISTILLED.keys())
    layout = DISTILLED if distilled else PLAIN
    found = [name for name in layout if name in folders]
    problems: list[str] = []
    variants = [
        variant
        for name in found
        if (variant := _variant(path, name, layout[name], problems)) is not None
    ]
    if not variants:
        return None
    architecture = next((arch for variant in variants if (arch := _architecture(variant))), None)
    if distilled and folders & PLAIN.keys():
        extra = ", ".join(sorted(folders & PLAIN.keys()))
        problems.append(f"both layouts in one folder; {extra} is not shown")
    return ModelRoot(
        path=path,
        name=_name(path),
        family="wan2.1",
        task=architecture.task if architecture else "unknown",
        distilled=distilled,
        variants=tuple(variants),
        architecture=architecture,
        loras=tuple(_loras(path / "loras")),
        disk=disk_of(path),
        problems=tuple(problems),
    )


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _name(path: Path) -> str:
    """The folder's name; in the Hugging Face cache the repository's."""
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return path.parent.parent.name.removeprefix("models--").split("--")[-1]
    return path.resolve().name


def _variant(root: Path, name: str, precision: Precision, problems: list[str]) -> Variant | None:
    folder = root / name
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        problems.append(f"{name}/ cannot be read: {error.strerror}")
        return None
    components = find_components(folder, names)
    components.pop(Kind.LORA, None)
    if not components:
        return None
    places = [folder / TOKENIZER, root / TOKENIZER]
    tokenizer = next((p for p in places if (p / "tokenizer.json").is_file()), None)
    missing = _missing(components, tokenizer)
    return Variant(precision, folder, components, tokenizer, tuple(missing))


def _missing(components: dict[Kind, Component], tokenizer: Path | None) -> list[str]:
    missing = [TITLES[kind] for kind in (Kind.DIT, Kind.T5) if kind not in components]
    if tokenizer is None:
        missing.append(f"tokenizer ({TOKENIZER}/tokenizer.json)")
    if Kind.VAE not in components and Kind.TINY_VAE not in components:
        missing.append("VAE")
    dit = components.get(Kind.DIT)
    wants_clip = dit is not None and dit.architecture is not None and dit.architecture.image_dim
    if wants_clip and Kind.CLIP not in components:
        missing.append("CLIP")
    return missing


def _architecture(variant: Variant) -> DitArchitecture | None:
    dit = variant.components.get(Kind.DIT)
    return dit.architecture if dit else None


def _loras(folder: Path) -> list[Component]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
    found = (find_components(folder, [name]).get(Kind.LORA) for name in names)
    return [lora for lora in found if lora is not None]
