"""Whatever tree lies on a disk, the scan ends, never raises, and can be told as JSON."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightx2v_tui import choices
from lightx2v_tui.catalog import ModelRoot, Skipped, find_roots
from lightx2v_tui.catalog.report import as_json
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
    roots = [item for item in found if isinstance(item, ModelRoot)]
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert len({path.path.resolve() for path in roots}) == len(roots)
    json.dumps(as_json(roots, skipped, 0.0))
    for item in roots:
        choice = choices.recommended(item, None)
        choices.preset_for(item, choice)
        runnable = not choices.reason_not_runnable(item)
        if any(variant.complete for variant in item.variants):
            assert runnable or item.task != "t2v" or not item.distilled


@QUICK
@given(files=st.lists(FILE, max_size=14), links=st.lists(LINK, max_size=3))
def test_any_tree(
    files: list[tuple[str, str, bytes, int]], links: list[tuple[str, str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), files, links)
        check(Path(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("whole") / "Model", {"distill_fp8": "fp8"})


@QUICK
@given(data=st.data())
def test_a_whole_model_with_any_files_damaged(whole: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(whole, Path(folder) / "Model"))
        files = sorted(path for path in root.rglob("*") if path.is_file())
        for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3)):
            content = path.read_bytes()
            at = data.draw(st.integers(0, len(content)))
            path.write_bytes(
                content[:at] + data.draw(st.sampled_from([b"", b"\0", b'"'])) + content[at + 1 :]
            )
        check(Path(folder))
