"""A warm engine: a second run loads only what changed, and nothing half-loaded is ever kept."""

from __future__ import annotations

import gc
import os
import queue
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from engine.pipeline import Engine, run
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import CheckpointError
from engine.spec.events import (
    TERMINAL,
    BytesRead,
    CancelledByUser,
    Done,
    Event,
    Failed,
    StepDone,
)
from engine.spec.job import Guidance, Job, Lora, Placing, Placings
from engine.spec.precision import ComputeDtype, Precision
from engine.warm import _Loaded
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Options
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs.folder import RunRecord, new_run
from lightx2v_tui.runs.session import Session
from tests.engine.support import make_job

LORA = Path("loras") / "demo_cfg_step_distill_lora_rank4.safetensors"
BF16_DIT = Path("distill_models") / "distill_model.safetensors"
DROP_ALL = Placings(Placing.DROP, Placing.DROP, Placing.DROP, Placing.DROP)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def job_of(root: Path, folder: Path, **changes: object) -> Job:
    """A job with the tiny VAE that keeps its tensors."""
    kept = folder / "kept.safetensors"
    return make_job(root, folder / "a.mp4", tiny=True, save_tensors=kept, **changes)  # type: ignore[arg-type]


def go(engine: Engine, job: Job, stop: StopEvent | None = None) -> list[Event]:
    return list(run(job, stop or StopEvent(), engine))


def finish(engine: Engine, job: Job) -> tuple[set[str], dict[str, Tensor]]:
    """Run to a good end: which components were read, and the tensors."""
    events = go(engine, job)
    assert isinstance(events[-1], Done), events[-1]
    assert job.save_tensors is not None
    return read_in(events), load_file(job.save_tensors)


def read_in(events: Iterable[Event]) -> set[str]:
    """The components that bytes were read of."""
    return {event.component for event in events if isinstance(event, BytesRead)}


def stop_at(engine: Engine, job: Job, moment: Callable[[Event], bool]) -> list[Event]:
    """Run and cancel at the first event that is the moment."""
    stop, events = StopEvent(), []
    for event in run(job, stop, engine):
        events.append(event)
        if moment(event):
            stop.set()
    assert stop.is_set()
    assert isinstance(events[-1], CancelledByUser)
    return events


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


class Watch:
    """Weak references to the networks that compute while it listens."""

    def __enter__(self) -> Watch:
        self.seen: dict[str, weakref.ref[nn.Module]] = {}
        self.hook = register_module_forward_pre_hook(self.note)
        return self

    def note(self, module: nn.Module, _inputs: object) -> None:
        self.seen.setdefault(type(module).__name__, weakref.ref(module))

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def alive(self) -> list[str]:
        gc.collect()
        return [name for name, ref in self.seen.items() if ref() is not None]


