"""What LightX2V and this app do with the same config, rule by rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.spec.architecture import DitArchitecture
from engine.spec.precision import Precision
from lightx2v_tui.catalog import Component, Kind
from lightx2v_tui.presets import parse
from lightx2v_tui.presets.keys import KEYS, PASSED_ON
from lightx2v_tui.presets.lightx2v import Difference, FolderConfig, Surroundings, differences

FP8 = "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"
#: A config that all three read the same way; each test changes one thing of it.
SAME: dict[str, Any] = {
    "model_cls": "wan2.1_distill", "task": "i2v", "enable_cfg": False,
    "dit_quantized": True, "dit_quant_scheme": "fp8-vllm", "dit_quantized_ckpt": "/m/fp8",
    "t5_quantized": False, "t5_original_ckpt": "/m/t5/t5.pth",
    "t5_tokenizer_path": "/m/t5/google/umt5-xxl",
    "vae_pth": "/m/vae.pth", "vae_path": "/m/vae.pth", "use_tiny_vae": False, "use_tae": False,
    "denoising_step_list": [1000, 750, 500, 250], "sample_shift": 5, "target_video_length": 81,
    "self_attn_1_type": "torch_sdpa", "cross_attn_1_type": "torch_sdpa",
    "cross_attn_2_type": "torch_sdpa", "dim": 128, "patch_size": [1, 2, 2],
}  # fmt: skip


SURE = Surroundings(exists=lambda _: True)


def told(around: Surroundings = SURE, **changes: object) -> dict[str, Difference]:
    """The differences of `SAME` with keys replaced; None removes a key."""
    table = {key: value for key, value in (SAME | changes).items() if value is not None}
    found = differences(parse(json.dumps(table), "p.json"), around)
    return {difference.key: difference for difference in found}


def test_a_config_in_both_spellings_means_the_same_to_all() -> None:
    assert told() == {}


#: A change, the key it is told under, and a word of what each does.
CASES: dict[str, tuple[dict[str, object], str, str, str, str]] = {
    "old VAE": ({"vae_path": None}, "vae_pth", "used", "ignored", "used"),
    "new VAE": ({"vae_pth": None}, "vae_path", "ignored", "used", "used"),
    "two VAEs": ({"vae_pth": "/m/old"}, "vae_pth", "/m/old", "/m/vae.pth", "/m/vae.pth"),
    "old tiny": (
        {"use_tiny_vae": True, "use_tae": None}, "use_tiny_vae", "used", "the full VAE", "used",
    ),
    "old tiny path": (
        {"tiny_vae_path": "/t"}, "tiny_vae_path", "used", "ignored: it is `tae_path` now", "used",
    ),
    "old chunks": ({"rotary_chunk": True}, "rotary_chunk", "used", "`rope_chunk`", "kept"),
    "new chunks": ({"rope_chunk_size": 10}, "rope_chunk_size", "ignored", "used", "kept"),
    "T5 by block": (
        {"t5_offload_granularity": "block"}, "t5_offload_granularity", "used", "ignored", "kept",
    ),
    "ratio": ({"offload_ratio": 0.5}, "offload_ratio", "used", "ignored", "kept"),
    "lazy": ({"t5_lazy_load": True}, "t5_lazy_load", "ignored", "used", "kept"),
    "mm_type alone": (
        {"dit_quantized": None, "dit_quant_scheme": None, "mm_config": {"mm_type": FP8}},
        "mm_config.mm_type", "ignored", "ignored", "the DiT is fp8",
    ),
    "scheme without flag": (
        {"dit_quantized": None}, "dit_quant_scheme", "unquantized", "unquantized", "fp8",
    ),
    "flag without scheme": (
        {"dit_quant_scheme": None, "mm_config": {"mm_type": FP8}},
        "dit_quantized", "it stops", "it stops", "fp8, from `mm_type`",
    ),
    "schemes disagree": (
        {"mm_config": {"mm_type": "Default"}}, "mm_config.mm_type", "`dit_quant_scheme` is used",
        "`dit_quant_scheme` is used", "`dit_quant_scheme` is used",
    ),
    "newer scheme": (
        {"dit_quant_scheme": "int8-triton"}, "dit_quant_scheme", "it stops", "used", "int8",
    ),
    "no scheme of theirs": (
        {"dit_quant_scheme": "fp8"}, "dit_quant_scheme", "it stops", "it stops", "fp8",
    ),
    "quantized DiT not named": (
        {"dit_quantized_ckpt": None}, "dit_quantized_ckpt (absent)", "not searched",
        "not searched", "found below model_path",
    ),
    "quantized CLIP not named": (
        {"clip_quantized": True, "clip_quant_scheme": "int8-vllm"}, "clip_quantized_ckpt (absent)",
        "one fixed name", "the guide's clip-int8.pth is not found", "found",
    ),
    "T5 by sgl": (
        {"t5_quantized": True, "t5_quant_scheme": "fp8"}, "t5_quant_scheme",
        "sgl_kernel", "sgl_kernel", "natively",
    ),
    "newer T5 scheme": (
        {"t5_quantized": True, "t5_quant_scheme": "fp8-vllm"}, "t5_quant_scheme",
        "it stops", "used", "fp8, by its own operators",
    ),
    "LoRA": (
        {"lora_configs": [{"path": "/l"}]}, "lora_configs", "it stops", "lora_dynamic_apply",
        "beside",
    ),
    "dynamic LoRA": (
        {"lora_configs": [{"path": "/l"}], "lora_dynamic_apply": True}, "lora_configs",
        "it stops", "beside", "beside",
    ),
    "lighttae": (
        {"use_tae": True, "use_tiny_vae": True, "tae_path": "/m/lighttaew2_1.pth",
         "tiny_vae_path": "/m/lighttaew2_1.pth"},
        "need_scaled", "cannot scale", "wrong colours", "told by the file's name",
    ),
    "need_scaled": ({"need_scaled": True}, "need_scaled", "ignored", "used", "used"),
    "no CLIP": (
        {"use_image_encoder": False}, "use_image_encoder", "no CLIP", "no CLIP", "ignored",
    ),
    "tokenizer elsewhere": (
        {"t5_tokenizer_path": "/else"}, "t5_tokenizer_path", "is not there", "used", "used",
    ),
    "no tokenizer": (
        {"t5_tokenizer_path": None}, "t5_tokenizer_path (absent)", "beside the T5",
        "of model_path", "beside the T5",
    ),
    "80 frames": (
        {"target_video_length": 80}, "target_video_length", "81 frames", "81 frames", "77 frames",
    ),
    "80 frames of text": (
        {"target_video_length": 80, "task": "t2v"}, "target_video_length", "not checked",
        "not checked", "77 frames",
    ),
    "80 frames of nothing": (
        {"target_video_length": 80, "task": None}, "target_video_length", "81 frames for i2v",
        "not checked for t2v", "77 frames",
    ),
    "steps of no distilled model": (
        {"model_cls": "wan2.1"}, "denoising_step_list", "ignored", "ignored", "sampled",
    ),
    "guidance not said": (
        {"model_cls": "wan2.1", "enable_cfg": None, "denoising_step_list": None},
        "enable_cfg (absent)", "off", "off", "on",
    ),
    "a pair": ({"sample_guide_scale": [3.5, 4.5]}, "sample_guide_scale", "pair", "pair", "first"),
    "caching": (
        {"feature_caching": "Tea"}, "feature_caching", "it stops", "it stops", "every step",
    ),
    "caching elsewhere": (
        {"feature_caching": "Tea", "model_cls": "wan2.1"}, "feature_caching", "used", "used",
        "kept",
    ),
    "no attention": (
        {"cross_attn_1_type": None}, "cross_attn_1_type (absent)", "it stops", "it stops",
        "PyTorch",
    ),
    "two attentions": (
        {"cross_attn_1_type": "flash_attn2"}, "cross_attn_1_type", "used", "used", "torch_sdpa",
    ),
    "prompt": ({"prompt": "x"}, "prompt", "--prompt", "--prompt", "`lightx2v_tui`"),
    "own": (
        {"lightx2v_tui": {"prompt": "x", "image": "/i", "seed": 1}}, "lightx2v_tui",
        "--prompt, --seed, --image_path", "ignored", "used",
    ),
    "passed on": ({"lazy_load": True}, "lazy_load", "used", "used", "kept"),
    "mistyped": (
        {"infer_step": 4}, "infer_step", "no such key", "no such key", "did you mean `infer_steps`",
    ),
    "unknown": ({"qqqq": 4}, "qqqq", "no such key", "no such key", "kept"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_change_is_told(case: tuple[dict[str, object], str, str, str, str]) -> None:
    changes, key, *expected = case
    around = Surroundings(exists=lambda _: False)
    found = told(around, **changes)[key]
    for what, word in zip((found.then, found.now, found.here), expected, strict=True):
        assert word in what


@pytest.mark.parametrize(
    "changes",
    [
        {"dit_quantized": False, "dit_quantized_ckpt": None, "dit_original_ckpt": "/m/original",
         "mm_config": {"mm_type": FP8}, "dit_quant_scheme": None},
        {"use_tiny_vae": None}, {"use_tae": None}, {"need_scaled": False}, {"lazy_load": False},
        {"feature_caching": "NoCaching"}, {"use_image_encoder": True}, {"lora_configs": []},
        {"use_image_encoder": False, "task": "t2v"}, {"model_size": "14b"},
        {"cross_attn_2_type": None, "task": "t2v"}, {"fps": 24}, {"enable_cfg": None},
        {"use_tae": True, "use_tiny_vae": True, "tae_path": "/m/taew2_1.pth",
         "tiny_vae_path": "/m/taew2_1.pth"},
    ],
)  # fmt: skip
def test_what_changes_nothing_is_not_told(changes: dict[str, object]) -> None:
    assert told(**changes) == {}


def test_comments_stop_lightx2v() -> None:
    found = told(Surroundings(strict=False))["the file"]
    assert "it stops" in found.then
    assert found.then == found.now


def test_the_config_of_the_model_wins_over_the_preset() -> None:
    root, fp8 = Path("/m/config.json"), Path("/m/fp8/config.json")
    around = Surroundings(
        configs=(
            FolderConfig(root, {"dim": 1, "sample_shift": 9, "patch_size": [1, 2, 2], "x": 1}),
            FolderConfig(fp8, {"dim": 2}),
        )
    )
    found = told(around, num_heads=2)
    assert set(found) == {"dim", "sample_shift"}
    assert found["dim"].then == found["dim"].now == f"2, from {fp8}"
    assert found["dim"].here == "the weights say it"
    assert found["sample_shift"].now == f"9, from {root}"
    assert found["sample_shift"].here == "5"
    heads = told(Surroundings(configs=(FolderConfig(root, {"num_heads": 4}),)), num_heads=2)
    assert "config.json beside the DiT" in heads["num_heads"].here


def test_a_config_of_the_model_that_is_broken_stops_lightx2v() -> None:
    path = Path("/m/config.json")
    found = told(Surroundings(configs=(FolderConfig(path, broken="it is not JSON"),)))
    assert "it is not JSON" in found[str(path)].now


def test_sizes_that_nobody_says_stop_lightx2v() -> None:
    sizes = {"ffn_dim": 1, "freq_dim": 1, "in_dim": 1, "num_heads": 1, "num_layers": 1}
    (found,) = told(model_path="/m", **sizes).values()
    assert found.key == "eps (absent)"
    around = Surroundings(configs=(FolderConfig(Path("/m/config.json"), {"eps": 1e-6}),))
    assert told(around, model_path="/m", **sizes) == {}


def test_the_order_of_differences_is_the_same_every_time() -> None:
    keys = dict.fromkeys(sorted(PASSED_ON - set(KEYS)), "x")
    assert list(told(**keys)) == list(told(**keys))
    assert all("no such key" not in found.then for found in told(**keys).values())


T2V = DitArchitecture(
    dim=128, ffn_dim=256, num_heads=1, num_layers=1, in_dim=16, out_dim=16, text_dim=8, freq_dim=8
)
I2V = replace(T2V, in_dim=36, image_dim=8)


def around_dit(architecture: DitArchitecture = I2V, **facts: str) -> Surroundings:
    dit = Component(Kind.DIT, (Path("/m/dit.safetensors"),), 1, "file", "bf16", Precision.BF16)
    return replace(SURE, dit=replace(dit, architecture=architecture, **facts))


def test_a_dit_that_is_what_the_preset_says_is_not_told() -> None:
    assert told(around_dit()) == {}
    assert told(around_dit(T2V), task="t2v") == {}
    assert told(around_dit(), task=None) == {}
    wan22 = around_dit(replace(T2V, out_dim=48, in_dim=48))
    assert told(wan22, model_cls="wan2.2", denoising_step_list=None) == {}


def test_a_task_that_the_dit_has_not_is_told() -> None:
    found = told(around_dit(T2V))["task"]
    assert found.then == found.now == "it runs as i2v, whose inputs do not fit this DiT"
    assert found.here.startswith("t2v")


@pytest.mark.parametrize(
    ("model_cls", "expert", "family"),
    [("wan2.2_moe", "", "wan2.1"), ("wan2.1", "high", "wan2.2"), ("hunyuan", "", "wan2.1")],
)
def test_another_family_than_the_dits_is_told(model_cls: str, expert: str, family: str) -> None:
    around = around_dit(expert=expert)
    found = told(around, model_cls=model_cls, denoising_step_list=None)["model_cls"]
    assert model_cls in found.then
    assert found.then == found.now
    assert found.here.startswith(family)


@pytest.mark.parametrize("style", ["comfyui", "prefixed", "diffusers"])
def test_names_that_lightx2v_does_not_read_are_told(style: str) -> None:
    found = told(around_dit(style=style))["dit_quantized_ckpt"]
    assert "it stops" in found.then
    assert found.then == found.now
    assert found.here.startswith("read")
    assert told(around_dit(style="wan")) == {}


def test_guidance_of_a_distilled_model_is_told() -> None:
    found = told(enable_cfg=True)["enable_cfg"]
    assert "twice" in found.then
    assert "twice" in found.here
    assert told(enable_cfg=True, model_cls="wan2.1", denoising_step_list=None) == {}


def test_an_attention_that_is_not_installed_is_told() -> None:
    around = replace(SURE, installed=lambda name: name != "sage_attn2")
    names = dict.fromkeys(("self_attn_1_type", "cross_attn_1_type"), "sage_attn2")
    (found,) = told(around, **names, cross_attn_2_type=None, task="t2v").values()
    assert found.key == "self_attn_1_type, cross_attn_1_type"
    assert "not installed" in found.now
    assert "PyTorch" in found.here
