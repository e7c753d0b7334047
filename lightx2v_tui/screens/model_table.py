"""The table of models: as many columns as there is room for, and a cursor that stays put."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.message import Message

from lightx2v_tui.widgets.row_table import RowTable

NAME = "Model"
#: Columns beside the name, and the order in which they are given up where there is no room.
WIDTHS = {"Task": 5, "Size": 8, "Disk": 7, "Variants": 17}
GIVEN_UP = ("Disk", "Size", "Task")
NAME_WIDTH = 26  # what a name should have before another column is shown
WIDE = 110  # from where on the pane is beside the table
PANE_FRAME = 5  # border, padding and the place of a scrollbar
Row = Mapping[str, Content]  # the cells by their column


class ModelTable(RowTable):
    """Rows by the keys of their models; only what has changed is drawn."""

    BINDINGS = [
        Binding("enter", "select_cursor", "Launch", id="models.open",
                tooltip="Choose precisions and launch"),
        Binding("home,g", "scroll_top", "First", id="models.first", show=False,
                tooltip="Go to the first line"),
        Binding("end,G", "scroll_bottom", "Last", id="models.last", show=False,
                tooltip="Go to the last line"),
    ]  # fmt: skip

    class Fitted(Message):
        """There are other columns now."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._cells: dict[str, Row] = {}
        self._names: tuple[str, ...] = ()
        self._name_width = 0
        self._touched = False  # by the user, who chose where the cursor is

    def show(self, rows: Mapping[str, Row], start: str = "") -> None:
        """Show these rows in this order; until a key was pressed the cursor is on `start`."""
        here = self.current if self._touched else (start if start in rows else "")
        old, self._cells = self._cells, dict(rows)
        if not self._names:
            return
        if [*old] == [*rows] and self.row_count == len(rows):
            for key, row in rows.items():
                self._update(key, row, old[key])
            if not self._touched and here:
                self._go_to(here)
            return
        self._fill(here)

    def _update(self, key: str, row: Row, old: Row) -> None:
        for column in self._names:
            if row[column] != old[column]:
                self.update_cell(key, column, self._cell(column, row[column]))

    def _fill(self, here: str) -> None:
        """Fill the table anew; the lines on the screen stay where they are."""
        before, top = self.cursor_row, self.scroll_y
        with self.prevent(self.RowHighlighted):
            self.clear()
            for key, row in self._cells.items():
                self.add_row(*(self._cell(name, row[name]) for name in self._names), key=key)
            self._go_to(here, before)
        self.call_after_refresh(self._keep_view, top)

    def _keep_view(self, top: float) -> None:
        self.scroll_to(y=top, animate=False)
        if self.row_count:
            self.move_cursor(row=self.cursor_row, scroll=True)

    def _go_to(self, key: str, otherwise: int = 0) -> None:
        """Put the cursor on a model, or where it was among the rows."""
        keys = [*self._cells]
        row = keys.index(key) if key in self._cells else min(otherwise, len(keys) - 1)
        if keys and row != self.cursor_row:
            self.move_cursor(row=row, scroll=True)

    def _cell(self, column: str, cell: Content) -> Content:
        """Cut a name to what there is room for."""
        if column != NAME or cell_len(cell.plain) <= self._name_width:
            return cell
        style = cell.spans[0].style if cell.spans else ""
        return Content.styled(f"{set_cell_size(cell.plain, self._name_width - 1)}…", style)

    def on_key(self) -> None:
        """From now on the cursor is where the user put it."""
        self._touched = True

    def on_resize(self, event: events.Resize) -> None:
        """Show the columns that there is room for, and give the name what they leave."""
        if self.fit(event.size.width):
            self.post_message(self.Fitted())

    def fit(self, room: int) -> bool:
        """Have the columns for so many cells; False where they are there already."""
        columns, width = fitting(room, self.cell_padding, self._bar)
        if columns == self._names and width == self._name_width:
            return False
        here = self.current
        self._names, self._name_width = columns, width
        with self.prevent(self.RowHighlighted):
            self.clear(columns=True)
            for name in columns:
                label = f"{name:>{WIDTHS[name]}}" if name == "Size" else name
                self.add_column(label, width=WIDTHS.get(name, width), key=name)
        self._fill(here)
        return True

    @property
    def _bar(self) -> int:
        return self.styles.scrollbar_size_vertical


def rooms(width: int) -> tuple[int, int]:
    """Cells for the table and for the pane's text in a terminal, as models.tcss shares them.

    Known before the first layout, so that the first frame is drawn once.
    """
    if width < WIDE:
        return width, width - PANE_FRAME
    table = round(width * 0.6)
    return table, width - table - PANE_FRAME


def fitting(room: int, padding: int, bar: int) -> tuple[tuple[str, ...], int]:
    """The columns that fit into so many cells, and how wide the name is then."""
    columns = [*WIDTHS]
    for given_up in (*GIVEN_UP, None):
        taken = sum(WIDTHS[name] for name in columns)
        width = room - bar - taken - 2 * padding * (len(columns) + 1)
        if width >= NAME_WIDTH or given_up is None:
            break
        columns.remove(given_up)
    return (NAME, *columns), max(8, width)