def test_a_second_run_reads_nothing_and_gives_the_same_bits(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path)
    read, first = finish(engine, job)
    assert read == {"T5", "DiT", "tiny VAE"}
    read, second = finish(engine, job)
    assert read == set()
    assert same(first, second)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "A cat sleeps on a warm window sill."},
        {"guidance": Guidance(3.0), "negative_prompt": "blurry"},
        {"seed": 7},
        {"width": 96, "frames": 9},
    ],
    ids=["prompt", "guidance", "seed", "size"],
)
def test_what_no_network_depends_on_reloads_nothing(
    changes: dict[str, object], engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    _, before = finish(engine, job_of(demo_model, tmp_path / "1"))
    job = job_of(demo_model, tmp_path / "2", **changes)
    read, after = finish(engine, job)
    assert read == set()
    assert not same(before, after)
    _, fresh = finish(Engine(), job)
    assert same(after, fresh)


def test_another_prompt_is_another_text(engine: Engine, demo_model: Path, tmp_path: Path) -> None:
    job = job_of(demo_model, tmp_path)
    _, fox = finish(engine, job)
    _, cat = finish(engine, replace(job, prompt="A cat sleeps on a warm window sill."))
    _, again = finish(engine, job)
    assert not torch.equal(fox["text.context"], cat["text.context"])
    assert same(fox, again)


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
def test_another_precision_of_the_dit_reloads_only_the_dit(
    precision: Precision, engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path)
    finish(engine, job)
    other = replace(job, dit=job_of(demo_model, tmp_path, precision=precision).dit)
    read, mixed = finish(engine, other)
    assert read == {"DiT"}
    assert same(mixed, finish(Engine(), other)[1])


def test_another_compute_dtype_reloads_everything(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    finish(engine, job_of(demo_model, tmp_path))
    job = job_of(demo_model, tmp_path, compute_dtype=ComputeDtype.BFLOAT16)
    read, tensors = finish(engine, job)
    assert read == {"T5", "DiT", "tiny VAE"}
    assert same(tensors, finish(Engine(), job)[1])


def test_a_change_of_loras_reloads_the_dit(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    plain = job_of(demo_model, tmp_path)
    path = demo_model / LORA
    seen = [finish(engine, plain)[1]]
    for loras in ((Lora(path, 0.5),), (Lora(path, 1.0),), (Lora(path), Lora(path)), ()):
        job = replace(plain, loras=loras)
        read, tensors = finish(engine, job)
        assert read == ({"DiT", "LoRA"} if loras else {"DiT"}), loras
        assert same(tensors, finish(Engine(), job)[1]), loras
        assert finish(engine, job)[0] == set(), loras
        seen.append(tensors)
    assert same(seen[0], seen[-1])
    assert len({float(tensors["latents.step3"].sum()) for tensors in seen}) == 4


def test_a_replaced_lora_is_applied_anew(engine: Engine, model_copy: Path, tmp_path: Path) -> None:
    path = model_copy / LORA
    job = job_of(model_copy, tmp_path, loras=(Lora(path),))
    _, before = finish(engine, job)
    state = {name: value * 2 for name, value in load_file(path).items()}
    save_file(state, path)
    os.utime(path, ns=(1, 1))  # however coarse the clock of the disk is
    read, after = finish(engine, job)
    assert read == {"DiT", "LoRA"}
    assert not same(before, after)


FILES = {
    "DiT": BF16_DIT,
    "T5": Path("distill_models") / "models_t5_umt5-xxl-enc-bf16.pth",
    "tiny VAE": Path("distill_models") / "taew2_1.pth",
}


@pytest.mark.parametrize("component", FILES)
def test_a_touched_file_is_loaded_anew(
    component: str, engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    job = job_of(model_copy, tmp_path)
    finish(engine, job)
    os.utime(model_copy / FILES[component], ns=(1, 1))
    assert finish(engine, job)[0] == {component}
    assert finish(engine, job)[0] == set()


def test_a_replaced_dit_computes_something_else(
    engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    job = job_of(model_copy, tmp_path)
    _, before = finish(engine, job)
    path = model_copy / BF16_DIT
    state = load_file(path)
    state["head.head.weight"] *= 0.5
    save_file(state, path)
    os.utime(path, ns=(1, 1))
    _, after = finish(engine, job)
    assert not torch.equal(before["latents.step0"], after["latents.step0"])
    assert torch.equal(before["text.context"], after["text.context"])


def test_another_tokenizer_encodes_the_prompt_anew(
    engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    job = job_of(model_copy, tmp_path)
    finish(engine, job)
    os.utime(job.tokenizer / "tokenizer.json", ns=(1, 1))
    with Watch() as watch:
        finish(engine, job)
    assert "Umt5" in watch.seen


def test_an_unchanged_prompt_is_not_encoded_again(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path)
    finish(engine, job)
    with Watch() as watch:
        finish(engine, job)
    assert "WanTransformer" in watch.seen
    assert "Umt5" not in watch.seen


def test_dropped_networks_are_loaded_every_time_except_for_kept_text(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path, placings=DROP_ALL)
    with Watch() as watch:
        read, first = finish(engine, job)
    assert read == {"T5", "DiT", "tiny VAE"}
    assert watch.alive() == []
    read, second = finish(engine, job)
    assert read == {"DiT", "tiny VAE"}
    assert same(first, second)
    read, _ = finish(engine, replace(job, prompt="A cat sleeps."))
    assert read == {"T5", "DiT", "tiny VAE"}


def test_only_what_is_placed_so_is_dropped(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path, placings=Placings(dit=Placing.DROP))
    finish(engine, job)
    read, _ = finish(engine, replace(job, prompt="A cat sleeps."))
    assert read == {"DiT"}


def test_unload_frees_everything(engine: Engine, demo_model: Path, tmp_path: Path) -> None:
    job = job_of(demo_model, tmp_path)
    with Watch() as watch:
        finish(engine, job)
    assert {"Umt5", "WanTransformer", "TinyVae"} & set(watch.seen)
    assert "WanTransformer" in watch.alive()
    engine.unload()
    assert watch.alive() == []
    with Watch() as second:
        read, _ = finish(engine, job)
    assert read == {"T5", "DiT", "tiny VAE"}
    assert "Umt5" in second.seen  # features went, too


def of_component(component: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, BytesRead) and event.component == component


@pytest.mark.parametrize("component", ["T5", "DiT", "tiny VAE"])
def test_a_cancelled_load_leaves_nothing_half_loaded(
    component: str, engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path)
    stop_at(engine, job, of_component(component))
    read, tensors = finish(engine, job)
    assert component in read
    assert same(tensors, finish(Engine(), job)[1])


def test_what_was_whole_before_a_cancel_is_kept(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path)
    stop_at(engine, job, lambda event: isinstance(event, StepDone) and event.step == 2)
    read, tensors = finish(engine, job)
    assert read == {"tiny VAE"}
    assert same(tensors, finish(Engine(), job)[1])


def test_a_cancelled_run_drops_what_is_placed_so(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path, placings=DROP_ALL)
    with Watch() as watch:
        stop_at(engine, job, lambda event: isinstance(event, StepDone))
    assert "WanTransformer" in watch.seen
    assert watch.alive() == []


def test_whoever_stops_listening_during_a_load_leaves_nothing(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job = job_of(demo_model, tmp_path)
    events = run(job, StopEvent(), engine)
    next(event for event in events if of_component("DiT")(event))
    events.close()  # type: ignore[attr-defined] # a generator
    read, tensors = finish(engine, job)
    assert read == {"DiT", "tiny VAE"}
    assert same(tensors, finish(Engine(), job)[1])


def test_a_failed_load_leaves_nothing_half_loaded(
    engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    path = model_copy / BF16_DIT
    job = job_of(model_copy, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert isinstance(go(engine, job)[-1], Failed)
    path.write_bytes(whole)
    read, tensors = finish(engine, job)
    assert read == {"DiT", "tiny VAE"}
    assert same(tensors, finish(Engine(), job)[1])


def test_a_failed_load_of_another_dit_does_not_harm_the_next_run(
    engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    job = job_of(model_copy, tmp_path)
    other = replace(job, dit=job_of(model_copy, tmp_path, precision=Precision.FP8).dit)
    _, before = finish(engine, job)
    block = model_copy / "distill_fp8" / "block_2.safetensors"
    block.write_bytes(block.read_bytes()[:-100])
    assert isinstance(go(engine, other)[-1], Failed)
    assert same(before, finish(engine, job)[1])


@pytest.mark.parametrize("component", [*FILES, "LoRA"])
def test_a_file_that_vanished_is_named_and_said_in_words(
    component: str, engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    path = model_copy / FILES.get(component, LORA)
    job = job_of(model_copy, tmp_path, loras=(Lora(model_copy / LORA),))
    finish(engine, job)
    path.unlink()
    last = go(engine, job)[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, CheckpointError)
    assert path.name in str(last.error)


def test_a_lora_that_fails_leaves_no_dit_behind(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    """The good LoRA is in the weights when the bad one fails: that DiT must not be found again."""
    bad = tmp_path / "bad.safetensors"
    save_file({"blocks.0.self_attn.q.diff": torch.zeros(3, 3)}, bad)
    plain = job_of(demo_model, tmp_path)
    loras = (Lora(demo_model / LORA), Lora(bad))
    with Watch() as watch:
        for _ in range(2):
            events = go(engine, replace(plain, loras=loras))
            assert isinstance(events[-1], Failed)
            assert bad.name in str(events[-1].error)
            assert "DiT" in read_in(events)
    assert "WanTransformer" not in watch.seen
    read, tensors = finish(engine, plain)
    assert read == {"DiT", "tiny VAE"}
    assert same(tensors, finish(Engine(), plain)[1])


def test_an_error_that_is_shown_holds_no_networks(
    engine: Engine, model_copy: Path, tmp_path: Path
) -> None:
    """A screen keeps the event of a failed run; memory must be free for the next one."""
    path = model_copy / BF16_DIT
    state = load_file(path)
    state["head.head.weight"][0, 0] = float("nan")
    save_file(state, path)
    with Watch() as watch:
        last = go(engine, job_of(model_copy, tmp_path))[-1]
    assert isinstance(last, Failed)
    assert "WanTransformer" in watch.seen
    engine.unload()
    assert watch.alive() == []


def test_a_stop_event_of_an_earlier_run_does_not_stop_a_later_one(
    engine: Engine, demo_model: Path, tmp_path: Path
) -> None:
    job, stop = job_of(demo_model, tmp_path), StopEvent()
    assert isinstance(go(engine, job, stop)[-1], Done)
    stop.set()
    assert finish(engine, job)[0] == set()


def test_a_session_keeps_networks_and_unloads_them(demo_model: Path, tmp_path: Path) -> None:
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    session = Session(told.put)
    assert session.unload()  # nothing is loaded
    preset = Preset(model_path=demo_model, width=64, height=64, frames=5, use_tiny_vae=True)
    plan = jobs.plan(preset, Options(compute_dtype=ComputeDtype.FLOAT32), tmp_path / "a.mp4")

    def read() -> set[str]:
        folder, events = new_run(), []
        session.start(plan.job, folder, RunRecord(folder, plan.preset))
        assert not session.unload()  # a job is running
        while not events or not isinstance(events[-1], TERMINAL):
            events.append(told.get(timeout=60))
        assert isinstance(events[-1], Done)
        return read_in(events)

    everything = {"T5", "DiT", "tiny VAE"}
    with Watch() as watch:
        assert read() == everything
    assert read() == set()
    assert session.unload()
    assert watch.alive() == []
    assert read() == everything


def test_what_is_held_can_be_asked_while_it_changes(engine: Engine) -> None:
    class Watched(nn.Linear):
        def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
            engine._loaded["t5"] = engine._loaded["dit"]  # as the engine's thread may
            return super().parameters(recurse)

    engine._loaded["dit"] = _Loaded("key", Watched(2, 2), torch.device("cpu"))
    assert engine.held() == (0, 24)
    assert engine.held() == (0, 48)
