"""The app itself, when no command is named."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.spec.errors import JobError
from lightx2v_tui import output, settings
from lightx2v_tui.paths import expanded, model_dirs

if TYPE_CHECKING:
    from lightx2v_tui.presets import Preset


def execute(args: argparse.Namespace) -> int:
    """Open the app; a preset that cannot be read is told before the screen is taken."""
    if args.preset is None:
        return open_app(args.root)
    from lightx2v_tui.presets import read

    preset = read(args.preset)
    return open_app(args.root, lambda: preset)


def open_app(
    roots: Sequence[Path],
    make_preset: Callable[[], Preset] | None = None,
    *,
    elsewhere: bool = True,
) -> int:
    """Open the app on `roots`, and look in the usual places too unless told not to.

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

    places = [expanded(root) for root in roots]
    if elsewhere:
        stored, _ = settings.load()
        places += [*map(Path, stored.roots), *model_dirs()]
    output.keep_terminal()
    _forget_size()
    app = LightX2VApp(places, make_preset)
    app.run()
    if app.hung_up:
        from lightx2v_tui.runs import detached

        detached.let_go_of_terminal()
        return detached.finish(*app.ongoing)
    return app.return_code or 0


def _forget_size() -> None:
    """Forget an exported size where the terminal knows its own: it holds after a resize, too."""
    if all(os.get_terminal_size(sys.stdin.fileno())):
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)
