"""The choice of precisions: the matrix, and a line on what the cursor is on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from engine.spec.precision import Precision
from lightx2v_tui.catalog import TITLES, Component, Kind, ModelRoot
from lightx2v_tui.launch import runnable
from lightx2v_tui.launch.choices import Choice
from lightx2v_tui.units import size
from lightx2v_tui.widgets.matrix import Cell, Matrix, Row

HINT = "Arrows and space pick; a picks what suits this machine."
VAES = {"full": Kind.VAE, "tiny": Kind.TINY_VAE}


class PrecisionPanel(Vertical):
    """A precision for each network of a model, and one of its VAEs."""

    DEFAULT_CSS = """
    PrecisionPanel { height: auto; }
    PrecisionPanel Static { height: 3; color: $text-muted; }
    PrecisionPanel Static.-refused { color: $text-warning; }
    """

    @dataclass
    class Changed(Message):
        """Something else was picked."""

        choice: Choice

    def __init__(self, root: ModelRoot, choice: Choice) -> None:
        super().__init__(id="precision", classes="panel")
        self.border_title = "Precision"
        self._root, self._choice = root, choice
        self._why = ""
        self._told = ""

    def compose(self) -> ComposeResult:
        """Build the matrix and the line below."""
        yield Matrix(id="matrix")
        yield Static(id="reason", markup=False)

    def on_mount(self) -> None:
        """Fill the matrix."""
        self.query_one(Matrix).rows = rows_of(self._root, self._choice)
        self._tell("")

    def on_resize(self) -> None:
        """Tell as much as there is room for."""
        self._tell(self._told, refused=self.query_one(Static).has_class("-refused"))

    def show(self, choice: Choice, why: str = "") -> None:
        """Show what is chosen, and why."""
        self._choice, self._why = choice, why
        self.query_one(Matrix).rows = rows_of(self._root, choice)
        self._tell(why)

    @on(Matrix.Picked)
    def _on_picked(self, event: Matrix.Picked) -> None:
        event.stop()
        if event.row == TITLES[Kind.VAE]:
            choice = replace(self._choice, tiny_vae=VAES[event.value] is Kind.TINY_VAE)
        else:
            name = next(kind.value for kind, title in TITLES.items() if title == event.row)
            picked: dict[str, Any] = {name: Precision(event.value)}
            choice = replace(self._choice, **picked)
        self.show(choice)
        self.post_message(self.Changed(choice))

    @on(Matrix.Highlighted)
    def _on_highlighted(self, event: Matrix.Highlighted) -> None:
        event.stop()
        cell = event.cell
        if cell is None:
            self._tell(self._why)
        elif cell.reason:
            self._tell(cell.reason, refused=True)
        else:
            self._tell(f"{event.row} {cell.label}: {cell.note}. {self._why}")

    def _tell(self, text: str, *, refused: bool = False) -> None:
        self._told = text or HINT
        told = self.query_one(Static)
        told.set_class(refused, "-refused")
        room = told.size.width * told.size.height * 9 // 10  # lines are not filled to the end
        told.update(Content(shorten(self._told, room or 999, placeholder=" …")), layout=False)


def rows_of(root: ModelRoot, choice: Choice) -> tuple[Row, ...]:
    """The rows of the matrix: what can be picked, and why the rest cannot."""
    rows = [_precisions(root, kind, _picked(choice, kind)) for kind in runnable.needed(root)]
    vaes = tuple(
        Cell(
            name,
            name,
            runnable.reason_no_vae(root, tiny=kind is Kind.TINY_VAE),
            _size(root.find(kind)),
        )
        for name, kind in VAES.items()
    )
    return (*rows, Row(TITLES[Kind.VAE], vaes, int(choice.tiny_vae)))


def _precisions(root: ModelRoot, kind: Kind, picked: Precision) -> Row:
    cells = tuple(
        Cell(
            precision.value,
            precision.value,
            runnable.reason_not(root, kind, precision),
            _size(root.find(kind, precision)),
        )
        for precision in runnable.ORDER
    )
    return Row(TITLES[kind], cells, runnable.ORDER.index(picked))


def _picked(choice: Choice, kind: Kind) -> Precision:
    return {Kind.DIT: choice.dit, Kind.T5: choice.t5}.get(kind) or choice.clip or Precision.BF16


def _size(component: Component | None) -> str:
    return size(component.nbytes) if component else ""
