"""Disks that refuse for other reasons than room, and kills while a video is written."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import av
import pytest

from engine.pipeline import run
from engine.spec.control import RunControl
from engine.spec.events import (
    TERMINAL,
    BytesRead,
    Done,
    Event,
    Failed,
    Noted,
    Resumed,
    Waiting,
)
from tests.engine.support import make_job, run_all
from tests.engine.test_disk_full import Quota, follow, is_step, told, undisturbed


def test_a_checkpoint_that_cannot_be_written_is_told_once(demo_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True,
                   checkpoint=tmp_path / "file" / "c.safetensors")  # fmt: skip
    events = run_all(job)
    assert isinstance(events[-1], Done)
    (note,) = told(events, Noted)
    assert isinstance(note, Noted)
    assert "Not a directory" in note.text


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES])
def test_an_error_of_the_disk_is_told_once_and_leaves_the_step_before(
    number: int, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True, checkpoint=path)
    video = undisturbed(job, tmp_path)
    quota = Quota(1, number)
    real = os.fsync
    events = follow(job, RunControl(), is_step(2),
                    lambda: monkeypatch.setattr(os, "fsync", quota.fsync))  # fmt: skip
    monkeypatch.setattr(os, "fsync", real)
    assert isinstance(events[-1], Done)
    (note,) = told(events, Noted)
    assert isinstance(note, Noted)
    assert os.strerror(number) in note.text
    assert job.output.read_bytes() == video
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [
        "a.mp4", "c.safetensors", "undisturbed.mp4",
    ]  # fmt: skip
    assert told(run_all(job), Resumed) == [Resumed(2, 4)]


def test_a_limit_on_the_size_of_files_is_told_once(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True, checkpoint=tmp_path / "c.st")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    events: list[Event] = []
    try:
        for event in run(job, RunControl()):
            events.append(event)
            if is_step(1)(event):
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
            elif isinstance(event, Noted):
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(events[-1], Done)
    (note,) = told(events, Noted)
    assert isinstance(note, Noted)
    assert "File too large" in note.text


@pytest.mark.parametrize("kept", [True, False])
def test_an_output_that_cannot_be_written_is_finished_once_mended(
    kept: bool, demo_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors" if kept else None
    job = make_job(demo_model, tmp_path / "out" / "a.mp4", tiny=True, checkpoint=path)
    video = undisturbed(job, tmp_path)
    events = follow(job, RunControl(), is_step(4), job.output.parent.rmdir)
    last = events[-1]
    assert isinstance(last, Failed)
    assert ("--resume" in last.error.fix) is kept
    assert not told(events, Waiting)
    events = run_all(job)
    assert isinstance(events[-1], Done)
    assert sum(isinstance(event, TERMINAL) for event in events) == 1
    assert job.output.read_bytes() == video
    read = {event.component for event in events if isinstance(event, BytesRead)}
    assert ("DiT" not in read) is kept


# A kill while the video is written.

KILLED = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import engine.durable as durable
from engine.video import VideoWriter
folder, moments = Path(sys.argv[1]), sys.argv[2:]
frames = torch.linspace(-1, 1, 3 * 8 * 64 * 64).view(3, 8, 64, 64)

def write(moment):
    def die(*_):
        os._exit(9)
    with VideoWriter(folder / moment / "a.mp4", 64, 64, 16, "") as writer:
        for number, _ in enumerate(writer.write(frames)):
            if moment == f"frame {number}":
                die()
        if moment == "fsync":
            os.fsync = die
        if moment == "rename":
            Path.replace = die
        if moment == "after":
            durable._flush_folder = die

for moment in moments:
    pid = os.fork()
    if not pid:
        write(moment)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9, moment
"""


def test_a_kill_while_the_video_is_written_leaves_no_broken_one(tmp_path: Path) -> None:
    moments = ["frame 0", "frame 5", "frame 7", "fsync", "rename", "after"]
    for moment in moments:
        (tmp_path / moment).mkdir()
        (tmp_path / moment / "a.mp4").write_bytes(b"an older video")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *moments], check=True, timeout=120,
                   env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    for moment in moments:
        path = tmp_path / moment / "a.mp4"
        if moment == "after":
            with av.open(str(path)) as container:
                assert len(list(container.decode(video=0))) == 8
        else:
            assert path.read_bytes() == b"an older video"
