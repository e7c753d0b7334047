"""A dropped link, a closed window, a signal: the screen goes, and no run of it is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightx2v_tui.terminal_stream import MEND
from lightx2v_tui.terminal_stream import PATIENCE as PATIENCE_OF_SCREEN
from tests.processes import PATIENCE, ForkServer, frames_of, own_home
from tests.terminal import CONTROL, ENTER, Terminal
from tests.test_signals import LONG

CLI = Callable[..., "subprocess.CompletedProcess[str]"]
SETS = LONG[: LONG.index("--seed")]
LEFT = b"\x1b[?1049l"  # the other screen
CURSOR = b"\x1b[?25h"
WHOLE_SCREEN = ("Models", "RAM", "Variants", "ready to launch", "Launch", "History")
LOADING = {"load_t5", "encode_text", "load_dit"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def undisturbed(
    server: ForkServer, demo_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The frames of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    preset = folder / "preset.json"
    preset.write_text(json.dumps({"model_path": str(demo_model)}))
    argv = ["run", str(preset), *SETS, "--set", "seed=5", "--device", "cpu", "--output", "a.mp4"]
    with own_home(folder):
        done = server.run(argv, folder)
    assert done.returncode == 0, done.stderr
    return frames_of(folder / "a.mp4")


class Opened(Terminal):
    """The app on the launch form of the demo model, and the folders of its runs."""

    runs = Path()
    code: int | None = None

    def folders(self) -> list[Path]:
        return sorted(self.runs.iterdir()) if self.runs.exists() else []

    def status(self, number: int = 0) -> dict[str, Any]:
        try:
            text = (self.folders()[number] / "status.json").read_text()
        except (IndexError, FileNotFoundError):
            return {}
        table: dict[str, Any] = json.loads(text)
        return table

    def start(self) -> None:
        self.wait("Generate")
        self.rest(0.5)
        self.press(ENTER)

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, f"never came: {what}\n{self.text[-2000:]}"
            self.pump(0.002)

    def stop_in(self, stages: Collection[str]) -> None:
        """Let the process stand still in one of some stages."""
        self.until(lambda: self.status().get("stage") in stages, str(stages))
        os.kill(self.pid, signal.SIGSTOP)
        assert self.status()["stage"] in stages

    def hang_up(self) -> None:
        """Close the terminal, as a link that is cut does."""
        os.close(self._fd)
        self._fd, _ = os.pipe()  # from now on nothing comes
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> int:
        """Wait for the process, which leaves nothing behind; gives its exit code."""
        end = time.monotonic() + PATIENCE
        while self.code is None:
            assert time.monotonic() < end, f"it never ended\n{self.status()}"
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                self.pump(0.02)
        while self.pump(0):
            pass
        return self.code


@pytest.fixture
def opened(demo_model: Path, tmp_path: Path, own_home: Path,
           monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:  # fmt: skip
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    arguments = ("demo", "--dest", str(demo_model.parent), *SETS, "--set", "seed=5")
    command = (sys.executable, "-m", "lightx2v_tui", *arguments)
    with Opened(*command, columns=80, rows=24) as terminal:
        terminal.runs = own_home / "data" / "lightx2v-tui" / "runs"
        yield terminal
    assert not list(folder.iterdir())  # no core, nothing half written


def whole(folder: Path) -> None:
    """Expect what a run that is done leaves, and nothing else."""
    names = {path.name for path in folder.iterdir()}
    assert names == {"preset.json", "status.json", "log.txt", "output.mp4"}


@pytest.mark.parametrize(
    "stages", [{"prepare"}, LOADING, {"denoise"}, {"decode"}],
    ids=["prepare", "load", "denoise", "decode"],
)  # fmt: skip
def test_a_cut_link_ends_the_screen_and_not_the_run(
    stages: set[str], opened: Opened, undisturbed: str
) -> None:
    opened.start()
    opened.stop_in(stages)
    opened.hang_up()
    assert opened.end() == 0
    (folder,) = opened.folders()
    assert opened.status()["status"] == "done"
    assert "the terminal was closed" in (folder / "log.txt").read_text()
    assert frames_of(folder / "output.mp4") == undisturbed
    whole(folder)


def test_what_waits_is_made_as_well_and_what_is_paused_goes_on(
    opened: Opened, undisturbed: str
) -> None:
    opened.start()
    opened.until(lambda: opened.status().get("stage") == "prepare", "the run")
    opened.wait("Prepare")
    opened.press("n")
    opened.wait("1 waiting")
    opened.press(" ")
    opened.wait("paused")
    assert opened.status()["status"] == "running"
    opened.hang_up()
    assert opened.end() == 0
    first, second = opened.folders()
    assert [opened.status(0)["status"], opened.status(1)["status"]] == ["done", "done"]
    assert opened.status(0)["pid"] == opened.status(1)["pid"] == opened.pid
    assert frames_of(first / "output.mp4") == undisturbed
    assert frames_of(second / "output.mp4") != undisturbed
    whole(first)
    whole(second)


@pytest.fixture
def exported_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some shells and CI machines do."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")


@pytest.mark.usefixtures("exported_size")
def test_a_new_size_counts_during_a_run_too(opened: Opened) -> None:
    """Then descriptor 1, which most programs ask for the size, leads to a log."""
    opened.start()
    opened.until(lambda: opened.status().get("stage") == "prepare", "the run")
    opened.wait("Prepare")
    opened.press(" ")
    opened.wait("paused")
    before = len(opened.written)
    opened.resize(130, 40)
    opened.until(lambda: b"\x1b[40;1H" in opened.written[before:], "the last line")
    lines = re.split(r"\x1b\[\d+;\d+H", opened.written[before:].decode(errors="replace"))
    assert max(len(CONTROL.sub("", line)) for line in lines) > 80


def test_without_a_run_a_cut_link_ends_the_app(opened: Opened) -> None:
    opened.wait("Generate")
    opened.hang_up()
    assert opened.end() == 0
    assert opened.folders() == []


def test_a_terminal_that_goes_without_a_signal_is_noticed(
    demo_model: Path, own_home: Path, tmp_path: Path, undisturbed: str
) -> None:
    arguments = ["-m", "lightx2v_tui", "demo", "--dest", str(demo_model.parent), *SETS,
                 "--set", "seed=5"]  # fmt: skip
    shell = 'trap "" HUP; exec "$@"'
    with Opened("sh", "-c", shell, "sh", sys.executable, *arguments) as terminal:
        terminal.runs = own_home / "data" / "lightx2v-tui" / "runs"
        terminal.start()
        terminal.until(lambda: terminal.status().get("stage") == "prepare", "the run")
        terminal.hang_up()
        assert terminal.end() == 0
        (folder,) = terminal.folders()
        assert terminal.status()["status"] == "done"
        assert frames_of(folder / "output.mp4") == undisturbed
    assert tmp_path


def test_another_process_follows_a_run_without_a_screen_and_cancels_it(
    opened: Opened, lightx2v: CLI
) -> None:
    opened.start()
    opened.stop_in({"prepare"})
    opened.hang_up()
    opened.until(lambda: "the terminal was closed" in log_of(opened), "that it goes on")
    (listed,) = json.loads(lightx2v("runs", "--json").stdout)["runs"]
    assert (listed["status"], listed["pid"]) == ("running", opened.pid)
    (opened.folders()[0] / "cancel").touch()
    assert opened.end() == 0
    assert opened.status()["status"] == "cancelled"


def log_of(opened: Opened) -> str:
    (folder,) = opened.folders()
    return (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""


def test_a_run_that_is_terminated_is_offered_at_the_next_start(
    opened: Opened, demo_model: Path, undisturbed: str
) -> None:
    opened.start()
    opened.until(lambda: opened.status().get("step", 0) >= 1, "a step")
    os.kill(opened.pid, signal.SIGTERM)
    assert opened.end() == 143
    tail = opened.written[-200:]
    assert LEFT in tail
    assert CURSOR in tail
    assert "Traceback" not in opened.text
    (folder,) = opened.folders()
    step = opened.status()["step"]
    assert opened.status()["status"] == "interrupted"
    assert (folder / "checkpoint.safetensors").exists()
    with Opened.app("--root", str(demo_model.parent), columns=80, rows=24) as again:
        assert isinstance(again, Opened)
        again.runs = opened.runs
        again.wait("A run ended early")
        again.wait(f"interrupted at step {step} of 4")
        again.press(ENTER)
        again.wait("done in")
        again.press("q")
        assert again.end() == 0
    assert opened.folders() == [folder]
    assert opened.status()["status"] == "done"
    assert frames_of(folder / "output.mp4") == undisturbed
    whole(folder)


def test_ctrl_c_asks_and_a_second_one_leaves_at_once(opened: Opened) -> None:
    opened.start()
    opened.until(lambda: opened.status().get("stage") == "prepare", "the run")
    opened.wait("Prepare")
    opened.press("\x03")
    opened.wait("Quit and stop the run?")
    opened.press("n")
    opened.rest(2.1)  # another time
    opened.press("\x03")
    opened.press("\x03")
    assert opened.end() == 130
    assert LEFT in opened.written[-200:]
    assert opened.status()["status"] == "cancelled"
    names = {path.name for path in opened.folders()[0].iterdir()}
    assert not [name for name in names if "partial" in name or name.endswith(".mp4")]


def test_an_interrupt_from_outside_asks_as_well(opened: Opened) -> None:
    opened.start()
    opened.until(lambda: opened.status().get("stage") == "prepare", "the run")
    os.kill(opened.pid, signal.SIGINT)
    opened.wait("Quit and stop the run?")
    opened.press("y")
    assert opened.end() == 0
    assert opened.status()["status"] == "cancelled"
    assert "Traceback" not in opened.text


@pytest.mark.parametrize("announced", [True, False])
def test_a_stopped_app_comes_back(announced: bool, opened: Opened) -> None:
    opened.wait("Generate")
    opened.press("\x1b")  # the models: a field would take the key
    opened.rest(0.5)
    if announced:
        opened.press("\x1a")
        opened.until(lambda: bool(os.waitpid(opened.pid, os.WNOHANG | os.WUNTRACED)[0]), "a stop")
        while opened.pump(0.1):
            pass
        assert LEFT in opened.written[-200:]
    else:
        os.kill(opened.pid, signal.SIGSTOP)
    opened.written = b""
    os.kill(opened.pid, signal.SIGCONT)
    for words in WHOLE_SCREEN:
        opened.wait(words, 20.0)
    opened.press("?")
    opened.wait("This screen")
    opened.press("\x1b")
    opened.rest(0.5)
    opened.press("q")
    assert opened.end() == 0


def test_a_link_that_stalls_is_drawn_anew(opened: Opened) -> None:
    opened.wait("Generate")
    opened.press("\x1b")
    opened.wait("ready to launch")
    end = time.monotonic() + 8
    while time.monotonic() < end:  # nothing is read, and ever more is drawn
        for key in (b"?", b"q"):
            os.write(opened._fd, key)
            time.sleep(0.1)
    time.sleep(PATIENCE_OF_SCREEN + 3)
    opened.rest(2.0)
    assert MEND in opened.written
    anew = opened.written.split(MEND)[-1].decode(errors="replace")
    assert [words for words in WHOLE_SCREEN if words not in CONTROL.sub("", anew)] == []
    opened.press("\x03")
    opened.end()
