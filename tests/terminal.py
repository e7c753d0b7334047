"""A program on a real pseudo-terminal: keys in, bytes out, and when they came."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

CONTROL = re.compile(
    r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]|\x1b[P\]X^_].*?(?:\x1b\\|\x07)|\x1b.", re.DOTALL
)
PAINTED = 40  # printed cells that make a frame
ENTER, ESCAPE = "\r", "\x1b"


class Terminal:
    """One program and what it wrote; the program is ended with the block."""

    def __init__(
        self,
        *command: str,
        columns: int = 120,
        rows: int = 36,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.written = b""
        self.painted: float | None = None
        self.started = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            given = {"TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})}
            given |= {"HOME": str(home)} if home else {}
            os.execvpe(command[0], command, {**os.environ, **given})
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @classmethod
    def app(cls, *arguments: str, **options: object) -> Terminal:
        """Start lightx2v-tui."""
        command = (sys.executable, "-m", "lightx2v_tui", *arguments)
        return cls(*command, **options)  # type: ignore[arg-type]

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, grace in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            end = time.monotonic() + grace
            try:
                os.kill(self.pid, number)
                while time.monotonic() < end:
                    if os.waitpid(self.pid, os.WNOHANG)[0]:
                        os.close(self._fd)
                        return
                    self.pump(0.02)
            except (ProcessLookupError, ChildProcessError):
                os.close(self._fd)
                return

    @property
    def text(self) -> str:
        """Everything written so far, without control sequences."""
        return CONTROL.sub("", self.written.decode(errors="replace"))

    def pump(self, seconds: float) -> bool:
        """Read what comes within so many seconds; True where something came."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # the program has ended
            time.sleep(seconds)
            return False
        self.written += data
        if self.painted is None and sum(not c.isspace() for c in self.text) >= PAINTED:
            self.painted = time.perf_counter() - self.started
        return True

    def wait(self, text: str, seconds: float = 60.0) -> None:
        """Wait until `text` was written."""
        end = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < end, f"never came: {text}\n{self.text[-3000:]}"
            self.pump(0.02)

    def rest(self, seconds: float) -> int:
        """Let time pass; gives the bytes written meanwhile."""
        before, end = len(self.written), time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump(0.02)
        return len(self.written) - before

    def resize(self, columns: int, rows: int) -> None:
        """Have another size; the system tells the program."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, key: str) -> float:
        """Press a key; gives the milliseconds until the first bytes after it."""
        while self.pump(0):
            pass
        before, pressed = len(self.written), time.perf_counter()
        os.write(self._fd, key.encode())
        while len(self.written) == before and time.perf_counter() - pressed < 5:
            self.pump(0.001)
        return (time.perf_counter() - pressed) * 1000
