"""Estimated against measured resident memory on the CPU, and verdicts for cards people have."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.architecture import DitArchitecture
from engine.spec.estimate import Machine, estimate, fitting
from engine.spec.job import Guidance, Job, StepDistill, Weights
from engine.spec.precision import ComputeDtype, Precision
from tests.benchmarks import test_memory
from tests.engine.support import make_job
from tests.engine.test_estimate import MIB, ROOMY, resident
from tests.unit.published import I2V_14B, T2V_1_3B, T2V_14B, published_job

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status"),
]

LOW, HIGH = 0.95, 1.15
CARDS = (4, 8, 12, 16, 24, 48, 80)  # GiB
ONE_STEP = StepDistill((1000,))


def compared(name: str, job: Job) -> tuple[str, float]:
    """A line of the table, and estimated over measured."""
    measured, estimated = resident(job), estimate(job, ROOMY).ram_peak
    ratio = estimated / measured
    row = f"  {name:<44}{measured / MIB:9.0f}{estimated / MIB:11.0f}{ratio:8.2f}"
    return row, ratio


def judge(cases: dict[str, Job]) -> None:
    """Print the table; what is off is measured once more, for the heap has its moods."""
    print(f"\n  peak resident memory, MiB{'':<19}{'measured':>9}{'estimated':>11}{'ratio':>8}")
    off = {}
    for name, job in cases.items():
        row, ratio = compared(name, job)
        print(row)
        if not LOW <= ratio <= HIGH:
            row, ratio = compared(f"{name}, again", job)
            print(row)
            if not LOW <= ratio <= HIGH:
                off[name] = ratio
    assert not off


@pytest.fixture
def demo(demo_model: Path, tmp_path: Path) -> Job:
    """A job of 256x256, 17 frames and one step on the demo model, in bf16."""
    bf16 = ComputeDtype.BFLOAT16
    small = make_job(demo_model, tmp_path / "a.mp4", compute_dtype=bf16, schedule=ONE_STEP)
    return replace(small, width=256, height=256, frames=17)


def test_the_tiny_model(demo: Job, demo_model: Path, tmp_path: Path) -> None:
    tiny = make_job(demo_model, tmp_path / "a.mp4", tiny=True, schedule=ONE_STEP,
                    compute_dtype=ComputeDtype.BFLOAT16)  # fmt: skip
    int8 = make_job(demo_model, tmp_path / "a.mp4", precision=Precision.INT8)
    judge({
        "demo, bf16, 256x256, 17 frames": demo,
        "demo, guidance in one pass": replace(demo, guidance=Guidance(5.0, batched=True)),
        "demo, tensors kept": replace(demo, save_tensors=tmp_path / "kept.safetensors"),
        "demo, tiny VAE, 832x480, 17 frames": replace(tiny, width=832, height=480, frames=17),
        "demo, int8 in float32, 64x64, 5 frames": int8,
    })  # fmt: skip


@pytest.fixture
def gigabyte(demo: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """The demo model with an FP8 DiT of 1 GB."""
    monkeypatch.setitem(test_memory.SIZES, "text_dim", demo.architecture.text_dim)
    folder = tmp_path / "dit"
    folder.mkdir()
    for name, tensors in test_memory.dit_tensors().items():
        test_memory.write_file(folder / name, tensors)
    files = tuple(sorted(folder.iterdir()))
    architecture = DitArchitecture(**test_memory.SIZES)  # type: ignore[arg-type]
    yield replace(demo, dit=Weights(files, Precision.FP8), architecture=architecture,
                  width=64, height=64, frames=5)  # fmt: skip
    shutil.rmtree(folder)


def test_a_model_of_a_gigabyte(gigabyte: Job) -> None:
    judge({
        "1 GB FP8, 64x64, 5 frames": gigabyte,
        "1 GB FP8, 416x240, 5 frames": replace(gigabyte, width=416, height=240),
    })  # fmt: skip


def test_a_vae_of_full_width(demo: Job, tmp_path: Path) -> None:
    import torch

    from engine.models.vae import WanVae
    from engine.spec.architecture import VaeArchitecture

    vae = WanVae(VaeArchitecture(96, 16), with_encoder=True).to(torch.bfloat16)
    path = tmp_path / "vae.pth"
    torch.save({name: value.data.normal_(std=0.02) for name, value in vae.named_parameters()}, path)
    weights = Weights((path,), Precision.BF16)
    judge({"full VAE, 256x256, 5 frames": replace(demo, vae=weights, frames=5)})


def test_cards_people_have(tmp_path: Path) -> None:
    """A table: with 64 GB of RAM, the offload that fits; nothing is refused without advice."""
    print(f"\n  {'GB of GPU memory':<36}{'resident':>9}", *(f"{card:>9}" for card in CARDS))
    models = {"T2V 14B": T2V_14B, "I2V 14B": I2V_14B, "T2V 1.3B": T2V_1_3B}
    for name, arch in models.items():
        for precision in (Precision.BF16, Precision.FP8):
            folder = tmp_path / f"{name}-{precision.value}"
            folder.mkdir()
            job = published_job(folder, arch, precision)
            for width, height in ((832, 480), (1280, 720)):
                sized = replace(job, width=width, height=height)
                _print_row(f"{name} {precision.value} {width}x{height}, 81 frames", sized)
    print("  r, c, d: the DiT, T5, CLIP and the VAE stay there, wait in RAM, are dropped")


def _print_row(name: str, job: Job) -> None:
    cells = []
    for card in CARDS:
        machine = Machine(card << 30, int(0.97 * (card << 30)), 64 << 30)
        places = fitting(job, machine)
        found = estimate(replace(job, placings=places), machine)
        short = "".join(getattr(places, n).value[0] for n in ("dit", "t5", "clip", "vae"))
        cells.append("-" if found.verdict == "too big" else short)
        assert found.verdict != "too big" or found.advice
    peak = estimate(job, ROOMY).vram_peak / 1e9
    print(f"  {name:<36}{peak:9.1f}", *(f"{cell:>9}" for cell in cells))
