"""Room on disks: what a run will write, and whether there is room for it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec import space
from engine.spec.errors import EngineError
from engine.spec.job import Euler, UniPC
from tests.unit.test_ladder import job_of


def test_sizes_of_a_published_run() -> None:
    job = job_of(width=1280, height=720, frames=81, schedule=UniPC(40))
    latents = 16 * 21 * 90 * 160 * 4
    assert space.checkpoint_bytes(job) == 4 * latents + (64 << 10)
    assert space.checkpoint_bytes(replace(job, schedule=Euler(40))) == latents + (64 << 10)
    assert space.video_bytes(job) == 16_000_000
    assert space.video_bytes(replace(job, width=1920, height=1088)) == 33_841_152


def test_files_on_one_file_system_need_room_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(output=tmp_path / "not" / "yet" / "a.mp4", checkpoint=tmp_path / "c.safetensors")
    needed = space.video_bytes(job) + 2 * space.checkpoint_bytes(job)
    monkeypatch.setattr(space, "free_space", lambda _: needed)
    space.check_space(job)
    monkeypatch.setattr(space, "free_space", lambda _: needed - 1)
    with pytest.raises(EngineError, match="no room") as caught:
        space.check_space(job)
    assert str(tmp_path) in caught.value.why
    space.check_space(replace(job, checkpoint=None))


def test_a_disk_that_does_not_tell_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statvfs(_: object) -> None:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert space.free_space(tmp_path / "a") is None
    space.check_space(job_of(output=tmp_path / "a.mp4"))
    assert space.lacking(tmp_path / "a.mp4", 5_000_000).endswith("5.0 MB are needed")


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = space.free_space(tmp_path / "a" / "b" / "c.mp4")
    assert free is not None
    assert abs(free - status.f_bavail * status.f_frsize) < 1 << 30


@pytest.mark.parametrize(
    ("number", "full"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EFBIG, False)],
)
def test_which_errors_mean_a_full_disk(number: int, full: bool) -> None:
    assert space.is_full(OSError(number, "")) is full
    assert not space.is_full(ValueError(number))
