"""Bars and histories as plain block text in one style: a few bytes a second over SSH."""

from __future__ import annotations

from collections.abc import Sequence

EIGHTHS = "▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"


def bar(fraction: float, width: int) -> str:
    """A horizontal bar of `width` cells, filled to eighths of a cell."""
    cells = max(0.0, min(1.0, fraction)) * width
    whole = int(cells)
    part = int((cells - whole) * 8)
    filled = "█" * whole + (EIGHTHS[part - 1] if part else "")
    return filled + "·" * (width - len(filled))


def history(values: Sequence[float], width: int) -> str:
    """The last `width` fractions as a line of blocks."""
    shown = values[-width:]
    line = "".join(LEVELS[round(max(0.0, min(1.0, value)) * 7)] for value in shown)
    return line.rjust(width)
