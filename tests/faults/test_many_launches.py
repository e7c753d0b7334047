"""Launch upon launch in one process: memory stays flat, and no thread or descriptor is left.

`LIGHTX2V_TUI_LAUNCHES` says how many (30).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import REPOSITORY

pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(sys.platform != "linux", reason="/proc")]

LAUNCHES = int(os.environ.get("LIGHTX2V_TUI_LAUNCHES", "30"))
SETTLED = 10  # launches after which everything was loaded and let go at least once
GROWTH = 1.05
MIB = 1 << 20


@pytest.mark.timeout(120 + 5 * LAUNCHES)
def test_after_hundreds_of_launches_nothing_more_is_held(demo_model: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.launches", str(LAUNCHES), str(demo_model)],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds = (time.monotonic() - began) / LAUNCHES
    held = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["wrong"] for one in held] == [""] * LAUNCHES
    settled, last = held[SETTLED - 1], held[-1]
    resident = [one["rss"] / MIB for one in held]
    shown = sorted({0, SETTLED - 1, *range(LAUNCHES // 5 - 1, LAUNCHES, LAUNCHES // 5)})
    print(f"\n{LAUNCHES} launches in one process, {seconds:.2f} s each; MiB resident after the")
    print("  " + ", ".join(f"{number + 1}th: {resident[number]:.0f}" for number in shown))
    print(f"  {last['threads']} threads and {last['descriptors']} descriptors at the end")
    assert max(resident[SETTLED:]) <= GROWTH * resident[SETTLED - 1]
    assert last["threads"] <= settled["threads"]
    assert last["descriptors"] <= settled["descriptors"]
    assert not list((tmp_path / "home" / "data").rglob("*partial*"))
