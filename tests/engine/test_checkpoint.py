"""Streaming tensors: every container gives the same ones; damage and danger are refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine import checkpoint
from engine.checkpoint import read_headers, stream
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import Cancelled, CheckpointError
from engine.spec.header import Header, read_header


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "blocks.0.weight": torch.randn(7, 5),
        "blocks.0.half": torch.randn(3, 4, 2).half(),
        "blocks.1.weight": torch.randn(6, 6).bfloat16(),
        "blocks.1.codes": torch.randn(4, 8).to(torch.float8_e4m3fn),
        "blocks.1.int8": torch.randint(-128, 128, (5, 3), dtype=torch.int8),
        "head.scalar": torch.tensor(0.5),
        "head.ids": torch.arange(9),
        "head.empty": torch.zeros(0, 4),
    }


def gather(files: Sequence[Path], wanted: Sequence[str] | None = None) -> dict[str, Tensor]:
    headers = read_headers(files)
    names = wanted or [name for header in headers for name in header.tensors]
    pieces = stream(headers, names, StopEvent())
    return {piece.name: piece.tensor for piece in pieces if piece.tensor is not None}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and torch.equal(left[name].double(), right[name].double())
        for name in left
    )


def test_every_container_gives_identical_tensors(state: dict[str, Tensor], tmp_path: Path) -> None:
    single = tmp_path / "model.safetensors"
    save_file(state, single)
    names = sorted(state)
    shards = [tmp_path / f"model-{n}-of-3.safetensors" for n in range(3)]
    for number, path in enumerate(shards):
        save_file({name: state[name] for name in names[number::3]}, path)
    blocks = {"block_0": "blocks.0.", "block_1": "blocks.1.", "non_block": "head."}
    for file, prefix in blocks.items():
        part = {name: value for name, value in state.items() if name.startswith(prefix)}
        save_file(part, tmp_path / f"{file}.safetensors")
    pickled = tmp_path / "model.pth"
    torch.save(state, pickled)
    assert same(gather([single]), state)
    assert same(gather(shards), state)
    assert same(gather([tmp_path / f"{file}.safetensors" for file in blocks]), state)
    assert same(gather([pickled]), state)


def test_slices_and_transposes_in_a_pth_keep_their_values(tmp_path: Path) -> None:
    whole = torch.randn(8, 6)
    state = {"slice": whole[2:5], "transpose": whole.t(), "whole": whole}
    torch.save(state, tmp_path / "model.pth")
    assert same(gather([tmp_path / "model.pth"]), state)


def test_only_what_is_wanted_is_read(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "model.pth")
    for file in ("model.safetensors", "model.pth"):
        assert gather([tmp_path / file], ["head.ids"]).keys() == {"head.ids"}


def test_large_tensors_come_in_pieces(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 24)
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    pieces = list(stream(read_headers([path]), state, StopEvent()))
    assert len(pieces) > len(state)
    for name, value in state.items():
        assert sum(piece.nbytes for piece in pieces if piece.name == name) == value.nbytes
    assert same({p.name: p.tensor for p in pieces if p.tensor is not None}, state)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_stop_event_ends_the_stream(
    suffix: str, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 24)
    path = tmp_path / f"model.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    stop = StopEvent()
    pieces = stream(read_headers([path]), state, stop)
    next(pieces)
    stop.set()
    with pytest.raises(Cancelled):
        next(pieces)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_that_shrinks_after_its_header_was_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    state = {"weight": torch.randn(64, 64)}
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    headers = read_headers([path])
    os.truncate(path, path.stat().st_size - 8000)
    with pytest.raises(CheckpointError) as caught:
        list(stream(headers, state, StopEvent()))
    assert path.name in str(caught.value)
    assert "run code" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_that_vanishes_after_its_header_was_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    state = {"weight": torch.randn(4, 4)}
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    headers = read_headers([path])
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path.name} is missing"):
        list(stream(headers, state, StopEvent()))


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


def test_a_pickle_that_runs_code_is_refused_by_both_readers(tmp_path: Path) -> None:
    path, victim = tmp_path / "t5.pth", tmp_path / "victim"
    torch.save({"weight": torch.zeros(2), "bomb": Bomb(victim)}, path)
    with pytest.raises(CheckpointError, match="mkdir") as header_error:
        read_header(path)
    forged = Header(path, {}, path.stat().st_size, pickled=True)
    with pytest.raises(CheckpointError) as stream_error:
        list(stream([forged], ["weight"], StopEvent()))
    for error in (header_error.value, stream_error.value):
        assert "t5.pth was refused" in str(error)
    assert not victim.exists()
