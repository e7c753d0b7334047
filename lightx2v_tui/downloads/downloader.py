"""The downloads of the app: one under way, the others in a line, on a thread of their own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.spec.errors import Cancelled, EngineError
from lightx2v_tui.downloads.fetching import FETCHING, DownloadEvent, DownloadPlan, fetch, refreshed

WINDOW = 6.0  # seconds that a speed is measured over
APART = 0.25  # seconds between two of its samples


class SpeedMeter:
    """Bytes a second over the last few seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def take(self, done: int, now: float) -> None:
        """Note how many bytes had come at a time; fewer than before begin anew."""
        samples = self._samples
        if samples and done < samples[-1][1]:
            samples.clear()
        if len(samples) > 1 and now - samples[-2][0] < APART:
            samples.pop()
        samples.append((now, done))
        while len(samples) > 2 and now - samples[1][0] >= WINDOW:
            samples.popleft()

    def speed(self, now: float) -> float:
        """Bytes a second until `now`; 0 where too little is known."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (_, last) = self._samples[0], self._samples[-1]
        return (last - first) / max(now - began, APART)


@dataclass(frozen=True)
class Download:
    """One download as it stands: under way, or the last one and how it ended."""

    plan: DownloadPlan
    event: DownloadEvent
    speed: float = 0.0  # bytes a second
    ended: bool = False
    cancelled: bool = False
    error: EngineError | None = None

    @property
    def fraction(self) -> float:
        """How much of it is here, from 0 to 1."""
        return self.event.done / self.event.total if self.event.total else float(self.ended)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this speed; None where that is not known."""
        return (self.event.total - self.event.done) / self.speed if self.speed > 0 else None


class Downloader:
    """Fetches one plan after the other; screens look at `download` when they draw."""

    def __init__(self, on_end: Callable[[Download], None]) -> None:
        """`on_end` is given each download when it is over, on the thread that fetched it."""
        self._on_end = on_end
        self._lock = threading.Lock()
        self._line: deque[DownloadPlan] = deque()
        self._stop = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.download: Download | None = None

    @property
    def busy(self) -> bool:
        """True while something is fetched."""
        return self._thread is not None

    @property
    def waiting(self) -> tuple[DownloadPlan, ...]:
        """What is fetched after the one under way."""
        with self._lock:
            return tuple(self._line)

    def want(self, plan: DownloadPlan) -> bool:
        """Fetch a plan, after those that were wanted before; False where it must wait."""
        with self._lock:
            self._line.append(plan)
            if self._thread is not None:
                return False
            self._begin(self._line.popleft())
            self._thread = threading.Thread(target=self._work, daemon=True, name="downloads")
        self._thread.start()
        return True

    def cancel(self) -> None:
        """Stop the one under way; what has arrived is kept, and the next one begins."""
        self._stop.set()

    def close(self, seconds: float) -> None:
        """Stop everything, and wait at most so many seconds for it."""
        with self._lock:
            self._line.clear()
            self._closed = True
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _begin(self, plan: DownloadPlan) -> None:
        self._stop = threading.Event()
        self.download = Download(plan, DownloadEvent(FETCHING, plan.here, plan.nbytes))

    def _work(self) -> None:
        while True:
            ended = self._fetch_one()
            with self._lock:
                self.download = ended
                last = not self._line
                if last:
                    self._thread = None
            if not self._closed:
                self._on_end(ended)
            if last:
                return
            with self._lock:
                if not self._line:  # closed meanwhile
                    self._thread = None
                    return
                self._begin(self._line.popleft())

    def _fetch_one(self) -> Download:
        assert self.download is not None
        now, meter, error, cancelled = self.download, SpeedMeter(), None, False
        try:
            for event in fetch(refreshed(now.plan), self._stop):
                clock = time.monotonic()
                if event.state == FETCHING:
                    meter.take(event.done, clock)
                now = Download(now.plan, event, meter.speed(clock))
                self.download = now
        except Cancelled:
            cancelled = True
        except EngineError as told:
            error = told
        except Exception as odd:  # noqa: BLE001 - boundary: the thread of all downloads
            error = EngineError("The download failed", f"{type(odd).__name__}: {odd}")
        return Download(now.plan, now.event, 0.0, True, cancelled, error)
