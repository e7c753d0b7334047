"""What all tests share: a home of their own, a tiny model, and the golden data where it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import PATIENCE, REPOSITORY, ForkServer

GOLDEN = Path(os.environ.get("LIGHTX2V_TUI_GOLDEN", REPOSITORY.parent / "shared" / "golden"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own settings, runs, presets or models."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (("DATA", "data"), ("CONFIG", "config"), ("CACHE", "cache")):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    for name in ("LC_ALL", "LC_CTYPE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    for name, value in terminal.items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """What a command does with signals ends with its test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, written once a test session; tests must not change it."""
    from engine.demo import write

    root = tmp_path_factory.mktemp("demo") / "Demo-T2V-StepDistill-CfgDistill-LightX2V"
    write(root)
    return root


@pytest.fixture
def model_copy(demo_model: Path, tmp_path: Path) -> Path:
    """A copy of the demo model that a test may break."""
    import shutil

    return Path(shutil.copytree(demo_model, tmp_path / demo_model.name))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The golden data: tiny roots and what the original networks compute from them."""
    if not (GOLDEN / "reference.safetensors").exists():
        pytest.skip("the golden data is not here")
    return GOLDEN


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Starts processes that have PyTorch already."""
    server = ForkServer()
    yield server
    server.close()


COMPUTING = ("run", "demo")


@pytest.fixture
def lightx2v(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own; in a new interpreter where that is cheap."""

    def run(
        *arguments: object, cwd: Path = tmp_path, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        argv = [*map(str, arguments)]
        if argv and argv[0] in COMPUTING and not options:
            server: ForkServer = request.getfixturevalue("server")
            return server.run(argv, cwd)
        return subprocess.run(
            [sys.executable, "-m", "lightx2v_tui", *argv],
            capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=cwd, **options,
        )  # fmt: skip

    return run
