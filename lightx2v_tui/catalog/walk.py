"""One walk over the disks, telling what it finds while it goes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event

from lightx2v_tui.catalog.model import ModelRoot, Skipped
from lightx2v_tui.catalog.roots import FOLDERS, inspect_root

SKIP = {"node_modules", "site-packages", "__pycache__", "proc", "sys", "dev", "blobs", "refs"}
MAX_DEPTH = 8


def find_roots(starts: Iterable[Path], stop: Event) -> Iterator[ModelRoot | Skipped]:
    """Yield every model root at or below the folders `starts`, each once, until `stop` is set."""
    seen: set[tuple[int, int]] = set()
    pending = [(start, 0) for start in reversed([_start(start) for start in starts])]
    while pending and not stop.is_set():
        folder, depth = pending.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            below = _folders(folder)
            root = inspect_root(folder) if below & FOLDERS.keys() else None
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Skipped(folder, error.strerror or str(error))
            continue
        if root is not None:
            yield root
        elif depth < MAX_DEPTH:
            pending += [(folder / name, depth + 1) for name in sorted(below, reverse=True)]


def _start(path: Path) -> Path:
    """A precision folder given by hand means the root above it."""
    return path.parent if path.name in FOLDERS else path


def _folders(path: Path) -> set[str]:
    with os.scandir(path) as entries:
        return {
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.name not in SKIP and _is_dir(entry)
        }


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop
        return False
