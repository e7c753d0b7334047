"""Bytes and seconds as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def size(nbytes: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(nbytes)
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1), ("GB", 1)):
        if round(value, digits) < 1000:
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def version(pair: Sequence[int]) -> str:
    """A version of two numbers, as CUDA's are."""
    return f"{pair[0]}.{pair[1]}"


def duration(seconds: float) -> str:
    """Seconds as 7.2 s, 1:23 or 2:03:04."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds + 0.05), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds(value: float) -> str:
    """Whole seconds, for times that are still running: a line that changes once a second."""
    return f"{int(value)} s" if value < 60 else duration(value)
