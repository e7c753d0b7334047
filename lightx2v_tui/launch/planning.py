"""A run planned for this machine as it is now: its first GPU, its free memory, what is loaded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from engine.spec.estimate import Machine
from lightx2v_tui.gpus import read_gpus
from lightx2v_tui.host import read_memory
from lightx2v_tui.launch import form, jobs
from lightx2v_tui.launch.forecast import NOTHING_HELD, Held, machine_of
from lightx2v_tui.presets import Preset


def replaced(output: Path | None) -> str:
    """Say that a video is there already; empty where there is none."""
    there = output is not None and os.path.exists(output)  # noqa: PTH110 - raises never
    return f"{output} is there already and will be replaced" if there else ""


def plan_here(
    preset: Preset, held: Held = NOTHING_HELD, stand_in: Path | None = None
) -> tuple[jobs.Plan, Machine]:
    """Plan a run; `stand_in` stands for an image that is named later.

    Raises:
        EngineError: the preset asks for something that cannot be, or files are missing.
    """
    gpu = next(iter(read_gpus().gpus), None)
    machine = machine_of(gpu, read_memory(), held)
    output = (preset.output or Path("output.mp4")).absolute()
    watched = form.previews_of(preset)
    options = replace(jobs.default_options(gpu), stand_in=stand_in, preview=watched)
    return jobs.plan(preset, options, output, gpu, machine), machine
