"""Bars and histories have the width they are asked for, whatever the numbers are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightx2v_tui.widgets.bars import _describe as describe_gpu
from lightx2v_tui.widgets.meters import EIGHTHS, bar, history
from tests.unit.helpers import gpu


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "GPU 0 Some GPU  4.0 GB of 24.0 GB used, FP8 compute (8.9)"),
        ({"unified": True}, "unified memory, 4.0 GB of 24.0 GB used"),
        ({"parent": "GPU-1"}, "MIG, 4.0 GB of 24.0 GB used"),
        ({"total_bytes": 0}, "GPU 0 Some GPU  FP8 compute (8.9)"),
    ],
)
def test_a_gpu_is_told_in_a_line(changes: dict[str, Any], said: str) -> None:
    assert said in describe_gpu(replace(gpu((8, 9)), **changes))
