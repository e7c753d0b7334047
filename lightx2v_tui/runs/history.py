"""The runs so far, read back from their folders: whatever stands in them, nothing here fails."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.spec.events import STAGES
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.runs.folder import KNOWN, STAMP, RunFolder
from lightx2v_tui.runs.processes import owner_lives

if TYPE_CHECKING:
    from lightx2v_tui.presets import Preset

MAX_STATUS_BYTES = 1_000_000
MAX_PRESET_BYTES = 4_000_000
LOG_BYTES = 64_000  # of the end of a log
FAR_FUTURE = 1e11  # seconds; what is later no calendar knows
ENDED = ("done", "failed", "cancelled", "interrupted")
BROKEN = "interrupted"  # what a run is whose end nobody wrote down
EARLY = (BROKEN, "cancelled", "failed")
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a run was to make, as its preset says it; None where it does not say."""

    model: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    seed: int | None = None
    prompt: str = ""
    image: bool = False  # it starts from one


@dataclass(frozen=True)
class PastRun:
    """One run folder; `problem` says what of it could not be read."""

    id: str
    folder: Path
    status: str = BROKEN
    stage: str | None = None
    step: int = 0
    steps: int = 0
    output: str | None = None
    pid: int | None = None
    started: float | None = None
    since: float | None = None  # its start, later by the time in which nobody worked on it
    seconds: float = 0.0
    error: str | None = None
    done: int = 0  # units of the stage, of `total`
    total: int = 0
    seconds_per_step: float | None = None
    began: Mapping[str, float] = field(default_factory=dict)  # when each stage did
    waiting: str = ""  # for what only the user can mend
    notes: tuple[str, ...] = ()
    device: str = ""
    facts: Facts = field(default_factory=Facts)
    problem: str = ""

    @property
    def preset(self) -> Path:
        """Where its preset is."""
        return self.folder / "preset.json"

    @property
    def log(self) -> Path:
        """Where its log is."""
        return self.folder / "log.txt"

    @property
    def when(self) -> float:
        """When it began, to sort by."""
        return self.started if self.started is not None else 0.0

    @property
    def is_own(self) -> bool:
        """True where this process works on it."""
        return self.status == "running" and self.pid == os.getpid()

    @property
    def can_go_on(self) -> bool:
        """True where it ended early; without kept steps it begins anew."""
        return self.status in EARLY and not self.problem

    @property
    def kept(self) -> bool:
        """True where it ended early and its steps were kept, so that it can go on."""
        return self.status in EARLY and os.path.isfile(RunFolder(self.folder).checkpoint)  # noqa: PTH113 - a Path raises

    def took(self, now: float) -> float:
        """Seconds from its start to its end, or to now where it is still running."""
        if self.status != "running" or self.since is None:
            return self.seconds
        return max(0.0, now - self.since)


def past_runs(base: Path | None = None) -> list[PastRun]:
    """Every run, oldest first."""
    return sorted(newest_first(base), key=lambda run: (run.when, run.id))


def newest_first(base: Path | None = None) -> Iterator[PastRun]:
    """Read the runs one by one, the newest folder first: a screen shows those before the rest."""
    for folder in newest_folders(base):
        if (run := read_run(folder)) is not None:
            yield run


