"""An editor for prompts, which takes whatever is pasted without holding up the screen."""

from __future__ import annotations

import re

from textual import events, on
from textual.content import Content
from textual.widgets import TextArea

from lightx2v_tui.launch import form

FOLD = 512
TOO_LONG = "only the first 512 tokens count"


class PromptEditor(TextArea):
    """A prompt of as many lines as one likes; Tab leads to the next field."""

    DEFAULT_CSS = """
    PromptEditor { height: 1fr; min-height: 4; background: $background; }
    PromptEditor:focus { border: round $primary; }
    """

    def __init__(self, text: str, title: str, *, id: str) -> None:  # noqa: A002 - Textual's
        """Start with a text."""
        super().__init__(folded(text), id=id, classes="panel", soft_wrap=True,
                         tab_behavior="focus")  # fmt: skip
        self.border_title = title

    def on_mount(self) -> None:
        """Go on where the text ends, and say where it is too long."""
        self.move_cursor(self.document.end)
        self._tell()

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        await super()._on_paste(events.Paste(folded(event.text)))

    @on(TextArea.Changed)
    def _tell(self) -> None:
        subtitle = TOO_LONG if form.too_long(self.text) else ""
        if self.border_subtitle != subtitle:
            self.border_subtitle = Content(subtitle)


def folded(text: str) -> str:
    """Fold what is never read into even lines: an editor is slow in very long or very many."""
    head, tail = text[: form.READ_LETTERS], text[form.READ_LETTERS :]
    return head + "\n".join(re.findall(f".{{1,{FOLD}}}", " ".join(tail.splitlines())))
