"""The end of a file that grows, as lines that a terminal may show."""

from __future__ import annotations

import re
from pathlib import Path

from lightx2v_tui.output import printable

FIRST_BYTES = 64_000  # of a file that is long already
LONGEST_LINE = 2_000  # progress bars of libraries can be one endless line
COLOURS = re.compile(r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]")  # and all else that moves a cursor


class Tail:
    """Reads what was added to a file since the last look; the file need not be there yet."""

    def __init__(self, path: Path, first: int = FIRST_BYTES) -> None:
        self._path, self._first = path, first
        self._offset = -1  # nothing was read yet
        self._rest = b""  # of a line whose end was not written yet

    def read(self) -> list[str]:
        """Read the lines that were ended since the last look.

        Raises:
            OSError: the file is there, and cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, 2)
                if end < self._offset:  # somebody emptied it
                    self._offset, self._rest = 0, b""
                skipped = self._offset < 0 and end > self._first
                if self._offset < 0 or end - self._offset > self._first:
                    self._offset, self._rest = max(0, end - self._first), b""
                    skipped = skipped or self._offset > 0
                file.seek(self._offset)
                added = file.read(end - self._offset)
        except FileNotFoundError:
            return []
        self._offset += len(added)
        return self._lines(added, skipped=skipped)

    def _lines(self, added: bytes, *, skipped: bool) -> list[str]:
        """Cut what was added into lines; the first of a part that begins anywhere is no line."""
        *whole, rest = (self._rest + added).split(b"\n")
        self._rest = rest[-LONGEST_LINE:]
        return [_shown(line) for line in (whole[1:] if skipped else whole)]


def _shown(line: bytes) -> str:
    """A line as it looks once everything in it was written: a bar overwrites itself."""
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    text = COLOURS.sub("", last[-LONGEST_LINE:].decode("utf-8", "replace"))
    return printable(text.expandtabs(4)).rstrip()
