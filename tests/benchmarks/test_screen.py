"""The screen over a slow link: first frame, bytes a second, and key latency while generating."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

from tests.terminal import ENTER, ESCAPE, Terminal

pytestmark = pytest.mark.benchmark

MINIMAL = """
from textual.app import App
from textual.widgets import DataTable, Footer, Header

class Minimal(App):
    def compose(self):
        yield Header()
        yield DataTable()
        yield Footer()

    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns("Model", "Task", "Size", "Variants")
        table.add_row("One model with a name that is rather long", "t2v", "9 MB", "bf16 fp8 int8")

Minimal().run()
"""
ATTEMPTS = 3
LONG = [
    "--set",
    "target_width=832",
    "--set",
    "target_height=480",
    "--set",
    "target_video_length=81",
]


def first_paint(terminal: Terminal) -> float:
    """Seconds until the first frame."""
    with terminal:
        while terminal.painted is None:
            terminal.pump(0.005)
        return terminal.painted


def test_first_paint_against_a_minimal_app(demo_model: Path) -> None:
    """At most 1.5 times an app of one Header, one DataTable and one Footer, medians of 7 pairs."""
    for _ in range(ATTEMPTS):  # another program on the machine must not decide
        minimal, ours, demo = [], [], []
        for _ in range(7):
            minimal.append(first_paint(Terminal(sys.executable, "-c", MINIMAL)))
            ours.append(first_paint(Terminal.app("--root", str(demo_model.parent))))
            demo.append(first_paint(Terminal.app("demo", "--dest", str(demo_model.parent))))
        medians = [statistics.median(times) for times in (minimal, ours, demo)]
        if max(medians[1:]) <= 1.5 * medians[0]:
            break
    print(
        f"\nfirst paint: minimal {medians[0]:.3f} s, "
        f"models {medians[1]:.3f} s (x{medians[1] / medians[0]:.2f}), "
        f"demo {medians[2]:.3f} s (x{medians[2] / medians[0]:.2f})"
    )
    assert medians[1] / medians[0] <= 1.5
    assert medians[2] / medians[0] <= 1.5


def test_bytes_a_second(demo_model: Path) -> None:
    """Nothing while idle; under 4 kB/s while generating."""
    with Terminal.app("demo", "--dest", str(demo_model.parent), *LONG) as terminal:
        terminal.wait("Generate")
        terminal.rest(1)
        idle = terminal.rest(4)
        terminal.press(ENTER)
        terminal.wait("● Denoise")
        running = terminal.rest(8) / 8
    print(f"\nbytes a second: idle {idle / 4:.0f}, running {running:.0f}")
    assert idle == 0
    assert running < 4000


def test_key_to_paint_while_generating(demo_model: Path) -> None:
    """Prints the time from a key to the first bytes, over a whole CPU generation."""
    times: list[float] = []
    with Terminal.app("demo", "--dest", str(demo_model.parent), *LONG) as terminal:
        terminal.wait("Generate")
        terminal.rest(0.5)
        terminal.press(ENTER)
        terminal.wait("Prepare engine")
        for _ in range(50):
            times.append(terminal.press("?"))
            terminal.rest(0.15)
            times.append(terminal.press(ESCAPE))
            terminal.rest(0.15)
    times.sort()
    late = sum(time > 400 for time in times)
    print(
        f"\nkey to paint: median {statistics.median(times):.0f} ms, "
        f"95 % {times[int(len(times) * 0.95)]:.0f} ms, worst {times[-1]:.0f} ms, "
        f"{late} of {len(times)} over 400 ms"
    )
    assert len(times) == 100
