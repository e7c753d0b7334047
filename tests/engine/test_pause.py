"""A paused run waits within a block, costs nothing, is not timed, and can be cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from engine.pipeline import run
from engine.spec.control import RunControl
from engine.spec.events import (
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    FrameDone,
    LoraApplied,
    StageStarted,
    StepDone,
)
from engine.spec.job import Job, Lora, Placing, Placings, Previews, Weights
from engine.spec.precision import Precision
from lightx2v_tui.launch import jobs
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import folder as runs
from lightx2v_tui.runs.session import Session
from tests.engine.support import leftovers, make_job, run_all

PATIENCE = 30.0  # seconds that a test waits before it fails
DEMO_LORA = Path("loras") / "demo_cfg_step_distill_lora_rank4.safetensors"


class Watched(RunControl):
    """Says when whoever looks at it begins to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def is_set(self) -> bool:
        if self.paused:
            self.waiting.set()
        return super().is_set()


class Running:
    """A run on a thread of its own that is paused at its first event of a kind."""

    def __init__(self, job: Job, moment: Callable[[Event], bool]) -> None:
        self.stop = Watched()
        self.events: list[Event] = []
        self.paused_at = 0
        self.thread = threading.Thread(target=self._work, args=(job, moment), daemon=True)
        self.thread.start()
        assert self.stop.waiting.wait(PATIENCE)

    def _work(self, job: Job, moment: Callable[[Event], bool]) -> None:
        for event in run(job, self.stop):
            self.events.append(event)
            if not self.paused_at and moment(event):
                self.paused_at = len(self.events)
                self.stop.pause()

    def end(self) -> Event:
        """Wait for the end; gives the last event."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.events[-1]


def is_stage(stage: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StageStarted) and event.stage == stage


def reads(component: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, BytesRead) and event.component == component


MOMENTS: dict[str, Callable[[Event], bool]] = {
    **{f"reading {name}": reads(name) for name in ("T5", "DiT", "LoRA", "VAE")},
    **{stage: is_stage(stage) for stage in ("encode_text", "denoise", "decode")},
    "a LoRA": lambda event: isinstance(event, LoraApplied),
    "a step": lambda event: isinstance(event, StepDone) and event.step == 2,
    "a frame": lambda event: isinstance(event, FrameDone) and event.frame == 3,
}


@pytest.fixture
def job(demo_model: Path, tmp_path: Path) -> Job:
    """A run through everything there is to wait in."""
    return make_job(
        demo_model, tmp_path / "out" / "a.mp4", precision=Precision.INT8, tiling=True,
        loras=(Lora(demo_model / DEMO_LORA), ), save_tensors=tmp_path / "kept.safetensors",
        preview=Previews.TINY_VAE,
        preview_vae=Weights((demo_model / "distill_models" / "taew2_1.pth",), Precision.BF16),
    )  # fmt: skip


def tensors(job: Job) -> dict[str, Tensor]:
    assert job.save_tensors is not None
    return load_file(job.save_tensors)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_paused_run_waits_soon_and_goes_on_as_if_nothing_was(moment: str, job: Job) -> None:
    assert isinstance(run_all(job)[-1], Done)
    expected = tensors(job)
    running = Running(job, MOMENTS[moment])
    count = len(running.events)
    assert count - running.paused_at <= 2  # what was on its way already
    assert not isinstance(running.events[-1], Done)
    running.stop.resume()
    assert isinstance(running.end(), Done)
    assert len(running.events) > count
    ours = tensors(job)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_paused_run_can_be_cancelled(moment: str, job: Job) -> None:
    running = Running(job, MOMENTS[moment])
    running.stop.set()
    assert isinstance(running.end(), CancelledByUser)
    assert not running.stop.paused
    assert leftovers(job.output.parent.parent) == []


@pytest.mark.parametrize("image", ["load_clip", "encode_image"])
@pytest.mark.golden
def test_encoding_an_image_waits(image: str, golden: Path, tmp_path: Path) -> None:
    root, picture = golden / "Tiny-I2V-LightX2V", golden / "first_frame.png"
    preset = Preset(model_path=root, image=picture, width=64, height=64, frames=5)
    job = jobs.plan(preset, jobs.Options(), tmp_path / "a.mp4").job
    running = Running(job, is_stage(image))
    assert running.stop.paused
    running.stop.set()
    assert isinstance(running.end(), CancelledByUser)


@pytest.mark.parametrize("stage", ["encode_text", "denoise", "decode"])
def test_no_layer_computes_while_the_run_is_paused(
    stage: str, demo_model: Path, tmp_path: Path
) -> None:
    """The pause is asked for inside a network; only the layer under way ends."""
    stop, armed, computed = Watched(), threading.Event(), []

    def hook(layer: nn.Module, _inputs: object, _output: object) -> None:
        if armed.is_set() and not list(layer.children()):
            computed.append(layer)
            if len(computed) == 1:
                stop.pause()

    def work() -> None:
        for event in run(make_job(demo_model, tmp_path / "a.mp4", tiny=True), stop):
            events.append(event)
            if is_stage(stage)(event):
                armed.set()

    events: list[Event] = []
    handle = register_module_forward_hook(hook)
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert stop.waiting.wait(PATIENCE)
        assert len(computed) == 1
        assert stop.paused
        stop.resume()
        thread.join(PATIENCE)
    finally:
        handle.remove()
    assert isinstance(events[-1], Done)
    assert len(computed) > 1


@pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="no clock of another thread here"
)
def test_a_paused_run_takes_no_time_of_the_processor(job: Job) -> None:
    running = Running(job, MOMENTS["a step"])
    assert running.thread.ident is not None
    clock = time.pthread_getcpuclockid(running.thread.ident)
    began = time.clock_gettime(clock)
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    used = time.clock_gettime(clock) - began
    running.stop.set()
    running.end()
    assert used < 0.02


@pytest.fixture
def leap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Make the time of all clocks of work leap."""
    real, ahead = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + ahead[0])

    def forward(seconds: float) -> None:
        ahead[0] += seconds

    return forward


