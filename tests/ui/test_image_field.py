"""The image of image-to-video: named, looked at, and told in words where it is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from textual import on
from textual.app import App, ComposeResult
from textual.widgets import Input

from lightx2v_tui.widgets.image_field import ImageField
from lightx2v_tui.widgets.path_input import PathInput
from lightx2v_tui.widgets.picture import HALF_BLOCK, PictureView
from tests.ui.fields import on_screen, settle


class Form(App[None]):
    """The field, and one after it."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.animation_level = "none"
        self.given = path
        self.changes: list[Path | None] = []
        self.typed: list[str] = []

    def compose(self) -> ComposeResult:
        yield ImageField(self.given)
        yield Input(compact=True, id="after")

    @on(ImageField.Changed)
    def note(self) -> None:
        self.changes.append(self.query_one(ImageField).path)

    @on(Input.Changed)
    def note_typed(self, event: Input.Changed) -> None:
        self.typed.append(event.value)

    def text(self) -> str:
        return "\n".join(on_screen(self))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (400, 200), (200, 40, 40)).save(tmp_path / "first [b]frame.png")
    return tmp_path / "first [b]frame.png"


async def test_nothing_is_shown_for_no_image(size: tuple[int, int]) -> None:
    form = Form()
    async with form.run_test(size=size) as pilot:
        await pilot.pause()
        assert form.query_one(ImageField).path is None
        assert not form.query_one(PictureView).display
        assert "PNG, JPEG or WebP" in form.text()


async def test_an_image_is_shown_with_its_size(image: Path, size: tuple[int, int]) -> None:
    form = Form(image)
    async with form.run_test(size=size) as pilot:
        form.query_one(PictureView).shades = False
        await settle(pilot, lambda: "400x200 pixels" in form.text(), "its size")
        drawn = [line for line in on_screen(form) if HALF_BLOCK in line]
        assert len(drawn) == 8
        assert {line.count(HALF_BLOCK) for line in drawn} == {32}
        assert form.changes == []


async def test_another_image_is_told_at_once_and_looked_at_soon(image: Path) -> None:
    form = Form()
    async with form.run_test() as pilot:
        form.query_one(PathInput).value = str(image)
        await pilot.pause()
        assert form.changes == [image]
        await settle(pilot, lambda: "400x200 pixels" in form.text(), "its size")
        form.query_one(PathInput).value = ""
        await settle(pilot, lambda: not form.query_one(PictureView).display, "no picture")
        assert form.changes == [image, None]
        assert form.typed == []


async def test_home_is_expanded(own_home: Path) -> None:
    form = Form(Path("~/x.png"))
    async with form.run_test():
        assert form.query_one(ImageField).path == own_home / "x.png"


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone.png", "No such file"), ("folder.png", "not a file"), ("text.png", "not an image"),
     ("huge.png", "too large")],
)  # fmt: skip
async def test_what_is_no_image_is_told(name: str, words: str, tmp_path: Path) -> None:
    from tests.unit.test_pictures import png_of

    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "huge.png").write_bytes(png_of(20_000, 20_000))
    form = Form(tmp_path / name)
    async with form.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: words in form.text().replace("\n", " "), words)
        assert form.query_one(ImageField).has_class("-problem")
        assert not form.query_one(PictureView).display


async def test_the_newest_name_wins(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    from lightx2v_tui.widgets import image_field

    slow, looked, real = Event(), [], image_field._look_at

    def look(path: Path) -> image_field.Look:
        if path.name == "slow.png":
            slow.wait(20)
        looked.append(path.name)
        return real(path)

    monkeypatch.setattr(image_field, "_look_at", look)
    form = Form(Path("/slow.png"))
    async with form.run_test() as pilot:
        form.query_one(PathInput).value = str(image)
        await settle(pilot, lambda: "400x200" in form.text(), "the newer image")
        slow.set()
        await settle(pilot, lambda: "slow.png" in looked, "the older answer")
        await pilot.pause()
        assert "400x200" in form.text()
