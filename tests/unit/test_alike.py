"""Block files that differ in a number only are parsed once, and say the same as if parsed each."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.spec.alike import AlikeBlocks
from engine.spec.errors import CheckpointError
from engine.spec.header import Header, read_header
from lightx2v_tui.catalog.components import find_components
from lightx2v_tui.catalog.files import list_folder
from tests.unit.helpers import Table, dit_block, dit_rest, safetensors_bytes, write_safetensors


def both(path: Path, alike: AlikeBlocks) -> tuple[Header, Header]:
    return read_header(path, alike), read_header(path)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_blocks_of_one_model_are_like_the_first(tmp_path: Path, dtype: str) -> None:
    alike, likes = AlikeBlocks(), []
    for layer in (0, 1, 9, 10, 123):
        path = write_safetensors(tmp_path / f"block_{layer}.safetensors", dit_block(layer, dtype))
        quick, slow = both(path, alike)
        assert dict(quick.tensors) == dict(slow.tensors)
        assert (quick.file_bytes, quick.metadata) == (slow.file_bytes, slow.metadata)
        assert len(quick.tensors) == len(slow.tensors)
        likes.append(quick.like)
    assert likes[0] is None
    assert all(like is not None for like in likes[1:])


def changed(layer: int, **changes: tuple[str, tuple[int, ...]]) -> Table:
    return {**dit_block(layer), **{f"blocks.{layer}.{k}": v for k, v in changes.items()}}


@pytest.mark.parametrize(
    "other",
    [
        changed(1, modulation=("F32", (1, 6, 8))), changed(1, modulation=("BF16", (1, 3, 16))),
        changed(1, more=("BF16", (1,))), {**dit_block(1), **dit_block(2)},
        {**dit_block(1), **dit_rest()}, {**dit_block(1), "blocks..modulation": ("BF16", (1,))},
    ],
)  # fmt: skip
def test_what_differs_in_more_is_parsed_itself(tmp_path: Path, other: Table) -> None:
    alike = AlikeBlocks()
    read_header(write_safetensors(tmp_path / "0.safetensors", dit_block(0)), alike)
    quick, slow = both(write_safetensors(tmp_path / "1.safetensors", other), alike)
    assert quick.like is None
    assert quick.tensors == slow.tensors


def raw(header: str, size: int = 4) -> bytes:
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f'{{"blocks.0.w":{ENTRY}}}', f'{{"\\u0062locks.1.w":{ENTRY}}}'),
        (f'{{"a\\"blocks.0.w":{ENTRY}}}', f'{{"a\\"blocks.1.w":{ENTRY}}}'),
        ('{"__metadata__":{"blocks.0.":"x"},"w":' + ENTRY + "}",
         '{"__metadata__":{"blocks.1.":"x"},"w":' + ENTRY + "}"),
        (f'{{"blocks.0.w":{ENTRY}}}', f'{{"blocks.10.w":{ENTRY}}}'),
    ],
    ids=["escaped", "quoted", "metadata", "plain"],
)  # fmt: skip
def test_names_that_are_written_in_odd_ways(tmp_path: Path, first: str, second: str) -> None:
    alike = AlikeBlocks()
    for name, header in (("0", first), ("1", second)):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(raw(header))
        quick, slow = both(path, alike)
        assert dict(quick.tensors) == dict(slow.tensors)
        assert quick.metadata == slow.metadata


def test_metadata_that_looks_like_a_block_is_no_block(tmp_path: Path) -> None:
    for layer in (0, 1):
        header = f'{{"__metadata__":{{"blocks.{layer}.":"x"}},"head.modulation":{ENTRY}}}'
        (tmp_path / f"block_{layer}.safetensors").write_bytes(raw(header))
    (component,) = find_components(list_folder(tmp_path))
    assert not component.usable


def test_a_truncated_block_is_refused_like_any_other(tmp_path: Path) -> None:
    alike = AlikeBlocks()
    read_header(write_safetensors(tmp_path / "0.safetensors", dit_block(0)), alike)
    (tmp_path / "1.safetensors").write_bytes(safetensors_bytes(dit_block(1))[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        read_header(tmp_path / "1.safetensors", alike)
