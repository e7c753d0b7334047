"""Memory that is not enough, at every stage: told, let go, and the same engine goes on after it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.exhausted import exhausted
from engine.pipeline import Engine, run
from engine.spec.control import RunControl
from engine.spec.errors import CheckpointError, OutOfMemoryFailure
from engine.spec.events import (
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    Preview,
    Resumed,
    StageStarted,
    StepDone,
)
from engine.spec.job import Guidance, Job, Placing, Placings, Previews, Weights
from engine.spec.ladder import Ask, lower
from engine.spec.precision import Precision
from tests.engine.support import leftovers, make_job
from tests.engine.test_image_pipeline import planned, write_image, write_root
from tests.engine.test_warm import Watch

STAGES = ["load_t5", "encode_text", "load_clip", "encode_image", "load_dit", "denoise", "load_vae",
          "decode"]  # fmt: skip
CPU_WORDS = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 412316860416 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_WORDS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 1.25 GiB is free."
)
ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError(CUDA_WORDS),
    "allocator": lambda: RuntimeError(CPU_WORDS),
    "python": lambda: MemoryError(),
}


class Exhausted(TorchDispatchMode):
    """Every allocation of PyTorch fails once it is armed, for so many times, after a while."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.error, self.failing, self.after, self.hit = error, 0, 0, 0

    def arm(self, after: int = 0, times: int = 1) -> None:
        self.after, self.failing = after, times

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.failing:
            self.after -= 1
            if self.after < 0:
                self.failing -= 1
                self.hit += 1
                raise self.error()
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("i2v") / "Tiny-I2V-LightX2V"
    write_root(root)
    write_image(root / "first.png", 96, 64)
    return root


@pytest.fixture
def job(image_root: Path, tmp_path: Path) -> Job:
    """A run through all stages."""
    job = planned(image_root, image_root / "first.png", tmp_path).job
    return replace(job, save_tensors=None)


def is_stage(stage: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StageStarted) and event.stage == stage


def starved(
    job: Job, engine: Engine, moment: Callable[[Event], bool], error: str, after: int = 0,
    times: int = 1,
) -> list[Event]:  # fmt: skip
    """Run with too little memory from an event on."""
    events: list[Event] = []
    mode = Exhausted(ERRORS[error])
    with mode:
        for event in run(job, RunControl(), engine):
            events.append(event)
            if moment(event) and not mode.hit:
                mode.arm(after, times)
    assert mode.hit
    return events


def failure(events: list[Event]) -> OutOfMemoryFailure:
    last = events[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, OutOfMemoryFailure), last.error
    return last.error


def finish(job: Job, engine: Engine) -> list[Event]:
    events = list(run(job, RunControl(), engine))
    assert isinstance(events[-1], Done), events[-1]
    return events


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("stage", STAGES)
def test_it_is_told_by_stage_and_the_engine_goes_on(stage: str, error: str, job: Job) -> None:
    finish(job, Engine())
    video = job.output.read_bytes()
    job.output.unlink()
    engine = Engine()
    with Watch() as watch:
        found = failure(starved(job, engine, is_stage(stage), error, after=5))
    assert found.stage == stage
    assert found.device == ("cuda" if error == "cuda" else "ram")
    assert found.what
    assert found.why
    assert found.fix
    assert engine.held() == (0, 0)
    assert watch.alive() == []
    assert leftovers(job.output.parent) == []
    finish(job, engine)
    assert job.output.read_bytes() == video


def test_it_says_how_much_was_asked_for(job: Job) -> None:
    found = failure(starved(job, Engine(), is_stage("denoise"), "cuda"))
    assert found.why == "2.00 GiB more were asked for, 1.25 GiB were free"
    found = failure(starved(job, Engine(), is_stage("denoise"), "allocator"))
    assert "412.3 GB more were asked for" in found.why
    assert "were free" in found.why


def test_it_says_what_stood_beside(job: Job) -> None:
    found = failure(starved(job, Engine(), is_stage("denoise"), "python"))
    assert set(found.beside) == {"t5", "clip", "vae_encoder"}
    places = replace(job.placings, t5=Placing.DROP, clip=Placing.DROP)
    found = failure(starved(replace(job, placings=places), Engine(), is_stage("decode"), "python"))
    assert set(found.beside) == {"vae_encoder", "dit"}
    assert failure(starved(job, Engine(), is_stage("decode"), "cuda")).beside == ()  # on the CPU


def test_what_stayed_of_a_run_with_other_placings_leaves_first(job: Job) -> None:
    engine = Engine()
    finish(job, engine)
    dropping = replace(job, placings=Placings(*[Placing.DROP] * 4), prompt="A cat sleeps.")
    found = failure(starved(dropping, engine, is_stage("load_t5"), "python"))
    assert found.beside == ()


@pytest.mark.parametrize("stage", ["denoise", "decode"])
def test_with_a_checkpoint_no_step_is_lost(stage: str, job: Job, tmp_path: Path) -> None:
    finish(job, Engine())
    video = job.output.read_bytes()
    kept = replace(job, checkpoint=tmp_path / "c.safetensors")
    moments = {"denoise": lambda event: isinstance(event, StepDone), "decode": is_stage("decode")}
    found = failure(starved(kept, Engine(), moments[stage], "python"))
    assert found.stage == stage
    lowered = lower(kept, found)
    assert isinstance(lowered, Job)
    assert lowered.placings != kept.placings
    events = finish(lowered, Engine())
    resumed = [event for event in events if isinstance(event, Resumed)]
    assert resumed == [Resumed(1 if stage == "denoise" else 2, 2)]
    assert job.output.read_bytes() == video


