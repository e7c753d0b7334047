"""The forecast says in words and figures whether a run fits, and `--dry-run` tells it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.job import Placing, Placings
from engine.spec.precision import Precision
from lightx2v_tui.catalog import inspect_roots
from lightx2v_tui.cli import main
from lightx2v_tui.commands import run
from lightx2v_tui.gpus import GpuReading
from lightx2v_tui.host import HostMemory
from lightx2v_tui.launch import choices, jobs
from lightx2v_tui.launch.forecast import Forecast, Held, foresee, machine_of
from lightx2v_tui.launch.jobs import Options
from lightx2v_tui.presets import Preset, save
from lightx2v_tui.units import size
from tests.unit import published
from tests.unit.helpers import gpu

GB = 10**9
HOST = HostMemory(total=64 * GB, available=48 * GB, process=GB // 10)


def demo_preset(demo_model: Path) -> Preset:
    (root,) = inspect_roots(demo_model)
    preset = choices.preset_for(root, choices.recommended(root, None))
    return replace(preset, width=256, height=160, frames=17)


def forecast(preset: Preset, host: HostMemory = HOST) -> Forecast:
    machine = machine_of(None, host)
    return foresee(jobs.plan(preset, Options(), Path("x.mp4"), None, machine).job, machine)


def test_what_the_engine_holds_is_free_for_its_next_run() -> None:
    card = replace(gpu((9, 0)), total_bytes=80 * GB, used_bytes=50 * GB)
    machine = machine_of(card, HOST, Held(vram=40 * GB, ram=5 * GB))
    assert (machine.vram_total, machine.vram_free) == (80 * GB, 70 * GB)
    assert machine.ram_available == 53 * GB
    assert machine.ram_process == 0
    assert not machine.has_engine
    assert machine_of(None, HOST, Held(engine=True)).has_engine
    assert machine.capability == (9, 0)


def test_a_demo_run_fits_any_machine(demo_model: Path) -> None:
    told = forecast(demo_preset(demo_model))
    assert told.fits
    (line,) = told.lines()
    assert "RAM" in line
    assert line.endswith(": fits")
    assert "VRAM" not in line
    json.dumps(told.as_json())


def test_what_does_not_fit_says_what_would(demo_model: Path) -> None:
    told = forecast(replace(demo_preset(demo_model), width=1280, height=720, frames=81),
                    replace(HOST, available=GB))  # fmt: skip
    assert not told.fits
    line, *advice = told.lines()
    assert "does not fit" in line
    assert advice


def test_on_a_card_too_small_for_all_the_encoders_wait_in_ram(tmp_path: Path) -> None:
    card = replace(gpu((8, 9), "RTX 4090"), total_bytes=24 * GB, used_bytes=0)
    machine = machine_of(card, HOST)
    job = published.published_job(tmp_path, published.T2V_14B, Precision.FP8)
    told = foresee(job, machine)
    placings = told.estimate.placings
    assert placings.t5 is Placing.CPU
    assert placings.dit is Placing.RESIDENT
    fitted = foresee(replace(job, placings=placings), machine)
    assert fitted.fits
    assert "fits with offload (" in fitted.line()
    assert "T5" in fitted.line()


def test_a_preset_that_names_its_offload_keeps_it(demo_model: Path) -> None:
    preset = replace(demo_preset(demo_model), unload_modules=True)
    machine = machine_of(None, HOST)
    job = jobs.plan(preset, Options(), Path("x.mp4"), None, machine).job
    assert job.placings.dit is Placing.DROP
    free = jobs.plan(demo_preset(demo_model), Options(), Path("x.mp4"), None, machine).job
    assert free.placings.dit is Placing.RESIDENT


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_tells_the_forecast(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    save(demo_preset(demo_model), tmp_path / "p.json")
    options = ["--progress", "json"] if as_json else []
    assert main(["run", str(tmp_path / "p.json"), "--dry-run", "--device", "cpu", *options]) == 0
    out = capsys.readouterr().out
    if as_json:
        told = json.loads(out)["estimate"]
        assert told["verdict"] == "fits"
        assert told["ram_peak"] > 100_000_000
        assert told["stages"][0]["name"] == "load_t5"
        assert told["placings"]["dit"] == "resident"
    else:
        (line,) = (line for line in out.splitlines() if line.startswith("memory"))
        assert line.endswith(": fits")


def test_no_more_is_free_than_a_gpu_has() -> None:
    card = replace(gpu((9, 0)), total_bytes=80 * GB, used_bytes=10 * GB)
    assert machine_of(card, HOST, Held(vram=40 * GB)).vram_free == 80 * GB


def test_the_line_shows_what_the_verdict_compares(tmp_path: Path) -> None:
    """Pages of files, and what the process holds already, need not be available."""
    job = replace(published.published_job(tmp_path, published.T2V_14B, Precision.FP8), device="cpu")
    roomy = foresee(job, machine_of(None, replace(HOST, available=1000 * GB, process=GB)))
    needed = roomy.estimate.ram_needed
    assert needed < roomy.estimate.ram_peak
    assert roomy.as_json()["ram_needed"] == needed
    for available, fits in ((needed, True), (needed - 1, False)):
        told = foresee(job, machine_of(None, replace(HOST, available=available, process=GB)))
        assert told.fits is fits
        assert told.estimate.ram_needed == needed
    assert f"RAM {size(needed)} of 1" in roomy.line()


CARDS = (
    replace(gpu((9, 0), "H100"), total_bytes=80 * GB, used_bytes=0),
    replace(gpu((7, 5), "T4"), index=1, total_bytes=16 * GB, used_bytes=GB),
)


def dry_run(
    path: Path, device: str, capsys: pytest.CaptureFixture[str], code: int = 0
) -> tuple[str, str]:
    arguments = ["run", str(path), "--dry-run", "--progress", "json", "--device", device]
    assert main(arguments) == code
    return capsys.readouterr()


def test_each_device_is_planned_on_its_own_memory(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(run, "read_gpus", lambda: GpuReading(CARDS))
    path = tmp_path / "p.json"
    save(demo_preset(demo_model), path)
    for device, free, capability, dtype in (
        ("cuda", 80 * GB, [9, 0], "bfloat16"), ("cuda:0", 80 * GB, [9, 0], "bfloat16"),
        ("cuda:1", 15 * GB, [7, 5], "float16"), ("cpu", 0, None, "bfloat16"),
    ):  # fmt: skip
        told = json.loads(dry_run(path, device, capsys)[0])
        machine = told["estimate"]["machine"]
        assert (machine["vram_free"], machine["capability"]) == (free, capability)
        assert told["device"] == f"{device}, {dtype}"
    assert "there are 2 CUDA devices" in dry_run(path, "cuda:2", capsys, 1)[1]
    assert "no device cuda:" in dry_run(path, "cuda:", capsys, 2)[1]


def test_without_a_gpu_a_dry_run_on_one_says_so(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(run, "read_gpus", lambda: GpuReading(problem="no NVIDIA GPU found"))
    path = tmp_path / "p.json"
    save(demo_preset(demo_model), path)
    out, err = dry_run(path, "cuda", capsys, 1)
    assert out == ""
    assert err.splitlines()[:2] == ["Cannot run on cuda", "no NVIDIA GPU found"]
    job = jobs.plan(demo_preset(demo_model), Options("cuda"), Path("x.mp4")).job
    assert not foresee(job, machine_of(None, HOST)).fits


def test_what_is_unloaded_is_not_said_to_wait_in_ram(demo_model: Path, tmp_path: Path) -> None:
    assert forecast(replace(demo_preset(demo_model), unload_modules=True)).offload() == (
        "DiT, T5, VAE unloaded after use"
    )
    assert forecast(demo_preset(demo_model)).offload() == ""
    job = published.published_job(tmp_path, published.T2V_14B, Precision.FP8)
    mixed = replace(job, placings=Placings(Placing.RESIDENT, Placing.CPU, vae=Placing.DROP))
    told = foresee(mixed, machine_of(CARDS[0], HOST))
    assert told.offload() == "T5 in RAM, VAE unloaded after use"
    assert told.line().endswith("fits with offload (T5 in RAM, VAE unloaded after use)")
