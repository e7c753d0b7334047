"""The keys of the screen, drawn anew only where they are others than before."""

from __future__ import annotations

from collections.abc import Sequence

from textual.screen import Screen
from textual.widgets import Footer


class KeyBar(Footer):
    """Textual's footer, which asks for a new drawing whenever the focus or a row changes.

    Each costs 20 ms and more, on the way to the first frame too.
    """

    def __init__(self, *, compact: bool = False) -> None:
        super().__init__(compact=compact, show_command_palette=False)
        self._told: Sequence[object] | None = None

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
