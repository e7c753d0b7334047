"""Will it fit: a forecast as a strip of a few lines, or as a panel of bars and stages."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import RenderResult
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.spec.events import STAGES
from lightx2v_tui.launch.forecast import VERDICTS, Forecast
from lightx2v_tui.units import size

MUTED = "$foreground 60%"
COLOURS = {"fits": "$text-success", "offload": "$text-warning", "too big": "$text-error"}
MARKS = {"fits": "✓", "offload": "✓", "too big": "✗"}
USED, NEEDED, FREE = "▄", "█", "·"
LABEL, FIGURE = 6, 9

Part = tuple[str, str]


class Verdict(Widget):
    """Tells a forecast, or why there is none."""

    DEFAULT_CSS = """
    Verdict { height: 2; }
    Verdict.-advised { height: 3; }
    """
    forecast: reactive[Forecast | None] = reactive(None)
    problem: reactive[str] = reactive("")  # why there is no forecast
    roomy: reactive[bool] = reactive(False)  # a panel, not a strip

    def watch_forecast(self, forecast: Forecast | None) -> None:
        """Take another line for advice."""
        self.set_class(forecast is not None and bool(forecast.estimate.advice), "-advised")

    def render(self) -> RenderResult:
        """Draw it."""
        told = self.forecast
        if told is None:
            return Content.styled(self.problem, "$text-warning")
        lines = self._panel(told) if self.roomy else _strip(told)
        return Content("\n").join(Content.assemble(*parts) for parts in lines)

    def _panel(self, told: Forecast) -> Iterator[list[Part]]:
        """The verdict, a bar for each memory, what is read, and advice; then the stages."""
        colour, verdict = _verdict(told)
        yield [(f"{MARKS[told.estimate.verdict]} {verdict}", f"bold {colour}")]
        for words in filter(None, [told.offload()]):
            yield [(words, colour)]
        yield []
        width = max(4, self.size.width - LABEL)
        if told.estimate.vram_needed:
            total, free = told.machine.vram_total, told.machine.vram_free
            yield from _memory("VRAM", told.estimate.vram_needed, free, total, width, colour)
        available = told.machine.ram_available
        yield from _memory("RAM", told.estimate.ram_needed, available, available, width, colour)
        yield [("Reads".ljust(LABEL), MUTED), (told.reads(), "")]
        for advice in told.estimate.advice:
            yield []
            yield [(advice, "")]
        yield []
        yield from _stages(told, self.size.width)


def _strip(told: Forecast) -> Iterator[list[Part]]:
    """The forecast as one paragraph: the verdict, the figures, and advice."""
    colour, verdict = _verdict(told)
    figures, _, _ = told.line().rpartition(": ")
    if told.estimate.advice:  # then what would help matters more than what is read
        figures = figures.partition(", reads ")[0]
    parts = [(f"{MARKS[told.estimate.verdict]} {verdict}", f"bold {colour}")]
    if offload := told.offload():
        parts.append((f" ({offload})", colour))
    parts.append((f"  {figures}", MUTED))
    parts += [(f" · {advice}", "") for advice in told.estimate.advice]
    yield parts


def _verdict(told: Forecast) -> tuple[str, str]:
    verdict = told.estimate.verdict
    return COLOURS[verdict], VERDICTS[verdict]


def _memory(
    name: str, needed: int, free: int, total: int, width: int, colour: str
) -> Iterator[list[Part]]:
    """A bar of what others use, what the run needs, and what stays free; and the figures."""
    yield [(name.ljust(LABEL), MUTED), *_bar(needed, free, total, width, colour)]
    of = f", of {size(total)}" if total != free else ""
    figures = f" of {size(free)} free{of}"
    indent = " " * max(0, min(LABEL, LABEL + width - len(size(needed) + figures)))
    yield [(indent, ""), (size(needed), f"bold {colour}"), (figures, "")]


def _bar(needed: int, free: int, total: int, width: int, colour: str) -> list[Part]:
    scale = max(total, 1)
    used = min(width, round((total - free) / scale * width))
    filled = min(width - used, max(1, round(needed / scale * width)))
    rest = width - used - filled
    return [(USED * used, MUTED), (NEEDED * filled, colour), (FREE * rest, MUTED)]


def _stages(told: Forecast, width: int) -> Iterator[list[Part]]:
    """What each stage takes, the largest marked."""
    on_gpu = bool(told.estimate.vram_needed)
    columns = ("VRAM", "RAM") if on_gpu else ("RAM",)
    rows = [
        (STAGES.get(stage.name, stage.name), (stage.vram, ram) if on_gpu else (ram,))
        for stage in told.estimate.stages
        for ram in (max(0, stage.ram - told.machine.ram_process),)  # the run's own
    ]
    peaks = [max(figures) for figures in zip(*(row[1] for row in rows), strict=True)]
    room = max(8, min(40, width - FIGURE * len(columns)))
    yield [("Peaks".ljust(room), MUTED), *((name.rjust(FIGURE), MUTED) for name in columns)]
    for title, figures in rows:
        name = title if len(title) <= room else f"{title[: room - 1]}…"
        marks = (
            "bold" if figure == peak else MUTED for figure, peak in zip(figures, peaks, strict=True)
        )
        told_figures = (size(figure).rjust(FIGURE) for figure in figures)
        yield [(name.ljust(room), MUTED), *zip(told_figures, marks, strict=True)]
