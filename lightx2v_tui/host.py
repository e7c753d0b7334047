"""What the machine has beside GPUs, as frozen snapshots: memory, cores, and its PyTorch."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/")
CGROUPS = "sys/fs/cgroup"
#: Where the two versions of cgroups keep a limit, what is used of it, and how much of that is
#: file cache that the kernel gives back.
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class HostMemory:
    """RAM in bytes: what this process may use in all, what of it is free, what it holds."""

    total: int
    available: int
    process: int
    swap_total: int = 0
    swap_free: int = 0
    limit: int | None = None  # of its container or service, where that is less than the machine has


@dataclass(frozen=True)
class TorchBuild:
    """The installed PyTorch: its version, and the CUDA or ROCm that it was built for."""

    version: str
    cuda: tuple[int, int] | None = None
    hip: str = ""


def read_memory(system: Path = SYSTEM) -> HostMemory:
    """Read RAM and swap, within the limits of this process's cgroups."""
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    total, available = memory.total, memory.available
    for limit, free in _memory_limits(system):
        total, available = min(total, limit), min(available, free)
    return HostMemory(
        total=total,
        available=available,
        process=psutil.Process().memory_info().rss,
        swap_total=swap.total,
        swap_free=swap.free,
        limit=total if total < memory.total else None,
    )


class CpuLoad:
    """How busy all cores are, from one look to the next."""

    def __init__(self) -> None:
        self._busy = self._all = 0.0

    def read(self) -> float:
        """Percent of the time since the last look, or since the machine was started."""
        import psutil

        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy, spent = total - idle - self._busy, total - self._all
        self._busy, self._all = total - idle, total
        return max(0.0, min(100.0, 100 * busy / spent)) if spent > 0 else 0.0


def cpu_count(system: Path = SYSTEM) -> int:
    """Cores this process may use, within the quota of its cgroups."""
    allowed = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0))
    return max(1, min([allowed or os.cpu_count() or 1, *_cpu_quotas(system)]))


def torch_build() -> TorchBuild | None:
    """Read what the installed PyTorch was built for, without importing it; None where it is not."""
    import importlib.util
    import re

    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("torch")
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            text = _text(Path(folder, "version.py"))
            values = dict(re.findall(r"^(\w+)\b[^=\n]*= *'([^'\n]*)'", text, re.MULTILINE))
            if "__version__" in values:
                cuda = re.match(r"(\d+)\.(\d+)", values.get("cuda", ""))
                pair = (int(cuda[1]), int(cuda[2])) if cuda else None
                return TorchBuild(values["__version__"], pair, values.get("hip", ""))
    return None


def _memory_limits(system: Path) -> list[tuple[int, int]]:
    """Each limit on this process, and what is left of it."""
    limits = []
    for group in _groups(system, "memory"):
        for limit_file, usage_file, cache in MEMORY_FILES:
            limit, used = _number(group / limit_file), _number(group / usage_file)
            if limit is not None:
                held = (used or 0) - _statistic(group / "memory.stat", cache)
                limits.append((limit, max(0, limit - max(0, held))))
    return limits


def _cpu_quotas(system: Path) -> list[int]:
    quotas = []
    for group in _groups(system, "cpu"):
        parts = _text(group / "cpu.max").split()
        if not parts:
            parts = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(parts) == 2 and all(part.isdecimal() and int(part) for part in parts):
            quotas.append(math.ceil(int(parts[0]) / int(parts[1])))
    return quotas


def _groups(system: Path, controller: str) -> list[Path]:
    """Folders of this process's cgroup and of all above it, in both versions' places.

    A container may be shown the host's path and its own folder as the root: the folders that are
    not there have no files, and the root counts too.
    """
    folders = []
    for line in _text(system / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mount = system / CGROUPS / (controller if controllers else "")
        parts = [] if ".." in path.split("/") else path.strip("/").split("/")
        folders += [mount.joinpath(*parts[:depth]) for depth in range(len(parts), 0, -1)]
        folders.append(mount)
    return folders


def _statistic(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    """The number that a file holds; None for "max", and where there is no such file."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
