"""Selective, resumable downloads: a plan of files, and a generator that fetches them.

Files land under the folder of their repository as the hub names them, which is the layout that
scans know. What has arrived of a file waits in the folder where `hf download` keeps its own parts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from engine.spec.errors import Cancelled, EngineError
from lightx2v_tui.catalog.folders import DOWNLOADS
from lightx2v_tui.downloads import hub
from lightx2v_tui.downloads.hub import PassingError, Repository
from lightx2v_tui.downloads.parts import Parts, RemoteFile, RemoteVariant, parts_of
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded, model_dirs
from lightx2v_tui.units import size

FETCHING, CHECKING, WAITING, DONE = "fetching", "checking", "waiting", "done"
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before each further try without a new byte
PIECE = 1 << 20
ROOM = 64_000_000  # bytes that stay free on the disk
TOLD = 0.1  # seconds between two events of one file


@dataclass(frozen=True)
class PlannedFile:
    """A file to fetch, and how many of its bytes are here already."""

    file: RemoteFile
    here: int

    @property
    def whole(self) -> bool:
        """True where there is nothing left to fetch."""
        return self.here >= self.file.nbytes


@dataclass(frozen=True)
class DownloadPlan:
    """What is fetched from where, and the folder it goes into."""

    repository: str
    revision: str
    variants: tuple[str, ...]
    folder: Path
    files: tuple[PlannedFile, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(planned.file.nbytes for planned in self.files)

    @property
    def here(self) -> int:
        """Bytes that need not be fetched any more."""
        return sum(max(0, planned.here) for planned in self.files)

    @property
    def left(self) -> int:
        """Bytes still to fetch."""
        return self.nbytes - self.here


@dataclass(frozen=True)
class DownloadEvent:
    """How far a download is: of all files, and of the one under way."""

    state: str  # FETCHING, CHECKING what is here, WAITING before another try, or DONE
    done: int
    total: int
    file: str = ""
    file_done: int = 0
    file_total: int = 0
    note: str = ""  # why it waits


def look(repository: str) -> tuple[Repository, Parts]:
    """Ask the hub what can be chosen of a repository.

    Raises:
        EngineError: as `hub.look`, or the repository names files that are no files of a folder.
    """
    found = hub.look(repository)
    for file in found.files:
        _check_name(file.path, repository)
    return found, parts_of(found.files)


def default_place() -> Path:
    """The first of the usual folders for models that this user can write to, or ~/models."""
    home = expanded(Path("~/models"))
    usual = [place for place in model_dirs() if place.name == home.name]
    return next((p for p in usual if p.is_dir() and may_write(p)), home)


def may_write(folder: Path) -> bool:
    """Whether this user may make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def folder_for(repository: str, place: Path) -> Path:
    """The folder of a repository in a place for models, which may be that folder itself.

    One that is there already is taken, whatever the case of its letters: people write LightX2V
    where the hub has Lightx2v.
    """
    name = repository.rpartition("/")[2]
    place = expanded(place).absolute()
    if place.name.lower() == name.lower():
        return place
    with suppress(OSError), os.scandir(place) as entries:
        alike = {entry.name for entry in entries if entry.name.lower() == name.lower()}
        return place / (name if name in alike else min(alike, default=name))
    return place / name


def plan(
    repository: Repository, parts: Parts, variants: Sequence[RemoteVariant], place: Path
) -> DownloadPlan:
    """Name the files of some variants and what they share, and look how much of them is here."""
    folder = folder_for(repository.name, place)
    files = dict.fromkeys([*parts.shared, *(f for variant in variants for f in variant.files)])
    planned = tuple(PlannedFile(file, _here(folder, file)) for file in files)
    names = tuple(variant.name for variant in variants)
    return DownloadPlan(repository.name, repository.revision, names, folder, planned)


def refreshed(plan: DownloadPlan) -> DownloadPlan:
    """The same plan, with what is here by now."""
    files = tuple(PlannedFile(each.file, _here(plan.folder, each.file)) for each in plan.files)
    return replace(plan, files=files)


