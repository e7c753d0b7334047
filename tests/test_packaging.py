"""The wheel holds everything that runs, and an installed copy finds its themes and styles."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import REPOSITORY

NO_NETWORK = (
    "No matching distribution",
    "Could not find a version",
    "ConnectionError",
    "timed out",
)
ASK = """
import json
from lightx2v_tui import paths
from lightx2v_tui.shell import themes
from lightx2v_tui.app import LightX2VApp
found, problems = themes.load_themes(paths.themes_dir())
print(json.dumps([str(paths.themes_dir()), [theme.name for theme in found], problems]))
"""


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "-q", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode and any(sign in done.stderr for sign in NO_NETWORK):
        pytest.skip(f"pip cannot reach the build backend: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip("wheel", REPOSITORY, "--no-deps", *here, "-w", folder)
    (built,) = folder.glob("*.whl")
    return built


def names_under(folder: str, *suffixes: str) -> set[str]:
    found = (REPOSITORY / folder).rglob("*")
    return {path.relative_to(REPOSITORY).as_posix() for path in found if path.suffix in suffixes}


def test_the_wheel_holds_every_module_style_and_theme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    themes = names_under("themes", ".json")
    styles = names_under("lightx2v_tui", ".tcss")
    modules = names_under("lightx2v_tui", ".py") | names_under("engine", ".py")
    assert len(themes) >= 3
    assert len(styles) >= 3
    assert (themes | styles | modules) - names == set()
    assert any(name.endswith("/LICENSE") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "lightx2v_tui",
        "engine",
        "themes",
    }


def ask(folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_copy_finds_its_own_themes(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip("install", "--no-deps", "--target", target, wheel)
    answer = ask(tmp_path, PYTHONPATH=str(target))
    assert str(target / "themes") in answer
    assert "lightx2v-dark" in answer
    assert answer.rstrip().endswith("[]]")


def test_this_installation_finds_its_themes_from_anywhere(tmp_path: Path) -> None:
    answer = ask(tmp_path)
    assert "lightx2v-dark" in answer
    assert answer.rstrip().endswith("[]]")


def test_the_command_is_installed(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "lightx2v-tui"
    if not command.exists():
        pytest.skip("the project is not installed, only on the path")
    done = subprocess.run(
        [command, "--version"], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    assert done.stdout.strip() == "0.1.0"
