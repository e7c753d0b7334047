"""`preset check`: what a preset would use, key by key."""

from __future__ import annotations

import argparse

from engine.spec.errors import EngineError
from lightx2v_tui import jobs, presets
from lightx2v_tui.commands.run import find_preset, generate
from lightx2v_tui.gpus import read_gpus


def execute(args: argparse.Namespace) -> int:
    """Print every key and what it means here, then what a run would use or why it cannot."""
    preset = presets.read(find_preset(args.preset))
    for key, value in presets.to_json(preset).items():
        used = "kept for LightX2V" if key in preset.extra else "used"
        print(f"{key} = {value}  ({used})")  # noqa: T201
    print()  # noqa: T201
    gpu = next(iter(read_gpus().gpus), None)
    try:
        return generate(
            preset,
            jobs.default_options(gpu),
            destination=preset.output,
            gpu=gpu,
            dry_run=True,
        )
    except EngineError:
        for note in preset.notes:
            print(f"note: {note}")  # noqa: T201
        raise
