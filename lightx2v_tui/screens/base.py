"""What all screens share: disabled keys say why, and a thread that fails is told."""

from __future__ import annotations

from typing import TypeVar

from textual.screen import Screen
from textual.worker import Worker, WorkerState

from lightx2v_tui.messages import ErrorMet
from lightx2v_tui.widgets.says_why import SaysWhy

Result = TypeVar("Result")


class AppScreen(SaysWhy, Screen[Result]):
    """A screen whose disabled keys answer with their reason."""

    def on_mount(self) -> None:
        """Be narrow or wide from the first layout on: Textual looks after it, and draws twice."""
        app, (width, height) = self.app, self.app.size
        for steps, room in (
            (self.HORIZONTAL_BREAKPOINTS or app.HORIZONTAL_BREAKPOINTS, width),
            (self.VERTICAL_BREAKPOINTS or app.VERTICAL_BREAKPOINTS, height),
        ):
            for _, name in [step for step in steps or () if step[0] <= room][-1:]:
                self.add_class(name, update=False)  # styles are asked for as it is shown

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell what went wrong on a thread where nobody foresaw it: the app goes on."""
        if event.state is WorkerState.ERROR:
            from engine.spec.errors import EngineError

            why = f"{type(event.worker.error).__name__}: {event.worker.error}"
            self.post_message(ErrorMet(EngineError("Something failed in the background", why)))
