"""The app's own engine: a run goes on in its folder, takes a lower plan, and lets devices go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models.vae import WanVae
from engine.spec.errors import EngineError
from engine.spec.events import CancelledByUser, Done, Event, Failed, StepDone
from engine.spec.ladder import Ask
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Options, Plan
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import device_lock, resume, session
from lightx2v_tui.runs import folder as runs
from lightx2v_tui.runs.device_lock import Device, DeviceBusy, DeviceLock
from lightx2v_tui.runs.folder import ask_cancel
from lightx2v_tui.runs.launcher import Launcher
from lightx2v_tui.runs.session import Session

PATIENCE = 60.0
torch.set_num_threads(1)


@pytest.fixture
def plan(demo_model: Path, tmp_path: Path) -> Plan:
    preset = Preset(model_path=demo_model, width=64, height=64, frames=5, seed=3)
    return jobs.plan(preset, Options(), tmp_path / "a.mp4")


class App:
    """A launcher, and the ends of its runs."""

    def __init__(self, answer: bool | None = None) -> None:
        self.ended = threading.Event()
        self.last: Event | None = None
        self.asked: list[Ask] = []
        self._answer = answer
        self.launcher = Launcher(self._end, None if answer is None else self._ask)

    def _end(self, event: Event) -> None:
        self.last = event
        self.ended.set()

    def _ask(self, ask: Ask) -> bool:
        self.asked.append(ask)
        return bool(self._answer)

    def wait(self) -> Event:
        assert self.ended.wait(PATIENCE)
        self.ended.clear()
        assert self.last is not None
        return self.last


@pytest.fixture
def app() -> Iterator[App]:
    made = App()
    yield made
    made.launcher.close(PATIENCE)


def status_of(folder: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return status


def cancelled_after(step: int, app: App, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was cancelled after a step."""
    take = runs.RunRecord.take

    def cancelling(record: runs.RunRecord, event: Event) -> None:
        take(record, event)
        if isinstance(event, StepDone) and event.step == step:
            app.launcher.cancel()

    with monkeypatch.context() as patched:
        patched.setattr(runs.RunRecord, "take", cancelling)
        run = app.launcher.want(plan, own_folder=False)
        assert isinstance(app.wait(), CancelledByUser)
    assert run is not None
    return run.folder.path


