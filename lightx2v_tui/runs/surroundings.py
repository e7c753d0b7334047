"""What other processes do, and what ended early and can go on; looked at now and then, cheaply."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lightx2v_tui import store
from lightx2v_tui.paths import data_dir
from lightx2v_tui.runs import history
from lightx2v_tui.runs.history import PastRun

MOST = 100  # folders that are looked at, the newest ones
MAX_BYTES = 100_000


@dataclass(frozen=True)
class Glimpse:
    """The runs of other processes, and those that can go on; the newest first."""

    running: tuple[PastRun, ...] = ()
    early: tuple[PastRun, ...] = ()
    fresh: tuple[PastRun, ...] = ()  # of those, the ones interrupted since the last offer


@dataclass(frozen=True)
class Memory:
    """What is remembered between starts: when was offered last, and what is not to be again."""

    started: float = 0.0
    dismissed: tuple[str, ...] = ()


def memory_path() -> Path:
    """Where that is kept."""
    return data_dir() / "offers.json"


def recall() -> Memory:
    """Read what is remembered; whatever stands there, nothing fails."""
    try:
        with memory_path().open("rb") as file:
            table = json.loads(file.read(MAX_BYTES))
        started, dismissed = table["started"], table["dismissed"]
        return Memory(float(started), tuple(str(run) for run in list(dismissed)))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return Memory()


def keep(memory: Memory) -> None:
    """Remember it; where that cannot be written, the same is offered again."""
    table = {"started": memory.started, "dismissed": memory.dismissed}
    try:
        store.write_json(memory_path(), table)
    except OSError:
        return


class Surroundings:
    """Looks at the newest runs; what has not changed since the last look is not read again."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[float, PastRun]] = {}
        self._memory: Memory | None = None

    def look(self) -> Glimpse:
        """Read what has changed, on a thread: a disk may be slow."""
        memory = self._recalled()
        found = list(self._runs())
        early = [r for r in found if r.id not in memory.dismissed and not r.problem and r.kept]
        return Glimpse(
            tuple(run for run in found if run.status == "running" and not run.is_own),
            tuple(early),
            tuple(run for run in early if self._is_fresh(run, memory)),
        )

    def offered(self) -> None:
        """Note that what is fresh now has been offered."""
        self._memory = Memory(time.time(), self._recalled().dismissed)
        keep(self._memory)

    def dismiss(self, runs: Collection[str]) -> None:
        """Offer some runs no more."""
        memory = self._recalled()
        there = {folder.name for folder in self._read}
        kept = [run for run in memory.dismissed if run in there and run not in runs]
        self._memory = Memory(memory.started, (*kept, *runs))
        keep(self._memory)

    def _recalled(self) -> Memory:
        if self._memory is None:
            self._memory = recall()
        return self._memory

    def _runs(self) -> list[PastRun]:
        before, self._read = self._read, {}
        for folder in islice(history.newest_folders(), MOST):
            changed = _changed(folder)
            seen, run = before.get(folder, (None, None))
            if run is None or changed != seen or run.status == "running":
                run = history.read_run(folder)
            if run is not None:
                self._read[folder] = (changed, run)
        return [run for _, run in self._read.values()]

    def _is_fresh(self, run: PastRun, memory: Memory) -> bool:
        changed, _ = self._read[run.folder]
        return run.status == history.BROKEN and changed > memory.started


def _changed(folder: Path) -> float:
    """When the record of a run was written last."""
    try:
        return (folder / "status.json").stat().st_mtime
    except OSError:
        return 0.0
