"""Every event is one JSON object, as `--progress json` prints it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import get_args

import pytest

from engine.spec.errors import CheckpointError, OutOfMemoryFailure
from engine.spec.events import (
    TERMINAL,
    Attempt,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    LoraApplied,
    MemoryUsed,
    Noted,
    Preview,
    Resumed,
    Saved,
    StageStarted,
    StepDone,
    Waiting,
    as_json,
)
from engine.spec.picture import Picture

CASES = [
    (StageStarted("denoise", 4), {"event": "stage", "stage": "denoise", "total": 4}),
    (
        BytesRead("dit", "block_0.safetensors", 5, 9),
        {
            "event": "bytes",
            "component": "dit",
            "file": "block_0.safetensors",
            "done": 5,
            "total": 9,
        },
    ),
    (StepDone(1, 4, 0.5), {"event": "step", "step": 1, "steps": 4, "seconds": 0.5}),
    (
        Preview(2, (Picture(1, 1, b"rgb"),) * 3),
        {"event": "preview", "step": 2, "frames": 3},
    ),
    (FrameDone(3, 81), {"event": "frame", "frame": 3, "frames": 81}),
    (
        LoraApplied(Path("/x/lora.safetensors"), 40, 2, 1),
        {
            "event": "stage",
            "stage": "apply_lora",
            "path": "/x/lora.safetensors",
            "matched": 40,
            "unmatched": 2,
            "ignored": 1,
        },
    ),
    (MemoryUsed(1, 2, 3), {"event": "memory", "ram": 1, "vram": 2, "vram_peak": 3}),
    (Noted("said once"), {"event": "note", "text": "said once"}),
    (Resumed(2, 4), {"event": "resumed", "step": 2, "steps": 4}),
    (Waiting("no room"), {"event": "waiting", "reason": "no room"}),
    (Attempt(2, "smaller"), {"event": "attempt", "number": 2, "what": "smaller"}),
    (Saved(Path("/x/a.mp4")), {"event": "saved", "path": "/x/a.mp4"}),
    (Done(Path("/x/a.mp4"), 1.5), {"event": "done", "path": "/x/a.mp4", "seconds": 1.5}),
    (
        Failed(CheckpointError("what", "why", "fix")),
        {"event": "failed", "what": "what", "why": "why", "fix": "fix"},
    ),
    (CancelledByUser(), {"event": "cancelled"}),
]


@pytest.mark.parametrize(("event", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_an_event_is_this_object(event: Event, expected: dict[str, object]) -> None:
    assert as_json(event) == expected
    assert json.loads(json.dumps(as_json(event))) == expected


def test_the_cases_are_all_the_events_there_are() -> None:
    assert {type(event) for event, _ in CASES} == set(get_args(Event))


def test_three_events_end_a_run() -> None:
    ends = [event.kind for event, _ in CASES if isinstance(event, TERMINAL)]
    assert ends == ["done", "failed", "cancelled"]


def test_an_error_is_told_in_at_most_three_lines() -> None:
    assert str(CheckpointError("what", "why", "fix")) == "what\nwhy\nfix"
    assert str(CheckpointError("what", fix="fix")) == "what\nfix"


def test_an_error_of_memory_is_copied_with_all_it_says() -> None:
    """An error is told anew, without the traceback that holds the networks."""
    error = OutOfMemoryFailure("full", "why", "fix", stage="decode", device="ram", beside=("dit",))
    again = copy.copy(error)
    assert isinstance(again, OutOfMemoryFailure)
    assert str(again) == "full\nwhy\nfix"
    assert (again.stage, again.device, again.beside) == ("decode", "ram", ("dit",))
    assert again.__traceback__ is None
