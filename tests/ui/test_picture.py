"""Pictures in half blocks: what they look like, and what they cost on the wire."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from textual.app import App, ComposeResult
from textual.geometry import Region, Size

from engine.spec.picture import Picture
from lightx2v_tui.widgets import picture as module
from lightx2v_tui.widgets.picture import BUDGET, HALF_BLOCK, PictureView, averaged, fitted
from tests.ui.fields import on_screen

RED, BLUE, BLACK, WHITE = (200, 0, 0), (0, 0, 200), (0, 0, 0), (255, 255, 255)


def solid(width: int, height: int, *rows: tuple[int, int, int]) -> Picture:
    """A picture of horizontal stripes."""
    lines = [bytes(rows[y * len(rows) // height]) * width for y in range(height)]
    return Picture(width, height, b"".join(lines))


def noise(width: int, height: int, seed: int = 1) -> Picture:
    return Picture(width, height, random.Random(seed).randbytes(3 * width * height))


class Gallery(App[None]):
    """One picture on the whole screen."""

    def __init__(self, picture: Picture | None, *, shades: bool = False, **options: Any) -> None:
        super().__init__()
        self.animation_level = "none"
        self.shown, self.shades, self.options = picture, shades, options

    def compose(self) -> ComposeResult:
        view = PictureView(self.shown, **self.options)
        view.shades = self.shades
        yield view

    @property
    def view(self) -> PictureView:
        return self.query_one(PictureView)

    def sent(self, system: ColorSystem = ColorSystem.TRUECOLOR) -> int:
        """The bytes of all lines, as the terminal gets them, without the blanks beside."""
        strips = [self.view.render_line(y) for y in range(self.view.size.height)]
        return sum(len(_rendered(strip, system).encode()) for strip in strips)


def _rendered(strip: Any, system: ColorSystem) -> str:
    return "".join(
        segment.style.render(segment.text, color_system=system)
        for segment in strip
        if segment.text.strip()
    )


async def test_a_cell_is_two_pixels() -> None:
    gallery = Gallery(solid(4, 4, RED, BLUE, RED, BLUE))
    async with gallery.run_test(size=(4, 2)):
        assert on_screen(gallery) == [HALF_BLOCK * 4, HALF_BLOCK * 4]
        (segment,) = gallery.view.render_line(0)
        style = segment.style
        assert style is not None
        assert style.color is not None
        assert style.bgcolor is not None
        assert style.color.triplet == RED
        assert style.bgcolor.triplet == BLUE


async def test_a_picture_keeps_its_proportions_in_the_middle(size: tuple[int, int]) -> None:
    gallery = Gallery(solid(40, 20, WHITE), budget=1 << 20)
    async with gallery.run_test(size=size):
        lines = on_screen(gallery)
        drawn = [line for line in lines if line]
        width, height = len(drawn[0].strip()), len(drawn)
        assert abs(width - 4 * height) <= 3  # 2 to 1, of pixels that are half a cell high
        assert width == min(size[0], 4 * size[1])
        left = len(drawn[0]) - len(drawn[0].lstrip())
        assert abs(left - (size[0] - width) // 2) <= 1


async def test_letters_where_there_are_no_colours() -> None:
    gallery = Gallery(solid(4, 8, BLACK, (128, 128, 128), WHITE, WHITE), shades=True)
    async with gallery.run_test(size=(8, 4)):
        lines = on_screen(gallery)
        assert all(line.isascii() for line in lines)
        assert lines[0] == ""
        assert set(lines[1].strip()) == {"+"}
        assert set(lines[2].strip()) == {"@"}


async def test_noise_stays_within_the_budget(size: tuple[int, int]) -> None:
    gallery = Gallery(noise(200, 100))
    async with gallery.run_test(size=size):
        assert BUDGET * 0.6 < gallery.sent() <= BUDGET
        assert gallery.sent(ColorSystem.EIGHT_BIT) <= BUDGET
        assert HALF_BLOCK in "".join(on_screen(gallery))


@pytest.mark.parametrize("budget", [0, 43, 500, 5_000, 60_000])
async def test_any_budget_is_kept(budget: int) -> None:
    gallery = Gallery(noise(64, 48), budget=budget)
    async with gallery.run_test(size=(160, 50)):
        assert gallery.sent() <= max(budget, 43)


async def test_only_what_changed_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    base = noise(20, 20)
    pixels = bytearray(base.pixels)
    pixels[3 * (20 * 7 + 4) : 3 * (20 * 7 + 6)] = bytes(6)  # two pixels of one line
    gallery = Gallery(base, budget=1 << 20)
    async with gallery.run_test(size=(20, 10)) as pilot:
        asked: list[tuple[Region, ...]] = []
        refresh = gallery.view.refresh

        def noted(*regions: Region, **options: Any) -> Any:
            asked.append(regions)
            return refresh(*regions, **options)

        monkeypatch.setattr(gallery.view, "refresh", noted)
        gallery.view.picture = Picture(20, 20, bytes(pixels))
        await pilot.pause()
        assert asked == [(Region(4, 3, 2, 1),)]
        gallery.view.picture = Picture(20, 20, bytes(pixels))
        await pilot.pause()
        assert len(asked) == 1
        gallery.view.picture = None
        await pilot.pause()
        assert HALF_BLOCK not in "".join(on_screen(gallery))


async def test_another_size_of_the_place_is_another_size_of_the_picture() -> None:
    gallery = Gallery(solid(10, 10, RED), budget=1 << 20)
    async with gallery.run_test(size=(10, 5)) as pilot:
        assert on_screen(gallery) == [HALF_BLOCK * 10] * 5
        for place in ((40, 10), (3, 40), (1, 1), (90, 30), (20, 10)):
            await pilot.resize_terminal(*place)
            await pilot.pause()
        assert on_screen(gallery) == [HALF_BLOCK * 20] * 10


async def test_a_poor_terminal_gets_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, letters in (("TERM", "xterm", True), ("TERM", "xterm-256color", False),
                                 ("NO_COLOR", "1", True)):  # fmt: skip
        monkeypatch.delenv("COLORTERM", raising=False)
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        assert PictureView().shades == letters
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("LC_ALL", "POSIX")
    assert PictureView().shades


SIDES = st.integers(1, 70)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 900))
def test_a_picture_fits_its_place(w: int, h: int, width: int, height: int, cells: int) -> None:
    size = fitted(Picture(w, h, bytes(3 * w * h)), Size(width, height), cells)
    assert 1 <= size.width <= width
    assert 1 <= size.height <= height
    assert size.area <= cells


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=3, max_size=3 * 30), SIDES, SIDES)
def test_every_pixel_is_the_mean_of_its_area(content: bytes, width: int, height: int) -> None:
    pixels = content[: len(content) // 3 * 3]
    picture = Picture(len(pixels) // 3, 1, pixels)
    rows = averaged(picture, width, height)
    assert [len(row) for row in rows] == [width] * height
    whole = averaged(picture, 1, 1)[0][0]
    assert whole == tuple(sum(pixels[c::3]) // picture.width for c in range(3))
    for row in rows:
        for pixel in row:
            for channel in range(3):
                values = pixels[channel::3]
                assert min(values) <= pixel[channel] <= max(values)


def test_rounding_makes_neighbours_alike() -> None:
    pairs = [((100 + step, 50, 50), (9, 9, 9)) for step in range(3)]
    assert len(module._coloured(pairs)) == 1
