"""Every way a model can be broken: which part the verdict names, why, and what mends it."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from engine.spec.header import unreadable
from engine.spec.precision import Precision
from lightx2v_tui.catalog import Kind, ModelRoot, find_roots, inspect_root
from lightx2v_tui.catalog.completeness import verdicts
from lightx2v_tui.catalog.standing import in_words, standing_of
from lightx2v_tui.launch.choices import Choice, preset_for
from tests.unit import trees
from tests.unit.helpers import (
    CLIP_BF16,
    TINY_VAE22,
    VAE,
    cast,
    dit,
    dit_block,
    gguf_bytes,
    quantized_gguf,
    t5,
    write_folder,
    write_root,
    write_safetensors,
)
from tests.unit.trees import only, states, told, verdict

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
PAGE = b"<!DOCTYPE html><html><body>404</body></html>"
T5_FP8 = "models_t5_umt5-xxl-enc-fp8.pth"
SHARD = "diffusion_pytorch_model-00002-of-00003.safetensors"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 40)


def pointer(path: Path) -> None:
    path.write_bytes(POINTER)


def page(path: Path) -> None:
    path.write_bytes(PAGE)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


BREAKS = [
    (truncate, "broken", "truncated"),
    (pointer, "broken", "Git LFS pointer"),
    (page, "broken", "web page"),
    (empty, "broken", "0 bytes long"),
]


def guide(tmp_path: Path) -> Path:
    return write_root(tmp_path / "My Model", {"distill_fp8": "fp8"}, image=True)


def official(tmp_path: Path) -> Path:
    return trees.official(tmp_path / "Wan2.1-I2V-14B-480P", image=True)


def pair(tmp_path: Path) -> Path:
    return trees.official_pair(tmp_path / "Wan2.2-I2V-A14B")


#: Where the parts lie in each layout.
PLACES: list[tuple[Callable[[Path], Path], str, str]] = [
    (guide, "dit", "distill_fp8/block_1.safetensors"),
    (guide, "dit", "distill_fp8/non_block.safetensors"),
    (guide, "t5", f"distill_fp8/{T5_FP8}"),
    (guide, "clip", "distill_fp8/clip-fp8.pth"),
    (guide, "vae", "distill_fp8/Wan2.1_VAE.pth"),
    (guide, "tiny_vae", "distill_fp8/taew2_1.pth"),
    (official, "dit", SHARD),
    (official, "t5", trees.T5_BF16),
    (official, "clip", CLIP_BF16),
    (official, "vae", "Wan2.1_VAE.pth"),
    (pair, "dit", f"high_noise_model/{SHARD}"),
    (pair, "dit_low", f"low_noise_model/{SHARD}"),
]


@pytest.mark.parametrize(("damage", "state", "said"), BREAKS)
@pytest.mark.parametrize(("make", "part", "place"), PLACES)
def test_a_damaged_file_is_a_verdict_on_its_part(
    tmp_path: Path, make: Callable[[Path], Path], part: str, place: str,
    damage: Callable[[Path], None], state: str, said: str,
) -> None:  # fmt: skip
    path = make(tmp_path)
    before = states(only(path)["variants"][0])
    damage(path / place)
    root = only(path)
    found = verdict(root, part)
    assert found["state"] == state
    assert Path(place).name in found["reason"]
    assert said in found["reason"]
    assert states(root["variants"][0]) == {**before, part: state}
    assert (Path(place).name in found["fix"]) or (make is guide and part != "t5")
    assert root["variants"][0]["complete"] == (part == "tiny_vae")


@pytest.mark.parametrize(
    ("place", "part", "said", "command"),
    [
        (SHARD, "dit", f"1 of 3 files missing: {SHARD}",
         f"hf download Wan-AI/Wan2.1-I2V-14B-480P {SHARD} --local-dir @"),
        (trees.T5_BF16, "t5", "no T5 here",
         f"hf download lightx2v/Encoders {trees.T5_BF16} --local-dir @"),
        (CLIP_BF16, "clip", "no CLIP here",
         f"hf download lightx2v/Encoders {CLIP_BF16} --local-dir @"),
        ("Wan2.1_VAE.pth", "vae", "no VAE here",
         "hf download lightx2v/Autoencoders Wan2.1_VAE.pth --local-dir @"),
        ("google/umt5-xxl/tokenizer.json", "tokenizer", "no google/umt5-xxl/tokenizer.json here",
         "hf download lightx2v/Encoders --local-dir @ --include 'google/*'"),
    ],
)  # fmt: skip
def test_what_an_official_folder_lacks(
    tmp_path: Path, place: str, part: str, said: str, command: str
) -> None:
    path = official(tmp_path)
    gone(path / place)
    found = verdict(only(path), part)
    assert found["state"] == ("broken" if part == "dit" else "missing")
    assert found["reason"] == said
    assert found["fix"] == command.replace("@", str(path))


def test_an_official_folder_without_any_shard_is_still_its_model(tmp_path: Path) -> None:
    path = official(tmp_path)
    for shard in path.glob("*.safetensors"):
        shard.unlink()
    found = verdict(only(path), "dit")
    assert found["state"] == "broken"
    assert found["reason"].startswith("3 of 3 files missing")
    assert "diffusion_pytorch_model-00001-of-00003.safetensors" in found["fix"]


@pytest.mark.parametrize("half", ["high_noise_model", "low_noise_model"])
def test_a_pair_without_one_half(tmp_path: Path, half: str) -> None:
    path = pair(tmp_path)
    shutil.rmtree(path / half)
    root = only(path)
    part = "dit" if half.startswith("high") else "dit_low"
    found = verdict(root, part)
    assert found["state"] == "missing"
    assert (root["family"], root["task"]) == ("wan2.2", "i2v")
    assert found["fix"] == (
        f"hf download Wan-AI/Wan2.2-I2V-A14B --local-dir {path} --include '{half}/*'"
    )
    assert not root["variants"][0]["complete"]


@pytest.mark.parametrize("half", ["high_noise_model", "low_noise_model"])
def test_the_older_pair_without_one_half(tmp_path: Path, half: str) -> None:
    path = trees.legacy_pair(tmp_path / "Wan2.2-I2V-A14B-Moe-Distill-Lightx2v")
    shutil.rmtree(path / "distill_models" / half)
    found = verdict(only(path), "dit" if half.startswith("high") else "dit_low")
    assert found["state"] == "missing"
    assert found["fix"].endswith(f"--include 'distill_models/{half}/*'")


@pytest.mark.parametrize("half", ["high", "low"])
def test_a_pair_of_single_files_without_one_half(tmp_path: Path, half: str) -> None:
    path = trees.single_pair(tmp_path / "Wan2.2-Distill-Models")
    name = f"wan2.2_i2v_A14b_{half}_noise_lightx2v_4step.safetensors"
    gone(path / name)
    root = only(path)
    number = [v["precision"] for v in root["variants"]].index("bf16")
    found = verdict(root, "dit" if half == "high" else "dit_low", number)
    assert found["state"] == "missing"
    assert found["fix"] == f"hf download lightx2v/Wan2.2-Distill-Models {name} --local-dir {path}"
    other = next(v for v in root["variants"] if v["precision"] == "fp8")
    assert not any("missing" in state for state in states(other).values())


def test_a_diffusers_pair_without_its_second_transformer(tmp_path: Path) -> None:
    path = trees.diffusers(tmp_path / "Wan2.2-T2V-A14B-Diffusers", pair=True)
    classes = ["diffusers", "WanTransformer3DModel"]
    index = {"_class_name": "WanPipeline", "transformer": classes, "transformer_2": classes}
    trees.write_json(path / "model_index.json", index)
    shutil.rmtree(path / "transformer_2")
    found = verdict(only(path), "dit_low")
    assert found["state"] == "missing"
    assert "--include 'transformer_2/*'" in found["fix"]


@pytest.mark.parametrize(
    ("folder", "part"),
    [("transformer", "dit"), ("text_encoder", "t5"), ("vae", "vae"), ("image_encoder", "clip")],
)
@pytest.mark.parametrize("damage", [truncate, page])
def test_a_damaged_file_of_a_pipeline_is_known_by_its_folder(
    tmp_path: Path, folder: str, part: str, damage: Callable[[Path], None]
) -> None:
    path = trees.diffusers(tmp_path / "Wan2.1-I2V-14B-480P-Diffusers", image=True)
    file = sorted((path / folder).glob("*.safetensors"))[0]
    damage(file)
    found = verdict(only(path), part)
    assert found["state"] == "broken"
    assert file.name in found["reason"]
    assert f"{folder}/{file.name}" in found["fix"]


def test_a_snapshot_of_a_pipeline_that_has_only_begun(tmp_path: Path) -> None:
    made = trees.diffusers(tmp_path / "made")
    shutil.rmtree(made / "transformer")
    shutil.rmtree(made / "vae")
    trees.hub_cache(tmp_path / "hub", "Wan-AI/Wan2.1-T2V-14B-Diffusers", made)
    root = only(tmp_path / "hub")
    assert (root["name"], root["task"]) == ("Wan2.1-T2V-14B-Diffusers", "unknown")
    found = verdict(root, "dit")
    assert found["state"] == "missing"
    assert found["fix"] == "hf download Wan-AI/Wan2.1-T2V-14B-Diffusers --include 'transformer/*'"
    assert verdict(root, "vae")["state"] == "missing"


def test_a_missing_shard_of_a_pipelines_text_encoder(tmp_path: Path) -> None:
    path = trees.diffusers(tmp_path / "Wan2.1-T2V-14B-Diffusers")
    gone(path / "text_encoder" / "model-00002-of-00002.safetensors")
    found = verdict(only(path), "t5")
    assert found["state"] == "broken"
    assert found["reason"] == "1 of 2 files missing: model-00002-of-00002.safetensors"
    assert "text_encoder/model-00002-of-00002.safetensors" in found["fix"]


def test_a_small_last_shard_is_not_taken_for_missing(tmp_path: Path) -> None:
    path = trees.diffusers(tmp_path / "Wan2.1-T2V-14B-Diffusers")
    for file in (path / "transformer").glob("*.*"):
        file.unlink()
    table = trees.diffusers_names(dit())
    last = {name: table.pop(name) for name in ("proj_out.weight", "proj_out.bias")}
    names = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name, part in zip(names, (table, last), strict=True):
        write_safetensors(path / "transformer" / name, part)
    weight_map = {**dict.fromkeys(table, names[0]), **dict.fromkeys(last, names[1])}
    index = path / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    trees.write_json(index, {"weight_map": weight_map})
    assert verdict(only(path), "dit")["state"] == "ok"


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no index"])
def test_a_missing_block(tmp_path: Path, indexed: bool) -> None:
    path = write_root(tmp_path / "Wan2.1-T2V-14B-Lightx2v", {"fp8": "fp8"}, layers=6)
    gone(path / "fp8" / "block_3.safetensors")
    if not indexed:
        gone(path / "fp8" / "diffusion_pytorch_model.safetensors.index.json")
    found = verdict(only(path), "dit")
    assert found["state"] == "broken"
    assert ("block_3.safetensors" if indexed else "blocks 3 are absent") in found["reason"]
    fetched = f"fp8/block_3.safetensors --local-dir {path}"
    fetched = fetched if indexed else f"--local-dir {path} --include 'fp8/*'"
    assert found["fix"] == f"hf download lightx2v/Wan2.1-T2V-14B-Lightx2v {fetched}"


def test_many_missing_blocks_are_fetched_by_their_folder(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Wan2.1-T2V-14B-Lightx2v", {"fp8": "fp8"}, layers=20)
    for layer in range(1, 19):
        gone(path / "fp8" / f"block_{layer}.safetensors")
    fix = verdict(only(path), "dit")["fix"]
    assert fix.endswith(f"--local-dir {path} --include 'fp8/*'")


def test_a_missing_block_of_a_split_folder(tmp_path: Path) -> None:
    path = trees.distill_models(tmp_path / "Wan2.1-Distill-Models", {"wan2.1_t2v_14b": False})
    stem = "wan2.1_t2v_14b_int8_lightx2v_4step_split"
    gone(path / stem / "block_1.safetensors")
    root = only(path)
    bad = [n for n in range(len(root["variants"])) if verdict(root, "dit", n)["state"] != "ok"]
    (number,) = bad
    found = verdict(root, "dit", number)
    assert "block_1.safetensors" in found["reason"]
    file = f"{stem}/block_1.safetensors"
    assert found["fix"] == f"hf download lightx2v/Wan2.1-Distill-Models {file} --local-dir {path}"


@pytest.mark.parametrize("damage", [truncate, pointer, page, empty])
def test_a_damaged_single_file_stays_a_variant_of_its_model(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = trees.distill_models(tmp_path / "models", {"wan2.1_t2v_14b": False})
    file = path / "wan2.1_t2v_14b_int8_lightx2v_4step.safetensors"
    damage(file)
    root = only(path)
    assert root["task"] == "t2v"
    bad = [n for n in range(len(root["variants"])) if verdict(root, "dit", n)["state"] != "ok"]
    (number,) = bad
    found = verdict(root, "dit", number)
    assert found["state"] == "broken"
    assert file.name in found["reason"]
    if damage is not pointer:
        assert found["fix"] == (
            f"hf download lightx2v/Wan2.1-Distill-Models {file.name} --local-dir {path}"
        )


def test_lfs_pointers_are_pulled(tmp_path: Path) -> None:
    path = write_root(tmp_path / "a model", {"fp8": "fp8"})
    (path / ".git").mkdir()
    pointer(path / "fp8" / "block_0.safetensors")
    pointer(path / "fp8" / "block_1.safetensors")
    pointer(path / "fp8" / T5_FP8)
    root = only(path)
    fix = shlex.split(verdict(root, "dit")["fix"])
    assert fix[:5] == ["git", "-C", str(path / "fp8"), "lfs", "pull"]
    assert fix[5:] == ["--include", "block_0.safetensors,block_1.safetensors"]
    assert shlex.split(verdict(root, "t5")["fix"])[-1] == T5_FP8


@pytest.mark.parametrize("name", ["Wan2.1-T2V-14B", "mine"])
def test_lfs_pointers_outside_a_checkout_are_downloaded(tmp_path: Path, name: str) -> None:
    path = trees.official_single(tmp_path / name)
    file = path / "diffusion_pytorch_model.safetensors"
    pointer(file)
    pointer(path / trees.T5_BF16)
    root = only(path)
    known = f"hf download Wan-AI/{name} {file.name} --local-dir {path}"
    asked = "Get it from where this model came from"
    assert verdict(root, "dit")["fix"].startswith(asked if name == "mine" else known)
    repository = "lightx2v/Encoders" if name == "mine" else f"Wan-AI/{name}"
    assert verdict(root, "t5")["fix"] == (
        f"hf download {repository} {trees.T5_BF16} --local-dir {path}"
    )


def looked_at(path: Path) -> ModelRoot:
    root = inspect_root(path)
    assert root is not None
    return root


def test_a_file_that_may_not_be_read_is_made_readable(tmp_path: Path) -> None:
    root = looked_at(official(tmp_path / "a disk"))
    (variant,) = root.variants
    file = root.path / trees.T5_BF16
    error = unreadable(file, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    closed = replace(variant.components[Kind.T5], problems=(f"{error.what}: {error.why}",),
                     fetch=(file,))  # fmt: skip
    broken = replace(variant, components={**variant.components, Kind.T5: closed})
    root = replace(root, variants=(broken,))
    (found,) = [one for one in verdicts(root, broken) if one.part == "t5"]
    assert found.reason == f"Cannot read {file.name}: {os.strerror(errno.EACCES)}"
    assert shlex.split(found.fix)[-3:] == ["chmod", "u+r", str(file)]


def test_commands_quote_names_with_spaces(tmp_path: Path) -> None:
    path = guide(tmp_path)
    gone(path / "distill_fp8" / T5_FP8)
    words = shlex.split(verdict(only(path), "t5")["fix"])
    assert words == ["hf", "download", "lightx2v/Encoders", T5_FP8, "--local-dir",
                     str(path / "distill_fp8")]  # fmt: skip


def test_a_cached_snapshot_is_mended_in_the_cache(tmp_path: Path) -> None:
    made = trees.official(tmp_path / "made")
    snapshot = trees.hub_cache(tmp_path / "hub", "Wan-AI/Wan2.1-T2V-14B", made)
    gone(snapshot / SHARD)
    gone(snapshot / trees.T5_BF16)
    gone(snapshot / "google" / "umt5-xxl" / "tokenizer.json")
    root = only(tmp_path / "hub")
    assert verdict(root, "dit")["fix"] == f"hf download Wan-AI/Wan2.1-T2V-14B {SHARD}"
    assert verdict(root, "t5")["fix"] == f"hf download lightx2v/Encoders {trees.T5_BF16}"
    assert "--local-dir" not in verdict(root, "tokenizer")["fix"]


def test_a_damaged_file_in_the_cache_is_fetched_by_force(tmp_path: Path) -> None:
    made = trees.official(tmp_path / "made")
    snapshot = trees.hub_cache(tmp_path / "hub", "Wan-AI/Wan2.1-T2V-14B", made)
    truncate((snapshot / SHARD).resolve())
    found = verdict(only(tmp_path / "hub"), "dit")
    assert found["fix"] == f"hf download Wan-AI/Wan2.1-T2V-14B {SHARD} --force-download"


def test_a_link_to_a_blob_that_is_gone(tmp_path: Path) -> None:
    made = trees.official(tmp_path / "made")
    snapshot = trees.hub_cache(tmp_path / "hub", "Wan-AI/Wan2.1-T2V-14B", made)
    gone((snapshot / SHARD).resolve())
    found = verdict(only(tmp_path / "hub"), "dit")
    assert found["state"] == "broken"
    assert "missing" in found["reason"]
    assert SHARD in found["fix"]


@pytest.mark.parametrize(
    ("folder", "place"),
    [("models--a--b/blobs", "ab12.incomplete"), ("Model/fp8", "block_1.safetensors.part"),
     ("Model", ".cache/huggingface/download/fp8/x.incomplete"),
     ("Model", "wan.safetensors.aria2")],
)  # fmt: skip
def test_downloads_that_did_not_end_are_told(tmp_path: Path, folder: str, place: str) -> None:
    write_root(tmp_path / "Model", {"fp8": "fp8"})
    trees.hub_cache(tmp_path, "a/b", write_root(tmp_path / "made", {"fp8": "fp8"}))
    shutil.rmtree(tmp_path / "made")
    trees.write_bytes(tmp_path / folder / place, b"x")
    name = "b" if "blobs" in folder else "Model"
    (problem,) = told(tmp_path)[name]["problems"]
    assert problem == f"1 download stopped half-way here: {Path(place).name}"


def test_two_precisions_in_one_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Model" / "fp8", "fp8")
    write_safetensors(folder / "distill_model.safetensors", dit())
    root = only(tmp_path)
    assert "fp8/ holds two DiTs, which LightX2V would mix" in root["problems"][0]
    assert "distill_model.safetensors (bf16)" in root["problems"][0]
    found = verdict(root, "dit")
    assert found["state"] == "broken"
    assert "two DiTs in one folder" in found["reason"]
    assert "folder of its own" in found["fix"]


def test_two_t5_in_one_folder_are_told_and_one_is_taken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Model" / "fp8", "fp8")
    write_safetensors(folder / trees.T5_BF16, t5())
    root = only(tmp_path)
    assert "holds 2 t5" in root["problems"][0]
    assert root["problems"][0].endswith(f"{T5_FP8} is used")
    assert root["variants"][0]["components"]["t5"]["scheme"] == "fp8"


def test_blocks_of_two_precisions_in_one_folder(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"fp8": "fp8"})
    write_safetensors(path / "fp8" / "block_1.safetensors", dit_block(1, "I8"))
    root = only(path)
    assert root["variants"][0]["precision"] == "bf16+f32+f8_e4m3+i8"
    found = verdict(root, "dit")
    assert found["state"] == "not runnable"
    assert "f8_e4m3+i8" in found["reason"]


def test_a_cast_without_scales_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "Wan2_1-T2V-14B_fp8_e4m3fn"
    write_safetensors(path / "Wan2_1-T2V-14B_fp8_e4m3fn.safetensors", cast(dit()))
    found = verdict(only(path), "dit")
    assert found["state"] == "broken"
    assert found["reason"].startswith("a plain cast without scales: ")
    assert "no scale" in found["reason"]
    assert found["fix"].startswith("Use the original, FP8 or INT8 files")


def test_fp8_of_the_other_kind_is_not_runnable(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x" / "Wan2_1-T2V-14B_fp8_e5m2.safetensors",
                      cast(dit(), "F8_E5M2"))  # fmt: skip
    found = verdict(only(tmp_path), "dit")
    assert found["state"] == "not runnable"
    assert "f8_e5m2" in found["reason"]


@pytest.mark.parametrize("name", ["lighttaew2_2.pth", "taew2_2.safetensors"])
def test_a_tiny_vae_of_the_wrong_family(tmp_path: Path, name: str) -> None:
    path = trees.official(tmp_path / "Wan2.1-T2V-14B")
    write_safetensors(path / name, TINY_VAE22)
    root = only(path)
    found = verdict(root, "tiny_vae")
    assert found["state"] == "broken"
    assert found["reason"] == (f"{name} reads 48 latent channels, this DiT makes 16: "
                               "it needs taew2_1 or Wan2.1_VAE")  # fmt: skip
    assert found["fix"] == f"hf download lightx2v/Autoencoders taew2_1.pth --local-dir {path}"
    assert root["variants"][0]["complete"]


def test_the_vae_of_wan_2_1_beside_ti2v(tmp_path: Path) -> None:
    path = trees.official_ti2v(tmp_path / "Wan2.2-TI2V-5B")
    gone(path / "Wan2.2_VAE.pth")
    write_safetensors(path / "Wan2.1_VAE.pth", VAE)
    found = verdict(only(path), "vae")
    assert found["state"] == "broken"
    assert "it needs taew2_2 or Wan2.2_VAE" in found["reason"]
    assert "Autoencoders Wan2.2_VAE.pth" in found["fix"]


@pytest.mark.parametrize("image", [True, False])
def test_a_tiny_vae_alone_decodes_but_does_not_encode(tmp_path: Path, image: bool) -> None:
    path = write_root(tmp_path / "Model", {"fp8": "fp8"}, image=image)
    gone(path / "fp8" / "Wan2.1_VAE.pth")
    root = only(path)
    assert root["variants"][0]["complete"] is not image
    assert states(root["variants"][0]).get("vae") == ("missing" if image else None)


def test_a_t5_of_another_model_does_not_fit(tmp_path: Path) -> None:
    path = trees.official(tmp_path / "Wan2.1-T2V-14B")
    table = {**t5(), "token_embedding.weight": ("BF16", (32, 4))}
    write_safetensors(path / trees.T5_BF16, table)
    found = verdict(only(path), "t5")
    assert found["state"] == "broken"
    assert found["reason"] == (f"{trees.T5_BF16} is 4 wide, this DiT reads 8: "
                               "it belongs to another model")  # fmt: skip
    assert "lightx2v/Encoders" in found["fix"]


def test_a_part_of_a_sibling_variant_is_used_from_there(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"original": "bf16", "fp8": "fp8"})
    gone(path / "fp8" / T5_FP8)
    shutil.rmtree(path / "fp8" / "google")
    root = only(path)
    for part, place in (("t5", trees.T5_BF16), ("tokenizer", "google/umt5-xxl")):
        found = verdict(root, part, 1)
        assert (found["state"], found["reason"]) == ("elsewhere", f"one lies at original/{place}")


def test_a_tokenizer_in_a_folder_of_its_own_is_used_from_there(tmp_path: Path) -> None:
    path = official(tmp_path)
    shutil.rmtree(path / "google")
    there = trees.tokenizer(tmp_path / "tokenizers")
    found = verdict(only(tmp_path), "tokenizer")
    assert (found["state"], found["reason"]) == ("elsewhere", f"one lies at {there}")


def test_a_damaged_part_that_lies_elsewhere_too(tmp_path: Path) -> None:
    path = official(tmp_path)
    parts = trees.encoder_parts(tmp_path / "Encoders")
    truncate(path / trees.T5_BF16)
    found = verdict(only(tmp_path), "t5")
    assert found["state"] == "elsewhere"
    assert found["reason"].startswith(f"{trees.T5_BF16} is truncated: File is not")
    assert str(parts / trees.T5_BF16) in found["reason"]
    assert found["fix"].startswith(f"hf download Wan-AI/{path.name} {trees.T5_BF16} --local-dir")


def test_only_what_is_broken_here_is_told_with_a_command(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"original": "bf16", "fp8": "fp8"})
    truncate(path / "fp8" / T5_FP8)
    gone(path / "fp8" / "Wan2.1_VAE.pth")
    gone(path / "fp8" / "taew2_1.pth")
    told = standing_of(looked_at(path)).variants[1].verdicts
    fixes = {one.part: in_words(one)[1] for one in told if one.state == "elsewhere"}
    mend = f"hf download lightx2v/Encoders {T5_FP8} --local-dir {path / 'fp8'}"
    assert fixes == {"t5": mend, "vae": ""}


def test_what_lies_elsewhere_is_what_a_preset_takes_for_that_precision(tmp_path: Path) -> None:
    path = trees.distill_models(tmp_path / "models", {"wan2.1_i2v_480p": True})
    trees.encoder_parts(tmp_path / "Encoders")
    root = list(find_roots([tmp_path], Event()))[-1]
    assert isinstance(root, ModelRoot)
    assert root.path == path
    for variant in root.variants:
        used = variant.precision if variant.label != "int8" else Precision.BF16
        assert used is not None
        preset = preset_for(root, Choice(used, used, tiny_vae=False, clip=used))
        told = {one.part: one.reason for one in verdicts(root, variant)}
        assert told["t5"] == f"one lies at {preset.t5}"
        assert told["clip"] == f"one lies at {preset.clip}"


def test_a_precision_folder_without_its_dit(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Wan2.1-T2V-14B-Lightx2v", {"int8": "int8"})
    for file in (path / "int8").glob("*.safetensors*"):
        gone(file)
    found = verdict(only(path), "dit")
    assert (found["state"], found["reason"]) == ("missing", "no DiT here")
    assert found["fix"].endswith(f"--local-dir {path} --include 'int8/*'")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"weight_map": 5}', '{"weight_map": {"a": "../../../etc/passwd"}}',
             '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": "x\\u0000y"}}'],
)  # fmt: skip
def test_an_index_that_is_damaged_or_leads_outside(tmp_path: Path, text: str) -> None:
    path = official(tmp_path)
    (path / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    root = only(path)
    found = verdict(root, "dit")
    assert found["state"] == "broken"
    assert "index.json" in found["reason"]
    assert "passwd" not in json.dumps(root["variants"][0]["components"]["dit"]["files"])
    assert found["fix"].startswith("hf download Wan-AI/Wan2.1-I2V-14B-480P")


def test_a_header_that_claims_more_than_any_memory(tmp_path: Path) -> None:
    path = official(tmp_path)
    (path / SHARD).write_bytes((1 << 60).to_bytes(8, "little") + b"{}" + bytes(100))
    found = verdict(only(path), "dit")
    assert found["state"] == "broken"
    assert "1152921504606846976 bytes" in found["reason"]


@pytest.mark.parametrize("damage", [truncate, empty, page])
def test_a_damaged_gguf_is_still_its_model(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "gguf" / "wan2.1-t2v-14b-Q4_K.gguf"
    trees.write_bytes(path, gguf_bytes(quantized_gguf(dit())))
    damage(path)
    found = verdict(only(tmp_path), "dit")
    assert found["state"] == "broken"
    assert path.name in found["reason"]


def test_a_model_from_nowhere_says_where_to_look(tmp_path: Path) -> None:
    path = write_root(tmp_path / "mine", {"fp8": "fp8"})
    truncate(path / "fp8" / "block_1.safetensors")
    assert verdict(only(path), "dit")["fix"].startswith("Get it from where this model came from")


@pytest.mark.parametrize("part", ["t5", "clip", "vae"])
def test_image_models_of_comfyui_lack_what_is_not_there(tmp_path: Path, part: str) -> None:
    path = trees.comfyui(tmp_path / "models")
    folder = {"t5": "text_encoders", "clip": "clip_vision", "vae": "vae"}[part]
    shutil.rmtree(path / folder)
    root = only(path)
    for number in range(2):
        found = verdict(root, part, number)
        assert found["state"] == "missing"
        assert found["fix"].endswith(f"--local-dir {path / folder}")


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_a_precision_folder_that_lost_its_blocks_keeps_its_precision(
    tmp_path: Path, index: bool
) -> None:
    path = write_root(tmp_path / "Model", {"original": "bf16", "fp8": "fp8"})
    for block in (path / "fp8").glob("block_*"):
        gone(block)
    if not index:
        gone(path / "fp8" / "diffusion_pytorch_model.safetensors.index.json")
    root = only(path)
    assert [variant["precision"] for variant in root["variants"]] == ["bf16", "fp8"]
    assert root["problems"] == []
    found = verdict(root, "dit", 1)
    assert found["state"] == "broken"
    said = "2 of 3 files missing: block_0" if index else "its blocks are not there"
    assert found["reason"].startswith(said)


def test_blocks_that_are_missing_make_no_model_of_another_size(tmp_path: Path) -> None:
    path = tmp_path / "Wan2.1-Distill-Models"
    stem = "wan2.1_t2v_14b_int8_lightx2v_4step"
    write_safetensors(path / f"{stem}.safetensors", dit(100, "I8"))
    folder = trees.split(path / f"{stem}_split", "I8", image=False, layers=100)
    for layer in range(20, 100):
        gone(folder / f"block_{layer}.safetensors")
    assert [states(variant)["dit"] for variant in only(path)["variants"]] == ["ok", "broken"]


def test_files_of_one_model_that_are_all_unreadable_are_one_model(tmp_path: Path) -> None:
    path = trees.distill_models(tmp_path / "models", {"wan2.1_t2v_14b": False})
    for file in path.rglob("*.safetensors"):
        empty(file)
    root = only(path)
    assert root["task"] == "unknown"
    assert {states(variant)["dit"] for variant in root["variants"]} == {"broken"}


@pytest.mark.parametrize("lost", ["block_0*", "block_1*", "block_*", "[bd]*"])
def test_without_its_blocks_a_model_still_tells_its_task(tmp_path: Path, lost: str) -> None:
    path = guide(tmp_path)
    for file in [*(path / "distill_fp8").glob(lost), path / "distill_fp8" / "clip-fp8.pth"]:
        gone(file)
    root = only(path)
    assert root["task"] == "i2v"
    assert verdict(root, "dit")["state"] == "broken"
    assert verdict(root, "clip")["state"] == "missing"


def test_sizes_are_those_of_a_variant_that_is_whole(tmp_path: Path) -> None:
    path = write_root(tmp_path / "Model", {"fp8": "fp8", "int8": "int8"})
    gone(path / "fp8" / "block_1.safetensors")
    gone(path / "fp8" / "config.json")
    assert only(path)["architecture"]["num_layers"] == 2


WORDS: list[tuple[Callable[[Path], Path], str]] = [
    (trees.official, "complete"), (trees.official_vace, "complete, not runnable yet"),
    (trees.official_flf2v, "complete, not runnable yet"),
    (trees.official_pair, "complete, not runnable yet"),
    (trees.official_ti2v, "complete, not runnable yet"),
    (trees.nvfp4_file, "complete, not runnable yet"),
    (trees.gguf_pair, "incomplete"), (trees.comfyui, "incomplete"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "word"), WORDS)
def test_how_a_variant_stands_in_words(
    tmp_path: Path, make: Callable[[Path], Path], word: str
) -> None:
    root = looked_at(make(tmp_path / "Model"))
    assert {each.word for each in standing_of(root).variants} == {word}


def test_parts_of_an_incomplete_variant_do_not_read_as_what_it_lacks(tmp_path: Path) -> None:
    path = official(tmp_path)
    gone(path / CLIP_BF16)
    (variant,) = standing_of(looked_at(path)).variants
    assert variant.line == "bf16 incomplete (has DiT, T5, VAE)"


def test_nothing_whole_is_called_bad(tmp_path: Path) -> None:
    for make in (trees.official, trees.official_single):
        (variant,) = only(make(tmp_path / make.__name__))["variants"]
        assert all(one["state"] == "ok" and one["fix"] == "" for one in variant["verdicts"])
