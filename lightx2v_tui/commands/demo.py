"""`demo`: the app, or one video, on a tiny model that is made on the spot."""

from __future__ import annotations

import argparse
import json
import sys

from lightx2v_tui import demo, jobs, presets
from lightx2v_tui.gpus import read_gpus


def execute(args: argparse.Namespace) -> int:
    """Make the model once, then open the app on it, or make a video where there is no screen."""
    root = demo.ensure_model(args.dest)
    text = json.dumps(presets.to_json(demo.demo_preset(root)))
    preset = presets.parse(text, "the demo preset", tuple(args.assign))
    if args.headless or not sys.stdout.isatty():
        from lightx2v_tui.commands.run import generate

        gpu = next(iter(read_gpus().gpus), None)
        return generate(preset, jobs.default_options(gpu), destination=args.output, gpu=gpu)
    from lightx2v_tui.commands.tui import open_app

    return open_app(roots=[root], preset=preset, only=True)
