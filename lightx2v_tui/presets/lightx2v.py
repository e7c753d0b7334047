"""What LightX2V of October 2025, LightX2V of August 2026 and this app each do with a config.

One rule is one function from what the file says, and what stands on disk around it, to the
differences it makes; `differences` asks them all. Nothing here reads a disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.spec.job import rounded_frames
from engine.spec.precision import Precision
from lightx2v_tui.presets.keys import ARCHITECTURE, KEYS, OWN, nearest, passed_on
from lightx2v_tui.presets.lightx2v_config import (
    KEPT,
    USED,
    Config,
    Difference,
    FolderConfig,
    Rule,
    Surroundings,
    shown,
)
from lightx2v_tui.presets.lightx2v_model import DIT_RULES, folder_configs
from lightx2v_tui.presets.model import Preset
from lightx2v_tui.presets.networks import precision_of

__all__ = ["Difference", "FolderConfig", "Surroundings", "differences"]

TOKENIZER = "google/umt5-xxl"
ALONE = Surroundings()


def differences(preset: Preset, around: Surroundings = ALONE) -> list[Difference]:
    """Say where the three would not do the same with a preset that was read from a file."""
    config = Config(preset, {**preset.extra, **preset.words}, around)
    return [found for rule in RULES for found in rule(config)]


@dataclass(frozen=True)
class Renamed:
    """A key of October 2025 that has another name today, and what happens without it."""

    old: str
    new: str
    without: str


RENAMED = (
    Renamed("vae_pth", "vae_path", "Wan2.1_VAE.pth is looked for below model_path"),
    Renamed("use_tiny_vae", "use_tae", "the full VAE decodes"),
    Renamed("tiny_vae_path", "tae_path", "taew2_1.pth is looked for below model_path"),
    Renamed("rotary_chunk", "rope_chunk", "rotary embedding in one piece"),
    Renamed("rotary_chunk_size", "rope_chunk_size", "pieces of 100"),
)
#: Keys that LightX2V of October 2025 does not read yet.
NEWER = (
    "clip_attn_type", "layer_norm_type", "lora_dynamic_apply", "modulate_type", "need_scaled",
    "resize_mode", "resolution", "rms_norm_type", "rope_type", "t5_lazy_load", "use_compile",
    "vae_dtype",
)  # fmt: skip
#: Keys that LightX2V of August 2026 no longer reads, and what stands in for them.
OLDER = {
    "offload_ratio": "ignored: `cpu_offload` moves every block",
    "t5_offload_granularity": "ignored: `t5_lazy_load` does this",
}
SCHEMES_THEN = frozenset({
    "Default-Force-FP32", "fp8-vllm", "int8-vllm", "fp8-q8f", "int8-q8f", "fp8-b128-deepgemm",
    "fp8-sgl", "int8-sgl", "int8-torchao",
})  # fmt: skip
SCHEMES_NOW = SCHEMES_THEN - {"Default-Force-FP32"} | {
    "fp8-pertensor", "fp8-musa", "fp8-triton", "int8-triton", "int8-vllm-hygon-dcu",
    "fp8-torchao", "int8-tmo", "int8-npu", "fp8-intel-xpu", "int8-iluvatar", "mxfp6-mxfp8",
    "mxfp8",
}  # fmt: skip
ENCODER_SCHEMES_THEN = frozenset({
    "int8", "int8-vllm", "fp8", "fp8-sgl", "int8-torchao", "int8-q8f", "fp8-q8f",
})  # fmt: skip
ENCODER_SCHEMES_NOW = ENCODER_SCHEMES_THEN | {
    "fp8-vllm", "fp8-torchao", "int8-triton", "fp8-triton", "int8-tmo", "int8-npu",
    "int8-iluvatar",
}  # fmt: skip
#: What LightX2V takes from its command line, in a config as in the app's own values.
COMMAND_LINE = {
    "prompt": "--prompt", "negative_prompt": "--negative_prompt", "seed": "--seed",
    "image_path": "--image_path", "save_result_path": "--save_result_path",
}  # fmt: skip
ATTENTION = ("self_attn_1_type", "cross_attn_1_type", "cross_attn_2_type")
LABELS = frozenset({"_class_name", "config_json", "model_size", "model_type", "text_dim"})


def _not_strict(config: Config) -> Iterator[Difference]:
    if not config.around.strict:
        stops = "it stops: comments and trailing commas are not JSON to it"
        yield Difference("the file", stops, stops, "read; what the app writes is strict JSON")


def _renamed(config: Config) -> Iterator[Difference]:
    for row in RENAMED:
        old, new = config.said.get(row.old), config.said.get(row.new)
        here = USED if row.new in KEYS else KEPT
        if old is not None and new is not None and str(old) != str(new):
            newest = f"{shown(new)}, of `{row.new}`"
            used = newest if here is USED else KEPT
            yield Difference(row.old, f"{shown(old)} is used", newest, used)
        elif old not in (None, False) and new is None:
            ignored = f"ignored: it is `{row.new}` now; {row.without}"
            yield Difference(row.old, USED, ignored, here)
        elif new not in (None, False) and old is None:
            ignored = f"ignored: it was `{row.old}`; {row.without}"
            yield Difference(row.new, ignored, USED, here)


def _newer_and_older(config: Config) -> Iterator[Difference]:
    for key in NEWER:
        if config.said.get(key) not in (None, False):
            here = USED if key in KEYS else KEPT
            yield Difference(key, "ignored: not known yet", USED, here)
    for key, now in OLDER.items():
        if key in config.said:
            yield Difference(key, USED, now, KEPT)


def _precision(config: Config) -> Iterator[Difference]:
    """The guide's `mm_type`, or a scheme whose flag is missing, says nothing to LightX2V."""
    scheme, mm_type = config.said.get("dit_quant_scheme"), config.said.get("mm_type")
    said = "dit_quant_scheme" if scheme is not None else "mm_config.mm_type"
    wanted = precision_of(str(scheme if scheme is not None else mm_type or ""))
    if config.said.get("dit_quantized") is None and wanted not in (None, Precision.BF16):
        ignored = "ignored: the DiT counts as unquantized without `dit_quantized`: true"
        yield Difference(said, ignored, ignored, f"the DiT is {wanted.value}")
    elif config.quantized and scheme is None:
        stops = "it stops: `dit_quant_scheme` is missing"
        here = f"{wanted.value}, from `mm_type`" if wanted else "the files say the precision"
        yield Difference("dit_quantized", stops, stops, here)
    elif config.quantized:
        yield from _scheme("dit_quant_scheme", str(scheme), SCHEMES_THEN, SCHEMES_NOW)
    if scheme is not None and mm_type is not None and precision_of(str(mm_type)) is not wanted:
        ignored = "ignored: `dit_quant_scheme` is used"
        yield Difference("mm_config.mm_type", ignored, ignored, ignored)


