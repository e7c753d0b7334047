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
#: What Wan 2.1's own models are sampled with, by task, and how strongly they are guided.
STEPS = {"t2v": 50, "i2v": 40}
GUIDANCE_SCALE = 5.0
#: The negative prompt that Wan 2.1 was published with.
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，"
    "形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
WIDTH, HEIGHT, FRAMES, FPS, SEED = 832, 480, 81, 16, 42
PROMPT = "A red fox runs across the snow."
ORDER = (Precision.BF16, Precision.FP8, Precision.INT8)


@dataclass(frozen=True)
class Choice:
    """A precision for each network that has several, and which VAE decodes."""

    dit: Precision
    t5: Precision
    tiny_vae: bool
    clip: Precision | None = None  # None where the model has no image layers


def reason_not_runnable(root: ModelRoot) -> str:
    """Say why this engine cannot make a video from `root` yet; empty where it can."""
    if root.task == "unknown":
        dit = root.find(Kind.DIT)
        problem = dit.problems[0] if dit and dit.problems else "its DiT was not found"
        return f"the DiT cannot be read: {problem}"
    if root.task not in STEPS:
        return f"{root.task} models are recognised, but do not run yet"
    return _missing_part(root)


def needed(root: ModelRoot) -> tuple[Kind, ...]:
    """The networks with a precision of their own that a model needs."""
    wants_clip = root.architecture is not None and root.architecture.image_dim is not None
    return (Kind.DIT, Kind.T5, Kind.CLIP) if wants_clip else (Kind.DIT, Kind.T5)


def _missing_part(root: ModelRoot) -> str:
    for kind in needed(root):
        if all(reason_not(root, kind, precision) for precision in ORDER):
            component = root.find(kind)
            found = _unusable(component) if component else "there is none in this folder"
            return f"no usable {TITLES[kind]}: {found}"
    if root.task == "i2v" and reason_no_vae(root, tiny=False):
        return f"no usable VAE for the first frame: {reason_no_vae(root, tiny=False)}"
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
        clip=_first(root, Kind.CLIP, order) if Kind.CLIP in needed(root) else None,
    )


def _first(root: ModelRoot, kind: Kind, order: list[Precision]) -> Precision:
    usable = [precision for precision in order if not reason_not(root, kind, precision)]
    return usable[0] if usable else order[0]


def preset_for(root: ModelRoot, choice: Choice) -> Preset:
    """A preset with explicit paths for every component, and this app's defaults."""
    dit, t5 = root.find(Kind.DIT, choice.dit), root.find(Kind.T5, choice.t5)
    clip = root.find(Kind.CLIP, choice.clip) if choice.clip else None
    tokenizer = tokenizer_of(root)
    vae, tiny_vae = root.find(Kind.VAE), root.find(Kind.TINY_VAE)
    guided = not root.distilled
    return Preset(
        model_cls="wan2.1_distill" if root.distilled else "wan2.1",
        task=root.task,
        model_path=root.path.absolute(),
        dit=_location(dit),
        dit_precision=choice.dit,
        t5=_location(t5),
        t5_precision=choice.t5,
        tokenizer=tokenizer.absolute() if tokenizer else None,
        clip=_location(clip),
        clip_precision=choice.clip,
        vae=_location(vae),
        tiny_vae=_location(tiny_vae),
        use_tiny_vae=choice.tiny_vae,
        infer_steps=STEPS.get(root.task, 50) if guided else len(DISTILLED_STEPS),
        timesteps=None if guided else DISTILLED_STEPS,
        shift=SHIFT,
        enable_cfg=guided,
        guidance_scale=GUIDANCE_SCALE if guided else None,
        width=WIDTH,
        height=HEIGHT,
        frames=FRAMES,
        fps=FPS,
        prompt=PROMPT,
        negative_prompt=NEGATIVE_PROMPT if guided else "",
        seed=SEED,
        architecture=dit.architecture if dit else None,
        # LightX2V has no default for these; PyTorch's is the one that is always installed.
        attention="torch_sdpa",
        extra={"cross_attn_1_type": "torch_sdpa", "cross_attn_2_type": "torch_sdpa"},
    )


def _location(component: Component | None) -> Path | None:
    """How a preset names a component: its file, or the folder of its many files."""
    if component is None or not component.files:
        return None
    first = component.files[0]
    return (first if component.layout == "file" else first.parent).absolute()
