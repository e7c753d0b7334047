"""What the screen is drawn through: a terminal that is gone, or takes nothing, holds nobody up.

A link that is cut without a word takes bytes until its buffers are full, and then none for many
minutes. Whoever draws would wait all that time, and the line of runs with it.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 10.0  # seconds in which a terminal takes at least something
MOST = 64_000  # bytes that wait for the terminal before whoever writes waits, too
PIECE = 4096
MEND = b"\x18\x1b[0m"  # ends a sequence that was cut off, and its colours


class TerminalStream(io.TextIOBase):
    """A text stream onto a descriptor, which is written to by a thread of its own.

    Nothing that happens to the terminal is an error: once it is `gone` all is dropped. Where it
    takes nothing for so long that others should not wait, what waits is dropped, and `on_behind`
    is called as soon as it takes something again: then all must be drawn anew.
    """

    def __init__(self, descriptor: int, patience: float = PATIENCE) -> None:
        self.on_gone: Callable[[], None] = lambda: None
        self.on_behind: Callable[[], None] = lambda: None
        self._descriptor, self._patience = descriptor, patience
        self._changed = threading.Condition()
        self._pending = bytearray()
        self._progress = 0  # pieces the terminal has taken
        self._idle = True
        self._behind = False
        self._gone = False
        threading.Thread(target=self._work, daemon=True, name="terminal").start()

    @property
    def gone(self) -> bool:
        """True once the terminal is there no more."""
        return self._gone

    def fileno(self) -> int:
        """Give the descriptor of the terminal."""
        return self._descriptor

    def isatty(self) -> bool:
        """True where a terminal shows it."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Always: what cannot be shown is dropped."""
        return True

    def write(self, text: str) -> int:
        """Let a text be written soon."""
        with self._changed:
            if not (self._gone or self._behind):
                self._pending += text.encode("utf-8", "replace")
                self._changed.notify_all()
                self._wait(lambda: len(self._pending) <= MOST)
        return len(text)

    def flush(self) -> None:
        """Wait until all was written, as long as the terminal takes something."""
        with self._changed:
            self._wait(lambda: self._idle and not self._pending)

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait until `done`; drop what waits where the terminal takes nothing for too long."""
        while not (done() or self._dropping):
            before = self._progress
            if not self._changed.wait_for(
                lambda before=before: self._progress != before or self._dropping,  # type: ignore[misc]
                self._patience,
            ):
                self._behind = True
                self._pending.clear()

    @property
    def _dropping(self) -> bool:
        return self._gone or self._behind

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle = not self._pending
                if self._idle:
                    self._progress += 1
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: bool(self._pending))
                self._idle = False
                piece = bytes(self._pending[:PIECE])
                del self._pending[:PIECE]
            if not self._put(piece):
                return

    def _put(self, piece: bytes) -> bool:
        """Write a piece; False where the terminal is gone."""
        try:
            while piece:
                piece = piece[os.write(self._descriptor, piece) :]
        except OSError:
            with self._changed:
                self._gone = True
                self._pending.clear()
                self._changed.notify_all()
            self.on_gone()
            return False
        with self._changed:
            self._progress += 1
            caught_up, self._behind = self._behind, False
            if caught_up:
                self._pending[:] = MEND
            self._changed.notify_all()
        if caught_up:
            with suppress(RuntimeError):  # the app has ended meanwhile
                self.on_behind()
        return True
