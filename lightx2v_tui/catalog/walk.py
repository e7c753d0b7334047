"""One walk over the disks, telling what it finds while it goes, and never waiting for a dead one.

A folder on a network mount whose server is gone blocks whoever asks for it, for hours, and no
thread can be stopped from outside. So a thread of its own walks; where it has not moved for a
while it is left behind, its mount is told as skipped, and another thread goes on with the rest.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import NamedTuple

from lightx2v_tui.catalog.disk import mount_point
from lightx2v_tui.catalog.files import HEARTBEAT, Listing, list_folder
from lightx2v_tui.catalog.layouts import GUIDE, MARKS, Found, inspect
from lightx2v_tui.catalog.model import ModelRoot, Skipped
from lightx2v_tui.catalog.offers import with_offers

MAX_DEPTH = 8
PATIENCE = 10.0  # seconds without an answer after which a mount is left
TICK = 0.1


@dataclass
class Looked:
    """How much a walk has looked at so far, for whoever waits for it."""

    folders: int = 0
    files: int = 0


def find_roots(
    starts: Iterable[Path],
    stop: Event,
    patience: float = PATIENCE,
    looked: Looked | None = None,
) -> Iterator[ModelRoot | Skipped]:
    """Yield every model root at or below the folders `starts`, each once, until `stop` is set.

    At the end, roots that lack something found elsewhere are yielded again, with those offers.
    `looked` counts meanwhile.
    """
    roots: list[ModelRoot] = []
    loose: list[Found] = []
    places = [_Place(str(_start(start)), "", 0) for start in starts]
    for item in _walked(_Walker(places[::-1], patience, looked or Looked()), stop):
        if isinstance(item, Found):
            roots += item.roots
            loose.append(item)
            yield from item.roots
        else:
            yield item
    if not stop.is_set():
        yield from with_offers(roots, loose)


def _start(path: Path) -> Path:
    """A precision folder given by hand means the root above it."""
    return path.parent if path.name in GUIDE else path


class _Place(NamedTuple):
    """A folder to look at: as it is called, and where it really is, once that was asked."""

    path: str
    real: str
    depth: int

    def below(self, listing: Listing, names: Iterable[str]) -> list[_Place]:
        """Its subfolders; where a link leads is asked when it is its turn, as it may not answer."""
        path, real = self.path.rstrip("/"), self.real.rstrip("/")
        return [
            _Place(f"{path}/{name}", "" if name in listing.links else f"{real}/{name}",
                   self.depth + 1)
            for name in sorted(names, reverse=True)
        ]  # fmt: skip


class _LeftBehindError(Exception):
    """This thread is not waited for any more."""


@dataclass
class _Walker:
    """A walk under way, owned by one thread at a time; a thread left behind loses it."""

    pending: list[_Place]
    patience: float
    looked: Looked = field(default_factory=Looked)
    seen: set[str] = field(default_factory=set)
    dead: list[Path] = field(default_factory=list)  # mounts that did not answer
    at: str = "/"
    since: float = 0.0
    turn: int = 0  # which thread may go on
    told: queue.SimpleQueue[Found | Skipped | None] = field(default_factory=queue.SimpleQueue)
    lock: Lock = field(default_factory=Lock)

    def go(self, turn: int, stop: Event) -> None:
        """Walk until nothing is left, or until this thread was left behind."""
        HEARTBEAT.set(lambda: self._beat(turn))
        try:
            while not stop.is_set() and (place := self._next(turn)) is not None:
                found, below = self._look(place)
                self._take(turn, found, below)
        except _LeftBehindError:
            return
        with self.lock:
            if self.turn == turn:
                self.told.put(None)

    def _beat(self, turn: int) -> None:
        """Something answered; a thread that was left behind need not go on."""
        if self.turn != turn:
            raise _LeftBehindError
        self.since = time.monotonic()

    def _next(self, turn: int) -> _Place | None:
        with self.lock:
            if self.turn != turn or not self.pending:
                return None
            place = self.pending.pop()
            self.at, self.since = place.path, time.monotonic()
            return place

    def _take(self, turn: int, found: Found | Skipped | None, below: list[_Place]) -> None:
        with self.lock:
            if self.turn == turn:
                self.pending += below
                if found is not None:
                    self.told.put(found)

    def _look(self, place: _Place) -> tuple[Found | Skipped | None, list[_Place]]:
        """Look at one folder; gives what it is, and which folders to look at next."""
        try:  # of a start only here is it asked where it really is: its disk may not answer
            if not place.real:
                place = place._replace(real=os.path.realpath(place.path))
            if place.real in self.seen or self._is_dead(place):
                return None, []
            self.seen.add(place.real)
            listing = list_folder(place.path)
            self.looked.folders += 1
            self.looked.files += len(listing.files)
            found = inspect(listing) if _matters(listing) else None
        except (FileNotFoundError, NotADirectoryError):
            return None, []
        except _LeftBehindError:
            raise
        except Exception as error:  # noqa: BLE001 - boundary: one odd folder must not hide the others
            return Skipped(Path(place.path), getattr(error, "strerror", None) or repr(error)), []
        if found is not None:  # a link may lead there too
            self.seen.update(f"{place.real}/{name}" for name in found.used)
        if place.depth >= MAX_DEPTH:
            return found, []
        below = listing.folders - found.used if found else listing.folders
        return found, place.below(listing, below)

    def _is_dead(self, place: _Place) -> bool:
        if not self.dead:
            return False
        names = (place.path, place.real)
        return any(Path(name).is_relative_to(mount) for name in names for mount in self.dead)

    def leave(self, stop: Event) -> Skipped:
        """Leave a thread that does not come back, and walk on without its mount."""
        at = Path(self.at)
        mount = mount_point(at)
        self.dead.append(at if mount == Path("/") else mount)
        self.start(stop)
        return Skipped(self.dead[-1], f"did not answer for {self.patience:g} s, at {at}")

    def start(self, stop: Event) -> None:
        """Let a new thread walk."""
        with self.lock:
            self.turn += 1
            self.since = time.monotonic()
        Thread(target=self.go, args=(self.turn, stop), daemon=True, name="scan").start()


def _matters(listing: Listing) -> bool:
    return bool(listing.files or listing.folders & MARKS)


def _walked(walker: _Walker, stop: Event) -> Iterator[Found | Skipped]:
    walker.start(stop)
    while not stop.is_set():
        try:
            item = walker.told.get(timeout=TICK)
        except queue.Empty:
            if time.monotonic() - walker.since > walker.patience:
                yield walker.leave(stop)
            continue
        if item is None:
            return
        yield item
