"""Who owns file descriptors 1 and 2: the program's own lines, or the log of a run.

Libraries (CUDA, FFmpeg, Triton) write to 1 and 2 whenever they like, which would tear a screen
or a stream of JSON. So the program keeps private copies for itself, and during a run 1 and 2
lead to the run's log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

STDOUT, STDERR = 1, 2
CONTROL = (*range(32), 127, *range(128, 160))  # C0, DEL and C1: what a terminal obeys


def printable(text: str, keep: str = "") -> str:
    """Replace control characters but those to `keep`: names and texts may hold them."""
    return text.translate({code: "?" for code in CONTROL if chr(code) not in keep})


def private_copy(descriptor: int) -> TextIO:
    """Open a text stream on a copy of a descriptor, which stays where it leads today."""
    copy = os.dup(descriptor)
    return open(copy, "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: PTH123


def keep_terminal() -> None:
    """Let the screen be drawn on a private copy of stderr, so that 2 can lead elsewhere."""
    # Textual's driver draws on whatever stands under this name when the app starts.
    sys.__stderr__ = cast(TextIOWrapper, private_copy(STDERR))  # type: ignore[misc]


@contextmanager
def redirected(log: Path) -> Iterator[None]:
    """Lead descriptors 1 and 2 to the file `log` while the block runs.

    Raises:
        OSError: the log cannot be opened; nothing was redirected.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    saved = [(descriptor, os.dup(descriptor)) for descriptor in (STDOUT, STDERR)]
    try:
        _flush()
        for descriptor, _ in saved:
            os.dup2(target, descriptor)
        yield
    finally:
        _flush()
        for descriptor, copy in saved:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(target)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # none, closed, or nobody reads it
            stream.flush()
