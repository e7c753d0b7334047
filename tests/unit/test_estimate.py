"""Estimates from headers alone: verdicts, offload and advice, on the published sizes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from engine.spec.architecture import DitArchitecture
from engine.spec.errors import CheckpointError
from engine.spec.estimate import ON_CPU, ON_GPU, Machine, estimate, fitting
from engine.spec.footprint import footprint
from engine.spec.job import Guidance, Job, Lora, Placing, Placings, Previews, UniPC
from engine.spec.memory import needs, vram_needed
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from tests.unit.published import I2V_14B, T2V_1_3B, T2V_14B, published_job, with_tiny_vae

GIB = 1 << 30
R, C, D = Placing.RESIDENT, Placing.CPU, Placing.DROP
Make = Callable[..., Job]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Jobs on sparse files of the published sizes."""

    @cache
    def written(arch: DitArchitecture, precision: Precision) -> Job:
        return published_job(tmp_path_factory.mktemp("model"), arch, precision)

    def job(arch: DitArchitecture = T2V_14B, precision: Precision = Precision.BF16,
            **changes: object) -> Job:  # fmt: skip
        return replace(written(arch, precision), **changes)  # type: ignore[arg-type]

    return job


def card(gigabytes: float, ram: float = 64) -> Machine:
    return Machine(int(gigabytes * GIB), int(gigabytes * 0.97 * GIB), int(ram * GIB))


def verdict(job: Job, machine: Machine) -> str:
    """The verdict with the offload that is proposed."""
    return estimate(replace(job, placings=fitting(job, machine)), machine).verdict


def test_weights_are_as_heavy_as_they_are_published(make: Make) -> None:
    job = make()
    assert 28e9 < footprint("dit", job.dit).read < 29e9
    assert 11e9 < footprint("t5", job.t5).read < 12e9
    fp8 = make(precision=Precision.FP8)
    assert 14e9 < footprint("dit", fp8.dit).read < 15e9
    assert 6e9 < footprint("t5", fp8.t5).read < 7e9
    assert 32e9 < footprint("dit", make(I2V_14B).dit).read < 33e9


def test_verdicts_of_published_sizes(make: Make) -> None:
    full, eight = make(), make(precision=Precision.FP8)
    assert verdict(full, card(80)) == "fits"
    assert verdict(full, card(24)) == "too big"  # 28.6 GB of weights
    assert verdict(eight, card(24)) == "offload"
    assert verdict(eight, card(48)) == "fits"
    small = make(T2V_1_3B, Precision.FP8)
    assert verdict(small, card(24)) == "fits"
    assert verdict(small, card(8)) == "offload"


@pytest.mark.parametrize("arch", [T2V_14B, T2V_1_3B, I2V_14B], ids=["14B", "1.3B", "I2V"])
@pytest.mark.parametrize("vram", [0.5, 2, 4, 6, 7.9, 12, 16, 24])
@pytest.mark.parametrize("ram", [2, 8, 15, 64])
def test_no_machine_is_too_small_for_an_answer(
    arch: DitArchitecture, vram: float, ram: float, make: Make
) -> None:
    for precision in (Precision.BF16, Precision.FP8):
        machine = card(vram, ram)
        found = estimate(make(arch, precision), machine)
        if found.verdict == "too big":
            assert found.advice
            assert all(re.search(r"\d GB", line) for line in found.advice), found.advice
        else:
            assert not found.advice
            assert found.vram_needed <= machine.vram_free


def test_advice_is_checked_and_says_what_it_takes(make: Make) -> None:
    advice = estimate(make(T2V_1_3B), card(8)).advice
    assert advice[0].startswith("FP8 weights of T5; ")
    assert "waiting in RAM" in advice[0]
    assert estimate(make(), card(48)).verdict == "fits"
    offload = estimate(make(width=1280, height=720), card(48)).advice
    assert offload[0].startswith("T5 waiting in RAM: ")
    assert "INT8" in " ".join(estimate(make(), replace(card(24, 16), capability=(8, 6))).advice)
    nothing = estimate(make(), card(4, 8)).advice
    assert len(nothing) == 1
    assert "Use a smaller model, or a GPU of " in nothing[0]
    slow = estimate(make(), card(8, 64)).advice
    assert slow[0].startswith("`--device cpu`")


def test_advice_on_a_cpu_is_about_ram(make: Make) -> None:
    job = make(T2V_1_3B, device="cpu")
    assert estimate(job, Machine(0, 0, 64 * GIB)).verdict == "fits"
    found = estimate(job, Machine(0, 0, 12 * GIB))
    assert found.verdict == "too big"
    assert all("GPU" not in line for line in found.advice)
    assert "more RAM" in estimate(job, Machine(0, 0, GIB)).advice[0]
    assert found.vram_peak == found.vram_needed == 0
    assert all(stage.vram == 0 for stage in found.stages)


def test_offload_grows_as_the_card_shrinks(make: Make) -> None:
    for job in (make(precision=Precision.FP8), make(I2V_14B, Precision.FP8), make(T2V_1_3B)):
        rungs = [ON_GPU.index(fitting(job, card(size))) for size in (96, 48, 32, 24, 16, 12, 8)]
        assert rungs == sorted(rungs)
        assert rungs[0] == 0
        assert fitting(job, card(1)) == Placings(D, D, D, D)


