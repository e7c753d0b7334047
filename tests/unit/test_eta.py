"""The time of a whole run is told only where each part of it is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.spec.events import Done, Event, FrameDone, StageStarted, StepDone, Waiting
from lightx2v_tui.runs.eta import to_go, whole
from lightx2v_tui.runs.tracker import RunView, Tracker


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def view_of(*events: tuple[float, Event]) -> RunView:
    """A run that told these events at these times."""
    clock = Clock()
    tracker = Tracker(clock=clock)
    for clock.now, event in events:
        tracker.take(event)
    return tracker.view


STARTED = ((0.0, StageStarted("load_dit", 9)), (10.0, StageStarted("denoise", 4)))
STEPS = tuple((10.0 + 2 * step, StepDone(step, 4, 2.0)) for step in (1, 2, 3, 4))
REST = ((20.0, StageStarted("load_vae")), (21.0, StageStarted("decode", 10)))
WHOLE = view_of(*STARTED, *STEPS, *REST, (36.0, Done(Path("x"), 36.0)))


def test_without_an_earlier_run_only_the_last_stage_is_known() -> None:
    assert whole(view_of(*STARTED, *STEPS[:2]), 14.0, None) is None
    last = view_of(*STARTED, *STEPS, *REST, (26.0, FrameDone(5, 10)))
    assert whole(last, 26.0, None) == pytest.approx(5.0)


def test_an_earlier_run_tells_how_long_the_later_stages_take() -> None:
    view = view_of(*STARTED, *STEPS[:2])
    assert whole(view, 14.0, WHOLE) == pytest.approx(2 * 2.0 + 1.0 + 15.0)


def test_before_denoising_and_before_the_first_unit_nothing_is_claimed() -> None:
    assert whole(view_of(*STARTED[:1]), 5.0, WHOLE) is None
    assert whole(view_of(*STARTED), 12.0, WHOLE) is None
    assert whole(WHOLE, 40.0, WHOLE) is None


def test_a_title_tells_the_whole_or_at_least_the_stage_under_way() -> None:
    view = view_of(*STARTED, *STEPS[:2])
    assert to_go(view, 14.0, WHOLE) == ", about 20 s to go"
    assert to_go(view, 14.0, None) == ", over 4 s to go"
    assert to_go(view_of(*STARTED), 12.0, None) == ""
    quick = view_of(*STARTED, (10.1, StepDone(1, 4, 0.1)))
    assert to_go(quick, 10.1, None) == ""  # a moment is not worth a word
    full = view_of(*STARTED, *STEPS[:2], (14.5, Waiting("no room")))
    assert to_go(full, 15.0, WHOLE) == ""
    assert to_go(view_of(*STARTED[:1]), 5.0, WHOLE) == ""
