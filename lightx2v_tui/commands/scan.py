"""`scan`: model roots, their variants, and what is missing."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lightx2v_tui import settings
from lightx2v_tui.catalog import (
    TITLES,
    ModelRoot,
    Skipped,
    Verdict,
    find_roots,
    lora_in_words,
)
from lightx2v_tui.catalog.report import as_json
from lightx2v_tui.catalog.standing import in_words, standing_of
from lightx2v_tui.launch.runnable import reason_not_runnable
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded, model_dirs
from lightx2v_tui.units import size

USAGE = 2


def execute(args: argparse.Namespace) -> int:
    """Scan, and print text or JSON."""
    stored, _ = settings.load()
    folders = args.folders or [*map(expanded, args.root), *map(Path, stored.roots), *model_dirs()]
    started = time.perf_counter()
    found = list(find_roots(folders, threading.Event()))
    # a root that is yielded again has learnt of what lies elsewhere
    roots = list({item.key: item for item in found if isinstance(item, ModelRoot)}.values())
    skipped = [item for item in found if isinstance(item, Skipped)]
    wrong = list(_no_folders(args.folders, skipped))
    skipped += wrong
    seconds = time.perf_counter() - started
    if args.json:
        print(json.dumps(as_json(roots, skipped, seconds), indent=2))  # noqa: T201
    else:
        named = bool(args.folders)
        lines = _lines(roots, skipped, seconds, named=named)
        sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
    return USAGE if args.folders and len(wrong) == len(args.folders) else 0


def _no_folders(named: Sequence[Path], skipped: Sequence[Skipped]) -> Iterator[Skipped]:
    """What was named and is no folder; a disk that did not answer the scan is not asked again."""
    told = [item.path.absolute() for item in skipped]
    look = os.lstat if told else os.stat  # a link may lead to a disk that does not answer
    for path in named:
        if any(path.absolute().is_relative_to(place) for place in told):
            continue
        try:
            mode = look(path).st_mode
        except (OSError, ValueError):  # ValueError: no name of a file can be like that
            yield Skipped(path, "no such folder")
            continue
        if not (stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            yield Skipped(path, "not a folder")


def _lines(
    roots: list[ModelRoot], skipped: list[Skipped], seconds: float, *, named: bool
) -> list[str]:
    lines = [line for root in roots for line in _root_lines(root)]
    lines += [f"skipped {item.path}: {item.reason}" for item in skipped]
    count = f"{len(roots)} model{'' if len(roots) == 1 else 's'}"
    empty = "" if named else "; name a folder: lightx2v-tui scan DIR"
    hint = "" if roots else empty
    return [*lines, f"{count} in {seconds:.2f} s{hint}"]


def _root_lines(root: ModelRoot) -> list[str]:
    steps = "step-distilled" if root.distilled else "40/50 steps"
    about = " ".join(word for word in (root.family, root.size, root.task) if word)
    lines = [f"{root.name}  [{about}, {steps}]", f"  {root.path}"]
    lines += [f"  disk: {root.disk.advice}"] if root.disk.advice else []
    standing = standing_of(root)
    for each in standing.variants:
        lines.append(f"  {size(each.variant.nbytes):>9}  {each.line}")
        lines += _verdict_lines(each.verdicts, "    ")
    lines += ["  every variant:"] if standing.shared else []
    lines += _verdict_lines(standing.shared, "    ")
    lines += [f"  {TITLES[c.kind]:<5} {c.scheme:<11} {size(c.nbytes):>9}  {c.files[0].name}"
              for c in root.others if c.files]  # fmt: skip
    lines += [f"  LoRA  {lora_in_words(lora)}" for lora in root.loras if lora.files]
    lines += [f"  problem: {problem}" for problem in root.problems]
    reason = reason_not_runnable(root)
    return [*lines, f"  cannot run: {reason}" if reason else "  can run", ""]


def _verdict_lines(told: Iterable[Verdict], indent: str) -> Iterator[str]:
    for verdict in told:
        line, fix = in_words(verdict)
        yield f"{indent}{line}"
        if fix:
            yield f"{indent}  -> {fix}"