def test_dropping_is_for_machines_without_ram_to_spare(make: Make) -> None:
    job = make(precision=Precision.FP8)
    assert fitting(job, card(24, ram=64)).t5 is C
    assert fitting(job, card(24, ram=7)).t5 is D
    cpu = replace(make(T2V_1_3B), device="cpu")
    assert [fitting(cpu, Machine(0, 0, int(ram * GIB))) for ram in (64, 1)] == [
        ON_CPU[0], ON_CPU[-1],
    ]  # fmt: skip


def test_offload_proposed_is_enough_for_the_next_prompt(make: Make) -> None:
    """T5 comes back to the device while the DiT is still there."""
    job = make(width=1280, height=720)
    walk = needs(replace(job, placings=Placings(R, C, C, R)), card(48))
    assert walk.next_vram > footprint("dit", job.dit).read + footprint("t5", job.t5).read
    for size in (24, 32, 40, 48):
        machine = card(size)
        chosen = replace(make(precision=Precision.FP8), placings=ON_GPU[0])
        placings = fitting(chosen, machine)
        again = needs(replace(chosen, placings=placings), machine).next_vram
        assert vram_needed(again) <= machine.vram_free


def test_more_of_anything_takes_more(make: Make) -> None:
    job, machine = make(precision=Precision.FP8), card(80)
    peak = estimate(job, machine).vram_peak
    for change in (
        {"width": 1280, "height": 720}, {"frames": 161}, {"compute_dtype": ComputeDtype.FLOAT32},
        {"guidance": Guidance(5.0, batched=True)},
    ):  # fmt: skip
        more = estimate(replace(job, **change), machine).vram_peak  # type: ignore[arg-type]
        assert more > peak, change
    placed = replace(job, placings=Placings(C, C, C, C))
    assert estimate(placed, machine).vram_peak < peak
    assert estimate(placed, machine).ram_peak > estimate(job, machine).ram_peak
    assert estimate(placed, machine).offloaded == ("dit", "t5", "vae")


def test_the_tiny_vae_decodes_in_less(make: Make, tmp_path: Path) -> None:
    job = replace(make(T2V_1_3B), placings=Placings(D, D, D, R), width=1280, height=720)
    full, tiny = (estimate(each, card(80)) for each in (job, with_tiny_vae(job, tmp_path)))
    decode = [{stage.name: stage.vram for stage in each.stages}["decode"] for each in (full, tiny)]
    assert decode[0] > 4 * decode[1]


def test_a_gpu_without_fp8_dequantizes(make: Make) -> None:
    job, machine = make(precision=Precision.FP8, width=1280, height=720), card(80)
    peaks = [
        estimate(job, replace(machine, capability=capability)).vram_peak
        for capability in ((8, 0), (9, 0), (8, 9))
    ]
    dequant = estimate(replace(job, quant_compute=QuantCompute.DEQUANT), machine).vram_peak
    assert peaks[0] == dequant
    assert peaks[0] < peaks[1] < peaks[2]


def test_stages_are_those_of_the_run(make: Make) -> None:
    names = [stage.name for stage in estimate(make(), card(80)).stages]
    assert names == ["load_t5", "encode_text", "load_dit", "denoise", "load_vae", "decode"]
    names = [stage.name for stage in estimate(make(I2V_14B), card(80)).stages]
    assert names[2:4] == ["load_clip", "encode_image"]


def test_odd_but_valid_jobs_have_an_estimate(make: Make, tmp_path: Path) -> None:
    job, machine = make(), card(80)
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes(bytes(1000))
    for change in (
        {"width": 16, "height": 16, "frames": 1}, {"width": 8192, "height": 8192, "frames": 1001},
        {"prompt": ""}, {"schedule": UniPC(1000), "save_tensors": tmp_path / "t.safetensors"},
        {"tiling": True}, {"tiny_vae": True}, {"compute_dtype": ComputeDtype.FLOAT16},
        {"loras": (Lora(lora),), "device": "cuda:1"},
    ):  # fmt: skip
        found = estimate(replace(job, **change), machine)  # type: ignore[arg-type]
        assert found.ram_peak > 0
        assert found.vram_peak > 0


def test_files_that_changed_are_read_again(tmp_path: Path) -> None:
    job, machine = published_job(tmp_path, T2V_1_3B, Precision.FP8), card(80)
    before = estimate(job, machine)
    assert estimate(job, machine) == before
    path = job.t5.files[0]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="truncated"):
        estimate(job, machine)
    path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        estimate(job, machine)


def test_estimating_imports_no_torch() -> None:
    code = "import sys, engine.spec.estimate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("arch", [T2V_14B, T2V_1_3B], ids=["14B", "1.3B"])
def test_previews_of_a_tiny_vae_take_little(
    arch: DitArchitecture, make: Make, tmp_path: Path
) -> None:
    """Their frames are smaller than what the DiT needs in a forward: only weights are added."""
    job = make(arch, Precision.FP8, device="cuda:0")
    tiny = with_tiny_vae(job, tmp_path).vae
    shown = replace(job, preview=Previews.TINY_VAE, preview_vae=tiny)
    plain, more = estimate(job, card(80)), estimate(shown, card(80))
    added = footprint("vae", tiny).kept(2)
    assert 0 < added < 60e6
    before, after = ({s.name: s.vram for s in each.stages} for each in (plain, more))
    assert after["denoise"] == before["denoise"] + added
    assert after["decode"] - before["decode"] in (0, added)
    assert more.disk_read > plain.disk_read
