"""Whoever watches a run may close, stall or never open their end: the run goes on."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightx2v_tui.runs.steady import Steady


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_all_of_it_arrives(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    steady, stream = Steady.text(writer)
    text = "".join(f"{number} ä狐\n" for number in range(50_000))
    received = bytearray()

    def read() -> None:
        while len(received) < len(text.encode()):
            received.extend(os.read(reader, 100_000))

    thread = threading.Thread(target=read)
    thread.start()
    assert stream.write(text) == len(text)
    thread.join(30)
    assert bytes(received) == text.encode()
    assert not steady.gone
    assert not stream.isatty()


def test_half_letters_of_names_are_written_somehow(pipe: tuple[int, int]) -> None:
    _, stream = Steady.text(pipe[1])
    stream.write("a\udcffb\n")
    assert os.read(pipe[0], 100) == b"a\\udcffb\n"


def test_a_closed_pipe_is_dropped(pipe: tuple[int, int]) -> None:
    steady, stream = Steady.text(pipe[1])
    os.close(pipe[0])
    assert stream.write("x\n") == 2
    assert steady.gone
    stream.write("more\n")
    stream.flush()


def test_a_closed_terminal_is_dropped() -> None:
    leader, follower = pty.openpty()
    steady, stream = Steady.text(follower)
    assert stream.isatty()
    os.close(leader)
    stream.write("x\n")
    assert steady.gone
    assert not stream.isatty()
    os.close(follower)


def test_a_descriptor_that_was_never_open() -> None:
    steady, stream = Steady.text(987)
    stream.write("x\n")
    assert steady.gone
    assert not stream.isatty()


def test_a_full_disk_loses_a_line_and_not_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w") as file:
        steady, stream = Steady.text(file.fileno())
        write = os.write

        def full(_descriptor: int, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        stream.write("lost\n")
        monkeypatch.setattr(os, "write", write)
        stream.write("kept\n")
    assert not steady.gone
    assert (tmp_path / "out").read_text() == "kept\n"


def test_a_stalled_reader_is_waited_for_while_there_is_something_to_do(
    pipe: tuple[int, int],
) -> None:
    steady = Steady(pipe[1], patience=0.0)
    done = threading.Event()
    working = True
    steady.over = lambda: not working

    def fill() -> None:
        steady.write("x" * 1_000_000)  # more than a pipe holds
        done.set()

    threading.Thread(target=fill, daemon=True).start()
    assert not done.wait(1.2)
    working = False
    assert done.wait(20)
    assert steady.gone


def test_a_slow_reader_of_a_run_that_is_over_gets_everything(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    steady = Steady(writer, patience=30.0)
    steady.over = lambda: True
    received = bytearray()

    def read() -> None:
        while len(received) < 300_000:
            received.extend(os.read(reader, 20_000))
            time.sleep(0.01)

    thread = threading.Thread(target=read)
    thread.start()
    steady.write("x" * 300_000)
    thread.join(30)
    assert len(received) == 300_000


def test_a_pipe_that_never_blocks_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    steady = Steady(writer)
    received = bytearray()

    def read() -> None:
        while len(received) < 300_000:
            received.extend(os.read(reader, 50_000))

    thread = threading.Thread(target=read)
    thread.start()
    steady.write("x" * 300_000)
    thread.join(30)
    assert len(received) == 300_000
