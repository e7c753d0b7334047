"""What screens and widgets tell upwards, named for what happened."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:  # names of what is carried; the first frame need not wait for them
    from engine.spec.errors import EngineError
    from engine.spec.events import Event
    from lightx2v_tui.catalog import ModelRoot, Skipped
    from lightx2v_tui.gpus import GpuReading
    from lightx2v_tui.host import HostMemory
    from lightx2v_tui.jobs import Plan


@dataclass
class RootsFound(Message):
    """The scan found model roots, and what it had to skip."""

    found: Sequence[ModelRoot | Skipped]
    scan: threading.Event  # which scan: the event that stops it


@dataclass
class ScanEnded(Message):
    """The scan is over."""

    seconds: float
    scan: threading.Event


@dataclass
class MachineRead(Message):
    """GPUs and memory were read."""

    gpus: GpuReading
    memory: HostMemory

    def can_replace(self, message: Message) -> bool:
        """Only the newest reading matters."""
        return isinstance(message, MachineRead)


@dataclass
class ModelChosen(Message):
    """A model was chosen for launching."""

    root: ModelRoot


@dataclass
class RunWanted(Message):
    """A planned job is to be run; `own_folder` puts the video into the run's folder."""

    plan: Plan
    own_folder: bool


class CancelWanted(Message):
    """The run under way is to be cancelled."""


@dataclass
class ErrorMet(Message):
    """Something went wrong that the user should read; `log` is a path, or empty."""

    error: EngineError
    log: str = ""


@dataclass
class RunEnded(Message):
    """The engine gave its terminal event."""

    event: Event
