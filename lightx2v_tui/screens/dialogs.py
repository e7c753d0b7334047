"""Small screens over the others: an error to read, a question to answer, the keys, a log."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from engine.spec.errors import EngineError
from lightx2v_tui.output import printable

MAX_ERRORS = 20  # what is kept of errors that come while one is being read
Part = tuple[str, str]  # a text and its style
Group = tuple[str, list[tuple[str, str, str]]]  # a title; keys, name and meaning of each action


class Dialog(ModalScreen[bool]):
    """A box in the middle of the screen."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical {
        width: 76; max-width: 95%; height: auto; max-height: 90%;
        border: round $primary; background: $surface; padding: 1 2;
    }
    Dialog.-error > Vertical { border: round $error; }
    Dialog VerticalScroll { height: auto; max-height: 1fr; scrollbar-size-vertical: 1; }
    Dialog .hint { dock: bottom; height: 1; color: $text-muted; }
    Dialog VerticalScroll { margin-bottom: 2; }
    Dialog.-narrow > Vertical { width: 100%; max-width: 100%; padding: 0 1; }
    Dialog.-low > Vertical, Dialog.-lowest > Vertical { max-height: 100%; padding: 0 1; }
    Dialog.-low VerticalScroll, Dialog.-lowest VerticalScroll { margin-bottom: 1; }
    Dialog.-lowest > Vertical { border: none; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-lowest"), (8, "-low"), (16, "-high")]
    BINDINGS = [
        Binding("ctrl+c", "app.help_quit", "Quit", id="dialog.quit", show=False,
                tooltip="Leave the app; once more within two seconds leaves at once"),
    ]  # fmt: skip

    def __init__(self, title: str, body: Content, hint: str) -> None:
        super().__init__()
        self._title, self._body, self._hint = title, body, hint

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = escape(printable(self._title))
            with VerticalScroll():
                yield Static(self._body, id="body")
            yield Static(self._hint, classes="hint", markup=False)

    def show(self, title: str, body: Content) -> None:
        """Say something else."""
        self._title, self._body = title, body
        if self.is_mounted:
            self.query_one(Vertical).border_title = escape(printable(title))
            self.query_one("#body", Static).update(body)


@dataclass(frozen=True)
class Told:
    """An error that was met, how often, and where more is written."""

    error: EngineError
    log: str
    times: int = 1

    @property
    def parts(self) -> list[Part]:
        """What happened, why, and what to do."""
        often = f" ({self.times} times)" if self.times > 1 else ""
        parts: list[Part] = [(printable(self.error.what, keep="\n") + often, "bold $error")]
        told = (("Why", self.error.why), ("What to do", self.error.fix), ("Log", self.log))
        for title, text in told:
            if text:
                parts += [(f"\n\n{title}\n", "bold"), (printable(text, keep="\n"), "")]
        return parts


class ErrorDialog(Dialog):
    """What happened, why, and what to do; errors that come meanwhile are added."""

    BINDINGS = [
        Binding("escape,enter,q", "close", "Close", id="error.close", tooltip="Close this message"),
        Binding("y", "copy", "Copy", id="error.copy", tooltip="Copy the text of this message"),
    ]

    def __init__(self, error: EngineError, log: str = "") -> None:
        self._told = [Told(error, log)]
        super().__init__(*self._as_shown(), "enter  close    y  copy the text")
        self.add_class("-error")

    def add(self, error: EngineError, log: str = "") -> None:
        """Tell one more error; the same one again is only counted."""
        last = self._told[-1]
        if str(last.error) == str(error) and last.log == log:
            self._told[-1] = Told(error, log, last.times + 1)
        else:
            self._told = [*self._told, Told(error, log)][-MAX_ERRORS:]
        self.show(*self._as_shown())

    def _as_shown(self) -> tuple[str, Content]:
        count = len(self._told)
        title = "Something went wrong" + (f" ({count} errors)" if count > 1 else "")
        blocks = [Content.assemble(*told.parts) for told in self._told]
        return title, Content("\n\n───\n\n").join(blocks)

    def action_close(self) -> None:
        """Close."""
        self.dismiss(False)

    def action_copy(self) -> None:
        """Copy what is told to the terminal's clipboard."""
        self.app.copy_to_clipboard(self._body.plain)
        self.notify("The text of this message, if your terminal allows it.", title="Copied")


class Question(Dialog):
    """A question with yes or no."""

    BINDINGS = [
        Binding("y,enter", "answer(True)", "Yes", id="question.yes", tooltip="Yes, do it"),
        Binding("n,escape", "answer(False)", "No", id="question.no", tooltip="No, leave it"),
    ]

    def __init__(self, title: str, question: str) -> None:
        super().__init__(title, Content(printable(question, keep="\n")), "y  yes    n  no")

    def action_answer(self, yes: bool) -> None:
        """Answer."""
        self.dismiss(yes)


class TextDialog(Dialog):
    """A text to read, from its end, as a log is."""

    DEFAULT_CSS = "TextDialog > Vertical { width: 100; }"
    BINDINGS = [
        Binding("escape,enter,q", "close", "Close", id="text.close", tooltip="Close this text"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__(title, Content(printable(text, keep="\n")), "escape  close    ↑ ↓  scroll")

    def on_mount(self) -> None:
        """Show the end."""
        scroll = self.query_one(VerticalScroll)
        scroll.focus()
        self.call_after_refresh(scroll.scroll_end, animate=False)

    def action_close(self) -> None:
        """Close."""
        self.dismiss(False)


class KeysHelp(Dialog):
    """The keys of the screen below: of the field, of the screen, and those that work everywhere."""

    DEFAULT_CSS = """
    KeysHelp .group { color: $primary; text-style: bold; }
    KeysHelp .keys { layout: grid; grid-size: 3; grid-gutter: 0 2; height: auto; margin-bottom: 1; }
    KeysHelp .keys Static { height: auto; }
    KeysHelp .key { color: $accent; text-style: bold; }
    KeysHelp .name { text-style: bold; }
    KeysHelp.-narrow .keys { grid-size: 2; }
    KeysHelp.-narrow .meaning { column-span: 2; }
    """
    BINDINGS = [
        Binding("escape,enter,q,question_mark,f1", "close", "Close", id="help.close",
                tooltip="Close the keys"),
        Binding("comma,f2", "settings", "Settings", id="help.settings",
                tooltip="Go to the settings, to change keys"),
    ]  # fmt: skip

    def __init__(self, screen: Screen[object]) -> None:
        super().__init__("Keys", Content(""), "escape  close    ↑ ↓  scroll    ,  change keys")
        self._groups = _groups(screen)

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = self._title
            with VerticalScroll():
                for title, actions in self._groups:
                    yield Static(title, classes="group")
                    with Container(classes="keys"):
                        for keys, name, meaning in actions:
                            yield Static(Content(keys), classes="key")
                            yield Static(Content(name), classes="name")
                            yield Static(Content(meaning), classes="meaning")
            yield Static(self._hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """Three columns; on a narrow screen the meaning goes below."""
        rows = [row for _, actions in self._groups for row in actions]
        keys = max((cell_len(keys) for keys, _, _ in rows), default=1)
        names = max((len(name) for _, name, _ in rows), default=1)
        columns = f"{keys} 1fr" if self.has_class("-narrow") else f"{keys} {names} 1fr"
        for grid in self.query(".keys"):
            grid.styles.grid_columns = columns

    def action_close(self) -> None:
        """Close."""
        self.dismiss(False)

    def action_settings(self) -> None:
        """Close, and show the settings."""
        self.dismiss(False)
        self.app.call_later(self.app.run_action, "settings")


def _groups(screen: Screen[object]) -> list[Group]:
    """What each place binds, with the keys as they are now."""
    app = screen.app
    titles = {id(screen): "This screen", id(app): "Everywhere"}
    groups: dict[str, dict[str, tuple[list[str], str, str]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.system or not (binding.tooltip or binding.show):
            continue
        actions = groups.setdefault(titles.get(id(active.node), "This field"), {})
        names, _, _ = actions.setdefault(binding.action, ([], binding.description, binding.tooltip))
        names.append(app.get_key_display(binding))
    return [
        (title, [(" ".join(keys), name, meaning) for keys, name, meaning in actions.values()])
        for title, actions in groups.items()
    ]