def test_steps_and_the_whole_are_timed_without_the_pause(
    job: Job, leap: Callable[[float], None]
) -> None:
    running = Running(job, MOMENTS["a step"])
    leap(5000.0)
    running.stop.resume()
    last = running.end()
    assert isinstance(last, Done)
    assert running.stop.paused_seconds > 4999
    assert 0 < last.seconds < 1000
    steps = [event.seconds for event in running.events if isinstance(event, StepDone)]
    assert len(steps) == 4
    assert all(0 < seconds < 1000 for seconds in steps)


def test_a_pause_after_the_end_was_asked_for_holds_nothing_up() -> None:
    stop = RunControl()
    stop.set()
    stop.pause()
    assert not stop.paused
    assert stop.is_set()


def test_a_pause_that_is_taken_back_at_once_costs_nothing() -> None:
    stop = RunControl()
    stop.pause()
    assert stop.paused
    stop.resume()
    assert not stop.is_set()
    assert stop.paused_seconds == 0


@pytest.mark.parametrize("ending", ["retry", "resume", "set"])
def test_a_nap_is_ended_by_whoever_wants_something(ending: str) -> None:
    stop = RunControl()
    thread = threading.Thread(target=lambda: told.append(stop.nap(1e6)), daemon=True)
    told: list[bool] = []
    thread.start()
    getattr(stop, ending)()
    thread.join(PATIENCE)
    assert told == [True]
    assert stop.paused_seconds > 0
    assert stop.is_set() is (ending == "set")
    assert stop.nap(0.0) is False  # it is asked for once


# Through the session.


class Following:
    """A session's run that is paused at its second step."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.ended, self.step = threading.Event(), threading.Event()
        self.events: list[Event] = []
        self.session = Session(self._take)
        preset = Preset(model_path=root, width=64, height=64, frames=5)
        plan = jobs.plan(preset, jobs.Options(), folder / "a.mp4")
        job = replace(plan.job, placings=Placings(*[Placing.DROP] * 4))
        run_folder = runs.new_run()
        self.session.start(job, run_folder, runs.RunRecord(run_folder, plan.preset))
        assert self.step.wait(PATIENCE)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            self.session.pause()
            self.step.set()


def test_a_session_says_that_its_run_is_paused(demo_model: Path, tmp_path: Path) -> None:
    following = Following(demo_model, tmp_path)
    session = following.session
    assert session.paused
    assert session.busy
    assert not session.unload()
    session.resume()
    assert not session.paused
    assert session.wait(PATIENCE)
    assert isinstance(following.events[-1], Done)
    session.pause()  # there is nothing to pause any more
    assert not session.paused


def test_leaving_does_not_wait_for_a_paused_run(demo_model: Path, tmp_path: Path) -> None:
    following = Following(demo_model, tmp_path)
    following.session.cancel()
    assert following.session.wait(PATIENCE)
    assert isinstance(following.events[-1], CancelledByUser)
    assert not following.session.paused
    assert not (tmp_path / "a.mp4").exists()
