"""The fields of the launch form: a preset as texts, and what texts make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spec.job import MAX_SEED, MAX_SIZE, Previews, rounded_frames
from lightx2v_tui.launch import form
from lightx2v_tui.launch.form import Fields, Offload
from lightx2v_tui.presets import Preset, dumps, parse

DISTILLED = Preset(
    model_cls="wan2.1_distill", task="t2v", timesteps=(1000, 750, 500, 250), infer_steps=4,
    shift=5.0, enable_cfg=False, width=832, height=480, frames=81, fps=16, seed=42, prompt="a fox",
    negative_prompt="",
)  # fmt: skip
GUIDED = replace(
    DISTILLED, model_cls="wan2.1", timesteps=None, infer_steps=50, enable_cfg=True,
    guidance_scale=5.0, negative_prompt="blurred",
)  # fmt: skip
PRESETS = pytest.mark.parametrize("preset", [DISTILLED, GUIDED, Preset()])
TEXTS = st.text(max_size=12) | st.from_regex(r"[0-9., \-+e]{0,8}", fullmatch=True)
NUMBERS = ("width", "height", "frames", "fps", "seed", "steps", "shift", "guidance")


def changed(preset: Preset, **values: object) -> form.Reading:
    fields = replace(form.fields_of(preset), **values)  # type: ignore[arg-type]
    return form.read(fields, preset)


@PRESETS
def test_what_is_not_touched_is_not_changed(preset: Preset) -> None:
    reading = form.read(form.fields_of(preset), preset)
    assert reading == form.Reading(preset, {})


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("width", " 1280 ", "width", 1280),
        ("height", "16", "height", 16),
        ("frames", "30", "frames", 30),  # rounded, with a note, when it is planned
        ("fps", "24", "fps", 24),
        ("seed", str(MAX_SEED), "seed", MAX_SEED),
        ("steps", "30", "infer_steps", 30),
        ("shift", "3,5", "shift", 3.5),
        ("guidance", "7.25", "guidance_scale", 7.25),
        ("sampler", "euler", "sampler", "euler"),
        ("tiling", True, "use_tiling_vae", True),
        ("random_seed", True, "random_seed", True),
        ("preview", Previews.TINY_VAE, "preview", "tiny vae"),
        ("output", "/tmp/fox.mp4", "output", Path("/tmp/fox.mp4")),
        ("prompt", "a dog", "prompt", "a dog"),
        ("negative", "", "negative_prompt", ""),
    ],
)
def test_each_field_fills_its_key(name: str, text: object, key: str, value: object) -> None:
    reading = changed(GUIDED, **{name: text})
    assert not reading.errors
    assert getattr(reading.preset, key) == value
    assert replace(reading.preset, **{key: getattr(GUIDED, key)}) == GUIDED
    again = parse(dumps(reading.preset), "preset")
    assert getattr(form.read(form.fields_of(again), again).preset, key) == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("width", "100", "multiple of 16"), ("height", "0", "multiple of 16"),
        ("width", str(MAX_SIZE + 16), "multiple of 16"), ("width", "", "empty"),
        ("frames", "0", "at least 1 frame"), ("frames", "10000", "from 1 to 9999"),
        ("frames", "-5", "not a number"), ("fps", "241", "from 1 to 240"), ("fps", "1.5", "not a"),
        ("seed", str(MAX_SEED + 1), "seed goes from 0"), ("seed", "12²", "not a number"),
        ("seed", "9" * 30, "not a number"), ("steps", "1001", "from 1 to 1000"),
        ("shift", "0", "above 0"), ("shift", "nan", "from 0 to 100"), ("shift", "", "empty"),
        ("guidance", "inf", "from 0 to 100"), ("guidance", "101", "from 0 to 100"),
        ("output", "fox.avi", ".mp4"), ("output", "folder.mp4/", ".mp4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_of_the_field_and_keeps_the_value(
    name: str, text: str, said: str
) -> None:
    reading = changed(GUIDED, **{name: text})
    assert set(reading.errors) == {name}
    assert said in reading.errors[name]
    assert form.summary(reading) == reading.errors[name]
    assert reading.preset == GUIDED


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1000 750 500 250", (1000, 750, 500, 250)),
        ("1000,500", (1000, 500)),
        ("[1000, 757, 522]", (1000, 757, 522)),
        (" 900 ", (900,)),
        ("", "empty"),
        ("500 1000", "must fall"),
        ("500 500", "must fall"),
        ("1001", "from 1 to 1000"),
        ("1000 x", "not a number"),
    ],
)
def test_a_distilled_model_has_a_list_of_steps(text: str, steps: tuple[int, ...] | str) -> None:
    reading = changed(DISTILLED, steps=text)
    if isinstance(steps, str):
        assert steps in reading.errors["steps"]
    else:
        assert (reading.preset.timesteps, reading.preset.infer_steps) == (steps, len(steps))
        assert form.summary(reading).startswith(f"{len(steps)} step")


def test_a_distilled_model_is_not_guided_and_the_others_are() -> None:
    assert form.shape_of(DISTILLED) == form.Shape(listed=True, guided=False, image=False)
    assert form.shape_of(GUIDED) == form.Shape(listed=False, guided=True, image=False)
    assert form.shape_of(replace(GUIDED, task="i2v")).image
    assert form.shape_of(replace(DISTILLED, enable_cfg=True)).guided
    assert not form.shape_of(replace(DISTILLED, sampler="euler")).listed
    assert not form.shape_of(replace(DISTILLED, sampler="euler")).guided


def test_guidance_of_one_is_none() -> None:
    off = changed(GUIDED, guidance="1").preset
    assert (off.enable_cfg, off.guidance_scale) == (False, 1.0)
    assert form.fields_of(off).guidance == "1"
    assert form.fields_of(replace(GUIDED, enable_cfg=False)).guidance == "1"
    on = changed(off, guidance="6").preset
    assert (on.enable_cfg, on.guidance_scale) == (True, 6.0)


@pytest.mark.parametrize("mode", [mode for mode in Offload if mode is not Offload.OTHER])
def test_each_offload_is_read_as_it_was_written(mode: Offload) -> None:
    reading = changed(replace(GUIDED, cpu_offload=True, vae_cpu_offload=False), offload=mode)
    assert form.offload_of(reading.preset) is mode


@given(st.dictionaries(st.sampled_from(form.OFFLOAD_KEYS), st.none() | st.booleans(), max_size=5))
def test_any_offload_has_a_name_and_is_kept(keys: dict[str, bool | None]) -> None:
    preset = replace(GUIDED, **keys)  # type: ignore[arg-type]
    mode = form.offload_of(preset)
    assert (mode is Offload.AUTO) is all(value is None for value in keys.values())
    assert form.read(form.fields_of(preset), preset).preset == preset


def test_encoders_wait_in_ram_where_a_preset_says_anything_of_offload() -> None:
    assert form.offload_of(replace(GUIDED, cpu_offload=False)) is Offload.ENCODERS
    assert form.offload_of(replace(GUIDED, cpu_offload=True)) is Offload.EVERYTHING
    assert form.offload_of(replace(GUIDED, t5_cpu_offload=False)) is Offload.OTHER


def test_the_sizes_are_lightx2vs_and_each_can_be_made() -> None:
    sizes = list(form.sizes())
    assert len(sizes) == len(set(sizes)) == 15
    for name, group in sizes:
        width, height = name.split("x")
        assert form.size_name(f" {width} ", height) == name
        assert not changed(GUIDED, width=width, height=height).errors
        assert group in form.SIZES
    assert form.size_name("64", "64") == form.size_name("", "x") == ""


def test_the_summary_tells_what_will_be_made() -> None:
    told = form.summary(changed(DISTILLED, frames="30"))
    assert told == "4 steps · 29 frames (30 rounded to 4k+1), 1.8 s"
    assert form.length("81", "16") == "5.1 s"
    assert form.length("161", "10") == "16 s"
    assert form.length("30", "0") == form.length("", "16") == ""


def test_seeds_are_drawn_from_all_of_lightx2vs() -> None:
    drawn = {form.draw_seed() for _ in range(50)}
    assert len(drawn) > 45
    assert all(0 <= seed < 2**32 for seed in drawn)


def test_a_prompt_is_long_when_it_has_more_words_than_are_read() -> None:
    assert not form.too_long("word " * 512)
    assert form.too_long("word " * 513)
    assert not form.too_long("字" * 8000)  # how many tokens it has is not known here
    assert form.too_long("字" * 9000)
    assert not form.too_long(f"a{' ' * 100_000}b")


def test_previews_that_are_not_known_are_the_usual_ones() -> None:
    assert form.previews_of(Preset()) is Previews.LATENTS
    assert form.previews_of(Preset(preview="hologram")) is Previews.LATENTS
    assert form.previews_of(Preset(preview="off")) is Previews.OFF


@given(st.sampled_from([DISTILLED, GUIDED, Preset()]), st.fixed_dictionaries(
    dict.fromkeys((*NUMBERS, "output", "prompt", "negative"), TEXTS)
))  # fmt: skip
def test_any_text_is_read_or_refused(preset: Preset, texts: dict[str, str]) -> None:
    fields: Fields = replace(form.fields_of(preset), **texts)  # type: ignore[arg-type]
    reading = form.read(fields, preset)
    assert set(reading.errors) <= {*NUMBERS, "output"}
    assert form.summary(reading)
    form.length(fields.frames, fields.fps)
    got = reading.preset
    for name, key in (("width", "width"), ("frames", "frames"), ("seed", "seed")):
        if name not in reading.errors:
            assert getattr(got, key) in (getattr(preset, key), int(texts[name]))
    if not reading.errors:
        assert (got.width or 16) % 16 == (got.height or 16) % 16 == 0
        assert 1 <= rounded_frames(got.frames or 1) <= form.MAX_FRAMES
        assert form.fields_of(got).prompt == texts["prompt"]
        assert form.read(form.fields_of(got), got) == form.Reading(got, {})
