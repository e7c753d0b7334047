"""`runs`: what was made so far, and how it ended."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator

from lightx2v_tui.output import printable
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.runs.history import PastRun, as_json, past_runs
from lightx2v_tui.terminal import here, plain
from lightx2v_tui.units import duration

HEAD = ("ID", "STATUS", "STEPS", "TIME", "SIZE", "MODEL", "PROMPT")
UNCUT = 1000  # columns where nobody looks: a pipe or a file gets everything
MODEL_WIDTH = 32
GAP = "  "


def execute(args: argparse.Namespace) -> int:
    """Print the runs, oldest first: a table for people, or JSON."""
    runs = past_runs()
    if args.json:
        print(json.dumps({"runs": [as_json(run) for run in runs]}, indent=2))  # noqa: T201
        return 0
    if not runs:
        print(f"no runs yet in {printable(str(runs_dir()))}")  # noqa: T201
        return 0
    watched = sys.stdout.isatty()
    width = shutil.get_terminal_size((UNCUT, 24)).columns if watched else UNCUT
    letters = plain if watched and not here().unicode else str
    sys.stdout.writelines(f"{letters(line)}\n" for line in table(runs, width, time.time()))
    return 0


def table(runs: list[PastRun], width: int, now: float) -> Iterator[str]:
    """One line a run under a line of headings; what is last is cut to the width."""
    rows = [HEAD, *(_cells(run, now) for run in runs)]
    widths = [max(_cells_wide(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    for row, run in zip(rows, [None, *runs], strict=True):
        padded = [_padded(cell, size) for cell, size in zip(row, widths, strict=False)]
        yield _cut(GAP.join([*padded, row[-1]]), width).rstrip()
        if run is not None and (why := run.problem or (run.error or "").partition("\n")[0]):
            yield _cut(f"    {_plain(why)}", width)


def _cells(run: PastRun, now: float) -> tuple[str, ...]:
    facts = run.facts
    size = f"{facts.width}x{facts.height}x{facts.frames}" if facts.width else "-"
    model = _cut(_plain(facts.model or "-"), MODEL_WIDTH)
    steps = f"{run.step}/{run.steps}" if run.steps else "-"
    took = duration(run.took(now))
    return (_plain(run.id), run.status, steps, took, size, model, _plain(facts.prompt))


def _plain(text: str) -> str:
    """One line that a terminal shows and does not obey."""
    return printable(" ".join(text.split()))


def _cells_wide(text: str) -> int:
    """How many cells a terminal gives a text: two for wide letters, none for marks on letters."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells_wide(text))


def _cut(text: str, width: int) -> str:
    if _cells_wide(text) <= width:
        return text
    while text and _cells_wide(text) > width - 1:
        text = text[:-1]
    return f"{text}…" if width else ""
