"""From a model root to a preset: what can be picked, what is recommended, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.spec.precision import Precision
from lightx2v_tui.catalog.model import Component, Kind, ModelRoot
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.presets import Preset
from lightx2v_tui.recommend import recommend
from lightx2v_tui.runnable import STEPS, needed, reason_no_vae, reason_not, tokenizer_of

#: The step list and shift that the distilled models were trained with.
DISTILLED_STEPS = (1000, 750, 500, 250)
SHIFT = 5.0
#: How strongly Wan 2.1's own models are guided.
GUIDANCE_SCALE = 5.0
#: The negative prompt that Wan 2.1 was published with.
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，"
    "形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
WIDTH, HEIGHT, FRAMES, FPS, SEED = 832, 480, 81, 16, 42
PROMPT = "A red fox runs across the snow."


@dataclass(frozen=True)
class Choice:
    """A precision for each network that has several, and which VAE decodes."""

    dit: Precision
    t5: Precision
    tiny_vae: bool
    clip: Precision | None = None  # None where the model has no image layers


def recommended(root: ModelRoot, gpu: Gpu | None) -> Choice:
    """The best choice that is complete and that this GPU computes; bf16 on a CPU."""
    return Choice(
        dit=_first(root, Kind.DIT, gpu),
        t5=_first(root, Kind.T5, gpu),
        tiny_vae=bool(reason_no_vae(root, tiny=False)) and not reason_no_vae(root, tiny=True),
        clip=_first(root, Kind.CLIP, gpu) if Kind.CLIP in needed(root) else None,
    )


def why_recommended(root: ModelRoot, kind: Kind, gpu: Gpu | None) -> str:
    """Say in words why a precision is recommended for a network."""
    plain = root.find(kind, Precision.BF16)
    return recommend(kind.value, gpu, plain.nbytes if plain else 0).reason


def _first(root: ModelRoot, kind: Kind, gpu: Gpu | None) -> Precision:
    """The GPU's order decides among what can be used; complete variants come first."""
    complete = {variant.precision for variant in root.variants if variant.complete}
    order = sorted(recommend(kind.value, gpu).order, key=lambda p: p not in complete)
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
