"""What can be picked of a model, what is recommended for a GPU, and the preset that follows."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.precision import Precision
from lightx2v_tui.catalog import Kind, ModelRoot, inspect_root
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.launch import runnable
from lightx2v_tui.launch.choices import (
    Choice,
    opened,
    preset_for,
    recommended,
    why_recommended,
    with_choice,
)
from lightx2v_tui.launch.runnable import reason_no_vae, reason_not
from lightx2v_tui.presets import Preset
from tests.unit.helpers import DISTILLED, PLAIN, dit_block, gpu, write_root, write_safetensors

BF16, FP8, INT8 = Precision.BF16, Precision.FP8, Precision.INT8
H100, A100, RTX3090, RTX4090, V100 = (gpu(c) for c in ((9, 0), (8, 0), (8, 6), (8, 9), (7, 0)))


def look(path: Path) -> ModelRoot:
    root = inspect_root(path)
    assert root is not None
    return root


def paths(preset: Preset) -> list[Path]:
    named = (
        preset.model_path,
        preset.dit,
        preset.t5,
        preset.tokenizer,
        preset.vae,
        preset.tiny_vae,
    )
    return [path for path in named if path is not None]


@pytest.mark.parametrize(
    ("card", "expected"),
    [(H100, FP8), (RTX4090, FP8), (A100, INT8), (RTX3090, INT8), (V100, BF16), (None, BF16)],
)
def test_the_best_that_the_gpu_computes_is_recommended(
    demo_model: Path, card: Gpu | None, expected: Precision
) -> None:
    assert recommended(look(demo_model), card) == Choice(expected, expected, tiny_vae=False)


@pytest.mark.parametrize(
    ("gone", "card", "expected"),
    [
        (["distill_fp8"], H100, INT8),
        (["distill_fp8", "distill_int8"], H100, BF16),
        (["distill_int8"], A100, FP8),
        (["distill_models"], None, INT8),
        (["distill_models", "distill_fp8"], None, INT8),
    ],
)
def test_only_what_is_there_is_recommended(
    model_copy: Path, gone: list[str], card: Gpu | None, expected: Precision
) -> None:
    for name in gone:
        shutil.rmtree(model_copy / name)
    assert recommended(look(model_copy), card).dit is expected


def test_a_complete_variant_is_preferred_to_a_faster_broken_one(model_copy: Path) -> None:
    (model_copy / "distill_fp8" / "block_2.safetensors").unlink()
    assert recommended(look(model_copy), H100).dit is INT8


@pytest.mark.parametrize("broken", ["models_t5_umt5-xxl-enc-fp8.pth", "block_2.safetensors"])
def test_a_part_is_not_passed_over_for_what_is_broken_beside_it(
    model_copy: Path, broken: str
) -> None:
    (model_copy / "distill_fp8" / broken).unlink()
    dit, t5 = (FP8, INT8) if "t5" in broken else (INT8, FP8)
    assert recommended(look(model_copy), H100) == Choice(dit, t5, tiny_vae=False)


def weigh(root: ModelRoot, dit: Precision, t5: Precision) -> int:
    picked = root.find(Kind.DIT, dit), root.find(Kind.T5, t5)
    return sum(component.nbytes for component in picked if component)


@pytest.mark.parametrize(
    ("fits", "expected"),
    [((BF16, BF16), (BF16, BF16)), ((INT8, BF16), (INT8, BF16)), ((INT8, INT8), (INT8, INT8))],
)
def test_on_a_cpu_the_dit_then_t5_step_down_to_what_the_ram_holds(
    demo_model: Path, fits: tuple[Precision, Precision], expected: tuple[Precision, Precision]
) -> None:
    root = look(demo_model)
    ram = int(weigh(root, *fits) / 0.8) + 1
    best = recommended(root, None, ram)
    assert (best.dit, best.t5) == expected
    told = why_recommended(root, Kind.DIT, None, ram)
    assert ("too much for" in told) is (best.dit is not BF16)
    assert recommended(root, None).dit is BF16
    assert "too much" not in why_recommended(root, Kind.DIT, None)


def test_where_nothing_fits_the_smallest_is_recommended(demo_model: Path) -> None:
    root = look(demo_model)
    best = recommended(root, None, 1)
    least = min(weigh(root, dit, t5) for dit in Precision for t5 in Precision)
    assert weigh(root, best.dit, best.t5) == least


def test_what_is_too_much_for_the_gpu_is_not_recommended(demo_model: Path) -> None:
    small = replace(V100, total_bytes=1000)
    assert recommended(look(demo_model), small) == Choice(INT8, INT8, tiny_vae=False)
    assert "too much" in why_recommended(look(demo_model), Kind.DIT, small)


def test_a_missing_text_encoder_is_taken_from_another_precision(model_copy: Path) -> None:
    shutil.rmtree(model_copy / "distill_models")
    (model_copy / "distill_int8" / "models_t5_umt5-xxl-enc-int8.pth").unlink()
    (model_copy / "distill_fp8" / "block_2.safetensors").unlink()
    assert recommended(look(model_copy), A100) == Choice(INT8, FP8, tiny_vae=False)


def test_the_tiny_vae_is_recommended_only_where_there_is_no_other(model_copy: Path) -> None:
    assert not recommended(look(model_copy), None).tiny_vae
    for path in model_copy.glob("*/Wan2.1_VAE.pth"):
        path.unlink()
    assert recommended(look(model_copy), None).tiny_vae
    for path in model_copy.glob("*/taew2_1.pth"):
        path.unlink()
    assert not recommended(look(model_copy), None).tiny_vae


def test_everything_of_a_whole_model_can_be_picked(demo_model: Path) -> None:
    root = look(demo_model)
    for kind in (Kind.DIT, Kind.T5):
        assert [reason_not(root, kind, precision) for precision in Precision] == ["", "", ""]
    assert reason_no_vae(root, tiny=True) == reason_no_vae(root, tiny=False) == ""
    assert runnable.reason_not_runnable(root) == ""


def test_each_no_has_its_reason(model_copy: Path) -> None:
    shutil.rmtree(model_copy / "distill_int8")
    (model_copy / "distill_fp8" / "block_1.safetensors").unlink()
    os.truncate(model_copy / "distill_models" / "models_t5_umt5-xxl-enc-bf16.pth", 1000)
    for path in model_copy.glob("*/taew2_1.pth"):
        path.unlink()
    root = look(model_copy)
    assert reason_not(root, Kind.DIT, INT8) == "no int8 DiT in this folder"
    assert "block_1.safetensors" in reason_not(root, Kind.DIT, FP8)
    assert "truncated" in reason_not(root, Kind.T5, BF16)
    assert reason_no_vae(root, tiny=True) == "no taew2_1 in this folder"
    assert reason_not(root, Kind.DIT, BF16) == ""
    assert reason_not(root, Kind.CLIP, FP8) == "no fp8 CLIP in this folder"


def test_codes_without_scales_say_how_they_are_stored(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"distill_fp8": "fp8"})
    for layer in range(2):
        block = dit_block(layer, "F8_E4M3", scaled=False)
        write_safetensors(path / "distill_fp8" / f"block_{layer}.safetensors", block)
    assert "no scale" in reason_not(look(path), Kind.DIT, FP8)
    assert "no usable DiT" in runnable.reason_not_runnable(look(path))


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        ("*block*.safetensors", "DiT"),
        ("models_t5*", "no usable T5"),
        ("*.pth", "no usable T5"),
        ("google", "tokenizer"),
    ],
)
def test_a_model_that_lacks_a_part_cannot_run_and_says_which(
    tmp_path: Path, remove: str, said: str
) -> None:
    path = write_root(tmp_path / "Model", {"distill_fp8": "fp8"})
    assert runnable.reason_not_runnable(look(path)) == ""
    for gone in (path / "distill_fp8").glob(remove):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert said in runnable.reason_not_runnable(look(path))


def test_without_any_vae_nothing_runs(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"distill_fp8": "fp8"})
    (path / "distill_fp8" / "Wan2.1_VAE.pth").unlink()
    assert runnable.reason_not_runnable(look(path)) == ""
    (path / "distill_fp8" / "taew2_1.pth").unlink()
    assert "no usable VAE" in runnable.reason_not_runnable(look(path))


@pytest.mark.parametrize(
    "choice", [Choice(a, b, t) for a in Precision for b in (BF16, INT8) for t in (True, False)]
)
def test_a_preset_names_existing_absolute_paths_and_what_was_chosen(
    demo_model: Path, choice: Choice
) -> None:
    preset = preset_for(look(demo_model), choice)
    assert len(paths(preset)) == 6
    assert all(path.is_absolute() and path.exists() for path in paths(preset))
    assert (preset.dit_precision, preset.t5_precision) == (choice.dit, choice.t5)
    assert preset.use_tiny_vae is choice.tiny_vae
    assert preset.dit is not None
    assert preset.dit.is_dir() is choice.dit.quantized
    assert (preset.model_cls, preset.task, preset.enable_cfg) == ("wan2.1_distill", "t2v", False)
    assert preset.timesteps == (1000, 750, 500, 250)
    assert preset.architecture == look(demo_model).architecture


def test_paths_are_absolute_even_where_the_root_was_named_from_here(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo_model.parent)
    preset = preset_for(look(Path(demo_model.name)), Choice(FP8, FP8, tiny_vae=False))
    assert all(path.is_absolute() for path in paths(preset))


def test_a_model_that_lacks_parts_still_gives_a_preset(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"distill_fp8": "fp8"})
    for name in ("models_t5_umt5-xxl-enc-fp8.pth", "Wan2.1_VAE.pth"):
        (path / "distill_fp8" / name).unlink()
    preset = preset_for(look(path), Choice(FP8, FP8, tiny_vae=True))
    assert (preset.t5, preset.vae) == (None, None)
    assert preset.tiny_vae is not None


@pytest.mark.parametrize("folders", [PLAIN, DISTILLED])
def test_the_class_of_the_model_follows_the_layout(tmp_path: Path, folders: dict[str, str]) -> None:
    root = look(write_root(tmp_path / "Model", folders))
    preset = preset_for(root, recommended(root, None))
    assert preset.model_cls == ("wan2.1_distill" if root.distilled else "wan2.1")


def test_a_choice_is_a_value() -> None:
    assert replace(Choice(BF16, BF16, tiny_vae=False), dit=FP8) == Choice(FP8, BF16, tiny_vae=False)


def test_a_form_opens_on_what_a_preset_says_and_leaves_nothing_open(demo_model: Path) -> None:
    root = look(demo_model)
    said = Preset(model_path=demo_model, width=64, t5_precision=INT8, use_tiny_vae=True)
    full, choice = opened(said, root)
    assert choice == Choice(BF16, INT8, tiny_vae=True)
    assert (full.width, full.height, full.timesteps) == (64, 480, (1000, 750, 500, 250))
    assert all(path.exists() for path in paths(full))
    assert opened(full, root) == (full, choice)


def test_a_file_that_is_named_alone_has_its_own_precision(demo_model: Path) -> None:
    root = look(demo_model)
    fp8 = preset_for(root, Choice(FP8, INT8, tiny_vae=False))
    named = Preset(model_path=demo_model, dit=fp8.dit, t5=fp8.t5)
    full, choice = opened(named, root)
    assert choice == Choice(FP8, INT8, tiny_vae=False)
    assert (full.dit_precision, full.t5_precision) == (FP8, INT8)


def test_files_of_ones_own_stay_until_another_precision_is_picked(demo_model: Path) -> None:
    root = look(demo_model)
    mine = replace(
        preset_for(root, Choice(BF16, BF16, tiny_vae=False)), t5=Path("/elsewhere/t5.pth"),
        vae=Path("/elsewhere/vae.pth"),
    )  # fmt: skip
    kept = with_choice(mine, root, Choice(FP8, BF16, tiny_vae=True))
    assert (kept.t5, kept.vae) == (mine.t5, mine.vae)
    assert kept.dit is not None
    assert (kept.dit.name, kept.dit_precision, kept.use_tiny_vae) == ("distill_fp8", FP8, True)
    other = with_choice(mine, root, Choice(BF16, INT8, tiny_vae=False))
    assert other.dit == mine.dit
    assert other.t5 is not None
    assert (other.t5.parent.name, other.t5_precision) == ("distill_int8", INT8)
    assert with_choice(mine, root, Choice(BF16, BF16, tiny_vae=False)) == mine


def test_a_preset_of_the_plain_class_gets_no_list_of_steps(demo_model: Path) -> None:
    root = look(demo_model)
    full, _ = opened(Preset(model_cls="wan2.1", model_path=demo_model), root)
    assert full.timesteps is None
