"""A disk that fills up under a whole process: it waits, says so, and loses nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightx2v_tui.runs.history import past_runs
from tests.engine.test_disk_full import Disk, disk
from tests.processes import PATIENCE, ForkServer, Process, frames_of, own_home

__all__ = ["disk"]
SET = ("target_width=64", "target_height=64", "target_video_length=5", "use_tiny_vae=true",
       "lightx2v_tui.sampler=unipc", "infer_steps=12")  # fmt: skip
#: Where the run is when the disk fills up, and what is written next.
STEP, DECODE = '"step": 2', "load_vae"
Start = Callable[..., Process]


@pytest.fixture(scope="module")
def arguments(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What to run; its video goes into the folder of the run."""
    preset = tmp_path_factory.mktemp("preset") / "preset.json"
    preset.write_text(json.dumps({"model_path": str(demo_model)}))
    values = [text for value in SET for text in ("--set", value)]
    return ["run", str(preset), *values, "--device", "cpu", "--progress", "json"]


@pytest.fixture(scope="module")
def undisturbed(
    server: ForkServer, arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The frames of a run that finds room."""
    home = tmp_path_factory.mktemp("undisturbed")
    with own_home(home):
        process = Process(server, [*arguments, "--output", "a.mp4"], home)
        assert process.end() == 0, process.stderr
    return frames_of(home / "a.mp4")


@pytest.fixture
def start(server: ForkServer, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a process whose run folders, with all they hold, are on the small disk."""
    monkeypatch.setenv("XDG_DATA_HOME", str(disk.folder / "data"))

    def begin(*argv: str) -> Process:
        return Process(server, list(argv), tmp_path)

    return begin


def filled(process: Process, disk: Disk, moment: str, but: int = 0) -> None:
    """Fill the disk at a moment, while the process stands still; then wait until it waits."""
    assert process.read(PATIENCE, moment)
    process.send(signal.SIGSTOP)
    disk.fill(but)
    process.send(signal.SIGCONT)
    assert process.read(PATIENCE, '"waiting"')


def only_run(status: str) -> Path:
    """The folder of the only run, whose record is whole and says this."""
    (run,) = past_runs()
    assert (run.status, run.problem) == (status, "")
    return run.folder


def waits(process: Process) -> list[dict[str, Any]]:
    return [event for event in process.events if event["event"] == "waiting"]


def expect_video(folder: Path, undisturbed: str) -> None:
    """Expect the video with its frames, the records, and nothing half written."""
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    assert {path.name for path in folder.iterdir()} == {
        "preset.json", "status.json", "log.txt", "output.mp4"
    }  # fmt: skip
    assert frames_of(folder / "output.mp4") == undisturbed


@pytest.mark.parametrize(("moment", "but"), [(STEP, 0), (DECODE, 4096)])
def test_it_waits_for_room_and_goes_on(
    moment: str, but: int, undisturbed: str, start: Start, arguments: list[str], disk: Disk
) -> None:
    process = start(*arguments)
    filled(process, disk, moment, but)
    folder = only_run("running")
    assert str(folder) in waits(process)[-1]["reason"]
    disk.free()
    assert process.end() == 0, process.stderr
    assert process.events[-1]["event"] == "done"
    assert process.steps == list(range(1, 13))
    assert process.stderr == ""
    expect_video(folder, undisturbed)


@pytest.mark.parametrize(
    ("moment", "number"),
    [(STEP, signal.SIGKILL), (STEP, signal.SIGTERM), (DECODE, signal.SIGKILL)],
)
def test_a_process_that_ends_while_it_waits_has_lost_nothing(
    moment: str, number: signal.Signals, undisturbed: str, start: Start, arguments: list[str],
    disk: Disk,
) -> None:  # fmt: skip
    process = start(*arguments)
    filled(process, disk, moment)
    process.send(number)
    assert process.end() == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert "Traceback" not in process.stderr
    folder = only_run("interrupted")
    assert (folder / "checkpoint.safetensors").exists()
    full = start("run", "--resume", folder.name, "--progress", "json")
    assert full.end() == 1  # it is told, and nothing is spoilt
    assert "Traceback" not in full.stderr
    disk.free()
    again = start("run", "--resume", folder.name, "--progress", "json")
    assert again.end() == 0, again.stderr
    assert process.steps + again.steps == list(range(1, 13)), (
        "a step that was told is not made anew"
    )
    expect_video(folder, undisturbed)


def test_a_disk_that_is_full_from_the_start(start: Start, arguments: list[str], disk: Disk) -> None:
    disk.fill()
    process = start(*arguments)
    assert process.end() == 1
    assert process.events == []
    _, why, fix = process.stderr.splitlines()
    assert "No space left on device" in why
    assert "Free some space" in fix
    assert not list((disk.folder / "data" / "lightx2v-tui" / "runs").iterdir())


def test_progress_into_a_file_on_a_full_disk_ends_no_run(
    server: ForkServer, arguments: list[str], disk: Disk, tmp_path: Path,
    undisturbed: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    disk.fill()
    out = os.open(disk.folder / "progress.jsonl", os.O_WRONLY | os.O_CREAT)
    try:
        video = str(tmp_path / "a.mp4")
        pid = server.fork([*arguments, "--output", video], tmp_path, out, out)
    finally:
        os.close(out)
    assert server.wait(pid) == 0
    assert frames_of(tmp_path / "a.mp4") == undisturbed
