"""The machine's memory, as frozen snapshots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HostMemory:
    """RAM in bytes: of the machine, free for new programs, and held by this process."""

    total: int
    available: int
    process: int


def read_memory() -> HostMemory:
    """Read RAM."""
    import psutil

    memory = psutil.virtual_memory()
    return HostMemory(memory.total, memory.available, psutil.Process().memory_info().rss)


def cpu_count() -> int:
    """Cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