def free_bytes(place: Path) -> int:
    """Free bytes of the disk that a folder is on, or would be on; 0 where it cannot be told."""
    for folder in (place, *place.parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0


def fetch(plan: DownloadPlan, stop: threading.Event) -> Iterator[DownloadEvent]:
    """Fetch what is not here yet; half a file goes on where it ended.

    Raises:
        Cancelled: `stop` was set; what has arrived is kept.
        EngineError: the disk is too small or refuses, or the hub does.
    """
    _check_room(plan)
    done = sum(p.file.nbytes for p in plan.files if p.whole)
    yield DownloadEvent(FETCHING, plan.here, plan.nbytes)
    for planned in plan.files:
        if planned.whole:
            continue
        try:
            for state, here, note in _File(plan, planned.file).fetch(stop):
                yield DownloadEvent(state, done + here, plan.nbytes, planned.file.path, here,
                                    planned.file.nbytes, note)  # fmt: skip
        except OSError as error:
            raise _refused(error, plan, planned.file) from error
        done += planned.file.nbytes
    yield DownloadEvent(DONE, plan.nbytes, plan.nbytes)


def _check_name(path: str, repository: str) -> None:
    """Refuse a name that would lead out of the folder it belongs into."""
    parts = path.split("/")
    odd = any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path
    if odd or PurePosixPath(path).is_absolute():
        why = f"it names a file {printable(path)!r}, which would lie outside its folder"
        raise EngineError(f"{repository} is not fetched", why, "Do not trust this repository.")


def _here(folder: Path, file: RemoteFile) -> int:
    """Bytes of a file that are here, in its place or on the way to it; -1 for none of nothing."""
    with suppress(OSError):
        same = _recorded(folder, file) in ("", file.digest)
        if (folder / file.path).stat().st_size == file.nbytes and same:
            return file.nbytes
    with suppress(OSError):  # whole, but not checked and put into its place yet, is not here
        return min(_partial(folder, file).stat().st_size, file.nbytes - 1)
    return 0 if file.nbytes else -1


def _partial(folder: Path, file: RemoteFile) -> Path:
    return folder / DOWNLOADS / f"{file.path}.{file.digest[:12] or 'part'}.incomplete"


def _record(folder: Path, file: RemoteFile) -> Path:
    """Where `hf download` keeps what it knows of a file."""
    return folder / DOWNLOADS / f"{file.path}.metadata"


def _recorded(folder: Path, file: RemoteFile) -> str:
    """The checksum of the file that was downloaded here; empty where nothing is known."""
    try:
        lines = _record(folder, file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return lines[1].strip() if len(lines) > 1 else ""


def _check_room(plan: DownloadPlan) -> None:
    free, wanted = free_bytes(plan.folder), plan.left + (ROOM if plan.left else 0)
    if wanted > free:
        why = f"{size(plan.left)} are to come, {size(free)} are free at {plan.folder}"
        fix = f"Free {size(wanted - free)} there, or choose another folder."
        raise EngineError("The disk is too small for this download", why, fix)


def _refused(error: OSError, plan: DownloadPlan, file: RemoteFile) -> EngineError:
    """What the disk said."""
    why = f"{error.strerror or error}: {error.filename or plan.folder / file.path}"
    fix = "Choose a folder that you can write to."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "Free some room and start it again: what has arrived is kept."
    return EngineError(f"{file.path} cannot be stored", why, fix)


class _File:
    """One file on its way."""

    def __init__(self, plan: DownloadPlan, file: RemoteFile) -> None:
        self._plan, self._file = plan, file
        self._at = 0  # bytes that are here and in the checksum
        self._digest = file.checksum()
        self._told = 0.0

    def fetch(self, stop: threading.Event) -> Iterator[tuple[str, int, str]]:
        """Yield a state, how many bytes are here, and a note; then put it into its place."""
        partial = _partial(self._plan.folder, self._file)
        with _opened(partial, self._file) as out:
            for _ in self._checked(out, stop):
                yield CHECKING, self._at, ""
            tries = 0
            while self._at < self._file.nbytes:
                before = self._at
                try:
                    for _ in self._read(out, stop):
                        yield FETCHING, self._at, ""
                except PassingError as error:
                    tries = tries + 1 if self._at <= before else 1
                    if tries > len(PAUSES):
                        raise error.__cause__ or self._given_up(error) from error
                    yield WAITING, self._at, str(error)
                    if stop.wait(PAUSES[tries - 1]):
                        raise Cancelled from None
            out.flush()
            os.fsync(out.fileno())
            self._check(partial)
            self._place(partial)
        yield FETCHING, self._file.nbytes, ""

    def _due(self) -> bool:
        """Whether it is time to tell again."""
        now = time.monotonic()
        if now - self._told < TOLD:
            return False
        self._told = now
        return True

    def _checked(self, out: BinaryIO, stop: threading.Event) -> Iterator[None]:
        """Take what is here of the file into its checksum."""
        if out.seek(0, os.SEEK_END) > self._file.nbytes:
            out.truncate(0)
        out.seek(0)
        while piece := out.read(PIECE):
            if stop.is_set():
                raise Cancelled
            self._digest.update(piece)
            self._at += len(piece)
            if self._due():
                yield

    def _read(self, out: BinaryIO, stop: threading.Event) -> Iterator[None]:
        """Write what comes of one answer."""
        plan = self._plan
        answer = hub.pieces(plan.repository, plan.revision, self._file.path, self._at, stop)
        for item in answer:
            if isinstance(item, bytes):
                out.write(item)
                self._digest.update(item)
                self._at += len(item)
            elif item != self._at:  # the server does not go on, it begins again
                self._digest, self._at = self._file.checksum(), 0
                out.truncate(0)
            if self._at > self._file.nbytes:  # never more than was said: a disk has an end
                return
            if self._due():
                yield
        if self._at < self._file.nbytes:
            raise PassingError("the connection was cut")

    def _given_up(self, error: PassingError) -> EngineError:
        fix = "Start it again later: what has arrived is kept."
        return EngineError(f"{self._file.path} did not arrive", str(error), fix)

    def _check(self, partial: Path) -> None:
        """Compare the checksum; a file that is not what it should be goes."""
        file, known = self._file, len(self._file.digest) in (40, 64)
        if self._at == file.nbytes and (not known or self._digest.hexdigest() == file.digest):
            return
        partial.unlink(missing_ok=True)
        why = "its checksum is not the one that the hub gives"
        fix = "Start it again: this file is fetched anew."
        raise EngineError(f"{file.path} arrived damaged", why, fix)

    def _place(self, partial: Path) -> None:
        """Move it into its place, and leave word for `hf download`."""
        folder, file = self._plan.folder, self._file
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(place)
        for old in partial.parent.iterdir():  # of other revisions
            if old.name.startswith(f"{place.name}.") and old.name.endswith(".incomplete"):
                old.unlink(missing_ok=True)
        if file.digest:
            note = f"{self._plan.revision}\n{file.digest}\n{time.time()}\n"
            _record(folder, file).write_text(note, encoding="utf-8")


@contextmanager
def _opened(partial: Path, file: RemoteFile) -> Iterator[BinaryIO]:
    """Open what is here of a file, which one program at a time may add to."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("a+b") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "another download is fetching this file into the same folder"
            raise EngineError(f"{file.path} is not fetched", why, "Let that one end.") from None
        except OSError:  # a disk without locks
            pass
        yield out
