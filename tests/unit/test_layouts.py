"""Every layout people have, whole: what `scan --json` says of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightx2v_tui.catalog import inspect_root
from tests.unit import trees
from tests.unit.helpers import (
    DISTILLED,
    PLAIN,
    TINY_VAE22,
    VAE22,
    cast,
    clip,
    comfy_scaled,
    dit,
    expert,
    gguf_bytes,
    lora,
    prefixed,
    quantized_gguf,
    t5,
    ti2v,
    write_folder,
    write_root,
    write_safetensors,
)
from tests.unit.trees import only, states, told

WHOLE = {"dit": "ok", "t5": "ok", "vae": "ok", "tokenizer": "ok"}
IMAGE = {**WHOLE, "clip": "ok"}
LATER = {**WHOLE, "dit": "not runnable"}
PAIR = {**LATER, "dit_low": "not runnable"}


def official_i2v(folder: Path) -> Path:
    return trees.official(folder, image=True)


@pytest.mark.parametrize(
    ("name", "make", "family", "task", "verdicts", "runs"),
    [
        ("Wan2.1-T2V-14B", trees.official, "wan2.1", "t2v", WHOLE, True),
        ("Wan2.1-T2V-1.3B", trees.official_single, "wan2.1", "t2v", WHOLE, True),
        ("Wan2.1-I2V-14B-480P", official_i2v, "wan2.1", "i2v", IMAGE, True),
        ("Wan2.1-FLF2V-14B-720P", trees.official_flf2v, "wan2.1", "flf2v",
         {**LATER, "clip": "ok"}, False),
        ("Wan2.1-VACE-14B", trees.official_vace, "wan2.1", "vace", LATER, False),
        ("Wan2.2-I2V-A14B", trees.official_pair, "wan2.2", "i2v", PAIR, False),
        ("Wan2.2-TI2V-5B", trees.official_ti2v, "wan2.2", "ti2v",
         {**LATER, "vae": "not runnable"}, False),
    ],
)  # fmt: skip
def test_wans_own_folders(
    tmp_path: Path, name: str, make: Callable[[Path], Path], family: str, task: str,
    verdicts: dict[str, str], runs: bool,
) -> None:  # fmt: skip
    path = make(tmp_path / name)
    root = only(tmp_path)
    assert (root["name"], root["path"], root["layout"]) == (name, str(path), "files")
    assert (root["family"], root["task"], root["distilled"]) == (family, task, False)
    assert root["problems"] == []
    (variant,) = root["variants"]
    assert variant["precision"] == "bf16"
    assert variant["missing"] == []
    assert states(variant) == verdicts
    assert variant["components"]["dit"]["layout"] == ("file" if "1.3B" in name else "shards")
    assert variant["tokenizer"] == str(path / "google" / "umt5-xxl")
    assert all(v["reason"] and v["fix"] for v in variant["verdicts"] if v["state"] != "ok")
    assert runs == all(state == "ok" for state in states(variant).values())


@pytest.mark.parametrize("folders", [PLAIN, DISTILLED], ids=["plain", "distilled"])
def test_the_guides_folders(tmp_path: Path, folders: dict[str, str]) -> None:
    write_root(tmp_path / "Wan2.1-I2V-14B-480P-LightX2V", folders, image=True)
    root = only(tmp_path)
    assert (root["layout"], root["task"]) == ("guide", "i2v")
    assert root["distilled"] == ("distill_fp8" in folders)
    assert [v["precision"] for v in root["variants"]] == ["bf16", "fp8", "int8"]
    for variant in root["variants"]:
        assert states(variant) == {**IMAGE, "tiny_vae": "ok"}
        for kind in ("dit", "t5"):
            assert variant["components"][kind]["scheme"] == variant["precision"]


def test_single_files_of_several_models_are_one_root_a_model(tmp_path: Path) -> None:
    trees.distill_models(tmp_path / "Wan2.1-Distill-Models")
    trees.encoder_parts(tmp_path / "Encoders")
    roots = told(tmp_path)
    assert sorted(roots) == [f"{name}_lightx2v_4step" for name in sorted(trees.MODELS)]
    for name, root in roots.items():
        model = name.removesuffix("_lightx2v_4step")
        assert root["distilled"]
        assert root["task"] == ("i2v" if trees.MODELS[model] else "t2v")
        assert "12 DiTs in this folder" in root["problems"][0]
        stored = [(v["precision"], v["components"]["dit"]) for v in root["variants"]]
        assert sorted((precision, one["layout"], one["style"]) for precision, one in stored) == [
            ("bf16", "file", "wan"), ("fp8", "blocks", "wan"), ("fp8", "file", "comfyui"),
            ("fp8", "file", "wan"), ("int8", "blocks", "wan"), ("int8", "file", "wan"),
        ]  # fmt: skip
        for precision, component in stored:
            assert component["scheme"] == precision
            assert component["problems"] == []
            assert all(model in path for path in component["files"])


def test_two_experts_in_single_files_are_a_pair_for_each_precision(tmp_path: Path) -> None:
    trees.single_pair(tmp_path / "Wan2.2-Distill-Models")
    root = only(tmp_path)
    assert (root["family"], root["task"], root["distilled"]) == ("wan2.2", "i2v", True)
    assert root["problems"] == []
    for variant, scheme in zip(root["variants"], ("bf16", "fp8"), strict=True):
        assert variant["precision"] == scheme
        assert states(variant) == PAIR
        for kind, half in (("dit", "high_noise"), ("dit_low", "low_noise")):
            component = variant["components"][kind]
            assert component["scheme"] == scheme
            assert half in component["files"][0]


def test_a_newer_expert_is_paired_with_the_older_other_one(tmp_path: Path) -> None:
    root = trees.single_pair(tmp_path / "Wan2.2-Distill-Models")
    newer = root / "wan2.2_i2v_A14b_high_noise_lightx2v_4step_1030.safetensors"
    write_safetensors(newer, expert())
    variants = [v for v in only(root)["variants"] if v["precision"] == "bf16"]
    assert [states(variant) for variant in variants] == [PAIR, PAIR]


def test_the_older_pair_below_distill_models(tmp_path: Path) -> None:
    trees.legacy_pair(tmp_path / "Wan2.2-I2V-A14B-Moe-Distill-Lightx2v")
    root = only(tmp_path)
    assert (root["family"], root["task"], root["distilled"]) == ("wan2.2", "i2v", True)
    (variant,) = root["variants"]
    assert states(variant) == PAIR
    assert len(root["loras"]) == 1


@pytest.mark.parametrize("make", [trees.gguf_pair, trees.gguf_flat_pair], ids=["folders", "flat"])
def test_a_gguf_pair_is_named_and_not_runnable(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    make(tmp_path / "Wan2.2-I2V-A14B-GGUF")
    root = only(tmp_path)
    assert (root["family"], root["task"]) == ("wan2.2", "i2v")
    (variant,) = root["variants"]
    assert variant["precision"] == "gguf Q4_K"
    for kind in ("dit", "dit_low"):
        component = variant["components"][kind]
        assert (component["precision"], component["style"]) == (None, "gguf")
        assert states(variant)[kind] == "not runnable"


def test_gguf_files_of_one_model_are_its_variants(tmp_path: Path) -> None:
    for dtype in ("Q4_K", "Q8_0"):
        name = f"wan2.1-t2v-14b-{dtype}.gguf"
        trees.write_bytes(tmp_path / "gguf" / name, gguf_bytes(quantized_gguf(dit(), dtype)))
    root = only(tmp_path)
    assert (root["name"], root["task"]) == ("gguf", "t2v")
    assert [v["precision"] for v in root["variants"]] == ["gguf Q4_K", "gguf Q8_0"]


def test_nvfp4_is_named_and_not_runnable(tmp_path: Path) -> None:
    trees.nvfp4_file(tmp_path / "nvfp4")
    root = only(tmp_path)
    (variant,) = root["variants"]
    assert (variant["precision"], variant["complete"]) == ("nvfp4", False)
    assert states(variant) == LATER
    assert root["architecture"] is not None


def test_comfyuis_folders(tmp_path: Path) -> None:
    trees.other_models(trees.comfyui(tmp_path / "ComfyUI" / "models"))
    root = only(tmp_path)
    assert (root["name"], root["layout"]) == ("wan2.1_i2v_480p_14b", "comfyui")
    assert (root["family"], root["task"]) == ("wan2.1", "i2v")
    assert [v["precision"] for v in root["variants"]] == ["bf16", "fp8"]
    for variant in root["variants"]:
        assert states(variant) == {
            "dit": "ok", "t5": "not runnable", "clip": "not runnable", "vae": "ok",
            "tiny_vae": "ok", "tokenizer": "missing",
        }  # fmt: skip
    parts = root["variants"][1]["components"]
    assert (parts["dit"]["scheme"], parts["dit"]["style"]) == ("fp8", "comfyui")
    assert (parts["t5"]["scheme"], parts["t5"]["width"]) == ("fp8", 8)
    assert parts["clip"]["width"] == 10
    assert [Path(one["files"][0]).name for one in root["loras"]] == ["lightx2v_rank64.safetensors"]


def test_what_a_verdict_told_to_fetch_for_comfyui_is_found(tmp_path: Path) -> None:
    root = trees.comfyui(tmp_path / "models")
    places = {v["part"]: v["fix"].split("--local-dir ")[1].split()[0]
              for v in only(root)["variants"][0]["verdicts"] if v["fix"]}  # fmt: skip
    trees.tokenizer(Path(places["tokenizer"]))
    write_safetensors(Path(places["t5"]) / trees.T5_BF16, t5())
    write_safetensors(Path(places["clip"]) / trees.CLIP_BF16, clip())
    assert set(states(only(root)["variants"][0]).values()) == {"ok"}


def test_a_whole_folder_sorted_into_comfyui_keeps_its_name(tmp_path: Path) -> None:
    trees.official(tmp_path / "models" / "diffusion_models" / "Wan2.1-T2V-14B")
    root = only(tmp_path)
    assert root["name"] == "wan2.1-t2v-14b"
    assert states(root["variants"][0]) == WHOLE


def test_files_of_other_models_are_no_wan_models(tmp_path: Path) -> None:
    trees.other_models(tmp_path / "models")
    assert told(tmp_path) == {}


def test_a_pipeline_of_another_model_is_no_wan_model(tmp_path: Path) -> None:
    flux = tmp_path / "FLUX.1-dev"
    trees.shards(flux / "transformer", trees.FLUX, 2)
    trees.shards(flux / "text_encoder", trees.t5xxl(), 2, "model")
    write_safetensors(flux / "vae" / "diffusion_pytorch_model.safetensors", trees.FLAT_VAE)
    trees.write_json(flux / "model_index.json", {"_class_name": "LTXPipeline"})
    assert told(tmp_path) == {}


@pytest.mark.parametrize("image", [False, True], ids=["t2v", "i2v"])
def test_diffusers_folders(tmp_path: Path, image: bool) -> None:
    trees.diffusers(tmp_path / "Wan2.1-14B-Diffusers", image=image)
    root = only(tmp_path)
    assert (root["layout"], root["family"]) == ("diffusers", "wan2.1")
    assert root["task"] == ("i2v" if image else "t2v")
    (variant,) = root["variants"]
    parts = variant["components"]
    assert (parts["dit"]["style"], parts["dit"]["layout"]) == ("diffusers", "shards")
    assert (parts["t5"]["style"], len(parts["t5"]["files"])) == ("transformers", 2)
    later = dict.fromkeys(parts, "not runnable")
    assert states(variant) == {**later, "dit": "ok", "tokenizer": "ok"}


def test_a_diffusers_pair_has_two_transformers(tmp_path: Path) -> None:
    trees.diffusers(tmp_path / "Wan2.2-T2V-A14B-Diffusers", pair=True)
    root = only(tmp_path)
    assert (root["family"], root["task"]) == ("wan2.2", "t2v")
    assert {"dit", "dit_low"} <= set(root["variants"][0]["components"])


def test_two_revisions_in_the_hubs_cache(tmp_path: Path) -> None:
    name = "lightx2v/Wan2.1-T2V-14B-Lightx2v"
    for revision in ("b" * 40, "a" * 40):
        made = write_root(tmp_path / revision[:1], {"fp8": "fp8"})
        trees.hub_cache(tmp_path / "hub", name, made, revision)
    roots = told(tmp_path / "hub")
    assert sorted(roots) == ["Wan2.1-T2V-14B-Lightx2v", "Wan2.1-T2V-14B-Lightx2v @bbbbbbb"]
    assert all(root["variants"][0]["complete"] for root in roots.values())


@pytest.mark.parametrize("revision", ["", "\udcff", "nothing"])
def test_a_hub_cache_without_a_main_revision_keeps_its_name(tmp_path: Path, revision: str) -> None:
    made = trees.official(tmp_path / "made")
    trees.hub_cache(tmp_path / "hub", "Wan-AI/Wan2.1-T2V-14B", made)
    main = tmp_path / "hub" / "models--Wan-AI--Wan2.1-T2V-14B" / "refs" / "main"
    main.write_bytes(revision.encode(errors="surrogateescape"))
    root = only(tmp_path / "hub")
    assert root["name"].startswith("Wan2.1-T2V-14B")
    assert root["variants"][0]["complete"]


@pytest.mark.parametrize(
    ("style", "rank", "image"),
    [("wan", 4, False), ("wan", 64, True), ("kohya", 8, False), ("diffusers", 16, False)],
)
def test_a_lora_says_its_rank_and_what_it_changes(
    tmp_path: Path, style: str, rank: int, image: bool
) -> None:
    root = write_root(tmp_path / "Model", {"fp8": "fp8"})
    write_safetensors(root / "loras" / "a.safetensors", lora(style, rank, image=image))
    write_safetensors(root / "loras" / "sdxl.safetensors", trees.SD_LORA)
    (found, _) = only(root)["loras"]
    assert found["files"][0].endswith("a.safetensors")
    assert found["lora"] == {"rank": rank, "dim": 8, "image": image}


def test_a_file_beside_the_guides_folders_is_told(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"distill_fp8": "fp8"})
    write_safetensors(root / "wan2.1_t2v_14b_lightx2v_4step.safetensors", dit())
    found = only(root)
    assert "LightX2V would load it instead" in found["problems"][0]
    assert states(found["variants"][0]) == {**WHOLE, "tiny_vae": "ok"}


def test_a_folder_named_for_another_precision_is_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "Model" / "fp8", "int8")
    root = only(tmp_path)
    assert root["problems"] == ["fp8/ holds int8 weights, whatever its name says"]
    assert root["variants"][0]["precision"] == "int8"


def test_one_dit_called_an_expert_makes_no_pair_of_a_whole_root(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"original": "bf16", "fp8": "fp8"})
    renamed = root / "original" / "wan2.2_t2v_high_noise_14b.safetensors"
    (root / "original" / "distill_model.safetensors").rename(renamed)
    found = only(root)
    assert (found["family"], found["task"]) == ("wan2.1", "t2v")
    (problem,) = found["problems"]
    assert problem.startswith(f"original/{renamed.name} is called the high-noise half of a pair")
    for variant in found["variants"]:
        assert (variant["complete"], variant["missing"]) == (True, [])
        assert states(variant) == {**WHOLE, "tiny_vae": "ok"}


def test_names_that_mislead_change_nothing(tmp_path: Path) -> None:
    root = tmp_path / "Model"
    write_safetensors(root / "wan2.1_t2v_14b_fp8_lightx2v_4step.safetensors", dit(2, "I8"))
    write_safetensors(root / "Wan2.1_VAE.pth", t5())
    write_safetensors(root / "models_t5_umt5-xxl-enc-bf16.pth", trees.VAE)
    write_safetensors(root / "taew2_1.pth", lora())
    trees.tokenizer(root)
    (variant,) = only(root)["variants"]
    parts = variant["components"]
    assert (variant["precision"], variant["complete"]) == ("int8", True)
    assert parts["t5"]["files"][0].endswith("Wan2.1_VAE.pth")
    assert parts["vae"]["files"][0].endswith("models_t5_umt5-xxl-enc-bf16.pth")
    assert "tiny_vae" not in parts


@pytest.mark.parametrize(
    ("table", "scheme", "style"),
    [
        (dit(), "bf16", "wan"), (dit(2, "F8_E4M3"), "fp8", "wan"), (dit(2, "I8"), "int8", "wan"),
        (prefixed(dit()), "bf16", "prefixed"),
        (prefixed(dit(), "diffusion_model."), "bf16", "prefixed"),
        (comfy_scaled(dit(2, "F8_E4M3")), "fp8", "comfyui"),
        (comfy_scaled(prefixed(dit(2, "F8_E4M3"))), "fp8", "comfyui"),
        (trees.diffusers_names(dit()), "bf16", "diffusers"),
        (cast(dit()), "fp8", "wan"),
    ],
)  # fmt: skip
def test_a_dits_scheme_and_whose_names_it_has(
    tmp_path: Path, table: trees.Table, scheme: str, style: str
) -> None:
    write_safetensors(tmp_path / "x" / "model.safetensors", table)
    root = only(tmp_path)
    component = root["variants"][0]["components"]["dit"]
    assert (component["scheme"], component["style"]) == (scheme, style)
    assert root["architecture"]["num_layers"] == 2


def test_the_size_is_what_people_call_it(tmp_path: Path) -> None:
    table: dict[str, Any] = {"__metadata__": {}}
    sizes = {8: 1536, 48: 9216, 16: 8960}
    for name, (dtype, shape) in dit(30).items():
        grown = tuple(sizes.get(size, size) for size in shape) if len(shape) <= 2 else shape
        if name == "patch_embedding.weight":
            grown = (1536, 16, 1, 2, 2)
        table[name] = dtype, grown
    header, end = {}, 0
    for name, (dtype, shape) in list(table.items())[1:]:
        nbytes = 2
        for size in shape:
            nbytes *= size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + nbytes]}
        end += nbytes
    raw = json.dumps(header).encode()
    path = trees.write_bytes(
        tmp_path / "wan" / "diffusion_pytorch_model.safetensors",
        len(raw).to_bytes(8, "little") + raw,
    )
    with path.open("ab") as file:
        file.truncate(8 + len(raw) + end)  # a hole, which takes no space
    assert only(tmp_path)["size"] == "1.3B"


def test_the_vae_that_fits_is_taken_of_two(tmp_path: Path) -> None:
    for name, task in (("Wan2.1-T2V-14B", "t2v"), ("Wan2.2-TI2V-5B", "ti2v")):
        root = trees.official(tmp_path / name, ti2v() if task == "ti2v" else dit())
        write_safetensors(root / "A_Wan2.2_VAE.safetensors", VAE22)
        write_safetensors(root / "lighttaew2_2.safetensors", TINY_VAE22)
        found = only(root)
        vae = found["variants"][0]["components"]["vae"]
        assert found["task"] == task
        assert vae["width"] == (48 if task == "ti2v" else 16)
        assert vae["problems"] == []


def test_loose_parts_are_offered_to_the_models_that_lack_them(tmp_path: Path) -> None:
    trees.distill_models(tmp_path / "ssd" / "models", {"wan2.1_i2v_480p": True})
    parts = trees.encoder_parts(tmp_path / "hdd" / "Encoders")
    wrong = {**t5(), "token_embedding.weight": ("BF16", (32, 4))}
    write_safetensors(tmp_path / "other" / "models_t5_umt5-xxl-enc-int8.pth", wrong)
    vae = tmp_path / "nas" / "Autoencoders"
    write_safetensors(vae / "Wan2.1_VAE.pth", trees.VAE)
    write_safetensors(vae / "Wan2.2_VAE.pth", VAE22)
    root = only(tmp_path / "ssd", tmp_path / "other", tmp_path / "hdd", tmp_path / "nas")
    offers = [(one["kind"], one["scheme"]) for one in root["offers"]]
    assert sorted(offers) == [("clip", "bf16"), ("clip", "fp8"), ("t5", "bf16"), ("t5", "fp8"),
                              ("vae", "bf16")]  # fmt: skip
    assert root["tokenizer_offer"] == str(parts / "google" / "umt5-xxl")
    for variant in root["variants"]:
        assert states(variant) == {"dit": "ok", "t5": "elsewhere", "clip": "elsewhere",
                                   "vae": "elsewhere", "tokenizer": "elsewhere"}  # fmt: skip
        assert not variant["complete"]


def test_a_model_that_has_all_is_offered_nothing(tmp_path: Path) -> None:
    trees.official(tmp_path / "Wan2.1-T2V-14B")
    trees.encoder_parts(tmp_path / "Encoders")
    root = only(tmp_path)
    assert (root["offers"], root["tokenizer_offer"]) == ([], None)


def test_several_models_of_wan_2_2_in_comfyuis_folders(tmp_path: Path) -> None:
    dits = tmp_path / "models" / "diffusion_models"
    for half in ("high", "low"):
        fp8 = comfy_scaled(dit(2, "F8_E4M3"))
        write_safetensors(dits / f"wan2.2_t2v_{half}_noise_14B_fp8_scaled.safetensors", fp8)
        write_safetensors(dits / f"wan2.2_i2v_{half}_noise_14B_fp16.safetensors", expert())
        kijai = dits / f"Wan2_2-I2V-A14B-{half.upper()}_fp8_e4m3fn_scaled_KJ.safetensors"
        write_safetensors(kijai, comfy_scaled(expert(2, "F8_E4M3")))
    write_safetensors(dits / "wan2.2_ti2v_5B_fp16.safetensors", ti2v())
    roots = told(tmp_path)
    assert {name: (root["family"], root["task"]) for name, root in roots.items()} == {
        "wan2.2_t2v_14b": ("wan2.2", "t2v"), "wan2.2_i2v_14b": ("wan2.2", "i2v"),
        "wan2_2-i2v-a14b_kj": ("wan2.2", "i2v"), "wan2.2_ti2v_5b": ("wan2.2", "ti2v"),
    }  # fmt: skip
    for name, root in roots.items():
        (variant,) = root["variants"]
        assert ("dit_low" in variant["components"]) == ("ti2v" not in name)
        assert states(variant)["dit"] == "not runnable"


def test_two_sets_of_shards_in_one_folder_are_two_models(tmp_path: Path) -> None:
    trees.shards(tmp_path / "x", dit(), 2, "wan2.1_a")
    trees.shards(tmp_path / "x", dit(image=True), 2, "wan2.1_b")
    roots = told(tmp_path)
    assert {name: root["task"] for name, root in roots.items()} == {
        "wan2.1_a": "t2v", "wan2.1_b": "i2v",
    }  # fmt: skip
    assert all("2 DiTs in this folder" in root["problems"][0] for root in roots.values())


def test_two_networks_under_one_name_have_names_of_their_own(tmp_path: Path) -> None:
    for tag, image in (("bf16", False), ("fp16", True)):
        write_safetensors(tmp_path / "x" / f"wan2.1_14b_{tag}.safetensors", dit(image=image))
    assert sorted(root["task"] for root in told(tmp_path).values()) == ["i2v", "t2v"]


def test_a_pipe_in_place_of_model_index_json_is_not_waited_for(tmp_path: Path) -> None:
    folder = trees.diffusers(tmp_path / "Wan-Diffusers")
    (folder / "model_index.json").unlink()
    os.mkfifo(folder / "model_index.json")
    assert inspect_root(folder) is not None
