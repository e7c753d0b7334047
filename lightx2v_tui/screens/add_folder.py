"""A small screen that asks for a folder to look for models in, and checks it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.path_input import PathInput

HINT = "enter  look there    tab  complete    escape  leave it"


@dataclass(frozen=True)
class Checked:
    """A folder that was typed, and why it is none to look in."""

    folder: Path
    problem: str = ""


class AddFolderDialog(ModalScreen[Path | None]):
    """Gives a folder that is there, can be read, and is not looked at yet."""

    DEFAULT_CSS = """
    AddFolderDialog { align: center middle; background: $background 60%; }
    AddFolderDialog > Vertical {
        width: 76; max-width: 95%; height: auto; max-height: 90%;
        border: round $primary; background: $surface; padding: 1 2;
    }
    AddFolderDialog PathInput { background: $background; margin: 1 0; }
    AddFolderDialog #told { color: $warning; height: auto; margin-bottom: 1; }
    AddFolderDialog .hint { color: $text-muted; }
    """
    BINDINGS = [
        Binding("escape", "back", "Leave it", id="folder.close", tooltip="Add no folder"),
    ]

    def __init__(self, places: Sequence[Path]) -> None:
        """`places` are looked at already."""
        super().__init__()
        self._places = places
        self._told = ""  # the text that something was said of

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = "Add a folder"
            yield Static("Models below it are listed, now and at every start.", markup=False)
            yield PathInput(folders=True, id="folder", compact=True, placeholder="/path/to/models")
            yield Static(id="told", markup=False)
            yield Static(HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Begin to type at once."""
        self.query_one(PathInput).focus()

    @on(Input.Changed)
    def _on_changed(self, event: Input.Changed) -> None:
        if event.value.strip() != self._told:
            self.query_one("#told", Static).update("")

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if text:
            in_background(self, partial(check, text, self._places), partial(self._take, text))

    def _take(self, text: str, checked: Checked) -> None:
        if not self.is_active or text != self.query_one(PathInput).value.strip():
            return  # another name was typed meanwhile
        if checked.problem:
            self._told = text
            self.query_one("#told", Static).update(Content(printable(checked.problem)))
        else:
            self.dismiss(checked.folder)

    def action_back(self) -> None:
        """Add nothing."""
        self.dismiss(None)


def check(text: str, places: Sequence[Path]) -> Checked:
    """Look whether a typed folder can be looked in."""
    folder = Path(os.path.abspath(expanded(Path(text))))  # noqa: PTH100 - a link stays a link
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except FileNotFoundError:
        return Checked(folder, f"There is no such folder: {folder}")
    except NotADirectoryError:
        return Checked(folder, f"It is a file; name the folder it lies in: {folder}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return Checked(folder, f"It cannot be read, {reason}: {folder}")
    for place in places:
        if folder == place.absolute():
            return Checked(folder, f"It is looked at already; r looks again: {folder}")
    return Checked(folder)
