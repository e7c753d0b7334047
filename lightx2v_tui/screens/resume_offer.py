"""Two questions about runs: does one go on that ended early, does one wait for its device."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.markup import escape
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from lightx2v_tui.output import printable
from lightx2v_tui.runs import history
from lightx2v_tui.runs.device_lock import DeviceBusy
from lightx2v_tui.runs.history import PastRun
from lightx2v_tui.runs.watching import how_far
from lightx2v_tui.screens.dialogs import Dialog

ENDED = {"interrupted": "interrupted", "cancelled": "cancelled", "failed": "failed"}
SHOWN = 50  # runs that are offered at once; the history has all of them


class ResumeOffer(Dialog):
    """Runs that ended early: Enter goes on with one, `n` offers them no more."""

    CSS_PATH = "resume_offer.tcss"
    BINDINGS = [
        Binding("n", "answer(False)", "Not now", id="offer.no",
                tooltip="Go on with none of them, and do not offer them again"),
        Binding("escape", "later", "Back", id="offer.later", tooltip="Decide later"),
    ]  # fmt: skip

    def __init__(self, runs: Sequence[PastRun]) -> None:
        hint = "enter  go on    n  not now, nor ask again    escape  later"
        count = f"{len(runs)} runs" if len(runs) > 1 else "A run"
        super().__init__(f"{count} ended early", Content(""), hint)
        self._runs = runs[:SHOWN]
        self.chosen: PastRun | None = None

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = escape(printable(self._title))
            yield Static("Go on from the last finished step? The video will be the same.",
                         markup=False)  # fmt: skip
            yield OptionList(*[Option(_line(run)) for run in self._runs], markup=False)
            yield Static(self._hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Let the newest be chosen with Enter."""
        options = self.query_one(OptionList)
        options.highlighted = 0
        options.focus()

    @on(OptionList.OptionSelected)
    def _on_chosen(self, event: OptionList.OptionSelected) -> None:
        self.chosen = self._runs[event.option_index]
        self.dismiss(True)

    def action_answer(self, yes: bool) -> None:
        """Answer."""
        self.dismiss(yes)

    def action_later(self) -> None:
        """Leave it open."""
        self.dismiss(None)


def _line(run: PastRun) -> Content:
    facts = run.facts
    size = f"{facts.width}x{facts.height}, {facts.frames} frames, " if facts.width else ""
    began = history.ago(run.when, time.time())
    first = f"{began}  {ENDED.get(run.status, run.status)} at {how_far(run)}"
    second = f"{size}{' '.join(facts.prompt.split()) or facts.model or run.id}"
    return Content.assemble((printable(first), "bold"), ("\n  " + printable(second), "$text-muted"))


class DeviceTaken(Dialog):
    """Another process holds the device: wait for it, watch it, or leave it."""

    BINDINGS = [
        Binding("y,enter", "wait(True)", "Wait", id="taken.wait",
                tooltip="Start the run as soon as the device is free"),
        Binding("v", "watch", "Wait and watch", id="taken.watch",
                tooltip="Start it then, and show what holds the device meanwhile"),
        Binding("n,escape", "wait(False)", "No", id="taken.no", tooltip="Do not start it"),
    ]  # fmt: skip

    def __init__(self, busy: DeviceBusy, *, watchable: bool) -> None:
        text = f"{busy.what}.\n{busy.why}\n\nStart this run as soon as it is free?"
        hint = "y  wait for it    " + ("v  wait and watch    " if watchable else "") + "n  no"
        super().__init__(f"{busy.title} is in use", Content(printable(text, keep="\n")), hint)
        self._watchable = watchable
        self.watched = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Hide what there is nothing to watch for."""
        return action != "watch" or self._watchable

    def action_wait(self, yes: bool) -> None:
        """Answer."""
        self.dismiss(yes)

    def action_watch(self) -> None:
        """Wait, and watch who holds it."""
        self.watched = True
        self.dismiss(True)