def _scheme(
    key: str, scheme: str, then: frozenset[str], now: frozenset[str]
) -> Iterator[Difference]:
    if scheme not in then or scheme not in now:
        stops = "it stops: a scheme it does not know"
        precision = precision_of(scheme)
        here = f"{precision.value}, by its own operators" if precision else KEPT
        yield Difference(
            key, USED if scheme in then else stops, USED if scheme in now else stops, here
        )


def _encoders(config: Config) -> Iterator[Difference]:
    for kind in ("t5", "clip"):
        key = f"{kind}_quant_scheme"
        scheme = str(config.said.get(key, ""))
        if config.said.get(f"{kind}_quantized") is not True:
            continue
        yield from _scheme(key, scheme, ENCODER_SCHEMES_THEN, ENCODER_SCHEMES_NOW)
        if scheme in ("fp8", "int8"):
            package = "sgl_kernel" if scheme == "fp8" else "vllm"
            needs = f"multiplied by {package}, which must be installed"
            yield Difference(key, needs, needs, "natively where the GPU can, else in bf16")


def _unlocated(config: Config) -> Iterator[Difference]:
    """The guide promises that quantized files are located by themselves."""
    found = "found below model_path, by what the files hold"
    if config.quantized and "dit_quantized_ckpt" not in config.said:
        flat = "only *.safetensors of model_path itself; its fp8/ and int8/ are not searched"
        yield Difference("dit_quantized_ckpt (absent)", flat, flat, found)
    if config.said.get("clip_quantized") is True and "clip_quantized_ckpt" not in config.said:
        precision = str(config.said.get("clip_quant_scheme", "")).partition("-")[0]
        now = f"models_clip_…-14-{precision}.pth; the guide's clip-{precision}.pth is not found"
        then = "looked for below model_path by one fixed name"
        yield Difference("clip_quantized_ckpt (absent)", then, now, found)


def _loras(config: Config) -> Iterator[Difference]:
    if config.said.get("lora_configs") and config.quantized:
        dynamic = config.said.get("lora_dynamic_apply") is True
        now = "computed beside the weights" if dynamic else "it needs `lora_dynamic_apply`: true"
        then = "it stops: no LoRA on a quantized DiT"
        yield Difference("lora_configs", then, now, "computed beside the weights")


def _tiny_vae(config: Config) -> Iterator[Difference]:
    path = config.preset.tiny_vae
    light = path is not None and path.name.lower().startswith("lighttae")
    if light and config.preset.use_tiny_vae and not config.said.get("need_scaled"):
        wrong = "wrong colours: a lighttae VAE needs `need_scaled`: true"
        here = "told by the file's name"
        if config.said.get("need_scaled") is False:
            here = "wrong colours, as `need_scaled` is false"
        yield Difference("need_scaled", "wrong colours: it cannot scale", wrong, here)


def _image_encoder(config: Config) -> Iterator[Difference]:
    value = config.said.get("use_image_encoder")
    if value is False and config.preset.task != "t2v":
        none = "no CLIP is loaded"
        yield Difference("use_image_encoder", none, none, "ignored: the DiT's layers decide")


