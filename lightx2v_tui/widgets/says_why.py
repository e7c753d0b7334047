"""An action that cannot be done now is greyed out, and its key says why."""

from __future__ import annotations


class SaysWhy:
    """For screens and widgets: name the reasons, and the rest follows.

    `App.run_action` asks `reason_against` when a key is pressed that `check_action` refuses.
    """

    def reason_against(self, action: str) -> str:  # noqa: ARG002 - to be overridden
        """Say why an action cannot be done now; empty where it can."""
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Grey out what cannot be done now."""
        return None if self.reason_against(action) else True
