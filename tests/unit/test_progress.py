"""Progress without a screen: lines for people, JSON lines for programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from engine.spec.errors import EngineError
from engine.spec.events import (
    STAGES,
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
)
from engine.spec.picture import Picture
from lightx2v_tui.runs.progress import Bar, JsonLines, Silent

RUN: list[Event] = [
    StageStarted("load_dit", 10),
    BytesRead("dit", "block_0.safetensors", 5_000_000, 10_000_000),
    BytesRead("dit", "block_1.safetensors", 10_000_000, 10_000_000),
    StageStarted("denoise", 2),
    StepDone(1, 2, 1.5),
    MemoryUsed(1, 2, 3),
    StepDone(2, 2, 0.25),
    StageStarted("decode", 2),
    FrameDone(1, 2),
    FrameDone(2, 2),
    Saved(Path("/x/a.mp4")),
    Done(Path("/x/a.mp4"), 2.0),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, events: list[Event]) -> str:
    bar = Bar(stream)
    for event in events:
        bar.take(event)
    return stream.getvalue()


def test_off_a_terminal_each_stage_is_one_line_once_it_is_over() -> None:
    lines = shown(io.StringIO(), RUN).splitlines()
    assert len(lines) == 3
    assert "\x1b" not in "".join(lines)
    assert "\r" not in "".join(lines)
    for line, name in zip(lines, ("load_dit", "denoise", "decode"), strict=True):
        assert line.startswith(STAGES[name])
        assert line.endswith(" s")
    assert "10.0 MB block_1.safetensors" in lines[0]
    assert "2/2 0.25 s/it" in lines[1]
    assert "2/2 frames" in lines[2]
    assert all("█" in line and "░" not in line for line in lines)


@pytest.mark.parametrize(
    "last", [Done(Path("x"), 1.0), Failed(EngineError("no")), CancelledByUser()]
)
def test_a_stage_is_closed_by_any_end_and_only_once(last: Event) -> None:
    text = shown(io.StringIO(), [StageStarted("denoise", 4), StepDone(1, 4, 2.0), last, last])
    assert text.count("\n") == 1
    assert "1/4" in text
    assert "█" * 6 + "░" * 18 in text


def test_a_stage_that_counts_nothing_has_no_bar() -> None:
    text = shown(io.StringIO(), [StageStarted("prepare"), StageStarted("encode_text")])
    assert "█" not in text
    assert "░" not in text


def test_on_a_terminal_the_line_is_redrawn_in_place() -> None:
    text = shown(Terminal(), RUN)
    assert "\r\x1b[K" in text
    assert text.count("\n") == 3


def test_json_lines_are_one_object_each() -> None:
    stream = io.StringIO()
    progress = JsonLines(stream)
    for event in RUN:
        progress.take(event)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [item["event"] for item in objects] == [event.kind for event in RUN]
    assert objects[4] == {"event": "step", "step": 1, "steps": 2, "seconds": 1.5}
    assert objects[-2] == {"event": "saved", "path": "/x/a.mp4"}


def test_previews_are_no_part_of_the_json() -> None:
    stream = io.StringIO()
    JsonLines(stream).take(Preview(1, (Picture(1, 1, b"rgb"),)))
    assert stream.getvalue() == ""


def test_a_stage_that_loads_several_components_counts_all_of_them() -> None:
    events = [
        StageStarted("load_dit"),
        BytesRead("DiT", "dit.safetensors", 60_000_000, 60_000_000),
        BytesRead("LoRA", "style.safetensors", 10_000_000, 20_000_000),
    ]
    text = shown(io.StringIO(), [*events, CancelledByUser()])
    assert "70.0 MB style.safetensors" in text
    assert "█" * 21 + "░" * 3 in text


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    for event in RUN:
        Silent().take(event)
    assert capsys.readouterr() == ("", "")


TOLD = {
    "note: the disk is slow": Noted("the disk is slow"),
    "Going on behind step 2 of 4": Resumed(2, 4),
    "waiting: no room in /x": Waiting("no room in /x"),
    "attempt 2: now with the encoders in RAM": Attempt(2, "now with the encoders in RAM"),
    "LoRA a.safetensors: 3 layers changed": LoraApplied(Path("/l/a.safetensors"), 3, 0),
}


@pytest.mark.parametrize("words", TOLD)
def test_what_is_told_once_has_a_line_of_its_own(words: str) -> None:
    """On a terminal it takes the place of the bar, which comes back below it."""
    events = [StageStarted("denoise", 4), StepDone(1, 4, 1.0), TOLD[words], StepDone(2, 4, 1.0)]
    lines = shown(io.StringIO(), [*events, CancelledByUser()]).splitlines()
    assert lines[0] == words
    assert "2/4" in lines[1]
    assert len(lines) == 2
    drawn = shown(Terminal(), events)
    assert f"\r\x1b[K{words}\n\r\x1b[K{STAGES['denoise']}" in drawn


def test_words_from_a_disk_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in shown(io.StringIO(), [Noted("a\x1b[2Jb"), Waiting("c\nd\x07")])


def test_all_that_is_told_is_part_of_the_json() -> None:
    stream = io.StringIO()
    for event in TOLD.values():
        JsonLines(stream).take(event)
    kinds = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert kinds == ["note", "resumed", "waiting", "attempt", "stage"]
