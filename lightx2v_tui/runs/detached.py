"""The app without its terminal: what runs, and what waits, is ended well in this process."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Protocol

from engine.spec.errors import EngineError
from lightx2v_tui.output import leave_terminal, printable

LOOK = 0.5  # seconds between two looks at the line of runs
IGNORED = (signal.SIGHUP, signal.SIGPIPE, signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP)
ENDED_BY_USER = 143


class Line(Protocol):
    """Runs in line, as `launcher.Launcher` keeps them."""

    @property
    def busy(self) -> bool:
        """True while a run is under way."""

    @property
    def waiting(self) -> tuple[object, ...]:
        """The runs that wait."""

    def start_next(self) -> object:
        """Start the first of them, where nothing is under way."""

    def skip(self) -> None:
        """Take the first of them out."""

    def interrupt(self) -> None:
        """End the run under way, and let none start after it."""

    def remark(self, text: str) -> None:
        """Write a line to the log of the run under way."""


class Fetching(Protocol):
    """Downloads, as `downloader.Downloader` makes them."""

    @property
    def busy(self) -> bool:
        """True while something is fetched."""


def let_go_of_terminal() -> None:
    """Let descriptors that led to a terminal lead nowhere, and its signals go unheard."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    leave_terminal()
    with suppress(OSError):  # it leads a group: then it is enough that its signals are not heard
        os.setsid()


def finish(line: Line | None, fetching: Fetching | None) -> int:
    """Wait for all that was wanted, starting what is next in line; gives the exit code."""
    asked = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            os._exit(ENDED_BY_USER)
        asked = True
        if line is not None:
            line.interrupt()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if line is not None:
        line.remark("the terminal was closed; the run goes on, and all that wait after it")
    while (line is not None and _goes_on(line)) or (
        fetching is not None and fetching.busy and not asked
    ):
        time.sleep(LOOK)
    return ENDED_BY_USER if asked else 0


def _goes_on(line: Line) -> bool:
    """Start what is next, and say whether something is under way or waits."""
    if not line.busy and line.waiting:
        try:
            line.start_next()
        except (EngineError, OSError) as error:
            line.remark(printable(f"the next run could not start: {error}", keep="\n"))
            line.skip()
    return line.busy or bool(line.waiting)
