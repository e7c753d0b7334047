"""The table of past runs: as many columns as there is room for, and a cursor that keeps its run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.binding import Binding

from lightx2v_tui.runs.history import PastRun
from lightx2v_tui.screens.past import Column, columns, row
from lightx2v_tui.widgets.row_table import RowTable


class RunTable(RowTable):
    """A table whose Enter is shown in the footer."""

    BINDINGS = [
        Binding("enter", "select_cursor", "Edit", id="history.open",
                tooltip="Open the launch form with everything as it was in this run"),
        Binding("home,g", "scroll_top", "First", id="history.first", show=False,
                tooltip="Go to the first line"),
        Binding("end,G", "scroll_bottom", "Last", id="history.last", show=False,
                tooltip="Go to the last line"),
    ]  # fmt: skip

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id)
        self._shown: tuple[Column, ...] = ()

    @property
    def fits(self) -> bool:
        """True where the columns suit the width there is now."""
        return self._shown == columns(self._room)

    @property
    def _room(self) -> int:
        return (self.size.width or self.app.size.width) - self.scrollbar_size_vertical

    def show(self, runs: Sequence[PastRun]) -> None:
        """Draw the table anew; the cursor stays on its run, or near where it was."""
        wanted, place = self.current, self.cursor_row
        self._shown = columns(self._room)
        self.clear(columns=True)
        for column in self._shown:
            self.add_column(column.title, width=column.width)
        now = time.time()
        for run in runs:
            self.add_row(*row(run, self._shown, now), key=run.id)
        ids = [run.id for run in runs]
        if ids:
            here = ids.index(wanted) if wanted in ids else min(place, len(ids) - 1)
            self.move_cursor(row=here)
