"""The path field: a list of names below it, walked with the arrows, taken with Tab or Enter."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input, Static

from lightx2v_tui.completion import complete
from lightx2v_tui.widgets.path_input import Candidates, PathInput
from tests.ui.fields import on_screen, settle


class Form(App[str]):
    """A path field above another field; Escape leaves."""

    BINDINGS = [Binding("escape", "leave", "Leave")]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.animation_level = "none"
        self.options = options
        self.submitted: list[str] = []
        self.left = False

    def compose(self) -> ComposeResult:
        yield PathInput(id="path", compact=True, **self.options)
        yield Input(id="other", compact=True)
        yield Static("below\n" * 9)

    @on(Input.Submitted, "#path")
    def take(self, event: Input.Submitted) -> None:
        self.submitted.append(event.value)

    def action_leave(self) -> None:
        self.left = True

    @property
    def field(self) -> PathInput:
        return self.query_one("#path", PathInput)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "place"
    (place / "models" / "inner").mkdir(parents=True)
    (place / "models" / "a file.png").touch()
    (place / "movies").mkdir()
    for name in ("mountain.png", "mouse.txt", ".hidden.png", "one [b]two[b].png"):
        (place / name).touch()
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    return place


async def type_in(pilot: Pilot[str], text: str) -> None:
    for letter in text:
        await pilot.press(
            {"/": "slash", ".": "full_stop", "~": "tilde", " ": "space"}.get(letter, letter)
        )


async def listed(pilot: Pilot[str], *names: str) -> None:
    form = pilot.app
    assert isinstance(form, Form)
    await settle(pilot, lambda: form.field.listed == names, f"{names} in the list")


async def test_names_are_listed_below_as_they_are_typed(size: tuple[int, int]) -> None:
    form = Form(suffixes=(".png",))
    async with form.run_test(size=size) as pilot:
        await type_in(pilot, "mo")
        await listed(pilot, "models/", "mountain.png", "movies/")
        shown = on_screen(form)
        assert shown[0].startswith("models/")  # the first is dimmed in the field
        assert [line.split()[0] for line in shown[1:4]] == ["models/", "mountain.png", "movies/"]
        await type_in(pilot, "u")
        await listed(pilot, "mountain.png")
        assert on_screen(form)[2].startswith("below")


async def test_tab_takes_a_name_and_then_goes_on() -> None:
    form = Form(suffixes=(".png",))
    async with form.run_test() as pilot:
        await type_in(pilot, "mod")
        await listed(pilot, "models/")
        await pilot.press("tab")
        assert form.field.value == "models/"
        await listed(pilot, "models/a file.png", "models/inner/")
        await type_in(pilot, "a")
        await listed(pilot, "models/a file.png")
        await pilot.press("tab")
        assert (form.field.value, form.field.listed) == ("models/a file.png", ())
        await pilot.press("tab")
        assert form.focused is not None
        assert form.focused.id == "other"
        assert form.submitted == []


async def test_a_whole_folder_is_left_with_tab() -> None:
    form = Form(folders=True)
    async with form.run_test() as pilot:
        await type_in(pilot, "models/")
        await listed(pilot, "models/inner/")
        await pilot.press("tab")
        assert form.field.value == "models/"
        assert form.focused is not None
        assert form.focused.id == "other"
        assert not form.query_one(Candidates).display


async def test_arrows_walk_round_and_enter_takes() -> None:
    form = Form(suffixes=(".png",))
    async with form.run_test() as pilot:
        await type_in(pilot, "mo")
        await listed(pilot, "models/", "mountain.png", "movies/")
        await pilot.press("up", "up", "enter")
        assert form.field.value == "mountain.png"
        assert form.submitted == []
        await pilot.press("enter")
        assert form.submitted == ["mountain.png"]


async def test_enter_without_walking_submits_what_is_typed() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "mo")
        await listed(pilot, "models/", "mountain.png", "mouse.txt", "movies/")
        await pilot.press("enter")
        assert form.submitted == ["mo"]
        assert form.field.listed == ()


async def test_escape_closes_the_list_before_anything_else() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "mo")
        await listed(pilot, "models/", "mountain.png", "mouse.txt", "movies/")
        await pilot.press("escape")
        assert (form.field.listed, form.left) == ((), False)
        await pilot.press("escape")
        assert form.left


async def test_hidden_names_need_their_dot_and_case_does_not_matter() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, ".")
        await listed(pilot, ".hidden.png")
        form.field.value = ""
        await type_in(pilot, "MOU")
        await listed(pilot, "mountain.png", "mouse.txt")
        await pilot.press("tab")
        assert form.field.value == "mountain.png"


async def test_home_is_completed() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "~")
        await listed(pilot, "~/")
        await type_in(pilot, "/mov")
        await listed(pilot, "~/movies/")
        await pilot.press("right")
        assert form.field.value == "~/movies/"


async def test_a_name_with_markup_is_shown_as_it_is() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "one")
        await listed(pilot, "one [b]two[b].png")
        assert on_screen(form)[1].split("  ")[0].strip() == "one [b]two[b].png"


async def test_a_click_takes_a_name() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "mou")
        await listed(pilot, "mountain.png", "mouse.txt")
        await pilot.click(Candidates, offset=(2, 1))
        await pilot.pause()
        assert form.field.value == "mouse.txt"
        assert form.focused is form.field
        assert form.field.listed == ()


async def test_many_names_end_in_a_count(folder: Path) -> None:
    for number in range(300):
        (folder / f"z{number:04}").touch()
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "z")
        await settle(pilot, lambda: len(form.field.listed) == 50, "fifty names")
        last = form.query_one(Candidates).options[-1]
        assert str(last.prompt) == "… 250 more"
        await pilot.press("up")
        await pilot.press("enter")
        assert form.field.value == "z0049"


async def test_a_field_with_a_value_lists_nothing_by_itself() -> None:
    form = Form(value="mo")
    async with form.run_test() as pilot:
        await pilot.pause()
        assert form.field.listed == ()
        await type_in(pilot, "u")
        await listed(pilot, "mountain.png", "mouse.txt")


async def test_the_answer_to_an_older_question_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightx2v_tui.widgets import path_input

    slow, looked = threading.Event(), []

    def look(typed: str, *arguments: Any, **options: Any) -> object:
        if typed == "m":
            slow.wait(20)  # a disk that answers late
        looked.append(typed)
        return complete(typed, *arguments, **options)

    monkeypatch.setattr(path_input, "complete", look)
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "mov")
        await listed(pilot, "movies/")
        slow.set()
        await settle(pilot, lambda: "m" in looked, "the late answer")
        await pilot.pause()
        assert form.field.listed == ("movies/",)


async def test_names_that_come_after_enter_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    come, asked = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        asked.set()
        assert come.wait(10)
        return complete(*arguments, **options)

    monkeypatch.setattr("lightx2v_tui.widgets.path_input.complete", slow)
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "m")
        await settle(pilot, asked.is_set, "the question")
        await pilot.press("enter")
        assert form.submitted == ["m"]
        come.set()
        await settle(pilot, lambda: form.field._waiting == 0, "the answer")
        assert form.field.listed == ()


async def test_what_cannot_be_read_lists_nothing() -> None:
    form = Form()
    async with form.run_test() as pilot:
        await type_in(pilot, "nowhere/x")
        await pilot.press("backspace")
        assert form.field.listed == ()
        await pilot.press("tab")
        assert form.focused is not None
        assert form.focused.id == "other"


async def test_the_list_stays_on_a_tiny_screen() -> None:
    form = Form()
    async with form.run_test(size=(20, 5)) as pilot:
        await type_in(pilot, "mo")
        await listed(pilot, "models/", "mountain.png", "mouse.txt", "movies/")
        listing = form.query_one(Candidates)
        assert form.screen.region.contains_region(listing.region)
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert form.field.listed == ()
