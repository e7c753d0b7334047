"""The view of a run follows its events and an injected clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.spec.errors import EngineError
from engine.spec.events import (
    STAGES,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    MemoryUsed,
    Preview,
    Saved,
    StageStarted,
    StepDone,
)
from engine.spec.picture import Picture
from lightx2v_tui.runs.tracker import RunView, StageView, Tracker


class Clock:
    """A clock that stands until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker(clock: Clock) -> Tracker:
    return Tracker(clock=clock)


def stage(view: RunView, name: str) -> StageView:
    return next(stage for stage in view.stages if stage.name == name)


def test_before_the_first_event_nothing_runs(tracker: Tracker) -> None:
    view = tracker.view
    assert view.started == 100.0
    assert [stage.name for stage in view.stages] == list(STAGES)
    assert view.current is None
    assert view.seconds_per_step is None
    assert view.remaining(200.0) is None
    tracker.take(BytesRead("dit", "x", 1, 2))
    assert tracker.view.current is None


def test_a_stage_ends_when_the_next_one_starts(tracker: Tracker, clock: Clock) -> None:
    tracker.take(StageStarted("load_t5", 50))
    clock.now = 103.0
    tracker.take(StageStarted("encode_text"))
    t5, text = stage(tracker.view, "load_t5"), stage(tracker.view, "encode_text")
    assert (t5.started, t5.ended, t5.total) == (100.0, 103.0, 50)
    assert (text.started, text.ended) == (103.0, None)
    assert tracker.view.current == text


def test_bytes_and_frames_move_the_stage_under_way(tracker: Tracker, clock: Clock) -> None:
    tracker.take(StageStarted("load_dit", 100))
    clock.now = 104.0
    tracker.take(BytesRead("dit", "block_0.safetensors", 25, 100))
    current = tracker.view.current
    assert current is not None
    assert (current.done, current.total, current.detail) == (25, 100, "block_0.safetensors")
    assert tracker.view.remaining(104.0) == pytest.approx(12.0)
    tracker.take(StageStarted("decode", 8))
    clock.now = 106.0
    tracker.take(FrameDone(4, 8))
    assert tracker.view.remaining(106.0) == pytest.approx(2.0)
    assert tracker.view.remaining(108.0) == pytest.approx(4.0)


def test_steps_are_timed_without_the_first_one(tracker: Tracker, clock: Clock) -> None:
    tracker.take(StageStarted("denoise", 4))
    assert tracker.view.remaining(clock.now) is None
    tracker.take(StepDone(1, 4, 9.0))
    assert tracker.view.seconds_per_step == 9.0
    assert tracker.view.remaining(clock.now) == 27.0
    tracker.take(StepDone(2, 4, 2.0))
    tracker.take(StepDone(3, 4, 4.0))
    assert tracker.view.steps == (9.0, 2.0, 4.0)
    assert tracker.view.seconds_per_step == 3.0
    assert tracker.view.remaining(clock.now) == 3.0


@pytest.mark.parametrize(
    "last", [Done(Path("x"), 1.0), Failed(EngineError("no")), CancelledByUser()]
)
def test_a_terminal_event_ends_everything(tracker: Tracker, clock: Clock, last: Event) -> None:
    tracker.take(StageStarted("decode", 8))
    clock.now = 107.0
    tracker.take(last)
    assert tracker.view.terminal == last
    assert tracker.view.current is None
    assert stage(tracker.view, "decode").ended == 107.0
    assert tracker.view.remaining(110.0) is None


def test_memory_is_kept_and_a_saved_file_changes_nothing(tracker: Tracker) -> None:
    tracker.take(MemoryUsed(1, 2, 3))
    tracker.take(MemoryUsed(4, 5, 6))
    before = tracker.view
    tracker.take(Saved(Path("x")))
    assert tracker.view == before
    assert tracker.view.memory == MemoryUsed(4, 5, 6)


def test_a_view_that_was_taken_never_changes(tracker: Tracker) -> None:
    tracker.take(StageStarted("denoise", 4))
    taken = tracker.view
    tracker.take(StepDone(1, 4, 1.0))
    assert taken.steps == ()
    assert taken.current == StageView("denoise", 100.0, None, 0, 4)


