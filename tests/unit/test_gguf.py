"""The header of a GGUF file is read whole or refused by name, whatever it claims."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from engine.spec.errors import CheckpointError
from engine.spec.gguf import read_gguf
from tests.unit import trees
from tests.unit.helpers import dit, gguf_bytes, quantized_gguf

TABLE = {"a.weight": ("Q4_K", (8, 256)), "b.weight": ("Q8_0", (2, 64)), "c": ("F32", (8,))}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "x.gguf"
    path.write_bytes(content)
    return path


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_gguf(path)
    assert path.name in caught.value.what
    assert caught.value.fix
    return caught.value


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def head(tensors: int = 0, values: int = 0, *, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, values)


def tensor(
    *, name: bytes = b"a", rank: int | None = None, shape: tuple[int, ...] = (8,), kind: int = 0,
    offset: int = 0,
) -> bytes:  # fmt: skip
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    rank = len(shape) if rank is None else rank
    return text(name) + struct.pack("<I", rank) + sizes + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize("version", [2, 3])
def test_names_types_and_shapes_are_read(tmp_path: Path, version: int) -> None:
    header = read_gguf(write(tmp_path, gguf_bytes(TABLE, version=version)))
    found = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    assert found == TABLE
    assert [info.nbytes for info in header.tensors.values()] == [8 * 144, 4 * 34, 32]


def test_a_dit_has_its_names(tmp_path: Path) -> None:
    table = quantized_gguf(dit())
    assert read_gguf(write(tmp_path, gguf_bytes(table))).shapes == {
        name: shape for name, (_, shape) in table.items()
    }


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = gguf_bytes(TABLE, {"tokenizer.ggml.model": "t5"})
    path = write(tmp_path, content)
    for length in range(len(content) - 1, -1, -1):
        os.truncate(path, length)
        refused(path)


@pytest.mark.parametrize(
    "value",
    [struct.pack("<IB", 0, 1), struct.pack("<IH", 2, 1), struct.pack("<If", 6, 1.0),
     struct.pack("<IB", 7, 1), struct.pack("<Id", 12, 1.0), struct.pack("<I", 8) + text(b"x" * 99),
     struct.pack("<IIQ3B", 9, 0, 3, 1, 2, 3), struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b""),
     struct.pack("<IIQ", 9, 8, 0), struct.pack("<IIQ2d", 9, 12, 2, 1, 2)],
)  # fmt: skip
def test_metadata_of_every_type_is_passed(tmp_path: Path, value: bytes) -> None:
    content = head(1, 2) + text(b"k") + value + text(b"l") + value + tensor()
    content += bytes(-len(content) % 32 + 32)
    assert read_gguf(write(tmp_path, content)).shapes == {"a": (8,)}


HUGE = 2**60
HOSTILE = [
    head(magic=b"GGML"), head(version=1), head(version=4), head(version=3 << 24),
    head(HUGE), head(values=HUGE), head(2**64 - 1), head(1) + tensor(rank=2**32 - 1),
    head(1) + struct.pack("<Q", HUGE), head(1) + struct.pack("<Q", 2**24),
    head(1) + tensor(shape=(HUGE,)), head(1) + tensor(shape=(2**30, 2**30)),
    head(1) + tensor(offset=HUGE), head(1) + tensor(kind=12, shape=(2**40,)),
    head(values=1) + text(b"k") + struct.pack("<I", 99),
    head(values=1) + text(b"k") + struct.pack("<IIQ", 9, 0, HUGE),
    head(values=1) + text(b"k") + struct.pack("<IIQ", 9, 8, HUGE),
    head(values=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 5),
    head(values=1) + text(b"k") + struct.pack("<IIQ", 9, 77, 5),
]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_what_cannot_be_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    started = time.monotonic()
    refused(write(tmp_path, content + bytes(64)))
    assert time.monotonic() - started < 1


def test_a_sparse_file_full_of_empty_texts_is_given_up(tmp_path: Path) -> None:
    path = write(tmp_path, head(values=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**30))
    os.truncate(path, 2**34)
    started = time.monotonic()
    assert "larger" in refused(path).why
    assert time.monotonic() - started < 60


def test_a_type_that_is_not_known_is_read_by_name(tmp_path: Path) -> None:
    content = head(1) + tensor(kind=40)
    found = read_gguf(write(tmp_path, content + bytes(-len(content) % 32))).tensors["a"]
    assert (found.dtype, found.shape) == ("GGUF", (8,))


def test_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    content = head(1) + tensor(name=b"\xff\xfe")
    header = read_gguf(write(tmp_path, content + bytes(-len(content) % 32 + 32)))
    assert len(header.tensors) == 1


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    assert "missing" in refused(tmp_path / "x.gguf").what


def test_a_folder_under_a_files_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").mkdir()
    refused(tmp_path / "x.gguf")


def test_a_pipe_under_a_files_name_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.gguf")
    refused(tmp_path / "x.gguf")


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_a_gguf_of_plain_floats_is_not_runnable_either(tmp_path: Path, dtype: str) -> None:
    table = {name: (dtype, shape) for name, (_, shape) in dit().items()}
    trees.write_bytes(tmp_path / "x" / f"wan2.1-t2v-14b-{dtype}.gguf", gguf_bytes(table))
    root = trees.only(tmp_path)
    assert trees.verdict(root, "dit")["state"] == "not runnable"
    assert root["variants"][0]["components"]["dit"]["style"] == "gguf"
