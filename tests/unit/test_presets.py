"""Presets: what the guide prints is understood, and what is written is read back the same."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.demo import DIT
from engine.spec.job import Lora
from engine.spec.precision import Precision
from lightx2v_tui.presets import (
    Preset,
    PresetError,
    dumps,
    is_own,
    parse,
    read,
    save,
    to_json,
    with_values,
)
from lightx2v_tui.presets.keys import ARCHITECTURE, KEYS, OWN, OWN_KEYS, SPELLINGS

FP8, INT8, BF16 = Precision.FP8, Precision.INT8, Precision.BF16

#: Every ```json snippet of the guide, in its order, and what it means.
GUIDE = {
    "using a quantized model": (
        """{
    "mm_config": {
        "mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"
    },                              // DIT model quantization scheme
    "t5_quantized": true,           // Enable T5 quantization
    "t5_quant_scheme": "fp8",       // T5 quantization mode
    "clip_quantized": true,         // Enable CLIP quantization
    "clip_quant_scheme": "fp8"      // CLIP quantization mode
}""",
        Preset(dit_precision=FP8, t5_precision=FP8, clip_precision=FP8),
    ),
    "only fp8 downloaded, with a trailing comma": (
        """{
    "mm_config": {
        "mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"
    },                              // DIT quantization scheme
    "t5_quantized": true,           // Whether to use T5 quantized version
    "t5_quant_scheme": "fp8",       // T5 quantization mode
    "clip_quantized": true,         // Whether to use CLIP quantized version
    "clip_quant_scheme": "fp8",     // CLIP quantization mode
}""",
        Preset(dit_precision=FP8, t5_precision=FP8, clip_precision=FP8),
    ),
    "fp8 DiT, original T5 and CLIP": (
        """{
    "mm_config": {
        "mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"
    },                              // DIT quantization scheme
    "t5_original_ckpt": "/path/to/models_t5_umt5-xxl-enc-bf16.pth",
    "clip_original_ckpt": "/path/to/models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
}""",
        Preset(
            dit_precision=FP8,
            t5=Path("/path/to/models_t5_umt5-xxl-enc-bf16.pth"),
            t5_precision=BF16,
            clip=Path("/path/to/models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"),
            clip_precision=BF16,
        ),
    ),
    "DiT by hand": (
        """{
    "dit_quantized_ckpt": "/path/to/dit_quantized_ckpt",    // DIT quantized weights path
    "dit_original_ckpt": "/path/to/dit_original_ckpt",      // DIT original precision weights path
    "mm_config": {
        "mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"  // DIT matrix multiplication operator type, specify as "Default" when not quantized
    }
}""",  # noqa: E501 - as printed
        Preset(dit=Path("/path/to/dit_quantized_ckpt"), dit_precision=FP8),
    ),
    "T5 by hand": (
        """{
    "t5_quantized_ckpt": "/path/to/t5_quantized_ckpt",      // T5 quantized weights path
    "t5_original_ckpt": "/path/to/t5_original_ckpt",        // T5 original precision weights path
    "t5_quantized": true,                                   // Whether to enable T5 quantization
    "t5_quant_scheme": "fp8"                                // T5 quantization mode, only effective when t5_quantized is true
}""",  # noqa: E501 - as printed
        Preset(t5=Path("/path/to/t5_quantized_ckpt"), t5_precision=FP8),
    ),
    "CLIP by hand": (
        """{
    "clip_quantized_ckpt": "/path/to/clip_quantized_ckpt",  // CLIP quantized weights path
    "clip_original_ckpt": "/path/to/clip_original_ckpt",    // CLIP original precision weights path
    "clip_quantized": true,                                 // Whether to enable CLIP quantization
    "clip_quant_scheme": "fp8"                              // CLIP quantization mode, only effective when clip_quantized is true
}""",  # noqa: E501 - as printed
        Preset(clip=Path("/path/to/clip_quantized_ckpt"), clip_precision=FP8),
    ),
    "VAE by hand": (
        """{
    "vae_pth": "/path/to/Wan2.1_VAE.pth",                   // Original VAE model path
    "use_tiny_vae": true,                                   // Whether to use lightweight VAE
    "tiny_vae_path": "/path/to/taew2_1.pth"                 // Lightweight VAE model path
}""",
        Preset(
            vae=Path("/path/to/Wan2.1_VAE.pth"),
            use_tiny_vae=True,
            tiny_vae=Path("/path/to/taew2_1.pth"),
        ),
    ),
}
FULL = Preset(
    model_cls="wan2.1_distill",
    task="t2v",
    model_path=Path("/m"),
    dit=Path("/m/distill_fp8"),
    dit_precision=FP8,
    t5=Path("/m/t5.pth"),
    t5_precision=INT8,
    tokenizer=Path("/m/google/umt5-xxl"),
    clip=Path("/m/clip.pth"),
    clip_precision=BF16,
    vae=Path("/m/vae.pth"),
    tiny_vae=Path("/m/tae.pth"),
    use_tiny_vae=False,
    infer_steps=4,
    timesteps=(1000, 750, 500, 250),
    shift=5.0,
    enable_cfg=False,
    guidance_scale=6.0,
    width=832,
    height=480,
    frames=81,
    fps=16,
    prompt='a "fox" // ünder\n<b>snow</b>',
    negative_prompt="",
    seed=42,
    output=Path("/out/a.mp4"),
    extra={"cross_attn_1_type": "torch_sdpa", "feature_caching": "Tea", "mine": [1, {"a": None}]},
)


def parsed(table: object, *assignments: str) -> Preset:
    return parse(json.dumps(table), "p.json", assignments)


def without_notes(preset: Preset) -> Preset:
    return replace(preset, notes=())


def settled(text: str) -> str:
    """What is written after reading a text, which must be the same when it is read again."""
    written = dumps(parse(text, "p.json"))
    assert dumps(parse(written, "p.json")) == written
    return written


def refused(text: str, *assignments: str) -> PresetError:
    with pytest.raises(PresetError) as caught:
        parse(text, "p.json", assignments)
    return caught.value


@pytest.mark.parametrize(("text", "meaning"), GUIDE.values(), ids=GUIDE)
def test_each_snippet_of_the_guide_is_understood(text: str, meaning: Preset) -> None:
    assert parse(text, "guide.json") == meaning


def test_the_snippets_are_all_that_the_guide_prints() -> None:
    guide = Path(__file__).parents[3] / "shared" / "reference" / "model-structure-guide.md"
    if not guide.exists():
        pytest.skip("the guide is not here")
    printed = [part.split("```")[0].strip() for part in guide.read_text().split("```json")[1:]]
    assert printed == [text for text, _ in GUIDE.values()]


@pytest.mark.parametrize("preset", [Preset(), FULL, *(meaning for _, meaning in GUIDE.values())])
def test_what_is_written_is_read_back_the_same(preset: Preset) -> None:
    assert without_notes(parsed(to_json(preset))) == preset


@pytest.mark.parametrize(
    "table",
    [
        {"dit_quantized_ckpt": "/m/fp8"},
        {"dit_quantized_ckpt": "/m/fp8", "dit_quantized": True},
        {"dit_original_ckpt": "/m/original"},
        {"t5_quantized_ckpt": "/m/t5.pth"},
        {"clip_quantized_ckpt": "/m/clip.pth"},
        {"t5_original_ckpt": "/m/t5.pth", "t5_quantized": False},
        {"t5_quantized": True, "t5_quant_scheme": "int8-vllm"},
        {"sample_guide_scale": [3.5, 4.5]},
    ],
    ids=lambda table: "+".join(table),
)
def test_what_was_read_survives_writing_and_reading(table: dict[str, object]) -> None:
    once = parsed(table)
    assert without_notes(parsed(to_json(once))) == without_notes(once)


def test_the_architecture_is_written_for_lightx2v() -> None:
    table = to_json(replace(FULL, architecture=DIT))
    expected = {
        "dim": 128, "ffn_dim": 256, "freq_dim": 256, "in_dim": 16, "out_dim": 16, "num_heads": 2,
        "num_layers": 4, "text_len": 512, "patch_size": [1, 2, 2], "vae_stride": [4, 8, 8],
        "num_channels_latents": 16, "eps": 1e-6,
    }  # fmt: skip
    assert {key: table[key] for key in expected} == expected
    assert to_json(replace(parsed(table), architecture=DIT)) == table


def test_everything_is_written_in_both_spellings() -> None:
    table = to_json(FULL)
    pairs = {
        "vae_pth": "vae_path", "use_tiny_vae": "use_tae", "tiny_vae_path": "tae_path",
    }  # fmt: skip
    for old, new in pairs.items():
        assert table[old] == table[new]
        assert SPELLINGS[old] == (new,)
    assert table["dit_quantized"] is True
    assert table["dit_quant_scheme"] == "fp8-vllm"
    assert table["mm_config"] == {"mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"}
    assert "dit_original_ckpt" not in table
    plain = to_json(Preset(dit=Path("/m"), dit_precision=BF16))
    assert plain["dit_quantized"] is False
    assert plain["mm_config"] == {"mm_type": "Default"}
    assert plain["dit_original_ckpt"] == "/m"


@pytest.mark.parametrize("key", sorted(SPELLINGS))
def test_either_spelling_alone_is_enough(key: str) -> None:
    table = to_json(FULL)
    for other in SPELLINGS[key]:
        del table[other]
    assert without_notes(parsed(table)) == FULL


def test_the_apps_own_values_stand_under_one_key() -> None:
    table = to_json(FULL)
    own = table[OWN]
    assert isinstance(own, dict)
    assert set(OWN_KEYS) >= set(own) == {"prompt", "negative_prompt", "seed", "output"}
    assert not set(own) & set(table)


def test_all_written_keys_are_known_when_read_back() -> None:
    table = to_json(replace(FULL, architecture=DIT, extra={}))
    assert parsed(table).notes == ()


@pytest.mark.parametrize(
    ("mm_type", "precision"),
    [
        ("Default", BF16), ("Default-Force-FP32", BF16),
        ("W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Sgl", FP8),
        ("W-int8-channel-sym-A-int8-channel-sym-dynamic-Q8F", INT8),
        ("W-int8-channel-sym-A-int8-channel-sym-dynamic-Sgl-ActVllm", INT8),
    ],
)  # fmt: skip
def test_mm_type_says_the_precision(mm_type: str, precision: Precision) -> None:
    assert parsed({"mm_config": {"mm_type": mm_type}}).dit_precision is precision
    assert parsed({"dit_quantized": True, "mm_config": {"mm_type": mm_type}}).dit_precision is (
        precision
    )


def test_dit_quantized_false_outweighs_the_schemes() -> None:
    table = {"dit_quantized": False, "dit_quant_scheme": "fp8", "dit_original_ckpt": "/o"}
    assert parsed(table).dit_precision is BF16
    assert parsed(table).dit == Path("/o")


@pytest.mark.parametrize("scheme", ["nvfp4", "gguf-Q4_K_S", "mxfp4", "W-nvfp4-Calib", "", "fp16"])
def test_a_scheme_this_engine_does_not_compute_is_refused(scheme: str) -> None:
    error = refused(json.dumps({"dit_quant_scheme": scheme}))
    assert "dit_quant_scheme" in error.what
    assert "fp8 or int8" in error.why
    assert scheme in error.why


@pytest.mark.parametrize("kind", ["t5", "clip"])
@pytest.mark.parametrize("scheme", [None, "bf16", "Default", 8])
def test_a_quantized_encoder_needs_a_scheme(kind: str, scheme: object) -> None:
    table = {f"{kind}_quantized": True, f"{kind}_quant_scheme": scheme}
    assert f"{kind}_quant_scheme" in refused(json.dumps(table)).what


WRONG = {
    "model_cls": 5, "model_path": "", "dit_quantized": "true", "t5_quantized": 1, "vae_path": 3,
    "tae_path": "a\0b", "use_tae": "yes", "infer_steps": 4.0, "denoising_step_list": [1000, "750"],
    "sample_shift": "5", "enable_cfg": 0, "sample_guide_scale": [], "target_width": "832",
    "target_video_length": True, "fps": [16], "dit_quant_scheme": False, "mm_config": "fp8",
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG.items(), ids=WRONG)
def test_a_wrong_value_says_file_line_key_expected_and_got(key: str, value: object) -> None:
    text = f'{{\n  // "{key}": 1\n  "task": "t2v",\n  "{key}": {json.dumps(value)}\n}}'
    error = refused(text)
    assert error.what == f"p.json, line 4: `{key}` has a wrong value"
    assert error.why.startswith("expected ")
    assert error.why.endswith(f"got {json.dumps(value)}")
    assert key in error.fix


@pytest.mark.parametrize("value", [["W-fp8"], {"fp8": 1}, 8, True])
def test_a_scheme_that_is_no_text_is_refused(value: object) -> None:
    assert "mm_type" in refused(json.dumps({"mm_config": {"mm_type": value}})).what


@pytest.mark.parametrize("key", ["sample_shift", "fps", "target_height", "sample_guide_scale"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400])
def test_numbers_that_are_no_numbers_are_refused(key: str, number: str) -> None:
    assert key in refused(f'{{"{key}": {number}}}').what


def test_a_wrong_value_of_the_apps_own_is_found_on_its_own_line() -> None:
    error = refused('{\n"seed": 1,\n"lightx2v_tui": {\n"seed": "x"}\n}')
    assert error.what == "p.json, line 4: `seed` has a wrong value"


@pytest.mark.parametrize("text", ["[]", "5", '"text"', "null", "true"])
def test_what_is_no_object_is_refused(text: str) -> None:
    assert "JSON object" in refused(text).what


def test_what_is_no_json_says_its_line() -> None:
    assert refused('{\n"fps": 16\n"task": "t2v"\n}').what.startswith("p.json, line 3:")


def test_a_home_folder_of_nobody_is_refused_in_words() -> None:
    assert "vae_path" in refused('{"vae_path": "~nosuchuser-x/vae.pth"}').what


def test_home_is_expanded(own_home: Path) -> None:
    assert parsed({"vae_path": "~/vae.pth"}).vae == own_home / "vae.pth"


def test_null_means_that_nothing_is_said() -> None:
    assert parsed(dict.fromkeys(KEYS)) == Preset()


def test_unknown_keys_are_kept_and_written_back() -> None:
    table = {"future_key": {"a": [1, None]}, "feature_caching": "Tea", "fps": 24}
    preset = parsed(table)
    assert preset.extra == {"future_key": {"a": [1, None]}, "feature_caching": "Tea"}
    assert to_json(preset) == {**table, OWN: {}}


@pytest.mark.parametrize(
    "table",
    [
        {"mm_config": {"mm_type": "Default", "future": 1}},
        {"lightx2v_tui": {"seed": 1, "future": 1}},
    ],
    ids=["mm_config", "own"],
)
def test_unknown_keys_in_known_tables_are_kept(table: dict[str, dict[str, object]]) -> None:
    written = to_json(parsed(table))
    for name, inner in table.items():
        found = written[name]
        assert isinstance(found, dict)
        assert found.items() >= inner.items()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("infer_step", "infer_steps"), ("sample_shfit", "sample_shift"), ("vae_pht", "vae_pth"),
        ("use_tiny_vea", "use_tiny_vae"), ("cpu_ofload", "cpu_offload"),
    ],
)  # fmt: skip
def test_a_mistyped_key_is_noted_with_the_nearest_known_one(key: str, near: str) -> None:
    (note,) = parse(f'{{\n"{key}": 1\n}}', "p.json").notes
    assert note.startswith("p.json, line 2:")
    assert f"`{key}`" in note
    assert f"`{near}`" in note


def test_an_unknown_key_like_no_other_gets_no_advice() -> None:
    (note,) = parsed({"qqqqqq": 1}).notes
    assert "did you mean" not in note


def test_keys_of_lightx2v_that_are_passed_on_are_not_noted() -> None:
    table = {"cpu_offload": True, "lora_configs": [], "feature_caching": "Tea", "text_len": 512}
    assert parsed(table).notes == ()


@pytest.mark.parametrize(
    ("old", "new", "field", "values"),
    [
        ("vae_pth", "vae_path", "vae", ("/old", "/new")),
        ("tiny_vae_path", "tae_path", "tiny_vae", ("/old", "/new")),
        ("use_tiny_vae", "use_tae", "use_tiny_vae", (False, True)),
    ],
)
def test_spellings_that_disagree_are_noted_and_the_newest_wins(
    old: str, new: str, field: str, values: tuple[object, object]
) -> None:
    for table in ({old: values[0], new: values[1]}, {new: values[1], old: values[0]}):
        preset = parsed(table)
        assert str(getattr(preset, field)) == str(values[1])
        (note,) = preset.notes
        assert old in note
        assert f"`{new}` is used" in note
    assert parsed({old: values[0], new: values[0]}).notes == ()


def test_schemes_that_disagree_are_noted() -> None:
    table = {"dit_quant_scheme": "fp8-vllm", "mm_config": {"mm_type": "W-int8-A-int8"}}
    assert parsed(table).dit_precision is FP8
    assert any("mm_type" in note for note in parsed(table).notes)


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("fps=24", "fps", 24),
        (" fps =24", "fps", 24),
        ("task=i2v", "task", "i2v"),
        ('task="i2v"', "task", "i2v"),
        ("use_tiny_vae=true", "use_tiny_vae", True),
        ("use_tae=true", "use_tiny_vae", True),
        ("vae_pth=/a=b", "vae", Path("/a=b")),
        ("denoising_step_list=[1000, 500]", "timesteps", (1000, 500)),
        ("mm_config.mm_type=W-int8-A-int8-Vllm", "dit_precision", INT8),
        ("dit_quant_scheme=int8-vllm", "dit_precision", INT8),
        ("lightx2v_tui.prompt=a cat", "prompt", "a cat"),
        ("lightx2v_tui.seed=7", "seed", 7),
        ("sample_shift=null", "shift", None),
    ],
)
def test_an_assignment_replaces_a_key_of_the_file(
    assignment: str, field: str, value: object
) -> None:
    assert getattr(parsed(to_json(FULL), assignment), field) == value


def test_assignments_work_on_an_empty_preset_and_the_last_wins() -> None:
    preset = parse("{}", "p.json", ("fps=1", "fps=2", "lightx2v_tui.seed=3", "a.b.c=[4]"))
    assert (preset.fps, preset.seed, preset.extra) == (2, 3, {"a": {"b": {"c": [4]}}})


@pytest.mark.parametrize("assignment", ["fps", "=5", " =5", "", "fps.x=5"])
def test_an_assignment_that_cannot_be_is_refused(assignment: str) -> None:
    assert assignment in refused('{"fps": 16}', assignment).what


def test_an_assignment_of_a_wrong_kind_is_refused_by_key() -> None:
    assert "`fps`" in refused('{"fps": 16}', "fps=fast").what


@pytest.mark.timeout(5)
def test_many_unknown_keys_are_read_in_a_moment() -> None:
    text = json.dumps({f"key_{number}": number for number in range(3000)}, indent=1)
    notes = parse(text, "p.json").notes
    assert len(notes) == 21
    assert notes[-1] == "p.json: 2980 more keys are not known and kept"


def test_read_takes_a_byte_order_mark_and_says_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(b'\xef\xbb\xbf{"fps": 24}')
    assert read(path, ("lightx2v_tui.seed=5",)) == Preset(fps=24, seed=5)
    for content in (b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}'):
        path.write_bytes(content)
        with pytest.raises(PresetError, match=r"p\.json cannot be read"):
            read(path)
    with pytest.raises(PresetError, match=r"No such file"):
        read(tmp_path / "gone.json")
    with pytest.raises(PresetError, match="cannot be read"):
        read(tmp_path)


def test_a_file_that_is_no_preset_for_its_size_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(b" " * 4_000_001)
    with pytest.raises(PresetError, match="too large"):
        read(path)


def test_saved_presets_are_json_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.json"
    save(FULL, path)
    assert json.loads(path.read_text(encoding="utf-8")) == to_json(FULL)
    assert without_notes(read(path)) == FULL


@pytest.mark.parametrize("text", ["\udcff", "a\ud800b"])
def test_text_that_utf8_cannot_hold_does_not_break_saving(tmp_path: Path, text: str) -> None:
    save(replace(FULL, prompt=text), tmp_path / "p.json")
    assert read(tmp_path / "p.json").fps == FULL.fps


def test_with_values_keeps_what_is_not_given() -> None:
    assert with_values(FULL, seed=None, prompt="x") == replace(FULL, prompt="x")
    assert with_values(FULL, negative_prompt="", seed=0).seed == 0


#: What people write, in their own words, and every word of it must be there afterwards.
WORDS = {
    "a pair": {"sample_guide_scale": [3.5, 4.5]},
    "an equal pair": {"sample_guide_scale": [3.5, 3.5]},
    "a whole number": {"sample_shift": 5, "sample_guide_scale": 6},
    "a fraction": {"sample_shift": 5.0},
    "LoRAs": {
        "lora_configs": [
            {"name": "high_noise_model", "path": "/l/a", "strength": 1, "alpha": None},
            {"path": "/l/b"},
            {"path": "/l/a", "strength": 1.0, "name": "low_noise_model"},
        ]
    },
    "both DiTs": {
        "dit_quantized_ckpt": "/q", "dit_original_ckpt": "/o",
        "mm_config": {"mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"},
    },
    "both T5s": {
        "t5_original_ckpt": "/o", "t5_quantized": True, "t5_quantized_ckpt": "/q",
        "t5_quant_scheme": "fp8-q8f",
    },
    "an operator": {"dit_quantized": True, "dit_quant_scheme": "int8-torchao"},
    "a flag alone": {"dit_quantized": True},
    "a scheme that is switched off": {"dit_quantized": False, "dit_quant_scheme": "fp8-sgl"},
    "schemes that disagree": {"dit_quant_scheme": "fp8", "mm_config": {"mm_type": "int8"}},
    "sizes": {"patch_size": [1, 2, 2], "vae_stride": [4, 16, 16], "dim": 3072, "eps": 1e-06},
    "tables": {"parallel": {"seq_p_size": 2, "cfg_p_size": None}, "mm_config": {"z": 1, "a": [2]}},
}  # fmt: skip


@pytest.mark.parametrize("table", WORDS.values(), ids=WORDS)
def test_every_word_of_a_file_survives(table: dict[str, object]) -> None:
    written = json.loads(settled(json.dumps(table)))
    for key, value in table.items():
        if isinstance(value, dict):
            assert written[key].items() >= value.items()
        else:
            assert json.dumps(written[key]) == json.dumps(value)


@pytest.mark.parametrize("text", [text for text, _ in GUIDE.values()], ids=GUIDE)
def test_the_snippets_of_the_guide_keep_their_paths(text: str) -> None:
    written = settled(text)
    for path in re.findall(r'"(/path/to/[^"]+)"', text):
        assert path in written


def test_unknown_keys_keep_their_order() -> None:
    names = ["zebra", "fps", "apple", "parallel", "mango", "vae_path", "Zoo"]
    written = json.loads(settled(json.dumps(dict.fromkeys(names, "x") | {"fps": 1})))
    assert [key for key in written if key in names and key not in KEYS] == [
        name for name in names if name not in KEYS
    ]


def test_the_operator_of_mm_type_is_the_one_that_lightx2v_is_told() -> None:
    table = to_json(parsed({"mm_config": {"mm_type": "W-int8-channel-sym-A-int8-Q8F"}}))
    assert table["dit_quant_scheme"] == "int8-q8f"
    assert table["dit_quantized"] is True
    table = to_json(parsed({"dit_quantized": True, "dit_quant_scheme": "fp8-sgl"}))
    assert str(table["mm_config"]).endswith("-Sgl'}")


def test_a_value_that_is_changed_is_not_written_in_its_old_words() -> None:
    table = {
        "sample_guide_scale": [3.5, 4.5], "sample_shift": 5, "t5_quantized": True,
        "t5_quant_scheme": "fp8-q8f", "t5_quantized_ckpt": "/q", "t5_original_ckpt": "/o",
        "dit_quantized": True, "dit_quant_scheme": "fp8-sgl", "dit_quantized_ckpt": "/d",
        "lora_configs": [{"path": "/l", "strength": 1, "name": "high_noise_model"}],
    }  # fmt: skip
    loras = (Lora(Path("/l"), 1.0), Lora(Path("/new"), 0.5))
    preset = replace(parsed(table), guidance_scale=4.0, shift=3.0, t5_precision=INT8,
                     t5=Path("/int8"), dit=Path("/other"), loras=loras)  # fmt: skip
    written = to_json(preset)
    assert written["sample_guide_scale"] == 4.0
    assert written["sample_shift"] == 3.0
    assert written["t5_quant_scheme"] == "int8"
    assert written["t5_quantized_ckpt"] == "/int8"
    assert "t5_original_ckpt" not in written
    assert written["dit_quant_scheme"] == "fp8-sgl"  # only its folder was changed
    assert written["dit_quantized_ckpt"] == "/other"
    assert written["lora_configs"] == [
        {"path": "/l", "strength": 1, "name": "high_noise_model"},
        {"path": "/new", "strength": 0.5},
    ]
    removed = to_json(replace(parsed(table), t5=None, t5_precision=None, loras=None))
    assert not {key for key in removed if key.startswith(("t5_", "lora"))}
    assert without_notes(parsed(written)) == preset


def test_the_weights_outrank_the_sizes_that_a_file_says() -> None:
    table = to_json(replace(parsed({"dim": 1, "num_layers": 99, "fps": 8}), architecture=DIT))
    assert (table["dim"], table["num_layers"]) == (DIT.dim, DIT.num_layers)
    assert list(table)[-1 - len(ARCHITECTURE) : -1] == list(ARCHITECTURE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_neither_written_nor_read(
    tmp_path: Path, value: float
) -> None:
    path = tmp_path / "p.json"
    for preset in (Preset(shift=value), Preset(extra={"a": [value]}),
                   Preset(loras=(Lora(Path("/l"), value),))):  # fmt: skip
        with pytest.raises(PresetError, match="cannot be written"):
            save(preset, path)
    assert not path.exists()
    error = refused(f'{{"fps": 1,\n"own": {{"deep":\n{json.dumps(value)}}}}}')
    assert error.what == "p.json, line 3: `deep` has a wrong value"
    assert error.why == f"expected a number, got {json.dumps(value)}"
    assert "`deep`" in error.fix
    assert "`fps`" in refused("{}", f"fps={json.dumps(value)}").what


def test_a_key_that_stands_twice_is_noted() -> None:
    (note,) = parse('{"fps": 1,\n\n"fps": 2}', "p.json").notes
    assert note == "p.json, line 3: `fps` stands on line 1 too; the last one is used"
    assert parse('{"fps": 1,\n\n"fps": 2}', "p.json").fps == 2
    error = refused('{"fps": "a",\n"fps": "b"}')
    assert error.what.startswith("p.json, line 2")


def test_a_mistyped_key_of_the_apps_own_is_noted() -> None:
    (note,) = parse('{\n"lightx2v_tui": {\n"promt": "a fox"}}', "p.json").notes
    assert note == "p.json, line 3: `promt` is not known and is kept; did you mean `prompt`?"


def test_a_mistyped_key_of_mm_config_is_noted() -> None:
    (note,) = parse('{"mm_config": {\n"mm_typ": "x", "weight_auto_quant": false}}', "p.json").notes
    assert note == "p.json, line 2: `mm_typ` is not known and is kept; did you mean `mm_type`?"


@pytest.mark.parametrize("key", sorted(OWN_KEYS))
def test_a_value_of_the_apps_own_in_the_wrong_place_is_noted(key: str) -> None:
    preset = parsed({key: 1})
    (note,) = preset.notes
    assert note.endswith(f"`{key}` is kept and not used; it belongs under `lightx2v_tui`")
    assert preset.extra == {key: 1}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"infer_steps": 4.0', "4"), ('"infer_steps": "40"', "40"),
        ('"enable_cfg": "True"', "true"),
        ('"use_tae": 1', "true"), ('"cpu_offload": 0', "false"), ('"sample_shift": "5.5"', "5.5"),
        ('"denoising_step_list": "[1000, 500]"', "[1000, 500]"),
        ('"lightx2v_tui": {"seed": "42"}', "42"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_told_as_it_was_meant(text: str, meant: str) -> None:
    assert refused(f"{{{text}}}").fix.endswith(f" as {meant}.")


@pytest.mark.parametrize("text", ['"infer_steps": "many"', '"infer_steps": 4.5', '"vae_path": 1'])
def test_no_meaning_is_made_up(text: str) -> None:
    assert refused(f"{{{text}}}").fix.startswith("Correct `")


def test_half_a_character_is_no_path() -> None:
    assert "vae_path" in refused('{"vae_path": "/a/\\ud800"}').what
    assert parse('{"vae_path": "/a/\\udcff"}', "p.json").vae == Path("/a/\udcff")


@pytest.mark.parametrize(
    "text",
    ['{"a": ' + "[" * 100 + "]" * 100 + "}", '{"a": ' * 3000 + "1" + "}" * 3000, '{"a": \n"\\x"}',
     '{"a\0": 1', '{"a": "\0"}'],
    ids=["lists", "objects", "escape", "NUL outside", "NUL inside"],
)  # fmt: skip
def test_hostile_texts_are_refused(text: str) -> None:
    assert refused(text).what.startswith("p.json, line")


def test_an_assignment_too_deep_to_be_written_is_refused() -> None:
    refused("{}", ".".join("a" * 200) + "=1")
    assert parse("{}", "p.json", ("a=" + "[" * 3000,)).extra == {"a": "[" * 3000}


def test_a_file_is_the_apps_own_only_as_the_app_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    save(replace(FULL, architecture=DIT), path)
    own = path.read_bytes()
    assert is_own(path)
    changed = [
        own + b"\n", b"\xef\xbb\xbf" + own, own.replace(b"  ", b"    "), own[:-2], b"", b"{}",
        b"\xff",
        own.replace(b'"fps": 16', b'"fps": 16 // mine'),
        own.replace(b'"fps": 16', b'"fps": "x"'),
    ]  # fmt: skip
    for content in changed:
        path.write_bytes(content)
        assert not is_own(path), content
    path.write_bytes(own.replace(b'"fps": 16', b'"fps": 24'))  # as a program would change it
    assert is_own(path)
    assert not is_own(tmp_path)
    assert not is_own(tmp_path / "none.json")


def test_a_name_that_is_no_text_is_written_as_text_and_read_as_it_was(tmp_path: Path) -> None:
    path, preset = tmp_path / "p.json", Preset(vae=Path("/m/\udcff.pth"), prompt="a\ud800b")
    save(preset, path)
    assert dumps(preset).encode() == path.read_bytes()
    assert read(path) == preset
    assert is_own(path)


def test_a_preset_that_cannot_be_replaced_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    save(FULL, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(replace(FULL, fps=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*p.json*")) == [path]
