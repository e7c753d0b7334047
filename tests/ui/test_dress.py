"""Themes, letters and keys of the user: used from the start, and what is wrong is told once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from lightx2v_tui import settings
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.paths import themes_dir
from lightx2v_tui.settings import settings_path
from lightx2v_tui.store import write_text
from tests.ui.driver import text_of, until, until_text

MakeApp = Callable[..., LightX2VApp]


@pytest.fixture
def themes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The themes of the project, in a folder that a test may change."""
    folder = Path(shutil.copytree(themes_dir(), tmp_path / "themes"))
    monkeypatch.setattr("lightx2v_tui.shell.appearance.themes_dir", lambda: folder)
    return folder


async def test_a_broken_theme_is_told_once_and_the_others_stay(
    make_app: MakeApp, themes: Path
) -> None:
    (themes / "broken.json").write_text("{ this is not JSON")
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        await until_text(pilot, "1 model in")
        told = [note.message for note in app._notifications]
        assert len([message for message in told if "broken.json" in message]) == 1
        assert app.theme == settings.DEFAULT_THEME
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert app.theme != settings.DEFAULT_THEME


async def test_a_theme_that_is_gone_falls_back(make_app: MakeApp) -> None:
    settings.change(theme="nobody's")
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        assert app.theme in app.available_themes
    assert settings.load()[0].theme == "nobody's"


async def test_without_any_themes_the_app_starts(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lightx2v_tui.shell.appearance.themes_dir", lambda: tmp_path / "gone")
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("ctrl+t")
        assert "ready to launch" in text_of(app)


async def test_few_colours_get_a_theme_of_few_colours(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLORTERM", "")
    monkeypatch.setenv("TERM", "xterm")
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        assert app.theme == "sixteen-colours"
        await pilot.pause()
    assert settings.load()[0].theme == settings.DEFAULT_THEME


async def test_keys_of_the_settings_are_used_and_unknown_ones_told(make_app: MakeApp) -> None:
    keymap = {"models.rescan": "z", "no.such": "x", "app.quit": "nokey", "history.copy": "c"}
    settings.change(keymap=keymap)
    app = make_app()
    async with app.run_test(size=(120, 50), notifications=True) as pilot:
        await until_text(pilot, "1 model in")
        told = "\n".join(note.message for note in app._notifications)
        assert "no.such" in told
        assert "nokey" in told
        await pilot.press("question_mark")
        await pilot.pause()
        lines = [line for line in text_of(app).splitlines() if "Rescan" in line]
        assert any(line.strip("│╭╰ ").startswith("z  ") for line in lines), lines
        await pilot.press("escape", "q")
    assert app.return_code == 0


@pytest.mark.parametrize("stored", ["{", '{"keymap": {"app.quit": ""}}', '{"keymap": {"": ","}}'])
async def test_broken_settings_are_told_and_the_app_starts(make_app: MakeApp, stored: str) -> None:
    write_text(settings_path(), stored)
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        await until_text(pilot, "1 model in")
        assert len(app._notifications) >= 1
        await pilot.press("q")
    assert app.return_code == 0


async def test_no_cursor_blinks_wherever_text_is_typed(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "Generate")
        seen = set()
        for _ in range(20):
            await pilot.press("tab")
            if isinstance(app.focused, Input | TextArea):
                seen.add(app.focused.id)
                assert not app.focused.cursor_blink, app.focused.id
        assert {"width", "seed", "output", "prompt"} <= seen
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.focused, Input), "the palette")
        assert not app.focused.cursor_blink
