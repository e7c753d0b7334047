"""The command line in processes of its own, which have PyTorch from the start.

Importing it takes longer than most runs of the tests; what matters of an own process is real.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 120.0


class ForkServer:
    """Processes of the command line that start at once: PyTorch is there already."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),), cwd=REPOSITORY, stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        theirs.close()

    def close(self) -> None:
        """End the server; its processes have ended."""
        self._channel.close()
        assert self._process.wait(PATIENCE) == 0

    def fork(self, argv: list[str], cwd: Path, out: int, err: int, die_at: int = 0) -> int:
        """Start `lightx2v-tui argv`; gives the number of its process.

        `die_at`: it is killed right before this change to the files below `cwd`.
        """
        asked = {"argv": argv, "cwd": str(cwd), "env": dict(os.environ), "die_at": die_at}
        socket.send_fds(self._channel, [json.dumps(asked).encode()], [out, err])
        return int(self._answer()["pid"])

    def wait(self, pid: int) -> int:
        """Wait for a process to end; gives its exit code."""
        self._channel.sendall(json.dumps({"wait": pid}).encode())
        return int(self._answer()["code"])

    def run(self, argv: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run `lightx2v-tui argv` to its end."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            code = self.wait(self.fork(argv, cwd, out.fileno(), err.fileno()))
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(argv, code, out.read(), err.read())

    def _answer(self) -> dict[str, Any]:
        self._channel.settimeout(PATIENCE)
        answer: dict[str, Any] = json.loads(self._channel.recv(1 << 16))
        return answer


class Process:
    """One process: the lines it tells, and signals to it."""

    def __init__(self, server: ForkServer, argv: list[str], cwd: Path, die_at: int = 0) -> None:
        self._server, self._stderr = server, tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as this
        self._out, theirs = os.pipe()
        self.pid = server.fork(argv, cwd, theirs, self._stderr.fileno(), die_at)
        os.close(theirs)
        self._rest, self.lines, self._open = b"", [], True
        self.code: int | None = None

    lines: list[str]

    def read(self, seconds: float, until: str | None = None) -> bool:
        """Read what it tells for so long, or until a line holds `until`; False where it ended."""
        end = time.monotonic() + seconds
        while self._open:
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return True
            data = os.read(self._out, 1 << 16)
            self._open = bool(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            self.lines += [line.decode() for line in whole]
            if until is not None and any(until in line.decode() for line in whole):
                return True
        return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended is not reaped yet, so that its number is its own."""
        os.kill(self.pid, number)

    def end(self) -> int:
        """Read the rest and reap it; gives the exit code."""
        assert not self.read(PATIENCE), f"it goes on and on: {self.lines[-3:]}"
        os.close(self._out)
        self.code = self._server.wait(self.pid)
        return self.code

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it told: every line is a whole object."""
        return [json.loads(line) for line in self.lines]

    @property
    def steps(self) -> list[int]:
        """The denoising steps that it told."""
        return [event["step"] for event in self.events if event["event"] == "step"]

    @property
    def stderr(self) -> str:
        """What it said beside."""
        self._stderr.seek(0)
        return self._stderr.read()


def frames_of(path: Path) -> str:
    """A hash of all frames of a video."""
    import av

    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


@contextmanager
def own_home(home: Path) -> Iterator[None]:
    """Let processes that are started meanwhile keep their files below `home`."""
    before = dict(os.environ)
    (home / "home").mkdir(parents=True)
    names = {f"XDG_{name}_HOME": str(home / "home" / name.lower())
             for name in ("DATA", "CONFIG", "CACHE")}  # fmt: skip
    os.environ.update(names, HOME=str(home / "home"))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
