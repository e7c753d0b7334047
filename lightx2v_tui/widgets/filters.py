"""What is drawn, made fit for the terminal, which may lack letters or colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter, NoColor

from lightx2v_tui.output import CONTROL
from lightx2v_tui.terminal import Terminal, plain

ORDERS = dict.fromkeys(CONTROL)


class NoOrders(LineFilter):
    """Lets no text on a screen tell the terminal what to do, wherever its letters came from."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's signature
        """Leave out control characters, which take no cells."""
        return [
            segment
            if segment.text.isprintable()
            else Segment(segment.text.translate(ORDERS), segment.style, segment.control)
            for segment in segments
        ]


class PlainLetters(LineFilter):
    """Shows every letter and line in ASCII, each in as many cells as before."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's signature
        """Replace what is not ASCII."""
        return [
            segment
            if segment.text.isascii()
            else Segment(_as_wide(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def _as_wide(text: str) -> str:
    """The text in ASCII, as wide as it was."""
    width = cell_len(text)
    return plain(text)[:width].ljust(width)


def filters_for(terminal: Terminal) -> Sequence[LineFilter]:
    """What a terminal needs."""
    letters = [] if terminal.unicode else [PlainLetters()]
    return [*letters, *([] if terminal.colours else [NoColor()])]
