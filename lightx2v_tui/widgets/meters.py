"""Bars and histories as plain block text in one style: a few bytes a second over SSH."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

EIGHTHS = "▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"
MARK = "┃"
HIGH, FULL = 0.85, 0.95  # from where on a meter warns
AMOUNT = 20  # "999.9 MB of 141.0 GB"
LABEL = 6
GRAPH_FROM = 3  # lines: with fewer the history stands behind the bar
GAP_FROM = 4  # lines from which one below the graph stays empty


def bar(fraction: float, width: int, mark: float | None = None) -> str:
    """A horizontal bar of `width` cells, filled to eighths of a cell, with a mark in it."""
    cells = max(0.0, min(1.0, fraction)) * width
    whole = int(cells)
    part = int((cells - whole) * 8)
    filled = "█" * whole + (EIGHTHS[part - 1] if part else "")
    drawn = filled + "·" * (width - len(filled))
    if mark is None or width < 1:
        return drawn
    at = _mark_at(mark, width)
    return drawn[:at] + MARK + drawn[at + 1 :]


def _mark_at(mark: float, width: int) -> int:
    return min(width - 1, max(0, int(mark * width)))


def span(count: int, width: int) -> int:
    """How many values a column stands for, so that `count` of them fit: a power of two."""
    taken = 1
    while width > 0 and taken * width < count:
        taken *= 2
    return taken


def columns(values: Sequence[float], width: int) -> list[float]:
    """All values in at most `width` columns, each the largest of what it stands for.

    A new value changes the last column alone, until all are folded in two.
    """
    if width < 1:
        return []
    taken = span(len(values), width)
    return [max(values[at : at + taken]) for at in range(0, len(values), taken)]


def history(values: Sequence[float], width: int) -> str:
    """All values as a line of blocks, `width` cells wide."""
    return graph(values, width, 1)[0]


def graph(values: Sequence[float], width: int, height: int) -> list[str]:
    """All values as `height` lines of blocks, the highest line first; zero is not empty."""
    tops = [
        max(1, round(max(0.0, min(1.0, value)) * height * 8)) for value in columns(values, width)
    ]
    lines = []
    for row in range(height - 1, -1, -1):
        cells = (min(8, max(0, top - 8 * row)) for top in tops)
        lines.append("".join(LEVELS[cell - 1] if cell else " " for cell in cells).ljust(width))
    return lines


@dataclass(frozen=True)
class Level:
    """What a meter shows: a fraction of its whole, in words, and where it is expected to go."""

    fraction: float
    amount: str
    mark: float | None = None
    alarms: bool = True  # False where much is good


@dataclass(frozen=True)
class _Places:
    """Where in a meter its history is drawn."""

    bar: int
    graph: Region


class Meter(Widget):
    """A name, a bar, an amount, and all that was so far: behind the bar, or below it as a graph."""

    COMPONENT_CLASSES = {
        "meter--name", "meter--bar", "meter--high", "meter--full", "meter--mark", "meter--history",
    }  # fmt: skip
    DEFAULT_CSS = """
    Meter {
        height: 1fr; min-height: 1; max-height: 6;
        & > .meter--name { text-style: bold; }
        & > .meter--bar { color: $success; }
        & > .meter--high { color: $warning; }
        & > .meter--full { color: $error; }
        & > .meter--mark { color: $secondary; text-style: bold; }
        & > .meter--history { color: $primary; }
    }
    """

    def __init__(self, name: str, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id)
        self.display = False
        self._name_shown = name
        self._level: Level | None = None
        self._problem = ""
        self._values: list[float] = []
        self._drawn: tuple[tuple[int, Region], list[str]] | None = None

    def show(self, level: Level) -> None:
        """Show one more reading, drawing only the cells that it changes."""
        self.display = True
        count, here = len(self._values), self._places().graph
        self._values.append(level.fraction)
        if level != self._level or self._problem:
            self._level, self._problem = level, ""
            self.refresh(Region(0, 0, self.size.width - (here.width if here.y == 0 else 0), 1))
        if here.area and span(count, here.width) == span(count + 1, here.width):
            column = count // span(count, here.width)
            self.refresh(Region(here.x + column, here.y, 1, here.height))
        else:
            self.refresh()

    def tell(self, problem: str) -> None:
        """Say why there is no reading any more; nothing where there never was one."""
        if self._level is not None and problem != self._problem:
            self._problem = problem
            self.refresh()

    def clear(self) -> None:
        """Forget everything: another run begins."""
        self._level, self._problem, self._values, self._drawn = None, "", [], None
        self.display = False

    def on_resize(self, _: Resize) -> None:
        """Draw all cells where the place changes."""
        self.refresh()

    def _places(self) -> _Places:
        """Name, bar and amount have one line; the history has the rest of it, or those below."""
        width, height = self.size
        room = max(0, width - LABEL - AMOUNT - 2)
        if height >= GRAPH_FROM:
            gap = height >= GAP_FROM  # so that it is not taken for that of the meter below
            return _Places(room, Region(0, 1, width, height - 1 - gap))
        behind = room * 2 // 5 if room >= 12 else 0
        return _Places(room - behind, Region(width - behind, 0, behind, 1))

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        if self._level is None or y >= self.size.height:
            return Strip.blank(self.size.width, self.rich_style)
        places = self._places()
        here = places.graph
        cells: list[Segment] = []
        if y == 0:
            cells = self._head(self._level, places.bar)
        if here.y <= y < here.y + here.height:
            cells += [Segment(self._graph(here)[y - here.y], self._style("history"))]
        return Strip(cells).adjust_cell_length(self.size.width, self.rich_style)

    def _graph(self, here: Region) -> list[str]:
        """The history's lines, made once for all of them."""
        made_for = (len(self._values), here)
        if self._drawn is None or self._drawn[0] != made_for:
            self._drawn = (made_for, graph(self._values, here.width, here.height))
        return self._drawn[1]

    def _head(self, level: Level, width: int) -> list[Segment]:
        name = Segment(f"{self._name_shown:<{LABEL}}", self._style("name"))
        if self._problem:
            words = f"{self._problem:<{width + AMOUNT + 2}.{width + AMOUNT + 2}}"
            return [name, Segment(words, self._style("high"))]
        kind = "bar"
        if level.alarms and level.fraction >= HIGH:
            kind = "full" if level.fraction >= FULL else "high"
        drawn = bar(level.fraction, width, level.mark)
        cells = [Segment(drawn, self._style(kind))]
        if level.mark is not None and width > 0:
            at = _mark_at(level.mark, width)
            cells = [
                Segment(drawn[:at], self._style(kind)),
                Segment(MARK, self._style("mark")),
                Segment(drawn[at + 1 :], self._style(kind)),
            ]
        amount = f" {level.amount:<{AMOUNT}.{AMOUNT}} "
        return [name, *cells, Segment(amount, self.rich_style)]

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"meter--{part}")
