"""The pictures of a run: what it thinks the video will be, and then the video itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from engine.spec.picture import Picture
from lightx2v_tui.widgets.lines import entitle
from lightx2v_tui.widgets.picture import CELL_BYTES, PictureView, fitted

INTERVAL = 1.0  # seconds that a picture is shown at least
BUDGET = 90_000  # bytes of one picture
BYTES_PER_SECOND = 30_000  # so that a large one is shown for longer


class PreviewPanel(Container):
    """Shows pictures one after the other, no faster than a slow link can carry them."""

    DEFAULT_CSS = """
    PreviewPanel { height: 1fr; min-height: 6; }
    PreviewPanel Static {
        width: 1fr; height: 1fr; content-align: center middle; color: $text-muted;
    }
    PreviewPanel PictureView { display: none; }
    PreviewPanel.-shown PictureView { display: block; }
    PreviewPanel.-shown Static { display: none; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel")
        self.border_subtitle = "p hides it"
        self.interval = INTERVAL
        self._pictures: tuple[Picture, ...] = ()
        self._next = 0  # the picture that is shown next
        self._left: int | None = None  # how many pictures are still shown; None: without end
        self._shown_at = 0.0
        self._words = ""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Build the panel."""
        yield Static(id="no-picture", markup=False)
        yield PictureView(budget=BUDGET)

    def on_mount(self) -> None:
        """Start the clock of the pictures; it stands still while there is nothing to show."""
        self._timer = self.set_interval(self.interval, self._tick, pause=True)

    def say(self, title: str, words: str) -> None:
        """Show no picture, and say why."""
        self._pictures = ()
        self._stop()
        self.remove_class("-shown")
        entitle(self, title)
        if words != self._words:
            self._words = words
            self.query_one("#no-picture", Static).update(Content(words))

    def play(self, title: str, pictures: Sequence[Picture]) -> None:
        """Show pictures in turn, over and over."""
        self._begin(title, pictures, None)

    def play_once(self, title: str, pictures: Sequence[Picture]) -> None:
        """Show pictures once, ending on the middle one; then nothing is sent any more."""
        middle = pictures[len(pictures) // 2]
        self._begin(title, (*pictures, middle), len(pictures) + 1)

    def _begin(self, title: str, pictures: Sequence[Picture], left: int | None) -> None:
        first = not self._pictures
        self._pictures, self._left = tuple(pictures), left
        entitle(self, title)
        self.add_class("-shown")
        if self._timer is not None:
            self._timer.resume()
        if first or left is not None:  # otherwise the new pictures take their turn
            self._next, self._shown_at = 0, 0.0
            self._tick()

    def _tick(self) -> None:
        """Show the next picture, unless the one before is not told over a slow link yet."""
        if (
            not self._pictures
            or not self.screen.is_active  # which would be drawn anew for it
            or time.monotonic() < self._shown_at + self._pace() - self.interval / 4
        ):
            return
        view = self.query_one(PictureView)
        view.picture = self._pictures[self._next % len(self._pictures)]
        self._next += 1
        self._shown_at = time.monotonic()
        if self._left is not None:
            self._left -= 1
        if self._left == 0 or len(self._pictures) == 1:
            self._stop()

    def _pace(self) -> float:
        """Seconds that the picture that stands there was worth."""
        view = self.query_one(PictureView)
        if view.picture is None or not view.size:
            return 0.0
        return max(
            self.interval, fitted(view.picture, view.size).area * CELL_BYTES / BYTES_PER_SECOND
        )

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.pause()
