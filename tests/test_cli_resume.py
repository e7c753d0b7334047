"""`run` again: going on with a run, too little RAM, and a device that somebody else uses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cli_run import Run, events_of, frames_of, make_preset, refused, tree


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks on one thread: other tests run beside these."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def preset(lightx2v: Run, demo_model: Path, tmp_path: Path) -> Path:
    return make_preset(lightx2v, demo_model, tmp_path / "preset.json")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def recorded(tmp_path: Path) -> Path:
    """The folder of the only run so far."""
    (folder,) = (tmp_path / "home" / "data" / "lightx2v-tui" / "runs").iterdir()
    return folder


def test_going_on_with_what_cannot_be(
    lightx2v: Run, preset: Path, out: Path, tmp_path: Path
) -> None:
    refused(lightx2v("run", "--resume", "20200101-000000"), 2, "20200101-000000", "runs")
    done = lightx2v("run", preset, "--output", out / "a.mp4", "--progress", "none")
    assert done.returncode == 0, done.stderr
    folder = recorded(tmp_path)
    refused(lightx2v("run", "--resume", folder.name), 2, "is done", str(out / "a.mp4"))
    refused(lightx2v("run", "--resume", folder, "--seed", "4"), 2, "--seed", "another video")
    refused(lightx2v("run", "--resume", folder, "--quant-compute", "auto"), 2, "--quant-compute")


def test_going_on_with_another_output_and_what_it_would_do(
    lightx2v: Run, preset: Path, out: Path, tmp_path: Path
) -> None:
    failed = lightx2v("run", preset, "--save-tensors", preset / "x", "--progress", "none",
                      "--set", "use_tiling_vae=true")  # fmt: skip
    assert failed.returncode == 1, failed.stderr
    folder = recorded(tmp_path)
    status = json.loads((folder / "status.json").read_text())
    assert status["status"] == "failed"
    status["options"]["save_tensors"] = None
    (folder / "status.json").write_text(json.dumps(status))
    before = tree(folder)
    said = lightx2v("run", "--resume", folder.name, "--dry-run", "--progress", "json")
    assert json.loads(said.stdout)["size"] == "96x64, 5 frames at 16 fps"
    assert tree(folder) == before
    refused(lightx2v("run", "--resume", folder.name, "--set", "seed=9"), 2, "seed")
    arguments = ("--output", out / "b.mp4", "--set", "use_tiny_vae=true", "--progress", "json")
    done = lightx2v("run", preset, "--resume", folder.name, *arguments)
    assert done.returncode == 0, done.stderr
    assert "is not read" in done.stderr
    assert events_of(done.stdout)[-1]["path"] == str(out / "b.mp4")
    assert frames_of(out / "b.mp4") == [(96, 64)] * 5
    (listed,) = json.loads(lightx2v("runs", "--json").stdout)["runs"]
    assert (listed["status"], listed["output"]) == ("done", str(out / "b.mp4"))


def limited(gigabytes: float) -> str:
    """A run of the command line on a machine that has less RAM than it has."""
    return (
        "import sys; from dataclasses import replace; from lightx2v_tui import host;"
        "from lightx2v_tui.commands import run; from lightx2v_tui.cli import main;"
        "read = host.read_memory;"
        f"run.read_memory = lambda: replace(read(), available=int({gigabytes} * 1e9), swap_free=0);"
        "sys.exit(main(sys.argv[1:]))"
    )


def test_too_little_ram_is_refused_with_figures_unless_forced(
    preset: Path, out: Path, tmp_path: Path
) -> None:
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = ("run", preset, "--output", out / "a.mp4", "--device", "cpu", *more)
        command = [sys.executable, "-c", limited(0.01), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=out, check=False)

    refused(run("--progress", "json"), 1, "of RAM", "10.0 MB are free", "--force")
    assert list(out.iterdir()) == []
    assert not (tmp_path / "home" / "data").exists()
    forced = run("--force", "--progress", "none")
    assert forced.returncode == 0, forced.stderr
    assert "10.0 MB are free" in forced.stderr
    assert frames_of(out / "a.mp4") == [(96, 64)] * 5


HOLDER = """
import sys
from lightx2v_tui.runs.device_lock import Device, DeviceLock
lock = DeviceLock(Device("cpu", "The CPU"))
lock.take("20260101-120000")
print("held", flush=True)
input()
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that computes on the CPU."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_two_runs_on_the_cpu_are_slow_and_no_more(
    holder: subprocess.Popen[bytes], lightx2v: Run, preset: Path, out: Path
) -> None:
    arguments = ("--output", out / "a.mp4", "--device", "cpu", "--progress", "json")
    done = lightx2v("run", preset, *arguments)
    assert done.returncode == 0, done.stderr
    (note,) = (event for event in events_of(done.stdout) if event["event"] == "note")
    assert f"run 20260101-120000 of process {holder.pid}" in str(note["text"])


@pytest.mark.parametrize("cancel", [False, True])
def test_a_run_waits_for_the_device(
    cancel: bool, holder: subprocess.Popen[bytes], preset: Path, out: Path, tmp_path: Path
) -> None:
    arguments = ("run", preset, "--output", out / "a.mp4", "--device", "cpu", "--wait",
                 "--progress", "json")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "lightx2v_tui", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=out,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    assert f"process {holder.pid}" in json.loads(first)["reason"]
    assert not (tmp_path / "home/data/lightx2v-tui/runs").exists()
    if cancel:
        process.send_signal(signal.SIGINT)
    else:
        holder.kill()
    stdout, stderr = process.communicate(timeout=60)
    events = events_of(first + stdout)
    assert events[-1]["event"] == ("cancelled" if cancel else "done"), stderr
    assert process.returncode == (130 if cancel else 0)
    assert (out / "a.mp4").exists() is not cancel
    assert "Traceback" not in stderr
