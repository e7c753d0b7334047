"""What a run is expected to take at its most, told as the meters of the machine will show it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.spec.job import Job
from engine.spec.memory import CUDA_CONTEXT
from lightx2v_tui.gpus import GpuReading
from lightx2v_tui.host import HostMemory
from lightx2v_tui.launch.forecast import Held, foresee, machine_of
from lightx2v_tui.runs.device_lock import gpu_of


@dataclass(frozen=True)
class Expected:
    """Bytes at the peak: used on the device and of the RAM by all, and by this run alone."""

    vram_used: int
    ram_used: int
    vram_peak: int
    ram_peak: int


def expect(job: Job, reading: GpuReading, memory: HostMemory, held: Held) -> Expected:
    """Foresee a run's peaks.

    Args:
        job: what is run.
        reading: the GPUs when it began.
        memory: the RAM when it began.
        held: what the engine held then.

    Raises:
        CheckpointError: a file of it is gone or broken.
    """
    gpu = gpu_of(job.device, reading.gpus)
    told = foresee(job, machine_of(gpu, memory, held)).estimate
    used = gpu.used_bytes if gpu else 0
    # Once the engine holds something, so does CUDA's context; both are counted in what it needs.
    ours = held.vram + CUDA_CONTEXT if held.vram else 0
    return Expected(
        vram_used=max(0, used - ours) + told.vram_needed,
        ram_used=max(0, memory.total - memory.available - held.ram) + told.ram_needed,
        vram_peak=told.vram_peak,
        ram_peak=told.ram_peak,
    )
