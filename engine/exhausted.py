"""Tell out-of-memory from other errors: each allocator and each library says it in its own way."""

from __future__ import annotations

import errno
import re
from typing import Literal

import torch

from engine.spec.errors import OutOfMemoryFailure
from engine.spec.space import megabytes

Memory = Literal["cuda", "ram"]
ON_CUDA = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation"
    r"|(CUBLAS|CUDNN|CUSOLVER)_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)"
)
IN_RAM = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|Cannot allocate memory"
    r"|std::bad_alloc|unable to mmap .* bytes|CUDA error: cudaErrorHostMemory"
)
IN_RAM_ASKED = re.compile(r"tried to allocate (\d+) bytes")
ON_CUDA_ASKED = re.compile(r"Tried to allocate ([\d.]+ [KMG]iB)")
FREE_ON_CUDA = re.compile(r"of which ([\d.]+ [KMG]iB) is free")
FIX = "Choose a smaller size, fewer frames, the tiny VAE, or FP8 / INT8 weights."


def exhausted(error: BaseException | None) -> Memory | None:
    """Say which memory an error, or the one it was made of, says was not enough; else None."""
    if error is None:
        return None
    return _said_by(error) or exhausted(error.__cause__)


def _said_by(error: BaseException) -> Memory | None:
    if isinstance(error, torch.OutOfMemoryError):
        return "cuda"
    if isinstance(error, MemoryError):
        return "ram"
    if isinstance(error, OSError):
        return "ram" if error.errno == errno.ENOMEM else None
    if not isinstance(error, RuntimeError):
        return None
    words = str(error)
    if ON_CUDA.search(words):
        return "cuda"
    return "ram" if IN_RAM.search(words) else None


def failure_of(
    error: BaseException, memory: Memory, device: str, stage: str, beside: tuple[str, ...]
) -> OutOfMemoryFailure:
    """Tell that memory was not enough, with the figures there are."""
    what = f"{device} ran out of memory" if memory == "cuda" else "RAM was not enough"
    return OutOfMemoryFailure(what, _figures(error), FIX, stage=stage, device=memory, beside=beside)


def _figures(error: BaseException) -> str:
    """How much was asked for, and how much there was; else what the library says."""
    cause: BaseException | None = error
    while cause is not None:
        words = str(cause)
        if found := ON_CUDA_ASKED.search(words):
            free = FREE_ON_CUDA.search(words)
            return f"{found[1]} more were asked for" + (f", {free[1]} were free" if free else "")
        if found := IN_RAM_ASKED.search(words):
            return _ram_figures(int(found[1]))
        cause = cause.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _ram_figures(asked: int) -> str:
    import psutil

    free = int(psutil.virtual_memory().available)
    there = f", {megabytes(free)} were free" if free < asked else ""  # else a limit was met
    return f"{megabytes(asked)} more were asked for{there}"