def test_plans_become_lower_until_the_user_is_asked(demo_model: Path, tmp_path: Path) -> None:
    """Decoding never has enough memory: each plan differs, and what was denoised stays."""
    tiny = Weights((demo_model / "distill_models" / "taew2_1.pth",), Precision.BF16)
    job: Job | Ask | None = make_job(
        demo_model, tmp_path / "a.mp4", checkpoint=tmp_path / "c.safetensors", preview_vae=tiny,
        preview=Previews.TINY_VAE, guidance=Guidance(3.0, batched=True),
        settings='{"use_tiling_vae": false, "target_width": 64}',
    )  # fmt: skip
    engine, seen, told = Engine(), [], []
    while isinstance(job, Job):
        seen.append(job)
        events = starved(job, engine, is_stage("decode"), "python")
        told.append([event for event in events if isinstance(event, Resumed)])
        job = lower(job, failure(events))
        assert len(seen) < 9
    assert told == [[], *[[Resumed(4, 4)]] * (len(seen) - 1)]
    assert len(set(seen)) == len(seen)
    assert seen[-1].tiling
    assert seen[-1].settings == '{"use_tiling_vae": true, "target_width": 64}'
    assert isinstance(job, Ask)
    assert "tiny VAE" in job.question
    events = finish(job.job, engine)
    assert {event.component for event in events if isinstance(event, BytesRead)} == {"tiny VAE"}


@pytest.mark.parametrize("error", ["cuda", "allocator", "python"])
def test_a_run_does_not_end_for_its_previews(
    error: str, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.models.tiny_vae import TinyVae

    def decode(*_: object) -> None:
        raise ERRORS[error]()

    tiny = Weights((demo_model / "distill_models" / "taew2_1.pth",), Precision.BF16)
    job = make_job(demo_model, tmp_path / "a.mp4", preview=Previews.TINY_VAE, preview_vae=tiny)
    monkeypatch.setattr(TinyVae, "decode", decode)
    assert any(isinstance(event, Preview) for event in finish(job, Engine()))


def test_an_engine_that_cannot_move_a_network_away_lets_all_go(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, stop = Engine(), RunControl()
    events = run(job, stop, engine)
    next(event for event in events if isinstance(event, StepDone))

    def settle(_: object) -> None:
        raise ERRORS["allocator"]()

    monkeypatch.setattr(engine, "settle", settle)
    stop.set()
    assert isinstance(list(events)[-1], CancelledByUser)
    assert engine.held() == (0, 0)


WORDS = {
    "CUDA error: out of memory": "cuda",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "cuda",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED": "cuda",
    CUDA_WORDS: "cuda",
    CPU_WORDS: "ram",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes.": "ram",
    "unable to mmap 100 bytes from file <x>: Cannot allocate memory (12)": "ram",
    "std::bad_alloc": "ram",
    "mat1 and mat2 shapes cannot be multiplied": None,
    "CUDA error: device-side assert triggered": None,
    "The size of memory is wrong": None,
}


@pytest.mark.parametrize("words", WORDS)
def test_errors_are_told_apart_by_their_words(words: str) -> None:
    assert exhausted(RuntimeError(words)) == WORDS[words]
    assert exhausted(ValueError(words)) is None


def test_an_error_that_was_put_in_other_words_is_seen_through() -> None:
    error = CheckpointError("The tokenizer cannot be read")
    error.__cause__ = MemoryError()
    assert exhausted(error) == "ram"
    error.__cause__ = OSError(12, "Cannot allocate memory")
    assert exhausted(error) == "ram"
    error.__cause__ = OSError(2, "No such file")
    assert exhausted(error) is None
    assert exhausted(None) is None


LIMITED = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from tests.engine.support import make_job, run_all
from engine.pipeline import Engine, run
from engine.spec.control import RunControl
from engine.spec.errors import OutOfMemoryFailure
from engine.spec.events import Done, Failed

root, folder = Path(sys.argv[1]), Path(sys.argv[2])
engine, small = Engine(), make_job(root, folder / "small.mp4")
large = replace(small, width=1024, height=1024, output=folder / "large.mp4",
                checkpoint=folder / "c.safetensors")
assert isinstance(list(run(small, RunControl(), engine))[-1], Done)
before = (folder / "small.mp4").read_bytes()
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (size + (40 << 20), hard))
last = list(run(large, RunControl(), engine))[-1]
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
assert isinstance(last, Failed), last
assert isinstance(last.error, OutOfMemoryFailure), last.error
assert last.error.device == "ram"
assert "more were asked for" in last.error.why, last.error.why
assert engine.held() == (0, 0)
assert isinstance(list(run(small, RunControl(), engine))[-1], Done)
assert (folder / "small.mp4").read_bytes() == before
assert sorted(path.suffix for path in folder.iterdir()) in ([".mp4"], [".mp4", ".safetensors"])
print(last.error.stage)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_real_limit_of_the_system(demo_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(demo_model), str(folder)], capture_output=True,
        text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("denoise", "decode")
