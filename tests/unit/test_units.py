"""Bytes and seconds as people read them."""

from __future__ import annotations

import pytest

from lightx2v_tui.units import duration, seconds, size


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000, "1.5 MB"),
        (28_600_000_000, "28.6 GB"), (999_900_000_000, "999.9 GB"), (2 * 10**12, "2.0 TB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)  # fmt: skip
def test_sizes_read_well(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0 s"), (7.24, "7.2 s"), (59.9, "59.9 s"), (60, "1:00"), (83.9, "1:23"),
        (3599, "59:59"), (3600, "1:00:00"), (7384, "2:03:04"),
    ],
)  # fmt: skip
def test_durations_read_well(value: float, text: str) -> None:
    assert duration(value) == text


def test_rounding_never_shows_a_full_unit() -> None:
    assert size(999_999) == "1.0 MB"
    assert duration(59.97) == "1:00"


@pytest.mark.parametrize(("value", "text"), [(0.9, "0 s"), (59.99, "59 s"), (61, "1:01")])
def test_times_that_still_run_are_whole_seconds(value: float, text: str) -> None:
    assert seconds(value) == text
