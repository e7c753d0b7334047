"""`doctor` says what this machine can run, with a reason for each no."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from os import terminal_size
from pathlib import Path
from typing import Any

import pytest

from lightx2v_tui import paths
from lightx2v_tui.cli import main
from lightx2v_tui.commands import doctor
from lightx2v_tui.gpus import Gpu, GpuReading, Trouble
from lightx2v_tui.host import HostMemory, TorchBuild
from tests.unit.helpers import gpu

TOPICS = {
    "python", "torch", "textual", "av", "RAM", "swap", "memory limit", "models", "runs",
    "terminal", "UTF-8",
}  # fmt: skip
CARDS = (gpu((9, 0), "H100"), gpu((8, 0), "A100"))
GB = 10**9
CUDA = TorchBuild("2.13.0+cu130", (13, 0))


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def seen(found: dict[str, Any], topic: str) -> list[str]:
    return [check["seen"] for check in found["checks"] if check["topic"] == topic]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with these GPUs, this PyTorch, this memory."""

    def make(
        reading: GpuReading, build: TorchBuild = CUDA, memory: HostMemory | None = None
    ) -> None:
        monkeypatch.setattr(doctor, "read_gpus", lambda: reading)
        monkeypatch.setattr(doctor.host, "torch_build", lambda: build)
        if memory is not None:
            monkeypatch.setattr(doctor.host, "read_memory", lambda: memory)

    return make


def test_json_is_one_object_with_a_reason_for_each_no(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys)
    assert set(found) == {"gpus", "host", "checks"}
    assert found["host"].keys() >= {"total", "available", "swap_total", "limit", "cores", "torch"}
    assert {check["topic"] for check in found["checks"]} >= TOPICS
    for check in found["checks"]:
        assert set(check) == {"topic", "ok", "seen", "advice"}
        assert check["ok"] is True or check["seen"]
        assert check["ok"] is True or check["advice"]


@pytest.mark.parametrize(("columns", "width"), [(80, 80), (60, 60), (20, 60), (132, 132)])
def test_the_text_has_every_check_within_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    machine: Callable[..., None], columns: int, width: int,
) -> None:  # fmt: skip
    machine(GpuReading(CARDS, driver="580.82.07", cuda=(13, 0)))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: terminal_size((columns, 24)))
    monkeypatch.setattr(paths, "model_dirs", list)
    monkeypatch.setattr(paths, "data_dir", lambda: Path("/"))
    checks = report(capsys)["checks"]
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert len([line for line in lines if line.startswith(("ok ", "no "))]) == len(checks)
    words = " ".join(lines).split()
    for check in checks:
        said = f"{check['topic']} {check['seen']} {check['advice'] and '-> ' + check['advice']}"
        assert f" {' '.join(said.split())} " in f" {' '.join(words)} "


def test_each_gpu_says_what_it_computes(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None]
) -> None:
    machine(GpuReading(CARDS))
    found = report(capsys)
    assert [card["fp8"]["native"] for card in found["gpus"]] == [True, False]
    assert [card["recommended"]["dit"]["order"][0] for card in found["gpus"]] == ["fp8", "int8"]
    checks = [check for check in found["checks"] if check["topic"] == "  FP8"]
    assert [check["ok"] for check in checks] == [True, False]
    assert "guide" in checks[1]["seen"]
    precisions = seen(found, "  precision")
    assert [text.partition(".")[0] for text in precisions] == [
        "DiT: fp8, else int8 or bf16", "T5: fp8, else int8 or bf16",
        "CLIP: fp8, else int8 or bf16", "DiT: int8, else fp8 or bf16",
        "T5, CLIP: int8, else fp8 or bf16",
    ]  # fmt: skip
    assert seen(found, "  PyTorch") == []


def test_the_driver_and_what_it_serves_are_told(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None]
) -> None:
    machine(GpuReading(CARDS, driver="580.82.07", cuda=(13, 0)))
    found = report(capsys)
    assert seen(found, "NVIDIA driver") == ["580.82.07, for CUDA up to 13.0"]
    assert (found["host"]["driver"], found["host"]["cuda"]) == ("580.82.07", [13, 0])


def test_eight_of_a_kind_are_explained_once(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None]
) -> None:
    machine(GpuReading(tuple(replace(CARDS[0], index=index) for index in range(8))))
    found = report(capsys)
    assert [seen(found, f"GPU {index}") for index in range(8)] == [
        ["H100, 20.0 GB of 24.0 GB free"]
    ] * 8
    assert len(seen(found, "  FP8")) == 1
    assert len(found["gpus"]) == 8