def test_the_total_runs_until_the_last_stage_has_ended(tracker: Tracker, clock: Clock) -> None:
    tracker.take(StageStarted("denoise", 4))
    assert tracker.view.total(103.0) == 3.0
    clock.now = 105.0
    tracker.take(CancelledByUser())
    assert tracker.view.total(900.0) == 5.0


def test_a_stage_that_loads_several_components_counts_all_of_them(
    tracker: Tracker, clock: Clock
) -> None:
    tracker.take(StageStarted("load_dit"))
    clock.now = 110.0
    tracker.take(BytesRead("DiT", "block_0.safetensors", 30, 60))
    assert tracker.view.remaining(110.0) == pytest.approx(10.0)
    clock.now = 120.0
    tracker.take(BytesRead("DiT", "block_1.safetensors", 60, 60))
    tracker.take(BytesRead("LoRA", "style.safetensors", 5, 20))
    current = tracker.view.current
    assert current is not None
    assert (current.done, current.total, current.detail) == (65, 80, "style.safetensors")
    tracker.take(BytesRead("LoRA", "style.safetensors", 20, 20))
    clock.now = 130.0
    tracker.take(BytesRead("tiny VAE", "tae.pth", 10, 20))
    current = tracker.view.current
    assert current is not None
    assert (current.done, current.total, current.detail) == (90, 100, "tae.pth")
    assert tracker.view.remaining(130.0) == pytest.approx(30.0 * 10 / 90)


# Pausing.


def test_a_paused_clock_stands_still(tracker: Tracker, clock: Clock) -> None:
    tracker.take(StageStarted("decode", 8))
    clock.now = 104.0
    tracker.take(FrameDone(4, 8))
    tracker.pause()
    assert tracker.view.paused == 104.0
    assert tracker.view.total(500.0) == 4.0
    assert tracker.view.remaining(500.0) == pytest.approx(4.0)
    clock.now = 600.0
    tracker.pause()  # again: the first one counts
    tracker.resume()
    tracker.resume()
    assert tracker.view.paused is None
    assert tracker.view.total(600.0) == 4.0
    assert tracker.view.remaining(601.0) == pytest.approx(5.0)


def test_steps_and_their_mean_do_not_know_of_a_pause(tracker: Tracker, clock: Clock) -> None:
    tracker.take(StageStarted("denoise", 4))
    tracker.take(StepDone(1, 4, 3.0))
    tracker.pause()
    clock.now = 900.0
    tracker.resume()
    tracker.take(StepDone(2, 4, 3.0))
    assert tracker.view.seconds_per_step == 3.0
    assert tracker.view.remaining(clock.now) == 6.0


def test_what_ends_after_the_pause_was_asked_for_counts_to_that_moment(
    tracker: Tracker, clock: Clock
) -> None:
    """The run waits at its next block; a stage may end and another begin before that."""
    tracker.take(StageStarted("load_dit", 8))
    clock.now = 105.0
    tracker.pause()
    clock.now = 106.0
    tracker.take(BytesRead("DiT", "x", 8, 8))
    tracker.take(StageStarted("denoise", 4))
    assert stage(tracker.view, "load_dit").ended == 105.0
    assert tracker.view.total(107.0) == 5.0
    clock.now = 205.0
    tracker.resume()
    current = tracker.view.current
    assert current is not None
    assert current.started == 205.0
    assert tracker.view.total(206.0) == 6.0


def test_a_run_that_is_cancelled_in_its_pause_ends_at_that_moment(
    tracker: Tracker, clock: Clock
) -> None:
    tracker.take(StageStarted("denoise", 4))
    clock.now = 105.0
    tracker.pause()
    clock.now = 800.0
    tracker.take(CancelledByUser())
    assert tracker.view.paused is None
    assert tracker.view.total(900.0) == 5.0
    tracker.pause()
    assert tracker.view.paused is None


def test_the_last_preview_is_kept(tracker: Tracker) -> None:
    tracker.take(StageStarted("denoise", 4))
    for step in (1, 2):
        preview = Preview(step, (Picture(1, 1, b"rgb"),))
        tracker.take(preview)
        assert tracker.view.preview is preview
    tracker.take(StageStarted("decode", 8))
    assert tracker.view.preview is preview
