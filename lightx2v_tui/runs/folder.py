"""One folder per run: what it makes, how far it is, and all that is needed to go on with it.

`preset.json`, `status.json`, `log.txt` and `checkpoint.safetensors`, and the mp4 unless it goes
elsewhere. A file named `cancel`, made by any other process, asks the owner to stop.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Event as StopEvent

from engine.spec.errors import EngineError
from engine.spec.events import (
    Attempt,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    Noted,
    Resumed,
    StageStarted,
    StepDone,
    Waiting,
)
from engine.spec.job import Job, Lora
from lightx2v_tui import store
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.presets import Preset, to_json
from lightx2v_tui.runs import processes
from lightx2v_tui.runs.locks import FileLock
from lightx2v_tui.runs.progress import log_line, told

SCHEMA = 2
KNOWN = (1, SCHEMA)  # forms of status.json that can be read
STAMP = "%Y%m%d-%H%M%S"  # what run folders are named by
PRIVATE_FILE = 0o600
INTERVAL = 0.5  # seconds between two records of a count; steps and stages are always recorded
LOOK = 1.0  # seconds between two looks for a wish to cancel
MAX_NOTES = 50


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps its files."""

    path: Path

    @property
    def status(self) -> Path:
        """How far it is, and who works on it."""
        return self.path / "status.json"

    @property
    def preset(self) -> Path:
        """What it makes."""
        return self.path / "preset.json"

    @property
    def log(self) -> Path:
        """What libraries printed, and tracebacks; its owner holds it while the run goes on."""
        return self.path / "log.txt"

    @property
    def checkpoint(self) -> Path:
        """The state after the last step, until the video is there."""
        return self.path / "checkpoint.safetensors"

    @property
    def cancel(self) -> Path:
        """An empty file here asks the run to stop."""
        return self.path / "cancel"

    @property
    def output(self) -> Path:
        """The mp4, unless the user named another place."""
        return self.path / "output.mp4"

    def write_log(self, text: str) -> None:
        """Add a line to the log."""
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self.log, flags, PRIVATE_FILE)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def new_run() -> RunFolder:
    """Make a folder named by the time, with a number behind it where two meet.

    Raises:
        EngineError: the data folder cannot be written to.
    """
    base = runs_dir()
    stamp = time.strftime(STAMP)
    try:
        store.make_folder(base)
        for number in range(1000):
            path = base / (stamp if number == 0 else f"{stamp}-{number}")
            try:
                path.mkdir(mode=store.PRIVATE_DIR)
            except FileExistsError:
                continue
            return RunFolder(path)
    except OSError as error:
        raise _unrecorded(base, error) from error
    raise EngineError("No run folder could be made", f"{base} is full of them", "Clean it up.")


def _unrecorded(path: Path, error: OSError) -> EngineError:
    return EngineError(
        "No run folder could be made",
        f"{path}: {error.strerror}",
        "Free some space, or set XDG_DATA_HOME to a folder you can write to.",
    )


