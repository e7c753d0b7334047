"""What a run has told besides its progress: what it waits for, and what was worth knowing."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from lightx2v_tui.output import printable

MOST = 3  # notes; the log has all of them


class Notes(Static):
    """A banner while the run waits for the user, then the last notes; else it takes no place."""

    DEFAULT_CSS = """
    Notes { height: auto; max-height: 8; display: none; }
    Notes.-told { display: block; }
    Notes.-waiting { border: round $warning; border-title-color: $warning; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel", markup=False)
        self._shown: tuple[str, tuple[str, ...]] = ("", ())

    def show(self, waiting: str, notes: Sequence[str]) -> None:
        """Show what the run waits for, or nothing, and the last of its notes."""
        last = tuple(notes[-MOST:])
        if (waiting, last) == self._shown:
            return
        self._shown = (waiting, last)
        self.set_class(bool(waiting or last), "-told")
        self.set_class(bool(waiting), "-waiting")
        self.border_title = "Waiting" if waiting else "Notes"
        parts: list[tuple[str, str]] = []
        if waiting:
            parts = [
                (f"{printable(waiting)}\n", "bold $warning"),
                ("Nothing is lost: make room and it goes on by itself. c cancels.", ""),
                ("\n" if last else "", ""),
            ]
        parts.append((printable("\n".join(last), keep="\n"), "$text-muted"))
        self.update(Content.assemble(*parts))
