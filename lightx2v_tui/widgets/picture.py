"""A picture in half blocks: two pixels a cell, in as many colours as the terminal has.

Every byte of it travels over SSH. So a picture has a budget, of which the number of its cells
follows; colours are rounded, so that equal neighbours are sent once; and of a picture that
replaces another only the cells that differ are drawn.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from engine.spec.picture import Picture
from lightx2v_tui import terminal

HALF_BLOCK = "▀"
SHADES = " .:-=+*#%@"  # where there are no half blocks, or not enough colours
STEP = 8  # colours are rounded to this, so that equal neighbours are sent once
CELL_BYTES = 43  # of a cell whose neighbours have other colours, at most
BUDGET = 30_000  # bytes of one picture

Pixel = tuple[int, int, int]


class PictureView(Widget):
    """Shows a picture, as large as its place and its budget allow, or nothing."""

    DEFAULT_CSS = "PictureView { width: 1fr; height: 1fr; }"
    picture: reactive[Picture | None] = reactive(None, repaint=False)
    shades: reactive[bool] = reactive(False, repaint=False)

    def __init__(
        self, picture: Picture | None = None, *, budget: int = BUDGET,
        id: str | None = None, classes: str | None = None,  # noqa: A002 - Textual's
    ) -> None:  # fmt: skip
        """Show `picture`, sending at most `budget` bytes for it."""
        super().__init__(id=id, classes=classes)
        self._budget = budget
        self._strips: list[Strip] = []
        self.set_reactive(PictureView.picture, picture)
        self.set_reactive(PictureView.shades, terminal.here().shades)

    def render_line(self, y: int) -> Strip:
        """Draw one line of cells."""
        strip = self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)
        return strip.apply_style(self.rich_style)  # beside the picture stands its place's colour

    def watch_picture(self) -> None:
        """Draw what differs from the picture before."""
        self._redraw()

    def watch_shades(self) -> None:
        """Draw it in the other way."""
        self._redraw()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the picture into its new place."""
        self._strips = self._drawn(event.size)
        self.refresh()

    def _redraw(self) -> None:
        before, self._strips = self._strips, self._drawn(self.size)
        if len(before) != len(self._strips):
            self.refresh()
            return
        regions = (changed(y, old, new) for y, (old, new) in enumerate(zip(before, self._strips)))  # noqa: B905 - of one length
        if found := [region for region in regions if region is not None]:
            self.refresh(*found)

    def _drawn(self, place: Size) -> list[Strip]:
        picture = self.picture
        if picture is None or not place:
            return [Strip.blank(place.width)] * place.height
        size = fitted(picture, place, self._budget // (1 if self.shades else CELL_BYTES))
        left, top = (place.width - size.width) // 2, (place.height - size.height) // 2
        rows = averaged(picture, size.width, 2 * size.height)
        strips = [Strip.blank(place.width)] * place.height
        for y in range(size.height):
            pairs = list(zip(rows[2 * y], rows[2 * y + 1], strict=True))
            cells = _shaded(pairs) if self.shades else _coloured(pairs)
            margin = [Segment(" " * left)] if left else []
            strips[top + y] = Strip([*margin, *cells]).adjust_cell_length(place.width)
        return strips


def fitted(picture: Picture, place: Size, most_cells: int = 1 << 30) -> Size:
    """How many cells a picture takes in a place, in its own proportions."""
    scale = min(place.width / picture.width, 2 * place.height / picture.height)
    scale = min(scale, (2 * most_cells / (picture.width * picture.height)) ** 0.5)
    width = max(1, min(place.width, int(picture.width * scale + 0.5)))
    height = max(1, min(place.height, int(picture.height * scale / 2 + 0.5)))
    while width * height > most_cells and width * height > 1:
        if height == 1 or width > 2 * height:
            width -= 1
        else:
            height -= 1
    return Size(width, height)


def averaged(picture: Picture, width: int, height: int) -> list[list[Pixel]]:
    """The picture in `height` rows of `width` pixels, each the mean of the area it stands for."""
    columns = _spans(picture.width, width)
    rows: list[list[Pixel]] = []
    for top, bottom in _spans(picture.height, height):
        sums = _summed(picture, top, bottom)
        rows.append([_mean(sums, left, right, bottom - top) for left, right in columns])
    return rows


def changed(y: int, old: Strip, new: Strip) -> Region | None:
    """The cells of a line that differ, from the first to the last; None where none do."""
    if old == new:
        return None
    before, after = _cells(old), _cells(new)
    width = max(len(before), len(after))
    if len(before) != len(after):
        return Region(0, y, width, 1)
    different = [x for x, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    if not different:
        return None
    return Region(different[0], y, different[-1] - different[0] + 1, 1)


def _spans(length: int, parts: int) -> list[tuple[int, int]]:
    """Where each of `parts` equal parts begins and ends; none is empty."""
    starts = [part * length // parts for part in range(parts)]
    ends = [max(start + 1, (part + 1) * length // parts) for part, start in enumerate(starts)]
    return list(zip(starts, ends, strict=True))


def _summed(picture: Picture, top: int, bottom: int) -> list[int]:
    """The sums of some rows, channel by channel."""
    step = 3 * picture.width
    rows = [picture.pixels[step * y : step * (y + 1)] for y in range(top, bottom)]
    return list(rows[0]) if len(rows) == 1 else list(map(sum, zip(*rows, strict=True)))


def _mean(sums: list[int], left: int, right: int, rows: int) -> Pixel:
    count = rows * (right - left)
    red, green, blue = (sum(sums[3 * left + c : 3 * right : 3]) // count for c in range(3))
    return red, green, blue


def _cells(strip: Strip) -> list[tuple[str, Style | None]]:
    return [(letter, segment.style) for segment in strip for letter in segment.text]


def _shaded(pairs: list[tuple[Pixel, Pixel]]) -> list[Segment]:
    """One line of a picture in letters: the lighter, the denser."""
    lights = [_light(upper) + _light(lower) for upper, lower in pairs]
    return [Segment("".join(SHADES[light * len(SHADES) // 512] for light in lights))]


def _light(pixel: Pixel) -> int:
    """How light a pixel looks, 0..255 (ITU-R BT.601)."""
    return (299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) // 1000


def _coloured(pairs: list[tuple[Pixel, Pixel]]) -> list[Segment]:
    """One line of a picture in half blocks; neighbours of the same colours are one segment."""
    return [
        Segment(HALF_BLOCK * len(list(alike)), style)
        for style, alike in groupby(_style(_rounded(a), _rounded(b)) for a, b in pairs)
    ]


@lru_cache(maxsize=4096)
def _style(upper: Pixel, lower: Pixel) -> Style:
    return Style.from_color(Color.from_rgb(*upper), Color.from_rgb(*lower))


def _rounded(pixel: Pixel) -> Pixel:
    red, green, blue = (min(255, (value + STEP // 2) // STEP * STEP) for value in pixel)
    return red, green, blue
