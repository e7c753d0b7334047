"""A model in words: the row of the list, and the pane that explains it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lightx2v_tui.catalog import ModelRoot, inspect_root
from lightx2v_tui.screens.describe import explain, row
from lightx2v_tui.screens.model_table import NAME
from tests.unit import trees
from tests.unit.helpers import dit_block, write_root, write_safetensors


def look(path: Path) -> ModelRoot:
    root = inspect_root(path)
    assert root is not None
    return root


def told(path: Path) -> list[str]:
    return explain(look(path), None, remembered=False).plain.splitlines()


def badges(path: Path) -> tuple[str, set[str]]:
    """The badges of a model's row, and their styles."""
    cell = row(look(path), remembered=False, twin=False)["Variants"]
    return cell.plain.strip(), {str(span.style) for span in cell.spans}


@pytest.mark.parametrize("name", ["red\x1b[31m", "two\nlines", "c1\x9b1m", "bell\a"])
def test_names_from_the_disk_hold_nothing_that_a_terminal_obeys(tmp_path: Path, name: str) -> None:
    path = write_root(tmp_path / name, {"fp8": "fp8"})
    (path / "fp8" / "models_t5_umt5-xxl-enc-fp8.pth").unlink()
    (path / "loras" / "step_distill_lora_rank64.safetensors").rename(
        path / "loras" / f"{name}.safetensors"
    )
    root = look(path)
    for content in (
        explain(root, None, remembered=False),
        *row(root, remembered=False, twin=False).values(),
    ):
        assert all(line.isprintable() for line in content.plain.split("\n"))
    assert "\n" not in row(root, remembered=False, twin=False)[NAME].plain


def test_sizes_and_schemes_stand_apart(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"fp8": "fp8"})
    (path / "fp8" / "Wan2.1_VAE.pth").write_bytes(b"")
    lines = [line.split() for line in told(path)]
    assert ["VAE", "unreadable", "0", "B"] in lines


def test_a_model_that_cannot_be_read_has_a_question_mark_for_a_task(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"original": "bf16"})
    os.truncate(path / "original" / "distill_model.safetensors", 20)
    assert row(look(path), remembered=False, twin=False)["Task"].plain == "?"


def test_the_marks_of_badges_are_explained_where_they_occur(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"original": "bf16", "fp8": "fp8", "int8": "int8"})
    (path / "fp8" / "models_t5_umt5-xxl-enc-fp8.pth").unlink()
    (path / "int8" / "block_1.safetensors").unlink()
    assert badges(path) == ("bf16 fp8+ int8!", {"$success", "$warning"})
    assert "+ parts from elsewhere, ! something is missing" in told(path)
    whole = write_root(tmp_path / "Whole", {"original": "bf16"})
    assert not any("something is missing" in line for line in told(whole))


def test_a_variant_that_does_not_run_has_no_green_badge_either(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"original": "bf16", "fp8": "fp8"})
    write_safetensors(path / "fp8" / "block_1.safetensors", dit_block(1, "I8"))
    assert badges(path) == ("bf16 bf16+f32+f8_e4m3+i8", {"$success", "dim"})


@pytest.mark.parametrize("make", [trees.official_vace, trees.official_pair, trees.nvfp4_file])
def test_a_model_that_does_not_run_has_no_green_badge(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "Model")
    assert badges(path)[1] == {"dim"}
    assert any("complete, not runnable yet" in line for line in told(path))


def test_the_ram_of_the_machine_decides_what_is_recommended(demo_model: Path) -> None:
    root = look(demo_model)
    assert "DiT bf16" in explain(root, None, remembered=False).plain
    crowded = explain(root, None, remembered=False, ram=1).plain
    assert "DiT bf16" not in crowded
    assert "of free RAM" in crowded
