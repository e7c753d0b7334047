"""One engine thread, one job at a time; the only module that reaches the engine's heavy half.

The session, not the screen, says when the engine is idle: only after the engine's own terminal
event, when its generator has ended. A thread cannot be killed, so a second job is refused until
then.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.spec.control import RunControl
from engine.spec.errors import EngineError
from engine.spec.events import TERMINAL, Event, Failed, Noted, StageStarted
from engine.spec.job import Job, partial_of
from lightx2v_tui.launch.forecast import Held
from lightx2v_tui.output import redirected
from lightx2v_tui.runs import leftovers
from lightx2v_tui.runs.attempts import OnAsk, attempts
from lightx2v_tui.runs.device_lock import Devices
from lightx2v_tui.runs.folder import RunFolder, RunRecord, heeding

if TYPE_CHECKING:
    from engine.pipeline import Engine

#: While the engine works the screen's thread gets the interpreter back within half a millisecond.
SWITCH_INTERVAL = 0.0005


class BusyError(RuntimeError):
    """A job is still running."""


class Session:
    """Runs jobs on a thread of its own and passes on their events."""

    def __init__(
        self,
        on_event: Callable[[Event], None],
        *,
        on_ask: OnAsk | None = None,
        keep_loaded: bool = True,
    ) -> None:
        """Events are passed to `on_event` on the engine's thread; `on_ask` answers there, too.

        Without `on_ask` nothing that changes the video is tried. `keep_loaded` keeps networks
        for the next run, and with them the device.
        """
        self._on_event = on_event
        self._on_ask = on_ask
        self._keep_loaded = keep_loaded
        self._stop = RunControl()
        self._thread: threading.Thread | None = None
        self._record: RunRecord | None = None
        self._folder: RunFolder | None = None
        self._output: Path | None = None
        self._engine: Engine | None = None  # what stays loaded between jobs
        self.devices = Devices()  # what it holds of them, from before a run until all is let go

    @property
    def busy(self) -> bool:
        """True from `start` until the engine has ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Job, folder: RunFolder, record: RunRecord) -> None:
        """Start a job; its checkpoint is in the run's folder.

        Raises:
            BusyError: the last job has not ended yet.
            DeviceBusy: another process holds the device; `devices.take` says it before.
        """
        if self.busy:
            raise BusyError
        notes = self.devices.take(job.device, folder.path.name)
        job = replace(job, checkpoint=folder.checkpoint)
        record.begin(job)
        self._stop, self._record = RunControl(), record
        self._folder, self._output = folder, job.output
        self._thread = threading.Thread(
            target=self._work,
            args=(job, folder, record, self._stop, notes),
            name="engine",
            daemon=True,
        )
        self._thread.start()

    def reserve(self, device: str) -> None:
        """Hold a device for the job that is about to start.

        Raises:
            DeviceBusy: another process holds it.
        """
        self.devices.take(device)

    def interrupt(self) -> None:
        """Ask the job to stop as `cancel` does, and record that nobody wished it."""
        if self._record is not None and self.busy:
            self._record.interrupting()
        self._stop.set()

    def abandon(self) -> None:
        """Note that the job ends with this process, at once; nothing half written stays."""
        if not self.busy or self._folder is None or self._output is None:
            return
        with suppress(OSError):
            partial_of(self._output).unlink(missing_ok=True)
            for half in self._folder.path.glob(f".{self._folder.checkpoint.name}*"):
                half.unlink(missing_ok=True)
        if self._record is not None:
            self._record.stop_now()

    def cancel(self) -> None:
        """Ask the job to stop at its next block, tile or frame."""
        self._stop.set()

    @property
    def paused(self) -> bool:
        """True while a job waits for `resume`."""
        return self.busy and self._stop.paused

    def pause(self) -> None:
        """Let the job wait at its next block, tile or frame."""
        if self.busy:
            self._stop.pause()

    def resume(self) -> None:
        """Let a paused job go on."""
        self._stop.resume()

    def unload(self) -> bool:
        """Let go of everything that is loaded; False while a job is running."""
        if self.busy:
            return False
        self._let_go()
        return True

    def _let_go(self) -> None:
        if self._engine is not None:
            self._engine.unload()
        self.devices.release()

    def held(self) -> Held:
        """Bytes that the engine's networks hold; nothing while a job changes that."""
        if self._engine is None:
            return Held()
        held = self._engine.held() if not self.busy else (0, 0)
        return Held(*held, engine="torch" in sys.modules)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the job to end; False where it has not within `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.busy

    def _work(
        self,
        job: Job,
        folder: RunFolder,
        record: RunRecord,
        stop: RunControl,
        notes: tuple[str, ...],
    ) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            leftovers.clear()
            with redirected(folder.log), heeding(folder, stop):
                terminal = self._follow(job, record, stop, notes)
        except Exception as error:  # noqa: BLE001 - boundary: the run ends, the app does not
            terminal = Failed(_explained(error, folder))
            record.take(terminal)
        finally:
            sys.setswitchinterval(interval)
        self._settle()
        self._thread = None
        self._on_event(terminal)

    def rest(self) -> None:
        """Let devices go where nothing stays loaded on them; nothing while a job runs."""
        if not self.busy:
            self._settle()

    def _settle(self) -> None:
        if not self._keep_loaded:
            self._let_go()
        loaded = self._engine is not None and self._engine.held()[0] > 0
        self.devices.rest(loaded=loaded)
        _give_back()

    def _events(self, job: Job, stop: RunControl) -> Iterator[Event]:
        yield StageStarted("prepare")
        from engine.pipeline import Engine, run  # torch: a second and more

        if self._engine is None:
            self._engine = Engine()
            gc.freeze()  # collecting what the imports made would hold the screen for half a second
        yield from run(job, stop, self._engine)

    def _follow(
        self, job: Job, record: RunRecord, stop: RunControl, notes: tuple[str, ...]
    ) -> Event:
        """Pass on events; gives the terminal one, once everything has ended."""
        terminal: Event | None = None
        for note in notes:
            record.take(Noted(note))
            self._on_event(Noted(note))
        try:
            for event in attempts(job, lambda job: self._events(job, stop), record, self._on_ask):
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


def _give_back() -> None:
    """Let the system have the memory that nothing uses any more, where the C library can."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


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
