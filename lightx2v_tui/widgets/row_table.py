"""A table of rows with keys, of which one is under the cursor."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import DataTable


class RowTable(DataTable[Content]):
    """A table whose cursor is a whole row."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, cursor_type="row")

    @property
    def current(self) -> str:
        """The key of the row under the cursor; empty where there is none."""
        if not self.row_count:
            return ""
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)
