"""Quiet lines on the first screen: what goes on elsewhere, and what can go on here."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from lightx2v_tui.output import printable


class Notice(Static):
    """A line or two; takes no place while there is nothing to say."""

    DEFAULT_CSS = """
    Notice { height: auto; max-height: 3; padding: 0 1; display: none;
             text-wrap: nowrap; text-overflow: ellipsis; }
    Notice.-told { display: block; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, markup=False)
        self._shown: tuple[tuple[str, str], ...] = ()

    def show(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show lines, each a text and its style."""
        if tuple(lines) == self._shown:
            return
        self._shown = tuple(lines)
        self.set_class(bool(lines), "-told")
        parts = [Content.styled(printable(text), style) for text, style in lines]
        self.update(Content("\n").join(parts))
