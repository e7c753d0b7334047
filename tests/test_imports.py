"""Opening the app is cheap, and each half of the project stays in its own half."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import engine.spec
import lightx2v_tui
from lightx2v_tui import screens

HEAVY = {"torch", "transformers", "numpy", "PIL", "av", "safetensors", "tokenizers", "diffusers"}
SCREEN = {"textual", "rich"}
NEEDS_TEXTUAL = (
    "lightx2v_tui.app",
    "lightx2v_tui.shell",
    "lightx2v_tui.screens",
    "lightx2v_tui.widgets",
    "lightx2v_tui.messages",
    "lightx2v_tui.commands.tui",
    "lightx2v_tui.__main__",
)


def modules_of(package: object) -> list[str]:
    path, name = package.__path__, package.__name__  # type: ignore[attr-defined]
    return [name, *(info.name for info in pkgutil.walk_packages(path, f"{name}."))]


def roots_after(*modules: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after importing `modules`."""
    program = (
        f"import sys, importlib\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
    )
    program += "print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "modules",
    [["lightx2v_tui.cli"], ["lightx2v_tui.app"], modules_of(screens), modules_of(engine.spec)],
    ids=["cli", "app", "screens", "engine.spec"],
)
def test_nothing_heavy_is_imported_for(modules: list[str]) -> None:
    assert not roots_after(*modules) & HEAVY


def test_all_of_the_app_together_imports_nothing_heavy() -> None:
    modules = [name for name in modules_of(lightx2v_tui) if name != "lightx2v_tui.__main__"]
    assert len(modules) > 30
    assert not roots_after(*modules) & HEAVY


def test_the_command_line_starts_without_textual() -> None:
    assert not roots_after("lightx2v_tui.cli") & SCREEN


def test_everything_beside_the_screens_works_without_textual() -> None:
    names = [name for name in modules_of(lightx2v_tui) if not name.startswith(NEEDS_TEXTUAL)]
    assert len(names) > 20
    assert not roots_after(*names) & SCREEN


def test_the_engine_knows_nothing_of_the_app() -> None:
    roots = roots_after("engine.pipeline")
    assert "torch" in roots
    assert not roots & {*SCREEN, "lightx2v_tui"}


def test_the_facts_of_the_engine_stand_alone() -> None:
    program = (
        "import sys, engine.spec.job, engine.spec.events, engine.spec.header, engine.spec.pth\n"
        "print(*(n for n in sys.modules if n.startswith('engine.')))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert all(name.startswith("engine.spec") for name in done.stdout.split())


@pytest.mark.parametrize(
    "command", [["scan", "--json"], ["doctor", "--json"], ["preset", "list"], ["runs", "--json"]]
)
def test_a_command_without_a_screen_loads_neither_torch_nor_textual(
    command: list[str], tmp_path: object
) -> None:
    program = (
        "import sys\nfrom lightx2v_tui.cli import main\n"
        f"assert main({command!r}) == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=str(tmp_path),
    )
    assert not set(done.stderr.split()) & (HEAVY | SCREEN)


def test_a_run_loads_neither_transformers_nor_the_compiler(
    demo_model: Path, tmp_path: Path
) -> None:
    """Each takes seconds and a hundred megabytes of every run."""
    program = (
        "import sys\nfrom lightx2v_tui.cli import main\n"
        f"assert main(['demo', '--headless', '--dest', {str(demo_model.parent)!r},"
        " '--set', 'target_width=64', '--set', 'target_height=64',"
        " '--set', 'target_video_length=5', '--output', 'a.mp4']) == 0\n"
        "print(*{'transformers', 'torch._dynamo', 'sympy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == ""


def test_the_names_that_are_looked_for_are_importable_names() -> None:
    assert all(importlib.util.find_spec(name) for name in HEAVY | SCREEN)
