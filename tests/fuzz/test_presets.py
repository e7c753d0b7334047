"""Arbitrary texts and arbitrary values of known keys end in a preset or a `PresetError`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightx2v_tui import jsonc
from lightx2v_tui.preset_keys import KEYS, OWN, OWN_KEYS, PASSED_ON
from lightx2v_tui.presets import Preset, PresetError, parse, to_json

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
    assert jsonc.line_of(text, "fps") <= text.count("\n") + 1


@QUICK
@given(value=JSON)
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
