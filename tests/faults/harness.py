"""Real `lightx2v-tui run` processes, ended at any moment, and what must hold for what they left."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load

from engine import resume
from lightx2v_tui.runs.folder import RunFolder
from lightx2v_tui.runs.history import past_runs
from tests.processes import PATIENCE, ForkServer, Process, frames_of

GLANCE = 0.05  # seconds between two looks at the files of a run
STATUSES = {"running", "done", "failed", "cancelled", "interrupted"}
FINAL = {"done", "failed", "cancelled"}  # the last event of a stream


@dataclass(frozen=True)
class Blow:
    """A signal, and when: as a line holds `line`, after `seconds`, or before change `change`."""

    number: signal.Signals
    line: str = ""
    seconds: float = 0.0
    change: int = 0  # SIGKILL by its own hand


@dataclass(frozen=True)
class Case:
    """A video: the preset, what the command line adds, and a hash of its frames."""

    preset: Path
    arguments: tuple[str, ...]
    steps: int
    frames: str = ""
    seconds: float = 0.0


@dataclass
class Life:
    """One video from its first process to the last: killed, and gone on with, until it is done."""

    server: ForkServer
    case: Case
    home: Path
    told: list[tuple[signal.Signals, str]] = field(default_factory=list)  # and in which stage
    behind: list[int] = field(default_factory=list)  # the steps that were gone on behind
    folder: Path | None = None  # of the run

    @property
    def output(self) -> Path:
        """Where the video goes."""
        return self.home / "out" / "a.mp4"

    @property
    def done(self) -> bool:
        """True once the record says so."""
        return self.folder is not None and self.status["status"] == "done"

    @property
    def status(self) -> dict[str, Any]:
        """The record, which is whole at every moment."""
        assert self.folder is not None
        status: dict[str, Any] = json.loads((self.folder / "status.json").read_bytes())
        assert status["schema"] == 2
        assert status["status"] in STATUSES
        return status

    def go(self, *blows: Blow) -> None:
        """Start it, or go on with it, under these blows; then look at what is left."""
        kept = self.kept()
        change = next((blow.change for blow in blows if blow.change), 0)
        process = Process(self.server, self._argv(), self.home, change)
        for blow in blows:
            self._deal(process, blow)
        code = process.end()
        self._find()
        if change and code == -signal.SIGKILL:
            self.told.append((signal.SIGKILL, self._stage(process)))
        self._check_end(process, code, blows)
        self._check_left(process, kept)

    def kept(self) -> int:
        """The steps in the checkpoint, which is whole or not there."""
        if self.folder is None:
            return 0
        try:
            content = RunFolder(self.folder).checkpoint.read_bytes()
        except FileNotFoundError:
            return 0
        length = int.from_bytes(content[:8], "little")
        facts = json.loads(content[8 : 8 + length])["__metadata__"]
        digest = facts.pop("digest")
        assert resume._digest(facts, load(content)) == digest
        return int(facts["step"])

    def _argv(self) -> list[str]:
        if self.folder is None:
            goal = [str(self.case.preset), "--output", str(self.output), *self.case.arguments]
        else:
            goal = ["--resume", self.folder.name]
        return ["run", *goal, "--progress", "json"]

    def _deal(self, process: Process, blow: Blow) -> None:
        """Wait for the moment, and send the signal; nothing where it has ended before."""
        if blow.change:
            return
        alive, end = True, time.monotonic() + (PATIENCE if blow.line else blow.seconds)
        while alive and time.monotonic() < end:
            read = len(process.lines)
            alive = process.read(min(GLANCE, end - time.monotonic()), blow.line or None)
            if blow.line and any(blow.line in line for line in process.lines[read:]):
                break
            self._glance()
        if alive:
            process.send(blow.number)
            self.told.append((blow.number, self._stage(process)))

    def _glance(self) -> None:
        """Look at the files while they change: they are whole all the time."""
        self._find()
        if self.folder is not None:
            assert self.status["step"] <= self.case.steps
            assert self.kept() <= self.case.steps

    def _stage(self, process: Process) -> str:
        stages = [event["stage"] for event in process.events if event["event"] == "stage"]
        return stages[-1] if stages else "(start)"

    def _find(self) -> None:
        """Look for the folder of the run: one that has no record yet is none."""
        runs = self.home / "home" / "data" / "lightx2v-tui" / "runs"
        found = [path.parent for path in runs.glob("*/status.json")]
        assert len(found) <= 1
        self.folder = found[0] if found else None

    def _check_end(self, process: Process, code: int, blows: tuple[Blow, ...]) -> None:
        """Expect an end that one of the blows explains, and the last event that belongs to it."""
        numbers = {blow.number for blow in blows}
        kinds = [event["event"] for event in process.events]
        assert "Traceback" not in process.stderr, process.stderr
        assert not FINAL & set(kinds[:-1])
        if code == 0:
            assert kinds[-1] == "done"
            assert self.done
        elif code == 130:
            assert signal.SIGTERM in numbers
            assert not self.folder or self.status["status"] in ("interrupted", "done")
        else:
            assert -code in numbers, process.stderr
            early = -code != signal.SIGKILL and not kinds  # it did not listen yet
            assert early or -code == signal.SIGKILL or self.done

    def _check_left(self, process: Process, kept: int) -> None:
        """Expect whole files or none, and every step kept that was told."""
        if self.output.exists() and self.case.frames:
            assert frames_of(self.output) == self.case.frames
        if self.folder is not None:
            self._check_listed()
        if process.code == 0:
            self._check_clean()
        self._check_steps(process, kept)
        if self.done:
            assert self.output.exists()
        else:
            assert self.kept() >= max([kept, *process.steps])

    def _check_steps(self, process: Process, kept: int) -> None:
        """Expect it to have gone on right behind the last step that was kept."""
        resumed = [event["step"] for event in process.events if event["event"] == "resumed"]
        if {"bytes", "step", "frame"} & {event["event"] for event in process.events}:
            assert resumed == ([kept] if kept else [])
            self.behind += resumed
        assert process.steps == list(range(kept + 1, kept + 1 + len(process.steps)))
        assert not [event for event in process.events if event["event"] == "note"]

    def _check_listed(self) -> None:
        """Expect the history to say what happened; a dead process has no run under way."""
        (listed,) = (run for run in past_runs() if run.folder == self.folder)
        status = self.status["status"]
        assert listed.status == ("interrupted" if status == "running" else status)
        assert not listed.problem

    def _check_clean(self) -> None:
        assert self.folder is not None
        assert {path.name for path in self.folder.iterdir()} == {
            "preset.json", "status.json", "log.txt"
        }  # fmt: skip
        assert [path.name for path in self.output.parent.iterdir()] == ["a.mp4"]
