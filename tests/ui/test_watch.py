"""Runs of other processes on the screen, runs that go on, and devices that others hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.spec.events import Attempt, Noted, Waiting
from engine.spec.ladder import Ask
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.messages import RunWanted
from lightx2v_tui.runs.device_lock import DeviceLock, device_of
from lightx2v_tui.runs.history import read_run
from lightx2v_tui.screens.dialogs import ErrorDialog, Question
from lightx2v_tui.screens.history import HistoryScreen
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.screens.resume_offer import DeviceTaken, ResumeOffer
from lightx2v_tui.screens.run import RunScreen
from lightx2v_tui.screens.watch import WatchScreen
from tests.processes import frames_of
from tests.test_signals import LONG
from tests.ui.driver import cut_off, text_of, until, until_text
from tests.ui.run_driver import plan_of, start_paused
from tests.unit.test_history import status, written
from tests.unit.test_surroundings import ended_early

MakeApp = Callable[..., LightX2VApp]


class Elsewhere:
    """A run of another process, which stands still after its second step."""

    def __init__(self, model: Path, folder: Path) -> None:
        preset = folder / "preset.json"
        preset.write_text(json.dumps({"model_path": str(model)}))
        self.video = folder / "a.mp4"
        command = [sys.executable, "-m", "lightx2v_tui", "run", str(preset), *LONG,
                   "--output", str(self.video), "--progress", "json"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if '"step": 2' in line:
                break
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def elsewhere(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Elsewhere]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = Elsewhere(demo_model, tmp_path)
    yield run
    run.end()


async def watched(pilot: Pilot[int], run: Elsewhere) -> WatchScreen:
    """Wait for the notice, and follow it."""
    await until_text(pilot, f"process {run.process.pid} makes 192x64, 81 frames")
    await pilot.press("v")
    await until(pilot, lambda: isinstance(pilot.app.screen, WatchScreen), "the run")
    await until_text(pilot, "Denoise")
    screen = pilot.app.screen
    assert isinstance(screen, WatchScreen)
    return screen


async def test_a_run_elsewhere_is_watched_to_its_video(
    make_app: MakeApp, elsewhere: Elsewhere, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await watched(pilot, elsewhere)
        await until_text(pilot, "step 2/4")
        await until_text(pilot, "RAM")
        shown = text_of(app)
        for words in (f"Run of process {elsewhere.process.pid}", "running", "192x64", "seed 5"):
            assert words in shown, words
        assert shown.count("✓") == 4
        assert not cut_off(app)
        await pilot.press("l")
        await until_text(pilot, "Log")
        await pilot.press("l")
        elsewhere.go_on()
        await until_text(pilot, "Saved")
        await until_text(pilot, "done in")
        await until_text(pilot, "The video")
        assert not cut_off(app)
        await pilot.press("c")
        assert isinstance(app.screen, WatchScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)
        await until(pilot, lambda: "makes" not in text_of(app), "that it is over")


async def test_a_run_elsewhere_is_cancelled_and_goes_on_here(
    make_app: MakeApp, elsewhere: Elsewhere
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await watched(pilot, elsewhere)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Question), "the question")
        assert f"Process {elsewhere.process.pid}" in text_of(app)
        await pilot.press("y")
        await until_text(pilot, "cancelling")
        elsewhere.go_on()
        await until_text(pilot, "Cancelled.")
        assert not elsewhere.video.exists()
        await pilot.press("u")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await until_text(pilot, "behind step")
        await until_text(pilot, "Saved")
    assert elsewhere.video.exists()


async def test_a_process_that_is_killed_while_it_is_watched(
    make_app: MakeApp, elsewhere: Elsewhere
) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await watched(pilot, elsewhere)
        elsewhere.end()
        await until_text(pilot, "The run was interrupted")
        await until_text(pilot, "u goes on with it")


async def test_the_history_shows_it_and_enter_watches_it(
    make_app: MakeApp, elsewhere: Elsewhere
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen), "history")
        await until_text(pilot, "v shows it live")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, WatchScreen), "the run")
        await pilot.press("escape", "u")  # it is not over
        assert isinstance(app.screen, HistoryScreen)
    assert elsewhere.process.poll() is None


async def test_the_own_run_is_not_one_of_another_process(
    make_app: MakeApp, demo_model: Path
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await start_paused(pilot, plan_of(demo_model))
        await pilot.press("escape", "h")
        await until_text(pilot, "v shows it live")
        await pilot.press("v")
        assert isinstance(app.screen, RunScreen)
        app.glance()
        await until(pilot, lambda: app._glimpse is not None, "a look around")
        assert app.elsewhere == ()


async def test_what_was_interrupted_goes_on_with_one_key(
    make_app: MakeApp, elsewhere: Elsewhere, size: tuple[int, int]
) -> None:
    folder = next((elsewhere.video.parent / "home/data/lightx2v-tui/runs").iterdir())
    elsewhere.end()
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ResumeOffer), "the question")
        await until_text(pilot, "interrupted at step 2 of 4")
        assert not cut_off(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await until_text(pilot, "Saved")
        await pilot.press("escape")
        assert app.launcher.run is not None
        assert app.launcher.run.folder.path == folder
    run = read_run(folder)
    assert run is not None
    assert run.status == "done"
    assert len(frames_of(elsewhere.video)) == 64


async def test_not_now_is_remembered(make_app: MakeApp, size: tuple[int, int]) -> None:
    ended_early("20260101-000000")
    ended_early("20260102-000000")
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ResumeOffer), "the question")
        await until_text(pilot, "2 runs ended early")
        await pilot.press("escape")
        await until_text(pilot, "u shows them")
        assert not cut_off(app)
        await pilot.press("u")
        await until(pilot, lambda: isinstance(app.screen, ResumeOffer), "the offer")
        await pilot.press("n")
        await until(pilot, lambda: "u shows them" not in text_of(app), "that it is quiet")
        await pilot.press("u")
        assert isinstance(app.screen, ModelsScreen)
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app._glimpse is not None, "a look around")
        await pilot.pause()
        assert isinstance(app.screen, ModelsScreen)
        assert "ended early" not in text_of(app)
        await pilot.press("h")
        await until_text(pilot, "after step 3 of 4")


async def test_a_run_that_cannot_go_on_says_why(make_app: MakeApp) -> None:
    ended_early("20260101-000000")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ResumeOffer), "the question")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "the error")
        assert "cannot go on" in text_of(app)


async def test_a_device_that_another_process_holds_is_waited_for(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    lock = DeviceLock(device_of("cuda:0"))
    lock.take("20260101-000000")
    plan = plan_of(demo_model)
    plan = replace(plan, job=replace(plan.job, device="cuda:0"))
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "1 model in")
        app.post_message(RunWanted(plan, own_folder=True))
        await until(pilot, lambda: isinstance(app.screen, DeviceTaken), "the question")
        assert "GPU 0 is in use by run 20260101-000000" in text_of(app)
        assert not cut_off(app)
        await pilot.press("n")
        assert app.launcher.waiting == ()
        app.post_message(RunWanted(plan, own_folder=True))
        await until(pilot, lambda: isinstance(app.screen, DeviceTaken), "the question")
        await pilot.press("v")  # there is nothing to watch
        assert isinstance(app.screen, DeviceTaken)
        await pilot.press("y")
        await until_text(pilot, "waits: GPU 0 is in use by")
        assert len(app.launcher.waiting) == 1
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Question), "a question")
        await pilot.press("n")
        lock.release()
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "its start")
        assert app.launcher.waiting == ()
        await pilot.press("escape")
        await until_text(pilot, "Cannot run on cuda:0")


async def test_who_holds_the_device_can_be_watched(make_app: MakeApp, demo_model: Path) -> None:
    folder = written(
        "20260101-000000",
        status(status="running", pid=os.getppid(), started=time.time(), stage="denoise"),
    )
    lock = DeviceLock(device_of("cuda:0"))
    lock.take(folder.name)
    plan = plan_of(demo_model)
    plan = replace(plan, job=replace(plan.job, device="cuda:0"))
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "v shows it")
        app.post_message(RunWanted(plan, own_folder=True))
        await until(pilot, lambda: isinstance(app.screen, DeviceTaken), "the question")
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, WatchScreen), "the other run")
        await until_text(pilot, "1 waiting")
        app.screen.query_one("#waiting").focus()
        await pilot.press("x")
        await until(pilot, lambda: app.launcher.waiting == (), "that it waits no more")
        await pilot.press("u")
        await until_text(pilot, "1 waiting")
    lock.release()


async def test_what_a_run_tells_stands_on_its_screen(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model))
        tracker = screen.run_shown.tracker
        tracker.take(Noted("The old checkpoint was not used"))
        await until_text(pilot, "The old checkpoint was not used")
        tracker.take(Attempt(2, "no memory; now the VAE in tiles"))
        await until_text(pilot, "attempt 2: no memory; now the VAE in tiles")
        tracker.take(Waiting("no room in /x for output.mp4: 16.0 MB are needed, 1.0 MB are free"))
        await until_text(pilot, "no room in /x for output.mp4")
        await until_text(pilot, "it goes on by itself")
        assert not cut_off(app)
        tracker.take(Noted("There is room again"))
        await until(pilot, lambda: "it goes on by itself" not in text_of(app), "that it goes on")


async def asked(pilot: Pilot[int], plan: Plan, answers: list[bool]) -> threading.Thread:
    """Ask as the engine does, on a thread that waits for the answer."""
    app = pilot.app
    assert isinstance(app, LightX2VApp)
    await until_text(pilot, "1 model in")
    ask = Ask("Decode with the tiny VAE?", plan.job)
    thread = threading.Thread(target=lambda: answers.append(app.ask_user(ask)))
    thread.start()
    await until(pilot, lambda: isinstance(app.screen, Question), "the question")
    return thread


@pytest.mark.parametrize(("key", "expected"), [("y", True), ("n", False), ("escape", False)])
async def test_what_the_engine_asks_is_answered(
    make_app: MakeApp, demo_model: Path, key: str, expected: bool
) -> None:
    app, answers = make_app(), list[bool]()
    async with app.run_test(size=(80, 24)) as pilot:
        thread = await asked(pilot, plan_of(demo_model), answers)
        assert "Decode with the tiny VAE?" in text_of(app)
        await pilot.press(key)
        await until(pilot, lambda: not thread.is_alive(), "the answer")
    assert answers == [expected]


async def test_nobody_answers_where_the_terminal_is_gone(
    make_app: MakeApp, demo_model: Path
) -> None:
    app, answers = make_app(), list[bool]()
    async with app.run_test(size=(80, 24)) as pilot:
        thread = await asked(pilot, plan_of(demo_model), answers)
        app.terminal_lost()
        thread.join(60)
    assert answers == [False]
    assert app.hung_up
    assert app.ask_user(Ask("Once more?", plan_of(demo_model).job)) is False
