"""What a GGUF file holds: names, types and shapes of its tensors, and none of its weights.

Format: the GGUF specification of ggml, versions 2 and 3, little-endian. This engine does not
compute GGUF; the header is read so that such a file can be called by its right name.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path
from typing import BinaryIO

from engine.spec.errors import CheckpointError
from engine.spec.header import DOWNLOAD_AGAIN, MAX_SIZE, Header, TensorInfo, truncated, unreadable

MAX_ENTRIES = 100_000
MAX_BYTES = 32 << 20  # of a header: a tokenizer's tokens are a few megabytes
MAX_TEXT = 1 << 24  # a tokenizer's merges, in one metadata value
MAX_RANK = 8
UINT32, STRING, ARRAY = 4, 8, 9
#: Bytes of a metadata value, by its type.
VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
#: ggml's tensor types: name, values of a block, bytes of a block.
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136), 30: ("BF16", 1, 2),
}  # fmt: skip
FLOATS = frozenset({"F32", "F16", "BF16"})


def read_gguf(path: Path) -> Header:
    """Read the header of a GGUF file; shapes in PyTorch's order.

    Raises:
        CheckpointError: the file cannot be read, is truncated, or is no GGUF.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is not a file")
        with path.open("rb") as file:
            return _Reader(path, file, status.st_size).header()
    except OSError as error:
        raise unreadable(path, error) from error


class _Reader:
    """Reads one file from its start, never more than it holds."""

    def __init__(self, path: Path, file: BinaryIO, file_bytes: int) -> None:
        self.path, self.file, self.file_bytes = path, file, file_bytes
        self.at = 0

    def header(self) -> Header:
        if self._take(4) != b"GGUF" or self._number("<I") not in (2, 3):
            raise self._damaged("it is no GGUF of version 2 or 3")
        tensors, values = self._count(), self._count()
        alignment = 32
        for _ in range(values):
            key, kind = self._text(), self._number("<I")
            if key == b"general.alignment" and kind == UINT32:
                alignment = self._number("<I") or alignment
            else:
                self._skip_value(kind)
        infos = [self._tensor() for _ in range(tensors)]
        base = -(-self.at // alignment) * alignment  # where the data begin
        end = base + max((info.offset + info.nbytes for info in infos), default=0)
        if end > self.file_bytes:
            raise truncated(self.path, end, self.file_bytes)
        return Header(self.path, {info.name: info for info in infos}, self.file_bytes)

    def _tensor(self) -> TensorInfo:
        name = self._text().decode("utf-8", "replace")
        rank = self._number("<I")
        if rank > MAX_RANK:
            raise self._damaged(f"tensor {name[:120]!r} has {rank} dimensions")
        shape = tuple(self._number("<Q") for _ in range(rank))[::-1]
        dtype, block, nbytes = TYPES.get(self._number("<I"), ("GGUF", 1, 0))
        offset, count = self._number("<Q"), 1
        for size in shape:
            count *= size
        if max((*shape, offset, count)) >= MAX_SIZE:
            raise self._damaged(f"tensor {name[:120]!r} is impossibly large")
        return TensorInfo(name, dtype, shape, offset, count // block * nbytes)

    def _skip_value(self, kind: int) -> None:
        if kind == STRING:
            self._text()
        elif kind == ARRAY:
            inner, count = self._number("<I"), self._number("<Q")
            if inner == STRING and count * 8 <= self.file_bytes:
                for _ in range(count):
                    self._text()
            else:
                self._skip(count * VALUE_BYTES.get(inner, self.file_bytes + 1))
        else:
            self._skip(VALUE_BYTES.get(kind, self.file_bytes + 1))

    def _text(self) -> bytes:
        length = self._number("<Q")
        if length > MAX_TEXT:
            raise self._damaged(f"it announces a text of {length} bytes")
        return self._take(length)

    def _count(self) -> int:
        count = self._number("<Q")
        if count > MAX_ENTRIES:
            raise self._damaged(f"it announces {count} entries")
        return count

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(value)

    def _skip(self, count: int) -> None:
        if count:
            self._need(count)
            self.file.seek(count, 1)

    def _take(self, count: int) -> bytes:
        self._need(count)
        return self.file.read(count)

    def _need(self, count: int) -> None:
        self.at += count
        if self.at > self.file_bytes:
            raise truncated(self.path, self.at, self.file_bytes)
        if self.at > MAX_BYTES:
            raise self._damaged("its header is larger than that of any model")

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path.name} has a damaged header", f"{self.path}: {why}", DOWNLOAD_AGAIN
        )
