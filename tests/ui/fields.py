"""Words for tests of single widgets, in an app of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot

PATIENCE = 20.0


def on_screen(app: App[Any]) -> list[str]:
    """The lines that stand on the screen."""
    screen = app.screen
    strips = screen._compositor.render_strips(screen.size)
    return [strip.text[: screen.size.width].rstrip() for strip in strips[: screen.size.height]]


async def settle(pilot: Pilot[Any], done: Callable[[], bool], what: str) -> None:
    """Wait until `done`."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"never came: {what}\n" + "\n".join(on_screen(pilot.app))
        await pilot.pause()
        await asyncio.sleep(0.01)
    await pilot.pause()
