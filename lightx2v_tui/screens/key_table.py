"""The table of every action with its keys, as they are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.binding import Binding
from textual.content import Content

from lightx2v_tui.screens.keys import KnownKey, keys_now
from lightx2v_tui.widgets.row_table import RowTable


class KeyTable(RowTable):
    """A table whose Enter is shown in the footer."""

    BINDINGS = [
        Binding("enter", "select_cursor", "New key", id="keys.change",
                tooltip="Press another key for this action"),
        Binding("home,g", "scroll_top", "First", id="keys.first", show=False,
                tooltip="Go to the first line"),
        Binding("end,G", "scroll_bottom", "Last", id="keys.last", show=False,
                tooltip="Go to the last line"),
    ]  # fmt: skip

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id)
        self._widths: tuple[int, ...] = ()

    @property
    def fits(self) -> bool:
        """True where the columns suit the width there is now."""
        return self._widths == self._fitting

    @property
    def _fitting(self) -> tuple[int, ...]:
        room = max(24, self.size.width - self.scrollbar_size_vertical - 6)
        return (room * 2 // 5, room * 3 // 10, room - room * 2 // 5 - room * 3 // 10)

    def show(self, known: Sequence[KnownKey], keymap: Mapping[str, str]) -> None:
        """Draw the table anew; the cursor stays where it was."""
        place = self.cursor_row
        self.clear(columns=True)
        self._widths = self._fitting
        for title, width in zip(("Action", "Keys", "Where"), self._widths, strict=True):
            self.add_column(title, width=width)
        for key in known:
            changed = key.id in keymap
            names = (Binding(name, "", "") for name in keys_now(key, keymap))
            keys = " ".join(self.app.get_key_display(name) for name in names)
            self.add_row(
                Content(key.description),
                Content.styled(keys + (" *" if changed else ""), "bold" if changed else ""),
                Content(key.context),
                key=key.id,
            )
        if known:
            self.move_cursor(row=min(place, len(known) - 1))
