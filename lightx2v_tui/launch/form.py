"""What the launch form says: the fields of a preset as text, and the preset that texts give."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

from engine.spec.job import MAX_SEED, MAX_SIZE, SIZE_STEP, Previews, rounded_frames
from lightx2v_tui.launch import choices
from lightx2v_tui.paths import expanded
from lightx2v_tui.presets import Preset

T = TypeVar("T")
#: The sizes that LightX2V offers, by class; each is named by width and height.
SIZES = {
    "720p": ((1280, 720), (720, 1280), (1280, 544), (544, 1280), (1104, 832), (832, 1104),
             (960, 960)),
    "540p": ((960, 544), (544, 960)),
    "480p": ((832, 480), (480, 832), (832, 624), (624, 832), (720, 720), (512, 512)),
}  # fmt: skip
SAMPLERS = ("unipc", "euler")
MAX_FRAMES = 9999  # no model makes so many: a slip of the finger
DRAWN_SEEDS = 2**32
WHOLE = re.compile(r"[0-9]{1,19}")
#: The text encoder reads as many tokens; every word is one or more, and none has more letters.
READ_WORDS = 512
READ_LETTERS = READ_WORDS * 16


class Offload(str, Enum):
    """Where networks wait while others compute."""

    AUTO = "auto, as needed"
    NONE = "keep all loaded"
    ENCODERS = "encoders in RAM"
    EVERYTHING = "all through RAM"
    UNLOAD = "unload after use"
    OTHER = "as in the preset"


#: The keys of a preset that say it: DiT, T5, CLIP, VAE, unloading.
OFFLOAD_KEYS = ("cpu_offload", "t5_cpu_offload", "clip_cpu_offload", "vae_cpu_offload",
                "unload_modules")  # fmt: skip
OFFLOADS: dict[Offload, tuple[bool | None, ...]] = {
    Offload.AUTO: (None, None, None, None, None),
    Offload.NONE: (False, False, False, False, False),
    Offload.ENCODERS: (False, True, True, False, False),
    Offload.EVERYTHING: (True, True, True, True, False),
    Offload.UNLOAD: (False, False, False, False, True),
}


@dataclass(frozen=True)
class Shape:
    """Which fields a form has."""

    listed: bool  # the steps are a list of timesteps, as of step-distilled models
    guided: bool  # there is a negative prompt, and a scale of guidance
    image: bool


@dataclass(frozen=True)
class Fields:
    """What the fields say, as it was typed."""

    width: str
    height: str
    frames: str
    fps: str
    seed: str
    random_seed: bool
    steps: str
    shift: str
    guidance: str
    sampler: str
    offload: Offload
    tiling: bool
    preview: Previews
    output: str
    prompt: str
    negative: str


@dataclass(frozen=True)
class Reading:
    """The preset that fields give: what could not be read is as it was, and `errors` say why."""

    preset: Preset
    errors: Mapping[str, str]


def shape_of(preset: Preset) -> Shape:
    """The fields that a preset's model has."""
    named = preset.model_cls is not None and "distill" in preset.model_cls
    distilled = named or preset.timesteps is not None
    listed = distilled and preset.sampler is None
    guided = bool(preset.enable_cfg) or not distilled
    return Shape(listed, guided, image=preset.task == "i2v")


def fields_of(preset: Preset) -> Fields:
    """The fields of a preset; what it leaves open is as a run would have it."""
    shape = shape_of(preset)
    listed = _or(preset.timesteps, choices.DISTILLED_STEPS)
    steps = listed if shape.listed else (_or(preset.infer_steps, 50),)
    return Fields(
        width=str(_or(preset.width, choices.WIDTH)),
        height=str(_or(preset.height, choices.HEIGHT)),
        frames=str(_or(preset.frames, choices.FRAMES)),
        fps=str(_or(preset.fps, choices.FPS)),
        seed=str(_or(preset.seed, choices.SEED)),
        random_seed=bool(preset.random_seed),
        steps=" ".join(map(str, steps)),
        shift=_number(_or(preset.shift, choices.SHIFT)),
        guidance=_number(_guidance_of(preset)),
        sampler=_or(preset.sampler, SAMPLERS[0]),
        offload=offload_of(preset),
        tiling=bool(preset.use_tiling_vae),
        preview=previews_of(preset),
        output=str(preset.output or ""),
        prompt=_or(preset.prompt, ""),
        negative=_or(preset.negative_prompt, ""),
    )


