"""Press a key: what is pressed becomes the key of an action, unless something else has it."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from lightx2v_tui.screens.keys import KnownKey, conflict, is_key, keys_now

RESET = ""
RESETTING = ("backspace", "delete")


class Catcher(Widget, can_focus=True):
    """Takes every key before it does anything."""

    DEFAULT_CSS = "Catcher { width: 0; height: 0; }"

    def on_key(self, event: events.Key) -> None:
        """Hand the key to the dialog, and to nobody else."""
        event.stop()
        event.prevent_default()
        self.post_message(Caught(event.key))


class Caught(Message):
    """A key was pressed."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class AskKey(ModalScreen[str | None]):
    """Asks for the new key of an action; gives it, RESET for the one it had, or None."""

    DEFAULT_CSS = """
    AskKey { align: center middle; background: $background 60%; }
    AskKey > Vertical {
        width: 62; max-width: 100%; height: auto; max-height: 100%; padding: 0 2;
        border: round $primary; border-title-color: $primary; border-title-style: bold;
        background: $surface;
    }
    AskKey #told { height: auto; min-height: 1; color: $text-warning; }
    AskKey .hint { color: $text-muted; }
    """
    BINDINGS = [
        Binding("escape", "back", "Cancel", id="askkey.cancel", tooltip="Keep the key as it is"),
    ]

    def __init__(
        self, key: KnownKey, known: tuple[KnownKey, ...], keymap: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._key, self._known, self._keymap = key, known, keymap

    def compose(self) -> ComposeResult:
        """Build the box."""
        key = self._key
        now = ", ".join(keys_now(key, self._keymap))
        with Vertical() as box:
            box.border_title = f"{key.context}: {key.description}"
            yield Static(f"Press the new key. Now it is {now}.", markup=False)
            yield Static(id="told", markup=False)
            yield Static("escape  cancel    backspace  as it was", classes="hint", markup=False)
            yield Catcher()

    def on_mount(self) -> None:
        """Wait for the key."""
        self.query_one(Catcher).focus()

    def on_caught(self, event: Caught) -> None:
        """Take a key, or say why not."""
        if event.key == "escape":
            self.dismiss(None)
        elif event.key in RESETTING:
            self.dismiss(RESET)
        elif reason := self._reason_against(event.key):
            self.query_one("#told", Static).update(Content(reason))
        else:
            self.dismiss(event.key)

    def _reason_against(self, pressed: str) -> str:
        if not is_key(pressed):
            return "That is no key that can be used."
        other = conflict(self._key, pressed, self._known, self._keymap)
        if other is None:
            return ""
        return f"{pressed} is “{other.description}” already ({other.context}). Change that first."

    def action_back(self) -> None:
        """Keep the key."""
        self.dismiss(None)
