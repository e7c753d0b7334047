"""Read what a weight file holds without reading its weights and without torch.

safetensors: 8 bytes of length, a JSON header, the data. `.pth`: a zip whose `data.pkl` is
unpickled with a closed list of names, so that nothing in the file can run. Everything is
bounded: a hostile or broken file ends in a `CheckpointError`, not in a crash or a full memory.
"""

from __future__ import annotations

import json
import reprlib
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import NamedTuple

from engine.spec.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
MAX_RANK = 16
MAX_SIZE = 1 << 48
READ_AHEAD = 16 << 10  # most headers of one block fit into it
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8,
    "BOOL": 8, "C64": 64, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
DOWNLOAD_AGAIN = "Download the file again; a partial download is continued, not restarted."


class TensorInfo(NamedTuple):
    """One stored tensor: dtype in safetensors' spelling, shape, and where its bytes lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """Everything one weight file says about itself."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    file_bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    pickled: bool = False
    like: Header | None = None  # the one it equals, but for its block's number
    block: str = ""  # the prefix of that block, where it is like another

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by tensor name."""
        return {name: info.shape for name, info in self.tensors.items()}


def read_header(path: Path, parse: Callable[[Path, bytes, int], Header] | None = None) -> Header:
    """Read the header of a safetensors or `.pth` file, told apart by content.

    Args:
        path: the file.
        parse: what makes a header of its bytes; `parse_header` unless another is given.

    Raises:
        CheckpointError: the file cannot be read, is truncated, or is not a weight file.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is not a file")
        file_bytes = status.st_size
        with path.open("rb", buffering=0) as file:
            start = file.read(READ_AHEAD)
            _refuse_lookalikes(path, start[:64])
            if start[:4] == b"PK\x03\x04":
                from engine.spec.pth import read_pth  # it needs this module's types

                return Header(path, read_pth(path), file_bytes, pickled=True)
            raw = _header_bytes(path, start, file, file_bytes)
    except OSError as error:
        raise unreadable(path, error) from error
    return (parse or parse_header)(path, raw, file_bytes)


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Turn an `OSError` on a weight file into words."""
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"{path.name} is missing", f"{path} does not exist", DOWNLOAD_AGAIN)
    return CheckpointError(
        f"Cannot read {path.name}",
        f"{path}: {error.strerror or error}",
        "Check the path and its permissions.",
    )


def _refuse_lookalikes(path: Path, start: bytes) -> None:
    """Name the usual things that lie on disks in place of weights."""
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        why, fix = "it is a Git LFS pointer, not the file", "Run `git lfs pull` in its folder."
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        why, fix = "it is a web page saved under a weight file's name", DOWNLOAD_AGAIN
    elif start.startswith(b"GGUF"):
        why, fix = "it is a GGUF file", "Use a safetensors version of this model."
    elif start.startswith(b"\x80") and path.suffix != ".safetensors":
        why = "it is a pickle of the old kind (before PyTorch 1.6)"
        fix = "Save it anew with a current PyTorch, or as safetensors."
    elif len(start) < 8:
        why, fix = f"it is {len(start)} bytes long", DOWNLOAD_AGAIN
    else:
        return
    raise CheckpointError(f"{path.name} is not a weight file", f"{path}: {why}", fix)


def _header_bytes(path: Path, start: bytes, file: RawIOBase, file_bytes: int) -> bytes:
    """The header of a file whose first bytes are `start`."""
    (length,) = struct.unpack_from("<Q", start)
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path.name} is not a safetensors file",
            f"{path}: its first 8 bytes announce a header of {length} bytes",
            DOWNLOAD_AGAIN,
        )
    if length < 2 or 8 + length > file_bytes:
        raise truncated(path, 8 + length, file_bytes)
    raw = start[8 : 8 + length]
    while len(raw) < length:
        more = file.read(length - len(raw))
        if not more:
            raise truncated(path, 8 + length, 8 + len(raw))
        raw += more
    return raw


def truncated(path: Path, needed: int, found: int) -> CheckpointError:
    """The error for a file that ends too early."""
    return CheckpointError(
        f"{path.name} is truncated",
        f"{path}: its header needs {needed} bytes, the file has {found}",
        DOWNLOAD_AGAIN,
    )


def parse_header(path: Path, raw: bytes, file_bytes: int) -> Header:
    """Parse the JSON header of a safetensors file of `file_bytes`.

    Raises:
        CheckpointError: it is damaged, or the file is truncated.
    """
    damaged = CheckpointError(
        f"{path.name} has a damaged header", f"{path}: the header is not valid", DOWNLOAD_AGAIN
    )
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(table, dict):
        raise damaged
    metadata = table.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise damaged
    base = 8 + len(raw)
    tensors, end = {}, 0
    for name, entry in table.items():
        tensors[name] = info = _entry(path, name, entry, base)
        end = max(end, info.offset + info.nbytes)
    if end > file_bytes:
        raise truncated(path, end, file_bytes)
    told = {str(key): str(value) for key, value in metadata.items()}
    return Header(path, tensors, file_bytes, told)


def _entry(path: Path, name: str, entry: object, base: int) -> TensorInfo:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]  # type: ignore[index]
        count, fits = BITS[dtype], type(shape) is list and len(shape) <= MAX_RANK
        for size in shape if fits else ():
            if type(size) is not int or not 0 <= size < MAX_SIZE:
                fits = False
                break
            count *= size
        fits = fits and type(start) is type(end) is int and 0 <= start <= end < MAX_SIZE
        fits = fits and (count + 7) // 8 == end - start
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"{path.name} has a damaged header",
            f"{path}: the entry of tensor {name[:120]!r} is not valid: {reprlib.repr(entry)}",
            DOWNLOAD_AGAIN,
        )
    return TensorInfo(name, dtype, tuple(shape), base + start, end - start)
