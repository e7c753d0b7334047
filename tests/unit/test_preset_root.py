"""A preset's model: one folder may hold several, and its parts may lie in others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.errors import CheckpointError, JobError
from engine.spec.precision import Precision
from lightx2v_tui.catalog import Kind, Skipped, inspect_roots
from lightx2v_tui.cli import main
from lightx2v_tui.commands import scan
from lightx2v_tui.launch import choices
from lightx2v_tui.launch.runnable import reason_not_runnable
from lightx2v_tui.paths import model_dirs
from lightx2v_tui.presets import Preset, read
from lightx2v_tui.presets.root import model_at, model_of, on_model
from tests.unit.helpers import dit, write_folder, write_safetensors

NAMES = ("wan2.1_t2v_14b_lightx2v_4step", "wan2.1_i2v_480p_lightx2v_4step")


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Single files of two models in one folder, and everything else they need."""
    folder = write_folder(tmp_path / "models", "bf16", image=True)
    (folder / "distill_model.safetensors").unlink()
    (folder / "config.json").unlink()
    for name, image in zip(NAMES, (False, True), strict=True):
        write_safetensors(folder / f"{name}.safetensors", dit(image=image))
        codes = dit(dtype="I8", image=image)
        write_safetensors(
            folder / f"{name.replace('_lightx2v', '_int8_lightx2v')}.safetensors", codes
        )
    return folder


def test_a_folder_of_several_models_wants_to_know_which(several: Path) -> None:
    with pytest.raises(JobError, match="2 models") as caught:
        model_at(several)
    assert ".safetensors" in caught.value.fix


@pytest.mark.parametrize(("name", "task"), [*zip(NAMES, ("t2v", "i2v"), strict=True)])
def test_a_file_names_its_model(several: Path, name: str, task: str) -> None:
    root = model_at(several / f"{name}.safetensors")
    assert root is not None
    assert (root.name, root.task) == (name, task)
    assert {variant.label for variant in root.variants} == {"bf16", "int8"}
    preset = choices.preset_for(root, choices.recommended(root, None))
    found = model_of(preset)
    assert found is not None
    assert found.key == root.key


def test_preset_make_of_a_file_takes_its_precision(several: Path, tmp_path: Path) -> None:
    dit_file = several / f"{NAMES[0].replace('_lightx2v', '_int8_lightx2v')}.safetensors"
    assert main(["preset", "make", str(dit_file), "-o", str(tmp_path / "p.json")]) == 0
    preset = read(tmp_path / "p.json")
    assert (preset.dit, preset.dit_precision) == (dit_file, Precision.INT8)
    assert preset.model_path == several


def test_a_preset_moves_to_a_file_of_another_folder(several: Path, demo_model: Path) -> None:
    (root,) = inspect_roots(demo_model)
    preset = choices.preset_for(root, choices.recommended(root, None))
    moved = on_model(preset, several / f"{NAMES[0]}.safetensors")
    assert (moved.model_path, moved.dit) == (several, several / f"{NAMES[0]}.safetensors")
    assert (moved.dit_precision, moved.t5) == (None, None)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        model_at(tmp_path / "gone")
    assert model_at(tmp_path) is None
    assert model_of(Preset()) is None


@pytest.fixture
def scattered(model_copy: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model whose T5 files and tokenizers lie in another folder."""
    other = tmp_path / "elsewhere" / "Encoders"
    other.mkdir(parents=True)
    for variant in ("distill_models", "distill_fp8", "distill_int8"):
        for path in (model_copy / variant).glob("models_t5*"):
            path.rename(other / path.name)
        shutil.rmtree(other / "google", ignore_errors=True)
        (model_copy / variant / "google").rename(other / "google")
    return model_copy, other


def test_preset_make_puts_scattered_parts_together(
    scattered: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, encoders = scattered
    monkeypatch.chdir(encoders.parent)  # the current folder is one of the usual places
    made = tmp_path / "p.json"
    assert main(["preset", "make", str(model), "-o", str(made)]) == 0
    assert "T5 from" in capsys.readouterr().err
    preset = read(made)
    assert preset.t5 is not None
    assert preset.t5.parent == encoders
    assert preset.tokenizer == encoders / "google" / "umt5-xxl"
    root = model_of(preset)
    assert root is not None
    assert reason_not_runnable(root) == ""
    assert root.find(Kind.T5) is not None
    assert main(["run", str(made), "--dry-run"]) == 0


def test_without_the_other_folder_the_model_says_what_it_lacks(
    scattered: tuple[Path, Path], tmp_path: Path
) -> None:
    model, _ = scattered
    root = model_at(model)
    assert root is not None
    assert "T5" in reason_not_runnable(root)
    preset = choices.preset_for(root, choices.recommended(root, None))
    assert preset.t5 is None
    lost = replace(preset, t5=tmp_path / "gone.pth")
    assert model_of(lost) is not None


def test_preset_make_looks_into_the_roots_that_are_named(
    scattered: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, encoders = scattered
    made = tmp_path / "p.json"
    assert main(["--root", str(encoders), "preset", "make", str(model), "-o", str(made)]) == 0
    told = capsys.readouterr().err
    assert "T5 from" in told
    assert "cannot run" not in told
    t5 = read(made).t5
    assert t5 is not None
    assert t5.parent == encoders


def test_a_preset_of_a_model_that_cannot_run_is_written_and_it_is_said(
    scattered: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = scattered
    made = tmp_path / "p.json"
    assert main(["preset", "make", str(model), "-o", str(made)]) == 0
    assert read(made).dit is not None
    why, fix = capsys.readouterr().err.splitlines()
    assert why.startswith(f"note: {model.name} cannot run yet: no usable T5")
    assert f"lightx2v-tui scan {model}" in fix
    assert "--root" in fix


def test_a_preset_of_relative_paths_finds_its_model(
    several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(several.parent)
    folder = Path(several.name)
    root = model_at(folder, folder / f"{NAMES[1]}.safetensors")
    assert root is not None
    assert root.name == NAMES[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c"),
    ],
)
def test_the_cache_of_hugging_face_is_where_its_own_library_has_it(
    given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Path(expected) in model_dirs()


def test_without_a_word_the_cache_is_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Path.home() / ".cache/huggingface/hub" in model_dirs()


@pytest.mark.parametrize("command", ["scan", "doctor"])
def test_a_root_that_is_named_is_looked_at(
    command: str, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(demo_model), "--root", "/gone", command]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert str(demo_model) in told
    assert command == "scan" or "/gone: no such folder" in told


def test_a_file_that_is_scanned_is_no_folder(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, gone = tmp_path / "a.safetensors", tmp_path / "gone"
    file.write_text("")
    assert main(["scan", str(demo_model), str(file), str(gone)]) == 0
    told = capsys.readouterr().out
    assert f"skipped {file}: not a folder" in told
    assert f"skipped {gone}: no such folder" in told
    assert main(["scan", str(file)]) == 2


def test_a_disk_that_did_not_answer_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was asked would be said to be no folder: there is none."""
    dead, link = tmp_path / "dead", tmp_path / "link"
    link.symlink_to(dead)
    skipped = Skipped(dead, "did not answer")
    monkeypatch.setattr(scan, "find_roots", lambda *_: iter([skipped]))
    assert main(["scan", str(dead / "models"), str(link)]) == 0
    told = capsys.readouterr().out
    assert "did not answer" in told
    assert "no such folder" not in told
