"""The block files of one model: forty headers that differ in nothing but a number.

Parsing one and renumbering the others when, and if, somebody looks inside makes reading a folder
of blocks several times faster, which is felt where a scan reads thousands of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.spec.header import Header, TensorInfo, parse_header

_BARE = b'"blocks..'  # a block's prefix without its number
_BLOCK = re.compile(rb'"(blocks\.\d{1,9}\.)')


@dataclass(frozen=True)
class _Known:
    """A parsed header of one block, its prefix, and where its data begin."""

    header: Header
    prefix: str
    base: int


class AlikeBlocks:
    """Parses headers for `read_header`; of those that are alike only the first."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    def __call__(self, path: Path, raw: bytes, file_bytes: int) -> Header:
        """Give the header `raw`; `like` names the one it was not parsed for.

        Raises:
            CheckpointError: it is damaged, or the file is truncated.
        """
        match = _BLOCK.search(raw)
        if match is None or _BARE in raw or b"\\" in raw:  # a name may be written otherwise
            return parse_header(path, raw, file_bytes)
        base, prefix = 8 + len(raw), match[1].decode("ascii")
        # Were there tensors of another block, or data of another length, this would differ.
        shape = raw.replace(match[0], _BARE).rstrip(b" ") + b"%d" % (file_bytes - base)
        known = self._known.get(shape)
        if known is None:
            header = parse_header(path, raw, file_bytes)
            if not any(key.startswith("blocks.") for key in header.metadata):
                self._known[shape] = _Known(header, prefix, base)
            return header
        tensors, metadata = _Renumbered(known, prefix, base), known.header.metadata
        return Header(path, tensors, file_bytes, metadata, like=known.header, block=prefix)


class _Renumbered(Mapping[str, TensorInfo]):
    """The tensors of a header that is like a known one but for its block's number."""

    def __init__(self, known: _Known, prefix: str, base: int) -> None:
        self._source, self._prefix, self._base = known, prefix, base

    @cached_property
    def _tensors(self) -> dict[str, TensorInfo]:
        old, shift = len(self._source.prefix), self._base - self._source.base
        tensors = {}
        for name, info in self._source.header.tensors.items():
            if name.startswith(self._source.prefix):
                name = self._prefix + name[old:]
            tensors[name] = info._replace(name=name, offset=info.offset + shift)
        return tensors

    def __getitem__(self, name: str) -> TensorInfo:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._source.header.tensors)
