"""Sizes of images from their first bytes; what is broken or foreign is a `JobError`."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.spec.errors import JobError
from engine.spec.image_size import image_size

SIZES = [(1, 1), (37, 21), (640, 480), (300, 4096)]


def encoded(size: tuple[int, int], kind: str, mode: str = "RGB", **options: object) -> bytes:
    """An image of one colour in a format."""
    buffer = io.BytesIO()
    Image.new(mode, size, color=None if mode == "P" else 120 if mode == "L" else "teal").save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def exif() -> bytes:
    """EXIF that says the picture was taken on its side, with a long note in it."""
    table = Image.Exif()
    table[0x0112] = 6
    table[0x010E] = "a note " * 2000
    return table.tobytes()


def with_thumbnail(data: bytes) -> bytes:
    """A JPEG with another JPEG in a segment before its own size."""
    inner = encoded((5, 5), "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + data[2:]


def padded(data: bytes) -> bytes:
    """A JPEG with fill bytes before its second marker, which the standard allows."""
    return data[:2] + b"\xff\xff\xff" + data[2:]


def files(size: tuple[int, int]) -> dict[str, bytes]:
    """The same size in every format and flavour."""
    return {
        "png": encoded(size, "PNG"),
        "png grey": encoded(size, "PNG", "L"),
        "png palette": encoded(size, "PNG", "P"),
        "png alpha": encoded(size, "PNG", "RGBA"),
        "jpeg": encoded(size, "JPEG"),
        "jpeg grey": encoded(size, "JPEG", "L"),
        "jpeg progressive": encoded(size, "JPEG", progressive=True),
        "jpeg exif": encoded(size, "JPEG", exif=exif()),
        "jpeg thumbnail": with_thumbnail(encoded(size, "JPEG")),
        "jpeg padded": padded(encoded(size, "JPEG")),
        "webp lossy": encoded(size, "WEBP"),
        "webp lossless": encoded(size, "WEBP", lossless=True),
        "webp extended": encoded(size, "WEBP", "RGBA", exif=exif()),
    }


FLAVOURS = list(files((1, 1)))
ON_THEIR_SIDE = ("jpeg exif", "webp extended")


def size_of(folder: Path, data: bytes) -> tuple[int, int] | None:
    """What is read from these bytes; None where they are refused by name."""
    path = folder / "picture.any"
    path.write_bytes(data)
    try:
        size = image_size(path)
    except JobError as error:
        words = (error.what, error.why, error.fix)
    else:
        return size
    assert "picture.any" in words[1]
    assert all(words)
    return None


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("size", SIZES)
def test_every_flavour(size: tuple[int, int], flavour: str, tmp_path: Path) -> None:
    upright = size[::-1] if flavour in ON_THEIR_SIDE else size
    assert size_of(tmp_path, files(size)[flavour]) == upright


def test_flavours_are_what_they_are_called() -> None:
    found = files((37, 21))
    assert b"\xff\xc0" in found["jpeg"]
    assert b"\xff\xc2" in found["jpeg progressive"]
    assert found["webp lossy"][12:16] == b"VP8 "
    assert found["webp lossless"][12:16] == b"VP8L"
    assert found["webp extended"][12:16] == b"VP8X"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_truncated_at_every_length(flavour: str, tmp_path: Path) -> None:
    """Either the size is already there, or the file is refused; never another size.

    A WebP says behind its picture that it lies on its side.
    """
    data = files((300, 200))[flavour]
    lengths = [*range(min(len(data), 700)), *range(700, len(data), 97)]
    found = [size_of(tmp_path, data[:length]) for length in lengths]
    sizes = {(200, 300) if flavour in ON_THEIR_SIDE else (300, 200)}
    assert set(found) <= {None, *sizes, *([(300, 200)] if flavour == "webp extended" else [])}
    assert found[0] is None
    known = [size is not None for size in found]
    assert known == sorted(known)  # once the size is there, more bytes do not take it away


@pytest.mark.parametrize("data", [encoded((4, 4), "GIF"), encoded((4, 4), "BMP"), b"<html></html>"])
def test_other_formats_are_refused(data: bytes, tmp_path: Path) -> None:
    assert size_of(tmp_path, data) is None


@pytest.mark.parametrize("width", [0, 1 << 16, (1 << 32) - 1])
def test_sides_that_cannot_be_are_refused(width: int, tmp_path: Path) -> None:
    data = bytearray(encoded((4, 4), "PNG"))
    data[16:20] = struct.pack(">I", width)
    assert size_of(tmp_path, bytes(data)) is None


def test_missing_files_and_folders_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(JobError, match=path.name):
            image_size(path)


STARTS = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff\xe0",
                          b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBPVP8L",
                          b"RIFF\0\0\0\0WEBPVP8X"])  # fmt: skip


@given(STARTS, st.binary(max_size=80))
@example(b"\xff\xd8", b"\xff" * 80)
@example(b"\xff\xd8", b"\xff\xe0\x00\x00" * 20)
@settings(max_examples=300)
def test_any_bytes_give_a_size_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    size = size_of(tmp_path_factory.getbasetemp(), start + rest)
    assert size is None or all(0 < side < 1 << 16 for side in size)


@given(st.sampled_from(FLAVOURS), st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=200)
def test_one_changed_byte_gives_a_size_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, flavour: str, place: int, value: int
) -> None:
    data = bytearray(CACHED[flavour])
    data[min(place, len(data) - 1)] = value
    size = size_of(tmp_path_factory.getbasetemp(), bytes(data))
    assert size is None or all(0 < side < 1 << 16 for side in size)


CACHED = files((37, 21))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(JobError, match="cannot be read"):
        image_size(tmp_path / "x.png")
