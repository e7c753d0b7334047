"""What a screen does with a past run that is not over: go on with it, or watch it."""

from __future__ import annotations

from lightx2v_tui.messages import ResumeWanted, WatchWanted
from lightx2v_tui.runs.history import PastRun
from lightx2v_tui.screens.base import AppScreen

ONLY_WHERE_IT_CAN = ("go_on", "copy")  # other runs have no such key in the footer


class GoingOnScreen(AppScreen[None]):
    """A screen with a past run under its cursor."""

    @property
    def current(self) -> PastRun | None:
        """The run under the cursor."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey out what cannot be done now, or leave it out of the footer."""
        allowed = super().check_action(action, parameters)
        return False if allowed is None and action in ONLY_WHERE_IT_CAN else allowed

    def action_go_on(self) -> None:
        """Go on with the run, from its last finished step."""
        if self.current is not None:
            self.post_message(ResumeWanted(self.current.folder))

    def action_watch(self) -> None:
        """Show the run, live."""
        if self.current is not None:
            self.post_message(WatchWanted(self.current))
