"""Without a terminal the line of runs is worked off, whatever becomes of each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.spec.errors import EngineError
from lightx2v_tui.runs import detached


class Line:
    """Runs that end at once, and some that cannot start."""

    def __init__(self, *names: str) -> None:
        self.waiting: tuple[object, ...] = names
        self.busy = False
        self.told: list[str] = []

    def start_next(self) -> None:
        self.told.append(f"start {self.waiting[0]}")
        if self.waiting[0] == "broken":
            raise EngineError("no folder", "the disk is full")
        if self.waiting[0] == "gone":
            raise OSError(5, "gone")
        self.waiting = self.waiting[1:]

    def skip(self) -> None:
        self.waiting = self.waiting[1:]

    def interrupt(self) -> None:
        self.waiting = ()

    def remark(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "LOOK", 0.0)
    monkeypatch.setattr(detached.signal, "signal", lambda *_: None)


def test_what_cannot_start_holds_up_nothing() -> None:
    line = Line("a", "broken", "gone", "b")
    assert detached.finish(line, None) == 0
    starts = [text for text in line.told if text.startswith("start")]
    assert starts == ["start a", "start broken", "start gone", "start b"]
    assert any("the disk is full" in text for text in line.told)


def test_with_nothing_to_do_it_ends() -> None:
    assert detached.finish(None, None) == 0


PROGRAM = """
import os, sys
from pathlib import Path
from lightx2v_tui import output
from lightx2v_tui.runs.detached import let_go_of_terminal
output.keep_terminal()
with output.redirected(Path(sys.argv[1])):
    let_go_of_terminal()
    os.write(1, b"in the log")
null = os.stat(os.devnull)
for descriptor in (0, 1, 2, sys.__stderr__.fileno()):
    assert os.fstat(descriptor).st_rdev == null.st_rdev, descriptor
os.write(1, b"lost")
assert os.read(0, 1) == b""
"""


def test_nothing_leads_to_the_terminal_any_more(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(log)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.read_text() == "in the log"
