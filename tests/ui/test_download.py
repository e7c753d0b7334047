"""Downloads on the screen: choosing, watching, stopping, going on, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.catalog.repositories import MODELS
from lightx2v_tui.downloads import fetching
from lightx2v_tui.screens.dialogs import ErrorDialog, Question
from lightx2v_tui.screens.download import DownloadScreen, about
from lightx2v_tui.screens.downloads import DownloadsScreen
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.widgets.marked_list import MarkedList
from lightx2v_tui.widgets.path_input import PathInput
from tests.ui.driver import cut_off, text_of, until, until_text, until_words
from tests.unit.fake_hub import FakeHub, serving

MakeApp = Callable[..., LightX2VApp]
REPO = "lightx2v/Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v"
NAME = REPO.partition("/")[2]
SECONDS = 20.0  # for what takes a moment: each test does many such steps


async def seen(pilot: Pilot[int], text: str) -> None:
    await until_text(pilot, text, SECONDS)


async def came(pilot: Pilot[int], done: Callable[[], bool], what: str) -> None:
    await until(pilot, done, what, SECONDS)


async def told(pilot: Pilot[int], text: str) -> None:
    """Wait for a notification."""
    notes = pilot.app._notifications
    await came(pilot, lambda: any(text in f"{n.title} {n.message}" for n in notes), text)


@pytest.fixture
def fake(demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the demo model under the name of a published one."""
    from huggingface_hub import constants

    monkeypatch.setattr(fetching, "PAUSES", (0.0,))
    files = {str(path.relative_to(demo_model)): path.read_bytes()
             for path in demo_model.rglob("*") if path.is_file()}  # fmt: skip
    with serving({REPO: files}) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


@pytest.mark.usefixtures("fake")
async def test_a_model_is_chosen_fetched_and_found(
    make_app: MakeApp, tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "models").mkdir()
    app = make_app(places=[tmp_path / "models"])
    async with app.run_test(size=size) as pilot:
        await seen(pilot, "No models yet")
        await pilot.press("d")
        await came(pilot, lambda: isinstance(app.screen, DownloadScreen), "the choice")
        await pilot.press(*"t2v-14b-step", "enter")
        await seen(pilot, "distill_fp8")
        assert not cut_off(app)
        for words in ("recommended here", "to fetch", "free", NAME):
            assert words in text_of(app)
        await seen(pilot, f"model folder: {NAME}/")
        app.screen.query_one(PathInput).value = str(tmp_path / "models")
        await pilot.pause()
        await came(pilot, lambda: not app.screen.reason_against("start"), "measured")
        await pilot.press("enter")
        await came(pilot, lambda: isinstance(app.screen, DownloadsScreen), "the download")
        await seen(pilot, "complete: it is in")
        assert not cut_off(app)
        await pilot.press("escape")
        await seen(pilot, "1 model in")
        await seen(pilot, "ready to launch")
    folder = tmp_path / "models" / NAME
    assert (folder / "distill_models" / "distill_model.safetensors").is_file()
    assert not (folder / "distill_fp8").exists()


