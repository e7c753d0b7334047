"""What a thread hands over, before a screen is there and after it is gone."""

from __future__ import annotations

import asyncio
import threading

from textual.app import App

from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.widgets.background import in_background


async def test_what_comes_back_while_the_app_ends_is_dropped() -> None:
    taken: list[str] = []
    go, gone = threading.Event(), threading.Event()

    class Slow(App[None]):
        def ask(self) -> None:
            in_background(self, lambda: "early", taken.append)
            in_background(self, lambda: str(go.wait(10)), taken.append)

        async def _close_all(self) -> None:  # while the screens are taken down
            go.set()
            await asyncio.sleep(0.2)
            gone.set()
            await super()._close_all()

    app = Slow()
    async with app.run_test() as pilot:
        app.ask()
        await pilot.pause(0.2)
    assert gone.is_set()
    assert taken == ["early"]


def test_a_notice_may_come_before_the_first_frame() -> None:
    screen = ModelsScreen([])
    screen.tell_notice([("a run goes on", "$accent")])
    assert "a run goes on" in str(screen._notice.visual)
