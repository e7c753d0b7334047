"""`download`: fetch some variants of a repository; what is here already is not fetched again."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from engine.spec.errors import Cancelled, EngineError, JobError
from lightx2v_tui.downloads import fetching
from lightx2v_tui.downloads.downloader import SpeedMeter
from lightx2v_tui.downloads.fetching import CHECKING, DONE, WAITING, DownloadEvent, DownloadPlan
from lightx2v_tui.downloads.parts import Parts, RemoteVariant, choose, in_words, recommended
from lightx2v_tui.gpus import read_gpus
from lightx2v_tui.output import for_reader, printable
from lightx2v_tui.units import duration, size

OK, CANCELLED = 0, 130
WIDTH = 24
INTERVAL = 0.5  # seconds between redraws
COMPANIONS = {"t5": "lightx2v/Encoders", "vae": "lightx2v/Autoencoders"}


def execute(args: argparse.Namespace) -> int:
    """Choose, fetch, and print the folder."""
    repository, parts = fetching.look(args.repository)
    variants = _chosen(parts, args.variant, args.repository)
    plan = fetching.plan(repository, parts, variants, args.dest or fetching.default_place())
    if args.dry_run:
        _describe(plan, parts)
        return OK
    _note(f"{', '.join(plan.variants) or 'its files'}, {_figures(plan)}, into {plan.folder}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bar = _Bar(sys.stderr)
    try:
        for event in fetching.fetch(plan, stop):
            bar.take(event)
    except (KeyboardInterrupt, Cancelled):
        bar.end()
        _note("Stopped. The same command goes on from here.")
        return CANCELLED
    except EngineError:
        bar.end()
        raise
    bar.end()
    for kind in _lacking(parts, variants):
        _note(f"its {kind.upper()} lies in {COMPANIONS[kind]}")
    print(for_reader(plan.folder, sys.stdout))  # noqa: T201
    return OK


def _chosen(parts: Parts, names: Sequence[str], repository: str) -> tuple[RemoteVariant, ...]:
    """The variants that are named, or the one that suits this machine."""
    if names or not parts.variants:
        return choose(parts, names)
    best = recommended(parts, next(iter(read_gpus().gpus), None))
    if best is None:
        fix = "Name some with --variant NAME, or all of them with --variant all."
        raise JobError(f"{repository} has several variants", in_words(parts), fix)
    others = len(parts.variants) - 1
    if others:
        _note(f"{best.name} suits this machine; --variant NAME chooses among {in_words(parts)}")
    return (best,)


def _lacking(parts: Parts, variants: Sequence[RemoteVariant]) -> tuple[str, ...]:
    return parts.lacks if any(variant.kind == "dit" for variant in variants) else ()


def _figures(plan: DownloadPlan) -> str:
    here = f", {size(plan.here)} of them are here" if plan.here else ""
    return f"{size(plan.nbytes)}{here}"


def _describe(plan: DownloadPlan, parts: Parts) -> None:
    """Say what would be fetched."""
    lines = [f"{size(p.file.nbytes):>9}  {'here' if p.whole else '':<4}  {p.file.path}"
             for p in plan.files]  # fmt: skip
    lines.append(f"{size(plan.left):>9}  to fetch into {plan.folder}, "
                 f"{size(fetching.free_bytes(plan.folder))} free there")  # fmt: skip
    lines.append(f"variants: {in_words(parts)}")
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)


def _note(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")


class _Bar:
    """One line that is redrawn on a terminal, and a line per file elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._meter = SpeedMeter()
        self._drawn, self._open, self._file = 0.0, False, ""

    def take(self, event: DownloadEvent) -> None:
        """Show one event."""
        now = time.monotonic()
        if event.state != CHECKING:
            self._meter.take(event.done, now)
        if not self._terminal:
            if event.file != self._file or event.state == WAITING:
                self._file = event.file
                self._stream.write(printable(self._line(event, now)) + "\n")
        elif now - self._drawn >= INTERVAL or event.state in (WAITING, DONE):
            self._drawn, self._open = now, True
            self._stream.write(f"\r\x1b[K{printable(self._line(event, now))}")
            self._stream.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._open:
            self._stream.write("\n")

    def _line(self, event: DownloadEvent, now: float) -> str:
        share = event.done / event.total if event.total else 1.0
        bar = "█" * int(share * WIDTH) + "░" * (WIDTH - int(share * WIDTH))
        name = event.file.rpartition("/")[2]
        return f"{bar} {share:4.0%} {self._words(event, now):<30} {name}"[:100]

    def _words(self, event: DownloadEvent, now: float) -> str:
        if event.state == WAITING:
            return f"{event.note}; trying again"
        if event.state == CHECKING:
            return "checking what is here"
        speed = self._meter.speed(now)
        rest = f", {duration((event.total - event.done) / speed)} left" if speed else ""
        return f"{size(event.done)}, {size(int(speed))}/s{rest}" if speed else size(event.done)
