"""Words for what a test does to the app and sees of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from textual.pilot import Pilot
from textual.widget import Widget

from lightx2v_tui.app import LightX2VApp


def text_of(app: LightX2VApp) -> str:
    """Everything that stands on the screen, as text."""
    screen = app.screen
    width, height = screen.size
    lines = screen._compositor.render_strips(screen.size)
    return "\n".join(strip.text[:width].rstrip() for strip in lines[:height])


async def until(
    pilot: Pilot[int], done: Callable[[], bool], what: str, seconds: float = 60.0
) -> None:
    """Wait until `done`, at most so many seconds."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            app = pilot.app
            assert isinstance(app, LightX2VApp)
            raise AssertionError(f"never came: {what}\n{text_of(app)}")
        await pilot.pause()
        await asyncio.sleep(0.02)


async def until_text(pilot: Pilot[int], text: str, seconds: float = 60.0) -> None:
    """Wait until `text` stands on the screen."""
    app = pilot.app
    assert isinstance(app, LightX2VApp)
    await until(pilot, lambda: text in text_of(app), text, seconds)


async def until_words(pilot: Pilot[int], words: str, seconds: float = 60.0) -> None:
    """Wait until `words` stand on the screen, wherever a box breaks its lines."""
    app = pilot.app
    assert isinstance(app, LightX2VApp)
    boxes = str.maketrans(dict.fromkeys("│╭╮╰╯─▔▁▎▊", " "))

    def there() -> bool:
        return words in " ".join(text_of(app).translate(boxes).split())

    await until(pilot, there, words, seconds)


async def told_by(pilot: Pilot[int], key: str) -> str:
    """What a key tells in passing: one message, in the place of the one before."""
    await pilot.press(key)
    await pilot.pause()
    told = [note.message for note in pilot.app._notifications]
    assert len(told) == 1
    return told[0]


def cut_off(app: LightX2VApp) -> list[Widget]:
    """Widgets that reach over the right edge of the screen."""
    width = app.screen.size.width
    return [widget for widget in app.screen.query("*") if widget.region.right > width]
