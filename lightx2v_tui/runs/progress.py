"""Progress without a screen: a bar or lines on stderr, or JSON lines on stdout."""

from __future__ import annotations

import json
import time
from typing import Protocol, TextIO

from engine.spec.events import (
    STAGES,
    TERMINAL,
    Attempt,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    LoraApplied,
    Noted,
    Preview,
    Resumed,
    StageStarted,
    StepDone,
    Waiting,
    as_json,
    describe_lora,
)
from lightx2v_tui.output import printable
from lightx2v_tui.units import size

WIDTH = 24
INTERVAL = 0.1  # seconds between redraws


def told(event: Event) -> str:
    """An event that is told once, in words; empty for those that are counted or close a run."""
    match event:
        case LoraApplied(path=path):
            return f"LoRA {path.name}: {describe_lora(event)}"
        case Noted(text=text):
            return f"note: {text}"
        case Resumed(step=step, steps=steps):
            return f"Going on behind step {step} of {steps}"
        case Waiting(reason=reason):
            return f"waiting: {reason}"
        case Attempt(number=number, what=what):
            return f"attempt {number}: {what}"
        case _:
            return ""


def log_line(event: Event) -> str:
    """An event as a line of the run's log; empty for what is noted there already, or counted."""
    match event:
        case StageStarted(stage=stage):
            return STAGES.get(stage, stage)
        case StepDone(step=step, steps=steps, seconds=seconds):
            return f"step {step} of {steps}, {seconds:.2f} s"
        case Done(path=path):
            return f"saved {path}"
        case CancelledByUser():
            return "stopped, as it was asked to"
        case Failed(error=error):
            return f"failed: {error.what}: {error.why}"
        case _:
            return told(event) if isinstance(event, LoraApplied) else ""


class Progress(Protocol):
    """Shows the events of one run."""

    def take(self, event: Event) -> None:
        """Show one event."""


class Silent:
    """Shows nothing."""

    def take(self, event: Event) -> None:
        """Show nothing."""


class JsonLines:
    """One JSON object a line; previews are for screens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def take(self, event: Event) -> None:
        """Write one line."""
        if isinstance(event, Preview):
            return
        self._stream.write(json.dumps(as_json(event)) + "\n")
        self._stream.flush()


class Bar:
    """One line per stage: redrawn on a terminal, written once it is over elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._stage = ""
        self._started = 0.0
        self._drawn = 0.0
        self._state = (0, 0, "")
        self._component, self._before = "", 0

    def take(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StageStarted(stage=stage):
                self._finish()
                self._stage, self._state = stage, (0, 0, "")
                self._component, self._before = "", 0
                self._started = time.perf_counter()
            case BytesRead():
                self._read(event)
            case StepDone(step=step, steps=steps, seconds=seconds):
                self._state = (step, steps, f"{step}/{steps} {seconds:.2f} s/it")
            case FrameDone(frame=frame, frames=frames):
                self._state = (frame, frames, f"{frame}/{frames} frames")
            case _:
                self._tell(event)
                return
        self._draw()

    def _read(self, event: BytesRead) -> None:
        """Count bytes; where a stage loads several components, those of all of them."""
        if self._component not in ("", event.component):
            self._before = self._state[1]
        self._component = event.component
        done = self._before + event.done
        self._state = (done, self._before + event.total, f"{size(done)} {event.file}")

    def _tell(self, event: Event) -> None:
        """Give what is told once a line of its own; the bar comes back below it."""
        if isinstance(event, TERMINAL):
            self._finish()
        elif words := told(event):
            start = "\r\x1b[K" if self._terminal else ""
            self._stream.write(f"{start}{printable(words)}\n")
            self._stream.flush()
            self._drawn = 0.0

    def _draw(self) -> None:
        now = time.perf_counter()
        if self._terminal and now - self._drawn >= INTERVAL:
            self._drawn = now
            self._stream.write(f"\r\x1b[K{self._line()}")
            self._stream.flush()

    def _finish(self) -> None:
        if self._stage:
            start = "\r\x1b[K" if self._terminal else ""
            seconds = time.perf_counter() - self._started
            self._stream.write(f"{start}{self._line()}  {seconds:.1f} s\n")
            self._stage = ""

    def _line(self) -> str:
        done, total, text = self._state
        filled = WIDTH * done // total if total else 0
        bar = "█" * filled + "░" * (WIDTH - filled)
        line = f"{STAGES[self._stage]:<24}{bar if total else ' ' * WIDTH} {text}"
        return printable(line[:100])
