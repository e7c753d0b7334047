"""Whole runs of the demo model: events, seeds, cancelling, and what a failed run leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from engine.pipeline import run
from engine.spec.control import RunControl as StopEvent
from engine.spec.events import (
    TERMINAL,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    FrameDone,
    MemoryUsed,
    Saved,
    StageStarted,
    StepDone,
)
from engine.spec.job import Job, StepDistill
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from tests.engine.support import leftovers, make_job, relative, run_all

STAGES = ["load_t5", "encode_text", "load_dit", "denoise", "load_vae", "decode"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def finished(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[Event]]:
    """A run that ended well, and all its events."""
    folder = tmp_path_factory.mktemp("finished")
    job = make_job(demo_model, folder / "video.mp4", save_tensors=folder / "kept.safetensors")
    return job, run_all(job)


def failure(events: list[Event]) -> str:
    """The text of the error that ended a run."""
    assert [isinstance(event, TERMINAL) for event in events].count(True) == 1
    last = events[-1]
    assert isinstance(last, Failed)
    assert last.error.what
    assert last.error.why
    assert last.error.fix
    assert all("\n" not in line for line in (last.error.what, last.error.why, last.error.fix))
    return str(last.error)


def latents(root: Path, folder: Path, **changes: object) -> dict[str, Tensor]:
    """The tensors a run keeps."""
    job = make_job(root, folder / "a.mp4", tiny=True, save_tensors=folder / "kept.st", **changes)
    assert isinstance(run_all(job)[-1], Done)
    assert job.save_tensors is not None
    return load_file(job.save_tensors)


def test_stages_come_in_order_and_the_last_event_is_the_end(
    finished: tuple[Job, list[Event]],
) -> None:
    job, events = finished
    assert [event.stage for event in events if isinstance(event, StageStarted)] == STAGES
    assert [event for event in events if isinstance(event, TERMINAL)] == [events[-1]]
    last = events[-1]
    assert isinstance(last, Done)
    assert last.path == job.output
    assert last.seconds > 0


def test_bytes_grow_to_the_size_of_each_component(finished: tuple[Job, list[Event]]) -> None:
    _, events = finished
    read = [event for event in events if isinstance(event, BytesRead)]
    assert list(dict.fromkeys(event.component for event in read)) == ["T5", "DiT", "VAE"]
    for component in ("T5", "DiT", "VAE"):
        of_one = [event for event in read if event.component == component]
        done = [event.done for event in of_one]
        assert done == sorted(done)
        assert {event.total for event in of_one} == {done[-1]}


def test_steps_and_frames_are_counted(finished: tuple[Job, list[Event]]) -> None:
    _, events = finished
    steps = [(event.step, event.steps) for event in events if isinstance(event, StepDone)]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    frames = [(event.frame, event.frames) for event in events if isinstance(event, FrameDone)]
    assert frames == [(number, 5) for number in range(1, 6)]
    totals = {event.stage: event.total for event in events if isinstance(event, StageStarted)}
    assert (totals["denoise"], totals["decode"]) == (4, 5)
    memory = [event for event in events if isinstance(event, MemoryUsed)]
    assert len(memory) >= 4
    assert all(event.ram > 1 << 20 for event in memory)


def test_files_are_saved_whole_before_the_end_and_nothing_else_is_left(
    finished: tuple[Job, list[Event]],
) -> None:
    job, events = finished
    saved = [event.path for event in events if isinstance(event, Saved)]
    assert saved == [job.output, job.save_tensors]
    assert sorted(job.output.parent.iterdir()) == sorted(saved)


def test_the_video_has_the_size_the_frames_and_the_settings(
    finished: tuple[Job, list[Event]],
) -> None:
    job, _ = finished
    with av.open(str(job.output)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
        settings = json.loads(container.metadata["comment"])
    assert sizes == [(64, 64)] * 5
    assert settings == json.loads(job.settings)
    assert settings["lightx2v_tui"]["prompt"] == job.prompt


def test_the_kept_tensors(finished: tuple[Job, list[Event]]) -> None:
    job, _ = finished
    assert job.save_tensors is not None
    kept = load_file(job.save_tensors)
    shape = (16, 2, 8, 8)
    assert {name: tuple(value.shape) for name, value in kept.items()} == {
        "noise": shape,
        "text.context": (len(kept["text.context"]), 64),
        **{f"latents.step{step}": shape for step in range(4)},
        "frames": (3, 5, 64, 64),
    }
    assert {value.dtype for value in kept.values()} == {torch.float32}
    generator = torch.Generator("cpu").manual_seed(job.seed)
    assert torch.equal(kept["noise"], torch.randn(shape, generator=generator))
    assert kept["frames"].abs().max() <= 1


def test_a_seed_gives_the_same_latents_bit_for_bit(demo_model: Path, tmp_path: Path) -> None:
    first = latents(demo_model, tmp_path / "1", seed=7)
    second = latents(demo_model, tmp_path / "2", seed=7)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seed_prompt_and_steps_change_the_video(demo_model: Path, tmp_path: Path) -> None:
    base = latents(demo_model, tmp_path / "base", seed=7)
    seed = latents(demo_model, tmp_path / "seed", seed=8)
    prompt = latents(demo_model, tmp_path / "prompt", seed=7, prompt="A cat sleeps.")
    steps = latents(demo_model, tmp_path / "steps", seed=7, schedule=StepDistill((1000, 500), 5.0))
    assert not torch.equal(base["noise"], seed["noise"])
    assert torch.equal(base["noise"], prompt["noise"])
    assert not torch.equal(base["latents.step3"], prompt["latents.step3"])
    assert "latents.step2" not in steps
    assert not torch.equal(base["latents.step3"], steps["latents.step1"])


@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
@pytest.mark.parametrize("precision", list(Precision))
def test_every_precision_runs_with_both_vaes(
    precision: Precision, tiny: bool, demo_model: Path, out: Path
) -> None:
    job = make_job(demo_model, out / "a.mp4", precision=precision, tiny=tiny)
    assert isinstance(run_all(job)[-1], Done)
    assert [path.name for path in out.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("compute", [QuantCompute.NATIVE, QuantCompute.DEQUANT])
@pytest.mark.parametrize(("precision", "bound"), [(Precision.FP8, 0.1), (Precision.INT8, 0.05)])
def test_quantized_runs_stay_near_the_original(
    precision: Precision, bound: float, compute: QuantCompute, demo_model: Path, tmp_path: Path
) -> None:
    original = latents(demo_model, tmp_path / "bf16")["latents.step3"]
    quantized = latents(
        demo_model, tmp_path / "quantized", precision=precision, quant_compute=compute
    )["latents.step3"]
    assert 0 < relative(quantized, original) < bound


@pytest.mark.parametrize("dtype", [ComputeDtype.BFLOAT16, ComputeDtype.FLOAT16])
@pytest.mark.parametrize("precision", list(Precision))
def test_half_precision_stays_near_float32(
    precision: Precision, dtype: ComputeDtype, demo_model: Path, tmp_path: Path
) -> None:
    wide = latents(demo_model, tmp_path / "wide", precision=precision)["latents.step3"]
    narrow = latents(demo_model, tmp_path / "narrow", precision=precision, compute_dtype=dtype)
    assert 0 < relative(narrow["latents.step3"], wide) < 0.05


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
def test_other_sizes(tiny: bool, frames: int, demo_model: Path, out: Path) -> None:
    job = make_job(demo_model, out / "a.mp4", tiny=tiny, frames=frames, width=48, height=16)
    assert isinstance(run_all(job)[-1], Done)
    with av.open(str(job.output)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(48, 16)] * frames


def is_stage(stage: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StageStarted) and event.stage == stage


CANCEL_AT: dict[str, Callable[[Event], bool]] = {
    **{stage: is_stage(stage) for stage in STAGES},
    "bytes": lambda event: isinstance(event, BytesRead) and event.component == "DiT",
    "step": lambda event: isinstance(event, StepDone) and event.step == 2,
    "frame": lambda event: isinstance(event, FrameDone) and event.frame == 3,
}


@pytest.mark.parametrize("moment", CANCEL_AT)
@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
def test_cancelling_ends_the_run_and_leaves_nothing(
    tiny: bool, moment: str, demo_model: Path, out: Path
) -> None:
    job = make_job(demo_model, out / "a.mp4", tiny=tiny, save_tensors=out / "kept.safetensors")
    stop, events, after = StopEvent(), [], 0
    for event in run(job, stop):
        events.append(event)
        after += stop.is_set()
        if CANCEL_AT[moment](event):
            stop.set()
    assert stop.is_set()
    assert isinstance(events[-1], CancelledByUser)
    assert sum(isinstance(event, TERMINAL) for event in events) == 1
    assert after <= 2  # the end, and at most one event that was already on its way
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("stage", ["encode_text", "denoise", "decode"])
@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
def test_no_layer_computes_after_the_one_under_way(
    tiny: bool, stage: str, demo_model: Path, out: Path
) -> None:
    stop, late, armed = StopEvent(), [], False

    def computed(layer: nn.Module, _inputs: object, _output: object) -> None:
        if armed and not list(layer.children()):
            if stop.is_set():
                late.append(layer)
            stop.set()

    hook = register_module_forward_hook(computed)
    try:
        for event in run(make_job(demo_model, out / "a.mp4", tiny=tiny), stop):
            armed = armed or is_stage(stage)(event)
            last = event
    finally:
        hook.remove()
    assert isinstance(last, CancelledByUser)
    assert late == []
    assert leftovers(out) == []


def test_a_run_that_is_cancelled_before_it_starts(demo_model: Path, out: Path) -> None:
    stop = StopEvent()
    stop.set()
    events = run_all(make_job(demo_model, out / "a.mp4"), stop)
    assert isinstance(events[-1], CancelledByUser)
    assert leftovers(out) == []


@pytest.mark.parametrize("moment", ["denoise", "frame"])
def test_whoever_stops_listening_leaves_nothing(moment: str, demo_model: Path, out: Path) -> None:
    events = run(make_job(demo_model, out / "a.mp4", tiny=True), StopEvent())
    next(event for event in events if CANCEL_AT[moment](event))
    events.close()  # type: ignore[attr-defined] # a generator
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("moment", ["denoise", "frame"])
def test_cancelling_keeps_an_older_video(moment: str, demo_model: Path, out: Path) -> None:
    out.mkdir()
    (out / "a.mp4").write_bytes(b"an older video")
    stop = StopEvent()
    for event in run(make_job(demo_model, out / "a.mp4", tiny=True), stop):
        if CANCEL_AT[moment](event):
            stop.set()
    assert [path.name for path in out.iterdir()] == ["a.mp4"]
    assert (out / "a.mp4").read_bytes() == b"an older video"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_latent_that_is_not_finite_ends_the_run(
    value: float, model_copy: Path, out: Path
) -> None:
    file = model_copy / "distill_models" / "distill_model.safetensors"
    state = load_file(file)
    state["blocks.1.ffn.0.weight"][0, 0] = value
    save_file(state, file)
    events = run_all(make_job(model_copy, out / "a.mp4"))
    error = failure(events)
    assert "step 1 of 4" in error
    assert "DiT" in error
    assert "not finite" in error
    assert not any(isinstance(event, StepDone) for event in events)
    assert list(out.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_said_before_anything_is_read(
    demo_model: Path, out: Path
) -> None:
    events = run_all(make_job(demo_model, out / "a.mp4", device="cuda:0"))
    assert "cuda:0" in failure(events)
    assert len(events) == 1
    assert leftovers(out) == []


def test_a_tokenizer_of_another_encoder_is_an_error(model_copy: Path, out: Path) -> None:
    for file in model_copy.rglob("models_t5_umt5-xxl-enc-bf16.pth"):
        state = torch.load(file, weights_only=True)
        state["token_embedding.weight"] = state["token_embedding.weight"][:8].clone()
        torch.save(state, file)
    error = failure(run_all(make_job(model_copy, out / "a.mp4")))
    assert "tokenizer" in error
    assert "8 tokens" in error
    assert leftovers(out) == []


def test_a_network_that_changed_after_the_job_was_made(model_copy: Path, out: Path) -> None:
    job = make_job(model_copy, out / "a.mp4")
    file = model_copy / "distill_models" / "distill_model.safetensors"
    state = load_file(file)
    del state["blocks.2.self_attn.q.bias"]
    save_file(state, file)
    assert "blocks.2.self_attn.q.bias" in failure(run_all(job))
    assert leftovers(out) == []


def test_a_file_that_was_cut_after_the_job_was_made(model_copy: Path, out: Path) -> None:
    job = make_job(model_copy, out / "a.mp4")
    file = model_copy / "distill_models" / "distill_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "distill_model.safetensors is truncated" in failure(run_all(job))
    assert leftovers(out) == []


@pytest.mark.parametrize("name", ["output", "save_tensors"])
def test_what_cannot_be_written_is_said_before_anything_is_read(
    name: str, demo_model: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "file").write_text("")
    unwritable: dict[str, Any] = {name: tmp_path / "file" / "a.mp4"}
    events = run_all(replace(make_job(demo_model, out / "a.mp4"), **unwritable))
    assert str(tmp_path / "file") in failure(events)
    assert len(events) == 1
    assert leftovers(tmp_path) == []


def test_a_folder_that_vanishes_during_the_run(demo_model: Path, out: Path) -> None:
    events: list[Event] = []
    for event in run(make_job(demo_model, out / "deep" / "a.mp4"), StopEvent()):
        events.append(event)
        if is_stage("denoise")(event):
            shutil.rmtree(out)
    assert "could not be written" in failure(events)
    assert not out.exists()
