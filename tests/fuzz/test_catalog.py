"""Whatever tree lies on a disk, the scan ends, never raises, and can be told as JSON."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.errors import CheckpointError
from lightx2v_tui.catalog import ModelRoot, Skipped, find_roots, verdicts
from lightx2v_tui.catalog.files import read_index
from lightx2v_tui.catalog.report import as_json, from_json
from lightx2v_tui.launch import choices, runnable
from tests.unit import trees
from tests.unit.helpers import (
    DISTILLED,
    LORA,
    PLAIN,
    TINY_VAE,
    VAE,
    clip,
    dit,
    dit_block,
    dit_rest,
    safetensors_bytes,
    t5,
    write_root,
)

QUICK = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
FOLDERS = [
    "",
    "a",
    "a/b",
    "loras",
    "google/umt5-xxl",
    *PLAIN,
    *DISTILLED,
    "a/distill_fp8",
    "original/fp8",
]
NAMES = [
    "block_0.safetensors", "block_1.safetensors", "non_block.safetensors", "config.json",
    "distill_model.safetensors", "models_t5_umt5-xxl-enc-fp8.pth", "clip-fp8.pth", "Wan2.1_VAE.pth",
    "taew2_1.pth", "x.safetensors.index.json", "tokenizer.json", "readme.md", "lora.safetensors",
]  # fmt: skip
CONTENTS = [
    safetensors_bytes(table)
    for table in (
        dit(1), dit(2, "I8"), dit_block(0, "F8_E4M3"), dit_block(1, "F8_E4M3", scaled=False),
        dit_rest(), dit_rest(image=True), t5(), t5("I8"), VAE, TINY_VAE, clip(), LORA, {},
    )
]  # fmt: skip
CONTENTS += [
    b"", b"{}", b"[]", b"{", b"null", b'{"num_heads": 0}', b'{"num_layers": 9}',
    b'{"weight_map": {"a": "block_0.safetensors", "b": "../up.safetensors"}}', b"\x80\x02.",
    b"PK\x03\x04" + bytes(80), b"version https://git-lfs.github.com/spec/v1\n",
]  # fmt: skip
FILE = st.tuples(
    st.sampled_from(FOLDERS), st.sampled_from(NAMES), st.sampled_from(CONTENTS), st.integers(0, 9)
)
LINK = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(["l", "fp8", "block_0.safetensors"]),
                 st.sampled_from([".", "..", "l", "nowhere", "../distill_fp8"]))  # fmt: skip


def build(
    root: Path, files: list[tuple[str, str, bytes, int]], links: list[tuple[str, str, str]]
) -> None:
    for folder, name, content, cut in files:
        path = root / folder / name
        if not path.parent.is_symlink() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[:-1] if cut == 0 else content)
    for folder, name, target in links:
        path = root / folder / name
        if path.parent.is_dir() and not path.exists() and not path.is_symlink():
            path.symlink_to(target)


def check(root: Path) -> None:
    found = list(find_roots([root, root / "a", root / "gone"], Event()))
    first = [item for item in found if isinstance(item, ModelRoot) and not item.offers]
    roots = {item.key: item for item in found if isinstance(item, ModelRoot)}
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert len(roots) <= len(first) <= len(roots) + sum(bool(i.tokenizer_offer) for i in first)
    told = json.loads(json.dumps(as_json([*roots.values()], skipped, 0.0)))
    assert from_json(told)[0] == tuple(roots.values())
    states = {"ok", "missing", "broken", "not runnable", "elsewhere"}
    for item in roots.values():
        for told_of in (one for variant in item.variants for one in verdicts(item, variant)):
            assert told_of.state in states
            assert bool(told_of.fix) == bool(told_of.reason) == (told_of.state != "ok")
        choice = choices.recommended(item, None)
        choices.preset_for(item, choice)
        can_run = not runnable.reason_not_runnable(item)
        if any(variant.complete for variant in item.variants):
            assert can_run or item.task != "t2v" or not item.distilled


@QUICK
@given(files=st.lists(FILE, max_size=14), links=st.lists(LINK, max_size=3))
def test_any_tree(
    files: list[tuple[str, str, bytes, int]], links: list[tuple[str, str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as outer:  # links may lead one folder up
        folder = Path(outer) / "inner"
        folder.mkdir()
        build(folder, files, links)
        check(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("whole") / "Model", {"distill_fp8": "fp8"})


LAYOUTS = {
    "Wan2.1-T2V-14B": trees.official,
    "Wan2.2-I2V-A14B": trees.official_pair,
    "Wan2.2-TI2V-5B": trees.official_ti2v,
    "Wan2.2-Distill-Models": trees.single_pair,
    "Wan2.1-T2V-14B-Diffusers": trees.diffusers,
    "models": trees.comfyui,
    "gguf": trees.gguf_pair,
    "nvfp4": trees.nvfp4_file,
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory, whole: Path) -> list[Path]:
    top = tmp_path_factory.mktemp("layouts")
    return [whole, *(make(top / name) for name, make in LAYOUTS.items())]


EDITS = st.sampled_from([b"", b"\0", b'"', b"9", b"\xff" * 8, struct.pack("<Q", 2**60)])


@QUICK
@given(data=st.data())
def test_a_whole_model_of_any_layout_with_any_files_damaged(
    wholes: list[Path], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = data.draw(st.sampled_from(wholes))
        root = Path(shutil.copytree(made, Path(folder) / made.name, symlinks=True))
        files = sorted(path for path in root.rglob("*") if path.is_file())
        chosen = st.lists(st.sampled_from(files), min_size=1, max_size=4, unique=True)
        for path in data.draw(chosen):
            content = path.read_bytes()
            at = data.draw(st.integers(0, min(len(content), 4000)))
            edit = data.draw(EDITS)
            if data.draw(st.booleans()):
                path.write_bytes(content[:at] + edit + content[at + len(edit) :])
            elif data.draw(st.booleans()):
                path.write_bytes(content[:at])
            else:
                path.unlink()
        check(Path(folder))


NAMES_IN_AN_INDEX = st.sampled_from([
    "diffusion_pytorch_model-00001-of-00003.safetensors", "../../etc/passwd", "/etc/passwd", "..",
    "", ".", "a\0b", "x/y", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "gone.safetensors",
]) | st.text(max_size=9)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
INDEX_MAP = st.dictionaries(st.text(max_size=5), NAMES_IN_AN_INDEX | JSON, max_size=6)
INDEX = st.binary(max_size=40) | (
    (JSON | st.fixed_dictionaries({"weight_map": INDEX_MAP | JSON})).map(
        lambda value: json.dumps(value).encode()
    )
)


@QUICK
@given(content=INDEX)
def test_any_index(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diffusion_pytorch_model.safetensors.index.json"
        path.write_bytes(content)
        try:
            names = read_index(path)
        except CheckpointError:
            return
        assert all(Path(folder, name).parent == Path(folder) for name in names)
        assert names.isdisjoint({"", ".", ".."})


@QUICK
@given(content=INDEX)
def test_a_model_with_any_index(wholes: list[Path], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(wholes[1], Path(folder) / "Model"))
        (root / "diffusion_pytorch_model.safetensors.index.json").write_bytes(content)
        check(Path(folder))
        for item in find_roots([root], Event()):
            assert isinstance(item, ModelRoot)
            for component in item.components():
                assert all(file.parent == root for file in component.files)


@QUICK
@given(starts=st.lists(st.text(st.characters(exclude_characters="\0"), max_size=6), max_size=4))
def test_a_walk_from_anywhere_below_a_folder(starts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = list(find_roots([Path(folder, "inner", start) for start in starts
                                 if not start.startswith("/") and ".." not in start],
                                Event()))  # fmt: skip
        assert not any(isinstance(item, ModelRoot) for item in found)
