"""One engine thread, one job at a time; the only module that reaches the engine's heavy half.

The session, not the screen, says when the engine is idle: only after the engine's own terminal
event, when its generator has ended. A thread cannot be killed, so a second job is refused until
then.
"""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.spec.errors import EngineError
from engine.spec.events import TERMINAL, Event, Failed, StageStarted
from engine.spec.job import Job
from lightx2v_tui.forecast import Held
from lightx2v_tui.output import redirected
from lightx2v_tui.runs import RunFolder, RunRecord

if TYPE_CHECKING:
    from engine.pipeline import Engine

#: While the engine works the screen's thread gets the interpreter back within half a millisecond.
SWITCH_INTERVAL = 0.0005


class BusyError(RuntimeError):
    """A job is still running."""


class Session:
    """Runs jobs on a thread of its own and passes on their events."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        """Events are passed to `on_event` on the engine's thread."""
        self._on_event = on_event
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None  # what stays loaded between jobs

    @property
    def busy(self) -> bool:
        """True from `start` until the engine has ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Job, folder: RunFolder, record: RunRecord) -> None:
        """Start a job.

        Raises:
            BusyError: the last job has not ended yet.
        """
        if self.busy:
            raise BusyError
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(job, folder, record, self._stop), name="engine", daemon=True
        )
        self._thread.start()

    def cancel(self) -> None:
        """Ask the job to stop at its next block, tile or frame."""
        self._stop.set()

    def unload(self) -> bool:
        """Let go of everything that is loaded; False while a job is running."""
        if self.busy:
            return False
        if self._engine is not None:
            self._engine.unload()
        return True

    def held(self) -> Held:
        """Bytes that the engine's networks hold; nothing while a job changes that."""
        return Held(*self._engine.held()) if self._engine is not None and not self.busy else Held()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the job to end; False where it has not within `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.busy

    def _work(self, job: Job, folder: RunFolder, record: RunRecord, stop: threading.Event) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            with redirected(folder.log):
                terminal = self._follow(job, record, stop)
        except Exception as error:  # noqa: BLE001 - boundary: the run ends, the app does not
            terminal = Failed(_explained(error, folder))
            record.take(terminal)
        finally:
            sys.setswitchinterval(interval)
        self._thread = None
        self._on_event(terminal)

    def _events(self, job: Job, stop: threading.Event) -> Iterator[Event]:
        yield StageStarted("prepare")
        from engine.pipeline import Engine, run  # torch and transformers: several seconds

        if self._engine is None:
            self._engine = Engine()
            gc.freeze()  # collecting what the imports made would hold the screen for half a second
        yield from run(job, stop, self._engine)

    def _follow(self, job: Job, record: RunRecord, stop: threading.Event) -> Event:
        """Pass on events; gives the terminal one, once everything has ended."""
        terminal: Event | None = None
        try:
            for event in self._events(job, stop):
                record.take(event)
                if isinstance(event, TERMINAL):
                    terminal = event
                else:
                    self._on_event(event)
        except Exception:
            traceback.print_exc()  # to the run's log
            raise
        assert terminal is not None  # `engine.pipeline.run` always ends with one
        return terminal


def _explained(error: Exception, folder: RunFolder) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, ImportError):
        return EngineError(
            "The engine cannot be loaded",
            str(error),
            "Install the project again; `lightx2v-tui doctor` says what is missing.",
        )
    return EngineError(
        "The run stopped on an unexpected error",
        f"{type(error).__name__}: {error}",
        f"See {folder.log}",
    )
