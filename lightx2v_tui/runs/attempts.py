"""A run that memory was not enough for is tried again, each time with a lower plan.

The checkpoint keeps the steps that were done. What changes the picture is asked for first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import fields
from typing import Protocol

from engine.spec.errors import EngineError, OutOfMemoryFailure
from engine.spec.events import Attempt, Event, Failed
from engine.spec.job import Job, Placing
from engine.spec.ladder import Ask, lower
from lightx2v_tui.catalog import TITLES, Kind

MOST = 12  # attempts; the ladder has fewer rungs
PLACES = {
    Placing.RESIDENT: "on the device",
    Placing.CPU: "in RAM until needed",
    Placing.DROP: "unloaded after use",
}

RunOnce = Callable[[Job], Iterator[Event]]
OnAsk = Callable[[Ask], bool]


class Record(Protocol):
    """Where attempts are written down."""

    def begin(self, job: Job, what: str = ..., *, lowered: bool = ...) -> None:
        """Note how a job is computed."""

    def gave_up(self, error: EngineError) -> None:
        """Note why the last attempt failed."""


def attempts(
    job: Job, run_once: RunOnce, record: Record, on_ask: OnAsk | None = None
) -> Iterator[Event]:
    """Run a job, with ever lower plans where memory is not enough; the terminal event is last."""
    for number in range(2, MOST + 2):
        failed, failure = yield from _all_but_lack(run_once(job))
        if failed is None or failure is None:
            return
        record.gave_up(failure)
        lowered = _lowered(job, failure, on_ask) if number <= MOST else None
        if lowered is None:
            yield failed
            return
        what = f"{failure.what}; now {difference(job, lowered)}"
        record.begin(lowered, what, lowered=True)
        yield Attempt(number, what)
        job = lowered


def _all_but_lack(
    events: Iterator[Event],
) -> Generator[Event, None, tuple[Failed | None, OutOfMemoryFailure | None]]:
    """Pass on all events but a failure for lack of memory, which is given at the end."""
    failed, failure = None, None
    for event in events:
        if isinstance(event, Failed) and isinstance(event.error, OutOfMemoryFailure):
            failed, failure = event, event.error
        else:
            yield event
    return failed, failure


def _lowered(job: Job, failure: OutOfMemoryFailure, on_ask: OnAsk | None) -> Job | None:
    """The next lower plan; None where there is none, or the user does not want it."""
    found = lower(job, failure)
    if isinstance(found, Ask):
        return found.job if on_ask is not None and on_ask(found) else None
    return found


def difference(before: Job, after: Job) -> str:
    """What a lower plan does otherwise, in words."""
    said = []
    for place, words in PLACES.items():
        names = [
            TITLES[Kind(field.name)]
            for field in fields(after.placings)
            if getattr(after.placings, field.name) is place
            and getattr(before.placings, field.name) is not place
            and (field.name != "clip" or after.clip is not None)
        ]
        said += [f"{', '.join(names)} {words}"] if names else []
    said += ["previews from latents"] if after.preview is not before.preview else []
    said += ["the VAE in tiles"] if after.tiling and not before.tiling else []
    said += ["guidance one by one"] if after.guidance != before.guidance else []
    said += ["the tiny VAE"] if after.tiny_vae and not before.tiny_vae else []
    return "; ".join(said) or "once more"
