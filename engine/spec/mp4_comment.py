"""The comment of an mp4, where a video carries the settings it was made with.

Boxes as ISO 14496-12 and Apple's QuickTime file format describe them; only their heads are read,
and the one text that is wanted. So a file that is not whole, or lies about its sizes, costs
nothing.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.spec.errors import CheckpointError, EngineError

MAX_BOXES = 10_000  # of one level; a video has a dozen
COMMENT = b"\xa9cmt"


def read_comment(path: Path, max_bytes: int) -> str:
    """Read the comment; empty where the video has none.

    Raises:
        EngineError: the file cannot be read, is no mp4, or its comment is longer than `max_bytes`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise OSError(0, "it is not a file")
        with path.open("rb") as file:
            return _comment(file, path, max_bytes)
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"The video {path.name} cannot be read", f"{path}: {why}", "Check the path."
        ) from error


def _comment(file: BinaryIO, path: Path, max_bytes: int) -> str:
    end = file.seek(0, os.SEEK_END)
    top = list(_boxes(file, 0, end))
    if not any(kind in (b"ftyp", b"moov") for kind, _, _ in top):
        raise EngineError(
            f"{path.name} is not an mp4", f"{path}: it has no video's header", "Name an mp4."
        )
    found = next(_texts(file, top), None)
    if found is None:
        return ""
    start, stop = found
    if stop - start > max_bytes:
        raise EngineError(
            f"The comment of {path.name} is too large",
            f"{path}: {stop - start} bytes, more than {max_bytes}",
            "Name a video that this app made.",
        )
    file.seek(start)
    return file.read(stop - start).decode("utf-8", "replace")


def _texts(file: BinaryIO, top: list[tuple[bytes, int, int]]) -> Iterator[tuple[int, int]]:
    """Where comments lie: as iTunes keeps them, or as QuickTime does."""
    for start, end in _inside(file, top, b"moov", b"udta"):
        boxes = list(_boxes(file, start, end))
        for list_start, list_end in _inside(file, boxes, b"meta", b"ilst", skip=4):
            items = list(_boxes(file, list_start, list_end))
            for data_start, data_end in _inside(file, items, COMMENT, b"data"):
                if data_end - data_start >= 8:  # kind of text, and language
                    yield data_start + 8, data_end
        for kind, text_start, text_end in boxes:
            if kind == COMMENT and text_end - text_start >= 4:  # length, and language
                file.seek(text_start)
                length = struct.unpack(">H", file.read(2))[0]
                yield text_start + 4, min(text_end, text_start + 4 + length)


def _inside(
    file: BinaryIO, boxes: list[tuple[bytes, int, int]], outer: bytes, inner: bytes, skip: int = 0
) -> Iterator[tuple[int, int]]:
    """The insides of every `inner` box within the `outer` ones."""
    for kind, start, end in boxes:
        if kind == outer:
            for below, inner_start, inner_end in _boxes(file, start + skip, end):
                if below == inner:
                    yield inner_start, inner_end


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of what each box between two places holds."""
    for _ in range(MAX_BOXES):
        file.seek(start)
        head = file.read(16) if end - start >= 8 else b""
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        inside = start + 8
        if size == 1 and len(head) == 16:  # the size is written in 64 bits
            size, inside = struct.unpack(">Q", head[8:])[0], start + 16
        stop = end if size == 0 else start + size
        if not inside <= stop <= end:
            return
        yield kind, inside, stop
        start = stop
