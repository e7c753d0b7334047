"""During a run, descriptors 1 and 2 lead to the log, and afterwards back."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.spec.events import BytesRead, LoraApplied, StageStarted
from lightx2v_tui.cli import main
from lightx2v_tui.output import STDERR, STDOUT, printable, redirected
from lightx2v_tui.runs.progress import Bar
from lightx2v_tui.terminal_stream import TerminalStream

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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


def test_the_screen_stays_where_it_led(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stream = TerminalStream(os.dup(STDOUT))
    with redirected(tmp_path / "log.txt"):
        stream.write("for the user é\n")
        stream.flush()
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


ESCAPES = "a\x1b[31m\x07\x7f\x9b31mb\tc"


def test_what_a_terminal_would_obey_is_replaced() -> None:
    assert printable(ESCAPES) == "a?[31m???31mb?c"
    assert printable("one\ntwo\tü", keep="\n\t") == "one\ntwo\tü"
    assert printable("one\ntwo") == "one?two"
    assert printable("a\u202etxt.4pm\u2066b") == "a?txt.4pm?b"  # no text is turned around


def test_no_name_of_a_file_reaches_the_terminal_as_it_is() -> None:
    stream = io.StringIO()
    bar = Bar(stream)
    bar.take(StageStarted("load_vae"))
    bar.take(BytesRead("vae", ESCAPES, 1, 2))
    bar.take(LoraApplied(Path(f"{ESCAPES}.safetensors"), 3, 0))
    bar.take(StageStarted("decode"))
    assert not CONTROLS.search(stream.getvalue().replace("\n", ""))


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["preset", "check"]])
def test_no_command_passes_escapes_on(
    demo_model: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"
    own = {"prompt": ESCAPES, "output": f"{tmp_path}/{ESCAPES}.mp4"}
    values = {"model_path": str(demo_model), "infer_step\x1b[2J": 1, "lightx2v_tui": own}
    path.write_text(json.dumps(values))
    assert main([*command, str(path)]) == 0
    told = capsys.readouterr()
    assert "a?[31m" in told.out
    assert not CONTROLS.search(re.sub(r"[\n\t]", "", told.out + told.err))


def test_an_error_is_told_without_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path / ESCAPES)]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 3
    assert not CONTROLS.search(told.replace("\n", ""))
