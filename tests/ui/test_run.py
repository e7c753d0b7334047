"""The run screen on the real engine: by keys alone from the models to an mp4, cancel, errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import av
from textual.widgets import Input

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.demo import demo_preset
from lightx2v_tui.messages import RunWanted
from lightx2v_tui.screens.dialogs import ErrorDialog, Question
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.screens.run import RunScreen
from tests.ui.driver import cut_off, text_of, until, until_text
from tests.ui.run_driver import plan_of

MakeApp = Callable[..., LightX2VApp]


def videos(home: Path) -> list[Path]:
    """Every finished mp4 below a folder."""
    return sorted(path for path in home.rglob("*.mp4") if not path.name.startswith("."))


def pixels(path: Path) -> bytes:
    """All frames of a video."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return b"".join(frame.tobytes() for frame in frames)


async def test_one_key_from_the_demo_to_an_mp4(
    make_app: MakeApp, own_home: Path, size: tuple[int, int]
) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await until_text(pilot, "Saved")
        shown = text_of(app)
        assert shown.count("✓") == 7
        assert "done in" in shown
        assert "RAM" in shown
        assert not cut_off(app)
    (path,) = videos(own_home)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert '"target_width": 64' in container.metadata["comment"]
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 5
    folder = path.parent
    assert {item.name for item in folder.iterdir()} == {
        "log.txt", "output.mp4", "preset.json", "status.json",
    }  # fmt: skip
    assert '"status": "done"' in (folder / "status.json").read_text()


async def test_run_again_and_new_seed(make_app: MakeApp, own_home: Path) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        await pilot.press("enter")
        await until_text(pilot, "Saved")
        await pilot.press("r")
        await until(pilot, lambda: len(videos(own_home)) == 2, "a second video")
        await until_text(pilot, "Saved")
        await pilot.press("n")
        await until(pilot, lambda: len(videos(own_home)) == 3, "a third video")
        await until_text(pilot, "Saved")
    first, second, third = (pixels(path) for path in videos(own_home))
    assert first == second
    assert first != third


async def test_memory_is_freed_by_a_key(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test(notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        await pilot.press("enter")
        await until_text(pilot, "Saved")
        await pilot.press("ctrl+u")
        await until_text(pilot, "Nothing is loaded any more.")


async def test_what_a_lora_did_is_shown(demo_model: Path) -> None:
    lora = next((demo_model / "loras").iterdir())
    loras = f'lora_configs=[{{"path": "{lora}", "strength": 0.5}}]'
    small = ("target_width=64", "target_height=64", "target_video_length=5")
    app = LightX2VApp([], lambda: demo_preset(demo_model, (*small, loras)))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        assert "1 LoRA" in text_of(app)
        await pilot.press("enter")
        await until_text(pilot, "Saved")
        assert f"LoRA {lora.name}" in text_of(app)
        assert "layers changed" in text_of(app)


async def test_cancel_asks_and_is_honoured_within_two_seconds(
    make_app: MakeApp, own_home: Path
) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        for field, value in (("width", "832"), ("height", "480"), ("frames", "81")):
            app.screen.query_one(f"#{field}", Input).value = value
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "● Denoise" in text_of(app), "denoising")
        await pilot.press("c")
        assert isinstance(app.screen, Question)
        kept = app.launcher.run is not None and app.launcher.run.folder.checkpoint.exists()
        await until_text(pilot, "are kept" if kept else "nothing of it is kept")
        await pilot.press("n")
        assert isinstance(app.screen, RunScreen)
        assert app.launcher.busy
        await pilot.press("c", "y")
        asked = time.monotonic()
        await until_text(pilot, "Cancelled.")
        assert time.monotonic() - asked < 2.0
        assert not app.launcher.busy
    assert videos(own_home) == []


async def test_a_run_goes_on_behind_other_screens(make_app: MakeApp, own_home: Path) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await pilot.press("escape")
        assert isinstance(app.screen, LaunchScreen)
        await pilot.press("v")
        assert isinstance(app.screen, RunScreen)
        await until_text(pilot, "Saved")
    assert len(videos(own_home)) == 1


async def test_a_failed_run_is_an_error_to_read_and_the_app_lives(
    make_app: MakeApp, model_copy: Path
) -> None:
    plan = plan_of(model_copy)
    damage = model_copy / "distill_models" / "distill_model.safetensors"
    data = damage.read_bytes()
    damage.write_bytes(data[:-4000] + b"\xff" * 4000)  # bf16 values that are not numbers
    app = make_app(places=[])
    async with app.run_test(size=(120, 36)) as pilot:
        app.post_message(RunWanted(plan, own_folder=True))
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        shown = text_of(app)
        for words in ("not finite", "Why", "What to do", "log.txt"):
            assert words in shown
        await pilot.press("escape")
        assert isinstance(app.screen, RunScreen)
        assert "failed" in text_of(app)
        assert "✗" in text_of(app)
        await pilot.press("escape")
        await until_text(pilot, "Models")


async def test_an_output_that_cannot_be_written_is_told_before_the_engine_starts(
    make_app: MakeApp, own_home: Path
) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        (own_home / "file").write_text("")
        app.screen.query_one("#output", Input).value = str(own_home / "file" / "video.mp4")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        assert "The output cannot be written" in text_of(app)
        await pilot.press("escape")
        assert isinstance(app.screen, LaunchScreen)
        assert not app.launcher.busy


async def test_quitting_during_a_run_asks(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.pause()
        app.screen.query_one("#width", Input).value = "832"
        app.screen.query_one("#height", Input).value = "480"
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await pilot.press("q")
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        assert isinstance(app.screen, RunScreen)
        await pilot.press("q", "y")
        await pilot.pause()
    assert app.return_code == 0
    assert not app.launcher.busy
