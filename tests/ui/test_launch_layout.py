"""The launch form in terminals of any size: what must be in sight, and what scrolls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.content import Content

from engine.spec.job import Placing, Placings
from engine.spec.precision import Precision
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.host import HostMemory
from lightx2v_tui.launch.forecast import Forecast, foresee, machine_of
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.widgets.launch_form import LaunchForm
from lightx2v_tui.widgets.matrix import Matrix
from lightx2v_tui.widgets.verdict import Verdict
from tests.ui.driver import text_of, until, until_text
from tests.ui.test_launch import opened
from tests.unit import published
from tests.unit.helpers import gpu

GB = 10**9
MakeApp = Callable[..., LightX2VApp]
IN_SIGHT = ("#matrix", "#prompt", "#size", "#frames", "#seed", "#summary", "Verdict", "#generate")


def in_sight(screen: LaunchScreen, name: str) -> bool:
    """True where a widget is on the screen as a whole."""
    place = screen.find_widget(screen.query_one(name))
    return bool(place.region) and place.visible_region == place.region


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (160, 50)], ids=str)
async def test_what_matters_is_in_sight_without_scrolling(
    make_app: MakeApp, size: tuple[int, int]
) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot)
        await until_text(pilot, "✓ fits")
        assert [name for name in IN_SIGHT if not in_sight(screen, name)] == []
        assert screen.query_one(LaunchForm).max_scroll_y == 0
        wide = size[0] >= 110
        assert ("Peaks" in text_of(app)) is wide  # room for the stages
        notes = all(cell.note in text_of(app) for cell in screen.query_one(Matrix).rows[0].cells)
        assert notes is (size[0] == 160)


@pytest.mark.parametrize("size", [(40, 24), (20, 5), (60, 12), (10, 3)], ids=str)
async def test_small_terminals_reach_everything_by_scrolling(
    make_app: MakeApp, size: tuple[int, int]
) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot)
        form = screen.query_one(LaunchForm)
        for _ in range(17):
            await pilot.press("tab")
            focused = app.focused
            assert focused is not None
            if form in focused.ancestors and size[1] >= 5:
                await until(pilot, lambda it=focused: app.screen.can_view_partial(it),  # type: ignore[misc]
                            focused.css_identifier)  # fmt: skip
        panels = [panel.region for panel in form.query(".panel")]
        assert not [a for a in panels for b in panels if a is not b and a.overlaps(b)]
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen, "the models")


async def test_a_storm_of_resizes_leaves_the_form_as_it_was(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        before = screen.query_one(LaunchForm).read()
        for width, height in ((160, 50), (20, 5), (109, 16), (110, 15), (40, 40), (3, 2)):
            await pilot.resize_terminal(width, height)
        await pilot.resize_terminal(80, 24)
        await until_text(pilot, "✓ fits")
        assert screen.query_one(LaunchForm).read() == before
        assert [name for name in IN_SIGHT if not in_sight(screen, name)] == []


def forecast(tmp_path: Path, vram: int, ram: int, **values: object) -> Forecast:
    """The 14B in FP8 on a card."""
    card = replace(gpu((8, 9), "RTX 4090"), total_bytes=24 * GB, used_bytes=24 * GB - vram)
    machine = machine_of(card, HostMemory(64 * GB, ram, GB // 10))
    job = published.published_job(tmp_path, published.T2V_14B, Precision.FP8)
    return foresee(replace(job, device="cuda:0", **values), machine)  # type: ignore[arg-type]


def told(verdict: Verdict) -> str:
    content = verdict.render()
    assert isinstance(content, Content)
    return content.plain


def test_the_verdict_says_how_much_is_needed_of_what_is_free(tmp_path: Path) -> None:
    verdict = Verdict()
    fitting = forecast(
        tmp_path, 20 * GB, 60 * GB, placings=Placings(t5=Placing.CPU), width=480, height=480,
        frames=17,
    )  # fmt: skip
    verdict.forecast = fitting
    assert told(verdict).startswith("✓ fits with offload (T5 in RAM)  VRAM ")
    verdict.roomy = True
    lines = told(verdict).splitlines()
    assert lines[:2] == ["✓ fits with offload", "T5 in RAM"]
    assert any(line.startswith("VRAM") and "█" in line for line in lines)
    assert any("of 20.0 GB free, of 24.0 GB" in line for line in lines)
    assert any(line.startswith("Peaks") and "VRAM" in line and "RAM" in line for line in lines)
    assert any(line.startswith("Denoise") for line in lines)


def test_what_does_not_fit_is_told_with_advice(tmp_path: Path) -> None:
    verdict = Verdict()
    verdict.forecast = forecast(tmp_path, 8 * GB, 60 * GB)
    assert not verdict.forecast.fits
    assert told(verdict).startswith("✗ does not fit")
    for advice in verdict.forecast.estimate.advice:
        assert advice in told(verdict)
    verdict.roomy = True
    for advice in verdict.forecast.estimate.advice:
        assert advice in told(verdict)


def test_where_nothing_can_be_foreseen_the_verdict_says_why() -> None:
    verdict = Verdict()
    assert told(verdict) == ""
    verdict.problem = "There is no fp8 T5"
    assert told(verdict) == "There is no fp8 T5"
