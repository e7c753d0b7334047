"""The settings: everything is seen at once, stored as it is changed, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from lightx2v_tui import settings
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.screens.add_folder import AddFolderDialog
from lightx2v_tui.screens.ask_key import AskKey
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.screens.history import HistoryScreen
from lightx2v_tui.screens.key_table import KeyTable
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.screens.settings import SettingsScreen
from lightx2v_tui.settings import DEFAULT_THEME, settings_path
from lightx2v_tui.store import write_text
from tests.ui.driver import cut_off, text_of, told_by, until, until_text

MakeApp = Callable[..., LightX2VApp]


async def opened(pilot: Pilot[int]) -> SettingsScreen:
    """Wait for the settings and the list of keys."""
    await until_text(pilot, "1 model in")
    await pilot.press("comma")
    await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen), "settings")
    screen = pilot.app.screen
    assert isinstance(screen, SettingsScreen)
    await until(pilot, lambda: bool(screen.query_one(KeyTable).row_count), "the keys")
    return screen


async def on_key(pilot: Pilot[int], name: str) -> KeyTable:
    """Go to the table of keys, and there to an action."""
    table = pilot.app.screen.query_one(KeyTable)
    table.focus()
    table.move_cursor(row=table.get_row_index(name))
    await pilot.pause()
    return table


async def test_it_shows_everything_at_once(make_app: MakeApp, size: tuple[int, int]) -> None:
    settings.change(roots=("/mnt/models",))
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        await pilot.pause()
        shown = text_of(app)
        for word in (DEFAULT_THEME, "high-contrast", "Previews of runs", "/mnt/models", "Letters",
                     "+ add a folder", "Quit", "Everywhere", "? f1"):  # fmt: skip
            assert word in shown, word
        assert not cut_off(app)


async def test_a_theme_is_shown_while_the_cursor_is_on_it_and_kept_by_enter(
    make_app: MakeApp,
) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await opened(pilot)
        await pilot.press("home")
        await until(pilot, lambda: app.theme == "high-contrast", "another theme")
        assert settings.load()[0].theme == DEFAULT_THEME
        await pilot.press("escape")
        await until(pilot, lambda: app.theme == DEFAULT_THEME, "the theme before")
        assert isinstance(app.screen, ModelsScreen)
        await opened(pilot)
        await pilot.press("home", "enter")
        await until(pilot, lambda: settings.load()[0].theme == "high-contrast", "it is stored")
        await pilot.press("down", "escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen), "the models")
        await until(pilot, lambda: app.theme == "high-contrast", "the theme that was kept")


async def test_previews_and_letters_are_switched(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        display = screen.query_one("#display", OptionList)
        display.focus()
        await pilot.press("enter")
        await until_text(pilot, "of runs: off")
        assert not settings.load()[0].preview
        await pilot.press("down", "enter", "enter")
        await until(pilot, lambda: settings.load()[0].glyphs == "ascii", "ASCII")
        await until(pilot, lambda: text_of(app).isascii(), "only ASCII on the screen")
        assert "ASCII only" in text_of(app)
        await pilot.press("enter")
        await until_text(pilot, "─")


async def test_folders_are_added_and_forgotten(make_app: MakeApp, tmp_path: Path) -> None:
    folder = tmp_path / "more models"
    folder.mkdir()
    settings.change(roots=("/a", "/b"))
    app = make_app()
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        folders = screen.query_one("#folders", OptionList)
        folders.focus()
        await pilot.press("home", "down", "x")
        assert settings.load()[0].roots == ("/a",)
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, AddFolderDialog), "the field")
        app.screen.query_one(Input).value = str(folder)
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen, "the settings")
        await until(pilot, lambda: settings.load()[0].roots == ("/a", str(folder)), "it is stored")
        await until(pilot, lambda: folders.option_count == 3, "it is listed")


async def test_a_key_is_changed_used_shown_and_given_back(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await opened(pilot)
        await on_key(pilot, "app.history")
        await pilot.press("enter")
        assert isinstance(app.screen, AskKey)
        await pilot.press("f7")
        await until_text(pilot, "f7 *")
        assert settings.load()[0].keymap == {"app.history": "f7"}
        await pilot.press("escape", "h")
        assert isinstance(app.screen, ModelsScreen)
        await pilot.press("f7")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen), "the history")
        await pilot.press("escape")
        await opened(pilot)
        await on_key(pilot, "app.history")
        await pilot.press("backspace")
        await until(pilot, lambda: settings.load()[0].keymap == {}, "its own key")
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen), "the history")


async def test_keys_that_are_taken_are_told_and_not_used(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        screen = await opened(pilot)
        await on_key(pilot, "app.history")
        await pilot.press("enter", "q")
        await until_text(pilot, "q is “Quit” already (Everywhere)")
        await pilot.press("r")
        await until_text(pilot, "already")
        assert isinstance(app.screen, AskKey)
        await pilot.press("escape")
        assert app.screen is screen
        await pilot.press("enter", "tab")
        await until(pilot, lambda: settings.load()[0].keymap != {} or "already" in text_of(app), "")
        await pilot.press("escape")
    assert "app.quit" not in settings.load()[0].keymap


async def test_all_keys_are_reset_after_asking(make_app: MakeApp) -> None:
    settings.change(keymap={"app.history": "f7", "models.rescan": "f8"})
    app = make_app()
    async with app.run_test() as pilot:
        await opened(pilot)
        await pilot.press("R")
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        assert len(settings.load()[0].keymap) == 2
        await pilot.press("R", "y")
        await until(pilot, lambda: settings.load()[0].keymap == {}, "no keymap")
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen), "the history")


async def test_what_cannot_be_removed_says_why(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot)
        assert await told_by(pilot, "x") == "Only folders and changed keys can be removed."
        assert await told_by(pilot, "R") == "Every action has the keys it came with."
        screen.query_one("#folders", OptionList).focus()
        assert await told_by(pilot, "x") == "There is no folder under the cursor."
        await on_key(pilot, "app.quit")
        assert await told_by(pilot, "x") == "This action has the keys it came with."


async def test_broken_settings_are_said_and_not_overwritten(make_app: MakeApp) -> None:
    write_text(settings_path(), '{"roots": ["/a"],,}')
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot)
        screen.query_one("#display", OptionList).focus()
        await pilot.press("enter")
        await pilot.pause()
        assert any("is not used" in note.message for note in app._notifications)
    assert settings_path().read_text() == '{"roots": ["/a"],,}'
