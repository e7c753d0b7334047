"""The catalog says what lies on a disk, what is missing, and why, whatever lies there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from engine.spec.errors import CheckpointError
from engine.spec.header import read_header
from engine.spec.precision import Precision
from lightx2v_tui.catalog import Kind, ModelRoot, Skipped, component_at, find_roots, inspect_root
from lightx2v_tui.catalog.disk import disk_of
from lightx2v_tui.catalog.model import Variant
from lightx2v_tui.catalog.recognise import expert_by_name, mark_of
from lightx2v_tui.cli import main
from tests.unit.helpers import (
    DISTILLED,
    LORA,
    PLAIN,
    VAE,
    dit,
    dit_block,
    dit_rest,
    permissions_hold,
    t5,
    write_folder,
    write_root,
    write_safetensors,
)

FP8 = {"distill_fp8": "fp8"}


def scan(*starts: Path) -> list[ModelRoot]:
    return [found for found in find_roots(starts, Event()) if isinstance(found, ModelRoot)]


def only(root: Path) -> ModelRoot:
    (found,) = scan(root)
    return found


def variant_of(root: Path) -> Variant:
    (variant,) = only(root).variants
    return variant


@pytest.fixture
def fp8(tmp_path: Path) -> Path:
    """A root with one FP8 block folder."""
    return write_root(tmp_path / "disk" / "Model", FP8)


@pytest.mark.parametrize(("folders", "distilled"), [(PLAIN, False), (DISTILLED, True)])
@pytest.mark.parametrize(("image", "task"), [(False, "t2v"), (True, "i2v")])
def test_a_complete_root_of_either_layout_is_recognised(
    tmp_path: Path, folders: dict[str, str], distilled: bool, image: bool, task: str
) -> None:
    path = write_root(tmp_path / "disk" / "Wan2.1-14B", folders, image=image)
    root = only(tmp_path / "disk")
    assert (root.path, root.name, root.family) == (path, "Wan2.1-14B", "wan2.1")
    assert (root.task, root.distilled, root.problems) == (task, distilled, ())
    assert [variant.precision.value for variant in root.variants] == ["bf16", "fp8", "int8"]
    assert [variant.folder.name for variant in root.variants] == list(folders)
    assert len(root.loras) == 1
    assert root.architecture is not None
    assert (root.architecture.num_layers, root.architecture.num_heads) == (2, 2)
    for variant in root.variants:
        assert (variant.complete, variant.missing) == (True, ())
        expected = {Kind.DIT, Kind.T5, Kind.VAE, Kind.TINY_VAE} | ({Kind.CLIP} if image else set())
        assert set(variant.components) == expected
        found = variant.components[Kind.DIT]
        assert found.layout == ("file" if variant.precision is Precision.BF16 else "blocks")
        assert found.scheme == variant.precision.value
        assert found.nbytes == sum(path.stat().st_size for path in found.files)
        assert variant.tokenizer == variant.folder / "google" / "umt5-xxl"


def test_the_demo_model_is_complete(demo_model: Path) -> None:
    root = only(demo_model)
    assert [variant.complete for variant in root.variants] == [True, True, True]
    assert [len(root.variants[1].components[Kind.DIT].files), len(root.loras)] == [5, 1]


@pytest.mark.parametrize(
    "family", ["Tiny-T2V-StepDistill-CfgDistill-LightX2V", "Tiny-I2V-LightX2V"]
)
def test_the_golden_roots_are_complete(golden: Path, family: str) -> None:
    root = only(golden / family)
    assert root.problems == ()
    assert all(variant.complete for variant in root.variants)
    assert root.task == ("i2v" if "I2V" in family else "t2v")


MISSING = [
    ("models_t5_umt5-xxl-enc-fp8.pth", "T5"),
    ("google", "tokenizer (google/umt5-xxl/tokenizer.json)"),
]


@pytest.mark.parametrize(("name", "said"), MISSING)
def test_a_missing_part_is_named(fp8: Path, name: str, said: str) -> None:
    gone = fp8 / "distill_fp8" / name
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    variant = variant_of(fp8)
    assert (variant.missing, variant.complete) == ((said,), False)


def test_either_vae_is_enough_and_none_is_not(fp8: Path) -> None:
    (fp8 / "distill_fp8" / "Wan2.1_VAE.pth").unlink()
    assert variant_of(fp8).complete
    (fp8 / "distill_fp8" / "taew2_1.pth").unlink()
    assert variant_of(fp8).missing == ("VAE",)


def test_an_image_model_without_clip_is_incomplete(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", FP8, image=True)
    (root / "distill_fp8" / "clip-fp8.pth").unlink()
    assert variant_of(root).missing == ("CLIP",)


def test_a_folder_without_its_dit_is_incomplete(fp8: Path) -> None:
    for path in (fp8 / "distill_fp8").glob("*block*.safetensors"):
        path.unlink()
    variant = variant_of(fp8)
    assert not variant.complete
    (problem,) = variant.components[Kind.DIT].problems
    assert problem.startswith("3 of 3 files missing")
    (fp8 / "distill_fp8" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert "DiT" in variant_of(fp8).missing


def test_block_files_that_the_index_names_but_are_not_there_are_said(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", FP8, layers=6)
    for layer in (1, 2, 3, 5):
        (root / "distill_fp8" / f"block_{layer}.safetensors").unlink()
    problems = variant_of(root).components[Kind.DIT].problems
    assert problems[0].startswith("4 of 7 files missing: block_1.safetensors, block_2")
    assert problems[0].endswith("…")
    assert any("blocks 1, 2, 3 are absent" in problem for problem in problems)
    assert not variant_of(root).complete


def test_the_last_blocks_missing_without_an_index_are_known_from_the_config(fp8: Path) -> None:
    (fp8 / "distill_fp8" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    (fp8 / "distill_fp8" / "block_1.safetensors").unlink()
    (problem,) = variant_of(fp8).components[Kind.DIT].problems
    assert "config.json says 2 blocks, the files hold 1" in problem


def test_a_missing_non_block_file_is_said_without_an_index_too(fp8: Path) -> None:
    (fp8 / "distill_fp8" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    (fp8 / "distill_fp8" / "non_block.safetensors").unlink()
    (problem,) = variant_of(fp8).components[Kind.DIT].problems
    assert "patch_embedding.weight" in problem


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"weight_map": 5}', '{"weight_map": [1]}', "{}", "null", "[" * 100_000]
)
def test_a_damaged_index_is_said(fp8: Path, text: str) -> None:
    (fp8 / "distill_fp8" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    (problem,) = variant_of(fp8).components[Kind.DIT].problems
    assert "index.json is damaged" in problem


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("block_1.safetensors", Kind.DIT), ("non_block.safetensors", Kind.DIT),
        ("models_t5_umt5-xxl-enc-fp8.pth", Kind.T5), ("Wan2.1_VAE.pth", Kind.VAE),
        ("taew2_1.pth", Kind.TINY_VAE),
    ],
)  # fmt: skip
def test_a_truncated_file_is_known_by_its_name_and_said(fp8: Path, name: str, kind: Kind) -> None:
    path = fp8 / "distill_fp8" / name
    os.truncate(path, path.stat().st_size - 1)
    variant = variant_of(fp8)
    component = variant.components[kind]
    assert any(f"{name} is truncated" in problem for problem in component.problems)
    assert not component.usable
    assert variant.missing == ()
    assert variant.complete is (kind in (Kind.VAE, Kind.TINY_VAE))


def test_codes_without_scales_are_not_usable(fp8: Path) -> None:
    for layer in range(2):
        block = dit_block(layer, "F8_E4M3", scaled=False)
        write_safetensors(fp8 / "distill_fp8" / f"block_{layer}.safetensors", block)
    component = variant_of(fp8).components[Kind.DIT]
    assert component.problems[0].startswith("block_0.safetensors: blocks.0.")
    assert "no scale" in component.problems[0]
    assert not component.usable
    assert not variant_of(fp8).complete


def test_one_block_without_scales_is_not_usable_either(fp8: Path) -> None:
    block = dit_block(1, "F8_E4M3", scaled=False)
    write_safetensors(fp8 / "distill_fp8" / "block_1.safetensors", block)
    assert not variant_of(fp8).components[Kind.DIT].usable


def test_nvfp4_is_not_taken_for_fp8_because_of_its_scales(fp8: Path) -> None:
    for layer in range(2):
        table = dict(dit_block(layer))
        for name, (_, shape) in dit_block(layer).items():
            if name.endswith(".weight") and len(shape) == 2:
                table[name] = ("U8", (shape[0], shape[1] // 2))
                table[f"{name}_scale"] = ("F8_E4M3", (shape[0], 1))
                table[f"{name}_global_scale"] = ("F32", ())
        write_safetensors(fp8 / "distill_fp8" / f"block_{layer}.safetensors", table)
    assert variant_of(fp8).components[Kind.DIT].precision is None
    assert not variant_of(fp8).complete


def test_the_extra_tensors_of_comfyui_do_not_end_the_scan(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Model" / "distill_fp8", "fp8")
    table = {
        **dit_rest(),
        "scaled_fp8": ("F8_E4M3", (2,)),
        "blocks.0.ffn.0.scale_input": ("F32", ()),
    }
    write_safetensors(folder / "non_block.safetensors", table)
    assert variant_of(tmp_path / "Model").components[Kind.DIT].architecture is not None


def test_codes_of_two_kinds_are_named(fp8: Path) -> None:
    write_safetensors(fp8 / "distill_fp8" / "block_0.safetensors", dit_block(0, "I8"))
    component = variant_of(fp8).components[Kind.DIT]
    assert component.precision is None
    assert "f8_e4m3" in component.scheme
    assert "i8" in component.scheme


def test_the_precision_comes_from_the_files_and_not_from_the_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "Model" / "distill_fp8", "int8")
    component = variant_of(tmp_path / "Model").components[Kind.DIT]
    assert component.precision is Precision.INT8


@pytest.mark.parametrize("text", ["{", "[]", "", "null", '"text"', "\udcff", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_said_by_name(fp8: Path, text: str) -> None:
    (fp8 / "distill_fp8" / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    (problem,) = variant_of(fp8).components[Kind.DIT].problems
    assert "distill_fp8/config.json is not JSON" in problem


@pytest.mark.parametrize("config", [{"num_heads": "2"}, {"num_heads": 3}, {"eps": "x"}])
def test_a_config_value_that_cannot_be_is_said(fp8: Path, config: dict[str, object]) -> None:
    (fp8 / "distill_fp8" / "config.json").write_text(json.dumps(config))
    assert variant_of(fp8).components[Kind.DIT].problems


def test_without_a_config_the_weights_are_enough(fp8: Path) -> None:
    (fp8 / "distill_fp8" / "config.json").unlink()
    assert variant_of(fp8).complete


def test_of_two_text_encoders_the_folders_precision_is_used_and_both_are_said(fp8: Path) -> None:
    write_safetensors(fp8 / "distill_fp8" / "other_t5.safetensors", t5())
    used = variant_of(fp8).components[Kind.T5]
    assert [path.name for path in used.files] == ["models_t5_umt5-xxl-enc-fp8.pth"]
    (problem,) = only(fp8).problems
    assert "holds 2 t5" in problem
    assert "other_t5.safetensors" in problem
    assert "models_t5_umt5-xxl-enc-fp8.pth is used" in problem


def test_a_dit_in_shards_is_one_component(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Model" / "original", "bf16")
    (folder / "distill_model.safetensors").unlink()
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    write_safetensors(folder / names[0], {**dit_rest(), **dit_block(0)})
    write_safetensors(folder / names[1], dit_block(1))
    component = variant_of(tmp_path / "Model").components[Kind.DIT]
    assert (component.layout, component.problems) == ("shards", ())
    assert [path.name for path in component.files] == names


def test_two_whole_dits_in_one_folder_are_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Model" / "original", "bf16")
    write_safetensors(folder / "another_model.safetensors", dit())
    component = variant_of(tmp_path / "Model").components[Kind.DIT]
    assert not component.usable


def test_a_tokenizer_beside_the_folders_serves_all(fp8: Path) -> None:
    (fp8 / "distill_fp8" / "google").rename(fp8 / "google")
    assert variant_of(fp8).tokenizer == fp8 / "google" / "umt5-xxl"


def test_files_that_are_no_weights_are_passed_over(fp8: Path) -> None:
    folder = fp8 / "distill_fp8"
    (folder / "notes.safetensors").write_text("these are my notes")
    (folder / ".block_9.safetensors").write_text("a hidden partial download")
    (folder / "model.gguf").write_bytes(b"GGUF")
    (folder / "block_7.txt").write_text("x")
    assert variant_of(fp8).complete


def test_both_layouts_in_one_folder_are_two_models(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"distill_fp8": "fp8", "int8": "int8"})
    distilled, plain = scan(root)
    assert (distilled.name, distilled.distilled) == ("Model", True)
    assert (plain.name, plain.distilled) == ("Model (40/50 steps)", False)
    assert [variant.folder.name for variant in plain.variants] == ["int8"]
    assert distilled.key != plain.key


@pytest.mark.parametrize("name", ["fp8", "original", "distill_fp8"])
def test_a_folder_that_only_has_the_name_is_no_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "Model" / name).mkdir(parents=True)
    (tmp_path / "Model" / name / "readme.txt").write_text("x")
    assert scan(tmp_path) == []
    write_root(tmp_path / "Model" / name / "Inner", FP8)
    assert [root.name for root in scan(tmp_path)] == ["Inner"]


def test_roots_below_roots_and_beside_them_are_each_found_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for path in ("b", "a/x/y", "a/z"):
        write_root(disk / path, FP8)
    assert [str(root.path.relative_to(disk)) for root in scan(disk)] == ["a/x/y", "a/z", "b"]
    assert len(scan(disk, disk / "a", disk)) == 3


def test_a_root_reached_through_a_link_is_found_once(fp8: Path) -> None:
    (fp8.parent / "again").symlink_to(fp8, target_is_directory=True)
    assert len(scan(fp8.parent)) == 1
    assert len(scan(fp8.parent / "again", fp8)) == 1


def test_link_loops_end(fp8: Path) -> None:
    (fp8.parent / "loop").symlink_to(fp8.parent, target_is_directory=True)
    (fp8.parent / "self").symlink_to(fp8.parent / "self")
    (fp8 / "distill_fp8" / "up").symlink_to(fp8, target_is_directory=True)
    (fp8 / "distill_fp8" / "block_5.safetensors").symlink_to("block_5.safetensors")
    (fp8 / "distill_int8").symlink_to(fp8 / "distill_int8")
    assert [root.path for root in scan(fp8.parent)] == [fp8]


def test_a_precision_folder_given_as_start_means_its_root(fp8: Path) -> None:
    assert [root.path for root in scan(fp8 / "distill_fp8")] == [fp8]


def test_the_hugging_face_cache_gives_the_repositorys_name(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--lightx2v--Wan2.1-T2V"
    snapshot = repository / "snapshots" / "0123abcd"
    blobs = repository / "blobs"
    blobs.mkdir(parents=True)
    real = write_root(tmp_path / "real", FP8)
    for number, path in enumerate(sorted(p for p in real.rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.rename(blobs / str(number)))
    root = only(tmp_path / "hub")
    assert root.name == "Wan2.1-T2V"
    assert root.variants[0].complete


@pytest.mark.parametrize("exists", [True, False])
def test_a_start_that_is_no_folder_is_no_crash(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "x").touch()
    assert scan(tmp_path / "x") == []


@pytest.mark.skipif(not permissions_hold(), reason="root may read every folder")
def test_an_unreadable_folder_is_said_and_the_rest_is_found(fp8: Path) -> None:
    closed = fp8.parent / "closed"
    closed.mkdir(mode=0)
    found = list(find_roots([fp8.parent], Event()))
    assert [item.path for item in found if isinstance(item, ModelRoot)] == [fp8]
    (skipped,) = (item for item in found if isinstance(item, Skipped))
    assert skipped.path == closed
    assert "ermission" in skipped.reason


@pytest.mark.skipif(not permissions_hold(), reason="root may read every folder")
def test_an_unreadable_precision_folder_is_a_problem_of_its_root(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"distill_fp8": "fp8", "distill_int8": "int8"})
    (root / "distill_int8").chmod(0)
    found = only(root)
    (root / "distill_int8").chmod(0o700)
    assert [variant.folder.name for variant in found.variants] == ["distill_fp8"]
    assert "distill_int8/ cannot be read" in found.problems[0]


def test_the_stop_event_ends_the_walk(tmp_path: Path) -> None:
    for name in "abc":
        write_root(tmp_path / "disk" / name, FP8)
    stop = Event()
    walk = find_roots([tmp_path / "disk"], stop)
    assert isinstance(next(walk), ModelRoot)
    stop.set()
    assert list(walk) == []
    assert list(find_roots([tmp_path / "disk"], stop)) == []


def test_a_tree_too_deep_to_be_models_is_left(tmp_path: Path) -> None:
    write_root(tmp_path / "a/b/c/d/e/f/g/h/i/j/k", FP8)
    assert scan(tmp_path) == []


def test_a_hostile_tensor_name_does_not_end_the_scan(fp8: Path) -> None:
    table = {**dit_block(0, "F8_E4M3"), f"blocks.{'9' * 5000}.ffn.0.weight": ("BF16", (1,))}
    write_safetensors(fp8 / "distill_fp8" / "block_0.safetensors", table)
    assert variant_of(fp8).components[Kind.DIT].problems


@pytest.mark.parametrize("name", [b"caf\xe9", "日本".encode(), b"new\nline", b"[red]"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_any_folder_name_can_be_told(tmp_path: Path, name: bytes, options: list[str]) -> None:
    root = tmp_path / os.fsdecode(name)
    write_root(root, FP8)
    command = [sys.executable, "-m", "lightx2v_tui", "scan", str(tmp_path), *options]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"distill" in done.stdout or b"can run" in done.stdout


def test_a_component_is_found_by_its_file_or_folder(fp8: Path) -> None:
    folder = fp8 / "distill_fp8"
    assert component_at(folder, Kind.DIT).layout == "blocks"
    assert component_at(folder / "taew2_1.pth", Kind.TINY_VAE).usable
    with pytest.raises(CheckpointError, match="no clip"):
        component_at(folder, Kind.CLIP)
    with pytest.raises(CheckpointError, match="no vae"):
        component_at(folder / "taew2_1.pth", Kind.VAE)
    with pytest.raises(CheckpointError, match="missing"):
        component_at(folder / "gone.pth", Kind.VAE)


def test_inspecting_says_what_is_no_root(tmp_path: Path) -> None:
    assert inspect_root(tmp_path) is None
    with pytest.raises(OSError, match="gone"):
        inspect_root(tmp_path / "gone")


def test_find_prefers_what_can_be_used(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"distill_models": "bf16", "distill_fp8": "fp8"})
    vae = root / "distill_models" / "Wan2.1_VAE.pth"
    os.truncate(vae, 20)
    found = only(root).find(Kind.VAE)
    assert found is not None
    assert found.files == (root / "distill_fp8" / "Wan2.1_VAE.pth",)
    assert only(root).find(Kind.CLIP) is None


def test_a_lora_that_is_no_lora_is_not_listed(fp8: Path) -> None:
    write_safetensors(fp8 / "loras" / "vae.safetensors", VAE)
    write_safetensors(fp8 / "loras" / "b.safetensors", LORA)
    assert len(only(fp8).loras) == 2


@pytest.mark.parametrize("where", [".", "gone", "loop", "/", "/proc/self", "/dev/null", "/sys"])
def test_the_disk_is_told_for_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    disk = disk_of(Path(where))
    assert disk.kind in {"ssd", "hdd", "network", "unknown"}
    assert disk.free_bytes >= 0
    if where == ".":
        assert disk.free_bytes > 0
        assert tmp_path.is_relative_to(disk.mount)


def scanned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, list[dict]]:  # type: ignore[type-arg]
    assert main(["scan", *map(str, arguments), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_scan_json_has_exactly_the_fixed_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path / "disk" / "Model", FP8, image=True)
    found = scanned(capsys, tmp_path / "disk", tmp_path / "gone")
    assert set(found) == {"roots", "skipped", "seconds"}
    (told,) = found["roots"]
    assert set(told) >= {
        "path", "name", "family", "task", "distilled", "architecture", "variants", "loras", "disk",
        "problems",
    }  # fmt: skip
    assert (told["path"], told["name"]) == (str(root), "Model")
    assert (told["family"], told["task"], told["distilled"]) == ("wan2.1", "i2v", True)
    assert told["architecture"]["num_layers"] == 2
    assert set(told["disk"]) >= {"kind", "mount", "free_bytes"}
    (variant,) = told["variants"]
    assert set(variant) >= {"precision", "folder", "components", "complete", "missing"}
    assert set(variant["components"]) == {"dit", "t5", "clip", "vae", "tiny_vae"}
    for component in (*variant["components"].values(), *told["loras"]):
        assert set(component) >= {"files", "bytes", "layout", "scheme", "problems"}
        assert component["layout"] in {"blocks", "file", "shards"}
        assert component["bytes"] == sum(Path(name).stat().st_size for name in component["files"])
    assert found["skipped"] == [{"path": str(tmp_path / "gone"), "reason": "no such folder"}]


def test_scan_json_of_a_broken_model_keeps_its_shape(
    fp8: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (fp8 / "distill_fp8").glob("*.*"):
        if path.is_file():
            path.write_bytes(b"x")
    (told,) = scanned(capsys, fp8)["roots"]
    assert told["architecture"] is None
    assert told["task"] == "unknown"
    assert told["variants"][0]["complete"] is False
    assert told["variants"][0]["components"]["dit"]["problems"]


def test_scan_text_says_what_is_missing_and_whether_it_runs(
    fp8: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(fp8 / "distill_fp8" / "google")
    assert main(["scan", str(fp8.parent)]) == 0
    text = capsys.readouterr().out
    assert "Model  [wan2.1 0.0M t2v, step-distilled]" in text
    assert "tokenizer missing: no google/umt5-xxl/tokenizer.json here" in text
    assert "cannot run: no tokenizer" in text
    assert "1 model in" in text


def test_scanning_nothing_says_how_to_name_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scan"]) == 0
    assert "scan DIR" in capsys.readouterr().out
    assert main(["scan", str(tmp_path)]) == 0
    assert "scan DIR" not in capsys.readouterr().out
    assert main(["scan", str(tmp_path / "gone")]) == 2


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("wan2.2_i2v_A14b_high_noise_lightx2v_4step", "high"), ("low_noise_model", "low"),
        ("Wan2.2-I2V-A14B-HighNoise-Q4_K_M", "high"), ("wan2.2_t2v_low_fp8", "low"),
        ("wan22-high", "high"), ("high-quality", ""), ("wan2.1_t2v_low_vram", ""),
        ("my-low-res", ""), ("flow", ""), ("highlights", ""), ("", ""),
    ],
)  # fmt: skip
def test_which_names_say_an_expert(name: str, expert: str) -> None:
    assert expert_by_name(name) == expert


def test_a_folder_called_high_quality_is_an_ordinary_model(tmp_path: Path) -> None:
    root = write_root(tmp_path / "high-quality", FP8)
    assert (only(root).family, only(root).variants[0].complete) == ("wan2.1", True)


def test_a_hostile_tensor_name_takes_no_time(tmp_path: Path) -> None:
    table = {".lora_A." * 20_000: ("BF16", (1,)), **dit(1)}
    path = write_safetensors(tmp_path / "x.safetensors", table)
    found = mark_of(read_header(path))
    assert found is not None
    assert found[0] is Kind.DIT


@pytest.mark.parametrize(
    "name", ["config.json", "diffusion_pytorch_model.safetensors.index.json", "block_1.safetensors"]
)
def test_a_pipe_in_place_of_a_file_is_said_and_not_waited_for(fp8: Path, name: str) -> None:
    (fp8 / "distill_fp8" / name).unlink()
    os.mkfifo(fp8 / "distill_fp8" / name)
    assert variant_of(fp8).components[Kind.DIT].problems
