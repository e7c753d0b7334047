"""A run without a screen, which nothing but its user ends: signals, readers and what is said."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from engine.spec.errors import EngineError
from engine.spec.events import (
    TERMINAL,
    CancelledByUser,
    Done,
    Event,
    Failed,
    Resumed,
    StepDone,
    Waiting,
)
from lightx2v_tui.launch.jobs import Plan
from lightx2v_tui.output import STDERR, STDOUT, for_reader, printable
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.runs.device_lock import DeviceBusy
from lightx2v_tui.runs.folder import RunFolder, RunRecord
from lightx2v_tui.runs.progress import Bar, JsonLines, Progress, Silent
from lightx2v_tui.runs.session import Session
from lightx2v_tui.runs.steady import Steady

OK, FAILED, CANCELLED = 0, 1, 130
FORCING = 2.0  # seconds that ending at once may take


@dataclass(frozen=True)
class Request:
    """What to run: `plan` is asked again once a device became free, with what is free then."""

    plan: Callable[[], Plan]
    folder: Callable[[], RunFolder]
    own_folder: bool  # the video goes there
    earlier: Mapping[str, object] | None = None  # the record of a run that goes on


class Headless:
    """One run, its streams, and the signals that stop it."""

    def __init__(self, progress: str) -> None:
        """`progress` is auto, bar, json or none."""
        self._out, self.stdout = Steady.text(STDOUT)
        self._err, self.stderr = Steady.text(STDERR)
        self._json = progress == "json"
        self._progress = _progress(progress, self.stdout, self.stderr)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._session = Session(self._events.put, keep_loaded=False)
        self._out.over = self._err.over = lambda: not self._session.busy
        self._asked: int | None = None  # the signal that asked to stop
        self._forced: float | None = None  # when it was ended at once
        self._folder: RunFolder | None = None
        self._step = ""

    def run(self, request: Request, *, wait: bool) -> int:
        """Run it, and say how it ended; gives the exit code.

        Raises:
            EngineError: it is refused; where `wait` told of waiting, that was told too.
        """
        planned = request.plan()
        self._listen()
        device, waited = planned.job.device, False
        if wait:
            waited, held = self._wait(device)
            if not held:
                return self._end(CancelledByUser())
        try:
            if waited:
                planned = request.plan()
            if self._asked is not None:
                self._session.rest()
                return self._end(CancelledByUser())
            self._session.reserve(device)  # before there is a folder
            self._start(request, planned)
        except EngineError as error:
            self._session.rest()
            if waited:
                self._progress.take(Failed(error))
            raise
        terminal = self._follow()
        self._session.wait()
        return self._end(terminal)

    def note(self, text: str) -> None:
        """Say something beside the progress."""
        self.stderr.write(f"note: {printable(text)}\n")

    def _wait(self, device: str) -> tuple[bool, bool]:
        """Wait for a device; says whether that took time, and whether it is held now."""
        waited = False

        def tell(busy: DeviceBusy) -> None:
            nonlocal waited
            waited = True
            self._progress.take(Waiting(busy.what))

        held = self._session.devices.wait(device, "", lambda: self._asked is not None, tell)
        return waited, held is not None

    def _start(self, request: Request, planned: Plan) -> None:
        folder = request.folder()
        if request.own_folder:
            planned = planned.with_output(folder.output)
        for note in planned.notes:
            self.note(note)
        record = RunRecord(folder, planned.preset, job=planned.job, earlier=request.earlier)
        self._folder = folder
        self._session.start(planned.job, folder, record)
        if self._asked is not None:  # meanwhile
            self._stop(self._asked)

    def _follow(self) -> Event:
        while True:
            event = self._events.get()
            if isinstance(event, StepDone | Resumed):
                self._step = f" after step {event.step} of {event.steps}"
            ended = isinstance(event, TERMINAL)
            if ended:
                _end_listening()
            self._progress.take(event)
            if ended:
                return event

    def _listen(self) -> None:
        """Stop on Ctrl+C and SIGTERM; a terminal that is closed is no reason to."""
        signal.signal(signal.SIGINT, self._signalled)
        signal.signal(signal.SIGTERM, self._signalled)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hung_up)

    def _signalled(self, number: int, _frame: object) -> None:
        if self._forced is not None:  # the key is held down, or the disk does not answer
            if time.monotonic() - self._forced > FORCING:
                os._exit(CANCELLED)
            return
        if self._asked is not None:
            self._forced = time.monotonic()
            self._force()
        self._asked = number
        self._stop(number)
        self.stderr.write(f"\nStopping at the next block; again to stop at once.{self._hint()}\n")

    def _stop(self, number: int) -> None:
        if number == signal.SIGTERM:
            self._session.interrupt()
        else:
            self._session.cancel()

    def _hung_up(self, _number: int, _frame: object) -> None:
        if self._folder is not None:
            self._folder.write_log("the terminal was closed; the run goes on")

    def _force(self) -> None:
        """End now: the last checkpoint is whole, and nothing half written stays."""
        self._session.abandon()
        if self._json:
            self._out.hurry(FORCING / 2)
            self._progress.take(CancelledByUser())
        os._exit(CANCELLED)

    def _hint(self) -> str:
        """How to go on, where there is something to go on with."""
        if self._folder is None:
            return ""
        path = self._folder.path
        run = path.name if path.parent == runs_dir() else shlex.quote(str(path))
        return f" `lightx2v-tui run --resume {run}` goes on."

    def _end(self, terminal: Event) -> int:
        match terminal:
            case Done(path=path):
                if not self._json:
                    self.stdout.write(f"{for_reader(path, self.stdout)}\n")
                return OK
            case Failed(error=error):
                log = self._folder.log if self._folder else ""
                kept = self._folder is not None and self._folder.checkpoint.exists()
                hint = f";{self._hint()[:-1]}" if kept else ""
                self.stderr.write(printable(f"{error}\n(log: {log}{hint})\n", keep="\n"))
                return FAILED
        if self._folder is None and self._json:
            self._progress.take(terminal)  # it never began
        self.stderr.write(f"Stopped{self._step}.{self._hint()}\n")
        return CANCELLED


def _end_listening() -> None:
    """Nothing is left to stop: Python's own end would turn one more Ctrl+C into another code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _progress(kind: str, stdout: TextIO, stderr: TextIO) -> Progress:
    if kind == "json":
        return JsonLines(stdout)
    return Silent() if kind == "none" else Bar(stderr)
