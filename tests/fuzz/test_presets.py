"""Arbitrary texts and arbitrary values of known keys end in a preset or a `PresetError`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.job import Lora
from engine.spec.precision import Precision
from lightx2v_tui.presets import Preset, PresetError, dumps, is_own, jsonc, parse, read, to_json
from lightx2v_tui.presets.keys import ARCHITECTURE, KEYS, OWN, OWN_KEYS, PASSED_ON
from lightx2v_tui.presets.lightx2v import Surroundings, differences

QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
SCHEME = st.sampled_from(
    ["Default", "fp8", "int8-vllm", "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm", "nvfp4"]
)
PATHS = st.sampled_from(["/a/b", "~/m", "~root/x", "~nosuchuser-x/m", "rel", " ", "a\0b"])
LIKELY = (
    SCHEME
    | PATHS
    | st.booleans()
    | st.integers(-5, 2000)
    | st.lists(st.integers(0, 1000), max_size=4)
)
INNER = {
    "mm_config": st.fixed_dictionaries({}, optional={"mm_type": SCHEME | JSON}) | JSON,
    OWN: st.fixed_dictionaries({}, optional=dict.fromkeys(OWN_KEYS, LIKELY | JSON)) | JSON,
}
ITEM = st.sampled_from([*KEYS, *sorted(PASSED_ON)[:5], *INNER]).flatmap(
    lambda key: st.tuples(st.just(key), INNER.get(key, LIKELY | JSON))
)
TABLE = st.lists(ITEM, max_size=4).map(dict)
PIECES = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", '"', "\\", "//", "/*", "*/", "\n", " ", '"fps"', "1", "null",
         '"a": 1', "\ufeff", "é", '"lightx2v_tui"', "-", "1e9"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


FINITE = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=12)
TREE = st.recursive(
    FINITE,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
UNKNOWN = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in {*KEYS, *OWN_KEYS, OWN, "mm_config"})
    | st.sampled_from([*sorted(PASSED_ON)[:8], *ARCHITECTURE]),
    TREE,
    max_size=4,
)
A_PATH = st.sampled_from(["/m/a", "/m/ü b", "rel/c", "/m/\udcff"]).map(Path)
TEXT = st.text(max_size=20)
NUMBER = st.floats(-1e8, 1e8)
FLAG = st.booleans()
SMALL = st.integers(-5, 10**6)
FIELDS = {
    "task": TEXT, "model_path": A_PATH, "dit": A_PATH, "t5": A_PATH, "clip": A_PATH, "vae": A_PATH,
    "tiny_vae": A_PATH, "tokenizer": A_PATH, "use_tiny_vae": FLAG, "infer_steps": SMALL,
    "timesteps": st.lists(SMALL, min_size=1, max_size=4).map(tuple), "shift": NUMBER,
    "enable_cfg": FLAG, "guidance_scale": NUMBER, "frames": SMALL, "prompt": TEXT, "seed": SMALL,
    "image": A_PATH, "attention": TEXT,
    "loras": st.lists(st.builds(Lora, A_PATH, NUMBER), max_size=3).map(tuple),
    **dict.fromkeys(
        ("dit_precision", "t5_precision", "clip_precision"), st.sampled_from(list(Precision))
    ),
}  # fmt: skip
PRESET = st.builds(
    lambda fields, extra, own, mm: Preset(**fields, extra=extra, own_extra=own, mm_extra=mm),
    st.fixed_dictionaries({}, optional=FIELDS),
    UNKNOWN,
    UNKNOWN,
    UNKNOWN.map(lambda table: {key: value for key, value in table.items() if key != "mm_type"}),
)
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 30),
        st.text(max_size=3)
        | st.sampled_from(["{", "}", '"', "\\", ",", "//", "/*", "NaN", "1e999", "null", "[[[[",
                           "\n", '"fps": []', "-", "\ud800", "\0"]),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


def mutated(text: str, changes: list[tuple[float, int, str]]) -> str:
    """Cut a little out of a text, and put something else there."""
    for place, cut, added in changes:
        start = int(place * len(text))
        text = text[:start] + added + text[start + cut :]
    return text


def preset_of(text: str, *assignments: str) -> Preset | None:
    try:
        return parse(text, "p.json", assignments)
    except PresetError:
        return None


@QUICK
@given(text=st.text(max_size=60) | PIECES)
def test_arbitrary_text(text: str) -> None:
    preset_of(text)


@QUICK
@given(text=st.text(max_size=60) | PIECES)
def test_blanking_keeps_the_shape_of_any_text(text: str) -> None:
    blanked = jsonc.blank(text)
    assert len(blanked) == len(text)
    assert blanked.count("\n") == text.count("\n")
    assert jsonc.layout(text).lines.get(("fps",), 0) <= text.count("\n") + 1


@QUICK
@given(value=TREE)
def test_what_python_writes_is_read_as_it_was(value: object) -> None:
    text = json.dumps(value, indent=1)
    assert json.dumps(jsonc.loads(text)) == json.dumps(value)


@QUICK
@given(table=TABLE)
def test_known_keys_with_any_values(table: dict[str, object]) -> None:
    preset = preset_of(json.dumps(table))
    if preset is not None:
        paths = (preset.dit, preset.t5, preset.vae, preset.output)
        assert all(path is None or isinstance(path, Path) for path in paths)


@QUICK
@given(table=TABLE)
def test_what_is_accepted_is_written_and_read_back_the_same(table: dict[str, object]) -> None:
    text = json.dumps(table)
    preset = preset_of(text)
    if preset is None or "NaN" in text:
        return
    written = json.dumps(to_json(preset))
    assert replace(parse(written, "p.json"), notes=()) == replace(preset, notes=())
    assert json.dumps(to_json(parse(written, "p.json"))) == written


@QUICK
@given(
    key=st.sampled_from([*KEYS, f"{OWN}.seed", "mm_config.mm_type", "a.b", ".", "..", "mm_config"]),
    value=st.text(max_size=10) | JSON.map(json.dumps),
)
def test_arbitrary_assignments(key: str, value: str) -> None:
    preset_of('{"mm_config": {"mm_type": "Default"}, "fps": 16}', f"{key}={value}")


@QUICK
@given(assignment=st.text(max_size=20))
def test_arbitrary_assignment_texts(assignment: str) -> None:
    preset_of("{}", assignment)


@QUICK
@given(preset=PRESET)
def test_what_is_written_is_written_again_byte_for_byte(preset: Preset) -> None:
    written = dumps(preset)
    assert jsonc.strict(written) == json.loads(written)
    assert dumps(parse(written, "p.json")) == written


@QUICK
@given(table=TABLE, unknown=UNKNOWN)
def test_what_is_read_settles_in_one_writing(
    table: dict[str, object], unknown: dict[str, object]
) -> None:
    preset = preset_of(json.dumps(table | unknown))
    if preset is not None:
        written = dumps(preset)
        assert dumps(parse(written, "p.json")) == written
        kept = json.loads(written)
        assert {key: kept[key] for key in unknown} == unknown
        assert [key for key in preset.extra if key not in ARCHITECTURE] == [
            key for key in kept if key in preset.extra and key not in ARCHITECTURE
        ]


@QUICK
@given(preset=PRESET, changes=CHANGES)
def test_mutated_presets(preset: Preset, changes: list[tuple[float, int, str]]) -> None:
    found = preset_of(mutated(dumps(preset), changes))
    if found is not None:
        written = dumps(found)
        assert dumps(parse(written, "p.json")) == written


@QUICK
@given(preset=PRESET, changes=st.fixed_dictionaries({}, optional=FIELDS))
def test_fields_that_are_replaced_are_written(preset: Preset, changes: dict[str, object]) -> None:
    changed = replace(parse(dumps(preset), "p.json"), **changes)
    again = parse(dumps(changed), "p.json")
    assert replace(again, notes=()) == replace(changed, notes=())
    assert dumps(again) == dumps(changed)


@QUICK
@given(content=st.binary(max_size=80) | PIECES.map(str.encode))
def test_arbitrary_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(content)
    try:
        found = read(path)
    except PresetError:
        assert not is_own(path)
    else:
        assert is_own(path) == (dumps(found).encode() == content)


@QUICK
@given(table=TABLE, unknown=UNKNOWN, strict=FLAG)
def test_differences_of_anything_that_is_accepted(
    table: dict[str, object], unknown: dict[str, object], strict: bool
) -> None:
    preset = preset_of(json.dumps(table | unknown))
    if preset is not None:
        for found in differences(preset, Surroundings(strict, exists=lambda _: False)):
            assert found.then
            assert found.now
            assert found.here
            assert not found.then == found.now == found.here
