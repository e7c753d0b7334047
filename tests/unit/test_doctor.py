"""`doctor` says what this machine can run, with a reason for each no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightx2v_tui import paths
from lightx2v_tui.cli import main
from lightx2v_tui.commands import doctor
from lightx2v_tui.gpus import GpuReading
from tests.unit.helpers import gpu

TOPICS = {"python", "torch", "textual", "av", "RAM", "models", "runs", "terminal", "UTF-8"}


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, object]]]:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_json_is_one_object_with_a_reason_for_each_no(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys)
    assert set(found) == {"gpus", "checks"}
    assert {check["topic"] for check in found["checks"]} >= TOPICS
    for check in found["checks"]:
        assert set(check) == {"topic", "ok", "seen", "advice"}
        assert check["ok"] is True or check["seen"]
        assert check["ok"] is True or check["advice"]


def test_the_text_has_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    checks = report(capsys)["checks"]
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("ok ", "no "))] != []
    assert len(lines) == len(checks) + sum(bool(check["advice"]) for check in checks)
    assert any("torch" in line and line.startswith("ok") for line in lines)


def test_each_gpu_says_what_it_computes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = (gpu((9, 0), "H100"), gpu((8, 0), "A100"))
    monkeypatch.setattr(doctor, "read_gpus", lambda: GpuReading(cards))
    found = report(capsys)
    fp8 = [card["fp8"] for card in found["gpus"]]
    assert [entry["native"] for entry in fp8 if isinstance(entry, dict)] == [True, False]
    checks = [check for check in found["checks"] if check["topic"] == "  FP8"]
    assert [check["ok"] for check in checks] == [True, False]
    assert "guide" in str(checks[1]["seen"])


@pytest.mark.usefixtures("own_home")
def test_no_gpu_is_a_no_with_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "read_gpus", lambda: GpuReading(problem="no GPU found"))
    found = report(capsys)
    assert found["gpus"] == []
    assert found["checks"][0] == {
        "topic": "GPU",
        "ok": False,
        "seen": "no GPU found",
        "advice": found["checks"][0]["advice"],
    }
    assert "CPU" in str(found["checks"][0]["advice"])


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