def test_slices_shared_memory_and_untold_memory_are_told(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None]
) -> None:
    cards = (
        replace(CARDS[0], parent="GPU-0", note="One of two."),
        replace(CARDS[0], index=1, unified=True),
        replace(CARDS[0], index=2, total_bytes=0, used_bytes=0),
    )
    machine(GpuReading(cards))
    found = report(capsys)
    (first,) = [check for check in found["checks"] if check["topic"] == "GPU 0"]
    assert ("a MIG instance" in first["seen"], first["advice"]) == (True, "One of two.")
    assert "the machine's own memory" in seen(found, "GPU 1")[0]
    assert seen(found, "GPU 2") == ["H100, its memory is not told"]
    assert [card["mig"] for card in found["gpus"]] == [True, False, False]


@pytest.mark.parametrize(
    ("card", "build", "said"),
    [
        (CARDS[0], TorchBuild("2.13.0+cpu"), "built for the CPU only"),
        (CARDS[0], TorchBuild("2.13.0+rocm7.2", None, "7.2"), "built for ROCm"),
        (gpu((7, 0), "V100"), CUDA, "built for CUDA 13.0"),
    ],
)
def test_a_pytorch_that_cannot_use_the_gpu_is_a_no_with_what_to_install(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None], card: Gpu,
    build: TorchBuild, said: str,
) -> None:  # fmt: skip
    machine(GpuReading((card,)), build)
    found = report(capsys)
    (check,) = [check for check in found["checks"] if check["topic"] == "  PyTorch"]
    assert not check["ok"]
    assert "pip install" in check["advice"]
    assert said in seen(found, "torch")[0]


def test_what_is_wrong_with_some_gpus_is_told_beside_the_others(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None]
) -> None:
    machine(GpuReading(CARDS, troubles=(Trouble("GPU 2 does not answer", "Restart it."),)))
    (check,) = [check for check in report(capsys)["checks"] if check["topic"] == "GPUs"]
    assert check == {
        "topic": "GPUs", "ok": False, "seen": "GPU 2 does not answer", "advice": "Restart it.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (HostMemory(64 * GB, 32 * GB, 0, 8 * GB, 6 * GB), ["6.0 GB of 8.0 GB free", "none"]),
        (
            HostMemory(10 * GB, 5 * GB, 0, limit=10 * GB),
            ["none", "10.0 GB, of this container or service"],
        ),
    ],
)
def test_swap_and_the_limit_of_a_container_are_told(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None], memory: HostMemory,
    expected: list[str],
) -> None:  # fmt: skip
    machine(GpuReading(problem="no NVIDIA GPU found", advice="None."), memory=memory)
    found = report(capsys)
    assert [*seen(found, "swap"), *seen(found, "memory limit")] == expected
    assert found["host"]["limit"] == memory.limit


def test_no_gpu_is_a_no_with_advice_and_what_suits_the_cpu(
    capsys: pytest.CaptureFixture[str], machine: Callable[..., None]
) -> None:
    machine(GpuReading(problem="this is an AMD GPU", advice="Use the CPU."))
    found = report(capsys)
    assert found["gpus"] == []
    assert found["checks"][0] == {
        "topic": "GPU", "ok": False, "seen": "this is an AMD GPU", "advice": "Use the CPU.",
    }  # fmt: skip
    (precision,) = seen(found, "  precision")
    assert precision.startswith("DiT, T5, CLIP: bf16, else int8 or fp8. On a CPU")


@pytest.mark.parametrize("term", ["", "dumb", "xterm-256color"])
def test_a_poor_terminal_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    (check,) = [check for check in report(capsys)["checks"] if check["topic"] == "terminal"]
    assert check["ok"] is (term == "xterm-256color")


def test_nothing_is_created_by_asking(capsys: pytest.CaptureFixture[str], own_home: Path) -> None:
    report(capsys)
    assert list(own_home.iterdir()) == []


def test_a_folder_that_was_deleted_under_the_shell_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["doctor"]) == 0
    assert main(["scan", "--json"]) == 0
    assert capsys.readouterr().out


def test_a_home_of_nobody_in_the_environment_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "~nosuchuser-x/hf")
    assert paths.model_dirs()
