"""The app itself, when no command is named."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.spec.errors import JobError
from lightx2v_tui import output, settings
from lightx2v_tui.paths import model_dirs
from lightx2v_tui.presets import Preset, read


def execute(args: argparse.Namespace) -> int:
    """Open the app."""
    preset = read(args.preset) if args.preset else None
    return open_app(roots=args.root, preset=preset)


def open_app(*, roots: Sequence[Path], preset: Preset | None, only: bool = False) -> int:
    """Open the app on `roots` first; with `only`, nothing else is looked at.

    Raises:
        JobError: stdin or stdout is not a terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise JobError(
            "There is no terminal to draw on",
            "stdin or stdout is not a terminal",
            "Use lightx2v-tui run, scan or doctor without one.",
        )
    from lightx2v_tui.app import LightX2VApp  # textual: 0.2 s

    stored, _ = settings.load()
    places = [] if only else [*map(Path, stored.roots), *model_dirs()]
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    output.keep_terminal()
    return LightX2VApp([root.expanduser() for root in roots], preset, places).run() or 0
