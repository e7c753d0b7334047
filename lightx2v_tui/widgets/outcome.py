"""How a run ended, in words: where the video is, or what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textual.content import Content
from textual.widgets import Static

from engine.spec.events import Done, Event, Failed
from lightx2v_tui import paths
from lightx2v_tui.output import printable
from lightx2v_tui.units import duration, size

GOES_ON = "Its steps are kept: u in the history (h) goes on with it."
NOTHING = "Nothing was written."
Severity = Literal["information", "error"]


@dataclass(frozen=True)
class Ending:
    """The end of a run for somebody who looks at something else."""

    title: str
    text: str
    severity: Severity = "information"


def ending_of(event: Event) -> Ending:
    """A terminal event in words."""
    if isinstance(event, Done):
        return Ending("Saved", printable(paths.short(event.path)))
    if isinstance(event, Failed):
        return Ending("The run failed", printable(event.error.what), "error")
    return Ending("The run was cancelled", "u in the history goes on with it.")


@dataclass(frozen=True)
class Result:
    """How a run ended, after so many seconds; `kept` says that it can go on."""

    event: Event
    seconds: float
    seed: int | None
    log: Path
    kept: bool = False


class Outcome(Static):
    """The end of the run that is shown; takes no place before."""

    DEFAULT_CSS = "Outcome { height: auto; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel", markup=False)
        self.border_title = "Result"
        self.display = False

    def show(self, result: Result) -> None:
        """Tell how a run ended."""
        self.display = True
        match result.event:
            case Done(path=path):
                self.update(_made(path, result))
            case Failed(error=error):
                going_on = f"\n{GOES_ON}" if result.kept else ""
                words = printable(f"{error}\nlog: {result.log}{going_on}", keep="\n")
                self.update(Content.styled(words, "$error"))
            case _:
                self.update(Content(f"Cancelled. {GOES_ON if result.kept else NOTHING}"))

    def clear(self) -> None:
        """Another run begins."""
        self.display = False


def _made(path: Path, result: Result) -> Content:
    nbytes = size(path.stat().st_size) if path.exists() else "It is gone by now"
    seed = f", seed {result.seed}" if result.seed is not None else ""
    made = f"{nbytes}. Made in {duration(result.seconds)}{seed}."
    return Content.assemble(
        ("Saved ", "bold $success"),
        (printable(str(path)), "bold"),
        f"\n{made} y copies the path, for scp.",
    )