@pytest.mark.usefixtures("fake")
async def test_marks_are_set_with_space_and_an_empty_choice_says_why(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await seen(pilot, "1 model in")
        app.screen.post_message(downloads_opened())
        await seen(pilot, "What to fetch")
        assert text_of(app).count("[x]") == 1
        await pilot.press("space")
        await came(pilot, lambda: "[x]" not in text_of(app), "nothing marked")
        await pilot.press("enter")
        await told(pilot, "Nothing is marked")
        assert isinstance(app.screen, DownloadScreen)
        await pilot.press("up", "up", "space", "down", "space")
        await came(pilot, lambda: text_of(app).count("[x]") == 2, "two marks")
        assert len(app.screen.query_one(MarkedList).marked) == 2


def downloads_opened(repository: str = REPO) -> object:
    from lightx2v_tui.messages import DownloadOpened

    return DownloadOpened(repository)


@pytest.mark.usefixtures("fake")
async def test_a_model_that_was_published_offers_the_rest_of_itself(
    make_app: MakeApp, model_copy: Path, tmp_path: Path
) -> None:
    model_copy.rename(tmp_path / NAME)
    app = make_app(places=[tmp_path / NAME])
    async with app.run_test(size=(120, 36)) as pilot:
        await seen(pilot, "1 model in")
        await pilot.press("d")
        await seen(pilot, "What to fetch")
        assert app.screen.query_one(PathInput).value == str(tmp_path)
        await seen(pilot, "are here already")
        await pilot.press("enter")
        await told(pilot, "All of it is here already")


async def test_leaving_goes_on_and_the_title_tells_how_far(
    make_app: MakeApp, fake: FakeHub, tmp_path: Path
) -> None:
    fake.stall = threading.Event()
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await seen(pilot, "1 model in")
        await start(app, pilot, tmp_path)
        await pilot.press("escape")
        await seen(pilot, "↓ ")
        assert isinstance(app.screen, ModelsScreen)
        await pilot.press("d")  # and back
        await came(pilot, lambda: isinstance(app.screen, DownloadsScreen), "the download")
        await pilot.press("escape")
        fake.stall.set()
        await came(pilot, lambda: not app.downloading, "the end")
        await told(pilot, "Downloaded")
        await came(pilot, lambda: "↓" not in text_of(app).splitlines()[0], "no figures")


async def start(app: LightX2VApp, pilot: Pilot[int], place: Path, variant: str = "fp8") -> None:
    """Begin to fetch a variant into a place."""
    from lightx2v_tui.downloads.parts import choose
    from lightx2v_tui.messages import DownloadWanted

    repository, parts = fetching.look(REPO)
    plan = fetching.plan(repository, parts, choose(parts, [variant]), place)
    app.post_message(DownloadWanted(plan))
    shown = lambda: any(isinstance(screen, DownloadsScreen) for screen in app.screen_stack)  # noqa: E731
    await came(pilot, shown, "the download")


async def test_stopping_asks_keeps_what_arrived_and_can_go_on(
    make_app: MakeApp, fake: FakeHub, tmp_path: Path, size: tuple[int, int]
) -> None:
    fake.stall = threading.Event()
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await seen(pilot, "1 model in")
        await start(app, pilot, tmp_path)
        await pilot.press("s")
        await told(pilot, "It is under way")
        await pilot.press("c")
        await came(pilot, lambda: isinstance(app.screen, Question), "a question")
        await pilot.press("n")
        assert app.downloading
        await pilot.press("c", "y")
        await seen(pilot, "stopped; what has arrived is kept")
        assert not app.downloading
        fake.stall.set()
        fake.stall = None
        await pilot.press("s")
        await seen(pilot, "complete: it is in")
        assert not list(tmp_path.rglob("*.incomplete"))


async def test_another_waits_for_the_first(
    make_app: MakeApp, fake: FakeHub, tmp_path: Path
) -> None:
    fake.stall = threading.Event()
    app = make_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await seen(pilot, "1 model in")
        await start(app, pilot, tmp_path)
        await start(app, pilot, tmp_path, "int8")
        await seen(pilot, "then lightx2v/Wan2.1-T2V")
        await pilot.press("n")
        await came(pilot, lambda: isinstance(app.screen, DownloadScreen), "a choice")
        fake.stall.set()
        await came(pilot, lambda: not app.downloading, "the end of both")
    assert (tmp_path / NAME / "distill_fp8").is_dir()
    assert (tmp_path / NAME / "distill_int8").is_dir()


@pytest.mark.usefixtures("fake")
async def test_what_the_hub_refuses_is_an_error_to_read(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await seen(pilot, "1 model in")
        await pilot.press("d")
        await came(pilot, lambda: isinstance(app.screen, DownloadScreen), "the choice")
        await pilot.press(*"lightx2v/Encoder", "enter")
        await came(pilot, lambda: isinstance(app.screen, ErrorDialog), "the error")
        await until_words(pilot, "Did you mean lightx2v/Encoders?", SECONDS)
        await pilot.press("escape")
        assert isinstance(app.screen, DownloadScreen)
        assert app.screen.has_class("-choosing")


async def test_a_refusal_leaves_the_list_as_it_was(make_app: MakeApp, fake: FakeHub) -> None:
    fake.repositories.clear()
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await seen(pilot, "1 model in")
        await pilot.press("d")
        await came(pilot, lambda: isinstance(app.screen, DownloadScreen), "the choice")
        known = app.screen.query_one("#known", OptionList)
        count = known.option_count
        assert count > 1
        await pilot.press("down", "enter")
        await came(pilot, lambda: isinstance(app.screen, ErrorDialog), "the error")
        await pilot.press("escape")
        assert known.option_count == count


async def test_a_download_that_fails_is_told_wherever_one_is(
    make_app: MakeApp, fake: FakeHub, tmp_path: Path
) -> None:
    fake.statuses["distill_fp8/non_block.safetensors"] = [403]
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await seen(pilot, "1 model in")
        await start(app, pilot, tmp_path)
        await came(pilot, lambda: isinstance(app.screen, ErrorDialog), "the error")
        await seen(pilot, "403")
        await pilot.press("escape")
        await seen(pilot, "failed:")


@pytest.mark.usefixtures("fake")
async def test_a_place_that_cannot_be_used_says_why(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await seen(pilot, "1 model in")
        app.screen.post_message(downloads_opened())
        await seen(pilot, "What to fetch")
        app.screen.query_one(PathInput).value = str(tmp_path / "file")
        await until_words(pilot, "is a file, not a folder")
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert isinstance(app.screen, DownloadScreen)


async def test_quitting_while_something_is_fetched_asks_first(
    make_app: MakeApp, fake: FakeHub, tmp_path: Path
) -> None:
    fake.stall = threading.Event()
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await seen(pilot, "1 model in")
        await start(app, pilot, tmp_path)
        await pilot.press("q")
        await came(pilot, lambda: isinstance(app.screen, Question), "a question")
        await pilot.press("y")
        await pilot.pause()
    assert app.return_code == 0
    assert not app.downloading


@pytest.mark.usefixtures("fake")
async def test_escape_leads_back_step_by_step(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await seen(pilot, "1 model in")
        app.screen.post_message(downloads_opened())
        await seen(pilot, "What to fetch")
        await pilot.press("escape")
        await seen(pilot, "Known repositories")
        await pilot.press("down", "down", "up")
        assert app.focused is app.screen.query_one("#known")
        await pilot.press("escape")
        assert isinstance(app.screen, ModelsScreen)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("size_", [(20, 5), (40, 20), (200, 60)])
async def test_no_terminal_is_too_odd_for_downloads(
    make_app: MakeApp, tmp_path: Path, size_: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size_) as pilot:
        await came(pilot, lambda: not app.screen.query_one("#models").loading, "the models")
        app.screen.post_message(downloads_opened())
        await came(pilot, lambda: app.screen.has_class("-chosen"), "the variants")
        await start(app, pilot, tmp_path)
        await came(pilot, lambda: not app.downloading, "the end")
        await pilot.press("escape", "escape")


def test_every_known_repository_is_told_in_words() -> None:
    told = {name: about(name) for name in MODELS}
    assert all(told.values()), [name for name, text in told.items() if not text]
    assert told["lightx2v/Wan2.1-I2V-14B-480P-StepDistill-CfgDistill-Lightx2v"] == (
        "image to video, 4 steps"
    )
    assert told["lightx2v/Encoders"] == "T5, CLIP and tokenizer"
