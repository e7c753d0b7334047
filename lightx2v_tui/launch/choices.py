"""From a model root to a preset: what can be picked, what is recommended, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.spec.precision import Precision
from lightx2v_tui.catalog.model import Component, Kind, ModelRoot
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.launch.recommend import Recommendation, recommend
from lightx2v_tui.launch.runnable import STEPS, needed, reason_no_vae, reason_not
from lightx2v_tui.presets import Preset
from lightx2v_tui.units import size

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
#: The share of the free RAM that weights may take on a CPU, so that activations fit beside them.
COMFORTABLE = 0.8


@dataclass(frozen=True)
class Choice:
    """A precision for each network that has several, and which VAE decodes."""

    dit: Precision
    t5: Precision
    tiny_vae: bool
    clip: Precision | None = None  # None where the model has no image layers


def recommended(root: ModelRoot, gpu: Gpu | None, ram: int | None = None) -> Choice:
    """The best that can be used and that this GPU computes; bf16 on a CPU.

    `ram` is the free RAM in bytes: on a CPU smaller weights are picked where it would be too full.
    """
    picked = _picked(root, gpu, ram)
    return Choice(
        dit=picked[Kind.DIT],
        t5=picked[Kind.T5],
        tiny_vae=bool(reason_no_vae(root, tiny=False)) and not reason_no_vae(root, tiny=True),
        clip=picked.get(Kind.CLIP),
    )


def why_recommended(root: ModelRoot, kind: Kind, gpu: Gpu | None, ram: int | None = None) -> str:
    """Say in words why a precision is recommended for a network."""
    best, picked = _picked(root, gpu), _picked(root, gpu, ram)
    if ram is not None and best[kind] is not picked[kind]:
        return (
            f"With {best[kind].value} the weights take {size(_weight(root, best))}, too much for "
            f"{size(ram)} of free RAM: {picked[kind].value} files are smaller."
        )
    return _recommend(root, kind, gpu).reason


def _recommend(root: ModelRoot, kind: Kind, gpu: Gpu | None) -> Recommendation:
    return recommend(kind.value, gpu, _nbytes(root, kind, Precision.BF16))


def _picked(root: ModelRoot, gpu: Gpu | None, ram: int | None = None) -> dict[Kind, Precision]:
    """The first usable precision of each network; the DiT, then T5, steps down to what fits."""
    usable = {kind: _usable(root, kind, gpu) for kind in needed(root)}
    picked = {kind: order[0] for kind, order in usable.items()}
    if gpu is not None or ram is None:
        return picked
    for kind in (Kind.DIT, Kind.T5):
        ways = [{**picked, kind: precision} for precision in usable[kind]]
        fitting = [way for way in ways if _weight(root, way) <= COMFORTABLE * ram]
        picked = fitting[0] if fitting else min(ways, key=lambda way: _weight(root, way))
    return picked


def _usable(root: ModelRoot, kind: Kind, gpu: Gpu | None) -> list[Precision]:
    """What can be used, in the GPU's order; all of that where nothing can."""
    order = _recommend(root, kind, gpu).order
    return [p for p in order if not reason_not(root, kind, p)] or list(order)


def _weight(root: ModelRoot, picked: Mapping[Kind, Precision]) -> int:
    return sum(_nbytes(root, kind, precision) for kind, precision in picked.items())


def _nbytes(root: ModelRoot, kind: Kind, precision: Precision) -> int:
    component = root.find(kind, precision)
    return component.nbytes if component else 0


def preset_for(root: ModelRoot, choice: Choice) -> Preset:
    """A preset with explicit paths for every component, and this app's defaults."""
    dit, t5 = root.find(Kind.DIT, choice.dit), root.find(Kind.T5, choice.t5)
    clip = root.find(Kind.CLIP, choice.clip) if choice.clip else None
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
        tokenizer=root.tokenizer.absolute() if root.tokenizer else None,
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


def completed(preset: Preset, root: ModelRoot, best: Choice) -> Preset:
    """Fill what a preset leaves open from the model it is for."""
    choice = choice_of(preset, best)
    found = preset_for(root, choice)
    if preset.model_cls is not None and "distill" not in preset.model_cls:
        found = replace(found, timesteps=None)
    said = {
        name: value
        for name in Preset.__dataclass_fields__
        if (value := getattr(preset, name)) not in (None, {}, ())
    }
    for kind in ("dit", "t5", "clip"):  # a file that is named decides its own precision
        said.setdefault(f"{kind}_precision", None if kind in said else getattr(choice, kind))
    return replace(found, **said)


def choice_of(preset: Preset, best: Choice) -> Choice:
    """What a preset chose, and the best for what it leaves open."""
    return Choice(
        dit=preset.dit_precision or best.dit,
        t5=preset.t5_precision or best.t5,
        tiny_vae=best.tiny_vae if preset.use_tiny_vae is None else preset.use_tiny_vae,
        clip=preset.clip_precision or best.clip,
    )


def opened(preset: Preset, root: ModelRoot) -> tuple[Preset, Choice]:
    """A preset as a form shows it, with nothing left open, and what it chose.

    A file that is named without its precision has that of the component it belongs to.
    """
    known = {
        f"{kind.value}_precision": component.precision
        for kind in (Kind.DIT, Kind.T5, Kind.CLIP)
        for component in root.components()
        if component.kind is kind and _location(component) == getattr(preset, kind.value)
    }
    unsaid = {name: value for name, value in known.items() if getattr(preset, name) is None}
    best = recommended(root, None)
    full = completed(replace(preset, **unsaid), root, best)  # type: ignore[arg-type] # precisions
    return full, choice_of(full, best)


def with_choice(preset: Preset, root: ModelRoot, choice: Choice) -> Preset:
    """The preset with what was chosen; files that it names for the same stay as they are."""
    found = preset_for(root, choice)
    values: dict[str, object] = {"use_tiny_vae": choice.tiny_vae}
    for kind in ("dit", "t5", "clip"):
        name = f"{kind}_precision"
        if getattr(preset, name) is not getattr(choice, kind) or getattr(preset, kind) is None:
            values |= {kind: getattr(found, kind), name: getattr(choice, kind)}
    if "dit" in values:
        values["architecture"] = found.architecture
    for name in ("model_path", "tokenizer", "vae", "tiny_vae"):
        values[name] = getattr(preset, name) or getattr(found, name)
    return replace(preset, **values)  # type: ignore[arg-type] # each is of its field's kind


def _location(component: Component | None) -> Path | None:
    """How a preset names a component: its file, or the folder of its many files."""
    if component is None or not component.files:
        return None
    first = component.files[0]
    return (first if component.layout == "file" else first.parent).absolute()
