"""The fields of the launch form: sizes, seeds, steps, offload, previews, prompts, presets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static

from engine.spec.job import Placing, Previews
from lightx2v_tui import last_used
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.catalog import inspect_root
from lightx2v_tui.demo import demo_preset
from lightx2v_tui.launch import choices
from lightx2v_tui.launch.form import READ_LETTERS, Offload
from lightx2v_tui.messages import PresetOpened, RunWanted
from lightx2v_tui.presets import Preset, library
from lightx2v_tui.runs import folder as runs
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.screens.presets import PresetDialog, SaveDialog
from lightx2v_tui.widgets.fields import Toggle
from lightx2v_tui.widgets.launch_form import LaunchForm
from lightx2v_tui.widgets.matrix import Matrix
from lightx2v_tui.widgets.prompt import PromptEditor, folded
from lightx2v_tui.widgets.verdict import Verdict
from tests.ui.driver import text_of, until, until_text, until_words
from tests.ui.test_launch import opened, told_of

MakeApp = Callable[..., LightX2VApp]
SMALL = ("target_width=64", "target_height=64", "target_video_length=5")


@asynccontextmanager
async def form_of(
    preset: Preset, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[Pilot[int], LaunchScreen]]:
    """The launch form on a preset."""
    app = LightX2VApp([], lambda: preset)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield pilot, await opened(pilot)


@pytest.fixture
def preset(demo_model: Path) -> Preset:
    return demo_preset(demo_model, SMALL)


@pytest.fixture
def guided(preset: Preset) -> Preset:
    """The demo model as if it were not distilled."""
    return replace(
        preset, model_cls="wan2.1", timesteps=None, infer_steps=3, enable_cfg=True,
        guidance_scale=5.0, negative_prompt="blurred",
    )  # fmt: skip


def said(screen: LaunchScreen) -> Preset:
    """What the form says."""
    reading = screen.query_one(LaunchForm).read()
    assert not reading.errors
    return reading.preset


async def test_a_size_is_picked_with_the_arrows_or_typed(preset: Preset) -> None:
    async with form_of(preset) as (pilot, screen):
        sizes = screen.query_one("#size", Select)
        assert sizes.value == ""  # 64 by 64 is a size of one's own
        sizes.focus()
        await pilot.press("enter", "up", "enter")
        assert (said(screen).width, said(screen).height) == (512, 512)
        screen.query_one("#width", Input).focus()
        await pilot.press("up")
        await until(pilot, lambda: sizes.value == "", "a custom size")
        assert (said(screen).width, said(screen).height) == (528, 512)
        await pilot.press("home", "shift+end", "delete", *"832", "tab", *"480")
        await until(pilot, lambda: sizes.value == "832x480", "a size with a name")
        sizes.focus()
        await pilot.press("enter", *"1280x5", "enter")  # typing looks for it
        await until(pilot, lambda: (said(screen).width, said(screen).height) == (1280, 544), "it")


async def test_the_arrows_change_numbers_by_steps_that_can_be_made(preset: Preset) -> None:
    async with form_of(preset) as (pilot, screen):
        for name, keys, value in (
            ("frames", ["up", "up"], "13"), ("frames", ["down"] * 9, "1"),
            ("fps", ["up"], "17"), ("seed", ["down"], "41"), ("shift", ["up"], "5.5"),
            ("shift", ["down"] * 20, "0.5"), ("height", ["down"] * 9, "16"),
        ):  # fmt: skip
            field = screen.query_one(f"#{name}", Input)
            field.focus()
            await pilot.press(*keys)
            assert field.value == value, name
        field.value = "x"
        await pilot.press("up")
        assert field.value == "x"


async def test_a_drawn_seed_stays_and_a_random_one_is_drawn_for_each_run(
    preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[RunWanted] = []
    monkeypatch.setattr(LightX2VApp, "on_run_wanted", lambda _, message: wanted.append(message))
    drawn = iter(range(1000, 2000))
    monkeypatch.setattr("lightx2v_tui.launch.form.draw_seed", lambda: next(drawn))
    async with form_of(preset) as (pilot, screen):
        random, button = screen.query_one("#random_seed", Toggle), screen.query_one(Button)
        await pilot.press("ctrl+r")
        assert (said(screen).seed, random.value) == (1000, False)
        random.focus()
        await pilot.press("space")
        for run, seed in enumerate((1001, 1002), start=1):
            await pilot.press("ctrl+g")
            await until(pilot, lambda run=run: len(wanted) == run, "a run")  # type: ignore[misc]
            assert wanted[-1].plan.job.seed == seed
            assert wanted[-1].plan.preset.random_seed is None  # what ran is one seed
            assert wanted[-1].form is not None
            assert wanted[-1].form.random_seed is True
            assert random.value
            assert screen.query_one("#seed", Input).value == str(seed)
            button.disabled = False
        screen.query_one("#seed", Input).focus()
        await pilot.press("end", "7")
        await until(pilot, lambda: not random.value, "a number that is typed is meant")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(wanted) == 3, "a run")
        assert wanted[-1].plan.job.seed == 10027


async def test_steps_offload_tiles_and_previews_reach_the_job(preset: Preset) -> None:
    async with form_of(preset) as (pilot, screen):
        assert "4 steps" in text_of(pilot.app)  # type: ignore[arg-type]
        screen.query_one("#steps", Input).value = "1000 500"
        screen.query_one("#offload", Select).value = Offload.UNLOAD
        screen.query_one("#preview", Select).value = Previews.TINY_VAE
        screen.query_one("#tiling", Toggle).focus()
        await pilot.press("space")
        verdict = screen.query_one(Verdict)
        await until(pilot, lambda: verdict.forecast is not None and verdict.forecast.job.tiling, "")
        job = told_of(screen).job
        assert job.placings.dit is Placing.DROP
        assert job.schedule.timesteps == (1000, 500)  # type: ignore[union-attr]
        assert job.preview is Previews.TINY_VAE
        await until_text(pilot, "2 steps")
        assert str(screen.query_one("#counted", Static).content) == "2 steps"


async def test_a_guided_model_has_a_sampler_guidance_and_a_negative_prompt(
    guided: Preset, size: tuple[int, int]
) -> None:
    async with form_of(guided, size) as (pilot, screen):
        for word in ("Guidance", "unipc"):
            assert word in text_of(pilot.app), word  # type: ignore[arg-type]
        assert screen.query_one("#negative", PromptEditor).text == "blurred"
        screen.query_one("#sampler", Select).value = "euler"
        screen.query_one("#guidance", Input).value = "1"
        await until(pilot, lambda: said(screen).sampler == "euler", "another sampler")
        assert said(screen).enable_cfg is False
        await until(
            pilot,
            lambda: str(screen.query_one("#guided", Static).content) == "none",
            "a word",
        )
        screen.query_one("#guidance", Input).value = "6"
        await until(pilot, lambda: said(screen).enable_cfg is True, "guidance")


async def test_a_megabyte_is_pasted_into_the_prompt_and_edited(preset: Preset) -> None:
    for text in ("a red fox " * 100_000, "字" * 350_000, "x\n" * 300_000):
        async with form_of(preset) as (pilot, screen):
            prompt = screen.query_one("#prompt", PromptEditor)
            prompt.load_text("")
            prompt.focus()
            await pilot.pause()
            pilot.app.post_message(events.Paste(text))
            await until(pilot, lambda prompt=prompt, text=text: len(prompt.text) >= len(text) - 1,  # type: ignore[misc]
                        "the text")  # fmt: skip
            assert (
                prompt.text[:READ_LETTERS] == text[:READ_LETTERS]
            )  # what can be read is as it was pasted
            assert "".join(prompt.text.split()) == "".join(text.split())
            await pilot.press("enter", "z")
            assert prompt.text.endswith("\nz")  # Enter is a new line
            assert prompt.border_subtitle


def test_short_texts_are_not_folded() -> None:
    text = "one\n\n  two " * 300
    assert folded(text) == text


async def test_what_was_typed_is_there_when_the_form_is_opened_again(
    make_app: MakeApp, demo_model: Path
) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("enter")
        screen = await opened(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen, "the models")
        assert last_used.newest() is None  # nothing was changed
        await pilot.press("enter")
        screen = await opened(pilot)
        screen.query_one("#prompt", PromptEditor).load_text("two dogs")
        screen.query_one("#random_seed", Toggle).value = True
        screen.query_one(Matrix).focus()
        await pilot.press("right", "space", "escape")
        await until(pilot, lambda: last_used.newest() == demo_model, "remembered")
        await pilot.press("enter")
        screen = await opened(pilot)
        assert said(screen).prompt == "two dogs"
        assert said(screen).random_seed is True
        assert screen.query_one(Matrix).rows[0].picked == 1


async def test_a_preset_is_saved_and_saved_again_without_a_question(preset: Preset) -> None:
    async with form_of(preset) as (pilot, screen):
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog), "a name")
        await pilot.press("home", "shift+end", *"fox", "enter")
        await until(pilot, lambda: pilot.app.screen is screen, "saved")
        path = library.path_of("fox")
        assert json.loads(path.read_text())["target_width"] == 64
        screen.query_one("#width", Input).value = "128"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: json.loads(path.read_text())["target_width"] == 128, "again")
        assert pilot.app.screen is screen
        await pilot.press("f12")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog), "another name")
        await pilot.press("escape")
        screen.query_one("#width", Input).value = "129"
        await pilot.press("ctrl+s")
        await until_text(pilot, "Not saved")
        assert json.loads(path.read_text())["target_width"] == 128


async def test_a_hand_written_preset_is_not_replaced_silently(preset: Preset) -> None:
    path = library.save("fox", preset)
    path.write_text("// mine\n" + path.read_text())
    async with form_of(preset) as (pilot, before):
        pilot.app.post_message(PresetOpened(preset, "fox"))
        await until(pilot, lambda: pilot.app.screen is not before, "the form on it")
        await opened(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog), "a question")
        assert path.read_text().startswith("// mine")


async def test_a_loaded_preset_takes_the_place_of_the_form(preset: Preset) -> None:
    library.save("wide", replace(preset, width=832, height=480, prompt="a wide fox"))
    async with form_of(preset) as (pilot, before):
        depth = len(pilot.app.screen_stack)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, PresetDialog), "the presets")
        await until_text(pilot, "wide")
        await pilot.press("enter")
        await until(
            pilot,
            lambda: isinstance(pilot.app.screen, LaunchScreen) and pilot.app.screen is not before,
            "the form",
        )
        after = await opened(pilot)
        assert len(pilot.app.screen_stack) == depth
        assert said(after).prompt == "a wide fox"
        assert after.query_one("#size", Select).value == "832x480"
        await pilot.press("ctrl+s")
        await until_text(pilot, "Saved")
        assert pilot.app.screen is after  # over the one that was loaded


async def test_while_a_run_is_under_way_the_button_queues(
    preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [True]
    monkeypatch.setattr(LightX2VApp, "busy", property(lambda _: busy[0]))
    async with form_of(preset) as (pilot, screen):
        await until_text(pilot, "Queue")
        busy[0] = False
        button = screen.query_one(Button)
        await until(pilot, lambda: str(button.label) == "Generate", "Generate")


async def test_a_video_is_replaced_only_after_asking(make_app: MakeApp, tmp_path: Path) -> None:
    there = tmp_path / "fox.mp4"
    there.write_text("precious")
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        screen.query_one("#output", Input).value = str(there)
        await pilot.press("ctrl+g")
        await until_words(pilot, "fox.mp4 is there already and will be replaced")
        await pilot.press("n")
        assert app.screen is screen
        assert not app.busy
        assert there.read_text() == "precious"
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, Question), "the question")
        await pilot.press("y")
        await until_text(pilot, "Made in", seconds=90)
        assert there.stat().st_size > 500
        await pilot.press("r")  # whoever wants it
        await until(pilot, lambda: isinstance(app.screen, Question), "the question")
        await pilot.press("n")
        assert len(app.launcher.runs) == 1


async def test_two_keys_lead_from_a_model_to_its_video(
    make_app: MakeApp, model_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WIDTH", 64), ("HEIGHT", 64), ("FRAMES", 5)):
        monkeypatch.setattr(choices, name, value)
    app = make_app(places=[model_copy])
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("enter")
        await opened(pilot)
        await pilot.press("enter")
        await until_text(pilot, "Saved", seconds=90)
        (folder,) = runs.runs_dir().iterdir()
        assert (folder / "output.mp4").stat().st_size > 500


async def test_the_recommendation_says_why(make_app: MakeApp, demo_model: Path) -> None:
    root = inspect_root(demo_model)
    assert root is not None
    app = make_app(launch=True)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        screen = await opened(pilot)
        screen.query_one("#prompt").focus()
        await pilot.press("f4")  # `a` is a letter here
        await until_text(pilot, "Recommended for this machine")
        assert "On a CPU bf16 is exact" in str(screen.query_one("#reason", Static).content)
        screen.query_one(Matrix).focus()
        await pilot.press("right")
        await pilot.pause()
        assert "DiT fp8: " in str(screen.query_one("#reason", Static).content)
