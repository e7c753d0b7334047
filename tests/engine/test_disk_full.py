"""A full disk: told before the run, waited for during it, and nothing computed is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine import durable
from engine.pipeline import Engine, run
from engine.spec import space
from engine.spec.control import RunControl
from engine.spec.errors import DiskFull
from engine.spec.events import (
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    Noted,
    Resumed,
    StageStarted,
    StepDone,
    Waiting,
)
from engine.spec.job import Job, UniPC
from tests.engine.support import leftovers, make_job, run_all

PATIENCE = 60.0
MIB = 1 << 20


class Helped(RunControl):
    """Somebody does something each time the run waits, instead of time that passes."""

    def __init__(self, *helps: Callable[[], object]) -> None:
        super().__init__()
        self.helps, self.naps = list(helps), 0

    def nap(self, seconds: float) -> bool:
        assert seconds <= 1
        self.naps += 1
        assert self.naps < 1000
        if self.helps:
            self.helps.pop(0)()
        return False


class Disk:
    """A file system that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, but: int = 0) -> None:
        """Leave only so many bytes free."""
        free = space.free_space(self.folder / "x")
        assert free is not None
        with (self.folder / ".fill").open("ab") as file:
            file.write(b"x" * (free - but))

    def free(self) -> None:
        (self.folder / ".fill").unlink()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.name != ".fill")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """One of 24 MiB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def is_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StepDone) and event.step == step


def is_stage(stage: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StageStarted) and event.stage == stage


def is_frame(frame: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, FrameDone) and event.frame == frame


def follow(
    job: Job, stop: RunControl, moment: Callable[[Event], bool], act: Callable[[], object]
) -> list[Event]:
    """Run to the end and act once, at an event."""
    events: list[Event] = []
    acted = False
    for event in run(job, stop, Engine()):
        events.append(event)
        if not acted and moment(event):
            acted = True
            act()
    assert acted
    return events


def told(events: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def undisturbed(job: Job, folder: Path) -> bytes:
    """The video of a run that nothing happens to."""
    job = replace(job, output=folder / "undisturbed.mp4", checkpoint=None, save_tensors=None)
    assert isinstance(run_all(job)[-1], Done)
    return job.output.read_bytes()


@pytest.mark.parametrize("step", [1, 3])
def test_a_checkpoint_that_finds_no_room_is_waited_for(
    step: int, demo_model: Path, disk: Disk, tmp_path: Path
) -> None:
    path = disk.folder / "run" / "c.safetensors"
    path.parent.mkdir()
    job = make_job(demo_model, tmp_path / "out" / "a.mp4", tiny=True, schedule=UniPC(4),
                   checkpoint=path)  # fmt: skip
    seen: list[list[str]] = []
    stop = Helped(lambda: seen.append(disk.files()), disk.free)
    events = follow(job, stop, is_step(step), disk.fill)
    assert isinstance(events[-1], Done)
    (waiting,) = told(events, Waiting)
    assert isinstance(waiting, Waiting)
    assert str(path.parent) in waiting.reason
    assert "0.0 MB are free" in waiting.reason
    assert seen == [["c.safetensors", "run"]]  # the one before, and no half one
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    assert events.index(waiting) < next(i for i, e in enumerate(events) if is_step(step + 1)(e))
    assert job.output.read_bytes() == undisturbed(job, tmp_path)
    assert not told(events, Noted)


MOMENTS = {"decode": is_stage("decode"), "frame 2": is_frame(2), "frame 5": is_frame(5)}


@pytest.mark.parametrize("but", [0, 4096])
@pytest.mark.parametrize("moment", ["decode", "frame 2", "frame 5"])
@pytest.mark.parametrize("tiny", [True, False], ids=["tiny", "full"])
def test_a_video_that_finds_no_room_is_decoded_anew(
    tiny: bool, moment: str, but: int, demo_model: Path, disk: Disk,
    tmp_path: Path,
) -> None:  # fmt: skip
    job = make_job(demo_model, disk.folder / "out" / "a.mp4", tiny=tiny, width=96, height=96)
    video = undisturbed(job, tmp_path)
    assert len(video) > but
    seen: list[list[str]] = []
    stop = Helped(lambda: seen.append(disk.files()), disk.free)
    events = follow(job, stop, MOMENTS[moment], lambda: disk.fill(but))
    assert isinstance(events[-1], Done)
    if told(events, Waiting):  # what was written before the disk was full may have been enough
        assert seen == [["out"]]  # nothing half is left while it waits
        assert len(told(events, Waiting)) == 1
        frames = [event.frame for event in events if isinstance(event, FrameDone)]
        assert frames[-5:] == [1, 2, 3, 4, 5]
        assert len([event for event in events if is_stage("decode")(event)]) == 2
    else:
        assert moment != "decode"
    assert job.output.read_bytes() == video
    assert [name for name in disk.files() if name != "out"] == ["a.mp4"]


def test_without_room_for_the_video_no_frame_is_decoded(
    demo_model: Path, disk: Disk, tmp_path: Path
) -> None:
    """On real sizes a video takes minutes to decode."""
    job = make_job(demo_model, disk.folder / "a.mp4", tiny=True, width=96, height=96)
    video = undisturbed(job, tmp_path)
    events = follow(job, Helped(disk.free), is_stage("load_vae"), lambda: disk.fill(0))
    kinds = [type(event) for event in events]
    assert kinds.count(Waiting) == 1
    assert kinds.index(Waiting) < kinds.index(FrameDone)
    assert len(told(events, FrameDone)) == 5
    assert job.output.read_bytes() == video


def test_a_video_waits_wherever_it_is_short_of_room(
    demo_model: Path, disk: Disk, tmp_path: Path
) -> None:
    job = make_job(demo_model, disk.folder / "a.mp4", tiny=True, width=96, height=96)
    video = undisturbed(job, tmp_path)
    pages = -(-len(video) // 4096)
    assert pages > 1
    for page in range(pages):
        events = follow(
            job, Helped(disk.free), is_stage("decode"), lambda page=page: disk.fill(4096 * page)
        )
        assert len(told(events, Waiting)) == 1, page
        assert job.output.read_bytes() == video
        job.output.unlink()


def test_saved_tensors_that_find_no_room_are_waited_for(
    demo_model: Path, disk: Disk, tmp_path: Path
) -> None:
    path = disk.folder / "kept.safetensors"
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True, save_tensors=path)
    events = follow(job, Helped(disk.free), is_frame(5), disk.fill)
    assert isinstance(events[-1], Done)
    assert len(told(events, Waiting)) == 1
    assert load_file(path)["frames"].shape == (3, 5, 64, 64)
    assert disk.files() == [path.name]


@pytest.mark.parametrize("where", ["checkpoint", "video"])
def test_a_run_that_waits_can_be_cancelled_and_gone_on_with(
    where: str, demo_model: Path, disk: Disk, tmp_path: Path
) -> None:
    path = disk.folder / "c.safetensors" if where == "checkpoint" else tmp_path / "c.safetensors"
    output = disk.folder / "a.mp4" if where == "video" else tmp_path / "a.mp4"
    job = make_job(demo_model, output, tiny=True, checkpoint=path)
    video = undisturbed(job, tmp_path)
    stop = Helped()
    stop.helps.append(stop.set)
    moment = is_step(2) if where == "checkpoint" else is_stage("decode")
    events = follow(job, stop, moment, disk.fill)
    assert isinstance(events[-1], CancelledByUser)
    assert not output.exists()
    assert not [name for name in leftovers(tmp_path) if "undisturbed" not in name
                and ".fill" not in name]  # fmt: skip
    disk.free()
    events = run_all(job)
    assert told(events, Resumed) == [Resumed(2 if where == "checkpoint" else 4, 4)]
    assert output.read_bytes() == video


def test_whoever_made_room_can_say_so(
    demo_model: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run looks so seldom here that only `retry` lets it end."""
    monkeypatch.setattr(durable, "LOOK", 1e6)
    job = make_job(demo_model, disk.folder / "a.mp4", tiny=True)
    stop, waits, events = RunControl(), threading.Event(), []

    def work() -> None:
        for event in run(job, stop, Engine()):
            events.append(event)
            if is_stage("decode")(event) and not waits.is_set():
                disk.fill()
            if isinstance(event, Waiting):
                waits.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert waits.wait(PATIENCE)
    disk.free()
    stop.retry()
    thread.join(PATIENCE)
    assert isinstance(events[-1], Done)
    assert stop.paused_seconds > 0


