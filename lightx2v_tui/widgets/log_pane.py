"""The log of a run: what libraries and the engine wrote, as it grows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.style import Style
from rich.text import Text
from textual import work
from textual.binding import Binding
from textual.message import Message
from textual.timer import Timer
from textual.widgets import RichLog

from lightx2v_tui.runs.tail import Tail

INTERVAL = 1.0
MOST_LINES = 2_000
TROUBLE = re.compile(r"\b\w*(?:error|exception|traceback|failed|fatal)\b", re.IGNORECASE)


class LogPane(RichLog):
    """Follows the end of a file while it is displayed; scrolled up, it stays where it is."""

    BINDINGS = [
        Binding("g", "scroll_home", "Top", id="log.top", show=False, tooltip="The first line"),
        Binding("G", "scroll_end", "End", id="log.end", show=False,
                tooltip="The last line, and follow it"),
    ]  # fmt: skip
    COMPONENT_CLASSES = {"log--trouble"}
    DEFAULT_CSS = """
    LogPane { height: 10; background: $background; overflow-y: auto;
              scrollbar-size-horizontal: 0; }
    LogPane > .log--trouble { color: $error; }
    """

    class Read(Message):
        """Lines were added to the file, or it cannot be read."""

        def __init__(self, tail: Tail, lines: Sequence[str], problem: str = "") -> None:
            super().__init__()
            self.tail, self.lines, self.problem = tail, lines, problem

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel", max_lines=MOST_LINES, wrap=True, min_width=20)
        self.border_title = "Log"
        self._path: Path | None = None
        self._tail: Tail | None = None
        self._looking: Tail | None = None  # where a look is under way
        self._timer: Timer | None = None

    def on_mount(self) -> None:
        """Look at the file now and then, while there is someone to see it."""
        self._timer = self.set_interval(INTERVAL, self.look, pause=True)

    def follow(self, path: Path) -> None:
        """Show a file from now on; it need not be there yet."""
        if path != self._path:
            self._path, self._tail = path, Tail(path)
            self.clear()
            self.border_subtitle = "nothing so far"

    def set_shown(self, *, shown: bool) -> None:
        """Show the pane, or hide it; what is not displayed is not read."""
        self.display = shown
        if self._timer is not None:
            (self._timer.resume if shown else self._timer.pause)()
        if shown:
            self.look()

    def rest(self) -> None:
        """The run has ended: one last look."""
        if self._timer is not None:
            self._timer.pause()
        if self.display:
            self.look()

    def look(self) -> None:
        """Read what was added, unless the last look has not come back yet."""
        if self._tail is not None and self._looking is not self._tail:
            self._looking = self._tail
            self._read(self._tail)

    @work(thread=True, exit_on_error=False, group="log")
    def _read(self, tail: Tail) -> None:
        try:
            lines, problem = tail.read(), ""
        except OSError as error:
            lines, problem = [], f"cannot be read: {error.strerror or error}"
        self.post_message(self.Read(tail, lines, problem))

    def on_log_pane_read(self, message: Read) -> None:
        """Show what was read, unless another file is shown by now."""
        message.stop()
        if message.tail is not self._tail:
            return
        self._looking = None
        if message.lines or message.problem:
            self.border_subtitle = message.problem
        follows = self.is_vertical_scroll_end  # else somebody reads further up
        trouble = Style(color=self.get_component_rich_style("log--trouble").color)
        for line in message.lines:
            style = trouble if TROUBLE.search(line) else ""
            self.write(Text(line, style=style), scroll_end=follows)
