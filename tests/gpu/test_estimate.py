"""Estimated against allocated memory of a CUDA device."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.models.vae import WanVae
from engine.pipeline import run
from engine.spec.architecture import VaeArchitecture
from engine.spec.control import RunControl as StopEvent
from engine.spec.estimate import Machine, estimate
from engine.spec.events import Done
from engine.spec.job import Guidance, Job, Placing, Placings, StepDistill, Weights
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from tests.engine.support import make_job

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

LOW, HIGH = 0.95, 1.15
SLACK = 40 << 20  # cuBLAS and cuDNN allocate once: as much as a tiny model's run does
MIB = 1 << 20
CHANGES = {
    "resident": {},
    "in RAM": {"placings": Placings(*[Placing.CPU] * 4)},
    "float32": {"compute_dtype": ComputeDtype.FLOAT32},
    "batched": {"guidance": Guidance(5.0, batched=True)},
}


@pytest.fixture(autouse=True)
def clean_device() -> Iterator[None]:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    gc.collect()
    torch.cuda.empty_cache()


def machine() -> Machine:
    free, total = torch.cuda.mem_get_info()
    return Machine(total, free, 1 << 40, 0, torch.cuda.get_device_capability())


def assert_foreseen(job: Job) -> None:
    before = torch.cuda.memory_allocated()
    last = list(run(job, StopEvent()))[-1]
    assert isinstance(last, Done), last
    measured = torch.cuda.max_memory_allocated() - before
    estimated = estimate(job, machine()).vram_peak
    print(f"\n{measured / MIB:.0f} MiB, estimated {estimated / MIB:.0f}", end="")
    assert LOW * measured - SLACK <= estimated <= HIGH * measured + SLACK


@pytest.fixture
def job(demo_model: Path, tmp_path: Path) -> Job:
    """A video long and large enough that activations outweigh what libraries keep."""
    small = make_job(
        demo_model, tmp_path / "a.mp4", device="cuda:0", tiny=True,
        compute_dtype=ComputeDtype.BFLOAT16, schedule=StepDistill((1000,)),
    )  # fmt: skip
    return replace(small, width=1280, height=720, frames=49)


@pytest.mark.parametrize("change", CHANGES)
def test_a_run(change: str, job: Job) -> None:
    assert_foreseen(replace(job, **CHANGES[change]))  # type: ignore[arg-type]


@pytest.mark.parametrize("compute", [QuantCompute.NATIVE, QuantCompute.DEQUANT])
@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
def test_quantized_weights(
    precision: Precision, compute: QuantCompute, job: Job, demo_model: Path
) -> None:
    quantized = make_job(demo_model, job.output, precision=precision, tiny=True)
    assert_foreseen(replace(job, dit=quantized.dit, t5=quantized.t5, quant_compute=compute))


@pytest.mark.parametrize("tiling", [False, True])
def test_a_vae_of_full_width(tiling: bool, job: Job, tmp_path: Path) -> None:
    vae = WanVae(VaeArchitecture(96, 16), with_encoder=True).to(torch.bfloat16)
    path = tmp_path / "vae.pth"
    torch.save({name: value.data.normal_(std=0.02) for name, value in vae.named_parameters()}, path)
    weights = Weights((path,), Precision.BF16)
    wide = replace(job, vae=weights, tiny_vae=False, tiling=tiling)
    assert_foreseen(replace(wide, width=832, height=480, frames=9))
