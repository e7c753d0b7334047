"""The runs so far: whatever stands in their folders, they are listed and nothing fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spec.errors import EngineError
from engine.spec.events import CancelledByUser, Done, Failed, StageStarted, StepDone
from lightx2v_tui.commands.runs import table
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.presets.model import Preset, PresetError
from lightx2v_tui.runs import history
from lightx2v_tui.runs.folder import SCHEMA, RunFolder, RunRecord, new_run
from lightx2v_tui.runs.history import PastRun, as_json, past_runs, read_run

STATUSES = {"running", "done", "failed", "cancelled", "interrupted"}
KEYS = ["id", "status", "stage", "step", "steps", "output", "folder", "preset", "pid", "started",
        "seconds", "error"]  # fmt: skip
CLI = Callable[..., "subprocess.CompletedProcess[str]"]


def recorded(*events: Any, output: Path | None = None, **values: Any) -> PastRun:
    """A run whose record was kept by the app itself."""
    folder = new_run()
    preset = Preset(output=output or folder.output, **values)
    record = RunRecord(folder, preset)
    for event in events:
        record.take(event)
    run = read_run(folder.path)
    assert run is not None
    return run


def written(name: str, status: object, preset: object = None) -> Path:
    """A run folder with any status.json."""
    folder = runs_dir() / name
    folder.mkdir(parents=True)
    text = status if isinstance(status, str) else json.dumps(status)
    (folder / "status.json").write_text(text)
    if preset is not None:
        (folder / "preset.json").write_text(json.dumps(preset))
    return folder


def status(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "schema": SCHEMA, "status": "done", "stage": "decode", "step": 4, "steps": 4,
        "output": "/x/y.mp4", "pid": 1, "started": 1000.0, "seconds": 2.5, "error": None,
    }  # fmt: skip
    return {**base, **changes}


def test_no_runs_no_folder() -> None:
    assert past_runs() == []
    assert not runs_dir().exists()


def test_what_the_app_records_is_read_back() -> None:
    run = recorded(StageStarted("denoise"), StepDone(3, 4, 0.5), Done(Path("x"), 1.0),
                   model_path=Path("/models/Wan"), width=832, height=480, frames=81, seed=7,
                   prompt="a fox")  # fmt: skip
    assert (run.status, run.stage, run.step, run.steps) == ("done", "denoise", 3, 4)
    assert run.pid == os.getpid()
    assert run.facts == history.Facts("Wan", 832, 480, 81, 7, "a fox")
    assert run.output == str(run.folder / "output.mp4")
    assert run.problem == ""


@pytest.mark.parametrize(
    ("event", "expected"),
    [(CancelledByUser(), "cancelled"), (Failed(EngineError("a", "b", "c")), "failed")],
)
def test_how_a_run_ended(event: object, expected: str) -> None:
    run = recorded(event)
    assert run.status == expected
    assert run.error == ("a\nb\nc" if expected == "failed" else None)


def test_a_run_of_this_process_is_running() -> None:
    run = recorded(StageStarted("load_dit"))
    assert run.status == "running"
    assert run.took(run.when + 5) == 5


def test_a_run_whose_process_died_was_interrupted() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    folder = written("20260101-000000", status(status="running", pid=process.pid))
    run = read_run(folder)
    assert run is not None
    assert run.status == "interrupted"
    assert run.took(1e9) == 2.5


def test_another_program_with_the_same_number_is_not_the_run() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        long_ago = written("a", status(status="running", pid=process.pid, started=1000.0))
        just_now = written("b", status(status="running", pid=process.pid, started=time.time()))
        statuses = [run.status for folder in (long_ago, just_now) if (run := read_run(folder))]
        process.communicate(b"\n")
    assert statuses == ["interrupted", "running"]


def test_json_has_exactly_the_documented_keys_oldest_first() -> None:
    written("20260102-000000", status(started=2000.0))
    written("20260101-000000", status(started=3000.0))  # the clock was set back
    runs = [as_json(run) for run in past_runs()]
    assert [list(run) for run in runs] == [KEYS, KEYS]
    assert [run["started"] for run in runs] == [2000.0, 3000.0]


def test_the_newest_come_first_where_they_are_shown_while_they_are_read() -> None:
    names = ["20260101-000000", "20260101-000000-2", "20260101-000000-10", "20260102-000000"]
    for name in names:
        written(name, status())
    assert [run.id for run in history.newest_first()] == names[::-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"), ("{", "cannot be read"), ("[]", "not a JSON object"),
        ("null", "not a JSON object"), ("[" * 100_000, "cannot be read"), ("\0", "cannot be read"),
        ('{"a": "' + "x" * 1_000_001 + '"}', "too large"),
        (json.dumps(status(schema=99)), "99"), (json.dumps(status(schema=None)), "None"),
        (json.dumps(status(status="dancing")), "dancing"),
    ],
)  # fmt: skip
def test_a_broken_record_is_listed_with_its_reason(text: str, said: str) -> None:
    run = read_run(written("20260101-000000", text))
    assert run is not None
    assert said in run.problem
    assert run.status in STATUSES
    assert said in str(as_json(run)["error"])


def test_folders_of_something_else_are_no_runs() -> None:
    base = runs_dir()
    (base / "empty").mkdir(parents=True)
    (base / "a file").write_text("x")
    written("real", status())
    (base / "link").symlink_to(base / "real")
    assert [run.id for run in past_runs()] == ["real"]


def test_a_pipe_is_not_waited_for() -> None:
    folder = runs_dir() / "x"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "status.json")
    os.mkfifo(folder / "log.txt")
    run = read_run(folder)
    assert run is not None
    assert "not a file" in run.problem
    assert history.log_tail(run) == ""


def test_a_preset_alone_is_a_run_that_was_interrupted() -> None:
    folder = runs_dir() / "x"
    folder.mkdir(parents=True)
    (folder / "preset.json").write_text('{"target_width": 64, "lightx2v_tui": 5}')
    run = read_run(folder)
    assert run is not None
    assert (run.status, run.facts.width, run.facts.prompt) == ("interrupted", 64, "")
    assert run.started


FIELDS = [*status(), "host", "pid_started", "since"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(FIELDS), VALUES).map(json.dumps)
    | st.text(max_size=200)
    | st.binary(max_size=200)
)
def test_anything_at_all_in_a_record_is_survived(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    folder = tmp_path_factory.mktemp("run")
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    (folder / "status.json").write_bytes(content)
    (folder / "preset.json").write_bytes(content)
    run = read_run(folder)
    assert run is not None
    assert run.status in STATUSES
    shown = as_json(run)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    lines = list(table([run], 80, time.time()))
    assert all(line.isprintable() for line in lines)
    history.ago(run.when, time.time())


def test_a_preset_that_named_the_runs_own_folder_names_none() -> None:
    run = recorded(Done(Path("x"), 1.0), prompt="a fox")
    preset = history.preset_of(run)
    assert (preset.output, preset.prompt) == (None, "a fox")


def test_a_preset_that_named_another_place_keeps_it(tmp_path: Path) -> None:
    run = recorded(Done(Path("x"), 1.0), output=tmp_path / "fox.mp4")
    assert history.preset_of(run).output == tmp_path / "fox.mp4"


def test_a_preset_that_is_gone_is_an_error_in_words() -> None:
    run = recorded()
    run.preset.unlink()
    with pytest.raises(PresetError, match=r"preset\.json"):
        history.preset_of(run)


def test_deleting_takes_the_folder_and_nothing_elsewhere(tmp_path: Path) -> None:
    video = tmp_path / "fox.mp4"
    video.write_bytes(b"x")
    run = recorded(Done(video, 1.0), output=video)
    (run.folder / "link").symlink_to(tmp_path)
    history.delete(run)
    assert not run.folder.exists()
    assert video.exists()


def test_only_folders_of_runs_are_deleted(tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine"
    elsewhere.mkdir()
    (elsewhere / "status.json").write_text(json.dumps(status()))
    runs_dir().mkdir(parents=True)
    (runs_dir() / "link").symlink_to(elsewhere)
    for folder in (elsewhere, runs_dir() / "link", runs_dir(), runs_dir() / "gone"):
        with pytest.raises(OSError, match="not the folder of a run"):
            history.delete(PastRun(folder.name, folder))
    assert (elsewhere / "status.json").exists()


def test_the_end_of_a_long_log_is_read() -> None:
    run = recorded()
    run.log.write_bytes(b"\xff" + b"x" * 100_000 + b"\nthe end\n")
    tail = history.log_tail(run)
    assert tail.endswith("the end\n")
    assert len(tail) <= history.LOG_BYTES


def test_the_table_fits_the_width_and_stays_on_its_lines() -> None:
    failed = Failed(EngineError("it\x1b[31m broke", "why"))
    run = recorded(failed, prompt="狐狸 " * 50 + "\nx\x1b[2J", width=64, height=64, frames=5)
    for width in (20, 80, 120):
        lines = list(table([run], width, time.time()))
        assert len(lines) == 3
        assert all(line.isprintable() for line in lines)
        assert all(len(line.encode("utf-8", "replace")) <= 3 * width for line in lines)
    assert "it?[31m broke" in lines[2]


def test_the_command(lightx2v: CLI) -> None:
    assert "no runs yet" in lightx2v("runs").stdout
    assert json.loads(lightx2v("runs", "--json").stdout) == {"runs": []}
    recorded(Done(Path("x"), 1.0), prompt="a red fox")
    written("20200101-000000", "{")
    done = lightx2v("runs")
    assert done.returncode == 0
    assert "a red fox" in done.stdout
    assert "status.json cannot be read" in done.stdout
    runs = json.loads(lightx2v("runs", "--json").stdout)["runs"]
    assert {run["status"] for run in runs} == {"done", "interrupted"}
    assert RunFolder(Path(runs[-1]["folder"])).output == Path(runs[-1]["output"])
