"""The forecast says in words and figures whether a run fits, and `--dry-run` tells it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.job import Placing
from engine.spec.precision import Precision
from lightx2v_tui import choices, jobs
from lightx2v_tui.catalog import inspect_roots
from lightx2v_tui.cli import main
from lightx2v_tui.forecast import Forecast, Held, foresee, machine_of
from lightx2v_tui.host import HostMemory
from lightx2v_tui.jobs import Options
from lightx2v_tui.presets import Preset, save
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
