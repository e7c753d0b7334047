"""One run at a time, the line behind it, and no way to lose a run or its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.spec.errors import EngineError
from engine.spec.events import CancelledByUser, Done, Event, StageStarted
from engine.spec.job import Job
from lightx2v_tui.demo import demo_preset
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.forecast import Held
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.runs import launcher
from lightx2v_tui.runs.folder import RunFolder, RunRecord
from lightx2v_tui.runs.launcher import Launcher

SMALL = ("target_width=64", "target_height=64", "target_video_length=5")
Events = Callable[[Event], None]


@pytest.fixture
def plan(demo_model: Path) -> Plan:
    return jobs.plan(demo_preset(demo_model, SMALL), jobs.Options(), Path("video.mp4").absolute())


class Slow:
    """A session whose run ends when the test says so: in two moments, as a thread does."""

    def __init__(self, on_event: Events, **_others: object) -> None:
        self.on_event = on_event
        self.busy = self.paused = False
        self.started: list[int] = []

    def reserve(self, _device: str) -> None: ...

    def rest(self) -> None: ...

    def start(self, job: Job, _folder: RunFolder, _record: RunRecord) -> None:
        assert not self.busy
        self.busy = True
        self.started.append(job.seed)

    def fall_idle(self) -> None:
        """The thread has ended, and its last event was not told yet."""
        self.busy = False

    def tell(self, event: Event) -> None:
        self.on_event(event)

    def held(self) -> Held:
        return Held()

    def cancel(self) -> None: ...

    def wait(self, _seconds: float) -> bool:
        return not self.busy


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[Launcher, Slow, list[Event]]:
    monkeypatch.setattr(launcher, "Session", Slow)
    ended: list[Event] = []
    made = Launcher(ended.append)
    session = made._session
    assert isinstance(session, Slow)
    return made, session, ended


def test_between_a_runs_last_moment_and_its_end_nothing_else_starts(
    slow: tuple[Launcher, Slow, list[Event]], plan: Plan
) -> None:
    made, session, ended = slow
    first = made.want(plan, own_folder=True)
    assert first is not None
    session.fall_idle()
    assert made.busy
    assert made.want(plan.with_seed(2), own_folder=True) is None
    session.tell(CancelledByUser())
    assert first.ended
    assert ended == [CancelledByUser()]
    second = made.start_next()
    assert second is not None
    assert not second.ended
    assert session.started == [42, 2]
    assert made.runs == (first, second)


def test_a_run_that_is_wanted_after_an_end_starts_behind_those_that_waited(
    slow: tuple[Launcher, Slow, list[Event]], plan: Plan
) -> None:
    made, session, _ = slow
    made.want(plan, own_folder=True)
    made.want(plan.with_seed(2), own_folder=True)
    session.fall_idle()
    session.tell(CancelledByUser())
    started = made.want(plan.with_seed(3), own_folder=True)  # before anybody looked at the end
    assert started is not None
    assert started.plan.job.seed == 2
    assert [wanted.plan.job.seed for wanted in made.waiting] == [3]
    assert made.start_next() is None


def test_what_cannot_be_recorded_changes_nothing(
    slow: tuple[Launcher, Slow, list[Event]], plan: Plan, own_home: Path
) -> None:
    made, _, _ = slow
    (own_home / "data").write_text("no folder")
    with pytest.raises(EngineError, match="No run folder"):
        made.want(plan, own_folder=True)
    assert (made.waiting, made.runs, made.busy) == ((), (), False)
    (own_home / "data").unlink()
    assert made.want(plan, own_folder=True) is not None


def test_runs_of_one_kind_tell_each_other_how_long_they_take(
    slow: tuple[Launcher, Slow, list[Event]], plan: Plan
) -> None:
    made, session, _ = slow
    first = made.want(plan, own_folder=True)
    session.tell(StageStarted("denoise", 4))
    session.fall_idle()
    session.tell(Done(Path("x"), 1.0))
    assert first is not None
    other = replace(plan, job=replace(plan.job, width=128))
    second = made.want(plan.with_seed(9), own_folder=True)
    assert second is not None
    assert made.earlier(second) == first.tracker.view
    session.fall_idle()
    session.tell(CancelledByUser())
    third = made.want(other, own_folder=True)
    assert third is not None
    assert made.earlier(third) is None


def test_two_runs_of_the_real_engine_follow_each_other(plan: Plan) -> None:
    ends: list[Event] = []
    came = threading.Semaphore(0)

    def on_end(event: Event) -> None:
        ends.append(event)
        came.release()

    made = Launcher(on_end)
    first = made.want(plan, own_folder=True)
    assert made.want(plan.with_seed(2), own_folder=True) is None
    assert came.acquire(timeout=60)
    second = made.start_next()
    assert came.acquire(timeout=60)
    assert [type(event) for event in ends] == [Done, Done]
    for run in (first, second):
        assert run is not None
        assert run.plan.job.output.exists()
        assert run.tracker.view.ram_peak > 0
    made.close(10.0)
    assert not made.busy


class Line(RuleBasedStateMachine):
    """Whatever is wanted, moved, dropped and put back: each run starts once, or waits, or went."""

    plan: Plan

    @initialize()
    def begin(self) -> None:
        self.launcher = Launcher(lambda _: None)
        session = self.launcher._session
        assert isinstance(session, Slow)
        self.session = session
        self.count = 0
        self.order: list[int] = []  # seeds, as they should start
        self.gone: tuple[int, int] | None = None

    def number(self, place: int) -> int:
        return self.launcher.waiting[place % len(self.launcher.waiting)].number

    @rule()
    def want(self) -> None:
        self.count += 1
        busy = self.launcher.busy
        started = self.launcher.want(self.plan.with_seed(self.count), own_folder=True)
        assert (started is None) == busy
        self.order.append(self.count)
        if started is not None:
            assert started.plan.job.seed == self.order.pop(0)

    @precondition(lambda self: self.session.busy)
    @rule(event=st.sampled_from([CancelledByUser(), Done(Path("x"), 1.0)]))
    def end(self, event: Event) -> None:
        self.session.fall_idle()
        self.session.tell(event)
        started = self.launcher.start_next()
        assert (started is None) == (not self.order)
        if started is not None:
            assert started.plan.job.seed == self.order.pop(0)

    @precondition(lambda self: bool(self.launcher.waiting))
    @rule(place=st.integers(0, 9), by=st.integers(-3, 3))
    def move(self, place: int, by: int) -> None:
        place %= len(self.order)
        self.launcher.move(self.number(place), by)
        seed = self.order.pop(place)
        self.order.insert(max(0, place + by), seed)

    @precondition(lambda self: bool(self.launcher.waiting))
    @rule(place=st.integers(0, 9))
    def drop(self, place: int) -> None:
        place %= len(self.order)
        self.launcher.drop(self.number(place))
        self.gone = (place, self.order.pop(place))

    @rule()
    def put_back(self) -> None:
        started = self.launcher.put_back()
        if self.gone is not None:
            self.order.insert(*self.gone)
            self.gone = None
        if started is not None:
            assert started.plan.job.seed == self.order.pop(0)

    @rule()
    def move_and_drop_what_is_not_there(self) -> None:
        self.launcher.move(10**9, 1)
        self.launcher.drop(10**9)

    @invariant()
    def the_line_is_as_expected(self) -> None:
        assert [wanted.plan.job.seed for wanted in self.launcher.waiting] == self.order
        assert len(set(self.session.started)) == len(self.session.started)
        assert self.launcher.busy or not self.order


def test_the_line(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "Session", Slow)
    Line.plan = plan
    how = settings(max_examples=20, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(Line, settings=how)
