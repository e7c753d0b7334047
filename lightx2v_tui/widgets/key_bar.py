"""The keys of the screen, as many as there is room for, drawn anew only where they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

LAST = "keys"  # the action whose key goes last: it tells all the others
FRAME, COMPACT_FRAME = 3, 2  # cells around a key and what it does


class KeyBar(Footer):
    """Textual's footer, which asks for a new drawing whenever the focus or a row changes.

    Each costs 20 ms and more, on the way to the first frame too.
    """

    def __init__(self, *, compact: bool = False) -> None:
        super().__init__(compact=compact, show_command_palette=False)
        self._told: Sequence[object] | None = None
        self._room = 0  # that the keys were chosen for

    def compose(self) -> ComposeResult:
        """Draw the keys that there is room for."""
        self._room = self.app.size.width
        keys = [cast("FooterKey", key) for key in super().compose()]
        while keys and sum(map(self._cells, keys)) > self._room:
            keys.remove(_least(keys))
        yield from keys

    def _cells(self, key: FooterKey) -> int:
        frame = COMPACT_FRAME if self.compact else FRAME
        return cell_len(key.key_display) + cell_len(key.description) + frame

    def on_resize(self) -> None:
        """Choose the keys for another width."""
        if self._room not in (0, self.app.size.width):
            self.call_after_refresh(self.recompose)

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Draw anew where a key has come, gone, or changed what it does."""
        if not self.is_attached or screen is not self.screen:
            return
        shown = [
            (binding.key, binding.description, enabled)
            for _, binding, enabled, _ in screen.active_bindings.values()
            if binding.show
        ]
        if shown != self._told:
            self._told = shown
            super().bindings_changed(screen)


def _least(keys: Sequence[FooterKey]) -> FooterKey:
    """The key that is missed least: the last one that does nothing now, else the last one."""
    return min(reversed(keys), key=lambda key: (key.action == LAST, not key.has_class("-disabled")))
