"""The embedded default: a tiny random-weight model in the guide's layout, and a preset for it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.spec.errors import EngineError
from lightx2v_tui.output import printable
from lightx2v_tui.paths import cache_dir, expanded

if TYPE_CHECKING:
    from lightx2v_tui.presets import Preset

NAME = "Demo-T2V-StepDistill-CfgDistill-LightX2V"
WIDTH, HEIGHT, FRAMES = 256, 160, 33


def ensure_model(dest: Path | None) -> Path:
    """Give the demo model's root folder, writing it first where it is not there yet.

    Weights are drawn with torch, in a process of its own: this one is about to open the app.

    Raises:
        EngineError: the model cannot be written.
    """
    root = expanded(dest or cache_dir()).absolute() / NAME
    if root.is_dir():
        return root
    sys.stderr.write(f"Writing the demo model to {printable(str(root))}, once…\n")
    done = subprocess.run(
        [sys.executable, "-m", "engine.demo", str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise EngineError(
            "The demo model could not be written",
            f"{root}: {lines[-1]}",
            "Choose another folder with --dest, or free some space.",
        )
    return root


def demo_preset(root_path: Path, assignments: tuple[str, ...] = ()) -> Preset:
    """A preset for the demo model, small enough for any CPU; `assignments` as of `--set`.

    Raises:
        EngineError: the demo model is damaged, or an assignment is wrong.
    """
    from lightx2v_tui import presets
    from lightx2v_tui.catalog import inspect_root
    from lightx2v_tui.launch import choices

    root = inspect_root(root_path)
    if root is None:
        raise EngineError(
            "The demo model is damaged",
            f"{root_path} is not a model root",
            f"Delete {root_path} and start the demo again.",
        )
    preset = choices.preset_for(root, choices.recommended(root, None))
    preset = replace(preset, width=WIDTH, height=HEIGHT, frames=FRAMES)
    return presets.parse(json.dumps(presets.to_json(preset)), "the demo preset", assignments)