def test_a_cancelled_run_goes_on_in_the_same_app(
    app: App, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cancelled_after(2, app, plan, monkeypatch)
    checkpoint = folder / "checkpoint.safetensors"
    assert checkpoint.stat().st_mode & 0o777 == 0o600
    run = app.launcher.resume_run(resume.resumed(folder))
    assert run is not None
    assert isinstance(app.wait(), Done)
    assert run.folder.path == folder
    status = status_of(folder)
    assert (status["status"], status["step"], len(status["attempts"])) == ("done", 4, 2)
    assert not checkpoint.exists()
    going_on = (tmp_path / "a.mp4").read_bytes()
    assert app.launcher.want(plan, own_folder=False) is not None
    assert isinstance(app.wait(), Done)
    assert (tmp_path / "a.mp4").read_bytes() == going_on


def test_a_run_that_was_taken_up_elsewhere_is_refused_and_not_in_line(
    app: App, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cancelled_after(1, app, plan, monkeypatch)
    found = resume.resumed(folder)
    elsewhere = runs.RunRecord(found.folder, plan.preset, earlier=found.earlier)
    with pytest.raises(EngineError, match="is running"):
        app.launcher.resume_run(found)
    assert app.launcher.waiting == ()
    elsewhere.take(CancelledByUser())
    assert app.launcher.resume_run(found) is not None
    assert isinstance(app.wait(), Done)


def test_a_wish_to_cancel_reaches_the_app(
    app: App, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LOOK", 0.01)
    take = runs.RunRecord.take

    def pausing(record: runs.RunRecord, event: Event) -> None:
        take(record, event)
        if isinstance(event, StepDone):
            app.launcher.pause()  # a paused run is cancelled, too

    monkeypatch.setattr(runs.RunRecord, "take", pausing)
    run = app.launcher.want(plan, own_folder=True)
    assert run is not None
    ask_cancel(run.folder.path)
    assert isinstance(app.wait(), CancelledByUser)
    assert status_of(run.folder.path)["status"] == "cancelled"


# Memory that is not enough.


def lacking(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the VAE find too little RAM so many times."""
    failed: list[int] = []
    for name in ("decode", "decode_tiled"):
        monkeypatch.setattr(WanVae, name, _short(getattr(WanVae, name), failed, times))
    return failed


def _short(decode: Any, failed: list[int], times: int) -> Any:
    def short(*arguments: Any) -> Any:
        if len(failed) < times:
            failed.append(1)
            raise MemoryError
        return decode(*arguments)

    return short


def test_a_lower_plan_finishes_without_another_step(
    app: App, plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = lacking(monkeypatch, 1)
    run = app.launcher.want(plan, own_folder=False)
    assert run is not None
    assert isinstance(app.wait(), Done)
    assert failed == [1]
    status = status_of(run.folder.path)
    first, second = status["attempts"]
    assert "RAM was not enough" in first["failed"]
    assert (second["number"], second["lowered"], second["failed"]) == (2, True, None)
    assert any(note.startswith("attempt 2: RAM was not enough; now ") for note in status["notes"])
    assert "attempt 2" in run.folder.log.read_text()
    assert run.tracker.view.steps == ()  # the second attempt had none to make
    assert (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("answer", [None, False, True])
def test_the_tiny_vae_is_asked_for(
    answer: bool | None, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(answer)
    lacking(monkeypatch, 100)
    run = app.launcher.want(plan, own_folder=False)
    assert run is not None
    ending = app.wait()
    assert len(app.asked) == (answer is not None)
    assert isinstance(ending, Done if answer else Failed)
    status = status_of(run.folder.path)
    assert status["status"] == ("done" if answer else "failed")
    assert (run.folder.checkpoint.exists()) is not bool(answer)
    if answer:
        assert status["attempts"][-1]["tiny_vae"] is True
    app.launcher.close(PATIENCE)


def test_what_the_engine_cannot_explain_ends_the_run_and_lets_the_device_go(
    app: App, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    with monkeypatch.context() as patched:
        patched.setattr(session, "attempts", broken)
        run = app.launcher.want(plan, own_folder=False)
        assert run is not None
        ending = app.wait()
    assert isinstance(ending, Failed)
    assert status_of(run.folder.path)["status"] == "failed"
    assert app.launcher.want(plan, own_folder=False) is not None  # the folder and device are free
    assert isinstance(app.wait(), Done)


# The device.


@pytest.fixture
def as_gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The CPU, locked as a GPU is."""
    gpu = Device("GPU-1", "GPU 0")
    monkeypatch.setattr(device_lock, "device_of", lambda _: gpu)
    return gpu


def test_a_busy_device_leaves_no_folder_and_nothing_in_line(
    app: App, plan: Plan, as_gpu: Device
) -> None:
    other = DeviceLock(as_gpu)
    other.take("another")
    with pytest.raises(DeviceBusy, match="run another"):
        app.launcher.want(plan, own_folder=False)
    assert app.launcher.waiting == ()
    assert not runs.runs_dir().exists()
    other.release()
    assert app.launcher.want(plan, own_folder=False) is not None
    assert isinstance(app.wait(), Done)


def test_it_is_held_while_something_is_loaded_there(
    app: App, plan: Plan, as_gpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.warm import Engine

    other = DeviceLock(as_gpu)
    assert app.launcher.want(plan, own_folder=False) is not None
    app.wait()
    assert other.take("other") == ""  # what stays in RAM holds no device
    other.release()
    monkeypatch.setattr(Engine, "held", lambda _: (1, 0))
    assert app.launcher.want(plan, own_folder=False) is not None
    app.wait()
    with pytest.raises(DeviceBusy, match="stay loaded"):
        other.take("other")
    assert app.launcher.unload()
    assert other.take("other") == ""
    other.release()


def test_a_folder_that_cannot_be_made_lets_the_device_go(
    app: App, plan: Plan, as_gpu: Device
) -> None:
    runs.runs_dir().parent.mkdir(parents=True)
    runs.runs_dir().write_text("")
    with pytest.raises(EngineError, match="No run folder"):
        app.launcher.want(plan, own_folder=False)
    other = DeviceLock(as_gpu)
    assert other.take("other") == ""
    other.release()


def test_without_a_screen_nothing_stays(plan: Plan, as_gpu: Device) -> None:
    ended = threading.Event()

    def take(event: Event) -> None:
        if isinstance(event, Done | Failed):
            ended.set()

    made = Session(take, keep_loaded=False)
    folder = runs.new_run()
    made.start(plan.job, folder, runs.RunRecord(folder, plan.preset))
    assert ended.wait(PATIENCE)
    assert made.held() == session.Held(engine=True)
    other = DeviceLock(as_gpu)
    assert other.take("other") == ""
    other.release()
