"""A few screens as SVG, looked at by people when they change: `pytest --snapshot-update`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.widgets import Button

from engine.spec.errors import EngineError
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.catalog import ModelRoot, inspect_root
from lightx2v_tui.catalog.model import Disk
from lightx2v_tui.gpus import Gpu, GpuReading
from lightx2v_tui.host import HostMemory
from lightx2v_tui.messages import MachineRead, RootsFound
from lightx2v_tui.screens.launch import LaunchScreen
from tests.ui.driver import until, until_text

GB = 1 << 30
CARD = Gpu(0, "GPU-0", "NVIDIA GeForce RTX 4090", (8, 9), 24 * GB, 1 * GB)
MACHINE = (GpuReading((CARD,)), HostMemory(64 * GB, 60 * GB, GB // 10))


class Svg(SingleFileSnapshotExtension):
    """One SVG a picture."""

    file_extension = "svg"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def picture(snapshot: SnapshotAssertion) -> Callable[[LightX2VApp], bool]:
    """Compare a screen with its picture."""
    kept = snapshot.use_extension(Svg)

    def same(app: LightX2VApp) -> bool:
        svg = re.sub(r"terminal-\d+", "terminal", app.export_screenshot(simplify=True))
        return bool(svg == kept)

    return same


@pytest.fixture(autouse=True)
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every machine is the same here."""
    for module in ("launch.planning", "screens.scanning", "screens.models", "gpus"):
        monkeypatch.setattr(f"lightx2v_tui.{module}.read_gpus", lambda: MACHINE[0], raising=False)
    for module in ("launch.planning", "screens.scanning", "screens.models", "host"):
        monkeypatch.setattr(f"lightx2v_tui.{module}.read_memory", lambda: MACHINE[1], raising=False)


def model(demo_model: Path) -> ModelRoot:
    root = inspect_root(demo_model)
    assert root is not None
    return replace(root, path=Path("/models/Demo"), disk=Disk("ssd", Path("/"), 512 * GB))


async def test_models(
    picture: Callable[[LightX2VApp], bool], demo_model: Path, size: tuple[int, int]
) -> None:
    app = LightX2VApp([])
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "No models yet")
        screen = app.screen
        screen.post_message(MachineRead(*MACHINE))
        screen.post_message(RootsFound([model(demo_model)], screen._stop))
        await until_text(pilot, "ready to launch")
        await until_text(pilot, "RTX 4090")
        screen.query_one("TitleBar").state = ""  # how long the scan took
        await pilot.pause()
        assert picture(app)


async def test_launch(
    picture: Callable[[LightX2VApp], bool], make_app: Callable[..., LightX2VApp],
    size: tuple[int, int],
) -> None:  # fmt: skip
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "the form")
        await until_text(pilot, "fits")
        await until(pilot, lambda: isinstance(app.focused, Button), "the button")
        await pilot.pause()
        assert picture(app)


async def test_an_error(picture: Callable[[LightX2VApp], bool], size: tuple[int, int]) -> None:
    app = LightX2VApp([])
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "No models yet")
        fix = "Choose a smaller size, fewer frames, or FP8 weights."
        app.show_error(EngineError("cuda:0 ran out of memory", "2 GB were asked for", fix), "/log")
        await until_text(pilot, "What to do")
        app.screen_stack[0].query_one("TitleBar").state = ""
        await pilot.pause()
        assert picture(app)
