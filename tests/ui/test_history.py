"""The history: what was made, again, changed, revealed, cleared away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, TextArea

from engine.spec.errors import EngineError
from engine.spec.events import Done, Failed, StageStarted
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.demo import demo_preset
from lightx2v_tui.launch.jobs import Options, plan
from lightx2v_tui.paths import runs_dir, short
from lightx2v_tui.runs import history
from lightx2v_tui.runs.folder import RunRecord, new_run
from lightx2v_tui.runs.history import PastRun, past_runs
from lightx2v_tui.runs.session import Session
from lightx2v_tui.screens.dialogs import ErrorDialog, Question, TextDialog
from lightx2v_tui.screens.history import HistoryScreen
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.screens.reveal import AskVideo
from lightx2v_tui.widgets.picture import PictureView
from tests.ui.driver import cut_off, text_of, told_by, until, until_text
from tests.unit.test_history import recorded, status, written

MakeApp = Callable[..., LightX2VApp]
SMALL = ("target_width=64", "target_height=64", "target_video_length=5", "seed=7")


@pytest.fixture
def made(demo_model: Path) -> PastRun:
    """A run that really was made."""
    folder = new_run()
    planned = plan(demo_preset(demo_model, SMALL), Options(), folder.output)
    session = Session(lambda _: None)
    session.start(planned.job, folder, RunRecord(folder, planned.preset))
    assert session.wait(60)
    run = history.read_run(folder.path)
    assert run is not None
    assert run.status == "done"
    return run


async def opened(pilot: Pilot[int]) -> HistoryScreen:
    """Wait for the history and its runs."""
    await until_text(pilot, "model")
    await pilot.press("h")
    await until(pilot, lambda: isinstance(pilot.app.screen, HistoryScreen), "history")
    screen = pilot.app.screen
    assert isinstance(screen, HistoryScreen)
    await until(pilot, lambda: screen._whole, "all runs")
    await pilot.pause()
    return screen


async def test_without_runs_it_says_how_to_make_one(
    make_app: MakeApp, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        await until_text(pilot, "Nothing was made yet")
        await pilot.press("enter", "e", "r", "n", "y", "l", "d")
        assert isinstance(app.screen, HistoryScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_a_run_is_listed_and_shown_with_its_picture(
    make_app: MakeApp, made: PastRun, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot)
        await until_text(pilot, "made in")
        await until(pilot, lambda: screen.query_one(PictureView).picture is not None, "a picture")
        await pilot.pause()
        shown = text_of(app)
        for word in ("1 run", "✓", "64x64x5", "4/4", "seed 7", "DiT bf16", "A red fox"):
            assert word in shown, word
        assert "▀" in shown
        assert not cut_off(app)
    assert made.id


async def test_how_runs_ended_is_said_in_words(make_app: MakeApp, size: tuple[int, int]) -> None:
    error = EngineError("The DiT is broken", "block 3 is cut off", "Download it again")
    recorded(StageStarted("load_dit"), Failed(error), prompt="first")
    written("20200101-000000", "{")
    written("20190101-000000", status(status="running", pid=2**22 + 1), {"target_width": 1})
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        for words in ("The DiT is broken", "block 3 is cut off", "Download it again", "Load DiT"):
            await until_text(pilot, words)
        await pilot.press("down")
        await until_text(pilot, "status.json cannot be read")
        await pilot.press("down")
        await until_text(pilot, "The app or the machine ended while it ran.")


async def test_enter_opens_the_form_with_everything_as_it_was(
    make_app: MakeApp, made: PastRun
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        assert app.screen.query_one("#width", Input).value == "64"
        assert app.screen.query_one("#prompt", TextArea).text.startswith("A red fox")
        assert str(made.folder) not in text_of(app)


@pytest.mark.parametrize(("key", "same"), [("r", True), ("n", False)])
async def test_a_run_is_made_again(make_app: MakeApp, made: PastRun, key: str, same: bool) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await pilot.press(key)
        await until(pilot, lambda: len(past_runs()) == 2, "a second run")
        await until(pilot, lambda: past_runs()[-1].status == "done", "its end")
    first, second = past_runs()
    assert first.id == made.id
    assert (second.facts.seed == 7) is same
    assert second.output == str(second.folder / "output.mp4")


async def test_a_video_elsewhere_is_not_replaced_unasked(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    video = tmp_path / "fox.mp4"
    video.write_bytes(b"mine")
    folder = new_run()
    planned = plan(demo_preset(demo_model, SMALL), Options(), video)
    RunRecord(folder, planned.preset).take(Done(video, 1.0))
    app = make_app()
    async with app.run_test() as pilot:
        await opened(pilot)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, Question), "a question")
        assert "fox.mp4" in text_of(app)
        await pilot.press("n")
        await pilot.pause()
    assert video.read_bytes() == b"mine"
    assert len(past_runs()) == 1


async def test_a_run_that_cannot_be_planned_says_why(make_app: MakeApp, model_copy: Path) -> None:
    folder = new_run()
    planned = plan(demo_preset(model_copy, SMALL), Options(), folder.output)
    RunRecord(folder, planned.preset).take(Done(folder.output, 1.0))
    shutil.rmtree(model_copy)
    app = make_app()
    async with app.run_test() as pilot:
        await opened(pilot)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        await pilot.press("escape")
        assert isinstance(app.screen, HistoryScreen)
        await pilot.press("e")
        await until_text(pilot, "The model folder")


async def test_the_path_is_copied_and_shown(make_app: MakeApp, made: PastRun) -> None:
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: made.id in screen._details, "a look at the run")
        await pilot.press("y")
        assert app.clipboard == made.output
        assert f"Copied: {short(made.output)}" in [note.message for note in app._notifications]


async def test_what_cannot_be_done_says_why(make_app: MakeApp) -> None:
    run = recorded(StageStarted("denoise"))
    run.log.unlink(missing_ok=True)
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: run.id in screen._details, "a look at the run")
        assert await told_by(pilot, "y") == "This run has no video."
        assert await told_by(pilot, "d") == "It is still running."
        assert await told_by(pilot, "l") == "This run has no log."
    assert run.folder.exists()


async def test_the_log_is_shown_from_its_end(make_app: MakeApp) -> None:
    run = recorded(Failed(EngineError("a")))
    lines = [f"line {number}" for number in range(500)]
    run.log.write_text("\n".join([*lines, "the \x1b[31mlast line"]))
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: run.id in screen._details, "a look at the run")
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, TextDialog), "the log")
        await until_text(pilot, "the ?[31mlast line")
        await pilot.press("home")
        await until_text(pilot, "line 0")
        await pilot.press("escape")
        assert app.screen is screen


async def test_deleting_is_asked_and_takes_the_folder_only(
    make_app: MakeApp, tmp_path: Path
) -> None:
    video = tmp_path / "fox.mp4"
    video.write_bytes(b"x")
    old = recorded(Done(video, 1.0), output=video, prompt="old")
    new = recorded(Done(Path("x"), 1.0), prompt="new")
    app = make_app()
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        await pilot.press("down", "delete")
        assert isinstance(app.screen, Question)
        assert old.id in text_of(app)
        await pilot.press("n", "d", "y")
        await until(pilot, lambda: not old.folder.exists(), "the folder to go")
        await until_text(pilot, "1 run")
        await until(pilot, lambda: screen._whole, "all runs")
        assert screen.query_one(DataTable).row_count == 1
    assert new.folder.exists()
    assert video.exists()


async def test_filtering_as_one_types(make_app: MakeApp) -> None:
    for prompt in ("a red fox", "a lighthouse", "a red car"):
        recorded(Done(Path("x"), 1.0), prompt=prompt)
    recorded(Failed(EngineError("broke")), prompt="a red kite")
    app = make_app()
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        table = screen.query_one(DataTable)
        await pilot.press("slash", *"red")
        await until(pilot, lambda: table.row_count == 3, "three runs")
        assert "3 of 4 runs" in text_of(app)
        await pilot.press("space", *"failed")
        await until(pilot, lambda: table.row_count == 1, "one run")
        await pilot.press("enter")
        assert app.focused is table
        await pilot.press("slash", *"zzz")
        await until_text(pilot, "Nothing matches. Escape shows all runs.")
        await pilot.press("escape")
        await until(pilot, lambda: table.row_count == 4, "all runs")
        await pilot.press("slash", *"red failed", "enter")
        await until(pilot, lambda: table.row_count == 1, "one run")
        await pilot.press("escape")
        await until(pilot, lambda: table.row_count == 4, "all runs")
        assert app.screen is screen
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_the_settings_in_any_mp4_are_revealed_and_opened(
    make_app: MakeApp, made: PastRun, tmp_path: Path, size: tuple[int, int]
) -> None:
    elsewhere = tmp_path / "given to me.mp4"
    shutil.copy(made.output or "", elsewhere)
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, AskVideo), "the field")
        app.screen.query_one(Input).value = str(tmp_path / "nothing.mp4")
        await pilot.press("enter")
        await until(pilot, lambda: "nothing.mp4" in text_of(app).replace("\n", ""), "an error")
        app.screen.query_one(Input).value = str(elsewhere)
        await pilot.pause()
        await pilot.press("enter")
        await until_text(pilot, "seed 7")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        assert app.screen.query_one("#seed", Input).value == "7"


async def test_a_run_that_ends_is_shown_as_ended(make_app: MakeApp, own_home: Path) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: bool(past_runs()), "a run")
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen), "history")
        await until_text(pilot, "made in")
    assert own_home.exists()


async def test_five_hundred_runs_are_listed_newest_first(make_app: MakeApp) -> None:
    for number in range(500):
        name = f"20250101-{number:06}"
        preset = {"target_width": 64, "lightx2v_tui": {"prompt": f"number {number}"}}
        written(name, status(started=1e9 + number), preset)
    app = make_app()
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        table = screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 500, "all rows")
        assert screen.query_one("RunTable").current == past_runs()[-1].id  # type: ignore[attr-defined]
        await pilot.press("end")
        await pilot.pause()
        assert past_runs()[0].id in str(screen.query_one("#detail").border_title)


async def test_a_history_that_cannot_be_read_is_empty(make_app: MakeApp) -> None:
    runs_dir().parent.mkdir(parents=True)
    runs_dir().write_text("a file in the way")
    app = make_app()
    async with app.run_test() as pilot:
        await opened(pilot)
        await until_text(pilot, "Nothing was made yet")


async def test_names_from_disk_are_never_obeyed(make_app: MakeApp) -> None:
    text = "[bold]x[/] \x1b[2J [@click=app.quit]y[/]"
    folder = written("[red]20250101\x1b[31m", json.dumps(status(error=text)), {"model_path": text})
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await until_text(pilot, "[@click=app.quit]y[/]")
        assert "\x1b" not in text_of(app)
        assert "[red]20250101" in text_of(app)
    assert folder.exists()
