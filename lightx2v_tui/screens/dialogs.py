"""Small screens over the others: an error to read, a question to answer, the keys."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from engine.spec.errors import EngineError


class Dialog(ModalScreen[bool]):
    """A box in the middle of the screen."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical {
        width: 76; max-width: 95%; height: auto; max-height: 90%;
        border: round $primary; background: $surface; padding: 1 2;
    }
    Dialog.-error > Vertical { border: round $error; }
    Dialog VerticalScroll { height: auto; max-height: 1fr; }
    Dialog .hint { dock: bottom; height: 1; color: $text-muted; }
    Dialog VerticalScroll { margin-bottom: 2; }
    """

    def __init__(self, title: str, body: Content, hint: str) -> None:
        super().__init__()
        self._title, self._body, self._hint = title, body, hint

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = self._title
            with VerticalScroll():
                yield Static(self._body)
            yield Static(self._hint, classes="hint", markup=False)


class ErrorDialog(Dialog):
    """What happened, why, and what to do."""

    BINDINGS = [
        Binding("escape,enter,q", "close", "Close", id="error.close", tooltip="Close this message")
    ]

    def __init__(self, error: EngineError, log: str = "") -> None:
        parts: list[tuple[str, str]] = [(error.what, "bold $error")]
        for title, text in (("Why", error.why), ("What to do", error.fix), ("Log", log)):
            if text:
                parts += [(f"\n\n{title}\n", "bold"), (text, "")]
        super().__init__("Something went wrong", Content.assemble(*parts), "enter  close")
        self.add_class("-error")

    def action_close(self) -> None:
        """Close."""
        self.dismiss(False)


class Question(Dialog):
    """A question with yes or no."""

    BINDINGS = [
        Binding("y,enter", "answer(True)", "Yes", id="question.yes", tooltip="Yes, do it"),
        Binding("n,escape", "answer(False)", "No", id="question.no", tooltip="No, leave it"),
    ]

    def __init__(self, title: str, question: str) -> None:
        super().__init__(title, Content(question), "y  yes    n  no")

    def action_answer(self, yes: bool) -> None:
        """Answer."""
        self.dismiss(yes)


class KeysHelp(Dialog):
    """The keys of the screen below."""

    BINDINGS = [
        Binding("escape,enter,q,question_mark", "close", "Close", id="help.close", tooltip="Close")
    ]

    def __init__(self, screen: Screen[object]) -> None:
        super().__init__("Keys", _keys(screen), "escape  close")

    def action_close(self) -> None:
        """Close."""
        self.dismiss(False)


def _keys(screen: Screen[object]) -> Content:
    """One line per action of a screen: key, name, and what it does."""
    lines: dict[str, Content] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.system or not (binding.tooltip or binding.show):
            continue
        shown = screen.app.get_key_display(binding)
        keys = f"{shown:<9}" if binding.action not in lines else ""
        text = binding.tooltip or binding.description
        if keys:
            lines[binding.action] = Content.assemble(
                (keys, "bold $accent"), (f" {binding.description:<12} ", "bold"), (text, "")
            )
    return Content("\n").join(lines.values())
