"""What the last scan found, shown at once at the next start until the disks have been asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lightx2v_tui import store
from lightx2v_tui.catalog.model import ModelRoot, Skipped
from lightx2v_tui.catalog.report import as_json, from_json
from lightx2v_tui.paths import cache_dir

FORM = 1  # of the file; another one is not read
MAX_BYTES = 8 << 20  # read before the first frame: a thousand models and more


def path() -> Path:
    """Where it is kept; safe to delete."""
    return cache_dir() / "catalog.json"


def load() -> tuple[ModelRoot, ...]:
    """Read what was found last; nothing where there is no file, or one of another form."""
    try:
        with path().open("rb") as file:
            table = json.loads(file.read(MAX_BYTES))
        return from_json(table)[0] if table["form"] == FORM else ()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def save(roots: Sequence[ModelRoot], skipped: Sequence[Skipped], seconds: float) -> None:
    """Remember a scan; a disk that refuses is not worth a word."""
    table = {"form": FORM, **as_json(roots, skipped, seconds)}
    with suppress(OSError):  # ASCII, because names on disks need not be text
        store.write_text(path(), json.dumps(table))
