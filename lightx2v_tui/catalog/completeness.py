"""A verdict for every part of a variant: what stands, why, and the command that would mend it."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from engine.spec.architecture import WAN22_CHANNELS
from lightx2v_tui.catalog.assembly import MIXED
from lightx2v_tui.catalog.model import DITS, TITLES, Component, Kind, ModelRoot, Variant, Verdict
from lightx2v_tui.catalog.repositories import (
    fetch_again,
    fetch_like,
    fetch_part,
    pull,
    repository_of,
)

COMPUTED = ("t2v", "i2v")  # the tasks of Wan 2.1 that make a video here
HALVES = ("high", "low")
ASK_ITS_SOURCE = (
    "Get it from where this model came from; its folder's name is of no known repository."
)
OTHER_FORMAT = "Use the original, FP8 or INT8 files of this model, in LightX2V's or Wan's layout."
NOT_YET = "Nothing to fetch; Wan 2.1 text-to-video and image-to-video models run today."
NOTHING = "Nothing to do: "  # how a fix begins that asks for nothing
UNSCALED = "no scale"  # codes without it mean nothing
SEPARATE = "Move the files of one of the two models into a folder of its own."
#: Where ComfyUI looks for each part; None is the tokenizer, which lies beside the T5.
COMFY_PLACES = {
    Kind.T5: "text_encoders", None: "text_encoders", Kind.CLIP: "clip_vision",
    Kind.VAE: "vae", Kind.TINY_VAE: "vae_approx",
}  # fmt: skip


def verdicts(root: ModelRoot, variant: Variant) -> tuple[Verdict, ...]:
    """Say what stands about each part that this variant needs or has."""
    told = [_of_component(root, variant, kind) for kind in _parts(root, variant)]
    return (*told, _of_tokenizer(root, variant))


def not_computed(family: str, task: str) -> str:
    """Why this engine cannot compute a kind of model yet, however whole; empty where it can."""
    if family == "wan2.2":
        what = "is one network with a VAE of its own" if task == "ti2v" else "needs two experts"
        return f"Wan 2.2 {task} {what}: recognised, but it does not run yet"
    if task in (*COMPUTED, "unknown"):
        return ""
    return f"{task} models are recognised, but do not run yet"


def _parts(root: ModelRoot, variant: Variant) -> list[Kind]:
    """The kinds a variant needs, and those it has besides."""
    wants = {Kind.DIT, Kind.T5, Kind.VAE}
    dit = variant.components.get(Kind.DIT)
    if root.reads_clip:
        wants.add(Kind.CLIP)
    if dit is not None and dit.expert:
        wants.add(Kind.DIT_LOW)
    if Kind.TINY_VAE in variant.components and root.task == "t2v":
        wants -= {Kind.VAE}  # either of them decodes
    wants |= set(variant.components)
    return [kind for kind in Kind if kind in wants and kind is not Kind.LORA]


def _of_component(root: ModelRoot, variant: Variant, kind: Kind) -> Verdict:
    component = variant.components.get(kind)
    if component is not None and component.usable:
        why = not_computed(root.family, root.task) if kind in DITS else ""
        state = "not runnable" if why else "ok"
        return Verdict(kind.value, state, why, NOT_YET if why else "")
    other = _elsewhere(root, variant, kind)
    if other is not None:
        return _replaced(root, variant, component, other)
    if component is None:
        return Verdict(kind.value, "missing", f"no {TITLES[kind]} here",
                       _fetch_missing(root, variant, kind))  # fmt: skip
    if component.problems:
        return Verdict(kind.value, "broken", _why(root, component),
                       _mend(root, variant, component))  # fmt: skip
    return Verdict(kind.value, "not runnable", _why(root, component),
                   _readable(root, variant, kind))  # fmt: skip


def _replaced(
    root: ModelRoot, variant: Variant, own: Component | None, other: Component
) -> Verdict:
    """A part that lies elsewhere; what is broken here can be mended all the same."""
    place = other.files[0]
    said = f"{_why(root, own)}; " if own else ""
    mend = _mend(root, variant, own) if own and own.problems else ""
    return Verdict(other.kind.value, "elsewhere", f"{said}one lies at {root.short(str(place))}",
                   mend or f"{NOTHING}{place.name} is used from there.")  # fmt: skip


def _why(root: ModelRoot, component: Component) -> str:
    cast = "a plain cast without scales: " if UNSCALED in component.reason else ""
    return cast + root.why(component)


def _elsewhere(root: ModelRoot, variant: Variant, kind: Kind) -> Component | None:
    """A usable one of another place, as presets pick it; DiTs are what variants differ in."""
    if kind in DITS:
        return None
    found = (root.find(kind, variant.precision), root.find(kind))
    return next((c for c in found if c is not None and c.usable), None)


def _of_tokenizer(root: ModelRoot, variant: Variant) -> Verdict:
    if variant.tokenizer is not None:
        return Verdict("tokenizer", "ok")
    if root.tokenizer is not None:
        place = root.short(str(root.tokenizer))
        return Verdict("tokenizer", "elsewhere", f"one lies at {place}",
                       f"{NOTHING}it is used from there.")  # fmt: skip
    command = fetch_part(None, None, _place(root, variant, None), wan22=False)
    return Verdict("tokenizer", "missing", "no google/umt5-xxl/tokenizer.json here", command)


def _place(root: ModelRoot, variant: Variant, kind: Kind | None) -> Path | None:
    """The folder that a part belongs into; None where the hub keeps it in its cache."""
    if repository_of(root.path)[1]:
        return None
    inside = COMFY_PLACES[kind] if root.layout == "comfyui" else ""
    return variant.folder / inside


def _fetch_missing(root: ModelRoot, variant: Variant, kind: Kind) -> str:
    if kind not in DITS:
        return _published(root, variant, kind, variant.components.get(Kind.DIT))
    other = variant.components.get(Kind.DIT if kind is Kind.DIT_LOW else Kind.DIT_LOW)
    if other is not None and other.files:
        return _other_half(root, other) or ASK_ITS_SOURCE
    inside = "transformer/" if root.layout == "diffusers" else _below(root, variant.folder)
    return fetch_like(root.path, [f"{inside}*"]) or ASK_ITS_SOURCE


def _other_half(root: ModelRoot, dit: Component) -> str:
    """The command for the expert that a Wan 2.2 pair lacks: called like the one it has."""
    high, low = ("transformer/", "transformer_2/") if root.layout == "diffusers" else HALVES
    old, new = (high, low) if dit.expert == "high" else (low, high)
    file = dit.files[0]
    if dit.layout == "file" and file.parent == root.path:
        return fetch_again(root.path, [file.with_name(file.name.replace(old, new))])
    return fetch_like(root.path, [f"{_below(root, file.parent).replace(old, new)}*"])


def _below(root: ModelRoot, folder: Path) -> str:
    """A folder's path below its root, as a pattern begins; empty for the root itself."""
    inside = folder.relative_to(root.path) if folder.is_relative_to(root.path) else Path()
    return "" if inside == Path() else f"{inside}/"


