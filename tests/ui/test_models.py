"""The first screen: what was found, what it holds, and what cannot run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from lightx2v_tui import catalog, last_used, presets
from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.demo import demo_preset
from lightx2v_tui.gpus import Gpu, GpuReading
from lightx2v_tui.host import HostMemory
from lightx2v_tui.paths import themes_dir
from lightx2v_tui.screens.add_folder import AddFolderDialog
from lightx2v_tui.screens.dialogs import ErrorDialog, KeysHelp
from lightx2v_tui.screens.launch import LaunchScreen
from lightx2v_tui.screens.model_table import WIDTHS, ModelTable, fitting
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.screens.presets import PresetDialog
from lightx2v_tui.shell.themes import load_themes
from lightx2v_tui.widgets.bars import MachineBar
from lightx2v_tui.widgets.path_input import PathInput
from tests.ui.driver import cut_off, text_of, told_by, until, until_text
from tests.unit.helpers import dit, write_folder, write_root, write_safetensors

MakeApp = Callable[..., LightX2VApp]


async def test_it_lists_models_and_explains_one(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "1 model in")
        await until_text(pilot, "ready to launch")
        shown = text_of(app)
        for word in ("Demo-T2V", "t2v", "bf16 fp8 int8", "distill_models/", "complete", "DiT"):
            assert word in shown
        assert "Launch" in shown.splitlines()[-1]
        assert not cut_off(app)


async def test_it_says_what_the_machine_has(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "RAM")
        assert "models run on the CPU" in text_of(app) or "GPU 0" in text_of(app)


async def test_enter_opens_the_launch_form(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_a_broken_model_is_listed_with_its_reason_and_does_not_open(
    make_app: MakeApp, model_copy: Path
) -> None:
    for folder in ("distill_models", "distill_fp8", "distill_int8"):
        next((model_copy / folder).glob("models_t5*")).unlink()
    app = make_app(places=[model_copy])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "T5 missing")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "the reason")
        assert "cannot run" in text_of(app)
        assert "hf download lightx2v/Encoders" in text_of(app)  # and what would mend it
        await pilot.press("enter")
        assert isinstance(app.screen, ModelsScreen)


async def test_rescan_finds_what_came_since(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "models"
    place.mkdir()
    app = make_app(places=[place])
    async with app.run_test() as pilot:
        await until_text(pilot, "No models yet")
        assert str(place)[:20] in text_of(app)
        shutil.copytree(demo_model, place / "Later-T2V")
        await pilot.press("r")
        await until_text(pilot, "Later-T2V")


async def test_a_model_deleted_under_the_open_screen_is_an_error_to_read(
    make_app: MakeApp, model_copy: Path
) -> None:
    app = make_app(places=[model_copy])
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        shutil.rmtree(model_copy)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "an error")
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_help_lists_every_key_that_does_something(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(100, 40)) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysHelp), "help")
        shown = text_of(app)
        for words in ("Launch", "Look at the disks again", "Leave the app", "colour theme"):
            assert words in shown
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_every_binding_can_be_remapped_and_is_explained(make_app: MakeApp) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        for screen in app.screen_stack:
            for active in screen.active_bindings.values():
                if type(active.node).__module__.startswith("lightx2v_tui"):
                    assert active.binding.description
                    if active.binding.show:
                        assert active.binding.id, active.binding
                        assert active.binding.tooltip, active.binding


async def test_a_terminal_of_40_columns_stays_usable(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(40, 20)) as pilot:
        await until_text(pilot, "Demo-T2V")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        assert "bf16" in text_of(app)


async def test_every_theme_dresses_every_screen(make_app: MakeApp) -> None:
    names = [theme.name for theme in load_themes(themes_dir())[0]]
    assert len(names) >= 4
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        for name in names:
            app.theme = name
            await pilot.press("f1")
            await until(pilot, lambda: isinstance(app.screen, KeysHelp), "help")
            await pilot.press("escape")
        await pilot.press("escape")
        await until_text(pilot, "1 model in")
    assert app.return_code in (0, None)


async def test_the_palette_knows_the_keys_of_the_screen_and_quits_as_q_does(
    make_app: MakeApp,
) -> None:
    app = make_app(launch=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")
        titles = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Generate", "Best", "Back", "Quit", "Theme"} <= titles


async def test_the_wide_layout_puts_the_pane_beside_the_list(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "1 model in")
        assert app.screen.query_one("#detail").region.x > 40
        await pilot.press("tab")
        assert app.focused is app.screen.query_one("#detail")


async def test_a_resize_keeps_the_model_under_the_cursor(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    for name in ("A-T2V", "B-T2V", "C-T2V"):
        shutil.copytree(demo_model, tmp_path / "models" / name)
    app = make_app(places=[tmp_path / "models"])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "3 models in")
        await pilot.press("down", "down")
        await pilot.resize_terminal(90, 30)
        await pilot.pause()
        await until(pilot, lambda: app.screen.query_one("#detail").border_title == "C-T2V", "C")
        assert app.screen.query_one(ModelTable).cursor_row == 2


async def test_themes_switch_and_are_remembered(make_app: MakeApp, own_home: Path) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        before = app.theme
        await pilot.press("ctrl+t")
        assert app.theme != before
        assert app.theme in (own_home / "config/lightx2v-tui/settings.json").read_text()


async def test_q_quits(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("q")
        await pilot.pause()
    assert app.return_code == 0


async def test_a_second_start_shows_what_was_found_before_it_has_looked(
    make_app: MakeApp, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
    go = threading.Event()
    monkeypatch.setattr(catalog, "find_roots", waiting(go), raising=False)
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, demo_model.name[:12])
        assert "remembered from the last scan" in text_of(app)
        go.set()
        await until_text(pilot, "1 model in")
        assert "remembered" not in text_of(app)
        assert "ready to launch" in text_of(app)


def waiting(go: threading.Event) -> Callable[..., Iterator[object]]:
    """The scan, which begins when it is told to."""
    from lightx2v_tui.catalog.walk import find_roots

    def scan(places: list[Path], stop: threading.Event, **more: Any) -> Iterator[object]:
        go.wait(30)
        yield from find_roots(places, stop, **more)

    return scan


async def test_what_was_remembered_and_is_gone_goes_with_the_scan(
    make_app: MakeApp, model_copy: Path
) -> None:
    app = make_app(places=[model_copy])
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
    shutil.rmtree(model_copy)
    app = make_app(places=[model_copy])
    async with app.run_test() as pilot:
        await until_text(pilot, "No models yet")
        assert app.screen.query_one(ModelTable).row_count == 0


async def test_models_of_other_places_are_not_remembered_here(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await until_text(pilot, "1 model in")
    (tmp_path / "empty").mkdir()
    app = make_app(places=[tmp_path / "empty"])
    async with app.run_test() as pilot:
        await until_text(pilot, "No models yet")


async def test_a_rescan_keeps_the_cursor_and_updates_rows(
    make_app: MakeApp, model_copy: Path, demo_model: Path
) -> None:
    app = make_app(places=[demo_model, model_copy])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "2 models in")
        await pilot.press("down")
        next((model_copy / "distill_fp8").glob("models_t5*")).unlink()
        await pilot.press("r")
        await until_text(pilot, "fp8+")
        assert app.screen.query_one(ModelTable).cursor_row == 1
        assert "T5 elsewhere" in text_of(app)


async def test_each_missing_piece_has_its_next_step(make_app: MakeApp, model_copy: Path) -> None:
    for folder in ("distill_models", "distill_fp8", "distill_int8"):
        next((model_copy / folder).glob("models_t5*")).unlink()
    app = make_app(places=[model_copy])
    async with app.run_test(size=(160, 50)) as pilot:
        await until_text(pilot, "T5 missing")
        await until_text(pilot, "hf download lightx2v/Encoders")


async def test_folders_that_could_not_be_looked_at_are_told(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "loop").symlink_to("loop")
    app = make_app(places=[demo_model, place])
    async with app.run_test(size=(160, 60)) as pilot:
        await until_text(pilot, "1 folder skipped")
        await until_text(pilot, "symbolic links")


async def test_two_models_in_one_folder_are_two_rows(make_app: MakeApp, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "models", "bf16", image=True)
    (folder / "distill_model.safetensors").unlink()
    for name, image in (("wan2.1_t2v_4step", False), ("wan2.1_i2v_4step", True)):
        write_safetensors(folder / f"{name}.safetensors", dit(image=image))
    app = make_app(places=[folder])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "2 models in")
        assert "t2v" in text_of(app)
        assert "i2v" in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")


async def test_tab_goes_to_the_pane_which_then_scrolls(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("tab", "pagedown")
        await until(pilot, lambda: app.screen.query_one("#detail").scroll_y > 0, "scrolled")
        await pilot.press("tab")
        assert isinstance(app.focused, ModelTable)


async def test_the_pane_is_left_with_escape_and_launches_too(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("tab", "escape")
        assert isinstance(app.focused, ModelTable)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "launch form")


async def test_what_is_incomplete_is_said_in_front_and_no_sentence_is_copied(
    make_app: MakeApp, model_copy: Path
) -> None:
    (model_copy / "distill_int8" / "block_3.safetensors").write_bytes(b"cut")
    app = make_app(places=[model_copy.rename(model_copy.with_name("Mine"))])
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_text(pilot, "! int8 incomplete")
        assert await told_by(pilot, "y") == "There is no command that would mend anything here."
        assert app.clipboard == ""


async def test_the_smallest_terminal_shows_the_list(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(20, 5)) as pilot:
        await until(pilot, lambda: "Demo-T2" in text_of(app), "the model")


async def test_models_of_one_name_say_where_they_lie(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    for disk in ("fast", "slow"):
        shutil.copytree(demo_model, tmp_path / disk / "Wan")
    app = make_app(places=[tmp_path / "fast", tmp_path / "slow"])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "2 models in")
        await until_text(pilot, "fast/Wan")
        await until_text(pilot, "slow/Wan")


@pytest.fixture
def many(demo_model: Path, tmp_path: Path) -> Path:
    """Models that run, one that lacks its T5, and one that cannot run."""
    place = tmp_path / "models"
    for name in ("Alpha-T2V", "Beta-T2V"):
        shutil.copytree(demo_model, place / name)
    write_root(place / "Aaa-I2V", {"fp8": "fp8"}, image=True)
    (place / "Aaa-I2V" / "fp8" / "clip-fp8.pth").unlink()
    return place


def names(app: LightX2VApp) -> list[str]:
    table = app.screen.query_one(ModelTable)
    return [str(key.value).partition("\n")[2] for key in table.rows]


async def test_what_runs_stands_above_what_does_not(make_app: MakeApp, many: Path) -> None:
    (many / "Beta-T2V").rename(many / "Zeta-T2V")
    write_root(many / "Broken-I2V", {"fp8": "fp8"}, image=True)
    for folder in ("Broken-I2V", "Aaa-I2V"):
        for part in (many / folder / "fp8").glob("*clip*"):
            part.unlink()
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "4 models in")
        assert names(app)[:2] == ["Alpha-T2V", "Zeta-T2V"]
        assert set(names(app)[2:]) == {"Aaa-I2V", "Broken-I2V"}


async def test_the_filter_narrows_the_list_as_one_types(
    make_app: MakeApp, many: Path, size: tuple[int, int]
) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "3 models in")
        await pilot.press("slash", *"beta")
        await until(pilot, lambda: names(app) == ["Beta-T2V"], "one model")
        assert "1 of 3" in text_of(app)
        assert not cut_off(app)
        await until(pilot, lambda: app.screen.query_one("#detail").border_title == "Beta-T2V", "it")
        await pilot.press("enter")
        assert isinstance(app.focused, ModelTable)
        assert names(app) == ["Beta-T2V"]
        await pilot.press("escape")
        await until(pilot, lambda: len(names(app)) == 3, "all of them")
        assert "1 of 3" not in text_of(app)
        assert app.screen.query_one("#detail").border_title == "Beta-T2V"  # the cursor stays


@pytest.mark.parametrize(("words", "found"), [("i2v", 1), ("fp8 t2v", 2), ("models/aaa", 1)])
async def test_the_filter_knows_task_precision_and_path(
    make_app: MakeApp, many: Path, words: str, found: int
) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "3 models in")
        await pilot.press("slash", *words)
        await until(pilot, lambda: len(names(app)) == found, words)


async def test_a_filter_that_fits_nothing_says_so_and_escape_ends_it(
    make_app: MakeApp, many: Path
) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=(80, 24)) as pilot:
        await until_text(pilot, "3 models in")
        await pilot.press("slash", *"xyzzy")
        await until_text(pilot, "0 of 3")
        await until_text(pilot, "Escape shows all")
        await pilot.press("escape")
        await until(pilot, lambda: len(names(app)) == 3, "all of them")
        assert isinstance(app.focused, ModelTable)


async def test_a_folder_is_added_looked_at_and_remembered(
    make_app: MakeApp, many: Path, tmp_path: Path, own_home: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "empty").mkdir()
    app = make_app(places=[tmp_path / "empty"])
    async with app.run_test(size=size) as pilot:
        await until_text(pilot, "No models yet")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, AddFolderDialog), "the question")
        app.screen.query_one(PathInput).value = str(many)
        await pilot.press("enter")
        await until_text(pilot, "3 models in")
        assert str(many) in (own_home / "config/lightx2v-tui/settings.json").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [("gone", "There is no such"), ("file", "It is a file"), ("empty", "looked at already")],
)
async def test_a_folder_that_cannot_be_added_says_why(
    make_app: MakeApp, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    app = make_app(places=[tmp_path / "empty"])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "No models yet")
        await pilot.press("plus")
        await until(pilot, lambda: isinstance(app.screen, AddFolderDialog), "the question")
        app.screen.query_one(PathInput).value = str(tmp_path / name)
        await pilot.press("enter")
        told = app.screen.query_one("#told", Static)
        await until(pilot, lambda: said in str(told.content), said)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen), "no folder")


async def test_escape_stops_looking_and_keeps_what_was_remembered(
    make_app: MakeApp, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(places=[many])
    async with app.run_test() as pilot:
        await until_text(pilot, "3 models in")
    go = threading.Event()
    monkeypatch.setattr(catalog, "find_roots", waiting(go), raising=False)
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "looking…")
        await pilot.press("escape")
        go.set()
        await until_text(pilot, "3 models so far; r looks again")
        await pilot.press("r")
        await until_text(pilot, "3 models in")


async def test_a_scan_that_fails_is_told_and_loses_nothing(
    make_app: MakeApp, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "3 models in")

        def broken(*_: object, **__: object) -> Iterator[object]:
            raise RuntimeError("the disk is on fire")
            yield

        monkeypatch.setattr(catalog, "find_roots", broken, raising=False)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "the error")
        assert "the disk is on fire" in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: len(names(app)) == 3, "still there")


async def test_a_model_that_is_gone_is_an_error_and_leaves_the_list(
    make_app: MakeApp, many: Path
) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "3 models in")
        shutil.rmtree(many / "Alpha-T2V")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "the error")
        assert "Alpha-T2V is gone" in text_of(app)
        await pilot.press("escape")
        await until_text(pilot, "2 models in")
        assert "Alpha-T2V" not in names(app)


async def test_the_cursor_begins_on_the_model_last_used_and_follows_it(
    make_app: MakeApp, many: Path
) -> None:
    last_used.remember(demo_preset(many / "Beta-T2V", ()))
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "3 models in")
        await until(pilot, lambda: app.screen.query_one("#detail").border_title == "Beta-T2V", "it")
        await pilot.press("up")
        await pilot.press("r")
        await until_text(pilot, "3 models in")
        assert app.screen.query_one("#detail").border_title == "Alpha-T2V"  # as the user chose


async def test_the_next_step_can_be_copied(make_app: MakeApp, model_copy: Path) -> None:
    for folder in ("distill_models", "distill_fp8", "distill_int8"):
        next((model_copy / folder).glob("models_t5*")).unlink()
    app = make_app(places=[model_copy])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "T5 missing")
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard.startswith("hf download"), "the command")


async def test_d_offers_what_the_model_lacks(
    make_app: MakeApp, model_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for folder in ("distill_models", "distill_fp8", "distill_int8"):
        next((model_copy / folder).glob("models_t5*")).unlink()
    app = make_app(places=[model_copy])
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "T5 missing")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), "the hub is not asked")
        assert "lightx2v/Encoders cannot be fetched" in text_of(app)
        assert "HF_HUB_OFFLINE" in text_of(app)


async def test_a_preset_is_opened_from_here(
    make_app: MakeApp, demo_model: Path, tmp_path: Path
) -> None:
    presets.save(demo_preset(demo_model, ()), tmp_path / "fox.json")
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "1 model in")
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, PresetDialog), "presets")
        await pilot.press("o")
        app.screen.query_one(PathInput).value = str(tmp_path / "fox.json")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen), "the launch form")


@pytest.mark.parametrize("odd", [(20, 5), (40, 12), (60, 16), (300, 100)])
async def test_no_terminal_is_too_odd(make_app: MakeApp, many: Path, odd: tuple[int, int]) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=odd) as pilot:
        await until(pilot, lambda: len(names(app)) == 3, "the models")
        if odd[0] >= 40:
            assert "Alpha" in text_of(app)
            assert "bf16" in text_of(app)
        await pilot.press("down", "tab", "pagedown", "tab", "slash", "a", "escape", "enter")
        await until(pilot, lambda: not isinstance(app.screen, ModelsScreen), "a form or a reason")


async def test_a_storm_of_resizes_during_a_scan_loses_nothing(
    make_app: MakeApp, many: Path
) -> None:
    app = make_app(places=[many])
    async with app.run_test(size=(120, 36)) as pilot:
        for width, height in ((20, 5), (200, 60), (79, 23), (41, 11), (160, 50), (1, 1), (80, 24)):
            await pilot.resize_terminal(width, height)
            await pilot.press("r")
        await until_text(pilot, "3 models in")
        assert len(names(app)) == 3
        assert not cut_off(app)


def test_columns_are_given_up_before_the_name_is() -> None:
    for room in range(1, 200):
        columns, width = fitting(room, 1, 1)
        taken = width + sum(WIDTHS[name] for name in columns[1:]) + 2 * len(columns) + 1
        assert taken <= room or columns == ("Model", "Variants")
        assert width >= 8
    assert fitting(120, 1, 1)[0] == ("Model", "Task", "Size", "Disk", "Variants")


def read(used: int, capability: tuple[int, int] = (9, 0)) -> GpuReading:
    return GpuReading((Gpu(0, "GPU-0", "H100", capability, 80_000_000_000, used),))


async def test_the_machine_is_drawn_anew_only_where_it_changed_notably(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await until_text(pilot, "1 model in")
        bar, memory = app.screen.query_one(MachineBar), HostMemory(64 << 30, 32 << 30, 1)
        assert bar.show(read(8_000_000_000), memory)
        assert not bar.show(read(8_100_000_000), memory)
        assert bar.show(read(60_000_000_000), memory)
        await until_text(pilot, "GPU 0 H100")
        assert "60.0 GB of 80.0 GB used, FP8 compute (9.0)" in text_of(app)
        assert bar.show(read(60_000_000_000, (8, 0)), memory)
        await until_text(pilot, "FP8 storage only (8.0)")
        none = GpuReading(problem="this machine has an AMD GPU, which this engine does not use")
        assert bar.show(none, memory)
        await until_text(pilot, "This machine has an AMD GPU")
