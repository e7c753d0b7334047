"""Checkpoints of runs that nobody went on with: results and records stay, these go one day.

One is 4 bytes a latent, 8 to 80 MB. They are kept for 30 days, and the newest 4 GB of them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightx2v_tui.paths import runs_dir
from lightx2v_tui.runs import processes
from lightx2v_tui.runs.folder import RunFolder, clean

DAYS = 30
MOST_BYTES = 4_000_000_000
MAX_STATUS_BYTES = 1_000_000


@dataclass(frozen=True)
class _Kept:
    folder: RunFolder
    changed: float
    nbytes: int


def clear(base: Path | None = None, now: float | None = None, most: int = MOST_BYTES) -> None:
    """Remove checkpoints that are old, or too many; whatever cannot be removed stays."""
    now = time.time() if now is None else now
    total = 0
    found = sorted(_checkpoints(runs_dir() if base is None else base), key=lambda one: -one.changed)
    for kept in found:
        total += kept.nbytes
        old = now - kept.changed > DAYS * 86_400
        if (old or total > most) and not _in_use(kept.folder):
            clean(kept.folder)


def _checkpoints(base: Path) -> Iterator[_Kept]:
    try:
        entries = [entry for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        folder = RunFolder(Path(entry.path))
        try:
            status = folder.checkpoint.lstat()
        except OSError:
            continue
        yield _Kept(folder, status.st_mtime, status.st_size)


def _in_use(folder: RunFolder) -> bool:
    """True where a run is under way, or nobody can say."""
    try:
        with folder.status.open("rb") as file:
            status = json.loads(file.read(MAX_STATUS_BYTES))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return True
    running = isinstance(status, dict) and status.get("status") == "running"
    return running and processes.owner_lives(folder.path, status)
