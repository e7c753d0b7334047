"""Every event is one JSON object, as `--progress json` prints it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from engine.spec.errors import CheckpointError
from engine.spec.events import (
    TERMINAL,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    LoraApplied,
    MemoryUsed,
    Saved,
    StageStarted,
    StepDone,
    as_json,
)

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
