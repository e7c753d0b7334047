"""The end of a growing file comes in whole lines, once, and holds nothing a terminal obeys."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightx2v_tui.output import CONTROL
from lightx2v_tui.runs.tail import LONGEST_LINE, Tail


def test_a_file_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log.txt")
    assert tail.read() == []
    (tmp_path / "log.txt").write_text("one\ntw")
    assert tail.read() == ["one"]
    assert tail.read() == []
    with (tmp_path / "log.txt").open("a") as file:
        file.write("o\nthree\n")
    assert tail.read() == ["two", "three"]


def test_of_a_long_file_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    lines = Tail(path).read()
    assert lines[-1] == "line 99999"
    assert lines[0].startswith("line 9")
    assert sum(len(line) + 1 for line in lines) <= 64_000


def test_a_file_that_grew_by_much_is_skipped_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("first\n")
    tail = Tail(path, first=100)
    assert tail.read() == ["first"]
    with path.open("a") as file:
        file.write("".join(f"{number:09}\n" for number in range(1000)))
    assert tail.read()[-1] == "000000999"


def test_a_file_that_was_emptied_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("a long first line\n")
    tail = Tail(path)
    tail.read()
    path.write_text("new\n")
    assert tail.read() == ["new"]


def test_bars_and_colours_are_shown_as_they_end_up(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"\x1b[31mred\x1b[0m\n10%\r50%\r100%\r\n\tx\x07\x9b\n")
    assert Tail(path).read() == ["red", "100%", "    x?�"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=60), max_size=8))
def test_whatever_is_written_comes_once_and_is_harmless(tmp_path: Path, parts: list[bytes]) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"")
    tail, lines = Tail(path), []
    for part in parts:
        with path.open("ab") as file:
            file.write(part)
        lines += tail.read()
    assert len(lines) == b"".join(parts).count(b"\n")
    assert not any(ord(letter) in CONTROL for line in lines for letter in line)
    assert all(len(line) <= 4 * LONGEST_LINE for line in lines)
    assert lines == Tail(path).read()
