"""The record of a run: what stands in it, when it is written, who may write it, what is removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.spec.control import RunControl
from engine.spec.errors import EngineError
from engine.spec.events import (
    Attempt,
    BytesRead,
    CancelledByUser,
    Done,
    Failed,
    FrameDone,
    MemoryUsed,
    Noted,
    Resumed,
    StageStarted,
    StepDone,
    Waiting,
)
from engine.spec.job import Job, Lora, Placing, Placings
from lightx2v_tui import presets, store
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Options
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import folder as runs
from lightx2v_tui.runs import leftovers
from lightx2v_tui.runs.folder import RunFolder, RunRecord, ask_cancel, heeding, new_run

KEYS = {"schema", "status", "stage", "step", "steps", "done", "total", "seconds_per_step", "output",
        "pid", "pid_started", "host", "started", "since", "seconds", "error", "notes", "options",
        "attempts", "began", "waiting"}  # fmt: skip


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder() -> RunFolder:
    return new_run()


def status_of(folder: RunFolder) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(folder.status.read_text())
    return status


def record_in(folder: RunFolder, clock: Clock, **values: Any) -> RunRecord:
    return RunRecord(folder, Preset(output=folder.output, **values), clock=clock)


def test_a_record_has_every_field_from_the_start(folder: RunFolder, clock: Clock) -> None:
    record = record_in(folder, clock)
    status = status_of(folder)
    assert set(status) == KEYS
    assert (status["schema"], status["status"], status["pid"]) == (2, "running", os.getpid())
    assert status["pid_started"] > 1e9
    record.take(CancelledByUser())


def test_everything_is_the_users_alone(folder: RunFolder, clock: Clock) -> None:
    record = record_in(folder, clock)
    folder.write_log("a line")
    ask_cancel(folder.path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for path in folder.path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    folder.output.write_bytes(b"video")
    record.take(Done(folder.output, 1.0))
    assert folder.output.stat().st_mode & 0o777 == 0o600


def test_counts_are_written_twice_a_second_steps_and_stages_always(
    folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_in(folder, clock)
    written: list[float] = []
    write = store.write_json

    def counted(path: Path, value: object) -> None:
        written.append(clock.now)
        write(path, value)

    monkeypatch.setattr(store, "write_json", counted)
    record.take(StageStarted("load_dit", 100))
    for number in range(1000):  # ten seconds
        clock.now += 0.01
        record.take(BytesRead("dit", "a", number, 1000))
        record.take(MemoryUsed(number, 0, 0))
    assert 15 <= len(written) <= 21
    del written[:]
    for number in range(1, 6):  # at one moment
        record.take(StepDone(number, 5, 0.5))
        assert status_of(folder)["step"] == number
    record.take(StageStarted("decode", 81))
    assert len(written) == 6
    record.take(FrameDone(80, 81))
    assert status_of(folder)["done"] == 0
    clock.now -= 3600  # somebody set the clock back
    record.take(FrameDone(81, 81))
    assert status_of(folder)["done"] == 81


def test_the_first_step_does_not_count_for_the_mean(folder: RunFolder, clock: Clock) -> None:
    record = record_in(folder, clock)
    record.take(StepDone(1, 3, 9.0))
    assert status_of(folder)["seconds_per_step"] == 9.0
    record.take(StepDone(2, 3, 1.0))
    record.take(StepDone(3, 3, 2.0))
    assert status_of(folder)["seconds_per_step"] == 1.5


def test_what_is_told_stands_in_notes_and_log(folder: RunFolder, clock: Clock) -> None:
    record = record_in(folder, clock)
    told = [Noted("the checkpoint is cut"), Resumed(2, 4), Waiting("no room"), Attempt(2, "tiles")]
    for event in told:
        record.take(event)
    record.note("by hand")
    status = status_of(folder)
    assert status["notes"] == ["the checkpoint is cut", "Going on behind step 2 of 4",
                               "waiting: no room", "attempt 2: tiles", "by hand"]  # fmt: skip
    assert (status["step"], status["steps"]) == (2, 4)
    assert all(note in folder.log.read_text() for note in status["notes"])
    for number in range(200):
        record.note(str(number))
    assert len(status_of(folder)["notes"]) == runs.MAX_NOTES


@pytest.mark.parametrize(
    ("event", "interrupted", "expected"),
    [(CancelledByUser(), False, "cancelled"), (CancelledByUser(), True, "interrupted"),
     (Failed(EngineError("a", "b", "c")), True, "failed"), (Done(Path("x"), 1.0), True, "done")],
)  # fmt: skip
def test_how_it_ended(
    event: Any, interrupted: bool, expected: str, folder: RunFolder, clock: Clock
) -> None:
    record = record_in(folder, clock)
    if interrupted:
        record.interrupting()
    clock.now += 7
    record.take(event)
    status = status_of(folder)
    assert (status["status"], status["seconds"]) == (expected, 7.0)


def test_stopping_without_asking_is_recorded(folder: RunFolder, clock: Clock) -> None:
    record = record_in(folder, clock)
    record.stop_now()
    assert status_of(folder)["status"] == "cancelled"


@pytest.mark.parametrize("ending", ["done", "cancelled"])
def test_a_checkpoint_goes_once_the_video_is_there(
    ending: str, folder: RunFolder, clock: Clock
) -> None:
    record = record_in(folder, clock)
    half = folder.path / f".{folder.checkpoint.name}.partial"
    for path in (folder.checkpoint, half, folder.output):
        path.write_bytes(b"x")
    folder.cancel.touch()
    record.take(Done(folder.output, 1.0) if ending == "done" else CancelledByUser())
    assert folder.checkpoint.exists() is (ending != "done")
    assert half.exists() is (ending != "done")
    assert folder.output.exists()
    assert not folder.cancel.exists()


def test_one_owner_at_a_time(folder: RunFolder, clock: Clock) -> None:
    record = record_in(folder, clock)
    with pytest.raises(EngineError, match="is running"):
        record_in(folder, clock)
    record.take(CancelledByUser())
    again = RunRecord(folder, Preset(), earlier=status_of(folder), clock=clock)
    again.take(CancelledByUser())


def test_a_run_of_another_process_is_not_taken_up(folder: RunFolder, clock: Clock) -> None:
    code = (
        "import sys; from pathlib import Path; from lightx2v_tui.presets import Preset;"
        "from lightx2v_tui.runs.folder import RunFolder, RunRecord;"
        "kept = RunRecord(RunFolder(Path(sys.argv[1])), Preset()); print('kept', flush=True);"
        "input()"
    )
    arguments = [sys.executable, "-c", code, str(folder.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"kept\n"
        before = folder.status.read_bytes()
        with pytest.raises(EngineError, match="is running"):
            record_in(folder, clock)
        assert folder.status.read_bytes() == before
        process.kill()
    record_in(folder, clock).take(CancelledByUser())


def test_going_on_keeps_what_was_and_counts_on(folder: RunFolder, clock: Clock, job: Job) -> None:
    record = record_in(folder, clock)
    record.begin(job)
    record.begin(job, "the VAE in tiles", lowered=True)
    record.take(StepDone(2, 4, 1.0))
    record.note("first")
    clock.now += 60
    record.take(CancelledByUser())
    folder.cancel.touch()  # too late for that process
    clock.now += 86_400
    again = RunRecord(folder, Preset(output=folder.output), earlier=status_of(folder), clock=clock)
    again.begin(job)
    clock.now += 5
    again.take(Done(folder.output, 1.0))
    status = status_of(folder)
    assert (status["started"], status["seconds"], status["step"]) == (1000.0, 65.0, 2)
    assert status["since"] == 1000.0 + 86_400
    assert status["notes"] == ["first"]
    assert [attempt["number"] for attempt in status["attempts"]] == [1, 2, 3]
    assert [attempt["lowered"] for attempt in status["attempts"]] == [False, True, True]


@pytest.mark.parametrize("wrong", [None, 5, "x", {}, [1], True])
def test_going_on_from_a_record_that_somebody_wrote_into(
    wrong: object, folder: RunFolder, clock: Clock, job: Job
) -> None:
    names = ("notes", "attempts", "seconds", "started", "step", "options")
    earlier = dict.fromkeys(names, wrong)
    record = RunRecord(folder, Preset(), earlier=earlier, clock=clock)
    record.begin(job)
    record.note("x")
    record.gave_up(EngineError("x"))
    record.take(Done(Path("x"), 1.0))
    assert status_of(folder)["status"] == "done"


def test_how_it_is_computed_is_recorded(folder: RunFolder, clock: Clock, job: Job) -> None:
    record = record_in(folder, clock)
    record.begin(job)
    record.gave_up(EngineError("too little", "of it"))
    placings = Placings(t5=Placing.DROP)
    record.begin(replace(job, placings=placings, tiling=True), "lower", lowered=True)
    status = status_of(folder)
    assert status["options"] == {"device": "cpu", "compute_dtype": "bfloat16",
                                 "quant_compute": "auto", "preview": "off",
                                 "save_tensors": None}  # fmt: skip
    first, second = status["attempts"]
    assert (first["what"], first["failed"], first["tiling"]) == ("as planned", "too little\nof it",
                                                                 False)  # fmt: skip
    assert second["placings"] == {"dit": "resident", "t5": "drop", "clip": "resident",
                                  "vae": "resident"}  # fmt: skip
    assert (second["lowered"], second["tiling"], second["failed"]) == (True, True, None)


@pytest.fixture
def job(demo_model: Path, tmp_path: Path) -> Job:
    preset = Preset(model_path=demo_model, width=64, height=64, frames=5)
    return jobs.plan(preset, Options(), tmp_path / "a.mp4").job


def test_a_preset_is_written_for_every_folder(folder: RunFolder, clock: Clock) -> None:
    loras = (Lora(Path("loras/a.safetensors"), 0.5),)
    record_in(folder, clock, model_path=Path("models/Wan"), dit=Path("x.safetensors"), loras=loras)
    preset = presets.read(folder.preset)
    assert (preset.model_path, preset.dit) == (
        Path.cwd() / "models/Wan",
        Path.cwd() / "x.safetensors",
    )
    assert preset.loras == (Lora(Path.cwd() / "loras/a.safetensors", 0.5),)


def test_a_folder_that_cannot_be_written_is_an_error_in_words(
    folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_json", full)
    with pytest.raises(EngineError, match="No space left"):
        record_in(folder, clock)


def test_a_full_disk_does_not_end_a_run(
    folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_in(folder, clock)
    folder.checkpoint.write_bytes(b"x" * 1000)
    write = store.write_json

    def full(path: Path, value: object) -> None:
        if folder.checkpoint.exists():
            raise OSError(28, "No space left on device")
        write(path, value)

    monkeypatch.setattr(store, "write_json", full)
    record.take(StepDone(1, 4, 1.0))
    assert status_of(folder)["step"] == 0
    record.take(Done(folder.output, 1.0))
    assert status_of(folder)["status"] == "done"  # the checkpoint made room


def test_a_wish_to_cancel_is_heeded(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LOOK", 0.01)
    stop = RunControl()
    with heeding(folder, stop):
        assert not stop.wait(0.05)
        ask_cancel(folder.path)
        ask_cancel(folder.path)  # twice is once
        assert stop.wait(10)


def test_nobody_looks_after_the_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LOOK", 0.01)
    before = set(threading.enumerate())
    stop = RunControl()
    with heeding(folder, stop):
        (watcher,) = set(threading.enumerate()) - before
    watcher.join(10)
    assert not watcher.is_alive()
    ask_cancel(folder.path)
    assert not stop.is_set()


def test_a_wish_follows_no_link(folder: RunFolder, tmp_path: Path) -> None:
    folder.cancel.symlink_to(tmp_path / "victim")
    with pytest.raises(EngineError, match="could not be asked"):
        ask_cancel(folder.path)
    assert not (tmp_path / "victim").exists()


# What is left of runs that nobody went on with.


def left(name: str, days: float, status: object = None, nbytes: int = 10) -> RunFolder:
    """A run folder with a checkpoint that is some days old at the time 10 000 000."""
    folder = RunFolder(runs_dir() / name)
    folder.path.mkdir(parents=True)
    folder.checkpoint.write_bytes(b"x" * nbytes)
    folder.output.write_bytes(b"video")
    when = 10_000_000 - days * 86_400
    os.utime(folder.checkpoint, (when, when))
    if status is not None:
        folder.status.write_text(json.dumps(status))
    return folder


def test_old_checkpoints_go_and_results_stay() -> None:
    old, new = left("old", 31, {"status": "cancelled"}), left("new", 29, {"status": "failed"})
    leftovers.clear(now=10_000_000)
    assert (old.checkpoint.exists(), new.checkpoint.exists()) == (False, True)
    assert old.output.exists()
    assert old.status.exists()


def test_the_newest_are_kept_where_they_are_too_many() -> None:
    folders = [left(str(days), days, {"status": "cancelled"}) for days in range(5)]
    leftovers.clear(now=10_000_000, most=25)
    assert [folder.checkpoint.exists() for folder in folders] == [True, True, False, False, False]


def test_a_run_under_way_keeps_its_checkpoint(clock: Clock) -> None:
    folder = left("a", 40)
    record = record_in(folder, clock)
    other = left("b", 40)
    other.status.write_text("{")  # nobody can say
    leftovers.clear(now=10_000_000)
    assert folder.checkpoint.exists()
    assert other.checkpoint.exists()
    record.take(CancelledByUser())
    leftovers.clear(now=10_000_000)
    assert not folder.checkpoint.exists()


def test_clearing_where_there_is_nothing() -> None:
    leftovers.clear()
    assert not runs_dir().exists()
