"""Files that one process holds at a time; the kernel gives them back however that process ends."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from lightx2v_tui import store

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what `flock` says of a file that is held


class FileLock:
    """An exclusive hold on one file, which stays where it is when it is let go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __del__(self) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """True while this object holds the file."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Hold the file; False where somebody else does.

        Raises:
            OSError: the file cannot be made, or its disk knows no locks.
        """
        if self.held:
            return True
        store.make_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in HELD:
                return False
            raise
        self._descriptor = descriptor
        return True

    def write(self, content: bytes) -> None:
        """Replace what stands in the file that is held; a full disk leaves less of it."""
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content, 0)
        except OSError:
            return  # who holds it is good to know; that it is held is what counts

    def release(self) -> None:
        """Let the file go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """True where a process holds the file; False where none does, or nobody can say."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in HELD
    finally:
        os.close(descriptor)
    return False
