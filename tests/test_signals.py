"""Whatever ends a run early, nothing that was computed is lost, and the video is the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from lightx2v_tui.runs import ask_cancel

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PATIENCE = 120.0
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
def undisturbed(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The frames of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "lightx2v_tui", "run", str(preset), *LONG, "--output", "a.mp4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_DATA_HOME": str(folder / "data")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return frames_of(folder / "a.mp4")


def frames_of(path: Path) -> str:
    """A hash of all frames of a video."""
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


class Started:
    """A run in a process of its own, its lines of JSON, and its folder."""

    def __init__(self, preset: Path, tmp_path: Path, *arguments: str, **options: Any) -> None:
        self.home = tmp_path / "home" / "data" / "lightx2v-tui"
        self.output = tmp_path / "a.mp4"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lightx2v_tui", "run", str(preset), *LONG,
             "--output", str(self.output), "--progress", "json", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, **options,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.stdout = self.process.stdout
        self.lines: list[str] = []

    def until(self, moment: str) -> None:
        """Read what it tells until `moment` stands in it."""
        for line in self.stdout:
            self.lines.append(line)
            if moment in line:
                return
        pytest.fail(f"{moment} never came")

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Read the rest; gives exit code, events, and stderr."""
        rest, stderr = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in stderr
        events = [json.loads(line) for line in [*self.lines, *rest.splitlines()]]
        return self.process.returncode, events, stderr

    @property
    def folder(self) -> Path:
        (folder,) = (self.home / "runs").iterdir()
        return folder

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
        return status


@pytest.fixture
def start(preset: Path, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **options: Any) -> Started:
        started = Started(preset, tmp_path, *arguments, **options)
        processes.append(started.process)
        return started

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def only_result(started: Started) -> None:
    """Expect the video and the records, and nothing half written anywhere."""
    names = {path.name for path in started.folder.iterdir()}
    assert names == {"preset.json", "status.json", "log.txt"}
    assert [path.name for path in started.output.parent.iterdir() if path.is_file()] == ["a.mp4"]


@pytest.mark.parametrize("moment", ['"prepare"', '"bytes"', '"step": 1', '"step": 3', '"frame"'])
def test_a_killed_run_goes_on_to_the_same_video(
    moment: str, start: Callable[..., Started], lightx2v: Run, undisturbed: str
) -> None:
    started = start()
    started.until(moment)
    started.process.kill()
    started.end()
    assert started.status["status"] == "running"
    (listed,) = json.loads(lightx2v("runs", "--json").stdout)["runs"]
    assert listed["status"] == "interrupted"
    assert not started.output.exists()
    done = lightx2v("run", "--resume", started.folder.name, "--progress", "json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    resumed = [event for event in events if event["event"] == "resumed"]
    steps = [event["step"] for event in events if event["event"] == "step"]
    behind = resumed[0]["step"] if resumed else 0
    assert steps == list(range(behind + 1, 5))
    assert behind >= {'"step": 1': 1, '"step": 3': 3, '"frame"': 4}.get(moment, 0)
    assert started.status["status"] == "done"
    assert frames_of(started.output) == undisturbed
    only_result(started)


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, "cancelled"), (signal.SIGTERM, "interrupted")]
)
def test_a_run_that_was_asked_to_stop_goes_on(
    number: signal.Signals, ending: str, start: Callable[..., Started], lightx2v: Run,
    undisturbed: str,
) -> None:  # fmt: skip
    started = start()
    started.until('"step": 2')
    started.process.send_signal(number)
    code, events, stderr = started.end()
    assert code == 130
    assert events[-1] == {"event": "cancelled"}
    assert f"run --resume {started.folder.name}" in stderr
    assert started.status["status"] == ending
    assert (started.folder / "checkpoint.safetensors").exists()
    assert not list(started.output.parent.glob("*.mp4"))
    done = lightx2v("run", "--resume", started.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{started.output}\n"
    assert frames_of(started.output) == undisturbed
    again = lightx2v("run", "--resume", started.folder)
    assert again.returncode == 2
    assert str(started.output) in again.stderr


def test_the_second_signal_does_not_ask(
    start: Callable[..., Started], lightx2v: Run, undisturbed: str
) -> None:
    started = start()
    started.until('"frame"')
    started.process.send_signal(signal.SIGSTOP)  # so that both arrive before anything is done
    started.process.send_signal(signal.SIGINT)
    started.process.send_signal(signal.SIGTERM)
    started.process.send_signal(signal.SIGCONT)
    code, _, _ = started.end()
    assert code == 130
    assert started.status["status"] in ("cancelled", "interrupted")
    assert not [path for path in started.output.parent.iterdir() if "mp4" in path.name]
    assert lightx2v("run", "--resume", started.folder).returncode == 0
    assert frames_of(started.output) == undisturbed


def test_another_process_can_cancel_it(start: Callable[..., Started]) -> None:
    started = start()
    started.until('"prepare"')  # importing torch takes longer than it waits between two looks
    ask_cancel(started.folder)
    code, events, _ = started.end()
    assert (code, events[-1]["event"]) == (130, "cancelled")
    assert started.status["status"] == "cancelled"
    assert not (started.folder / "cancel").exists()


def test_a_run_under_way_is_not_taken_up(start: Callable[..., Started], lightx2v: Run) -> None:
    started = start()
    started.until('"step": 1')
    done = lightx2v("run", "--resume", started.folder.name)
    assert done.returncode == 2
    assert f"process {started.process.pid} works on it since" in done.stderr
    assert done.stdout == ""
    code, events, _ = started.end()
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
