"""Files that are whole or not there: written under another name, flushed to the disk, renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.spec import space
from engine.spec.control import RunControl
from engine.spec.errors import Cancelled, DiskFull
from engine.spec.events import Event, Waiting

LOOK = 1.0  # seconds between two looks at whether there is room
LONGEST = 60  # looks before another try, where the disk says there is room and there was none


def put_in_place(partial: Path, path: Path) -> None:
    """Give a file that was written the name it is known by, so that a power cut keeps it.

    Raises:
        OSError: the disk did not take it; `path` is as it was.
    """
    handle = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    partial.replace(path)
    with contextlib.suppress(OSError):  # some network file systems flush no folders
        _flush_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step.

    Raises:
        OSError: it cannot be written; `path` is as it was, and nothing else is left.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:  # the user's alone
            file.write(content)
        put_in_place(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def patiently(
    stop: RunControl, path: Path, needed: int, attempt: Callable[[], Iterator[Event]]
) -> Iterator[Event]:
    """Write a file of about `needed` bytes, once there is room; where that ends, try again.

    Raises:
        Cancelled: the run was stopped while it waited.
    """
    looks = 0
    while True:
        if looks or _is_short(path, needed):
            yield Waiting(space.lacking(path, needed))
            _wait_for_room(stop, path, needed, looks)
        try:
            yield from attempt()
            return
        except DiskFull:
            looks = min(LONGEST, 2 * looks or 1)


def _wait_for_room(stop: RunControl, path: Path, needed: int, looks: int) -> None:
    """Wait until somebody makes room.

    Where the disk says that there is room, which it did not give, `looks` must do.
    """
    looked, was_short = 0, False
    while (short := _is_short(path, needed)) or (looked < looks and not was_short):
        was_short = was_short or short
        hurried = stop.nap(LOOK)
        if stop.is_set():
            raise Cancelled
        if hurried:
            return
        looked += 1


def _is_short(path: Path, needed: int) -> bool:
    free = space.free_space(path)
    return free is not None and free < needed


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
