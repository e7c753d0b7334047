"""Bars and histories have the width they are asked for, whatever the numbers are."""

from __future__ import annotations

import pytest

from lightx2v_tui.widgets.meters import EIGHTHS, bar, history


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "····"), (0.5, "██··"), (1.0, "████"), (0.25, "█···"), (0.3125, "█▎··"),
        (0.99, "███▉"), (-1.0, "····"), (7.0, "████"),
    ],
)  # fmt: skip
def test_a_bar_is_filled_to_eighths_of_a_cell(fraction: float, text: str) -> None:
    assert bar(fraction, 4) == text.replace("▉", EIGHTHS[6])


@pytest.mark.parametrize("width", [0, 1, 3, 40])
def test_a_bar_has_its_width_and_never_shrinks(width: int) -> None:
    drawn = [bar(step / 97, width) for step in range(98)]
    assert {len(line) for line in drawn} == {width}
    assert [line.count("█") for line in drawn] == sorted(line.count("█") for line in drawn)
    assert drawn[-1] == "█" * width


def test_a_history_shows_the_newest_values_at_the_right() -> None:
    assert history([], 4) == "    "
    assert history([0.0, 1.0], 4) == "  ▁█"
    assert history([1.0, 0.0, 0.5, 1.0], 3) == "▁▅█"
    assert history([-5.0, 5.0], 2) == "▁█"
