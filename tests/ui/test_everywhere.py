"""What holds on every screen: keys that explain themselves, Escape, sizes, themes, errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual import work
from textual.color import Color
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Footer

from engine.spec.errors import EngineError
from engine.spec.events import Done
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.messages import ErrorMet
from lightx2v_tui.paths import themes_dir
from lightx2v_tui.presets import Preset, library
from lightx2v_tui.screens import keys
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.screens.dialogs import ErrorDialog, KeysHelp, Question, TextDialog
from lightx2v_tui.screens.download import DownloadScreen
from lightx2v_tui.screens.history import HistoryScreen
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.screens.presets import PresetDialog
from lightx2v_tui.screens.settings import SettingsScreen
from lightx2v_tui.widgets.matrix import Matrix
from tests.ui.driver import cut_off, text_of, until, until_text
from tests.unit.test_history import recorded

MakeApp = Callable[..., LightX2VApp]
Opener = Callable[[Pilot[int]], Awaitable[None]]


async def models(pilot: Pilot[int]) -> None:
    await until_text(pilot, "1 model in")


async def launch(pilot: Pilot[int]) -> None:
    await models(pilot)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, LaunchScreen), "launch form")


async def history(pilot: Pilot[int]) -> None:
    await models(pilot)
    await pilot.press("h")
    await until(pilot, lambda: isinstance(pilot.app.screen, HistoryScreen), "history")
    await until(pilot, lambda: bool(pilot.app.screen.query_one(DataTable).row_count), "runs")


async def settings_screen(pilot: Pilot[int]) -> None:
    await models(pilot)
    await pilot.press("comma")
    await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen), "settings")
    await until(pilot, lambda: bool(pilot.app.screen.query_one(DataTable).row_count), "keys")


async def error(pilot: Pilot[int]) -> None:
    await models(pilot)
    pilot.app.post_message(ErrorMet(EngineError("It broke " * 20, "why " * 50, "fix it"), "/log"))
    await until(pilot, lambda: isinstance(pilot.app.screen, ErrorDialog), "the error")


async def help_of_launch(pilot: Pilot[int]) -> None:
    await launch(pilot)
    await pilot.press("f1")
    await until(pilot, lambda: isinstance(pilot.app.screen, KeysHelp), "help")


async def text(pilot: Pilot[int]) -> None:
    await models(pilot)
    pilot.app.push_screen(TextDialog("Log", "a line of a log\n" * 200))
    await until(pilot, lambda: isinstance(pilot.app.screen, TextDialog), "the log")


async def download(pilot: Pilot[int]) -> None:
    await models(pilot)
    await pilot.press("d")
    await until(pilot, lambda: isinstance(pilot.app.screen, DownloadScreen), "download")


async def presets(pilot: Pilot[int]) -> None:
    library.save("fox", Preset(prompt="A red fox"))
    await models(pilot)
    await pilot.press("o")
    await until(pilot, lambda: isinstance(pilot.app.screen, PresetDialog), "presets")
    await until_text(pilot, "fox")


SCREENS: dict[str, Opener] = {
    "models": models, "launch": launch, "history": history, "settings": settings_screen,
    "error": error, "help": help_of_launch, "text": text, "download": download, "presets": presets,
}  # fmt: skip
every_screen = pytest.mark.parametrize("opened", SCREENS.values(), ids=SCREENS)


@pytest.fixture(autouse=True)
def runs(own_home: Path) -> None:
    """Two runs to look back on."""
    del own_home
    recorded(Done(Path("x"), 1.0), prompt="a red fox", width=832, height=480, frames=81, seed=7)
    recorded(prompt="a lighthouse")


def test_every_binding_explains_itself() -> None:
    lacking = [
        (owner.__name__, binding.key, binding.action)
        for owner in keys.owners(LightX2VApp)
        for binding in keys.bindings_of(owner)
        if not (binding.id and binding.description and binding.tooltip)
    ]
    assert lacking == []


def test_the_ids_of_bindings_are_unique() -> None:
    ids = [
        (binding.id, owner.__name__)
        for owner in keys.owners(LightX2VApp)
        for binding in keys.bindings_of(owner)
    ]
    names = [name for name, _ in ids]
    assert [pair for pair in ids if names.count(pair[0]) > 1] == []


def test_no_two_actions_of_one_place_have_the_same_key() -> None:
    known = keys.known_keys(LightX2VApp)
    clashes = [
        (key.id, name, other.id)
        for key in known
        for name in key.keys
        if (other := keys.conflict(key, name, known, {})) is not None
    ]
    assert clashes == []


@every_screen
async def test_escape_leads_back_to_the_models_and_q_quits(
    make_app: MakeApp, opened: Opener, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        assert not cut_off(app)
        for _ in range(4):
            await pilot.press("escape")
            await pilot.pause()
        assert isinstance(app.screen, ModelsScreen)
        await pilot.press("q")
    assert app.return_code == 0


@every_screen
async def test_twenty_by_five_cells_are_survived(make_app: MakeApp, opened: Opener) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        for width, height in ((20, 5), (1, 1), (40, 12), (20, 5)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert text_of(app).count("\n") == height - 1
        assert text_of(app).strip()
        for _ in range(4):
            await pilot.press("escape")
        await pilot.press("q")
    assert app.return_code == 0


@every_screen
async def test_a_storm_of_sizes_is_survived(make_app: MakeApp, opened: Opener) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        before = type(app.screen)
        for step in range(8):
            await pilot.resize_terminal(20 + step * 47 % 141, 5 + step * 17 % 46)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert type(app.screen) is before
        assert not cut_off(app)


@every_screen
async def test_letters_stand_out_from_what_is_behind_them(
    make_app: MakeApp, opened: Opener
) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        for theme in sorted(path.stem for path in themes_dir().glob("*.json")):
            app.theme = theme
            await pilot.pause()
            await pilot.pause()
            assert faint(app, 7.0 if theme == "high-contrast" else 4.5) == [], theme


def faint(app: LightX2VApp, least: float) -> list[str]:
    """Words that stand out too little; keys that do nothing now are greyed out on purpose."""
    dialog = app.screen.query("Vertical").first().region if app.screen.is_modal else None
    grey = [key.region for key in app.screen.query("FooterKey.-disabled")]
    found = []
    for y, strip in enumerate(app.screen._compositor.render_strips(app.screen.size)):
        x = 0
        for segment in strip:
            style, start = segment.style, x
            x += segment.cell_length
            meant = dialog is None or dialog.contains(start, y)
            meant = meant and not any(region.contains(start, y) for region in grey)
            if style is None or not meant or not any(map(str.isalnum, segment.text)):
                continue
            if style.color is None or style.bgcolor is None:
                continue
            if style.color.is_default or style.bgcolor.is_default or app.current_theme.ansi:
                continue
            ratio = contrast(
                Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
            )
            if ratio < least:
                colours = f"{style.color.name} on {style.bgcolor.name}"
                found.append(f"{segment.text.strip()!r} {colours}: {ratio:.1f} at {start},{y}")
    return found


def contrast(one: Color, other: Color) -> float:
    """The ratio that WCAG defines."""

    def luminance(colour: Color) -> float:
        parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
                 for part in colour.normalized]  # fmt: skip
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("key", ["question_mark", "f1"])
async def test_the_keys_are_shown_in_groups(make_app: MakeApp, key: str) -> None:
    app = make_app(launch=True)
    async with app.run_test(size=(120, 50)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await until(pilot, lambda: isinstance(app.focused, Button), "the button")
        app.screen.query_one(Matrix).focus()
        await pilot.pause()
        await pilot.press(key)
        await until_text(pilot, "This field")
        shown = text_of(app)
        for word in ("This field", "This screen", "Everywhere", "Pick this precision", "? f1"):
            assert word in shown, word
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "the form")


@pytest.mark.parametrize("size", [(80, 24), (40, 12)])
async def test_all_keys_can_be_scrolled_to(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await history(pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        assert "Leave the app" not in text_of(app)
        await pilot.press("end")
        await pilot.pause()
        assert "colour theme" in text_of(app)


async def test_from_the_keys_to_the_settings(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await models(pilot)
        await pilot.press("question_mark", "comma")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen), "settings")
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_the_palette_is_left_with_escape(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await models(pilot)
        await pilot.press("ctrl+p")
        await pilot.pause()
        assert not isinstance(app.screen, ModelsScreen)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen), "the models")


async def test_a_key_that_does_nothing_now_says_why(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        await history(pilot)
        app.screen.query_one(DataTable).move_cursor(row=0)
        await until_text(pilot, "a lighthouse")
        await pilot.press("y")
        await until_text(pilot, "This run has no video.")
        assert any("This run has no video." in note.message for note in app._notifications)


async def test_errors_do_not_pile_up(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await models(pilot)
        for _ in range(3):
            app.post_message(ErrorMet(EngineError("The disk is full", "no space", "free some")))
        app.post_message(
            ErrorMet(EngineError("Another [thing]\x1b[31m", "why", "fix"), "/a/log.txt")
        )
        await until_text(pilot, "2 errors")
        shown = text_of(app)
        assert "The disk is full (3 times)" in shown
        assert "Another [thing]?[31m" in shown
        assert "/a/log.txt" in shown
        assert len(app.screen_stack) == 2
        await pilot.press("y")
        assert "free some" in app.clipboard
        assert "Another" in app.clipboard
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_an_error_under_another_dialog_is_counted_there(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await error(pilot)
        app.push_screen(Question("Really?", "yes or no"))
        app.post_message(ErrorMet(EngineError("A second", "why", "fix")))
        await pilot.pause()
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        await until_text(pilot, "2 errors")


class Failing(AppScreen[None]):
    """Something on a thread that nobody foresaw."""

    @work(thread=True, exit_on_error=False)
    def fail(self) -> None:
        raise ZeroDivisionError("by nothing")


async def test_a_thread_that_fails_is_told_and_the_app_goes_on(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await models(pilot)
        screen = Failing()
        await app.push_screen(screen)
        screen.fail()
        await until_text(pilot, "ZeroDivisionError: by nothing")
        await pilot.press("escape")
        assert app.screen is screen


async def test_the_mouse_works_on_rows_cells_and_the_footer(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await history(pilot)
        table = app.screen.query_one(DataTable)
        await pilot.click(DataTable, offset=(10, 2))
        assert table.cursor_row == 1
        await pilot.pause()  # the footer is laid out anew for another row
        await pilot.pause()
        key = next(k for k in app.screen.query_one(Footer).query("FooterKey") if k.key == "escape")
        await pilot.click(key)
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen), "the models")
        await launch(pilot)
        matrix = app.screen.query_one(Matrix)
        before = matrix.rows[0].picked
        line = text_of(app).splitlines()[matrix.content_region.y]
        await pilot.click(offset=(line.index("fp8"), matrix.content_region.y))
        await until(pilot, lambda: matrix.rows[0].picked != before, "another precision")


async def test_the_keys_that_are_shown_fit_and_lead_to_all_others(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await history(pilot)
        for width in (120, 60, 40, 25, 80):
            await pilot.resize_terminal(width, 24)
            await pilot.pause()
            await pilot.pause()
            shown = list(app.screen.query_one(Footer).query("FooterKey"))
            assert all(key.region.right <= width for key in shown), width
            assert "Keys" in text_of(app).splitlines()[-1]


async def test_the_same_screen_is_never_opened_twice(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await history(pilot)
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(app.screen, SettingsScreen), "settings")
        await pilot.press("h")
        await pilot.pause()
        assert isinstance(app.screen, HistoryScreen)
        assert len(app.screen_stack) == 2
