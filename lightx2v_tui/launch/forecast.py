"""Will it fit, and how long will it load: the engine's estimate for this machine, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from engine.spec.estimate import Estimate, Machine, estimate
from engine.spec.job import Job, Placing
from lightx2v_tui.catalog import TITLES, Kind
from lightx2v_tui.catalog.disk import disk_of, read_speed
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.host import HostMemory
from lightx2v_tui.units import duration, size

VERDICTS = {"fits": "fits", "offload": "fits with offload", "too big": "does not fit"}


@dataclass(frozen=True)
class Held:
    """Bytes that the engine of this process holds already: on the device and in RAM."""

    vram: int = 0
    ram: int = 0
    engine: bool = False  # there is one: its libraries are loaded


NOTHING_HELD = Held()


def machine_of(gpu: Gpu | None, memory: HostMemory, held: Held = NOTHING_HELD) -> Machine:
    """What a run may use: what the engine holds already is free for its next run."""
    return Machine(
        vram_total=gpu.total_bytes if gpu else 0,
        vram_free=min(gpu.free_bytes + held.vram, gpu.total_bytes) if gpu else 0,
        ram_available=memory.available + held.ram,
        ram_process=max(0, memory.process - held.ram),
        has_engine=held.engine,
        capability=gpu.capability if gpu else None,
    )


@dataclass(frozen=True)
class Forecast:
    """An estimate beside what the machine has."""

    job: Job
    machine: Machine
    estimate: Estimate
    seconds: float  # of reading the weights; 0 where the disk's speed is not known

    @property
    def fits(self) -> bool:
        """True where the run is expected to come through."""
        return self.estimate.verdict != "too big"

    def line(self) -> str:
        """The forecast in one line."""
        told = self.estimate
        parts = [f"RAM {size(told.ram_needed)} of {size(self.machine.ram_available)}"]
        if told.vram_needed:
            parts.insert(0, f"VRAM {size(told.vram_needed)} of {size(self.machine.vram_free)}")
        parts.append(f"reads {self.reads()}")
        offload = f" ({self.offload()})" if self.estimate.offloaded else ""
        return f"{', '.join(parts)}: {VERDICTS[told.verdict]}{offload}"

    def reads(self) -> str:
        """How much is read from the disk, and how long that takes."""
        time = f" in about {duration(self.seconds)}" if self.seconds >= 0.1 else ""
        return f"{size(self.estimate.disk_read)}{time}"

    def offload(self) -> str:
        """Which networks do not stay where they compute; empty where all do."""
        told = []
        for place, words in (
            (Placing.CPU, "in RAM"),
            (Placing.DROP, "unloaded after use"),
        ):
            names = [
                TITLES[Kind(name)]
                for name in self.estimate.offloaded
                if getattr(self.job.placings, name) is place
            ]
            told += [f"{', '.join(names)} {words}"] if names else []
        return ", ".join(told)

    def lines(self) -> Iterator[str]:
        """The forecast, and what would help where it does not fit."""
        yield self.line()
        yield from self.estimate.advice

    def as_json(self) -> dict[str, object]:
        """The figures, for other programs."""
        told = asdict(self.estimate)  # stages with it
        told["placings"] = {name: place.value for name, place in told["placings"].items()}
        machine = asdict(self.machine)
        return {**told, "machine": machine, "load_seconds": round(self.seconds, 1)}


def foresee(job: Job, machine: Machine) -> Forecast:
    """Foresee a job on a machine.

    Raises:
        CheckpointError: a file is missing or its header is broken.
    """
    told = estimate(job, machine)
    speed = _speed(job.dit.files[0])
    return Forecast(job, machine, told, told.disk_read / speed if speed else 0.0)


@lru_cache(maxsize=32)
def _speed(file: Path) -> int:
    """What the disk of a file usually gives; where that is not known, what it gives now."""
    return disk_of(file).bytes_per_second or read_speed(file)
