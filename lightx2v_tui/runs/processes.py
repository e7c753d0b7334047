"""Which process is meant by a number: numbers are given again, times of a start are not."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightx2v_tui.runs.locks import is_held

SAME = 2.0  # seconds by which the clock may have been set since a start was noted
SLACK = 5.0  # the same, between the start of a run and that of its process


def own() -> dict[str, object]:
    """How this process is told from all others, in the words of a `status.json`."""
    return {"pid": os.getpid(), "pid_started": started_of(os.getpid()), "host": platform.node()}


def started_of(pid: int) -> float | None:
    """When a process began, in seconds of the clock; None where there is none, or a dead one."""
    import psutil

    if not 0 < pid < 1 << 31:
        return None
    try:
        process = psutil.Process(pid)
        born = float(process.create_time())
        return None if process.status() == psutil.STATUS_ZOMBIE else born
    except psutil.Error:
        return None


def owner_lives(folder: Path, status: Mapping[str, Any]) -> bool:
    """True where the process that a `status.json` names as its owner is there.

    Of a process on another machine, or in another container, only its hold on the log tells.
    """
    pid, host = status.get("pid"), status.get("host")
    began: Any = status.get("pid_started")
    if isinstance(host, str) and host != platform.node():
        return is_held(folder / "log.txt")
    born = started_of(pid) if type(pid) is int else None
    if born is None:
        return False
    if type(began) in (int, float):
        return bool(abs(born - began) <= SAME)
    started: Any = status.get("started")  # the first form of the file has no more than that
    return type(started) in (int, float) and bool(born <= started + SLACK)


def memory_of(pid: int) -> int:
    """Bytes of RAM that a process holds; 0 where it is not there, or not to be looked at."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss) if 0 < pid < 1 << 31 else 0
    except psutil.Error:
        return 0
