"""Who owns file descriptors 1 and 2: the program's own lines, or the log of a run.

Libraries (CUDA, FFmpeg, Triton) write to 1 and 2 whenever they like, which would tear a screen
or a stream of JSON. So the program keeps private copies for itself, and during a run 1 and 2
lead to the run's log.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

from lightx2v_tui import store

STDIN, STDOUT, STDERR = 0, 1, 2
_leading = threading.Lock()  # held while descriptors change where they lead
_kept: dict[int, int] = {}  # copies of descriptors that lead to a log for now
#: C0, DEL and C1, which a terminal obeys, and what turns the direction of the text around it.
CONTROL = (*range(32), 127, *range(128, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))


def printable(text: str, keep: str = "") -> str:
    """Replace control characters but those to `keep`: names and texts may hold them."""
    return text.translate({code: "?" for code in CONTROL if chr(code) not in keep})


def for_reader(path: Path, stream: TextIO) -> str:
    """A path as it is for a program to read; on a terminal with nothing that it would obey."""
    return printable(str(path)) if stream.isatty() else str(path)


def keep_terminal() -> None:
    """Let the screen be drawn on a private copy of stderr, so that 2 can lead elsewhere."""
    from lightx2v_tui.terminal_stream import TerminalStream

    # Textual's driver draws on whatever stands under this name when the app starts.
    sys.__stderr__ = cast(TextIOWrapper, TerminalStream(os.dup(STDERR)))  # type: ignore[misc]


@contextmanager
def redirected(log: Path) -> Iterator[None]:
    """Lead descriptors 1 and 2 to the file `log` while the block runs.

    Raises:
        OSError: the log cannot be opened; nothing was redirected.
    """
    store.make_folder(log.parent)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with _leading:
        saved = [(descriptor, os.dup(descriptor)) for descriptor in (STDOUT, STDERR)]
        _kept.update(saved)
    try:
        _flush()
        for descriptor, _ in saved:
            os.dup2(target, descriptor)
        yield
    finally:
        _flush()
        with _leading:
            _kept.clear()
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)
        os.close(target)


def leave_terminal() -> None:
    """Let 0, 1, 2 and the screen lead nowhere, now and after a run, which keeps its log."""
    screen = sys.__stderr__.fileno() if sys.__stderr__ is not None else STDERR
    null = os.open(os.devnull, os.O_RDWR)
    with _leading:
        for descriptor in (STDIN, _kept.get(STDOUT, STDOUT), _kept.get(STDERR, STDERR), screen):
            os.dup2(null, descriptor)
    os.close(null)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # none, closed, or nobody reads it
            stream.flush()
