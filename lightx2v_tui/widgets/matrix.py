"""The precision matrix: one row a component, one cell a precision; arrows and space."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.app import RenderResult
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Size, clamp
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

MUTED = "$foreground 60%"
LABEL_WIDTH = 5
CELL_WIDTH, NOTED_WIDTH = 9, 18  # of a cell, without and with its note


@dataclass(frozen=True)
class Cell:
    """One thing to pick, and a word on it; a `reason` says why it cannot be."""

    value: str
    label: str
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A component, its cells, and which of them is picked."""

    title: str
    cells: tuple[Cell, ...]
    picked: int


class Matrix(Widget, can_focus=True):
    """Rows of cells of which one each is picked; what cannot be picked stays visible, dimmed."""

    DEFAULT_CSS = """
    Matrix { height: auto; width: 1fr; }
    Matrix:focus { background-tint: $foreground 4%; }
    """
    BINDINGS = [
        Binding(
            "up,k", "move(-1, 0)", "Up", show=False, id="matrix.up", tooltip="The network above"
        ),
        Binding(
            "down,j",
            "move(1, 0)",
            "Down",
            show=False,
            id="matrix.down",
            tooltip="The network below",
        ),
        Binding(
            "left,h",
            "move(0, -1)",
            "Left",
            show=False,
            id="matrix.left",
            tooltip="The precision before",
        ),
        Binding(
            "right,l",
            "move(0, 1)",
            "Right",
            show=False,
            id="matrix.right",
            tooltip="The precision behind",
        ),
        Binding("space,enter", "pick", "Pick", id="matrix.pick", tooltip="Pick this precision"),
    ]
    rows: reactive[tuple[Row, ...]] = reactive((), layout=True)
    cursor: reactive[tuple[int, int]] = reactive((0, 0))

    @dataclass
    class Picked(Message):
        """A cell was picked."""

        row: str
        value: str

    @dataclass
    class Highlighted(Message):
        """The cursor is on a cell of a row, or has left the matrix."""

        row: str
        cell: Cell | None

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """One line a row, however narrow it is."""
        return len(self.rows)

    def render(self) -> RenderResult:
        """Draw one line per row."""
        lines = [self._line(index, row) for index, row in enumerate(self.rows)]
        return Content("\n").join(lines)

    @property
    def cell_width(self) -> int:
        """How wide a cell is: with its note where all have room, cut where there is none."""
        most = max((len(row.cells) for row in self.rows), default=1)
        room = (self.size.width - LABEL_WIDTH) // most
        return NOTED_WIDTH if room >= NOTED_WIDTH else max(3, min(CELL_WIDTH, room))

    def _line(self, index: int, row: Row) -> Content:
        width = self.cell_width
        parts: list[tuple[str, str]] = [(row.title.ljust(LABEL_WIDTH), "bold $primary")]
        for column, cell in enumerate(row.cells):
            picked = column == row.picked
            mark = "●" if picked else "○" if not cell.reason else "×"
            style = MUTED if cell.reason else "bold $accent" if picked else ""
            if self.has_focus and (index, column) == self.cursor:
                style += " reverse"
            note = cell.note if width == NOTED_WIDTH and not cell.reason else ""
            label = f" {mark} {cell.label:<5}" if width >= CELL_WIDTH else f"{mark}{cell.label}"
            parts.append((label[: width - 1], style))
            parts.append((f" {note}".ljust(width - min(len(label), width - 1)), MUTED))
        if width == CELL_WIDTH and row.cells:
            most = max(len(row.cells) for row in self.rows)
            note = row.cells[row.picked].note
            if LABEL_WIDTH + most * width + len(note) <= self.size.width:
                parts.append((" " * ((most - len(row.cells)) * width) + note, MUTED))
        return Content.assemble(*parts).truncate(self.size.width)

    def action_move(self, down: int, right: int) -> None:
        """Move the cursor."""
        row = clamp(self.cursor[0] + down, 0, max(0, len(self.rows) - 1))
        last = len(self.rows[row].cells) - 1 if self.rows else 0
        self.cursor = (row, clamp(self.cursor[1] + right, 0, max(0, last)))

    def action_pick(self) -> None:
        """Pick the cell under the cursor, or say why not."""
        if not self.rows:
            return
        row = self.rows[self.cursor[0]]
        cell = row.cells[self.cursor[1]]
        if cell.reason:
            self.notify(
                cell.reason, title=f"{row.title} {cell.label}", severity="warning", markup=False
            )
        else:
            self.post_message(self.Picked(row.title, cell.value))

    def watch_cursor(self) -> None:
        """Tell the reason of the cell the cursor came to."""
        self._tell()

    def on_focus(self) -> None:
        """Tell the reason of the cell under the cursor."""
        self._tell()

    def on_blur(self) -> None:
        """The cursor is not shown any more."""
        self.post_message(self.Highlighted("", None))

    def _tell(self) -> None:
        if self.rows:
            row = self.rows[self.cursor[0]]
            self.post_message(self.Highlighted(row.title, row.cells[self.cursor[1]]))

    def on_click(self, event: events.Click) -> None:
        """Pick with the mouse."""
        column = (event.x - LABEL_WIDTH) // self.cell_width
        if 0 <= event.y < len(self.rows) and 0 <= column < len(self.rows[event.y].cells):
            self.cursor = (event.y, column)
            self.action_pick()
