"""From a model root to a preset: what can be picked, what is recommended, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.spec.precision import Precision
from lightx2v_tui.catalog import TITLES, Component, Kind, ModelRoot
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.presets import Preset

#: The step list and shift that the distilled models were trained with.
DISTILLED_STEPS = (1000, 750, 500, 250)
SHIFT = 5.0
WIDTH, HEIGHT, FRAMES, FPS, SEED = 832, 480, 81, 16, 42
PROMPT = "A red fox runs across the snow."
ORDER = (Precision.BF16, Precision.FP8, Precision.INT8)


@dataclass(frozen=True)
class Choice:
    """A precision for each network that has several, and which VAE decodes."""

    dit: Precision
    t5: Precision
    tiny_vae: bool


def reason_not_runnable(root: ModelRoot) -> str:
    """Say why this engine cannot make a video from `root` yet; empty where it can."""
    if root.task == "unknown":
        dit = root.find(Kind.DIT)
        problem = dit.problems[0] if dit and dit.problems else "its DiT was not found"
        return f"the DiT cannot be read: {problem}"
    if root.task != "t2v":
        return f"{root.task} models are recognised, but only text-to-video runs so far"
    if not root.distilled:
        return "models of 40 or 50 steps are recognised, but only step-distilled ones run so far"
    return _missing_part(root)


def _missing_part(root: ModelRoot) -> str:
    for kind in (Kind.DIT, Kind.T5):
        if all(reason_not(root, kind, precision) for precision in ORDER):
            return f"no usable {TITLES[kind]}: {reason_not(root, kind, Precision.BF16)}"
    if reason_no_vae(root, tiny=False) and reason_no_vae(root, tiny=True):
        return f"no usable VAE: {reason_no_vae(root, tiny=False)}"
    if tokenizer_of(root) is None:
        return "no tokenizer: google/umt5-xxl is missing beside the T5 file"
    return ""


def reason_not(root: ModelRoot, kind: Kind, precision: Precision) -> str:
    """Say why `precision` cannot be picked for a component; empty where it can."""
    component = root.find(kind, precision)
    if component is not None:
        return _unusable(component)
    broken = [
        variant.components[kind]
        for variant in root.variants
        if variant.precision is precision and kind in variant.components
    ]
    return _unusable(broken[0]) if broken else f"no {precision.value} {TITLES[kind]} in this folder"


def reason_no_vae(root: ModelRoot, *, tiny: bool) -> str:
    """Say why the VAE, or the tiny one, cannot be picked; empty where it can."""
    kind = Kind.TINY_VAE if tiny else Kind.VAE
    component = root.find(kind)
    if component is None:
        return f"no {'taew2_1' if tiny else 'Wan2.1_VAE'} in this folder"
    return _unusable(component)


def _unusable(component: Component) -> str:
    if component.problems:
        return component.problems[0]
    if component.precision is None:
        return f"stored as {component.scheme}, which this engine does not compute"
    return ""


def tokenizer_of(root: ModelRoot) -> Path | None:
    """The first tokenizer folder of the root."""
    return next((variant.tokenizer for variant in root.variants if variant.tokenizer), None)


def recommended(root: ModelRoot, gpu: Gpu | None) -> Choice:
    """The best choice that is complete and that this GPU computes; bf16 on a CPU."""
    order = list(ORDER)
    if gpu is not None and gpu.fp8.native:
        order = [Precision.FP8, Precision.INT8, Precision.BF16]
    elif gpu is not None and gpu.int8.native:
        order = [Precision.INT8, Precision.FP8, Precision.BF16]
    complete = {variant.precision for variant in root.variants if variant.complete}
    order.sort(key=lambda precision: precision not in complete)
    return Choice(
        dit=_first(root, Kind.DIT, order),
        t5=_first(root, Kind.T5, order),
        tiny_vae=bool(reason_no_vae(root, tiny=False)) and not reason_no_vae(root, tiny=True),
    )


def _first(root: ModelRoot, kind: Kind, order: list[Precision]) -> Precision:
    usable = [precision for precision in order if not reason_not(root, kind, precision)]
    return usable[0] if usable else order[0]


def preset_for(root: ModelRoot, choice: Choice) -> Preset:
    """A preset with explicit paths for every component, and this app's defaults."""
    dit, t5 = root.find(Kind.DIT, choice.dit), root.find(Kind.T5, choice.t5)
    vae, tiny_vae = root.find(Kind.VAE), root.find(Kind.TINY_VAE)
    return Preset(
        model_cls="wan2.1_distill" if root.distilled else "wan2.1",
        task=root.task,
        model_path=root.path.resolve(),
        dit=_location(dit),
        dit_precision=choice.dit,
        t5=_location(t5),
        t5_precision=choice.t5,
        tokenizer=tokenizer_of(root),
        vae=_location(vae),
        tiny_vae=_location(tiny_vae),
        use_tiny_vae=choice.tiny_vae,
        infer_steps=len(DISTILLED_STEPS),
        timesteps=DISTILLED_STEPS,
        shift=SHIFT,
        enable_cfg=False,
        width=WIDTH,
        height=HEIGHT,
        frames=FRAMES,
        fps=FPS,
        prompt=PROMPT,
        negative_prompt="",
        seed=SEED,
        architecture=dit.architecture if dit else None,
        # LightX2V has no default for these; PyTorch's is the one that is always installed.
        extra={
            f"{layer}_type": "torch_sdpa"
            for layer in ("self_attn_1", "cross_attn_1", "cross_attn_2")
        },
    )


def _location(component: Component | None) -> Path | None:
    """How a preset names a component: its file, or the folder of its many files."""
    if component is None or not component.files:
        return None
    first = (
        component.files[0].resolve() if component.layout == "file" else component.files[0].parent
    )
    return first.absolute()
