"""The settings stored in any mp4: name one, read them, and open them in the launch form."""

from __future__ import annotations

from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.spec.errors import EngineError
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded
from lightx2v_tui.presets import Preset
from lightx2v_tui.presets.library import VIDEO_SUFFIXES, details, from_video
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.path_input import PathInput

READ, OPEN = "enter  read its settings    escape  close", "enter  edit and run    escape  close"


class AskVideo(ModalScreen[Preset | None]):
    """A field for the path of an mp4, and what is stored in it; gives the preset to open."""

    DEFAULT_CSS = """
    AskVideo { align: center middle; background: $background 60%; }
    AskVideo > Vertical {
        width: 84; max-width: 100%; height: auto; max-height: 100%; padding: 0 2;
        border: round $primary; border-title-color: $primary; border-title-style: bold;
        background: $surface;
    }
    AskVideo PathInput { background: $panel; margin: 1 0; }
    AskVideo VerticalScroll { height: auto; max-height: 1fr; scrollbar-size-vertical: 1; }
    AskVideo .hint { height: 1; margin-top: 1; color: $text-muted; }
    AskVideo #told.-problem { color: $text-warning; }
    """
    BINDINGS = [
        Binding("escape", "back", "Close", id="reveal.close", tooltip="Open nothing"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._preset: Preset | None = None
        self._asked = ""

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = "Settings in an mp4"
            yield PathInput(suffixes=VIDEO_SUFFIXES, placeholder="path of an mp4", compact=True)
            with VerticalScroll(can_focus=False):
                yield Static(id="told", markup=False)
            yield Static(READ, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(PathInput).focus()

    @on(Input.Changed)
    def _on_changed(self) -> None:
        self._asked, self._preset = "", None
        self._tell(Content(""), READ)

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        path = event.value.strip()
        if self._preset is not None:
            self.dismiss(self._preset)
        elif path:
            self._asked = path
            in_background(self, lambda: _read(path), lambda found: self._take(path, found))

    def _take(self, path: str, found: Preset | EngineError) -> None:
        if path != self._asked or not self.is_mounted:
            return  # another name was typed meanwhile
        told = self.query_one("#told", Static)
        told.set_class(isinstance(found, EngineError), "-problem")
        if isinstance(found, EngineError):
            lines = (found.what, found.why, found.fix)
            self._tell(Content("\n".join(printable(line) for line in lines if line)), READ)
            return
        self._preset = found
        model = printable(found.model_path.name) if found.model_path else "no model is named"
        lines_of = [Content.styled(model, "bold"), *map(Content, details(found))]
        self._tell(Content("\n").join(lines_of), OPEN)

    def _tell(self, told: Content, hint: str) -> None:
        self.query_one("#told", Static).update(told)
        self.query_one(".hint", Static).update(Content(hint))

    def action_back(self) -> None:
        """Close."""
        self.dismiss(None)


def _read(text: str) -> Preset | EngineError:
    try:
        return from_video(expanded(Path(text)).absolute())
    except EngineError as error:
        return error
    except ValueError as error:  # no name of a file can be like that
        return EngineError("That is no file", str(error), "Name an mp4.")
