"""The header reader names what a weight file holds, or what is wrong with it."""

from __future__ import annotations

import json
import os
import struct
import threading
from pathlib import Path

import pytest

from engine.spec.errors import CheckpointError
from engine.spec.header import MAX_HEADER_BYTES, read_header
from tests.unit.helpers import (
    dit,
    permissions_hold,
    raw_safetensors,
    safetensors_bytes,
    write_safetensors,
)


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    error = caught.value
    assert error.what
    assert error.why
    assert error.fix
    assert all("\n" not in line for line in (error.what, error.why, error.fix))
    return error


def one_tensor(**changes: object) -> bytes:
    """A file of one tensor whose header entry is changed; eight bytes of data."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return raw_safetensors(json.dumps({"a": entry}).encode(), bytes(8))


def test_names_dtypes_shapes_and_places_are_read(tmp_path: Path) -> None:
    tensors = {"a": ("F32", (2, 3)), "b": ("F8_E4M3", (5,)), "scalar": ("BF16", ())}
    path = write_safetensors(tmp_path / "x.safetensors", tensors, {"format": "pt"})
    header = read_header(path)
    assert {n: (i.dtype, i.shape) for n, i in header.tensors.items()} == tensors
    assert [(i.nbytes) for i in header.tensors.values()] == [24, 5, 2]
    assert header.metadata == {"format": "pt"}
    assert header.file_bytes == path.stat().st_size
    assert not header.pickled
    assert header.shapes["a"] == (2, 3)
    first, second, third = header.tensors.values()
    assert (second.offset - first.offset, third.offset - second.offset) == (24, 5)
    assert third.offset + third.nbytes == header.file_bytes


def test_offsets_lead_to_the_bytes_that_were_written(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [3], "data_offsets": [1, 4]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_safetensors(header, b"?abc"))
    info = read_header(path).tensors["a"]
    assert path.read_bytes()[info.offset : info.offset + info.nbytes] == b"abc"


def test_every_truncation_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = safetensors_bytes({"a": ("F32", (2,)), "b": ("BF16", (3,))}, {"k": "v"})
    path = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        error = refused(path)
        assert str(path) in error.why
    path.write_bytes(whole)
    assert set(read_header(path).tensors) == {"a", "b"}


def test_truncated_data_is_said_in_bytes(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "block_3.safetensors", dit(1))
    whole = path.stat().st_size
    os.truncate(path, whole - 1)
    error = refused(path)
    assert error.what == "block_3.safetensors is truncated"
    assert str(whole) in error.why
    assert str(whole - 1) in error.why


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <html><head></head></html>         ", "web page"),
        (b"<?xml version='1.0'?><Error>denied</Error>", "web page"),
        (b"GGUF\x03\x00\x00\x00" + bytes(64), "GGUF"),
        (b"", "0 bytes"),
        (b"abc", "3 bytes"),
    ],
)
def test_lookalikes_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert said in refused(path).why


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_giant_announced_header_is_refused_unread(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(100))
    assert str(length) in refused(path).why


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "F7"},
        {"dtype": None},
        {"dtype": ["F32"]},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [2.0]},
        {"shape": [True, 2]},
        {"shape": "2"},
        {"shape": None},
        {"shape": {}, "data_offsets": [0, 4]},
        {"shape": [1] * 40 + [2]},
        {"shape": [2**62, 2**62], "data_offsets": [0, 8]},
        {"data_offsets": [0, 4]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 4, 8]},
        {"data_offsets": "08"},
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(one_tensor(**changes))
    error = refused(path)
    assert "damaged header" in error.what
    assert "'a'" in error.why


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"{}x", b'"text"', b"null", b"12", b"{" * 30, b"[" * 60_000, b"\xff\xfe\xff",
        b'{"a": 5}', b'{"a": null}', b'{"a": {}}', b'{"__metadata__": 5}',
        b'{"__metadata__": ["x"]}', b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_header_that_is_no_table_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_safetensors(header, bytes(16)))
    assert "damaged header" in refused(path).what


def test_data_beyond_the_end_is_truncation(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(one_tensor(data_offsets=[100, 108]))
    assert "truncated" in refused(path).what


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    error = refused(tmp_path / "gone.safetensors")
    assert error.what == "gone.safetensors is missing"


def test_a_folder_under_a_files_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    assert "Cannot read" in refused(tmp_path / "x.safetensors").what


def test_a_link_loop_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.symlink_to(path)
    assert "Cannot read" in refused(path).what


@pytest.mark.skipif(not permissions_hold(), reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"a": ("F32", (2,))})
    path.chmod(0)
    assert "ermission" in refused(path).why


def test_a_pipe_under_a_files_name_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    os.mkfifo(path)
    ended = threading.Event()

    def read() -> None:
        try:
            read_header(path)
        except CheckpointError:
            ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(2)
    hung = reader.is_alive()
    if hung:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # let the thread go
        reader.join(5)
    assert not hung
    assert ended.is_set()


def test_a_sparse_file_of_many_gigabytes_is_read_by_its_header_alone(tmp_path: Path) -> None:
    size = 40 * 2**30
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_safetensors(json.dumps({"a": entry}).encode()))
    os.truncate(path, path.stat().st_size + size)
    assert read_header(path).tensors["a"].nbytes == size