def newest_folders(base: Path | None = None) -> list[Path]:
    """The folders of all runs, the newest first."""
    base = runs_dir() if base is None else base
    try:
        names = [entry.name for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [base / name for name in sorted(names, key=_by_number, reverse=True)]


def read_run(folder: Path) -> PastRun | None:
    """Read one run folder; None where nothing of a run is in it."""
    status, problem = _object(folder / "status.json", MAX_STATUS_BYTES)
    preset, missing = _object(folder / "preset.json", MAX_PRESET_BYTES)
    if status is None and preset is None and not problem and not missing:
        return None
    run = PastRun(folder.name, folder, facts=_facts(preset or {}), problem=problem)
    if status is None:
        return replace(run, started=_began(folder), problem=problem or "it has no status.json")
    return _with_status(run, status)


def as_json(run: PastRun) -> dict[str, object]:
    """One run as `runs --json` prints it."""
    return {
        "id": run.id,
        "status": run.status,
        "stage": run.stage,
        "step": run.step,
        "steps": run.steps,
        "output": run.output,
        "folder": str(run.folder),
        "preset": str(run.preset),
        "pid": run.pid,
        "started": run.started,
        "seconds": run.seconds,
        "error": run.error or run.problem or None,
    }


def preset_of(run: PastRun) -> Preset:
    """The preset of a run, to edit or run again: a video in the run's own folder is not its place.

    Raises:
        PresetError: it cannot be read.
    """
    from lightx2v_tui.presets import read

    preset = read(run.preset)
    return replace(preset, output=None) if keeps_own_video(run, preset.output) else preset


def keeps_own_video(run: PastRun, output: Path | None) -> bool:
    """True where the video of a run lies in the run's folder."""
    return output is not None and output.absolute().parent == run.folder.absolute()


def video_of(run: PastRun) -> Path | None:
    """The video of a run that made one, where it still is."""
    if run.status != "done" or not run.output:
        return None
    return Path(run.output) if os.path.isfile(run.output) else None  # noqa: PTH113 - a Path raises


def log_tail(run: PastRun) -> str:
    """The end of a run's log; empty where there is none.

    Raises:
        OSError: it is there, and cannot be read.
    """
    try:
        if not stat.S_ISREG(run.log.stat().st_mode):
            return ""
        with run.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read(LOG_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def delete(run: PastRun, base: Path | None = None) -> None:
    """Delete the folder of a run, and nothing outside it.

    Raises:
        OSError: it is no folder of a run, or cannot be deleted.
    """
    import shutil

    base = runs_dir() if base is None else base
    if run.folder.parent != base or run.folder.is_symlink() or read_run(run.folder) is None:
        raise OSError(0, "it is not the folder of a run")
    shutil.rmtree(run.folder)  # it follows no links


def _by_number(name: str) -> tuple[str, int]:
    """Names are a time, and a number behind it where two runs began in one second."""
    parts = name.split("-")
    number = int(parts[2]) if len(parts) == 3 and parts[2].isdecimal() and len(parts[2]) < 9 else 0
    return "-".join(parts[:2]), number


def _object(path: Path, limit: int) -> tuple[Table | None, str]:
    """Read a small JSON object; None, and why, where there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for whoever writes
            return None, f"{path.name} is not a file"
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            return None, f"{path.name} is too large"
        value = json.loads(content)
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{path.name} cannot be read: {error}"
    return (value, "") if isinstance(value, dict) else (None, f"{path.name} is not a JSON object")


def _with_status(run: PastRun, status: Table) -> PastRun:
    schema = status.get("schema")
    newer = f"status.json has the form {schema!r}, this version knows {max(KNOWN)}"
    run = replace(
        run,
        status=_text(status, "status") or "",
        stage=_text(status, "stage"),
        step=_whole(status, "step") or 0,
        steps=_whole(status, "steps") or 0,
        output=_text(status, "output"),
        pid=_whole(status, "pid"),
        started=_number(status, "started"),
        since=_number(status, "since" if "since" in status else "started"),
        seconds=_number(status, "seconds") or 0.0,
        error=_text(status, "error"),
        **_progress(status),
        problem="" if type(schema) is int and schema in KNOWN else newer[:120],
    )
    if run.started is None:
        run = replace(run, started=_began(run.folder))
    if run.status in ENDED or (run.status == "running" and owner_lives(run.folder, status)):
        return run
    unknown = "" if run.status == "running" else f"status.json says {run.status[:40]!r}"
    return replace(run, status=BROKEN, problem=run.problem or unknown)


def _progress(status: Table) -> dict[str, Any]:
    """How far it is, for those who watch."""
    began, notes, options = (status.get(name) for name in ("began", "notes", "options"))
    began = began if isinstance(began, dict) else {}
    notes = notes if isinstance(notes, list) else []
    return {
        "done": _whole(status, "done") or 0,
        "total": _whole(status, "total") or 0,
        "seconds_per_step": _number(status, "seconds_per_step"),
        "began": {name: when for name in STAGES if (when := _number(began, name)) is not None},
        "waiting": _text(status, "waiting") or "",
        "notes": tuple(note for note in notes if isinstance(note, str)),
        "device": (_text(options, "device") if isinstance(options, dict) else None) or "",
    }


def _facts(preset: Table) -> Facts:
    own = preset.get("lightx2v_tui")
    own = own if isinstance(own, dict) else {}
    model = _text(preset, "model_path")
    return Facts(
        model=os.path.basename(model.rstrip("/")) if model else None,  # noqa: PTH119
        width=_whole(preset, "target_width"),
        height=_whole(preset, "target_height"),
        frames=_whole(preset, "target_video_length"),
        seed=_whole(own, "seed"),
        prompt=_text(own, "prompt") or "",
        image=_text(own, "image") is not None,
    )


def _began(folder: Path) -> float | None:
    """When a run began, where its record does not say: by its name, or by its folder's date."""
    with suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(folder.name[:15], STAMP))
    try:
        return folder.stat().st_mtime
    except OSError:
        return None


def _text(table: Table, name: str) -> str | None:
    value = table.get(name)
    return value if isinstance(value, str) else None


def _whole(table: Table, name: str) -> int | None:
    value = table.get(name)
    return value if type(value) is int and abs(value) < 1 << 63 else None


def _number(table: Table, name: str) -> float | None:
    value = table.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < FAR_FUTURE else None  # NaN is neither


def ago(started: float, now: float) -> str:
    """When a run began, as people say it: the time of today, the day before that."""
    then, today = time.localtime(started), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%d %b" if then.tm_year == today.tm_year else "%d %b %Y", then)
