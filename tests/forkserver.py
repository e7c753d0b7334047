"""`python -m tests.forkserver FD`: forks processes that run the command line.

PyTorch and the libraries beside it are imported once, for all of them; whatever happens to such a
process afterwards is real. Asked over the socket FD: one JSON object, and the descriptors that
become 1 and 2.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

WARM = ("engine.pipeline", "lightx2v_tui.commands.run",
        "lightx2v_tui.commands.runs", "psutil", "pynvml", "ftfy", "tokenizers")  # fmt: skip
MESSAGE = 1 << 16
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod")  # audited by Python
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def serve(channel: socket.socket) -> dict[str, Any]:
    """Answer until the socket ends; returns what was asked for in each process that was forked."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE, 2)
        if not message:
            sys.exit(0)
        asked = json.loads(message)
        if "wait" in asked:
            code = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
            channel.sendall(json.dumps({"code": code}).encode())
            continue
        pid = os.fork()
        if pid == 0:
            channel.close()
            for number, descriptor in enumerate(descriptors, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return dict(asked)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.sendall(json.dumps({"pid": pid}).encode())


def die_at(change: int, below: str) -> None:
    """Let this process be killed right before its change number `change` to files `below`."""
    fsync, left = os.fsync, change

    def counted() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "open" and not (isinstance(values[2], int) and values[2] & WRITES):
            return
        if event in (*CHANGES, "open") and str(values[0]).startswith(below):
            counted()

    def flushed(descriptor: int) -> None:
        counted()  # what was written has its first name and is perhaps not on the disk
        fsync(descriptor)

    sys.addaudithook(hook)
    os.fsync = flushed


def become(asked: dict[str, Any]) -> Callable[[], int]:
    """Be the process of a command that somebody typed."""
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["lightx2v-tui", *asked["argv"]]
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    if asked["die_at"]:
        die_at(asked["die_at"], asked["cwd"])
    from lightx2v_tui.cli import main

    return main


if __name__ == "__main__":
    for name in WARM:
        importlib.import_module(name)
    gc.freeze()
    end = become(serve(socket.socket(fileno=int(sys.argv[1]))))()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(end)  # taking PyTorch down would copy its pages first, which takes a second
