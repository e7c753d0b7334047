"""What an image file says beside its pixels: which way is up, and where its first picture lies.

Cameras store what the sensor saw and note how it was held (Exif 2.3, tag 0x0112), in PNG, JPEG and
WebP alike. Animated WebP (Google's container specification) wraps each picture once more, which
FFmpeg does not undo.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

UPRIGHT = 1
SIDEWAYS = (5, 6, 7, 8)  # orientations whose width and height change places
#: Orientations of which the rows, and the columns, run backwards once the sides are exchanged.
FLIPPED = ((3, 4, 7, 8), (2, 3, 6, 7))
ORIENTATION, SHORT = 0x0112, 3
MAX_CHUNKS = 20_000
MAX_EXIF = 1 << 16
MAX_STILL = 100_000_000
ANIMATED = 0x02  # a flag of WebP's VP8X chunk


def orientation(path: Path) -> int:
    """The Exif orientation of an image, 1 to 8; 1 where it says none, or nothing sensible."""
    with suppress(OSError, struct.error, IndexError), path.open("rb") as file:
        exif = next(_exif_blocks(file), b"").removeprefix(b"Exif\0\0")
        found = _orientation_in(exif)
        return found if 1 <= found <= 8 else UPRIGHT
    return UPRIGHT


def first_still(path: Path) -> bytes | None:
    """The first picture of an animated WebP as a WebP of its own; None for any other file."""
    with suppress(OSError, struct.error, IndexError), path.open("rb") as file:
        chunks = _webp_chunks(file)
        kind, start, _ = next(chunks, (b"", 0, 0))
        file.seek(start)
        if kind != b"VP8X" or not file.read(1)[0] & ANIMATED:
            return None
        for kind, start, length in chunks:
            if kind == b"ANMF" and 16 < length <= MAX_STILL:
                file.seek(start)
                frame = file.read(length)
                return _still(frame[6:12], frame[16:])
    return None


def _still(size: bytes, chunks: bytes) -> bytes:
    """A WebP of the chunks of one frame; one with an alpha channel needs the extended header."""
    if chunks.startswith(b"ALPH"):
        chunks = b"VP8X" + struct.pack("<II", 10, 0x10) + size + chunks
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _exif_blocks(file: BinaryIO) -> Iterator[bytes]:
    head = file.read(12)
    if head.startswith(b"\xff\xd8"):
        found = ((start, length) for kind, start, length in _jpeg_segments(file) if kind == 0xE1)
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        found = ((start, length) for kind, start, length in _png_chunks(file) if kind == b"eXIf")
    else:
        found = ((start, length) for kind, start, length in _webp_chunks(file) if kind == b"EXIF")
    for start, length in found:
        file.seek(start)
        block = file.read(min(length, MAX_EXIF))
        if block.startswith((b"Exif\0\0", b"II*\0", b"MM\0*")):
            yield block


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Marker, start and length of each segment before the picture itself."""
    place = 2
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        marker, kind, length = struct.unpack(">BBH", file.read(4))
        if marker != 0xFF or kind == 0xDA or length < 2:
            return
        if kind != 0xFF:  # which only fills
            yield kind, place + 4, length - 2
        place += 1 if kind == 0xFF else 2 + length


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    place = 8
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield kind, place + 8, length
        place += 12 + length


def _webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        return
    place = 12
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        chunk = file.read(8)
        if len(chunk) < 8:
            return
        kind, length = struct.unpack("<4sI", chunk)
        yield kind, place + 8, min(length, end - place - 8)
        place += 8 + length + length % 2


def _orientation_in(exif: bytes) -> int:
    """What the first directory of a TIFF block says; 0 where it says nothing."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 0
    directory = struct.unpack(f"{order}I", exif[4:8])[0]
    count = struct.unpack(f"{order}H", exif[directory : directory + 2])[0]
    for entry in range(min(count, 1000)):
        start = directory + 2 + 12 * entry
        tag, kind = struct.unpack(f"{order}HH", exif[start : start + 4])
        if (tag, kind) == (ORIENTATION, SHORT):
            return int(struct.unpack(f"{order}H", exif[start + 8 : start + 10])[0])
    return 0
