"""Killed at any moment, a run leaves whole files, loses no step, and goes on to the same frames.

`LIGHTX2V_TUI_KILLS` says how many times (20), `LIGHTX2V_TUI_SEED` at which moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from tests.faults.harness import Blow, Case, Life
from tests.processes import ForkServer, frames_of, own_home

KILLS = int(os.environ.get("LIGHTX2V_TUI_KILLS", "20"))
SEED = int(os.environ.get("LIGHTX2V_TUI_SEED", "1"))
SMALL = ("target_width=64", "target_height=64", "target_video_length=5")
#: Fresh noise at every step; a sampler that remembers; none of both, and two prompts.
CASES = {
    "distilled": (4, SMALL),
    "unipc": (5, (*SMALL, "lightx2v_tui.sampler=unipc", "infer_steps=5", "use_tiny_vae=true")),
    "euler": (3, (*SMALL, "lightx2v_tui.sampler=euler", "infer_steps=3", "use_tiny_vae=true",
                  "enable_cfg=true", "sample_guide_scale=4")),
}  # fmt: skip
#: What is told as a stage begins, and within one.
LINES = ("prepare", "load_t5", "encode_text", "load_dit", '"denoise"', '"step": 1', '"step": 2',
         '"step": 3', "load_vae", '"decode"', '"frame": 1', '"frame": 5', '"saved"')  # fmt: skip
CHANGES = 100  # of files in one run
NUMBERS = (*(signal.SIGKILL,) * 6, *(signal.SIGTERM,) * 2, *(signal.SIGHUP,) * 2)
T = TypeVar("T")


class Deck(Generic[T]):
    """Cards that are drawn in any order, each once before any comes again."""

    def __init__(self, cards: Sequence[T], rng: random.Random) -> None:
        self._cards, self._rng = cards, rng
        self._left: list[T] = []

    def draw(self) -> T:
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        return self._left.pop()


class Fate:
    """Which blows a process is dealt; the first ones hit between two steps of each case."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._surely = [Blow(signal.SIGKILL, line='"step": 1')] * len(CASES)
        self._numbers, self._lines = Deck(NUMBERS, rng), Deck(LINES, rng)
        self._changes = Deck(range(1, CHANGES + 1), rng)
        self._moments = Deck(("line", "time", "change"), rng)

    def blows(self, case: Case, *, begins: bool) -> tuple[Blow, ...]:
        """One mostly, none at times; a run that was only hung up on may be hit again."""
        if begins and self._surely:
            return (self._surely.pop(),)
        if self._rng.random() < 0.2:
            return ()
        first = self._blow(case)
        again = first.number is signal.SIGHUP and self._rng.random() < 0.5
        return (first, Blow(signal.SIGKILL, seconds=self._seconds(case))) if again else (first,)

    def _blow(self, case: Case) -> Blow:
        match self._moments.draw():
            case "line":
                return Blow(self._numbers.draw(), line=self._lines.draw())
            case "time":
                return Blow(self._numbers.draw(), seconds=self._seconds(case))
            case _:
                return Blow(signal.SIGKILL, change=self._changes.draw())

    def _seconds(self, case: Case) -> float:
        return self._rng.random() * case.seconds


@pytest.fixture(scope="module")
def cases(
    server: ForkServer, demo_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Case]:
    """Videos, and the frames of runs that nothing happens to."""
    found = []
    for name, (steps, values) in CASES.items():
        home = tmp_path_factory.mktemp(name)
        (home / "preset.json").write_text(json.dumps({"model_path": str(demo_model)}))
        arguments = (text for value in values for text in ("--set", value))
        case = Case(home / "preset.json", (*arguments, "--seed", "5", "--device", "cpu"), steps)
        began = time.monotonic()
        life = live(server, case, home / "life", None)
        seconds = time.monotonic() - began
        found.append(replace(case, frames=frames_of(life.output), seconds=seconds))
    assert len({case.frames for case in found}) == len(found)
    return found


def live(server: ForkServer, case: Case, home: Path, fate: Fate | None) -> Life:
    """Make one video, whatever happens."""
    with own_home(home):
        life = Life(server, case, home)
        for number in range(40):
            life.go(*(fate.blows(case, begins=number == 0) if fate else ()))
            if life.done:
                return life
    raise AssertionError("it never came to its end")


@pytest.mark.timeout(120 + 8 * KILLS)
def test_a_run_that_is_killed_again_and_again_makes_the_same_video(
    server: ForkServer, cases: list[Case], tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    fate, deck = Fate(rng), Deck(cases, rng)
    numbers: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    behind: Counter[int] = Counter()
    lives = 0
    while numbers.total() < KILLS:
        life = live(server, deck.draw(), tmp_path / str(lives), fate)
        lives += 1
        numbers.update(number.name for number, _ in life.told)
        stages.update(stage for _, stage in life.told)
        behind.update(life.behind)
        shutil.rmtree(life.home)
    print(f"\n{numbers.total()} signals while {lives} videos were made: {counted(numbers)}")
    print(f"  in the stages: {counted(stages)}")
    print(f"  gone on behind step: {counted(behind)}; every video had its frames")
    assert numbers["SIGKILL"] > numbers.total() // 3
    assert behind.total()


def counted(counter: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items(), key=str))
