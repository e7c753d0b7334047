"""Stream tensors out of safetensors files, shards, block folders and `.pth` files.

Peak memory is the tensor being read: safetensors bytes go by `readinto` straight into the
tensor's own memory, `.pth` files are mapped and copied tensor by tensor. Reading is told chunk
by chunk, so that progress and cancelling do not wait for a 2 GB embedding.
"""

from __future__ import annotations

import pickle
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopEvent

import torch
from torch import Tensor

from engine.spec.errors import Cancelled, CheckpointError
from engine.spec.header import Header, TensorInfo, read_header, truncated, unreadable
from engine.spec.pth import unsafe_pickle

CHUNK_BYTES = 32 << 20
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Bytes that were just read; `tensor` comes with the last piece of each tensor."""

    file: Path
    name: str
    nbytes: int
    tensor: Tensor | None


def read_headers(files: Sequence[Path]) -> list[Header]:
    """Read the headers of all files of a component; a tensor may stand in only one of them."""
    headers = [read_header(path) for path in files]
    owner: dict[str, Path] = {}
    for header in headers:
        for name in header.tensors:
            if name in owner:
                raise CheckpointError(
                    "Two files hold the same tensor",
                    f"{name} is in {owner[name].name} and in {header.path.name}",
                    "Keep the files of one model only in this folder.",
                )
            owner[name] = header.path
    return headers


def stream(headers: Sequence[Header], wanted: Container[str], stop: StopEvent) -> Iterator[Piece]:
    """Read the tensors whose stored names are `wanted`, in the order of the files' bytes.

    Raises:
        CheckpointError: a file vanished, shrank, or holds more than tensors.
        Cancelled: `stop` was set.
    """
    for header in headers:
        try:
            read = _stream_pth if header.pickled else _stream_safetensors
            yield from read(header, wanted, stop)
        except OSError as error:
            raise unreadable(header.path, error) from error


def _stream_safetensors(header: Header, wanted: Container[str], stop: StopEvent) -> Iterator[Piece]:
    infos = [info for name, info in header.tensors.items() if name in wanted]
    with header.path.open("rb", buffering=0) as file:
        for info in sorted(infos, key=lambda info: info.offset):
            tensor = _empty(header.path, info)
            view = memoryview(tensor.view(torch.uint8).numpy()) if info.nbytes else memoryview(b"")
            file.seek(info.offset)
            done = 0
            while done < info.nbytes:
                if stop.is_set():
                    raise Cancelled
                count = file.readinto(view[done : done + CHUNK_BYTES])
                if not count:
                    raise truncated(header.path, info.offset + info.nbytes, info.offset + done)
                done += count
                if done < info.nbytes:
                    yield Piece(header.path, info.name, count, None)
            last = info.nbytes % CHUNK_BYTES or min(info.nbytes, CHUNK_BYTES)
            yield Piece(header.path, info.name, last, tensor.view(info.shape))


def _empty(path: Path, info: TensorInfo) -> Tensor:
    """Allocate flat memory for one stored tensor."""
    dtype = dtype_of(path, info)
    return torch.empty(info.nbytes // dtype.itemsize, dtype=dtype)


def dtype_of(path: Path, info: TensorInfo) -> torch.dtype:
    """Torch's dtype of a stored tensor.

    Raises:
        CheckpointError: the engine does not compute it.
    """
    try:
        return DTYPES[info.dtype]
    except KeyError:
        raise CheckpointError(
            f"{path.name} holds {info.dtype} weights",
            f"{path}: {info.name} is {info.dtype}, which this engine does not compute",
            "Choose the original, FP8 or INT8 files of this model.",
        ) from None


def _stream_pth(header: Header, wanted: Container[str], stop: StopEvent) -> Iterator[Piece]:
    try:
        state = torch.load(header.path, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise unsafe_pickle(header.path, str(error).splitlines()[0]) from error
    for name in [name for name in state if name in wanted]:
        yield from _copied(header.path, name, state.pop(name), stop)


def _copied(path: Path, name: str, mapped: Tensor, stop: StopEvent) -> Iterator[Piece]:
    """Copy a tensor out of a mapped file, which reads it."""
    source = mapped.contiguous().view(-1)
    tensor = torch.empty_like(source)
    step = CHUNK_BYTES // source.element_size()
    for start in range(0, max(1, source.numel()), step):
        if stop.is_set():
            raise Cancelled
        chunk = source[start : start + step]
        tensor[start : start + step] = chunk
        whole = start + step >= source.numel()
        yield Piece(path, name, chunk.nbytes, tensor.view(mapped.shape) if whole else None)
