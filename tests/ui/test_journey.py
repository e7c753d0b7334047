"""A new user, told only "make a video": how many keys until there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
from textual.pilot import Pilot
from textual.widgets import TextArea

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.screens.run import RunScreen
from tests.ui.driver import cut_off, text_of, until, until_text

MakeApp = Callable[..., LightX2VApp]


class User:
    """Presses keys one by one, and counts them."""

    def __init__(self, pilot: Pilot[int]) -> None:
        self.pilot = pilot
        self.pressed = 0

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            self.pressed += 1


def frames_of(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(frame.width, frame.height) for frame in container.decode(video=0)]


def video_of(home: Path) -> Path:
    (path,) = (p for p in home.rglob("*.mp4") if not p.name.startswith("."))
    return path


async def test_from_the_demo_in_at_most_three_keys(
    make_app: MakeApp, own_home: Path, size: tuple[int, int]
) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        user = User(pilot)
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "the form")
        await pilot.pause()
        await user.press("enter")
        await until_text(pilot, "Saved")
        assert user.pressed <= 3
    assert frames_of(video_of(own_home)) == [(64, 64)] * 5


async def test_from_a_real_root_in_at_most_eight_keys(
    model_copy: Path, own_home: Path, size: tuple[int, int]
) -> None:
    """The smallest size the form offers by keys alone: its preset list, then the frames."""
    app = LightX2VApp([model_copy.parent])
    async with app.run_test(size=size) as pilot:
        user = User(pilot)
        await until_text(pilot, "1 model in")
        await user.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "the form")
        await pilot.pause()
        assert "Generate" in text_of(app)
        await user.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        await until_text(pilot, "Denoise")
        assert user.pressed <= 8
        assert not cut_off(app)
        await pilot.press("c", "y")
        await until_text(pilot, "cancelled")
    assert not [*own_home.rglob("output.mp4")]


async def test_from_the_models_to_an_mp4_by_keys_alone(
    model_copy: Path, own_home: Path, size: tuple[int, int]
) -> None:
    """Another precision, another prompt, another size, and the real engine; no mouse, no calls."""
    app = LightX2VApp([model_copy.parent])
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "the form")
        await pilot.pause()
        await go_to(pilot, "matrix")
        await pilot.press("right", "space")
        for field, number in (("width", "64"), ("height", "64"), ("frames", "5")):
            await go_to(pilot, field)
            await pilot.press("home", "shift+end", *number)
        await go_to(pilot, "prompt")
        await pilot.press("home", "shift+end", *"owl")
        prompt = app.screen.query_one("#prompt", TextArea)
        assert prompt.text == "owl"
        await pilot.press("ctrl+g")
        await until_text(pilot, "Saved")
        assert not cut_off(app)
    path = video_of(own_home)
    assert frames_of(path) == [(64, 64)] * 5
    with av.open(str(path)) as container:
        settings = container.metadata["comment"]
    assert '"prompt": "owl"' in settings
    assert "fp8" in settings


async def go_to(pilot: Pilot[int], name: str) -> None:
    """Press Tab until a field has the focus."""
    for _ in range(40):
        focused = pilot.app.focused
        if focused is not None and focused.id == name:
            return
        await pilot.press("tab")
    raise AssertionError(f"Tab never reaches {name}")
