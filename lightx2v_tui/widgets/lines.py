"""Single lines that are sent to the terminal only when they say something new."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static


def entitle(widget: Widget, title: str) -> None:
    """Give a panel a title; setting it draws all that is in the panel, so only where it differs."""
    if str(widget.border_title or "") != title:
        widget.border_title = title


class Line(Static):
    """One line; hidden until it is first shown."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, markup=False)
        self.display = False
        self._shown: Content | None = None

    def show(self, content: Content) -> None:
        """Show a line."""
        self.display = True
        if content != self._shown:
            self._shown = content
            self.update(content, layout=False)  # it is one line high whatever it says

    def hide(self) -> None:
        """Take no place until something is shown again."""
        self.display = False
