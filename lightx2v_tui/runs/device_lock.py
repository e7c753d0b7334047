"""One engine a GPU: who holds a device, and waiting until it is free.

A lock is a file that the kernel gives back when its holder ends, so nothing is ever left over.
It is held as long as something is on the device: between the runs of an app, too, while networks
stay loaded there. The CPU is only marked: two runs on it are slower and nothing worse, and the
forecast sees the RAM that the other one holds.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.spec.errors import EngineError, JobError
from lightx2v_tui.gpus import Gpu, read_gpus
from lightx2v_tui.output import printable
from lightx2v_tui.paths import data_dir
from lightx2v_tui.runs.locks import FileLock

CPU = "cpu"
LOOK = 1.0  # seconds between two tries to get a device
MAX_CONTENT = 4000
MAX_COMMAND = 200


@dataclass(frozen=True)
class Holder:
    """Who holds a device; an empty `run` says that its networks only stay loaded."""

    pid: int | None = None
    run: str = ""
    since: float | None = None
    command: str = ""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        what = f"run {self.run} of {who}" if self.run else f"{who}, whose networks stay loaded"
        return f"{what}{f' since {clock(self.since)}' if self.since else ''}"


class DeviceBusy(EngineError):  # noqa: N818 - told as it is
    """A device is held by another process; `holder` says by which."""

    def __init__(self, title: str, holder: Holder) -> None:
        free = "Wait for it (`run --wait`), or use another --device."
        if not holder.run:
            free = "Free its memory (Ctrl+U in that app) or quit it; `run --wait` waits for it."
        why = holder.command or "two engines on one device run out of its memory"
        super().__init__(f"{title} is in use by {holder}", why, free)
        self.title = title
        self.holder = holder


@dataclass(frozen=True)
class Device:
    """What is locked: the name of its file, and what people call it."""

    key: str
    title: str


def device_of(name: str) -> Device:
    """The device that `cpu` or `cuda:N` names, told by what stays the same when numbers change."""
    if name == CPU:
        return Device(CPU, "The CPU")
    gpu, place = gpu_of(name, read_gpus().gpus), place_of(name)
    key = gpu.uuid if gpu else f"cuda-{place}"
    return Device("".join(c if c.isalnum() or c in "-_" else "_" for c in key), f"GPU {place}")


def check_name(name: str) -> None:
    """Make sure that a device is `cpu`, `cuda` or `cuda:N`.

    Raises:
        JobError: it is something else.
    """
    if not re.fullmatch(r"cpu|cuda(?::[0-9]{1,3})?", name):
        raise JobError(
            f"There is no device {name}", "it is cpu, cuda or cuda:N", "See lightx2v-tui doctor."
        )


def place_of(name: str) -> int:
    """The number of `cuda:N`; that of `cuda` is 0."""
    return int(name.partition(":")[2] or 0)


def gpu_of(name: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """The GPU that a device names; None where it is the CPU, or is not there."""
    place = place_of(name)
    return gpus[place] if name != CPU and place < len(gpus) else None


class DeviceLock:
    """The lock of one device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._file = FileLock(data_dir() / "locks" / f"{device.key}.lock")

    def take(self, run: str) -> str:
        """Hold the device; gives a note where its lock cannot be used, and the run goes without.

        Raises:
            DeviceBusy: another process holds it.
        """
        try:
            if not self._file.take():
                raise DeviceBusy(self.device.title, self.holder())
        except OSError as error:
            return f"{self.device.title} could not be locked ({error.strerror})"
        self.tell(run)
        return ""

    def tell(self, run: str) -> None:
        """Say which run uses the device now; none where its networks only stay loaded."""
        if self._file.held:
            command = printable(shlex.join(sys.argv))[:MAX_COMMAND]
            who = {"pid": os.getpid(), "run": run, "since": time.time(), "command": command}
            self._file.write(json.dumps(who).encode())

    def holder(self) -> Holder:
        """What the holder wrote about itself."""
        return _holder(self._file.path)

    def release(self) -> None:
        """Let the device go."""
        self._file.release()


class Devices:
    """The devices that one engine holds."""

    def __init__(self) -> None:
        self._held: dict[str, DeviceLock] = {}

    def take(self, name: str, run: str = "") -> tuple[str, ...]:
        """Hold a device for a run; gives what the user should know.

        Raises:
            DeviceBusy: another process holds it, and it is a GPU.
        """
        device = device_of(name)
        lock = self._held.get(device.key) or DeviceLock(device)
        try:
            note = lock.take(run)
        except DeviceBusy as busy:
            if device.key != CPU:
                raise
            return (f"{busy.what}: both will be slower",)
        self._held[device.key] = lock
        return (note,) if note else ()

    def wait(
        self, name: str, run: str, stop: Callable[[], bool], told: Callable[[DeviceBusy], None]
    ) -> tuple[str, ...] | None:
        """Wait for a device until it is held, or until `stop`: None then.

        `told` is given the holder at first, and again whenever it is another one.
        """
        device, last = device_of(name), None
        lock = self._held.get(device.key) or DeviceLock(device)
        while not stop():
            try:
                note = lock.take(run)
            except DeviceBusy as busy:
                if busy.holder != last:
                    last = busy.holder
                    told(busy)
                time.sleep(LOOK)
                continue
            self._held[device.key] = lock
            return (note,) if note else ()
        return None

    def rest(self, *, loaded: bool) -> None:
        """After a run: let devices go, unless networks stay loaded there."""
        if not loaded:
            self.release()
        for lock in self._held.values():
            lock.tell("")

    def release(self) -> None:
        """Let all devices go."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()


def _holder(path: Path) -> Holder:
    """Read what stands in a lock; it is only told, so that anything may stand there."""
    try:
        with path.open("rb") as file:
            table = json.loads(file.read(MAX_CONTENT))
    except (OSError, ValueError, RecursionError):
        return Holder()
    if not isinstance(table, dict):
        return Holder()
    pid: Any = table.get("pid")
    since: Any = table.get("since")
    known = type(since) in (int, float) and 0 <= since < 1e11
    return Holder(
        pid=pid if type(pid) is int and 0 < pid < 1 << 31 else None,
        run=printable(str(table.get("run") or ""))[:100],
        since=since if known else None,
        command=printable(str(table.get("command") or ""))[:MAX_COMMAND],
    )


def clock(seconds: float) -> str:
    """A time of day, and the day where it is not this one."""
    then = time.localtime(seconds)
    form = "%H:%M" if then[:3] == time.localtime()[:3] else "%d %b %H:%M"
    return time.strftime(form, then)
