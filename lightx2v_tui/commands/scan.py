"""`scan`: model roots, their variants, and what is missing."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time

from lightx2v_tui import settings
from lightx2v_tui.catalog import TITLES, ModelRoot, Skipped, find_roots
from lightx2v_tui.catalog.report import as_json
from lightx2v_tui.choices import reason_not_runnable
from lightx2v_tui.paths import model_dirs
from lightx2v_tui.units import size

USAGE = 2
CONTROL = dict.fromkeys((*range(32), 127, *range(128, 160)), "?")  # names may hold them


def execute(args: argparse.Namespace) -> int:
    """Scan, and print text or JSON."""
    from pathlib import Path

    stored, _ = settings.load()
    folders = args.folders or [*args.root, *map(Path, stored.roots), *model_dirs()]
    started = time.perf_counter()
    found = list(find_roots(folders, threading.Event()))
    roots = [item for item in found if isinstance(item, ModelRoot)]
    skipped = [item for item in found if isinstance(item, Skipped)]
    skipped += [Skipped(path, "no such folder") for path in args.folders if not path.exists()]
    seconds = time.perf_counter() - started
    if args.json:
        print(json.dumps(as_json(roots, skipped, seconds), indent=2))  # noqa: T201
    else:
        named = bool(args.folders)
        lines = _lines(roots, skipped, seconds, named=named)
        sys.stdout.writelines(f"{line.translate(CONTROL)}\n" for line in lines)
    there = [path for path in args.folders if path.exists()]
    return 0 if there or not args.folders else USAGE


def _lines(
    roots: list[ModelRoot], skipped: list[Skipped], seconds: float, *, named: bool
) -> list[str]:
    lines: list[str] = []
    for root in roots:
        steps = "step-distilled" if root.distilled else "40/50 steps"
        lines += [f"{root.name}  [{root.family} {root.task}, {steps}]", f"  {root.path}"]
        for variant in root.variants:
            verdict = "complete" if variant.complete else "incomplete"
            parts = ", ".join(TITLES[kind] for kind in variant.components)
            lines.append(
                f"  {variant.precision.value:<5} {verdict:<11} {size(variant.nbytes):>9}  {parts}"
            )
            lines += [f"        missing: {name}" for name in variant.missing]
            lines += [
                f"        {TITLES[kind]}: {problem}"
                for kind, component in variant.components.items()
                for problem in component.problems
            ]
        lines += [f"  LoRA  {lora.files[0].name}" for lora in root.loras if lora.files]
        lines += [f"  problem: {problem}" for problem in root.problems]
        reason = reason_not_runnable(root)
        lines += [f"  cannot run: {reason}" if reason else "  can run", ""]
    lines += [f"skipped {item.path}: {item.reason}" for item in skipped]
    count = f"{len(roots)} model{'' if len(roots) == 1 else 's'}"
    empty = "" if named else "; name a folder: lightx2v-tui scan DIR"
    hint = "" if roots else empty
    return [*lines, f"{count} in {seconds:.2f} s{hint}"]