def ask_cancel(folder: Path) -> None:
    """Ask whoever works on a run to stop; it looks about once a second.

    Raises:
        EngineError: the folder cannot be written to.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(RunFolder(folder).cancel, flags, PRIVATE_FILE))
    except OSError as error:
        raise EngineError(
            "The run could not be asked to stop", f"{folder}: {error.strerror}", ""
        ) from error


@contextmanager
def heeding(folder: RunFolder, stop: StopEvent) -> Iterator[None]:
    """Set `stop` once somebody asks the run to cancel, while the block runs."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK):
            if folder.cancel.exists():
                stop.set()
                return

    threading.Thread(target=look, name="cancel", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


class RunRecord:
    """Keeps the `status.json` of one run up to date, from its events."""

    def __init__(
        self,
        folder: RunFolder,
        preset: Preset,
        *,
        job: Job | None = None,
        earlier: Mapping[str, object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a record of a `job`; `earlier` is that of a run which now goes on.

        Raises:
            EngineError: somebody else works on the run, or its folder cannot be written to.
        """
        self._folder, self._clock = folder, clock
        self._changing = threading.Lock()
        self._owner = FileLock(folder.log)
        self._written = 0.0
        self._times: list[float] = []
        self._stopped = "cancelled"  # what a run is that was asked to stop
        self._began, self._before = clock(), 0.0
        self._status = self._first(preset, job)
        if earlier:
            self._go_on(earlier)
        self._own(folder)
        try:
            folder.cancel.unlink(missing_ok=True)  # it was meant for an earlier owner
            store.write_json(folder.preset, to_json(absolute(preset)))
        except OSError as error:
            if not earlier:
                with suppress(OSError):
                    folder.log.unlink()
                    folder.path.rmdir()
            raise _unrecorded(folder.path, error) from error
        self._write()

    def _own(self, folder: RunFolder) -> None:
        """Hold the run, so that two processes never work on one; some disks know no locks."""
        with suppress(OSError):
            if not self._owner.take():
                raise EngineError(
                    f"The run {folder.path.name} is running",
                    f"another process works on {folder.path}",
                    "Wait for it, or cancel it there.",
                )

    def _first(self, preset: Preset, job: Job | None) -> dict[str, object]:
        return {
            "schema": SCHEMA,
            "status": "running",
            "stage": None,
            "step": 0,
            "steps": 0,
            "done": 0,
            "total": 0,
            "began": {},
            "waiting": "",
            "seconds_per_step": None,
            "output": str(preset.output),
            **processes.own(),
            "started": self._began,
            "since": self._began,
            "seconds": 0.0,
            "error": None,
            "notes": [],
            "options": _options(job) if job else {},
            "attempts": [],
        }

    def _go_on(self, earlier: Mapping[str, object]) -> None:
        """Take over from a run that ended early: when it began, how long it worked, its plans."""
        kept = ("step", "steps", "started", "notes", "options", "attempts")
        self._status |= {name: earlier[name] for name in kept if name in earlier}
        seconds = earlier.get("seconds")
        self._before = float(seconds) if isinstance(seconds, (int, float)) else 0.0
        self._status["since"] = self._began - self._before

    def begin(self, job: Job, what: str = "as planned", *, lowered: bool = False) -> None:
        """Note how a job is computed, at its start and each time it is tried with a lower plan."""
        with self._changing:
            self._status["began"] = {}  # of an attempt before this one
            self._status["options"] = _options(job)
            attempts = self._list("attempts")
            last = attempts[-1] if attempts else {}
            attempts.append(
                {
                    "number": len(attempts) + 1,
                    "what": what,
                    "lowered": lowered or (isinstance(last, dict) and bool(last.get("lowered"))),
                    "started": self._clock(),
                    "placings": {
                        field.name: getattr(job.placings, field.name).value
                        for field in fields(job.placings)
                    },
                    "tiling": job.tiling,
                    "tiny_vae": job.tiny_vae,
                    "batched_guidance": bool(job.guidance and job.guidance.batched),
                    "failed": None,
                }
            )
            self._write()

    def gave_up(self, error: EngineError) -> None:
        """Note why the last attempt failed."""
        with self._changing:
            attempts = self._list("attempts")
            if attempts and isinstance(attempts[-1], dict):
                attempts[-1]["failed"] = str(error)

    def note(self, text: str) -> None:
        """Keep something the user should know, here and in the log."""
        with self._changing:
            self._status["notes"] = [*self._list("notes"), text][-MAX_NOTES:]
            self._folder.write_log(text)
            self._write()

    def interrupting(self) -> None:
        """From now on a run that stops was interrupted: nobody cancelled it."""
        self._stopped = "interrupted"

    def stop_now(self) -> None:
        """Note that the run is stopped without asking it."""
        if self._changing.acquire(timeout=1.0):
            self._status["status"] = self._stopped
            self._write()

    def take(self, event: Event) -> None:
        """Note what an event changes."""
        with self._changing:
            self._status["waiting"] = event.reason if isinstance(event, Waiting) else ""
            if line := log_line(event):
                self._folder.write_log(line)
            match event:
                case StageStarted(stage=stage, total=total):
                    began = {**self._table("began"), stage: round(self._clock(), 3)}
                    self._status |= {"stage": stage, "done": 0, "total": total, "began": began}
                case StepDone():
                    self._step(event)
                case BytesRead(done=done, total=total) | FrameDone(frame=done, frames=total):
                    self._status |= {"done": done, "total": total}
                    if 0 <= self._clock() - self._written < INTERVAL:
                        return
                case Done() | Failed() | CancelledByUser():
                    self._end(event)
                    return
                case Noted() | Waiting() | Resumed() | Attempt():
                    self._tell(event)
                case _:
                    return
            self._write()

    def _step(self, event: StepDone) -> None:
        self._times.append(event.seconds)
        counted = self._times[1:] or self._times  # the first one warms up
        self._status |= {
            "step": event.step,
            "steps": event.steps,
            "done": event.step,
            "total": event.steps,
            "seconds_per_step": round(sum(counted) / len(counted), 3),
        }

    def _tell(self, event: Noted | Waiting | Resumed | Attempt) -> None:
        text = told(event).removeprefix("note: ")
        if isinstance(event, Resumed):
            self._status |= {"step": event.step, "steps": event.steps}
        self._status["notes"] = [*self._list("notes"), text][-MAX_NOTES:]
        self._folder.write_log(text)

    def _end(self, event: Event) -> None:
        match event:
            case Failed(error=error):
                self._status |= {"status": "failed", "error": str(error)}
            case Done():
                self._status["status"] = "done"
            case _:
                self._status["status"] = self._stopped
        written = self._write()
        if isinstance(event, Done):
            clean(self._folder, private=self._folder.output)
        if not written:
            self._write()  # a full disk has room now
        with suppress(OSError):
            self._folder.cancel.unlink(missing_ok=True)
        self._owner.release()

    def _table(self, name: str) -> dict[str, object]:
        value = self._status[name]
        return value if isinstance(value, dict) else {}

    def _list(self, name: str) -> list[object]:
        value = self._status[name]
        if not isinstance(value, list):
            value = self._status[name] = []
        return value

    def _write(self) -> bool:
        now = self._clock()
        self._written = now
        self._status["seconds"] = round(max(0.0, now - self._began) + self._before, 3)
        try:
            store.write_json(self._folder.status, self._status)
        except OSError:
            return False  # a full disk must not end a run that can still finish elsewhere
        return True


def _options(job: Job) -> dict[str, object]:
    """What decides how a job is computed and its preset does not say."""
    return {
        "device": job.device,
        "compute_dtype": job.compute_dtype.value,
        "quant_compute": job.quant_compute.value,
        "preview": job.preview.value,
        "save_tensors": str(job.save_tensors) if job.save_tensors else None,
    }


def clean(folder: RunFolder, private: Path | None = None) -> None:
    """Remove what a run needed only to go on; a video in its folder is the user's alone."""
    with suppress(OSError):
        for path in folder.path.iterdir():
            half_written = path.name.startswith((".status.json.", ".preset.json."))
            if half_written or path.name.lstrip(".").startswith(folder.checkpoint.name):
                path.unlink(missing_ok=True)
        if private is not None and private.exists():
            private.chmod(PRIVATE_FILE)


def absolute(preset: Preset) -> Preset:
    """The same preset from whatever folder it is read."""
    paths = {
        field.name: value.absolute()
        for field in fields(preset)
        if isinstance(value := getattr(preset, field.name), Path)
    }
    loras = preset.loras and tuple(Lora(one.path.absolute(), one.strength) for one in preset.loras)
    return replace(preset, loras=loras, **paths)  # type: ignore[arg-type] # paths for paths
