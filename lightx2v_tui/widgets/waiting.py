"""The line of runs that wait: what each will make, in the order they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.output import printable
from lightx2v_tui.runs.launcher import Wanted

NAMED, MOST_NAMED = 60, 5  # characters of a run, and runs, that a question names
PROMPT = 200  # characters; the terminal cuts them where the line ends


def described(plan: Plan) -> str:
    """A run in one line: size, length, seed, how its prompt begins, and its model."""
    job, model = plan.job, plan.preset.model_path
    words = " ".join(job.prompt[:PROMPT].split())
    name = f"  ({model.name})" if model else ""
    return printable(
        f"{job.width}x{job.height}, {job.frames} frames, seed {job.seed}  {words}{name}"
    )


def in_words(line: Sequence[Wanted]) -> str:
    """What leaving would drop, for a question; empty where nothing waits."""
    if not line:
        return ""
    count = f"{len(line)} waiting runs are" if len(line) > 1 else "One waiting run is"
    named = [f"{described(wanted.plan)[:NAMED]}…" for wanted in line[:MOST_NAMED]]
    more = [f"and {len(line) - MOST_NAMED} more"] if len(line) > MOST_NAMED else []
    return "\n".join([f"\n\n{count} dropped too:", *named, *more])


class WaitingList(OptionList):
    """The waiting runs; takes no place while there are none."""

    BINDINGS = [
        Binding("shift+up,K", "move(-1)", "Sooner", id="waiting.sooner",
                tooltip="Let this run start before the one above"),
        Binding("shift+down,J", "move(1)", "Later", id="waiting.later",
                tooltip="Let this run start after the one below"),
        Binding("x,delete", "drop", "Remove", id="waiting.drop",
                tooltip="Take this run out of the line"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    WaitingList { height: auto; max-height: 8; background: $background; text-wrap: nowrap;
                  text-overflow: ellipsis; }
    WaitingList.-empty { display: none; }
    """

    @dataclass
    class Moved(Message):
        """A run is to start sooner (by < 0) or later."""

        number: int
        by: int

    @dataclass
    class Dropped(Message):
        """A run is not wanted any more."""

        number: int

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel -empty", markup=False)
        self._line: tuple[Wanted, ...] = ()

    def show(self, line: Sequence[Wanted]) -> None:
        """Show the line; the same run stays under the cursor."""
        if tuple(line) == self._line:
            return
        here, at = self._number(), self.highlighted or 0
        self._line = tuple(line)
        self.clear_options()
        self.add_options(
            [Option(Content(f"{place}. {described(wanted.plan)}"), id=str(wanted.number))
             for place, wanted in enumerate(line, 1)]
        )  # fmt: skip
        self.set_class(not line, "-empty")
        self.border_title = f"{len(line)} waiting"
        numbers = [wanted.number for wanted in line]
        if numbers:
            self.highlighted = numbers.index(here) if here in numbers else min(at, len(line) - 1)

    def _number(self) -> int | None:
        """The run under the cursor."""
        at = self.highlighted
        return self._line[at].number if at is not None and at < len(self._line) else None

    def action_move(self, by: int) -> None:
        """Let the run under the cursor start sooner or later."""
        if (number := self._number()) is not None:
            self.post_message(self.Moved(number, by))

    def action_drop(self) -> None:
        """Take the run under the cursor out of the line."""
        if (number := self._number()) is not None:
            self.post_message(self.Dropped(number))
