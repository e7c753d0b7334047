"""Whatever ends a run early, nothing that was computed is lost, and the video is the same."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lightx2v_tui.runs import headless
from lightx2v_tui.runs.folder import ask_cancel
from lightx2v_tui.runs.session import Session
from tests.processes import PATIENCE, ForkServer, Process, frames_of, own_home

Run = Callable[..., "subprocess.CompletedProcess[str]"]
LONG = ("--set", "target_video_length=81", "--set", "target_width=192",
        "--set", "target_height=64", "--seed", "5", "--device", "cpu")  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks on one thread: other tests run beside these."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def preset(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "preset.json"
    path.write_text(json.dumps({"model_path": str(demo_model)}))
    return path


@pytest.fixture(scope="module")
def undisturbed(server: ForkServer, preset: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The frames of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with own_home(folder):
        done = server.run(["run", str(preset), *LONG, "--output", "a.mp4"], folder)
    assert done.returncode == 0, done.stderr
    return frames_of(folder / "a.mp4")


class Recorded:
    """What a run writes: its folder and its video."""

    def __init__(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home" / "data" / "lightx2v-tui"
        self.output = tmp_path / "a.mp4"

    @property
    def folder(self) -> Path:
        (folder,) = (self.home / "runs").iterdir()
        return folder

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
        return status


class Started(Recorded):
    """A run in a new interpreter, which takes seconds to prepare, and its lines of JSON."""

    def __init__(self, preset: Path, tmp_path: Path, *arguments: str) -> None:
        super().__init__(tmp_path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lightx2v_tui", "run", str(preset), *LONG,
             "--output", str(self.output), "--progress", "json", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.stdout = self.process.stdout
        self.pid = self.process.pid
        self.lines: list[str] = []

    def until(self, moment: str) -> None:
        """Read what it tells until `moment` stands in it."""
        for line in self.stdout:
            self.lines.append(line)
            if moment in line:
                return
        pytest.fail(f"{moment} never came")

    def interrupt_to_the_end(self) -> None:
        """Press Ctrl+C again and again, as a key that is held down."""
        while self.process.poll() is None:
            os.kill(self.pid, signal.SIGINT)
            time.sleep(0.0005)

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Read the rest; gives exit code, events, and stderr."""
        rest, stderr = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in stderr
        events = [json.loads(line) for line in [*self.lines, *rest.splitlines()]]
        return self.process.returncode, events, stderr


