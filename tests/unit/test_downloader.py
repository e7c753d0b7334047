"""The line of downloads, its speed, and the command."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightx2v_tui.downloads import fetching
from lightx2v_tui.downloads.downloader import WINDOW, Download, Downloader, SpeedMeter
from lightx2v_tui.downloads.fetching import DownloadPlan
from lightx2v_tui.downloads.parts import choose
from tests.unit.fake_hub import FakeHub, serving

REPO = "lightx2v/Small"
FILES = {
    "config.json": b"{}",
    "fp8/block_0.safetensors": bytes(400_000),
    "int8/block_0.safetensors": bytes(300_000),
    "original/distill_model.safetensors": bytes(500_000),
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    with serving({REPO: FILES}) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def plan(place: Path, name: str) -> DownloadPlan:
    repository, parts = fetching.look(REPO)
    return fetching.plan(repository, parts, choose(parts, [name]), place)


# the line


@pytest.mark.usefixtures("fake")
def test_downloads_are_done_one_after_the_other(tmp_path: Path) -> None:
    ended: queue.SimpleQueue[Download] = queue.SimpleQueue()
    downloader = Downloader(ended.put)
    assert downloader.want(plan(tmp_path, "fp8"))
    downloader.want(plan(tmp_path, "int8"))
    ends = [ended.get(timeout=20), ended.get(timeout=20)]
    assert [end.plan.variants for end in ends] == [("fp8",), ("int8",)]
    assert all(end.ended and end.fraction == 1.0 and end.error is None for end in ends)
    assert not downloader.waiting


def test_a_cancelled_one_makes_way_for_the_next(fake: FakeHub, tmp_path: Path) -> None:
    fake.stall = threading.Event()
    ended: queue.SimpleQueue[Download] = queue.SimpleQueue()
    downloader = Downloader(ended.put)
    downloader.want(plan(tmp_path, "fp8"))
    assert not downloader.want(plan(tmp_path, "int8"))
    downloader.cancel()
    assert ended.get(timeout=20).cancelled
    fake.stall.set()
    assert ended.get(timeout=20).plan.variants == ("int8",)


def test_closing_ends_everything_and_tells_nobody(fake: FakeHub, tmp_path: Path) -> None:
    fake.stall = threading.Event()
    ended: queue.SimpleQueue[Download] = queue.SimpleQueue()
    downloader = Downloader(ended.put)
    for name in ("fp8", "int8"):
        downloader.want(plan(tmp_path, name))
    downloader.close(20)
    assert not downloader.busy
    assert ended.empty()


def test_an_error_ends_the_download_and_not_the_line(fake: FakeHub, tmp_path: Path) -> None:
    fake.statuses["fp8/block_0.safetensors"] = [403]
    ended: queue.SimpleQueue[Download] = queue.SimpleQueue()
    downloader = Downloader(ended.put)
    wanted = [plan(tmp_path, "fp8"), plan(tmp_path, "int8")]
    for each in wanted:
        downloader.want(each)
    first, second = ended.get(timeout=20), ended.get(timeout=20)
    assert first.error is not None
    assert second.error is None


# speed


def test_speed_is_what_came_over_the_last_seconds() -> None:
    meter = SpeedMeter()
    assert meter.speed(0.0) == 0.0
    for second in range(20):
        meter.take(second * 100, float(second))
    assert meter.speed(19.0) == pytest.approx(100)
    assert meter.speed(19.0 + WINDOW) < 60  # nothing has come since


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**12)), max_size=50), st.floats(0, 9))
def test_speed_is_never_negative_nor_endless(
    samples: list[tuple[float, int]], later: float
) -> None:
    meter, now = SpeedMeter(), 0.0
    for step, done in samples:
        now += step
        meter.take(done, now)
    assert 0 <= meter.speed(now + later) <= 10**13


# the command


@pytest.fixture
def command(fake: FakeHub, lightx2v: Run) -> Run:
    return lambda *words: lightx2v("download", *words, env={**os.environ, "HF_ENDPOINT": fake.url})


def test_the_command_fetches_and_prints_the_folder(command: Run, tmp_path: Path) -> None:
    done = command(REPO, "--variant", "fp8", "--dest", tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'models' / 'Small'}\n"
    assert "100%" in done.stderr or "fp8/block_0" in done.stderr
    assert (tmp_path / "models/Small/fp8/block_0.safetensors").stat().st_size == 400_000
    assert not (tmp_path / "models/Small/int8").exists()


def test_a_dry_run_fetches_nothing(command: Run, fake: FakeHub, tmp_path: Path) -> None:
    done = command(REPO, "--variant", "int8", "--dest", tmp_path / "models", "--dry-run")
    assert done.returncode == 0
    assert "int8/block_0.safetensors" in done.stdout
    assert "variants: fp8 (400 kB), int8 (300 kB), original (500 kB)" in done.stdout
    assert not (tmp_path / "models").exists()
    assert not fake.asked


def test_without_a_variant_the_one_for_this_machine_is_taken(command: Run, tmp_path: Path) -> None:
    done = command(REPO, "--dest", tmp_path)
    assert done.returncode == 0
    assert "suits this machine" in done.stderr
    assert len({path.parent.name for path in (tmp_path / "Small").glob("*/*.safetensors")}) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([REPO, "--variant", "fp9"], 2, "Did you mean fp8?"),
        (["nonsense"], 2, "OWNER/NAME"),
        (["a/b/c"], 2, "such as lightx2v/Encoders"),
        (["lightx2v/Encoder"], 1, "Did you mean lightx2v/Encoders?"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_lines(
    command: Run, words: list[str], code: int, said: str
) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_same_command_goes_on(
    fake: FakeHub, command: Run, tmp_path: Path, how: signal.Signals
) -> None:
    fake.stall = threading.Event()
    words = [sys.executable, "-m", "lightx2v_tui", "download", REPO, "--variant", "fp8"]
    with subprocess.Popen(
        [*words, "--dest", str(tmp_path)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HF_ENDPOINT": fake.url},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "config.json" in line:
                break
        process.send_signal(how)
        assert process.wait(timeout=20) == 130
        assert "goes on from here" in process.stderr.read()
    fake.stall.set()
    fake.stall = None
    assert command(REPO, "--variant", "fp8", "--dest", tmp_path).returncode == 0


def test_no_heavy_module_is_needed() -> None:
    code = (
        "import sys; import json, lightx2v_tui.downloads.downloader, "
        "lightx2v_tui.commands.download;"
        "print(json.dumps([m for m in ('torch','textual','huggingface_hub','numpy')"
        " if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
