"""The layouts people have on their disks: which folders and files are one model.

* guide: `original/ fp8/ int8/`, or `distill_models/ distill_fp8/ distill_int8/` for step-distilled
  models, each with its own T5, VAE and config.json; `loras/` lies beside them.
* files: the weights in the folder itself: Wan's official folders, LightX2V's single files (several
  models in one folder, each in several precisions, `_split` folders of blocks), Wan 2.2 pairs.
* comfyui: `diffusion_models/ text_encoders/ vae/ clip_vision/`.
* diffusers: `transformer/ text_encoder/ vae/`, with model_index.json.

A layout is a function from a folder to what it found, or None; a new one is a function more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.spec.precision import Precision
from lightx2v_tui.catalog.assembly import Parts, make_root, make_variant
from lightx2v_tui.catalog.files import Listing, list_folder
from lightx2v_tui.catalog.folders import Folder, unfinished
from lightx2v_tui.catalog.model import TITLES, Component, Kind, ModelRoot, Variant
from lightx2v_tui.catalog.recognise import distilled_by_name
from lightx2v_tui.catalog.single_files import as_experts, as_low, single_files

PLAIN = {"original": Precision.BF16, "fp8": Precision.FP8, "int8": Precision.INT8}
DISTILLED = {
    "distill_models": Precision.BF16,
    "distill_fp8": Precision.FP8,
    "distill_int8": Precision.INT8,
}
GUIDE = {**PLAIN, **DISTILLED}
EXPERTS = (
    "high_noise_model", "low_noise_model", "high_noise", "low_noise", "HighNoise", "LowNoise",
)  # fmt: skip
COMFY_DITS = ("diffusion_models", "unet")
COMFY = (*COMFY_DITS, "text_encoders", "clip", "clip_vision", "vae", "vae_approx", "loras")
DIFFUSERS = ("transformer", "transformer_2", "text_encoder", "image_encoder", "vae", "tokenizer")
SPLIT = "_split"  # LightX2V's folders of blocks beside its single files
MARKS = frozenset({*GUIDE, *EXPERTS, *COMFY, *DIFFUSERS, "google"})
REST = "non_block.safetensors"  # of a DiT in block files, what lies in no block
COMFY_DEPTH = 4  # people sort files into folders of their own there


@dataclass(frozen=True)
class Found:
    """What a folder turned out to be; `used` are the subfolders that belong to it."""

    roots: tuple[ModelRoot, ...] = ()
    parts: tuple[Component, ...] = ()  # networks that belong to no model here
    tokenizers: tuple[Path, ...] = ()
    used: frozenset[str] = frozenset()


def inspect(listing: Listing) -> Found:
    """Say what one folder is."""
    folder = Folder(listing)
    for layout in LAYOUTS:
        found = layout(folder)
        if found is not None:
            return found
    return Found()


def guide(folder: Folder) -> Found | None:
    """The guide's layout: precision folders; step-distilled ones are a model of their own."""
    loras = [lora for each in folder.below(["loras"]) for lora in each.of(Kind.LORA)]
    shared = Parts.of(folder, folder.components)
    used = frozenset({"loras", "google", *EXPERTS} & folder.listing.folders)
    roots: list[ModelRoot] = []
    for layout in (DISTILLED, PLAIN):
        problems: list[str] = []
        variants, inside = [], []
        for name in [name for name in layout if name in folder.listing.folders]:
            try:
                inner = Folder(list_folder(folder.path / name))
            except OSError as error:
                problems.append(f"{name}/ cannot be read: {error.strerror}")
                continue
            variant = _guide_variant(inner, layout[name], shared, problems)
            if variant is not None:
                variants.append(variant)
                inside.append(inner)
                used |= {name}
        variants = _without_lone_experts(variants, problems)
        if variants:
            distilled = layout is DISTILLED or distilled_by_name(folder.name)
            suffix = " (40/50 steps)" if roots else ""
            problems += _strays(folder) + unfinished(folder, inside)
            roots.append(make_root(folder.path, folder.name + suffix, variants, "guide",
                                   distilled=distilled, loras=loras, problems=problems,
                                   others=shared.components))  # fmt: skip
    return Found(tuple(roots), used=used) if roots else None


def _guide_variant(
    inner: Folder, precision: Precision, shared: Parts, problems: list[str]
) -> Variant | None:
    own = Parts.of(inner, [_with_its_blocks(c, precision) for c in inner.components])
    for half in inner.below(EXPERTS):
        own = own.plus(as_experts(half))
    if not own.components:
        return None
    dits = [c for c in own.components if c.kind is Kind.DIT and not c.expert]
    if len(dits) > 1:
        names = ", ".join(f"{c.files[0].name if c.files else '?'} ({c.scheme})" for c in dits)
        problems.append(f"{inner.path.name}/ holds two DiTs, which LightX2V would mix: {names}")
    variant = make_variant(inner.path, own, shared, precision, mixed=len(dits) > 1)
    if variant.precision not in (None, precision) and variant.components.get(Kind.DIT):
        problems.append(f"{inner.path.name}/ holds {variant.label} weights, whatever its name says")
    for kind in (Kind.T5, Kind.CLIP):
        several = [c for c in own.components if c.kind is kind and c.files]
        if len(several) > 1 and kind in variant.components:
            names = ", ".join(c.files[0].name for c in several)
            chosen = variant.components[kind].files
            said = f"; {chosen[0].name} is used" if chosen else ""
            problems.append(f"{inner.path.name}/ holds {len(several)} {kind.value}: {names}{said}")
    return variant


