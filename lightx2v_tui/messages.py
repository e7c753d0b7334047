"""What screens and widgets tell upwards, named for what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:  # names of what is carried; the first frame need not wait for them
    from engine.spec.errors import EngineError
    from engine.spec.events import Event
    from lightx2v_tui.catalog import ModelRoot, Skipped
    from lightx2v_tui.downloads.downloader import Download
    from lightx2v_tui.downloads.fetching import DownloadPlan
    from lightx2v_tui.gpus import GpuReading
    from lightx2v_tui.host import HostMemory
    from lightx2v_tui.launch.jobs import Plan
    from lightx2v_tui.presets import Preset
    from lightx2v_tui.runs.history import PastRun


@dataclass
class RootsFound(Message):
    """The scan found model roots, and what it had to skip."""

    found: Sequence[ModelRoot | Skipped]
    scan: threading.Event  # which scan: the event that stops it


@dataclass
class ScanEnded(Message):
    """The scan is over; `whole` where it came to the end of everything."""

    seconds: float
    scan: threading.Event
    whole: bool = True


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
class PresetOpened(Message):
    """A preset is to be shown in the launch form; `name` is that of a saved one."""

    preset: Preset
    name: str = ""


@dataclass
class FormLeft(Message):
    """The launch form was left with other values than it was opened with."""

    preset: Preset


@dataclass
class FolderAdded(Message):
    """A folder is to be looked at for models, now and at every start."""

    folder: Path


class ModelsChanged(Message):
    """Files of models were written: the disks are worth another look."""


@dataclass
class DownloadOpened(Message):
    """Downloads are to be shown: the one under way, or where there is none, a choice.

    `another` asks for a choice in any case; `place` is a folder for models.
    """

    repository: str = ""
    place: Path | None = None
    another: bool = False


@dataclass
class DownloadWanted(Message):
    """A planned download is to be fetched."""

    plan: DownloadPlan


class DownloadCancelWanted(Message):
    """The download under way is to be stopped."""


@dataclass
class DownloadEnded(Message):
    """A download is over."""

    download: Download


@dataclass
class RunWanted(Message):
    """A planned job is to be run; `own_folder` puts the video into the run's folder.

    `form` is what the launch form said, for the next time: the plan has adjusted it.
    """

    plan: Plan
    own_folder: bool
    form: Preset | None = None


@dataclass
class ResumeWanted(Message):
    """A run that ended early is to go on."""

    folder: Path


@dataclass
class WatchWanted(Message):
    """A run that another process works on is to be shown."""

    run: PastRun


@dataclass
class EngineAsked(Message):
    """The engine waits for an answer; whoever it is shown to gives it to `answer`."""

    question: str
    answer: Callable[[bool], None]


class CancelWanted(Message):
    """The run under way is to be cancelled."""


class PauseWanted(Message):
    """The run under way is to wait, or to go on if it waits."""


@dataclass
class ErrorMet(Message):
    """Something went wrong that the user should read; `log` is a path, or empty."""

    error: EngineError
    log: str = ""


@dataclass
class RunEnded(Message):
    """The engine gave its terminal event."""

    event: Event


@dataclass
class ThemeTried(Message):
    """A theme is to be shown; `keep` stores it."""

    name: str
    keep: bool


@dataclass
class KeymapChanged(Message):
    """Other keys are to be used, by the ids of their bindings."""

    keymap: Mapping[str, str]


class GlyphsChanged(Message):
    """The user said which letters the terminal has."""
