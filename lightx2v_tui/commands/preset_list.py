"""`preset list`: the saved presets."""

from __future__ import annotations

import argparse

from lightx2v_tui import presets
from lightx2v_tui.paths import presets_dir
from lightx2v_tui.presets import PresetError


def execute(_args: argparse.Namespace) -> int:
    """Print name, model and size of each; a broken one is said to be."""
    folder = presets_dir()
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    for path in files:
        try:
            preset = presets.read(path)
        except PresetError as error:
            print(f"{path.stem}: {error.what} ({error.why})")  # noqa: T201
            continue
        model = preset.model_path.name if preset.model_path else "no model"
        precision = preset.dit_precision.value if preset.dit_precision else "any precision"
        size = f"{preset.width}x{preset.height}x{preset.frames}"
        print(f"{path.stem}: {model}, DiT {precision}, {size}")  # noqa: T201
    if not files:
        print(f"no presets in {folder}; make one with lightx2v-tui preset make MODEL -o FILE")  # noqa: T201
    return 0