class Forked(Recorded):
    """A run in a process that has PyTorch already."""

    def __init__(self, server: ForkServer, preset: Path, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        argv = ["run", str(preset), *LONG, "--output", str(self.output), "--progress", "json"]
        self.process = Process(server, argv, tmp_path)
        self.pid = self.process.pid

    def until(self, moment: str) -> None:
        """Read what it tells until `moment` stands in it."""
        assert self.process.read(PATIENCE, moment), f"{moment} never came"

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Read the rest; gives exit code, events, and stderr."""
        code, stderr = self.process.end(), self.process.stderr
        assert "Traceback" not in stderr
        return code, self.process.events, stderr


@pytest.fixture
def start(preset: Path, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> Started:
        started = Started(preset, tmp_path, *arguments)
        processes.append(started.process)
        return started

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def forked(server: ForkServer, preset: Path, tmp_path: Path) -> Forked:
    return Forked(server, preset, tmp_path)


def only_result(started: Started) -> None:
    """Expect the video and the records, and nothing half written anywhere."""
    names = {path.name for path in started.folder.iterdir()}
    assert names == {"preset.json", "status.json", "log.txt"}
    assert [path.name for path in started.output.parent.iterdir() if path.is_file()] == ["a.mp4"]


@pytest.mark.parametrize("moment", ['"bytes"', '"step": 1', '"step": 3', '"frame"'])
def test_a_killed_run_goes_on_to_the_same_video(
    moment: str, forked: Forked, lightx2v: Run, undisturbed: str
) -> None:
    forked.until(moment)
    killed_goes_on(forked, moment, lightx2v, undisturbed)


def test_a_run_that_is_killed_while_it_prepares_goes_on(
    start: Callable[..., Started], lightx2v: Run, undisturbed: str
) -> None:
    started = start()
    started.until('"prepare"')
    killed_goes_on(started, '"prepare"', lightx2v, undisturbed)


def killed_goes_on(forked: Started | Forked, moment: str, lightx2v: Run, undisturbed: str) -> None:
    """Kill a run, go on with it, and expect the video that it would have made."""
    os.kill(forked.pid, signal.SIGKILL)
    forked.end()
    assert forked.status["status"] == "running"
    (listed,) = json.loads(lightx2v("runs", "--json").stdout)["runs"]
    assert listed["status"] == "interrupted"
    assert not forked.output.exists()
    done = lightx2v("run", "--resume", forked.folder.name, "--progress", "json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    resumed = [event for event in events if event["event"] == "resumed"]
    steps = [event["step"] for event in events if event["event"] == "step"]
    behind = resumed[0]["step"] if resumed else 0
    assert steps == list(range(behind + 1, 5))
    assert behind >= {'"step": 1': 1, '"step": 3': 3, '"frame"': 4}.get(moment, 0)
    assert forked.status["status"] == "done"
    assert frames_of(forked.output) == undisturbed
    only_result(forked)


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, "cancelled"), (signal.SIGTERM, "interrupted")]
)
def test_a_run_that_was_asked_to_stop_goes_on(
    number: signal.Signals, ending: str, forked: Forked, lightx2v: Run,
    undisturbed: str,
) -> None:  # fmt: skip
    forked.until('"step": 2')
    os.kill(forked.pid, number)
    code, events, stderr = forked.end()
    assert code == 130
    assert events[-1] == {"event": "cancelled"}
    assert f"run --resume {forked.folder.name}" in stderr
    assert forked.status["status"] == ending
    assert (forked.folder / "checkpoint.safetensors").exists()
    assert not list(forked.output.parent.glob("*.mp4"))
    done = lightx2v("run", "--resume", forked.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{forked.output}\n"
    assert frames_of(forked.output) == undisturbed
    again = lightx2v("run", "--resume", forked.folder)
    assert again.returncode == 2
    assert str(forked.output) in again.stderr


def test_the_second_signal_does_not_ask(forked: Forked, lightx2v: Run, undisturbed: str) -> None:
    forked.until('"frame"')
    os.kill(forked.pid, signal.SIGSTOP)  # so that both arrive before anything is done
    os.kill(forked.pid, signal.SIGINT)
    os.kill(forked.pid, signal.SIGTERM)
    os.kill(forked.pid, signal.SIGCONT)
    code, events, _ = forked.end()
    assert (code, events[-1]["event"]) == (130, "cancelled")
    assert forked.status["status"] in ("cancelled", "interrupted")
    assert not [path for path in forked.output.parent.iterdir() if "mp4" in path.name]
    assert lightx2v("run", "--resume", forked.folder).returncode == 0
    assert frames_of(forked.output) == undisturbed


def test_ctrl_c_without_end_is_one_cancelled_run(start: Callable[..., Started]) -> None:
    started = start()
    started.until('"step": 3')
    started.interrupt_to_the_end()
    code, events, _ = started.end()
    assert (code, events[-1]["event"]) == (130, "cancelled")


@pytest.mark.parametrize(("patience", "codes"), [(-1.0, [130, 130]), (60.0, [130])])
def test_a_forced_end_that_hangs_is_ended_by_one_more(
    patience: float, codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    forced = headless.Headless("none")
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(headless, "FORCING", patience)
    press = partial(forced._signalled, signal.SIGINT, None)
    monkeypatch.setattr(Session, "abandon", lambda _session: press())  # while it is stuck
    press()
    assert not ended
    press()
    assert ended == codes


def test_ctrl_c_after_the_end_changes_nothing(start: Callable[..., Started]) -> None:
    started = start()
    started.until('"event": "done"')
    started.interrupt_to_the_end()
    assert started.end()[0] == 0


def test_another_process_can_cancel_it(start: Callable[..., Started]) -> None:
    started = start()
    started.until('"prepare"')  # importing torch takes longer than it waits between two looks
    ask_cancel(started.folder)
    code, events, _ = started.end()
    assert (code, events[-1]["event"]) == (130, "cancelled")
    assert started.status["status"] == "cancelled"
    assert not (started.folder / "cancel").exists()


def test_a_run_under_way_is_not_taken_up(forked: Forked, lightx2v: Run) -> None:
    forked.until('"step": 1')
    done = lightx2v("run", "--resume", forked.folder.name)
    assert done.returncode == 2
    assert f"process {forked.pid} works on it since" in done.stderr
    assert done.stdout == ""
    code, events, _ = forked.end()
    assert (code, events[-1]["event"]) == (0, "done")


def test_a_closed_terminal_ends_no_run(preset: Path, tmp_path: Path, undisturbed: str) -> None:
    output, home = tmp_path / "a.mp4", tmp_path / "home" / "data" / "lightx2v-tui"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        command = [sys.executable, "-m", "lightx2v_tui", "run", str(preset), *LONG]
        os.execv(sys.executable, [*command, "--output", str(output)])
    shown = b""
    while b"Denoise" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)  # the kernel sends SIGHUP, and every write is an error from now on
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    (folder,) = (home / "runs").iterdir()
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    assert "the terminal was closed; the run goes on" in (folder / "log.txt").read_text()
    assert frames_of(output) == undisturbed


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
def test_readers_that_go_away_end_no_run(
    stream: str, start: Callable[..., Started], undisturbed: str
) -> None:
    started = start()
    started.until('"bytes"')
    process = started.process
    assert process.stderr is not None
    stderr = ""
    if stream in ("stdout", "both"):
        started.stdout.close()
    if stream in ("stderr", "both"):
        process.stderr.close()
    else:
        stderr = process.stderr.read()
    if stream == "stderr":
        rest = started.stdout.read().splitlines()
        assert json.loads(rest[-1])["event"] == "done"
    assert process.wait(PATIENCE) == 0
    assert stderr == ""
    assert started.status["status"] == "done"
    assert frames_of(started.output) == undisturbed
    only_result(started)


def test_a_reader_that_does_not_read_holds_up_no_run(start: Callable[..., Started]) -> None:
    started = start("--set", "target_width=64")
    fcntl.fcntl(started.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)  # a page
    end = time.monotonic() + PATIENCE
    while not started.output.exists() or started.status["status"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert started.process.poll() is None  # it has more to tell
    code, events, _ = started.end()
    assert code == 0
    kinds = [event["event"] for event in events]
    assert kinds.count("frame") == 81
    assert [kind in ("done", "failed", "cancelled") for kind in kinds].index(True) == len(kinds) - 1


def test_streams_that_were_never_open(preset: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "lightx2v_tui", "run", str(preset), *LONG,
                 "--set", "target_video_length=5", "--output", "a.mp4"]  # fmt: skip
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *arguments], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "a.mp4").exists()
