"""The first frame of image-to-video: its path, what it looks like, and its size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from engine.spec.errors import EngineError
from engine.spec.image_size import image_size
from engine.spec.picture import Picture
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded
from lightx2v_tui.pictures import read_picture
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.path_input import PathInput
from lightx2v_tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from textual.timer import Timer

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
READ_SECONDS = 0.25  # after the last key
WIDTH, HEIGHT = 160, 120  # pixels, which is more than any place for it has


@dataclass(frozen=True)
class Look:
    """What was found at a path: a picture and its size, or what is wrong with it."""

    picture: Picture | None = None
    told: str = ""
    problem: bool = False


class ImageField(Vertical):
    """A field for an image file, with the image below."""

    DEFAULT_CSS = """
    ImageField { height: auto; width: 1fr; }
    ImageField PictureView { height: 8; display: none; }
    ImageField.-shown PictureView { display: block; }
    ImageField Static { height: auto; max-height: 2; color: $text-muted; }
    ImageField.-problem Static { color: $text-warning; }
    """

    class Changed(Message):
        """Another image was named."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        id: str | None = None,  # noqa: A002 - Textual's
    ) -> None:
        """Start with the image at `path`."""
        super().__init__(id=id)
        self._text = str(path or "")
        self._asked = 0
        self._soon: Timer | None = None

    @property
    def path(self) -> Path | None:
        """The file that is named; it need not be an image."""
        text = self._text.strip()
        return expanded(Path(text)).absolute() if text else None

    def compose(self) -> ComposeResult:
        """Build the field and the place for the image."""
        yield PathInput(self._text, suffixes=SUFFIXES, placeholder="PNG, JPEG or WebP",
                        compact=True)  # fmt: skip
        yield PictureView()
        yield Static(markup=False)

    def on_mount(self) -> None:
        """Look at the image."""
        self._look()

    @on(Input.Changed)
    def _on_typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value == self._text:
            return
        self._text = event.value
        self.post_message(self.Changed())
        if self._soon is not None:
            self._soon.stop()
        self._soon = self.set_timer(READ_SECONDS, self._look)

    def _look(self) -> None:
        self._asked += 1
        path, asked = self.path, self._asked

        def take(look: Look) -> None:
            if asked == self._asked and self.is_mounted:
                self._show(look)

        if path is None:
            self._show(Look())
        else:
            in_background(self, lambda: _look_at(path), take)

    def _show(self, look: Look) -> None:
        self.query_one(PictureView).picture = look.picture
        self.set_class(look.picture is not None, "-shown")
        self.set_class(look.problem, "-problem")
        told = self.query_one(Static)
        told.display = bool(look.told)
        told.update(Content(look.told))


def _look_at(path: Path) -> Look:
    try:
        width, height = image_size(path)
        return Look(read_picture(path, WIDTH, HEIGHT), f"{width}x{height} pixels")
    except EngineError as error:
        why = error.why.removeprefix(f"{path}: ")
        return Look(None, printable(f"{error.what}: {why}"), problem=True)
