"""What an app sees of other runs: which go on elsewhere, and which ended early and can go on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.events import (
    Attempt,
    CancelledByUser,
    Done,
    Failed,
    FrameDone,
    Noted,
    StageStarted,
    StepDone,
    Waiting,
)
from lightx2v_tui.runs import surroundings
from lightx2v_tui.runs.folder import RunFolder
from lightx2v_tui.runs.history import PastRun, read_run
from lightx2v_tui.runs.surroundings import Memory, Surroundings, keep, memory_path, recall
from lightx2v_tui.runs.tracker import Tracker
from lightx2v_tui.runs.watching import ending_of, facts_of, how_far, in_short, view_of
from tests.unit.test_history import recorded, status, written


def ended_early(name: str, how: str = "interrupted", **changes: object) -> Path:
    """A run that has a checkpoint."""
    folder = written(name, status(status=how, step=3, **changes))
    RunFolder(folder).checkpoint.touch()
    return folder


def test_a_run_of_another_process_is_seen_and_the_own_one_is_not() -> None:
    recorded(StageStarted("load_dit"))
    started = time.time()
    other = written("20260102-000000", status(status="running", pid=os.getppid(), started=started))
    assert [run.folder for run in Surroundings().look().running] == [other]


def test_what_ended_early_is_offered_until_it_is_dismissed() -> None:
    first, second = ended_early("20260101-000000"), ended_early("20260102-000000", "cancelled")
    ended_early("20260103-000000", "done")
    written("20260104-000000", status(status="interrupted"))  # nothing was kept
    around = Surroundings()
    glimpse = around.look()
    assert [run.folder for run in glimpse.early] == [second, first]
    assert [run.folder for run in glimpse.fresh] == [first]
    around.dismiss([second.name])
    assert [run.folder for run in around.look().early] == [first]
    assert [run.folder for run in Surroundings().look().early] == [first]


def test_only_what_was_interrupted_since_the_last_offer_is_asked_about() -> None:
    old = ended_early("20260101-000000")
    os.utime(old / "status.json", (1e9, 1e9))
    assert [run.folder for run in Surroundings().look().fresh] == [old]
    around = Surroundings()  # the start before had no occasion to offer it
    assert [run.folder for run in around.look().fresh] == [old]
    around.offered()
    assert Surroundings().look().fresh == ()
    new = ended_early("20260102-000000")
    os.utime(new / "status.json", (time.time() + 9,) * 2)
    glimpse = Surroundings().look()
    assert [run.folder for run in glimpse.early] == [new, old]
    assert [run.folder for run in glimpse.fresh] == [new]


def test_what_has_not_changed_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ended_early("20260101-000000")
    around = Surroundings()
    before = around.look()
    read: list[Path] = []

    def counted(path: Path) -> PastRun | None:
        read.append(path)
        return read_run(path)

    monkeypatch.setattr(surroundings.history, "read_run", counted)
    assert around.look() == before
    assert read == []
    (folder / "status.json").write_text(json.dumps(status(status="done")))
    os.utime(folder / "status.json", (5, 5))
    assert around.look().early == ()
    assert read == [folder]


def test_what_is_dismissed_is_forgotten_with_its_folder() -> None:
    folder = ended_early("20260101-000000")
    around = Surroundings()
    around.look()
    around.dismiss([folder.name])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    other = ended_early("20260102-000000")
    around.look()
    around.dismiss([other.name])
    assert recall().dismissed == (other.name,)


VALUES = st.one_of(
    st.none(), st.text(), st.integers(), st.lists(st.text()), st.floats(), st.just([[]])
)
TABLES = st.dictionaries(st.sampled_from(["started", "dismissed", "x"]), VALUES)
CONTENTS = st.one_of(
    st.binary(max_size=60),
    st.just(b"[" * 100_000),
    TABLES.map(lambda table: json.dumps(table).encode()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(CONTENTS)
def test_whatever_stands_in_the_memory_nothing_fails(content: bytes) -> None:
    memory_path().parent.mkdir(parents=True, exist_ok=True)
    memory_path().write_bytes(content)
    assert isinstance(recall(), Memory)


def test_a_memory_that_cannot_be_written_stops_nothing(own_home: Path) -> None:
    (own_home / "data").write_text("")
    keep(Memory(1.0, ("a",)))
    assert Surroundings().look().early == ()


def test_a_record_looks_as_its_events_would() -> None:
    run = recorded(
        StageStarted("prepare"), StageStarted("load_dit", 10), StageStarted("denoise", 4),
        StepDone(1, 4, 9.0), StepDone(2, 4, 0.5), width=64, height=64, frames=5, seed=7,
        prompt="a fox",
    )  # fmt: skip
    view = view_of(run, 100.0 - time.time())
    assert view.current is not None
    assert (view.current.name, view.current.done, view.current.total) == ("denoise", 2, 4)
    assert view.seconds_per_step == 0.5
    assert view.remaining(100.0) == 1.0
    assert view.total(100.0) < 50
    assert [s.name for s in view.stages if s.ended is not None] == ["prepare", "load_dit"]
    assert view.terminal is None
    assert list(facts_of(run)) == ["64x64, 5 frames", "seed 7", "a fox"]
    assert in_short(run) == "64x64, 5 frames, step 2 of 4"


def test_steps_stay_told_while_frames_are_counted_and_what_it_waits_for() -> None:
    run = recorded(StageStarted("denoise", 4), StepDone(4, 4, 0.5), StageStarted("decode", 5),
                   Noted("something"), Waiting("no room"))  # fmt: skip
    view = view_of(run, 0.0)
    assert view.waiting == "no room"
    assert any("something" in note for note in view.notes)
    denoise = next(stage for stage in view.stages if stage.name == "denoise")
    assert (denoise.done, denoise.total) == (4, 4)
    run = recorded(Waiting("no room"), StageStarted("decode", 5), FrameDone(1, 5))
    assert view_of(run, 0.0).waiting == ""


@pytest.mark.parametrize(
    ("event", "kind"), [(Done(Path("x"), 1.0), Done), (CancelledByUser(), CancelledByUser)]
)
def test_how_it_ended(event: object, kind: type) -> None:
    run = recorded(StageStarted("decode", 5), event)
    assert isinstance(ending_of(run), kind)
    view = view_of(run, 0.0)
    assert view.current is None
    assert view.stages[-1].broken_off == (kind is not Done)


def test_a_run_whose_process_died_was_interrupted() -> None:
    run = read_run(ended_early("20260101-000000"))
    assert run is not None
    ending = ending_of(run)
    assert isinstance(ending, Failed)
    assert "interrupted" in ending.error.what
    assert how_far(run) == "step 3 of 4"


def test_another_attempt_begins_with_the_first_stage() -> None:
    tracker = Tracker(clock=lambda: 1.0)
    for event in (StageStarted("denoise", 4), StepDone(1, 4, 1.0), Attempt(2, "encoders in RAM")):
        tracker.take(event)
    assert tracker.view.steps == ()
    assert all(stage.started is None for stage in tracker.view.stages)
    assert "encoders in RAM" in tracker.view.notes[-1]
    tracker.take(Waiting("no room"))
    assert tracker.view.waiting == "no room"
    tracker.take(StageStarted("prepare"))
    assert tracker.view.waiting == ""
