"""The keys of LightX2V's config: which field of a preset each fills, and what it may hold.

Where LightX2V renamed a key between October 2025 and August 2026 both spellings are listed, the
newest last: it wins when they disagree.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.spec.job import Lora
from lightx2v_tui.paths import expanded

OWN = "lightx2v_tui"


def plain(value: object) -> object:
    """The JSON of a field's value."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Lora):
        return {"path": str(value.path), "strength": value.strength}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class ValueKind:
    """A kind of JSON value; `convert` gives None where a value is not of it."""

    expected: str
    convert: Callable[[object], object]

    def write(self, value: object, before: object) -> object:
        """The JSON of `value`: as it stood `before`, where that says the same."""
        same = before is not None and self.convert(before) == value
        return before if same else plain(value)


@dataclass(frozen=True)
class PathKind(ValueKind):
    """A path is written in full: LightX2V knows no `~`."""

    def write(self, value: object, before: object) -> object:  # noqa: ARG002 - as the others
        """The JSON of a path."""
        return plain(value)


@dataclass(frozen=True)
class LoraKind(ValueKind):
    """A LoRA keeps what else its entry says, such as the `name` of an expert."""

    def write(self, value: object, before: object) -> object:
        """The JSON of LoRAs, each in the words it had."""
        assert isinstance(value, tuple)
        entries = list(before) if isinstance(before, list) else []
        written = []
        for lora in value:
            entry = next((entry for entry in entries if _lora(entry) == lora), None)
            if entry is None:
                written.append(plain(lora))
            else:
                entries.remove(entry)
                written.append({**entry, "path": str(lora.path)})
        return written


def _path(value: object) -> Path | None:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return None
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half a character, which no file name holds
        return None
    path = expanded(Path(value))
    return None if str(path).startswith("~") else path  # nobody's home


