"""The thread of the models' screen: it walks the disks and tells what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from lightx2v_tui.messages import ErrorMet, RootsFound, ScanEnded

if TYPE_CHECKING:  # imported when the thread runs, after the first frame
    from engine.spec.errors import EngineError
    from lightx2v_tui.catalog import ModelRoot, Skipped
    from lightx2v_tui.catalog.walk import Looked

TELL_SECONDS = 0.15  # between two tellings: each draws the list, over SSH


def scan(
    places: Sequence[Path],
    stop: threading.Event,
    looked: Looked,
    tell: Callable[[Message], object],
) -> None:
    """Look for models until all is seen or `stop` is set; what was seen whole is remembered."""
    from lightx2v_tui.catalog import ModelRoot, find_roots, remembered

    started = told = time.perf_counter()
    roots: dict[str, ModelRoot] = {}
    skipped: list[Skipped] = []
    fresh: list[ModelRoot | Skipped] = []  # found since the screen was told
    whole = False
    try:
        for found in find_roots(places, stop, looked=looked):
            if isinstance(found, ModelRoot):
                roots[found.key] = found
            else:
                skipped.append(found)
            fresh.append(found)
            if time.perf_counter() - told > TELL_SECONDS:
                tell(RootsFound(fresh, stop))
                told, fresh = time.perf_counter(), []
        whole = not stop.is_set()
    except Exception as error:  # noqa: BLE001 - boundary: the app does not die from a scan
        tell(ErrorMet(_stopped(error)))
    seconds = time.perf_counter() - started
    tell(RootsFound(fresh, stop))
    tell(ScanEnded(seconds, stop, whole))
    if whole:
        remembered.save([*roots.values()], skipped, seconds)


def _stopped(error: Exception) -> EngineError:
    from engine.spec.errors import EngineError

    why = f"{type(error).__name__}: {error}".splitlines()[0]
    return EngineError(
        "The scan stopped", why, "What was found until then is listed; r looks again."
    )
