"""Pictures out of image and video files, small enough for a terminal.

A file may be anybody's: only the formats that are shown are opened, a picture too large for the
memory of a small machine is refused by its header, and nothing that is not a file is waited for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from engine.spec.errors import EngineError, JobError
from engine.spec.image_file import FLIPPED, SIDEWAYS, UPRIGHT, first_still, orientation
from engine.spec.image_size import image_size
from engine.spec.picture import Picture

MAX_PIXELS = 200_000_000
MAX_SIDE = 4096  # of what is given, in pixels
#: FFmpeg's names: a playlist, which would make it open other files, is none of them.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,png_pipe,jpeg_pipe,webp_pipe,apng"
DECODED_ALL = 400  # videos of more frames are looked at from key frame to key frame


def read_picture(path: Path, width: int, height: int) -> Picture:
    """Read an image, or the middle of a video, scaled to fit `width` x `height` pixels.

    Raises:
        EngineError: the file is not there, is no picture, or is too large.
    """
    return read_frames(path, 1, width, height)[0]


def read_frames(path: Path, count: int, width: int, height: int) -> tuple[Picture, ...]:
    """Read up to `count` frames from all over a video, each scaled to fit; an image has one.

    Raises:
        EngineError: the file is not there, is no picture, or is too large.
    """
    import av  # 0.1 s; it scales without numpy

    try:
        with _opened(path) as file:
            still, held = _check_image(path, file)
            source = file if still is None else BytesIO(still)
            with av.open(source, options={"format_whitelist": FORMATS}) as container:
                stream = container.streams.video[0]
                _check_size(path, stream.codec_context.width, stream.codec_context.height)
                frames = _chosen(container, stream, count)
                found = tuple(_small(path, frame, width, height, held) for frame in frames)
    except (OSError, av.FFmpegError, IndexError, ValueError) as error:
        raise _cannot_be_shown(path, getattr(error, "strerror", None) or str(error)) from error
    if not found:
        raise _cannot_be_shown(path, "it holds no picture")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is one: a pipe would be waited for without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "it is a folder" if path.is_dir() else "it is not a file")
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - of a descriptor
        yield file


def _check_image(path: Path, file: BinaryIO) -> tuple[bytes | None, int]:
    """Refuse an image that is too large by what its header says, before anything decodes it.

    Gives what to decode instead of the file itself, and how the image is to be held.
    """
    head = file.read(12)
    file.seek(0)
    if head[4:8] == b"ftyp":
        return None, UPRIGHT
    try:
        _check_size(path, *image_size(path))
    except JobError as error:
        raise _cannot_be_shown(path, error.why.removeprefix(f"{path}: ")) from error
    return first_still(path), orientation(path)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise EngineError(
            f"{path.name} is too large to be shown",
            f"{path}: {width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million",
            "Scale it down first.",
        )


def _chosen(container: Any, stream: Any, count: int) -> Iterator[Any]:  # noqa: ANN401 - PyAV's
    """Frames from the middles of `count` equal parts of a stream; of one frame, that one."""
    total = stream.frames or 1
    count = min(count, total)
    places = [(2 * part + 1) * total // (2 * count) for part in range(count)]
    if total <= DECODED_ALL:
        frames = islice(container.decode(stream), places[-1] + 1)
        yield from _at(frames, places)
        return
    start, duration = stream.start_time or 0, stream.duration or 0
    for place in places:
        container.seek(start + duration * place // total, stream=stream)
        yield from islice(container.decode(stream), 1)


def _at(frames: Iterator[Any], places: list[int]) -> Iterator[Any]:
    """The frames at these places, or the last one where a stream ends before the first."""
    last, given = None, 0
    for index, frame in enumerate(frames):
        last = frame
        if given < len(places) and index == places[given]:
            given += 1
            yield frame
    if last is not None and not given:
        yield last


def _small(path: Path, frame: Any, width: int, height: int, held: int) -> Picture:  # noqa: ANN401 - PyAV's
    """A frame scaled to fit, and turned upright."""
    _check_size(path, frame.width, frame.height)
    if held in SIDEWAYS:
        width, height = height, width
    scale = min(width / frame.width, height / frame.height, 1.0)
    shape = [max(1, min(MAX_SIDE, round(side * scale))) for side in (frame.width, frame.height)]
    scaled = frame.reformat(*shape, format="rgb24", interpolation="AREA")
    plane = scaled.planes[0]
    rows, line = memoryview(bytes(plane)), 3 * shape[0]
    pixels = b"".join(
        rows[y * plane.line_size : y * plane.line_size + line] for y in range(shape[1])
    )
    picture = Picture(shape[0], shape[1], pixels)
    return picture if held == UPRIGHT else upright(picture, held)


def upright(picture: Picture, held: int) -> Picture:
    """Turn and mirror a picture as its Exif orientation says."""
    step = 3 * picture.width
    rows = [
        [picture.pixels[at : at + 3] for at in range(start, start + step, 3)]
        for start in range(0, len(picture.pixels), step)
    ]
    if held in SIDEWAYS:
        rows = [list(column) for column in zip(*rows, strict=True)]
    down, across = (-1 if held in which else 1 for which in FLIPPED)
    pixels = b"".join(b"".join(row[::across]) for row in rows[::down])
    return Picture(len(rows[0]), len(rows), pixels)


def _cannot_be_shown(path: Path, why: str) -> EngineError:
    return EngineError(
        f"{path.name} cannot be shown",
        f"{path}: {why}",
        "Name a PNG, JPEG or WebP image, or an mp4.",
    )