def _tokenizer(config: Config) -> Iterator[Difference]:
    tokenizer, t5 = config.preset.tokenizer, config.preset.t5
    if t5 is None:
        return
    beside = t5.parent / TOKENIZER
    if tokenizer is not None and tokenizer != beside:
        there = "" if config.around.exists(beside) else ", which is not there"
        then = f"ignored: {TOKENIZER} beside the T5 file is used{there}"
        yield Difference("t5_tokenizer_path", then, USED, USED)
    elif tokenizer is None:
        now = f"{TOKENIZER} of model_path is used"
        same = f"{TOKENIZER} beside the T5 file is used"
        yield Difference("t5_tokenizer_path (absent)", same, now, same)


def _frames(config: Config) -> Iterator[Difference]:
    wanted, task = config.preset.frames, config.preset.task
    if wanted is None or wanted < 1 or wanted % 4 == 1:
        return
    rounded, unchecked = f"{wanted // 4 * 4 + 1} frames", "not checked"
    theirs = f"{rounded} for i2v, {unchecked} for t2v"
    if task is not None:
        theirs = rounded if task in ("i2v", "s2v") else unchecked
    here = f"{rounded_frames(wanted)} frames"
    if theirs != here:
        yield Difference("target_video_length", theirs, theirs, here)


def _sampling(config: Config) -> Iterator[Difference]:
    said, distilled = config.said, config.distilled
    if "denoising_step_list" in said and config.preset.sampler is None and not distilled:
        ignored = "ignored, unless `model_cls` is a distilled one"
        yield Difference("denoising_step_list", ignored, ignored, "the steps that are sampled")
    if "enable_cfg" not in said and not distilled:
        yield Difference("enable_cfg (absent)", "off", "off", "on, unless the model is distilled")
    if said.get("enable_cfg") is True and distilled:
        twice = "every step is computed twice and guided, which no distilled model was made for"
        yield Difference("enable_cfg", twice, twice, f"the same: {twice}")
    if isinstance(said.get("sample_guide_scale"), list):
        pair = "a pair, for models of two experts"
        yield Difference("sample_guide_scale", pair, pair, "the first number")
    if distilled and said.get("feature_caching") not in (None, "NoCaching"):
        stops = "it stops: distilled models have no caching"
        yield Difference("feature_caching", stops, stops, "kept: every step is computed")


def _attention(config: Config) -> Iterator[Difference]:
    keys = ATTENTION[:2] if config.preset.task == "t2v" else ATTENTION
    own = config.said.get(ATTENTION[0])
    absent = [key for key in keys if key not in config.said]
    if absent:
        stops = "it stops: there is no default"
        yield Difference(f"{', '.join(absent)} (absent)", stops, stops, "PyTorch's attention")
    for key in ATTENTION[1:]:
        value = config.said.get(key)
        if None not in (value, own) and value != own:
            yield Difference(key, USED, USED, f"ignored: {shown(own)} for all attention")
    operators = {key: str(config.said[key]) for key in keys if key in config.said}
    lacking = [key for key, name in operators.items() if not config.around.installed(name)]
    if lacking:
        stops = "it stops where the package of this operator is not installed, as here"
        yield Difference(", ".join(lacking), stops, stops, "PyTorch's attention")


def _command_line(config: Config) -> Iterator[Difference]:
    for key, option in COMMAND_LINE.items():
        if key in config.said:
            ignored = f"ignored: {option} says it"
            yield Difference(key, ignored, ignored, f"ignored: it belongs under `{OWN}`")
    own = [key for key in ("prompt", "negative_prompt", "seed", "image", "output")
           if getattr(config.preset, key) is not None]  # fmt: skip
    if own:
        flags = {"image": "--image_path", "output": "--save_result_path"} | COMMAND_LINE
        ignored = "ignored: give " + ", ".join(flags[key] for key in own)
        yield Difference(OWN, ignored, ignored, USED)


def _kept(config: Config) -> Iterator[Difference]:
    """What only LightX2V reads, and what nobody knows."""
    told = {*NEWER, *OLDER, *COMMAND_LINE, *ATTENTION, *ARCHITECTURE, *LABELS}
    told |= {name for row in RENAMED for name in (row.old, row.new)}
    told |= {"use_image_encoder"} | ({"feature_caching"} if config.distilled else set())
    for key, value in config.preset.extra.items():
        if key in told or (passed_on(key) and value in (None, False, "NoCaching")):
            continue
        if passed_on(key):
            yield Difference(key, USED, USED, KEPT)
        else:
            near = nearest(key)
            hint = f"; did you mean `{near}`?" if near else ""
            ignored = "ignored: no such key"
            yield Difference(key, ignored, ignored, f"{KEPT}{hint}")


RULES: tuple[Rule, ...] = (
    _not_strict, _renamed, _precision, _unlocated, _encoders, _loras, _tiny_vae, _image_encoder,
    _tokenizer, _sampling, _frames, _attention, *DIT_RULES, folder_configs, _newer_and_older,
    _command_line, _kept,
)  # fmt: skip
