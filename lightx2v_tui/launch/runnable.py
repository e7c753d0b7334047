"""What of a model this engine can run, and the reason for each no."""

from __future__ import annotations

from engine.spec.precision import Precision
from lightx2v_tui.catalog.completeness import not_computed
from lightx2v_tui.catalog.model import TITLES, Kind, ModelRoot

#: Tasks that run, and how many steps Wan 2.1's own models take for each.
STEPS = {"t2v": 50, "i2v": 40}
ORDER = (Precision.BF16, Precision.FP8, Precision.INT8)


def reason_not_runnable(root: ModelRoot) -> str:
    """Say why this engine cannot make a video from `root` yet; empty where it can."""
    if root.task == "unknown":
        dit = root.find(Kind.DIT)
        problem = root.why(dit) if dit and dit.problems else "its DiT was not found"
        return f"the DiT cannot be read: {problem}"
    return not_computed(root.family, root.task) or _missing_part(root)


def needed(root: ModelRoot) -> tuple[Kind, ...]:
    """The networks with a precision of their own that a model needs."""
    return (Kind.DIT, Kind.T5, Kind.CLIP) if root.reads_clip else (Kind.DIT, Kind.T5)


def _missing_part(root: ModelRoot) -> str:
    for kind in needed(root):
        if all(reason_not(root, kind, precision) for precision in ORDER):
            component = root.find(kind)
            found = root.why(component) if component else "there is none in this folder"
            return f"no usable {TITLES[kind]}: {found}"
    if root.task == "i2v" and reason_no_vae(root, tiny=False):
        return f"no usable VAE for the first frame: {reason_no_vae(root, tiny=False)}"
    if reason_no_vae(root, tiny=False) and reason_no_vae(root, tiny=True):
        return f"no usable VAE: {reason_no_vae(root, tiny=False)}"
    if root.tokenizer is None:
        return "no tokenizer: google/umt5-xxl is missing beside the T5 file"
    return ""


def reason_not(root: ModelRoot, kind: Kind, precision: Precision) -> str:
    """Say why `precision` cannot be picked for a component; empty where it can."""
    component = root.find(kind, precision)
    if component is not None:
        return root.why(component)
    broken = [
        variant.components[kind]
        for variant in root.variants
        if variant.precision is precision and kind in variant.components
    ]
    if broken:
        return root.why(broken[0])
    return f"no {precision.value} {TITLES[kind]} in this folder"


def reason_no_vae(root: ModelRoot, *, tiny: bool) -> str:
    """Say why the VAE, or the tiny one, cannot be picked; empty where it can."""
    kind = Kind.TINY_VAE if tiny else Kind.VAE
    component = root.find(kind)
    if component is None:
        return f"no {'taew2_1' if tiny else 'Wan2.1_VAE'} in this folder"
    return root.why(component)
