"""How a run is stopped, paused and let go on: one event that every loop of the engine looks at."""

from __future__ import annotations

import threading
import time


class RunControl(threading.Event):
    """A stop event that makes whoever looks at it wait while the run is paused."""

    def __init__(self) -> None:
        super().__init__()
        self._going = threading.Event()
        self._going.set()
        self._hurry = threading.Event()
        self.paused_seconds = 0.0  # how long the run has waited so far

    @property
    def paused(self) -> bool:
        """True from `pause` until `resume` or `set`."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Let the run wait at its next look; a run that is to stop does not wait."""
        self._going.clear()
        if super().is_set():
            self._going.set()

    def resume(self) -> None:
        """Let the run go on; one that waits for room tries again at once."""
        self._going.set()
        self._hurry.set()

    def retry(self) -> None:
        """Let a run that waits for room try again at once."""
        self._hurry.set()

    def set(self) -> None:
        """Stop the run, paused or not."""
        super().set()
        self._going.set()
        self._hurry.set()

    def is_set(self) -> bool:
        """True where the run is to end; waits as long as it is paused."""
        if not self._going.is_set():
            started = time.perf_counter()
            self._going.wait()
            self.paused_seconds += time.perf_counter() - started
        return super().is_set()

    def nap(self, seconds: float) -> bool:
        """Wait at most so long; True where it was ended by `retry`, `resume` or `set`."""
        started = time.perf_counter()
        hurried = self._hurry.wait(seconds)
        self._hurry.clear()
        self.paused_seconds += time.perf_counter() - started
        return hurried