def _integer(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 1 << 63 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e9 else None


def _integers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not 0 < len(value) <= 1000:
        return None
    return tuple(value) if all(_integer(item) is not None for item in value) else None


def _guidance(value: object) -> float | None:
    """A number, or the [high, low] pair of two-expert models, of which the first counts here."""
    if not isinstance(value, list):
        return _number(value)
    numbers = [_number(item) for item in value]
    return numbers[0] if len(numbers) == 2 and None not in numbers else None


def _loras(value: object) -> tuple[Lora, ...] | None:
    if not isinstance(value, list):
        return None
    loras = [_lora(item) for item in value]
    return None if None in loras else tuple(lora for lora in loras if lora is not None)


def _lora(item: object) -> Lora | None:
    if not isinstance(item, dict):
        return None
    path, strength = _path(item.get("path")), _number(item.get("strength", 1.0))
    return None if path is None or strength is None else Lora(path, strength)


TEXT = ValueKind("a text", lambda value: value if isinstance(value, str) else None)
PATH = PathKind("a path", _path)
FLAG = ValueKind("true or false", lambda value: value if isinstance(value, bool) else None)
INTEGER = ValueKind("a whole number", _integer)
INTEGERS = ValueKind("a list of whole numbers", _integers)
NUMBER = ValueKind("a number", _number)
LORAS = LoraKind('a list of {"path": …, "strength": …}', _loras)
GUIDANCE = ValueKind("a number or a pair of numbers", _guidance)


@dataclass(frozen=True)
class Key:
    """Where a key's value goes, and what kind of value it takes."""

    field: str
    kind: ValueKind


KEYS = {
    "model_cls": Key("model_cls", TEXT),
    "task": Key("task", TEXT),
    "model_path": Key("model_path", PATH),
    "dit_original_ckpt": Key("dit_original", PATH),
    "dit_quantized": Key("dit_quantized", FLAG),
    "dit_quantized_ckpt": Key("dit_quantized_path", PATH),
    "dit_quant_scheme": Key("dit_scheme", TEXT),
    "t5_original_ckpt": Key("t5_original", PATH),
    "t5_quantized": Key("t5_quantized", FLAG),
    "t5_quantized_ckpt": Key("t5_quantized_path", PATH),
    "t5_quant_scheme": Key("t5_scheme", TEXT),
    "t5_tokenizer_path": Key("tokenizer", PATH),
    "clip_original_ckpt": Key("clip_original", PATH),
    "clip_quantized": Key("clip_quantized", FLAG),
    "clip_quantized_ckpt": Key("clip_quantized_path", PATH),
    "clip_quant_scheme": Key("clip_scheme", TEXT),
    "vae_pth": Key("vae", PATH),
    "vae_path": Key("vae", PATH),
    "tiny_vae_path": Key("tiny_vae", PATH),
    "tae_path": Key("tiny_vae", PATH),
    "use_tiny_vae": Key("use_tiny_vae", FLAG),
    "use_tae": Key("use_tiny_vae", FLAG),
    "infer_steps": Key("infer_steps", INTEGER),
    "denoising_step_list": Key("timesteps", INTEGERS),
    "sample_shift": Key("shift", NUMBER),
    "enable_cfg": Key("enable_cfg", FLAG),
    "sample_guide_scale": Key("guidance_scale", GUIDANCE),
    "target_width": Key("width", INTEGER),
    "target_height": Key("height", INTEGER),
    "target_video_length": Key("frames", INTEGER),
    "fps": Key("fps", INTEGER),
    "lora_configs": Key("loras", LORAS),
    "cpu_offload": Key("cpu_offload", FLAG),
    "t5_cpu_offload": Key("t5_cpu_offload", FLAG),
    "clip_cpu_offload": Key("clip_cpu_offload", FLAG),
    "vae_cpu_offload": Key("vae_cpu_offload", FLAG),
    "unload_modules": Key("unload_modules", FLAG),
    "use_tiling_vae": Key("use_tiling_vae", FLAG),
    "need_scaled": Key("tiny_vae_denormalized", FLAG),
    "self_attn_1_type": Key("attention", TEXT),
}
MM_TYPE = Key("mm_type", TEXT)  # the guide's `mm_config.mm_type`
MM_KEYS = ("mm_type", "weight_auto_quant")
OWN_KEYS = {
    "prompt": Key("prompt", TEXT),
    "negative_prompt": Key("negative_prompt", TEXT),
    "seed": Key("seed", INTEGER),
    "random_seed": Key("random_seed", FLAG),
    "output": Key("output", PATH),
    "image": Key("image", PATH),
    "sampler": Key("sampler", TEXT),
    "batched_guidance": Key("batched_guidance", FLAG),
    "preview": Key("preview", TEXT),
}
#: Each renamed key and its other spelling.
SPELLINGS = {
    name: tuple(other for other, same in KEYS.items() if same == key and other != name)
    for name, key in KEYS.items()
    if sum(same == key for same in KEYS.values()) > 1
}
#: What LightX2V reads of a DiT's sizes, as this app writes it.
ARCHITECTURE = (
    "dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "eps",
    "text_len", "patch_size", "vae_stride", "num_channels_latents",
)  # fmt: skip
#: Keys of LightX2V that this app passes on without reading them.
PASSED_ON = frozenset({
    *ARCHITECTURE, "clip_attn_type", "downsample_factor", "dummy_model", "layer_norm_type",
    "lightvae_encoder_vae_pth", "lightvae_pruning_rate", "modulate_type",
    "residual_diff_threshold", "rms_norm_type", "rope_type", "changing_resolution_steps",
    "vae_weight_dtype",
    "_class_name", "adapter_model_path", "attention_type", "boundary", "boundary_step_index",
    "changing_resolution", "clean_cuda_cache", "coefficients", "config_json",
    "cross_attn_1_type", "cross_attn_2_type", "feature_caching",
    "high_noise_original_ckpt", "high_noise_quantized_ckpt", "image_path",
    "lazy_load", "lora_dynamic_apply", "low_noise_original_ckpt",
    "low_noise_quantized_ckpt", "magcache_thresh", "model_size", "model_type",
    "negative_prompt", "num_disk_workers",
    "offload_granularity", "offload_ratio", "parallel", "prompt", "resize_mode",
    "resolution", "resolution_rate", "rope_chunk", "rope_chunk_size", "rotary_chunk",
    "rotary_chunk_size", "save_result_path", "scheduler_type", "seed",
    "t5_lazy_load", "t5_offload_granularity", "target_fps", "teacache_thresh",
    "text_dim", "use_31_block", "use_compile", "use_image_encoder",
    "use_lightvae", "use_ret_steps", "vae_dtype", "vae_name",
    "vae_type", "video_frame_interpolation", "video_super_resolution", "weight_auto_quant",
})  # fmt: skip


def passed_on(key: str) -> bool:
    """True for keys that LightX2V reads and this app does not."""
    return key in PASSED_ON or key.startswith("magcache_") or key.endswith("_setting")


def nearest(key: str, known: Iterable[str] = (*KEYS, *sorted(PASSED_ON), "mm_config", OWN)) -> str:
    """The known key that a mistyped one is most like; empty where it is like none."""
    near = difflib.get_close_matches(key.lower()[:80], known, n=1)
    return near[0] if near else ""
