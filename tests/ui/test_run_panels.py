"""What the run screen shows of a run: meters, pictures, the log, pauses; at any size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets._footer import FooterKey

from engine.spec.events import Preview
from engine.spec.job import Previews
from engine.spec.picture import Picture
from lightx2v_tui import settings
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.gpus import GpuReading
from lightx2v_tui.host import read_memory
from lightx2v_tui.messages import MachineRead
from lightx2v_tui.runs.expected import Expected
from lightx2v_tui.runs.launcher import Launcher
from lightx2v_tui.runs.tracker import RunView
from lightx2v_tui.screens.history import HistoryScreen
from lightx2v_tui.screens.run import RunScreen
from lightx2v_tui.widgets.log_pane import LogPane
from lightx2v_tui.widgets.meter_panel import MeterPanel
from lightx2v_tui.widgets.picture import PictureView
from lightx2v_tui.widgets.stages import StageList
from tests.ui.driver import cut_off, text_of, until, until_text
from tests.ui.run_driver import LONG, plan_of, start, start_paused
from tests.unit.helpers import gpu

MakeApp = Callable[..., LightX2VApp]
BUSY_GPU = replace(gpu((8, 9)), utilization=97, temperature=66, power=211.4)
RED, BLUE = (Picture(16, 9, bytes(colour) * 144) for colour in ((255, 0, 0), (0, 0, 255)))

SLOW = ("target_width=480", "target_height=272", "target_video_length=33")


async def on_a_gpu(pilot: Pilot[int], demo_model: Path) -> RunScreen:
    """A standing run that says it is on a GPU; this machine need not have one."""
    plan = plan_of(demo_model, LONG)
    screen = await start_paused(pilot, plan)
    assert isinstance(pilot.app, LightX2VApp)
    run = screen.run_shown
    job = replace(run.plan.job, device="cuda:0")
    shown = replace(run, plan=replace(run.plan, job=job))
    pilot.app.launcher.runs = (shown,)
    screen.show_run(shown)
    screen._metering.pause()
    return screen


def read(screen: RunScreen, gpus: GpuReading) -> None:
    """The machine was read."""
    screen.post_message(MachineRead(gpus, read_memory()))


async def test_the_meters_of_a_gpu_fit_and_say_when_it_is_gone(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunScreen, "read_machine", lambda _: None)
    app = make_app(places=[])
    async with app.run_test(size=size) as pilot:
        screen = await on_a_gpu(pilot, demo_model)
        app.launcher.expect(screen.run_shown, Expected(18_000_000_000, 9_000_000_000, 1, 1))
        read(screen, GpuReading((BUSY_GPU,)))
        await until_text(pilot, "foreseen peak")
        read(screen, GpuReading((replace(BUSY_GPU, used_bytes=12_000_000_000),)))
        await until_text(pilot, "12.0 GB of 24.0 GB")
        shown = text_of(app)
        for words in ("97 %", "66 °C", "211 W of 250 W", "RAM", "┃", "paused"):
            assert words in shown
        assert "CPU" not in shown
        assert not cut_off(app)
        read(screen, GpuReading(problem="the NVIDIA driver failed (GPU is lost)"))
        await until_text(pilot, "the NVIDIA driver failed")
        assert "12.0 GB of 24.0 GB" not in text_of(app)
        assert "RAM" in text_of(app)
        read(screen, GpuReading((BUSY_GPU,)))
        await until_text(pilot, "4.0 GB of 24.0 GB")
        await pilot.press("q", "y")


async def test_the_peaks_stand_beside_what_was_foreseen(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=size) as pilot:
        screen = await start(pilot, plan_of(demo_model))
        await until_text(pilot, "Made in")
        await until(pilot, lambda: app.launcher.expected(screen.run_shown) is not None, "forecast")
        await pilot.press("r")
        await until(pilot, lambda: len(app.launcher.runs) == 2, "another run")
        await until_text(pilot, "Made in")
        line = next(line for line in text_of(app).splitlines() if "peak" in line)
        assert "RAM" in line
        assert re.search(r"peak [0-9.]+ [MG]B", line)
        machine = screen.query_one(MeterPanel)
        assert machine.rows == 3
        assert not cut_off(app)


async def test_previews_are_shown_in_turn_hidden_and_remembered(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=size) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model, LONG))
        assert screen.query_one(PictureView).picture is None
        screen.run_shown.tracker.take(Preview(3, (RED, BLUE)))
        await until_text(pilot, "Preview, step 3")
        view = screen.query_one(PictureView)
        await until(pilot, lambda: view.picture == RED, "the first picture")
        await until(pilot, lambda: view.picture == BLUE, "the second picture")
        await until(pilot, lambda: view.picture == RED, "the first one again")
        assert "▀" in text_of(app)
        await pilot.press("p")
        assert "Preview" not in text_of(app)
        assert not settings.load()[0].preview
        assert not cut_off(app)
        await pilot.press("p")
        assert settings.load()[0].preview
        await until_text(pilot, "Preview, step 3")
        await pilot.press("q", "y")


async def test_the_engines_own_previews_and_then_the_video_are_shown(
    make_app: MakeApp, demo_model: Path
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await start(pilot, plan_of(demo_model, previews=Previews.LATENTS))
        await until_text(pilot, "Made in")
        preview = screen.run_shown.tracker.view.preview
        assert preview is not None
        assert preview.step == 4
        await until_text(pilot, "The video")
        picture = screen.query_one(PictureView).picture
        assert picture is not None
        assert (picture.width, picture.height) == (64, 64)
        assert picture not in preview.frames
        await until(pilot, lambda: screen.check_action("play", ()) is True, "all frames")
        await pilot.press("enter")
        assert "The video" in text_of(app)


async def test_the_log_follows_what_libraries_write(
    make_app: MakeApp, demo_model: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=size) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model, LONG))
        log = screen.run_shown.folder.log
        await pilot.press("l")
        pane = screen.query_one(LogPane)
        assert app.focused is pane
        with log.open("a") as file:
            file.write("loading \x1b[1mkernels\x1b[0m\nCUDA error: out of luck [bold]\n")
        await until_text(pilot, "CUDA error: out of luck [bold]")
        assert "loading kernels" in text_of(app)
        with log.open("a") as file:
            file.write("".join(f"line {number}\n" for number in range(50)))
        await until_text(pilot, "line 49")
        await pilot.press("g")
        await until(pilot, lambda: pane.scroll_y == 0, "the first line")
        assert f"{log.read_text()[:19]} Prepare" in text_of(app)
        before = len(pane.lines)
        with log.open("a") as file:
            file.write("one more\n")
        await until(pilot, lambda: len(pane.lines) > before, "the new line")
        assert "one more" not in text_of(app)  # somebody reads further up
        await pilot.press("G")
        await until_text(pilot, "one more")
        assert not cut_off(app)
        await pilot.press("l")
        assert "one more" not in text_of(app)
        await pilot.press("l", "escape")  # which closes what is in front
        assert app.screen is screen
        assert not pane.display
        await pilot.press("escape")
        assert app.screen is not screen
        await pilot.press("q", "y")


async def test_nothing_is_drawn_behind_another_screen(
    make_app: MakeApp, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    show = StageList.show

    def noted(stages: StageList, view: RunView, now: float) -> None:
        drawn.append(now)
        show(stages, view, now)

    monkeypatch.setattr(StageList, "show", noted)
    app = make_app(places=[])
    async with app.run_test(size=(80, 24)) as pilot:
        await start_paused(pilot, plan_of(demo_model, LONG))
        await until(pilot, lambda: len(drawn) > 3, "the run is drawn")
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen), "the history")
        before = len(drawn)
        await pilot.pause(1.5)
        assert len(drawn) == before
        await pilot.press("escape")
        await until(pilot, lambda: len(drawn) > before, "the run again")
        await pilot.press("q", "y")


async def test_the_log_tells_stages_and_steps(make_app: MakeApp, demo_model: Path) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(80, 24)) as pilot:
        await start(pilot, plan_of(demo_model))
        await until_text(pilot, "Made in")
        assert isinstance(app.screen, RunScreen)
        told = app.screen.run_shown.folder.log.read_text()
        lines = [line.split(" ", 2)[2] for line in told.splitlines()]
        assert lines[0] == "Prepare engine"
        assert lines.index("Denoise") < lines.index("Decode and write video")
        assert [line[:12] for line in lines if line.startswith("step")] == [
            f"step {number} of 4," for number in (1, 2, 3, 4)
        ]
        assert lines[-1] == f"saved {app.screen.run_shown.plan.job.output}"
        await pilot.press("l")
        await until_text(pilot, "step 4 of 4")


async def test_a_paused_run_stands_still_and_goes_on(make_app: MakeApp, demo_model: Path) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        await start(pilot, plan_of(demo_model, SLOW))
        await pilot.press("space")
        await until_text(pilot, "Paused; space lets it go on.")
        view = app.launcher.runs[0].tracker.view
        assert view.paused is not None
        assert view.total(1e9) == view.total(2e9)
        assert app.launcher.paused
        await pilot.press("space")
        await until(pilot, lambda: not app.launcher.paused, "the run goes on")
        await until_text(pilot, "Made in")


@pytest.mark.timeout(240)  # whole screens, beside an engine that takes every core
async def test_many_sizes_while_the_engine_generates(make_app: MakeApp, demo_model: Path) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        values = ("target_width=832", "target_height=480", "target_video_length=81")
        plan = plan_of(demo_model, values, previews=Previews.LATENTS)
        screen = await start(pilot, plan)
        screen.run_shown.tracker.take(Preview(1, (RED, BLUE)))
        await pilot.press("l", "n")
        sizes = ((20, 5), (200, 60), (1, 1), (80, 24), (69, 30), (110, 44), (160, 50), (40, 100))
        for number in range(16):
            await pilot.resize_terminal(*sizes[number % len(sizes)])
        await pilot.resize_terminal(80, 24)
        await until_text(pilot, "Denoise")
        assert not cut_off(app)
        assert app.launcher.busy, text_of(app)
        await pilot.press("q", "y")
    assert app.return_code == 0


@pytest.mark.parametrize("place", [(20, 5), (60, 20), (80, 24), (120, 36), (160, 50)])
async def test_the_stages_are_in_sight_at_every_size(
    make_app: MakeApp, demo_model: Path, place: tuple[int, int]
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=place) as pilot:
        await start_paused(pilot, plan_of(demo_model, LONG))
        await until_text(pilot, "Prepare engine" if place[0] > 20 else "Prepare")
        assert [each for each in cut_off(app) if not isinstance(each, FooterKey)] == []
        if place[1] >= 24:
            await until_text(pilot, "Cancel")
            for words in ("Decode and write video", "RAM"):
                await until_text(pilot, words)
            assert not cut_off(app)
        await pilot.press("q", "y")


async def test_a_screen_that_looks_again_knows_what_was_foreseen(
    make_app: MakeApp, demo_model: Path
) -> None:
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await start_paused(pilot, plan_of(demo_model, LONG))
        launcher: Launcher = app.launcher
        await until(pilot, lambda: launcher.expected(screen.run_shown) is not None, "forecast")
        await until_text(pilot, "foreseen peak")
        await pilot.press("escape", "v")
        assert isinstance(app.screen, RunScreen)
        assert app.screen is not screen
        await until_text(pilot, "foreseen peak")
        await pilot.press("q", "y")
