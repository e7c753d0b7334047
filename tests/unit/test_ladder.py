"""The next lower plan: it helps where memory was lacking, it is lower, and it comes to an end."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spec.architecture import DitArchitecture
from engine.spec.errors import OutOfMemoryFailure
from engine.spec.events import STAGES
from engine.spec.job import Guidance, Job, Placing, Placings, Previews, StepDistill, Weights
from engine.spec.ladder import PLACING_OF, Ask, lower
from engine.spec.memory import STAGES_OF
from engine.spec.precision import ComputeDtype, Precision, QuantCompute

R, C, D = Placing.RESIDENT, Placing.CPU, Placing.DROP
FILE = Weights((Path("x.safetensors"),), Precision.BF16)
TINY = Weights((Path("taew2_1.pth"),), Precision.BF16)
ARCHITECTURE = DitArchitecture(
    dim=64, ffn_dim=96, num_heads=2, num_layers=2, in_dim=16, out_dim=16, text_dim=64, freq_dim=64,
)  # fmt: skip


def job_of(device: str = "cuda:0", **changes: object) -> Job:
    job = Job(
        dit=FILE, architecture=ARCHITECTURE, t5=FILE, tokenizer=Path("t"), vae=FILE, tiny_vae=False,
        schedule=StepDistill(), prompt="a fox", negative_prompt="", seed=1, width=64, height=64,
        frames=5, fps=16, device=device, compute_dtype=ComputeDtype.BFLOAT16,
        quant_compute=QuantCompute.AUTO, output=Path("a.mp4"),
        settings='{"use_tiny_vae": false}',
    )  # fmt: skip
    return replace(job, **changes)  # type: ignore[arg-type]


def failure(
    stage: str, *beside: str, device: Literal["cuda", "ram"] = "cuda"
) -> OutOfMemoryFailure:
    return OutOfMemoryFailure("full", stage=stage, device=device, beside=beside)


def places(lowered: Job | Ask | None) -> tuple[Placing, ...]:
    assert isinstance(lowered, Job)
    chosen = lowered.placings
    return chosen.dit, chosen.t5, chosen.clip, chosen.vae


def test_on_a_gpu_encoders_move_to_ram_first_and_then_everything() -> None:
    job = job_of(placings=Placings(R, R, R, R))
    found = failure("denoise", "t5", "clip", "vae_encoder")
    first = lower(job, found)
    assert places(first) == (R, C, C, R)
    assert isinstance(first, Job)
    second = lower(first, failure("denoise", "vae_encoder"))
    assert places(second) == (C, C, C, C)


def test_what_does_not_stand_in_the_way_stays() -> None:
    job = job_of(placings=Placings(R, R, R, R))
    assert places(lower(job, failure("decode", "dit"))) == (C, C, C, C)  # encoders have gone
    assert lower(job_of(tiny_vae=True), failure("load_vae")) is None
    assert lower(job, failure("encode_text")) is None
    dropped = job_of(placings=Placings(R, D, D, R))
    assert places(lower(dropped, failure("decode", "dit"))) == (C, D, D, C)


def test_where_ram_is_lacking_networks_are_dropped() -> None:
    on_cpu = job_of("cpu", placings=Placings(R, R, R, R))
    first = lower(on_cpu, failure("denoise", "t5", device="ram"))
    assert places(first) == (R, D, D, R)
    assert isinstance(first, Job)
    assert places(lower(first, failure("decode", "dit", device="ram"))) == (D, D, D, D)
    moved = job_of(placings=Placings(C, C, C, C))
    assert places(lower(moved, failure("denoise", "t5", device="ram"))) == (C, D, D, C)


def test_a_network_that_finds_no_room_in_ram_after_its_part_is_dropped() -> None:
    job = job_of(placings=Placings(C, D, D, C))
    assert places(lower(job, failure("denoise", device="ram"))) == (D, D, D, D)
    assert lower(job_of(placings=Placings(D, D, D, D)), failure("denoise", device="ram")) is None


def test_moving_to_ram_does_not_help_ram() -> None:
    resident = job_of(placings=Placings(R, R, R, R))
    assert lower(resident, failure("load_dit", "t5", device="ram")) is None


def test_previews_of_the_tiny_vae_go_before_the_plan_does() -> None:
    job = job_of(preview=Previews.TINY_VAE, preview_vae=TINY)
    lowered = lower(job, failure("denoise"))
    assert isinstance(lowered, Job)
    assert lowered.preview is Previews.LATENTS
    assert lower(lowered, failure("denoise")) is None


def test_guidance_asks_one_by_one_where_it_denoises() -> None:
    job = job_of(guidance=Guidance(5.0, batched=True))
    lowered = lower(job, failure("denoise"))
    assert isinstance(lowered, Job)
    assert lowered.guidance == Guidance(5.0)
    assert lower(lowered, failure("denoise")) is None
    assert lower(job, failure("load_dit")) is None
    assert lower(job, failure("denoise", device="ram")) is None  # it computes on the GPU


def test_the_vae_is_tiled_and_then_the_tiny_one_is_asked_for() -> None:
    job = job_of(preview_vae=TINY)
    tiled = lower(job, failure("decode"))
    assert isinstance(tiled, Job)
    assert tiled.tiling
    assert json.loads(tiled.settings) == {"use_tiny_vae": False, "use_tiling_vae": True}
    asked = lower(tiled, failure("decode"))
    assert isinstance(asked, Ask)
    assert asked.job.vae == TINY
    assert asked.job.tiny_vae
    assert not asked.job.tiling
    assert json.loads(asked.job.settings)["use_tiny_vae"] is True
    assert lower(asked.job, failure("decode")) is None
    assert lower(replace(tiled, preview_vae=None), failure("decode")) is None
    assert isinstance(lower(job, failure("load_vae")), Ask)  # tiles do not help to load it


@pytest.mark.parametrize("settings", ["", "{", "[1]"])
def test_settings_that_are_no_preset_stay_as_they_are(settings: str) -> None:
    lowered = lower(job_of(settings=settings), failure("decode"))
    assert isinstance(lowered, Job)
    assert lowered.settings == settings


PLACES = [Placings(*each) for each in product((R, C, D), repeat=4)]


@given(
    device=st.sampled_from(["cpu", "cuda:0"]), placings=st.sampled_from(PLACES),
    stage=st.sampled_from(sorted(STAGES)), memory=st.sampled_from(["cuda", "ram"]),
    beside=st.sets(st.sampled_from(sorted(STAGES_OF))), tiling=st.booleans(),
    batched=st.booleans(), previews=st.booleans(), tiny=st.booleans(),
)  # fmt: skip
def test_plans_only_become_lower_and_come_to_an_end(
    device: str, placings: Placings, stage: str, memory: Literal["cuda", "ram"],
    beside: set[str], tiling: bool, batched: bool, previews: bool, tiny: bool,
) -> None:  # fmt: skip
    job = job_of(
        device, placings=placings, tiling=tiling, tiny_vae=tiny, preview_vae=TINY,
        guidance=Guidance(5.0, batched=batched),
        preview=Previews.TINY_VAE if previews else Previews.LATENTS,
    )  # fmt: skip
    found, rank = failure(stage, *beside, device=memory), {R: 0, C: 1, D: 2}
    for _ in range(9):
        lowered = lower(job, found)
        if not isinstance(lowered, Job):
            break
        assert lowered != job
        pairs = [(getattr(job.placings, name), getattr(lowered.placings, name))
                 for name in set(PLACING_OF.values())]  # fmt: skip
        assert all(rank[before] <= rank[after] for before, after in pairs)
        assert lowered.latent_shape == job.latent_shape
        assert (lowered.dit, lowered.vae, lowered.seed) == (job.dit, job.vae, job.seed)
        job = lowered
    else:
        raise AssertionError("no end")
