"""The running app maps no torch, numpy or PIL into its memory until something is launched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.terminal import ENTER, ESCAPE, Terminal

HEAVY = ("torch", "transformers", "numpy", "PIL", "libav", "safetensors", "tokenizers")


def heavy_files(pid: int) -> list[str]:
    """Libraries of the engine's half that a process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    files = {line.split()[-1] for line in maps.splitlines() if "site-packages" in line}
    return sorted(file for file in files if any(f"/{name}" in file for name in HEAVY))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_nothing_heavy_is_mapped_before_a_launch(demo_model: Path) -> None:
    with Terminal.app("demo", "--dest", str(demo_model.parent)) as terminal:
        terminal.wait("Generate")
        terminal.rest(0.5)
        assert heavy_files(terminal.pid) == []
        terminal.press(ESCAPE)
        terminal.wait("ready to launch")
        terminal.press("?")
        terminal.wait("Look at the disks again")
        terminal.rest(0.3)
        assert heavy_files(terminal.pid) == []
        terminal.press(ESCAPE)
        terminal.rest(0.5)
        terminal.press(ENTER)
        terminal.rest(1)
        assert heavy_files(terminal.pid) == []
        terminal.press(ENTER)  # Generate: and now it is
        terminal.wait("Saved")
        assert any("libtorch" in file for file in heavy_files(terminal.pid))
