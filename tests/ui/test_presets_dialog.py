"""Saved presets: found, loaded, renamed, deleted and saved, with every wrong told in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from engine.spec.precision import Precision
from lightx2v_tui import presets
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.paths import presets_dir
from lightx2v_tui.presets import Preset, library
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.screens.presets import PresetDialog, SaveDialog
from lightx2v_tui.widgets.path_input import Candidates
from tests.ui.driver import cut_off, text_of, until, until_text, until_words
from tests.unit.test_preset_library import write_video

MakeApp = Callable[..., LightX2VApp]
FOX = Preset(model_path=Path("/models/Wan2.1-T2V-14B"), dit_precision=Precision.FP8, width=832,
             height=480, frames=81, fps=16, seed=7, prompt="a red fox in snow")  # fmt: skip
OWL = replace(FOX, prompt="an owl\nat night", dit_precision=Precision.INT8, seed=8)


@pytest.fixture
def saved() -> None:
    library.save("fox", FOX)
    library.save("night owl", OWL)
    (presets_dir() / "torn.json").write_text("{")


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> LightX2VApp:
    (tmp_path / "nothing").mkdir()
    return make_app(places=[tmp_path / "nothing"])


async def opened(app: LightX2VApp, pilot: Pilot[int], lines: int = 3) -> list[Preset | None]:
    """Open the dialog; gives what it will answer."""
    answers: list[Preset | None] = []
    app.push_screen(PresetDialog(), answers.append)
    await until(pilot, lambda: isinstance(app.screen, PresetDialog) and len(_names(app)) == lines
                and app.focused is not None, "the list")  # fmt: skip
    return answers


def _names(app: LightX2VApp) -> list[str | None]:
    lists = app.screen.query("#saved").results(OptionList)  # none before the screen is there
    return [option.id for listing in lists for option in listing.options]


async def type_in(pilot: Pilot[int], text: str) -> None:
    await pilot.press(*({" ": "space", "/": "slash"}.get(letter, letter) for letter in text))


@pytest.mark.usefixtures("saved")
async def test_the_list_says_what_each_is_for(app: LightX2VApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot)
        shown = text_of(app)
        for words in ("Presets (3)", "fox", "night owl", "fp8   832x480x81  Wan2.1-T2V-14B",
                      "cannot be read", "a red fox in snow", "seed 7", "enter load"):  # fmt: skip
            assert words in shown
        assert cut_off(app) == []
        await pilot.press("down")
        await until_text(pilot, "an owl at night")
        await pilot.press("down")
        await until_text(pilot, "this is not JSON")


@pytest.mark.usefixtures("saved")
async def test_enter_loads_what_is_under_the_cursor(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        answers = await opened(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: answers == [OWL], "the owl")


@pytest.mark.usefixtures("saved")
async def test_a_broken_preset_is_told_and_stays(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        answers = await opened(app, pilot)
        await pilot.press("end", "enter")
        await until_text(pilot, "“torn” cannot be loaded")
        assert answers == []


async def test_no_presets_say_how_to_get_one(app: LightX2VApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        answers = await opened(app, pilot, 0)
        await until_text(pilot, "No presets are saved yet")
        await pilot.press("enter", "r", "d")
        await until_text(pilot, "There is no saved preset to change.")
        await pilot.press("escape")
        await until(pilot, lambda: answers == [None], "closed")


@pytest.mark.usefixtures("saved")
async def test_the_filter_looks_at_names_and_prompts(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        answers = await opened(app, pilot)
        await pilot.press("slash")
        await type_in(pilot, "owl int8")
        assert _names(app) == ["night owl"]
        assert "Presets (1 of 3)" in text_of(app)
        await type_in(pilot, "x")
        assert _names(app) == []
        await until_text(pilot, "Nothing matches.")
        await pilot.press("escape")
        assert len(_names(app)) == 3
        assert answers == []
        await pilot.press("slash")
        await type_in(pilot, "SNOW")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: answers == [FOX], "the fox")


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("key", ["r", "f2"])
async def test_a_preset_is_renamed_in_place(
    key: str, app: LightX2VApp, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot)
        await pilot.press(key)
        await type_in(pilot, "red fox")
        await pilot.press("enter")
        await until(pilot, lambda: _names(app) == ["night owl", "red fox", "torn"], "its new name")
        listing = app.screen.query_one("#saved", OptionList)
        assert listing.highlighted == 1
        assert app.focused is listing
        assert presets.read(presets_dir() / "red fox.json") == FOX


@pytest.mark.usefixtures("saved")
async def test_a_name_that_is_taken_or_none_is_told(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        await opened(app, pilot)
        for name, words in (("night owl", "There is a preset “night owl” already"),
                            ("a/b", "a name has no slashes")):  # fmt: skip
            await pilot.press("r")
            app.screen.query_one("#name", Input).value = ""
            await type_in(pilot, name)
            await pilot.press("enter")
            await until_text(pilot, words)
            await pilot.press("escape")
            assert not app.screen.query_one("#name").display
        assert _names(app) == ["fox", "night owl", "torn"]


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("key", ["d", "delete"])
async def test_a_preset_is_deleted_when_it_is_meant(key: str, app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        await opened(app, pilot)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Question), "a question")
        await pilot.press("n")
        assert (presets_dir() / "fox.json").exists()
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Question), "a question")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, PresetDialog)
                    and _names(app) == ["night owl", "torn"], "it is gone")  # fmt: skip
        assert not (presets_dir() / "fox.json").exists()


@pytest.mark.usefixtures("saved")
async def test_a_preset_that_went_meanwhile_is_told(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        await opened(app, pilot)
        (presets_dir() / "fox.json").unlink()
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Question), "a question")
        await pilot.press("y")
        await until_text(pilot, "“fox” cannot be deleted")
        await until(pilot, lambda: len(_names(app)) == 2, "the list without it")


async def test_any_file_is_opened_by_its_path(app: LightX2VApp, tmp_path: Path) -> None:
    presets.save(FOX, tmp_path / "mine.jsonc")
    text = json.dumps(presets.to_json(replace(OWL, output=Path("/elsewhere/x.mp4"))))
    write_video(tmp_path / "owl.mp4", text)
    async with app.run_test() as pilot:
        for name, preset in (("mine.jsonc", FOX), ("owl.mp4", OWL)):
            answers = await opened(app, pilot, 0)
            await pilot.press("o")
            app.screen.query_one("#file", Input).value = str(tmp_path / name)
            await pilot.press("enter")
            await until(pilot, lambda: answers == [preset], name)  # noqa: B023 - awaited at once


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone.json", "No such file"), ("gone.mp4", "No such file"), ("video.mp4", "no settings"),
     ("text.json", "not JSON"), ("text.mp4", "is not an mp4")],
)  # fmt: skip
async def test_a_file_that_cannot_be_opened_is_told(
    name: str, words: str, app: LightX2VApp, tmp_path: Path, size: tuple[int, int]
) -> None:
    write_video(tmp_path / "video.mp4", "")
    for text in ("text.json", "text.mp4"):
        (tmp_path / text).write_text("hello")
    async with app.run_test(size=size) as pilot:
        answers = await opened(app, pilot, 0)
        await pilot.press("o")
        app.screen.query_one("#file", Input).value = str(tmp_path / name)
        await pilot.press("enter")
        await until_words(pilot, words)
        assert answers == []
        assert cut_off(app) == []
        app.screen.query_one("#file", Input).value = ""
        await pilot.pause()
        assert words not in text_of(app)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("place", [(40, 24), (20, 5), (160, 50)])
async def test_every_terminal_shows_where_the_cursor_is(
    place: tuple[int, int], app: LightX2VApp
) -> None:
    async with app.run_test(size=place) as pilot:
        answers = await opened(app, pilot)
        await pilot.press("down")
        await pilot.pause()
        assert "night owl"[: place[0] - 8] in text_of(app)
        for other in ((80, 24), (20, 5), (200, 60), (9, 3), place):
            await pilot.resize_terminal(*other)
        await pilot.press("enter")
        await until(pilot, lambda: answers == [OWL], "the owl")


async def saving(
    app: LightX2VApp, pilot: Pilot[int], preset: Preset = FOX, name: str = ""
) -> list[Path | None]:
    answers: list[Path | None] = []
    app.push_screen(SaveDialog(preset, name), answers.append)
    await until(pilot, lambda: isinstance(app.screen, SaveDialog)
                and app.focused is not None, "the dialog")  # fmt: skip
    await pilot.pause()
    return answers


async def test_saving_proposes_a_name(app: LightX2VApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        answers = await saving(app, pilot)
        shown = text_of(app)
        for words in ("Wan2.1-T2V-14B fp8", "832x480", "a red fox in snow", "It becomes"):
            assert words in shown
        assert cut_off(app) == []
        await pilot.press("enter")
        path = presets_dir() / "Wan2.1-T2V-14B fp8.json"
        await until(pilot, lambda: answers == [path], "saved")
        assert presets.read(path) == FOX


async def test_typing_replaces_the_proposed_name(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        answers = await saving(app, pilot)
        await type_in(pilot, "q?v,h fox")  # keys of other screens are letters here
        await pilot.press("enter")
        await until(pilot, lambda: answers == [presets_dir() / "q?v,h fox.json"], "saved")


@pytest.mark.usefixtures("saved")
async def test_replacing_is_asked_for(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        answers = await saving(app, pilot, OWL, "fox")
        await until_text(pilot, "you are asked before it is replaced")
        await pilot.press("enter")
        await until_text(pilot, "There is a preset “fox” already")
        await pilot.press("n")
        assert presets.read(presets_dir() / "fox.json") == FOX
        assert answers == []
        await pilot.press("enter")
        await until_text(pilot, "There is a preset “fox” already")
        await pilot.press("y")
        await until(pilot, lambda: answers == [presets_dir() / "fox.json"], "replaced")
        assert presets.read(presets_dir() / "fox.json") == OWL


@pytest.mark.usefixtures("saved")
async def test_words_written_by_hand_are_warned_of(app: LightX2VApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await saving(app, pilot, FOX, "torn")
        await pilot.press("enter")
        await until_text(pilot, "not written by this app")
        await pilot.press("escape")
        assert (presets_dir() / "torn.json").read_text() == "{"


async def test_a_name_that_is_none_is_told_while_it_is_typed(app: LightX2VApp) -> None:
    async with app.run_test() as pilot:
        answers = await saving(app, pilot, FOX, "fox")
        await type_in(pilot, "a/b")
        await until_text(pilot, "A name has no slashes.")
        await pilot.press("enter")
        await until_text(pilot, "is not a name")
        await pilot.press("escape")
        await until(pilot, lambda: answers == [None], "left")
        assert not presets_dir().exists()


async def test_a_folder_that_cannot_be_written_is_told(app: LightX2VApp) -> None:
    presets_dir().parent.mkdir(parents=True)
    presets_dir().write_text("in the way")
    async with app.run_test() as pilot:
        answers = await saving(app, pilot, FOX, "fox")
        await pilot.press("enter")
        await until_text(pilot, "cannot be saved")
        assert answers == []


async def test_a_model_opens_with_what_was_last_used_in_the_next_start(
    make_app: MakeApp, demo_model: Path
) -> None:
    first = make_app(launch=True)
    async with first.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "Launch")
    second = make_app()
    async with second.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, demo_model.name)
        await pilot.press("enter")
        await until(pilot, lambda: bool(second.screen.query("#width")), "the form")
        fields = {name: second.screen.query_one(f"#{name}", Input).value
                  for name in ("width", "height", "frames")}  # fmt: skip
        assert fields == {"width": "64", "height": "64", "frames": "5"}


async def test_names_are_listed_right_below_the_path(
    app: LightX2VApp, tmp_path: Path, size: tuple[int, int]
) -> None:
    for number in range(9):
        (tmp_path / f"{number}.json").write_text("{}")
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot, 0)
        before = app.screen.query_one("#file").region
        await pilot.press("o")
        app.screen.query_one("#file", Input).value = f"{tmp_path}/"
        await until(pilot, lambda: len(app.screen.query(Candidates)) == 1, "the names")
        await pilot.pause()
        assert app.screen.query_one("#file").region == before  # the dialog stays where it was
        listing = app.screen.query_one(Candidates).region
        assert (listing.x, listing.width) == (before.x, before.width)
        assert before.bottom == listing.y or before.y == listing.bottom
