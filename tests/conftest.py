"""What all tests share: a home of their own, a tiny model, and the golden data where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
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


@pytest.fixture
def lightx2v(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, as a user does."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lightx2v_tui", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            cwd=options.pop("cwd", tmp_path),  # type: ignore[call-overload]
            **options,
        )

    return run
