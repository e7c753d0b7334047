"""A run that was ended after any step goes on in another engine and gives the same frames."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from engine import resume
from engine.pipeline import Engine, run
from engine.spec.control import RunControl
from engine.spec.events import BytesRead, Done, Event, Noted, Resumed, StageStarted, StepDone
from engine.spec.job import Euler, Guidance, Job, Lora, Placing, Placings, Previews, UniPC, Weights
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from engine.spec.space import checkpoint_bytes
from tests.engine.support import leftovers, make_job, run_all
from tests.engine.test_image_pipeline import planned, write_image, write_root

LORA = Path("loras") / "demo_cfg_step_distill_lora_rank4.safetensors"
GUIDED = {"guidance": Guidance(3.0), "negative_prompt": "blurry"}
KINDS: dict[str, dict[str, object]] = {
    "step-distilled": {"tiny": True},
    "UniPC": {"tiny": True, "schedule": UniPC(5)},
    "Euler": {"tiny": True, "schedule": Euler(3)},
    "guided": {"tiny": True, "schedule": UniPC(3), **GUIDED},
    "batched": {"tiny": True, **GUIDED, "guidance": Guidance(3.0, batched=True)},
    "fp8": {"tiny": True, "precision": Precision.FP8},
    "int8": {"tiny": True, "precision": Precision.INT8, "schedule": UniPC(3)},
    "full VAE": {},
    "tiled": {"tiling": True},
    "bf16": {"tiny": True, "compute_dtype": ComputeDtype.BFLOAT16, "schedule": UniPC(4)},
    "LoRA": {"tiny": True},
    "previews": {"tiny": True, "preview": Previews.LATENTS},
    "image": {},
}


@pytest.fixture(scope="module")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("i2v") / "Tiny-I2V-LightX2V"
    write_root(root)
    write_image(root / "first.png", 96, 64)
    return root


def job_of(kind: str, root: Path, image_root: Path, folder: Path) -> Job:
    if kind == "image":
        job = planned(image_root, image_root / "first.png", folder).job
        return replace(job, save_tensors=None)
    changes = dict(KINDS[kind])
    if kind == "LoRA":
        changes["loras"] = (Lora(root / LORA),)
    return make_job(root, folder / "out" / "a.mp4", **changes)  # type: ignore[arg-type]


def until_step(job: Job, step: int) -> None:
    """Run until a step was told, and stop listening, as a process that is killed does."""
    events = run(job, RunControl(), Engine())
    next(event for event in events if isinstance(event, StepDone) and event.step == step)
    events.close()  # type: ignore[attr-defined] # a generator


def finish(job: Job) -> list[Event]:
    events = list(run(job, RunControl(), Engine()))
    assert isinstance(events[-1], Done), events[-1]
    return events


def latents_at(path: Path | None) -> torch.Tensor:
    assert path is not None
    return load_file(path)["latents"]


@pytest.mark.parametrize("kind", KINDS)
def test_ended_after_any_step_it_goes_on_bit_for_bit(
    kind: str, demo_model: Path, image_root: Path, tmp_path: Path
) -> None:
    job = job_of(kind, demo_model, image_root, tmp_path)
    finish(job)
    video = job.output.read_bytes()
    whole = replace(job, checkpoint=tmp_path / "whole.safetensors")
    steps = [event.step for event in finish(whole) if isinstance(event, StepDone)]
    assert job.output.read_bytes() == video  # keeping changes nothing
    for step in steps:
        job.output.unlink()
        kept = replace(job, checkpoint=tmp_path / f"{step}.safetensors")
        until_step(kept, step)
        assert leftovers(tmp_path) == []
        events = finish(kept)
        assert [event for event in events if isinstance(event, (Resumed, Noted))] == [
            Resumed(step, len(steps))
        ]
        told = [event.step for event in events if isinstance(event, StepDone)]
        assert told == steps[step:]
        assert job.output.read_bytes() == video
        assert torch.equal(latents_at(kept.checkpoint), latents_at(whole.checkpoint))


def test_after_the_last_step_only_the_vae_is_loaded(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", checkpoint=tmp_path / "c.safetensors")
    until_step(job, 4)
    events = finish(job)
    assert {event.component for event in events if isinstance(event, BytesRead)} == {"VAE"}
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert stages == ["load_vae", "decode"]
    finish(job)  # the engine removes nothing: a run that is done can be decoded again
    assert (tmp_path / "c.safetensors").exists()


def test_a_step_that_was_told_is_on_the_disk(demo_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True, checkpoint=path)
    made_for = resume.fingerprint(job)
    for event in run(job, RunControl()):
        if isinstance(event, StepDone):
            assert resume.read(path, job, made_for, RunControl()).step == event.step
            assert [each.name for each in tmp_path.iterdir() if "c.s" in each.name] == [path.name]


def test_the_file_is_safetensors_of_float32_and_private_facts(
    demo_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    job = make_job(demo_model, tmp_path / "a.mp4", tiny=True, schedule=UniPC(3), checkpoint=path)
    until_step(job, 2)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    assert {key: facts[key] for key in ("schema", "step", "steps")} == {
        "schema": "1", "step": "2", "steps": "3",
    }  # fmt: skip
    tensors = load_file(path)
    assert tensors.keys() == {"latents", "generator", "sampler.clean0", "sampler.clean1",
                              "sampler.before"}  # fmt: skip
    assert {value.dtype for name, value in tensors.items() if name != "generator"} == {
        torch.float32
    }
    assert path.stat().st_size <= checkpoint_bytes(job)


# What decides the latents, and what does not.


@pytest.fixture
def kept(demo_model: Path, tmp_path: Path) -> Job:
    """A guided job that ended after its second step."""
    job = make_job(demo_model, tmp_path / "out" / "a.mp4", tiny=True,
                   checkpoint=tmp_path / "c.safetensors", **GUIDED)  # fmt: skip
    until_step(job, 2)
    return job


OTHER: dict[str, Callable[[Job], Job]] = {
    "seed": lambda job: replace(job, seed=job.seed + 1),
    "prompt": lambda job: replace(job, prompt="A cat sleeps."),
    "negative prompt": lambda job: replace(job, negative_prompt="dark"),
    "guidance": lambda job: replace(job, guidance=Guidance(4.0)),
    "no guidance": lambda job: replace(job, guidance=None),
    "size": lambda job: replace(job, width=48),
    "frames": lambda job: replace(job, frames=9),
    "schedule": lambda job: replace(job, schedule=Euler(4)),
    "shift": lambda job: replace(job, schedule=replace(job.schedule, shift=3.0)),
    "dtype": lambda job: replace(job, compute_dtype=ComputeDtype.BFLOAT16),
    "quant compute": lambda job: replace(job, quant_compute=QuantCompute.DEQUANT),
    "device": lambda job: replace(job, device="cuda:0"),
    "attention": lambda job: replace(job, attention="flash"),
    "LoRA": lambda job: replace(job, loras=(Lora(job.t5.files[0], 0.5),)),
    "weights": lambda job: replace(job, dit=job.t5),
    "precision": lambda job: replace(job, dit=Weights(job.dit.files, Precision.INT8)),
}
SAME: dict[str, Callable[[Job], Job]] = {
    "placings": lambda job: replace(job, placings=Placings(*[Placing.DROP] * 4)),
    "tiling": lambda job: replace(job, tiling=True),
    "VAE": lambda job: replace(job, vae=job.dit, tiny_vae=False),
    "tiny VAE": lambda job: replace(job, tiny_vae_denormalized=True),
    "output": lambda job: replace(job, output=Path("b.mp4")),
    "fps": lambda job: replace(job, fps=8),
    "settings": lambda job: replace(job, settings="{}"),
    "previews": lambda job: replace(job, preview=Previews.LATENTS),
    "batched": lambda job: replace(job, guidance=Guidance(3.0, batched=True)),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_decides_the_latents_makes_another_run(change: str, kept: Job) -> None:
    assert resume.fingerprint(OTHER[change](kept)) != resume.fingerprint(kept)


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_decide_them_goes_on(change: str, kept: Job) -> None:
    assert resume.fingerprint(SAME[change](kept)) == resume.fingerprint(kept)


def test_relative_paths_name_the_same_files(kept: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kept.dit.files[0].parent
    monkeypatch.chdir(folder)
    near = replace(kept, dit=replace(kept.dit, files=(Path(kept.dit.files[0].name),)))
    assert resume.fingerprint(near) == resume.fingerprint(kept)


def test_a_replaced_file_makes_another_run(model_copy: Path, tmp_path: Path) -> None:
    job = make_job(model_copy, tmp_path / "a.mp4", tiny=True)
    before = resume.fingerprint(job)
    os.utime(job.dit.files[0], ns=(1, 1))
    assert resume.fingerprint(job) != before


def test_another_seed_starts_from_noise_and_says_so(kept: Job) -> None:
    other = replace(kept, seed=kept.seed + 1)
    events = finish(other)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert len(notes) == 1
    assert "other settings" in notes[0]
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    video = kept.output.read_bytes()
    finish(replace(other, checkpoint=None))
    assert kept.output.read_bytes() == video


def test_steps_that_are_to_be_saved_are_all_computed(kept: Job, tmp_path: Path) -> None:
    job = replace(kept, save_tensors=tmp_path / "kept.st")
    events = finish(job)
    assert len([event for event in events if isinstance(event, Noted)]) == 1
    assert not [event for event in events if isinstance(event, Resumed)]
    assert {"noise", "latents.step0", "latents.step3"} <= load_file(tmp_path / "kept.st").keys()
    without = replace(job, checkpoint=tmp_path / "none.safetensors")
    assert not [event for event in finish(without) if isinstance(event, Noted)]


def test_a_run_without_a_checkpoint_asks_for_no_fingerprint(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: Job) -> str:
        raise AssertionError

    monkeypatch.setattr(resume, "fingerprint", never)
    events = run_all(make_job(demo_model, tmp_path / "a.mp4", tiny=True))
    assert isinstance(events[-1], Done)
    assert hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest()
