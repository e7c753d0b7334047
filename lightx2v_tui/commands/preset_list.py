"""`preset list`: the saved presets."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from lightx2v_tui import presets
from lightx2v_tui.output import printable
from lightx2v_tui.paths import presets_dir
from lightx2v_tui.presets import PresetError


@dataclass(frozen=True)
class Saved:
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
    folder = presets_dir()
    saved = [_saved(path) for path in sorted(folder.glob("*.json"))]
    if args.json:
        print(json.dumps([asdict(one) for one in saved], indent=2))  # noqa: T201
        return 0
    for one in saved:
        sys.stdout.write(printable(f"{one.name}: {_told(one)}") + "\n")
    if not saved:
        command = f"lightx2v-tui preset make MODEL -o {folder / 'NAME.json'}"
        print(f"no presets in {folder}; make one with {command}")  # noqa: T201
    return 0


def _saved(path: Path) -> Saved:
    try:
        preset = presets.read(path)
    except PresetError as error:
        return Saved(path.stem, str(path), problem=f"{error.what} ({error.why})")
    return Saved(
        path.stem,
        str(path),
        preset.model_path.name if preset.model_path else None,
        preset.dit_precision.value if preset.dit_precision else None,
        preset.width,
        preset.height,
        preset.frames,
    )


def _told(saved: Saved) -> str:
    if saved.problem:
        return saved.problem
    facts = [saved.model or "any model", f"DiT {saved.dit or 'of any precision'}"]
    size = (saved.width, saved.height, saved.frames)
    if None not in size:
        facts.append("x".join(map(str, size)))
    return ", ".join(facts)
