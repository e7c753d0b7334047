"""`python -m tests.faults.launches COUNT MODEL`: launch upon launch in one process.

Precisions, decoders, samplers, placings, previews and prompts vary, and some are cancelled. After
each one that the engine has ended: one JSON object, what the process holds then.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

from engine.spec.events import CancelledByUser, Done
from engine.spec.job import Lora, Previews
from engine.spec.precision import Precision
from lightx2v_tui.catalog import ModelRoot, inspect_root
from lightx2v_tui.launch import choices, jobs
from lightx2v_tui.launch.jobs import Options, Plan
from lightx2v_tui.runs.launcher import Launcher

WORDS = ("fox", "snow", "boat", "lake", "mist", "light", "waves", "rocks", "sky", "cat", "rain")
PATIENCE = 120.0


def plan_of(root: ModelRoot, number: int) -> Plan:
    """Launch `number`: always the same, and unlike the one before it."""
    rng = random.Random(number)
    precisions = list(Precision)
    choice = choices.Choice(precisions[number % 3], rng.choice(precisions), rng.random() < 0.5)
    preset = choices.preset_for(root, choice)
    preset = replace(
        preset,
        width=64, height=64, frames=rng.choice((1, 5, 9)), seed=number,
        prompt=" ".join(rng.choices(WORDS, k=rng.randrange(1, 60))),
        unload_modules=rng.random() < 0.2,
        loras=(Lora(root.loras[0].files[0], rng.random()),) if rng.random() < 0.2 else None,
        sampler=rng.choice((None, None, "unipc")), infer_steps=4,
    )  # fmt: skip
    options = Options("cpu", preview=rng.choice(list(Previews)))
    return jobs.plan(preset, options, Path("output.mp4").absolute())


def launched(launcher: Launcher, ended: threading.Event, plan: Plan, *, cancel: bool) -> str:
    """Launch it and wait for its end; gives what went wrong."""
    ended.clear()
    run = launcher.want(plan, own_folder=True)
    assert run is not None
    end = time.monotonic() + PATIENCE
    while cancel and not run.tracker.view.steps and not ended.is_set():
        time.sleep(0.002)
    if cancel:
        launcher.cancel()
    if not ended.wait(end - time.monotonic()):
        return "it never ended"
    assert launcher.take_ended() is run
    terminal = run.tracker.view.terminal
    return (
        "" if isinstance(terminal, Done | (CancelledByUser if cancel else Done)) else str(terminal)
    )


def held(before: int) -> dict[str, object]:
    """What the process holds, once the threads of the run before have seen that it ended."""
    own, end = psutil.Process(), time.monotonic() + 5
    while own.num_threads() > before and time.monotonic() < end:
        time.sleep(0.005)
    return {
        "rss": own.memory_info().rss,
        "threads": own.num_threads(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - only how many
    }


def main(count: int, folder: Path) -> None:
    """Launch so many times on the model in `folder`."""
    root = inspect_root(folder)
    assert root is not None
    ended = threading.Event()
    launcher = Launcher(lambda _event: ended.set())
    before = psutil.Process().num_threads()
    for number in range(count):
        wrong = launched(launcher, ended, plan_of(root, number), cancel=number % 10 == 9)
        print(json.dumps({"wrong": wrong, **held(before)}), flush=True)
    launcher.close(PATIENCE)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