def _mend(root: ModelRoot, variant: Variant, component: Component) -> str:
    """Fetch the files that are damaged or absent; where all are whole, other ones."""
    in_place = _mend_in_place(component)
    if in_place:
        return in_place
    if component.kind not in DITS:
        again = fetch_again(root.path, component.fetch) if component.fetch else ""
        return again or _published(root, variant, component.kind, component)
    if any(problem == MIXED or " both hold " in problem for problem in component.problems):
        return SEPARATE
    if component.fetch:
        return fetch_again(root.path, component.fetch) or ASK_ITS_SOURCE
    if any(UNSCALED in problem for problem in component.problems):
        return OTHER_FORMAT
    inside = _below(root, component.files[0].parent) if component.files else ""
    names = "*" if inside else "diffusion_pytorch_model*" if component.layout == "shards" else "*"
    return fetch_like(root.path, [f"{inside}{names}"]) or ASK_ITS_SOURCE


def _mend_in_place(component: Component) -> str:
    """What fetches no new copy: Git LFS in a checkout, and leave to read; empty where it would."""
    if component.pointer:
        return pull(component.fetch[0].parent, component.fetch)
    refused = os.strerror(errno.EACCES)
    broken = zip(component.problems, component.fetch, strict=False)  # both begin with these files
    closed = [str(file) for problem, file in broken if refused in problem]
    return f"Make it readable: chmod u+r {shlex.join(closed)}" if closed else ""


def _published(root: ModelRoot, variant: Variant, kind: Kind, like: Component | None) -> str:
    precision = like.precision if like and like.precision else variant.precision
    return fetch_part(kind, precision, _place(root, variant, kind), wan22=_wan22(root))


def _readable(root: ModelRoot, variant: Variant, kind: Kind) -> str:
    if kind in DITS:
        return OTHER_FORMAT
    if not_computed(root.family, root.task) and _wan22(root):
        return NOT_YET
    return fetch_part(kind, None, _place(root, variant, kind), wan22=_wan22(root))


def _wan22(root: ModelRoot) -> bool:
    """TI2V-5B alone has the VAE of Wan 2.2; the A14B pair uses that of Wan 2.1."""
    return root.architecture is not None and root.architecture.out_dim == WAN22_CHANNELS