class Quota:
    """A disk that says it has room and gives none, a few times."""

    def __init__(self, times: int, number: int = errno.EDQUOT) -> None:
        self.times, self.number = times, number

    def fsync(self, _handle: int) -> None:
        if self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))


def test_a_quota_is_asked_more_and_more_seldom(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True)
    monkeypatch.setattr(os, "fsync", Quota(4).fsync)
    stop = Helped()
    events = list(run(job, stop))
    assert isinstance(events[-1], Done)
    assert len(told(events, Waiting)) == 4
    assert stop.naps == 1 + 2 + 4 + 8


def test_room_that_comes_ends_the_waiting_however_often_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [100]
    monkeypatch.setattr(space, "free_space", lambda _path: free[0])
    path, tries = tmp_path / "a.mp4", 0
    stop = Helped(*[lambda: None] * 31, lambda: free.append(free.pop() - 60),
                  lambda: None, lambda: free.append(free.pop() + 60))  # fmt: skip

    def attempt() -> Iterator[Event]:
        nonlocal tries
        tries += 1
        if tries < 7:  # it is said to have room, and has none
            raise DiskFull("no room", space.lacking(path, 50))
        yield Done(path, 0.0)

    events = list(durable.patiently(stop, path, 50, attempt))
    assert isinstance(events[-1], Done)
    assert stop.naps == 1 + 2 + 4 + 8 + 16 + 3


# What is told before anything is computed.


def test_too_little_room_is_told_with_figures_before_anything_is_read(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_space", lambda _path: 15_900_000)
    job = make_job(demo_model, tmp_path / "a.mp4")
    (failed,) = run_all(job)
    assert isinstance(failed, Failed)
    assert "16.0 MB" in failed.error.why
    assert "15.9 MB are free" in failed.error.why
    assert str(tmp_path) in failed.error.why
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_told_before_anything_is_read(
    demo_model: Path, disk: Disk, tmp_path: Path
) -> None:
    disk.fill(15 * MIB)
    output = make_job(demo_model, disk.folder / "a.mp4")
    checkpoint = make_job(demo_model, tmp_path / "a.mp4", checkpoint=disk.folder / "c.safetensors")
    assert "no room" in str(run_all(output)[-1].error)  # type: ignore[union-attr]
    assert isinstance(run_all(checkpoint)[-1], Done)
    (disk.folder / "c.safetensors").unlink()
    disk.fill(4096)
    assert "no room" in str(run_all(checkpoint)[-1].error)  # type: ignore[union-attr]
