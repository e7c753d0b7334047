"""The terminal under the screen: whatever happens to it, whoever draws is not held up."""

from __future__ import annotations

import os
import pty
import threading
import time
import tty
from collections.abc import Iterator

import pytest

from lightx2v_tui.terminal_stream import MEND, TerminalStream


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read(master: int, wanted: int) -> bytes:
    received = b""
    while len(received) < wanted:
        received += os.read(master, 65536)
    return received


def test_all_of_it_arrives_in_order(ends: tuple[int, int]) -> None:
    master, slave = ends
    stream = TerminalStream(slave)
    text = "".join(f"{number} ä狐\n" for number in range(30_000))
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(read(master, len(text.encode()))))
    thread.start()
    for start in range(0, len(text), 1000):
        stream.write(text[start : start + 1000])
    stream.flush()
    thread.join(60)
    assert received == [text.encode()]
    assert not stream.gone
    assert stream.isatty()


def test_a_terminal_that_is_gone_is_told_once_and_all_is_dropped(ends: tuple[int, int]) -> None:
    master, slave = ends
    stream, told = TerminalStream(slave), threading.Event()
    stream.on_gone = told.set
    os.close(master)
    stream.write("x")
    assert told.wait(60)
    assert stream.gone
    for _ in range(100):
        stream.write("y" * 10_000)
    stream.flush()


def test_one_that_takes_nothing_holds_nobody_up_and_is_drawn_anew(ends: tuple[int, int]) -> None:
    master, slave = ends
    stream, told = TerminalStream(slave, patience=0.1), threading.Event()
    stream.on_behind = told.set
    for _ in range(20):  # more than any buffer holds; each would wait for ever
        stream.write("a" * 60_000)
        stream.flush()
    assert not told.is_set()
    received, end = b"", time.monotonic() + 60
    while not told.is_set() or MEND not in received:
        assert time.monotonic() < end
        received += os.read(master, 65536)
    stream.write("new")
    while not received.endswith(b"new"):
        received += os.read(master, 65536)
    assert received.split(MEND)[1] == b"new"
    assert set(received.split(MEND)[0]) == {ord("a")}
