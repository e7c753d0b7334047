"""Progress without a screen: a bar or lines on stderr, or JSON lines on stdout."""

from __future__ import annotations

import json
import time
from typing import Protocol, TextIO

from engine.spec.events import (
    STAGES,
    BytesRead,
    Event,
    FrameDone,
    LoraApplied,
    StageStarted,
    StepDone,
    as_json,
    describe_lora,
)
from lightx2v_tui.output import printable
from lightx2v_tui.units import size

WIDTH = 24
INTERVAL = 0.1  # seconds between redraws


class Progress(Protocol):
    """Shows the events of one run."""

    def take(self, event: Event) -> None:
        """Show one event."""


class Silent:
    """Shows nothing."""

    def take(self, event: Event) -> None:
        """Show nothing."""


class JsonLines:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def take(self, event: Event) -> None:
        """Write one line."""
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

    def take(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StageStarted(stage=stage):
                self._finish()
                self._stage, self._state = stage, (0, 0, "")
                self._started = time.perf_counter()
            case LoraApplied(path=path):
                self._stream.write(f"{printable(f'LoRA {path.name}: {describe_lora(event)}')}\n")
                return
            case BytesRead(done=done, total=total, file=file):
                self._state = (done, total, f"{size(done)} {file}")
            case StepDone(step=step, steps=steps, seconds=seconds):
                self._state = (step, steps, f"{step}/{steps} {seconds:.2f} s/it")
            case FrameDone(frame=frame, frames=frames):
                self._state = (frame, frames, f"{frame}/{frames} frames")
            case _:
                if event.kind in ("done", "failed", "cancelled"):
                    self._finish()
                return
        self._draw()

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
