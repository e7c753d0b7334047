"""The LoRA panel: what is applied, how strongly, in which order, and what of it fits."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from engine.spec.job import Lora
from lightx2v_tui.catalog import Kind, ModelRoot
from lightx2v_tui.presets.root import model_at
from lightx2v_tui.widgets.lora_rows import STRONGEST, LoraRows
from lightx2v_tui.widgets.loras import LoraPanel
from lightx2v_tui.widgets.path_input import PathInput
from tests.ui.fields import on_screen, settle


class Form(App[None]):
    """The panel, and a field after it."""

    def __init__(self, root: ModelRoot, loras: Sequence[Lora] = ()) -> None:
        super().__init__()
        self.animation_level = "none"
        self.root, self.given = root, loras
        self.changes: list[tuple[Lora, ...]] = []
        self.typed: list[str] = []

    def compose(self) -> ComposeResult:
        yield LoraPanel(self.root, self.given)
        yield Input(compact=True, id="after")

    def on_mount(self) -> None:
        self.query_one(LoraRows).focus()

    @on(LoraPanel.Changed)
    def note(self) -> None:
        self.changes.append(self.panel.loras)

    @on(Input.Changed)
    @on(Input.Submitted)
    def note_typed(self, event: Input.Changed | Input.Submitted) -> None:
        self.typed.append(event.value)

    @property
    def panel(self) -> LoraPanel:
        return self.query_one(LoraPanel)


def dit_of(root: ModelRoot) -> tuple[Path, ...]:
    dit = root.find(Kind.DIT)
    assert dit is not None
    return dit.files


def resized(source: Path, target: Path) -> Path:
    """A copy of a LoRA whose matrices are for a model of another width."""
    with source.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    place = 0
    for name, entry in header.items():
        if name != "__metadata__":
            entry["shape"] = [2 * side if side > 8 else side for side in entry["shape"]]
            nbytes = 2 * entry["shape"][0] * entry["shape"][1]
            entry["dtype"], entry["data_offsets"] = "BF16", [place, place + nbytes]
            place += nbytes
    text = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + bytes(place))
    return target


@pytest.fixture
def root(model_copy: Path) -> ModelRoot:
    """The demo model with three LoRAs: one that fits, one too wide, one of something else."""
    (own,) = (model_copy / "loras").iterdir()
    shutil.copy(own, model_copy / "loras" / "a_fits.safetensors")
    resized(own, model_copy / "loras" / "b_wide.safetensors")
    own.rename(model_copy / "loras" / "c_[b]last.safetensors")
    root = model_at(model_copy)
    assert root is not None
    return root


def names(loras: Sequence[Lora]) -> list[str]:
    return [lora.path.name for lora in loras]


def line(form: Form, text: str) -> str:
    return next(line for line in on_screen(form) if text in line)


async def told(pilot: Pilot[None], text: str) -> None:
    await settle(pilot, lambda: any(text in line for line in on_screen(pilot.app)), text)


async def test_a_model_without_loras_has_one_line(root: ModelRoot, size: tuple[int, int]) -> None:
    form = Form(replace(root, loras=()))
    async with form.run_test(size=size) as pilot:
        assert form.panel.size.height == 1
        assert "no LoRAs found; + adds a file" in on_screen(form)[0]
        await pilot.press("space")
        assert form.focused is form.query_one(PathInput)


async def test_space_applies_and_left_and_right_weigh(
    root: ModelRoot, size: tuple[int, int]
) -> None:
    form = Form(root)
    async with form.run_test(size=size) as pilot:
        assert form.panel.loras == ()
        await pilot.press("space")
        assert form.panel.loras == (Lora(root.path / "loras" / "a_fits.safetensors", 1.0),)
        await pilot.press("left", "left", "right", "h")
        assert form.panel.loras[0].strength == 0.9
        assert line(form, "a_fits").split()[:2] == ["●", "0.90"]
        await pilot.press("down", "space", "up", "space")
        assert names(form.panel.loras) == ["b_wide.safetensors"]
        assert [len(loras) for loras in form.changes] == [1, 1, 1, 1, 1, 2, 1]


async def test_strengths_are_typed(root: ModelRoot) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        await pilot.press("space", "0", "full_stop", "3", "enter")
        assert form.panel.loras[0].strength == 0.3
        await pilot.press("minus", "1", "comma", "5", "down")
        assert form.panel.loras[0].strength == -1.5
        await pilot.press("up", "9", "9", "tab")
        assert form.panel.loras[0].strength == STRONGEST
        await pilot.press("shift+tab", "2", "escape", "1", "backspace", "enter")
        assert form.panel.loras[0].strength == STRONGEST
        await pilot.press("minus", "enter")
        assert form.panel.loras[0].strength == STRONGEST
        assert form.query_one(LoraRows).typed == ""


async def test_strengths_end_somewhere(root: ModelRoot) -> None:
    form = Form(root, [Lora(root.path / "loras" / "a_fits.safetensors", STRONGEST)])
    async with form.run_test() as pilot:
        await pilot.press("right")
        assert form.panel.loras[0].strength == STRONGEST
        await pilot.press("minus", "3", "full_stop", "9", "left", "left", "left")
        assert form.panel.loras[0].strength == -STRONGEST


async def test_the_order_can_be_changed(root: ModelRoot) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        await pilot.press("space", "down", "space", "shift+up")
        assert names(form.panel.loras) == ["b_wide.safetensors", "a_fits.safetensors"]
        assert form.query_one(LoraRows).cursor == 0
        await pilot.press("K", "J", "J", "J")
        assert form.query_one(LoraRows).cursor == 2
        assert names(form.panel.loras) == ["a_fits.safetensors", "b_wide.safetensors"]


async def test_what_was_wanted_stands_in_front(root: ModelRoot, tmp_path: Path) -> None:
    wanted = [Lora(tmp_path / "mine.safetensors", 0.7),
              Lora(root.path / "loras" / "b_wide.safetensors", 0.25)]  # fmt: skip
    form = Form(root, wanted)
    async with form.run_test():
        assert form.panel.loras == tuple(wanted)
        shown = [line.split() for line in on_screen(form)[:4]]
        assert [words[:2] for words in shown] == [
            ["●", "0.70"],
            ["●", "0.25"],
            ["○", "1.00"],
            ["○", "1.00"],
        ]
        assert form.changes == []


async def test_it_says_what_fits(root: ModelRoot, size: tuple[int, int]) -> None:
    form = Form(root)
    async with form.run_test(size=size) as pilot:
        form.panel.show_dit(dit_of(root))
        await told(pilot, "keys")
        await settle(pilot, lambda: "of" in line(form, "a_fits"), "counts")
        counted = line(form, "a_fits").split()
        assert counted[-1] == "keys"
        assert counted[-2] == counted[-4] != "0"
        await settle(pilot, lambda: line(form, "b_wide").endswith("another size"), "width")
        await pilot.press("down")
        await told(pilot, "is for a model of another size")


async def test_another_dit_is_matched_anew(root: ModelRoot, tmp_path: Path) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        form.panel.show_dit(dit_of(root))
        await settle(pilot, lambda: "keys" in line(form, "a_fits"), "counts")
        form.panel.show_dit((tmp_path / "gone.safetensors",))
        await settle(pilot, lambda: "keys" not in line(form, "a_fits"), "the DiT is gone")
        form.panel.show_dit(())
        await settle(pilot, lambda: line(form, "a_fits").endswith("a_fits.safetensors"), "no DiT")


async def test_names_are_no_markup(root: ModelRoot) -> None:
    form = Form(root)
    async with form.run_test():
        assert line(form, "c_[b]last.safetensors")


async def test_a_file_is_added_by_its_path(root: ModelRoot, tmp_path: Path) -> None:
    shutil.copy(root.path / "loras" / "a_fits.safetensors", tmp_path / "mine.safetensors")
    form = Form(root)
    async with form.run_test() as pilot:
        form.panel.show_dit(dit_of(root))
        await pilot.press("plus")
        form.query_one(PathInput).value = str(tmp_path / "mine.safetensors")
        await pilot.press("enter")
        assert form.panel.loras == (Lora(tmp_path / "mine.safetensors", 1.0),)
        assert form.focused is form.query_one(LoraRows)
        await settle(pilot, lambda: "keys" in line(form, "mine.safetensors"), "counts")
        assert form.typed == []
        await pilot.press("x")
        assert form.panel.loras == ()
        assert not any("mine" in line for line in on_screen(form))


async def test_the_same_file_is_added_once(root: ModelRoot) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        for _ in range(2):
            await pilot.press("plus")
            form.query_one(PathInput).value = str(root.path / "loras" / "b_wide.safetensors")
            await pilot.press("enter")
        assert names(form.panel.loras) == ["b_wide.safetensors"]
        assert len(form.query_one(LoraRows).entries) == 3
        await pilot.press("x")
        assert form.panel.loras == ()
        assert len(form.query_one(LoraRows).entries) == 3


async def test_a_file_that_is_not_there_is_told(root: ModelRoot, tmp_path: Path) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        form.panel.show_dit(dit_of(root))
        await pilot.press("plus")
        form.query_one(PathInput).value = str(tmp_path / "gone.safetensors")
        await pilot.press("enter")
        await told(pilot, "gone.safetensors is missing")
        await told(pilot, f"in {tmp_path}"[:40])
        assert line(form, "● ").endswith("cannot be read")


async def test_adding_is_left_with_escape(root: ModelRoot) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        await pilot.press("plus", "x", "escape")
        await pilot.press("escape")
        assert form.focused is form.query_one(LoraRows)
        assert not form.query_one(PathInput).display
        assert form.panel.loras == ()


async def test_many_scroll_and_narrow_screens_are_kept(root: ModelRoot) -> None:
    many = [Lora(Path(f"/l/{number:02}.safetensors"), 1.0) for number in range(20)]
    form = Form(root, many)
    async with form.run_test(size=(30, 14)) as pilot:
        await pilot.press(*["down"] * 19)
        assert any("19.safetensors" in line for line in on_screen(form))
        assert all(widget.region.right <= 30 for widget in form.query("*"))
        assert form.query_one("#after").region.bottom <= 14


async def test_the_mouse_switches(root: ModelRoot) -> None:
    form = Form(root)
    async with form.run_test() as pilot:
        await pilot.click(LoraRows, offset=(4, 1))
        assert names(form.panel.loras) == ["b_wide.safetensors"]
