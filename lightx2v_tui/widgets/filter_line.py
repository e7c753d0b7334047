"""One line to filter a list by words as they are typed, with how many of it are shown."""

from __future__ import annotations

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class _Field(Input):
    """Enter and the arrows lead to the list."""

    BINDINGS = [
        Binding("enter,down,tab", "leave", "To the list", id="filter.leave",
                tooltip="Go to the list; the filter stays"),
        Binding("escape", "clear", "Show all", id="filter.clear", tooltip="End the filter"),
    ]  # fmt: skip

    def action_leave(self) -> None:
        """Leave the field."""
        self.post_message(FilterLine.Left())

    def action_clear(self) -> None:
        """End the filter."""
        self.post_message(FilterLine.Ended())


class FilterLine(Horizontal):
    """Shown while something is filtered; `open`, `close` and `count` are for its screen."""

    DEFAULT_CSS = """
    FilterLine { height: 1; display: none; padding: 0 1; }
    FilterLine.-open { display: block; }
    FilterLine Static { width: auto; color: $text-muted; }
    FilterLine Input { width: 1fr; background: $background; }
    FilterLine .slash { color: $accent; text-style: bold; }
    """

    @dataclass
    class Changed(Message):
        """Other words are looked for."""

        text: str

    class Left(Message):
        """The list is to have the focus."""

    class Ended(Message):
        """Everything is to be shown again."""

    def compose(self) -> ComposeResult:
        """Build the line."""
        yield Static("/ ", classes="slash")
        yield _Field(id="filter", compact=True, placeholder="words")
        yield Static(id="count", markup=False)

    def open(self) -> None:
        """Show the line, and let words be typed."""
        self.add_class("-open")
        self.query_one(_Field).focus()

    def close(self) -> bool:
        """Clear and hide the line; False where it was hidden."""
        if not self.has_class("-open"):
            return False
        self.query_one(_Field).value = ""
        self.remove_class("-open")
        self.post_message(self.Left())
        return True

    def count(self, shown: int, total: int) -> None:
        """Say how much of the list is shown."""
        self.query_one("#count", Static).update(f" {shown} of {total}")

    @on(Input.Changed)
    def _on_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))
