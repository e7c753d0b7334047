"""Textual's driver for a terminal that may go away while the app runs, or be taken up again."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
from contextlib import suppress

from textual.drivers.linux_driver import LinuxDriver

from lightx2v_tui.terminal_stream import TerminalStream

RESTORE_MS = 500
#: Out of a cut-off sequence, of paste, mouse and focus reports, the keyboard's protocol, and of
#: the other screen; lines wrap and the cursor is seen.
RESTORE = (
    b"\x18\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l"
    b"\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l\x1b[0m"
)
LOST = select.POLLHUP | select.POLLERR | select.POLLNVAL


class HardyDriver(LinuxDriver):
    """Tells the app, by `terminal_lost`, that nobody can see it any more; and never fails."""

    lost = False
    _watched = False
    _started = False

    def start_application_mode(self) -> None:
        """Take the terminal, unless it is gone."""
        if self.lost:
            return
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self._started = self._writer_thread is not None
        stream: object = self._file
        if isinstance(stream, TerminalStream):
            stream.on_gone, stream.on_behind = self.lose, self._draw_anew
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, daemon=True, name="terminal-watch").start()

    def resume_application_mode(self) -> None:
        """Take the terminal again, also after a stop that nobody announced."""
        if _is_lost(self.fileno, wait=0):
            self.lose()
            return
        if self._started:
            self.suspend_application_mode()
        super().resume_application_mode()
        self._draw_anew()  # the other screen begins empty

    def stop_application_mode(self) -> None:
        """Give the terminal back as it was."""
        self._started = False
        super().stop_application_mode()

    def write(self, data: str) -> None:
        """Write to the terminal, where there is one."""
        if self._writer_thread is not None:
            super().write(data)

    def run_input_thread(self) -> None:
        """Read keys until the end, or until there is nobody to press any."""
        with suppress(OSError):
            super().run_input_thread()
            return
        self.lose()

    def lose(self) -> None:
        """The terminal is gone: stop reading, which would find its end over and over."""
        if not self.lost:
            self.lost = True
            self.exit_event.set()
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._app.terminal_lost)  # type: ignore[attr-defined]

    def restore_now(self) -> None:
        """Give the terminal back at once, past all that waits to be written."""
        poll = select.poll()
        descriptor = self._file.fileno() if self._file is not None else self.fileno
        poll.register(descriptor, select.POLLOUT)
        if self.lost or not any(found & select.POLLOUT for _, found in poll.poll(RESTORE_MS)):
            return
        with suppress(OSError, termios.error):
            os.write(descriptor, RESTORE)
            if self.attrs_before is not None:
                termios.tcsetattr(self.fileno, termios.TCSAFLUSH, self.attrs_before)

    def _get_terminal_size(self) -> tuple[int, int]:
        """The size of what is drawn on: during a run descriptor 1, which Textual asks, is a log."""
        for stream in (sys.__stderr__, sys.__stdin__):
            with suppress(AttributeError, OSError, ValueError):  # none, closed, or no terminal
                columns, lines = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
                if columns and lines:
                    return columns, lines
        return super()._get_terminal_size()

    def _watch(self) -> None:
        if _is_lost(self.fileno, wait=None):
            self.lose()

    def _draw_anew(self) -> None:
        self._loop.call_soon_threadsafe(self._app.refresh)


def _is_lost(descriptor: int, wait: int | None) -> bool:
    """Say whether the other end of a terminal is closed; waits for that at most `wait` ms."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(found & LOST for _, found in poll.poll(wait))
