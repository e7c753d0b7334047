"""`preset list`: the saved presets."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from lightx2v_tui.output import printable
from lightx2v_tui.paths import presets_dir
from lightx2v_tui.presets.library import SavedPreset, saved_presets


@dataclass(frozen=True)
class Row:
    """What a saved preset is for; `problem` says why it cannot be read."""

    name: str
    path: str
    model: str | None = None
    dit: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    problem: str | None = None


def execute(args: argparse.Namespace) -> int:
    """Print name, model and size of each; a broken one is said to be."""
    saved = saved_presets()
    if args.json:
        print(json.dumps([asdict(_row(one)) for one in saved], indent=2))  # noqa: T201
        return 0
    for one in saved:
        sys.stdout.write(printable(f"{one.name}: {one.summary}") + "\n")
    if not saved:
        folder = presets_dir()
        command = f"lightx2v-tui preset make MODEL -o {folder / 'NAME.json'}"
        print(f"no presets in {printable(str(folder))}; make one with {command}")  # noqa: T201
    return 0


def _row(saved: SavedPreset) -> Row:
    preset = saved.preset
    if preset is None:
        return Row(saved.name, str(saved.path), problem=saved.problem)
    return Row(
        saved.name,
        str(saved.path),
        preset.model_path.name if preset.model_path else None,
        preset.dit_precision.value if preset.dit_precision else None,
        preset.width,
        preset.height,
        preset.frames,
    )
