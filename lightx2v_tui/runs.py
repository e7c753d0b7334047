"""One folder per run: preset.json, status.json, log.txt, and the mp4 unless it goes elsewhere."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import EngineError
from engine.spec.events import CancelledByUser, Done, Event, Failed, StageStarted, StepDone
from lightx2v_tui import store
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.presets import Preset, to_json

SCHEMA = 1


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps its files."""

    path: Path

    @property
    def log(self) -> Path:
        """What libraries printed, and tracebacks."""
        return self.path / "log.txt"

    @property
    def output(self) -> Path:
        """The mp4, unless the user named another place."""
        return self.path / "output.mp4"


def new_run() -> RunFolder:
    """Make a folder named by the time, with a number behind it where two meet.

    Raises:
        EngineError: the data folder cannot be written to.
    """
    base = runs_dir()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(1000):
            path = base / (stamp if number == 0 else f"{stamp}-{number}")
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return RunFolder(path)
    except OSError as error:
        raise EngineError(
            "No run folder could be made",
            f"{base}: {error.strerror}",
            "Free some space, or set XDG_DATA_HOME to a folder you can write to.",
        ) from error
    raise EngineError("No run folder could be made", f"{base} is full of them", "Clean it up.")


class RunRecord:
    """Keeps `status.json` of one run up to date, from its events."""

    def __init__(self, folder: RunFolder, preset: Preset) -> None:
        self._path = folder.path / "status.json"
        self._started = time.time()
        self._status: dict[str, object] = {
            "schema": SCHEMA,
            "status": "running",
            "stage": None,
            "step": 0,
            "steps": 0,
            "output": str(preset.output),
            "pid": os.getpid(),
            "started": self._started,
            "seconds": 0.0,
            "error": None,
        }
        store.write_json(folder.path / "preset.json", to_json(preset))
        self._write()

    def take(self, event: Event) -> None:
        """Note what an event changes; bytes and frames change nothing here."""
        match event:
            case StageStarted(stage=stage):
                self._status["stage"] = stage
            case StepDone(step=step, steps=steps):
                self._status |= {"step": step, "steps": steps}
            case Done():
                self._status["status"] = "done"
            case Failed(error=error):
                self._status |= {"status": "failed", "error": str(error)}
            case CancelledByUser():
                self._status["status"] = "cancelled"
            case _:
                return
        self._write()

    def _write(self) -> None:
        self._status["seconds"] = round(time.time() - self._started, 3)
        try:
            store.write_json(self._path, self._status)
        except OSError:
            return  # a full disk must not end a run that can still finish elsewhere
