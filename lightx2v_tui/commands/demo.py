"""`demo`: the app, or one video, on a tiny model that is made on the spot."""

from __future__ import annotations

import argparse
import sys

from lightx2v_tui import demo


def execute(args: argparse.Namespace) -> int:
    """Make the model once, then open the app on it, or make a video where there is no screen."""
    root = demo.ensure_model(args.dest)
    assignments = tuple(args.assign)
    if args.headless or not sys.stdout.isatty():
        from lightx2v_tui.commands.run import generate
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.launch import jobs

        gpu = next(iter(read_gpus().gpus), None)
        preset = demo.demo_preset(root, assignments)
        return generate(preset, jobs.default_options(gpu), destination=args.output)
    from lightx2v_tui.commands.tui import open_app

    return open_app([root], lambda: demo.demo_preset(root, assignments), elsewhere=False)
