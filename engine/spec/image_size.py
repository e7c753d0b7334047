"""Width and height of an image file from its first bytes: PNG, JPEG and WebP.

Formats: PNG (ISO 15948), JPEG (ITU T.81, the SOF marker), WebP (Google, RIFF container).
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path

from engine.spec.errors import JobError
from engine.spec.image_file import SIDEWAYS, orientation

MAX_BYTES = 4_000_000  # a JPEG may carry a large thumbnail in front of its size
#: JPEG markers that start a frame; C4, C8 and CC are tables.
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def image_size(path: Path) -> tuple[int, int]:
    """Read width and height, of the image as it is held upright.

    Raises:
        JobError: the file cannot be read, or is not one of the three formats.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise OSError(0, "it is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise JobError(
            f"The image {path.name} cannot be read",
            f"{path}: {error.strerror or error}",
            "Name a PNG, JPEG or WebP file as the image.",
        ) from error
    try:
        size = _size(data)
    except (struct.error, IndexError):
        size = None
    if size is None or not all(0 < side < 1 << 16 for side in size):
        raise JobError(
            f"{path.name} is not an image that can be used",
            f"{path}: it is not a whole PNG, JPEG or WebP file",
            "Convert it to PNG.",
        )
    return size[::-1] if orientation(path) in SIDEWAYS else size


def _size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 < len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker in START_OF_FRAME:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        alone = marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD9
        place += 1 if marker == 0xFF else 2
        if not alone:
            place += max(2, struct.unpack(">H", data[place : place + 2])[0])
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    return None
