"""Room on disks: what a run will write, whether there is room for it, and which errors mean none.

Nothing here reads or writes a file; `free_space` asks the file system.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import EngineError
from engine.spec.job import Job, StepDistill, UniPC

#: A video at CRF 16, in bytes a pixel of all its frames, and the least that is asked for.
VIDEO_BYTES, LEAST_VIDEO = 0.2, 16_000_000
FLOAT = 4
CHECKPOINT_REST = 64 << 10  # header and generator
UNIPC_MEMORY = 3  # latents that the sampler remembers
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Written:
    """A file that a run writes, and the bytes that must be free for it."""

    path: Path
    nbytes: int


def free_space(path: Path) -> int | None:
    """Bytes that can be written at `path`; None where its file system does not tell.

    The folders of `path` need not be there.
    """
    folder = _folder_of(path)
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def is_full(error: BaseException) -> bool:
    """Say whether an error means that there is no room, or no quota, for a file."""
    return isinstance(error, OSError) and error.errno in FULL


def checkpoint_bytes(job: Job) -> int:
    """How large a checkpoint of a run is, at most."""
    latents = 1 + (UNIPC_MEMORY if isinstance(job.schedule, UniPC) else 0)
    return latents * math.prod(job.latent_shape) * FLOAT + CHECKPOINT_REST


def video_bytes(job: Job) -> int:
    """A safe guess at the size of a run's video."""
    return max(LEAST_VIDEO, int(job.width * job.height * job.frames * VIDEO_BYTES))


def tensors_bytes(job: Job) -> int:
    """How large the file of `save_tensors` will be, without the texts and the image's features."""
    schedule = job.schedule
    steps = len(schedule.timesteps) if isinstance(schedule, StepDistill) else schedule.steps
    latents = (steps + 2) * math.prod(job.latent_shape)
    return FLOAT * (latents + 3 * job.width * job.height * job.frames)


def written(job: Job) -> tuple[Written, ...]:
    """The files of a run and the room they take; a checkpoint is written beside the one before."""
    files = [Written(job.output, video_bytes(job))]
    if job.checkpoint is not None:
        files.append(Written(job.checkpoint, 2 * checkpoint_bytes(job)))
    if job.save_tensors is not None:
        files.append(Written(job.save_tensors, tensors_bytes(job)))
    return tuple(files)


def check_space(job: Job) -> None:
    """Make sure, before any compute, that everything a run writes will find room.

    Raises:
        EngineError: a file system has too little of it; with the figures.
    """
    for path, needed in _by_file_system(written(job)):
        free = free_space(path)
        if free is not None and free < needed:
            raise EngineError(
                "There is no room for the run's files",
                f"{_folder_of(path)}: they need {megabytes(needed)}, {megabytes(free)} are free",
                "Free some space there, or choose another output.",
            )


def lacking(path: Path, needed: int) -> str:
    """Say in a sentence that there is no room for `needed` bytes at `path`."""
    free = free_space(path)
    there = "" if free is None else f", {megabytes(free)} are free"
    return f"no room in {path.parent} for {path.name}: {megabytes(needed)} are needed{there}"


def megabytes(nbytes: int) -> str:
    """Bytes for people to read."""
    return f"{nbytes / 1e6:.1f} MB" if nbytes < 1e9 else f"{nbytes / 1e9:.1f} GB"


def _by_file_system(files: tuple[Written, ...]) -> Iterator[tuple[Path, int]]:
    """One of the files on each file system, and what all of them there need."""
    needed: dict[int, int] = {}
    paths: dict[int, Path] = {}
    for file in files:
        try:
            device = _folder_of(file.path).stat().st_dev
        except OSError:
            continue  # whoever writes the file says what is wrong with its place
        needed[device] = needed.get(device, 0) + file.nbytes
        paths.setdefault(device, file.path)
    for device, path in paths.items():
        yield path, needed[device]


def _folder_of(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    above = path.absolute().parents
    return next((folder for folder in above if os.path.isdir(folder)), Path("/"))  # noqa: PTH112
