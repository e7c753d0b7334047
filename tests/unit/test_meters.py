"""Bars and histories have the width they are asked for, whatever the numbers are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightx2v_tui.widgets.bars import _describe as describe_gpu
from lightx2v_tui.widgets.meters import EIGHTHS, MARK, bar, columns, graph, history, span
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


def test_a_history_holds_everything_and_folds_it_in_two_where_it_must() -> None:
    assert history([], 4) == "    "
    assert history([0.0, 1.0], 4) == "▁█  "
    assert history([1.0, 0.0, 0.5], 2) == "█▄"
    assert history([-5.0, 5.0], 2) == "▁█"
    assert history([1.0], 0) == ""


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


@given(count=st.integers(0, 5000), width=st.integers(1, 120))
def test_all_values_fit_and_no_more_is_folded_than_must(count: int, width: int) -> None:
    taken = span(count, width)
    assert taken * width >= count
    assert taken == 1 or taken // 2 * width < count
    assert len(columns([0.5] * count, width)) == -(-count // taken)


@given(
    values=st.lists(st.floats(-1, 2), min_size=1, max_size=300),
    width=st.integers(1, 40),
    height=st.integers(1, 6),
)
def test_a_new_value_changes_the_last_column_alone(
    values: list[float], width: int, height: int
) -> None:
    before, after = graph(values[:-1], width, height), graph(values, width, height)
    assert {len(line) for line in after} == {width}
    assert len(after) == height
    if span(len(values) - 1, width) == span(len(values), width):
        last = (len(values) - 1) // span(len(values), width)
        for old, new in zip(before, after, strict=True):
            assert old[:last] == new[:last]
            assert old[last + 1 :] == new[last + 1 :] == " " * (width - last - 1)


def test_a_graph_is_as_high_as_its_values() -> None:
    assert graph([0.0, 0.5, 1.0], 4, 2) == ["  █ ", "▁██ "]
    assert graph([0.75], 1, 2) == ["▄", "█"]


@given(fraction=st.floats(-1, 2), mark=st.floats(-1, 2), width=st.integers(1, 60))
def test_a_mark_takes_one_cell_of_the_bar(fraction: float, mark: float, width: int) -> None:
    drawn = bar(fraction, width, mark)
    assert len(drawn) == width
    assert drawn.count(MARK) == 1