def read(fields: Fields, preset: Preset) -> Reading:
    """Put what the fields say into a preset; what they say as before stays in its words."""
    shape, before = shape_of(preset), fields_of(preset)
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, key, parse in _parsers(shape):
        text = getattr(fields, name)
        try:
            value = parse(text)
        except ValueError as error:
            errors[name] = str(error)
        else:
            if text != getattr(before, name):
                values[key] = value
    if fields.offload is not before.offload:
        values |= dict(zip(OFFLOAD_KEYS, OFFLOADS[fields.offload], strict=True))
    if "guidance_scale" in values:
        values["enable_cfg"] = values["guidance_scale"] != 1
    if "timesteps" in values:
        values["infer_steps"] = len(values["timesteps"])
    return Reading(replace(preset, **values), errors)


def offload_of(preset: Preset) -> Offload:
    """The offload that a preset's keys come to."""
    said = tuple(getattr(preset, key) for key in OFFLOAD_KEYS)
    if said == OFFLOADS[Offload.AUTO]:
        return Offload.AUTO
    if preset.unload_modules:
        return Offload.UNLOAD
    everything = _or(preset.cpu_offload, False)
    meant = (everything, _or(preset.t5_cpu_offload, True), _or(preset.clip_cpu_offload, True),
             _or(preset.vae_cpu_offload, everything), False)  # fmt: skip
    return next((mode for mode, keys in OFFLOADS.items() if keys == meant), Offload.OTHER)


def previews_of(preset: Preset) -> Previews:
    """What a run of a preset is watched by, where there is a screen."""
    known = preset.preview in [kind.value for kind in Previews]
    return Previews(preset.preview) if known else Previews.LATENTS


def size_name(width: str, height: str) -> str:
    """The name of one of LightX2V's sizes; empty where it is none of them."""
    name = f"{width.strip()}x{height.strip()}"
    return next((size for size, _ in sizes() if size == name), "")


def sizes() -> Iterator[tuple[str, str]]:
    """LightX2V's sizes and the class of each, the largest first."""
    for group, members in SIZES.items():
        for width, height in members:
            yield f"{width}x{height}", group


def draw_seed() -> int:
    """Draw a seed, of as many as LightX2V draws from."""
    return secrets.randbelow(DRAWN_SEEDS)


def length(frames: str, fps: str) -> str:
    """How long the video will be; empty where that is not known."""
    try:
        long = rounded_frames(_frames(frames)) / _fps(fps)
        return f"{long:.{0 if long >= 10 else 1}f} s"
    except ValueError:
        return ""


def summary(reading: Reading) -> str:
    """The first thing that is wrong, or what will be made, in one line."""
    if reading.errors:
        return next(iter(reading.errors.values()))
    preset = reading.preset
    listed = shape_of(preset).listed
    steps = len(preset.timesteps or ()) if listed else preset.infer_steps
    frames, rate = _or(preset.frames, 1), _or(preset.fps, 1)
    rounded = rounded_frames(frames)
    note = f" ({frames} rounded to 4k+1)" if rounded != frames else ""
    loras = f"{len(preset.loras)} LoRA · " if preset.loras else ""
    return f"{loras}{steps} steps · {rounded} frames{note}, {rounded / rate:.1f} s"


