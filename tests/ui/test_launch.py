"""The launch form: precisions, numbers, prompt, and what it says before a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Button, Input, Select, Static

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.gpus import Gpu, GpuReading
from lightx2v_tui.launch.forecast import Forecast
from lightx2v_tui.screens.dialogs import ErrorDialog
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.units import size as readable
from lightx2v_tui.widgets.loras import LoraRows
from lightx2v_tui.widgets.matrix import Matrix
from lightx2v_tui.widgets.verdict import Verdict
from tests.ui.driver import cut_off, text_of, until, until_text

MakeApp = Callable[..., LightX2VApp]


async def opened(pilot: Pilot[int]) -> LaunchScreen:
    """Wait for the form."""
    await until(pilot, lambda: isinstance(pilot.app.screen, LaunchScreen), "launch form")
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, LaunchScreen)
    return screen


def told_of(screen: LaunchScreen) -> Forecast:
    """What the form foresees now."""
    forecast = screen.query_one(Verdict).forecast
    assert forecast is not None
    return forecast


async def test_it_shows_everything_that_is_decided(
    make_app: MakeApp, size: tuple[int, int]
) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        shown = text_of(app)
        for word in ("DiT", "T5", "VAE", "bf16", "fp8", "int8", "full", "tiny", "Prompt", "64",
                     "Size", "Frames", "Seed", "random", "1000 750 500 250", "Shift", "Offload",
                     "Preview", "Output", "LoRAs", "Generate", "4 steps"):  # fmt: skip
            assert word in shown, word
        assert not cut_off(app)
        assert isinstance(app.focused, Button)
        assert "Guidance" not in shown  # a distilled model is not guided
        assert "Negative" not in shown
        assert "First frame" not in shown


async def test_arrows_and_space_pick_precisions(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        matrix = screen.query_one(Matrix)
        matrix.focus()
        await pilot.press("right", "space", "down", "right", "space", "down", "space")
        picked = {row.title: row.cells[row.picked].value for row in matrix.rows}
        assert picked == {"DiT": "fp8", "T5": "int8", "VAE": "tiny"}


async def test_a_precision_that_is_not_there_stays_visible_with_its_reason(
    make_app: MakeApp, model_copy: Path
) -> None:
    next((model_copy / "distill_fp8").glob("models_t5*")).unlink()
    app = make_app(places=[model_copy])
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "1 model in" in text_of(app), "the model")
        await pilot.press("enter")
        screen = await opened(pilot)
        matrix = screen.query_one(Matrix)
        matrix.focus()
        await pilot.press("down", "right")
        await pilot.pause()
        assert "× fp8" in text_of(app)
        assert "no fp8 T5 in this folder" in text_of(app)
        await pilot.press("space")
        assert matrix.rows[1].cells[matrix.rows[1].picked].value == "bf16"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("width", "100", "width must be a multiple of 16"),
        ("height", "0", "height must be a multiple of 16"),
        ("frames", "0", "at least 1 frame"),
        ("seed", "", "seed is empty"),
        ("steps", "250 500", "steps must fall"),
    ],
)
async def test_numbers_are_judged_while_they_are_typed(
    make_app: MakeApp, field: str, value: str, words: str
) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        place = screen.query_one(f"#{field}", Input)
        right = place.value
        place.value = value
        await until_text(pilot, words)
        assert place.has_class("-wrong")
        place.value = right
        await until_text(pilot, "4 steps · 5 frames")
        assert not place.has_class("-wrong")


async def test_frames_are_rounded_while_they_are_typed(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        screen.query_one("#frames", Input).value = "30"
        await until_text(pilot, "29 frames (30 rounded to 4k+1), 1.8 s")
        assert str(screen.query_one("#length", Static).content) == "fps, 1.8 s"


@pytest.mark.parametrize(("field", "value"), [("height", "100"), ("frames", "0"), ("fps", "")])
async def test_a_wrong_number_is_an_error_to_read_and_then_to_correct(
    make_app: MakeApp, field: str, value: str
) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        screen.query_one(f"#{field}", Input).value = value
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        await pilot.press("escape")
        assert app.screen is screen
        assert app.focused is screen.query_one(f"#{field}")


async def test_tab_reaches_every_field(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await opened(pilot)
        reached = []
        for _ in range(16):
            await pilot.press("tab")
            assert app.focused is not None
            reached.append(app.focused.id or type(app.focused).__name__)
        assert reached == [
            "matrix", "prompt", "size", "width", "height", "frames", "fps", "seed", "random_seed",
            "steps", "shift", "offload", "preview", "tiling", "output", "LoraRows",
        ]  # fmt: skip
        await pilot.press("tab")
        assert app.focused is not None
        assert app.focused.id == "generate"


async def test_a_model_opens_on_what_its_gpu_computes(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = Gpu(0, "GPU-0", "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, 1 << 30)
    monkeypatch.setattr("lightx2v_tui.gpus.read_gpus", lambda: GpuReading((ada,)))
    app = make_app()
    async with app.run_test() as pilot:
        await until(pilot, lambda: "1 model in" in text_of(app), "the model")
        await pilot.press("enter")
        screen = await opened(pilot)
        matrix = screen.query_one(Matrix)
        await until(pilot, lambda: [row.picked for row in matrix.rows] == [1, 1, 0], "fp8")


async def test_recommended_puts_the_choice_back(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        matrix = screen.query_one(Matrix)
        matrix.focus()
        await pilot.press("right", "space")
        assert matrix.rows[0].picked == 1
        await pilot.press("a")
        await until(pilot, lambda: matrix.rows[0].picked == 0, "the recommended precision")


async def test_the_form_foresees_memory_and_follows_the_numbers(
    make_app: MakeApp, size: tuple[int, int]
) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot)
        verdict = screen.query_one(Verdict)
        await until(pilot, lambda: verdict.forecast is not None, "a forecast")
        await until_text(pilot, "fits")
        before = verdict.forecast
        assert before is not None
        assert readable(before.estimate.ram_needed) in text_of(app)
        assert not cut_off(app)
        screen.query_one("#size", Select).value = "1280x720"
        screen.query_one("#frames", Input).value = "81"
        await until(pilot, lambda: verdict.forecast is not before, "another forecast")
        await until(pilot, lambda: told_of(screen).job.frames == 81, "81 frames")
        told = told_of(screen)
        assert told.estimate.ram_needed > before.estimate.ram_needed
        assert (told.job.width, told.job.height) == (1280, 720)
        assert readable(told.estimate.ram_needed) in text_of(app)


async def test_picked_loras_are_in_the_summary_and_in_the_forecast(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await opened(pilot)
        await until_text(pilot, "✓ fits")
        screen.query_one(LoraRows).focus()
        await pilot.press("space")
        await until_text(pilot, "1 LoRA · 4 steps")
        await until(pilot, lambda: len(told_of(screen).job.loras) == 1, "a forecast with the LoRA")


async def test_what_goes_wrong_unforeseen_is_told_and_the_form_stays(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        await until_text(pilot, "✓ fits")

        def fail(*_: object) -> None:
            raise PermissionError("nobody foresaw this")

        monkeypatch.setattr("lightx2v_tui.launch.planning.jobs.plan", fail)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        assert "nobody foresaw this" in text_of(app)
        assert not screen.query_one(Button).disabled


async def test_what_is_free_is_asked_anew_and_again_after_a_run(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Gpu(0, "GPU-0", "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, 1 << 30)
    cards = [card]
    monkeypatch.setattr("lightx2v_tui.launch.planning.read_gpus", lambda: GpuReading(tuple(cards)))
    app = make_app(launch=True)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await until_text(pilot, f"of {readable(card.free_bytes)}")
        cards[0] = replace(card, used_bytes=8 << 30)
        app.push_screen(Screen())
        await pilot.pause()
        app.pop_screen()
        await until_text(pilot, f"of {readable(cards[0].free_bytes)}")


async def test_an_image_model_is_foreseen_before_it_has_its_image(
    make_app: MakeApp, golden: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[golden / "Tiny-I2V-LightX2V"])
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("enter")
        screen = await opened(pilot)
        await until_text(pilot, "It turns an image")
        await until_text(pilot, "✓ fits")
        for word in ("CLIP", "First frame", "Guidance", "unipc", "Prompt"):
            assert word in text_of(app), word
        assert screen.query("#negative")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        assert "Name a PNG" in text_of(app)
        await pilot.press("escape")
        field = screen.query_one("#image Input", Input)
        assert app.focused is field
        field.value = str(golden / "first_frame.png")
        await until_text(pilot, "40 steps")
        await until(pilot, lambda: told_of(screen).job.image == golden / "first_frame.png", "it")
        told = told_of(screen)
        assert f"→{told.job.width}x{told.job.height}" in str(
            screen.query_one("#adjusted", Static).content
        )
