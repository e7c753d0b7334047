"""During a run, descriptors 1 and 2 lead to the log, and afterwards back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightx2v_tui.output import STDERR, STDOUT, private_copy, redirected


def test_what_goes_to_the_descriptors_lands_in_the_log_and_comes_back_after(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "new" / "log.txt"
    with redirected(log):
        os.write(STDOUT, b"one\n")
        os.write(STDERR, b"two\n")
        subprocess.run(["sh", "-c", "echo three; echo four >&2"], check=True)
    os.write(STDOUT, b"out\n")
    os.write(STDERR, b"err\n")
    captured = capfd.readouterr()
    assert log.read_text().split() == ["one", "two", "three", "four"]
    assert captured.out.split() == ["out"]
    assert captured.err == "err\n"


PRINTS = """
import sys
from pathlib import Path
from lightx2v_tui.output import redirected
sys.stdout.write("before")
with redirected(Path(sys.argv[1])):
    print("inside")
print(" after")
"""


def test_what_is_printed_goes_where_it_was_printed(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    command = [sys.executable, "-c", PRINTS, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "before after\n"
    assert log.read_text() == "inside\n"


def fail_inside(log: Path) -> None:
    with redirected(log):
        os.write(STDERR, b"inside\n")
        raise ValueError("boom")


def test_the_descriptors_come_back_after_an_exception(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="boom"):
        fail_inside(tmp_path / "log.txt")
    os.write(STDERR, b"after\n")
    assert (tmp_path / "log.txt").read_text() == "inside\n"
    assert capfd.readouterr().err == "after\n"


def test_a_log_is_continued_and_private(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for line in (b"one\n", b"two\n"):
        with redirected(log):
            os.write(STDOUT, line)
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_opened_redirects_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="log"), redirected(tmp_path):
        pass
    os.write(STDOUT, b"still here\n")
    assert capfd.readouterr().out == "still here\n"


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = open_descriptors()
    for _ in range(3):
        with redirected(tmp_path / "log.txt"):
            pass
    assert open_descriptors() == before


def test_a_private_copy_stays_where_it_led(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with private_copy(STDOUT) as stream, redirected(tmp_path / "log.txt"):
        stream.write("for the user é\n")
    assert capfd.readouterr().out == "for the user é\n"
    assert (tmp_path / "log.txt").read_text() == ""


def test_a_closed_stdout_does_not_stop_a_run(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from lightx2v_tui.output import redirected\n"
        f"with redirected(Path({str(tmp_path / 'log.txt')!r})):\n    os.write(1, b'x')\n"
        "sys.exit(7)"
    )
    command = f'{sys.executable} -c "$1" >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, "sh", program], check=False, timeout=60)
    assert done.returncode == 7
    assert (tmp_path / "log.txt").read_text() == "x"