def too_long(prompt: str) -> bool:
    """True where a prompt surely has more than the text encoder reads."""
    if next(islice(re.finditer(r"\S+", prompt), READ_WORDS, None), None) is not None:
        return True
    letters = (not letter.isspace() for letter in prompt[: 4 * READ_LETTERS])
    return len(prompt) > READ_LETTERS and sum(letters) > READ_LETTERS


def _parsers(shape: Shape) -> Iterator[tuple[str, str, Any]]:
    """Each field, the key of a preset it fills, and how it is read."""
    yield from NUMBERS
    if shape.listed:
        yield "steps", "timesteps", _timesteps
    else:
        yield from (("steps", "infer_steps", _steps), ("sampler", "sampler", _same))
    if shape.guided:
        yield from (("guidance", "guidance_scale", _guidance),
                    ("negative", "negative_prompt", _same))  # fmt: skip
    yield from OTHERS


def _whole(name: str, text: str, low: int, high: int) -> int:
    text = text.strip()
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{name} is not a number" if text else f"{name} is empty")
    if not low <= int(text) <= high:
        raise ValueError(f"{name} goes from {low} to {high}")
    return int(text)


def _real(name: str, text: str) -> float:
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        raise ValueError(f"{name} is {'not a number' if text.strip() else 'empty'}") from None
    if not 0 <= value <= 100 or not math.isfinite(value):
        raise ValueError(f"{name} goes from 0 to 100")
    return value


def _side(name: str) -> Any:  # noqa: ANN401 - a parser, as the others
    def parse(text: str) -> int:
        value = _whole(name, text, 0, 10**18)
        if not SIZE_STEP <= value <= MAX_SIZE or value % SIZE_STEP:
            raise ValueError(f"{name} must be a multiple of {SIZE_STEP}, up to {MAX_SIZE}")
        return value

    return parse


def _frames(text: str) -> int:
    if text.strip() == "0":
        raise ValueError("at least 1 frame")
    return _whole("frames", text, 1, MAX_FRAMES)


def _fps(text: str) -> int:
    return _whole("fps", text, 1, 240)


def _seed(text: str) -> int:
    return _whole("seed", text, 0, MAX_SEED)


def _steps(text: str) -> int:
    return _whole("steps", text, 1, 1000)


def _timesteps(text: str) -> tuple[int, ...]:
    words = re.split(r"[\s,;]+", text.strip(" \t[](),;"))
    if not words[0]:
        raise ValueError("steps are empty: 1000 750 500 250 is what models are distilled to")
    steps = tuple(_whole("each step", word, 1, 1000) for word in words)
    if any(later >= earlier for earlier, later in pairwise(steps)):
        raise ValueError("steps must fall, such as 1000 750 500 250")
    return steps


def _shift(text: str) -> float:
    value = _real("shift", text)
    if value == 0:
        raise ValueError("shift must be above 0")
    return value


def _guidance(text: str) -> float:
    return _real("guidance", text)


def _output(text: str) -> Path | None:
    if not text.strip():
        return None
    path = expanded(Path(text.strip())).absolute()
    if path.suffix.lower() != ".mp4" or text.endswith("/"):
        raise ValueError("the output must be named .mp4")
    return path


def _guidance_of(preset: Preset) -> float:
    """The scale of guidance; 1 is none."""
    scale = _or(preset.guidance_scale, choices.GUIDANCE_SCALE)
    return scale if _or(preset.enable_cfg, True) else 1.0


def _same(value: T) -> T:
    return value


def _value(member: Enum) -> str:
    return str(member.value)


NUMBERS = (
    ("width", "width", _side("width")), ("height", "height", _side("height")),
    ("frames", "frames", _frames), ("fps", "fps", _fps), ("seed", "seed", _seed),
    ("shift", "shift", _shift),
)  # fmt: skip
OTHERS = (
    ("output", "output", _output), ("prompt", "prompt", _same), ("tiling", "use_tiling_vae", _same),
    ("random_seed", "random_seed", _same), ("preview", "preview", _value),
)  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.10g}"


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