def _with_its_blocks(dit: Component, precision: Precision) -> Component:
    """Of a DiT in blocks only the rest is there, which is bf16 in every precision."""
    if [file.name for file in dit.files] != [REST]:
        return dit
    problems = dit.problems if dit.fetch else (f"its blocks are not there, only {REST} is",)
    return replace(dit, precision=precision, scheme=precision.value, layout="blocks",
                   problems=problems)  # fmt: skip


def _without_lone_experts(variants: list[Variant], problems: list[str]) -> list[Variant]:
    """A single file that is called an expert, where other folders hold plain DiTs, is one too."""
    dits = [v.components[Kind.DIT] for v in variants if Kind.DIT in v.components]
    if all(dit.expert for dit in dits):
        return variants
    return [_as_plain(variant, problems) for variant in variants]


def _as_plain(variant: Variant, problems: list[str]) -> Variant:
    dit = variant.components.get(Kind.DIT)
    lone = dit is not None and dit.expert and Kind.DIT_LOW not in variant.components
    if dit is None or not lone or not dit.files or dit.files[0].parent != variant.folder:
        return variant
    problems.append(f"{variant.folder.name}/{dit.files[0].name} is called the {dit.expert}-noise "
                    "half of a pair, but the DiTs beside it are whole models")  # fmt: skip
    missing = tuple(part for part in variant.missing if part != TITLES[Kind.DIT_LOW])
    components = {**variant.components, Kind.DIT: replace(dit, expert="")}
    return replace(variant, components=components, missing=missing)


def _strays(folder: Folder) -> list[str]:
    """A DiT beside the precision folders: LightX2V's launcher would take it before them."""
    strays = [c.files[0].name for c in folder.of(Kind.DIT) if c.files]
    return [f"{strays[0]} beside the folders: LightX2V would load it instead"] if strays else []


def files(folder: Folder) -> Found | None:
    """Weights in the folder itself, or Wan 2.2's two folders of experts."""
    split = [name for name in folder.listing.folders if name.endswith(SPLIT)]
    pairs = [c for half in folder.below(EXPERTS) for c in as_experts(half)]
    blocks = [c for each in folder.below(split) for c in each.of(Kind.DIT)]
    dits = [*folder.of(Kind.DIT), *pairs, *blocks]
    parts = Parts.of(folder, [c for c in folder.components if c.kind not in (Kind.DIT, Kind.LORA)])
    if not dits:
        there = bool(parts.components or parts.tokenizers)
        return Found(parts=parts.components, tokenizers=parts.tokenizers) if there else None
    loras = [lora for each in [folder, *folder.below(["loras"])] for lora in each.of(Kind.LORA)]
    used = frozenset({*split, *EXPERTS, "loras", "google"} & folder.listing.folders)
    return Found(tuple(single_files(folder, dits, parts, loras)), used=used)


def comfyui(folder: Folder) -> Found | None:
    """ComfyUI's `models` folder: a folder for each kind of network."""
    if not {*COMFY_DITS} & folder.listing.folders:
        return None
    inside = [folder, *folder.below(COMFY, COMFY_DEPTH)]
    components = [c for each in inside for c in each.components]
    if not components:
        return None
    dits = [c for c in components if c.kind is Kind.DIT]
    loras = [c for c in components if c.kind is Kind.LORA]
    rest = tuple(c for c in components if c.kind not in (Kind.DIT, Kind.LORA))
    tokenizers = tuple(path for each in inside for path in Parts.of(each, ()).tokenizers)
    parts = Parts(rest, tokenizers)
    roots = single_files(folder, dits, parts, loras, layout="comfyui")
    used = frozenset({*COMFY} & folder.listing.folders)
    return Found(tuple(roots), () if roots else rest, () if roots else tokenizers, used)


def diffusers(folder: Folder) -> Found | None:
    """A diffusers pipeline: a folder for each network, model_index.json above them."""
    pipeline = folder.read_pipeline()
    wan = str(pipeline.get("_class_name", "")).startswith("Wan")
    if not wan and "transformer" not in folder.listing.folders:
        return None
    inside = folder.below(DIFFUSERS)
    inner = {each.path.name: each for each in inside}
    dits = inner["transformer"].of(Kind.DIT) if "transformer" in inner else []
    low = as_low(inner["transformer_2"].of(Kind.DIT)) if "transformer_2" in inner else []
    if not wan and not any(dit.architecture for dit in (*dits, *low)):
        return None
    if low or _names_a_pair(pipeline):
        dits = [replace(dit, expert="high") for dit in dits]
    rest = [c for each in [folder, *inside] if not each.path.name.startswith("transformer")
            for c in each.components if c.kind not in (Kind.DIT, Kind.LORA)]  # fmt: skip
    wanted = next((c.precision for c in (*dits, *low)), None) or Precision.BF16
    variant = make_variant(folder.path, Parts.of(folder, (*dits, *low, *rest)), Parts(), wanted)
    root = make_root(folder.path, folder.name, [variant], "diffusers",
                     distilled=distilled_by_name(folder.name),
                     problems=unfinished(folder, inside))  # fmt: skip
    return Found((root,), used=frozenset({*DIFFUSERS} & folder.listing.folders))


def _names_a_pair(pipeline: Mapping[str, object]) -> bool:
    """Whether a pipeline has a second transformer; TI2V-5B lists one that is null."""
    second = pipeline.get("transformer_2")
    return isinstance(second, list) and any(second)


LAYOUTS: tuple[Callable[[Folder], Found | None], ...] = (guide, comfyui, diffusers, files)
