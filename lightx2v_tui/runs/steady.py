"""A stream to whoever watches a run: when they are gone or slow, the run goes on without them."""

from __future__ import annotations

import errno
import io
import os
import select
import time
from collections.abc import Callable
from typing import TextIO, cast

PIECE = 4096  # bytes that never block once a pipe says it can take some
PATIENCE = 600.0  # seconds that a run that is over waits for a reader who takes nothing
WAIT = 500  # milliseconds between two looks
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a file: this text is lost, the next may find room


class Steady(io.TextIOBase):
    """Writes to a copy of a descriptor; nothing that happens to its reader is an error.

    A closed pipe or terminal is dropped. A slow reader is waited for, but only as long as
    `patience` once `over` is true.
    """

    def __init__(self, descriptor: int, patience: float = PATIENCE) -> None:
        self.over: Callable[[], bool] = lambda: False
        self._patience = patience
        self._copy: int | None = None
        try:
            self._copy = os.dup(descriptor)
        except OSError:
            return  # it was closed from the start

    @classmethod
    def text(cls, descriptor: int) -> tuple[Steady, TextIO]:
        """One on a descriptor, and the same as what other code takes for a text stream."""
        steady = cls(descriptor)
        return steady, cast(TextIO, steady)

    @property
    def gone(self) -> bool:
        """True where nobody reads any more."""
        return self._copy is None

    def hurry(self, seconds: float) -> None:
        """Wait from now on only so long for whoever reads."""
        self.over, self._patience = lambda: True, seconds

    def isatty(self) -> bool:
        """True where a terminal shows it."""
        return self._copy is not None and os.isatty(self._copy)

    def writable(self) -> bool:
        """Always: what nobody reads is dropped."""
        return True

    def write(self, text: str) -> int:
        """Write all of it, or drop it."""
        data = text.encode("utf-8", "backslashreplace")
        while data and self._copy is not None:
            try:
                if self._wait(self._copy):
                    data = data[os.write(self._copy, data[:PIECE]) :]
                else:
                    self._drop()
            except BlockingIOError:
                continue  # somebody else wrote to the same pipe
            except OSError as error:
                if error.errno in FULL:
                    break
                self._drop()
        return len(text)

    def _wait(self, descriptor: int) -> bool:
        """Wait until something can be written; False where that is given up."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        since: float | None = None
        while not poll.poll(WAIT):
            if not self.over():
                continue
            now = time.monotonic()
            since = now if since is None else since
            if now - since >= self._patience:
                return False
        return True

    def _drop(self) -> None:
        descriptor, self._copy = self._copy, None
        if descriptor is not None:
            os.close(descriptor)
