"""Folders as people have them on their disks, whole, with published names and tiny headers."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightx2v_tui.cli import main
from tests.unit.helpers import (
    CLIP_BF16,
    DIFFUSERS_VAE,
    LORA,
    TINY_VAE,
    VAE,
    VAE22,
    Table,
    clip,
    clip_vision,
    comfy_scaled,
    diffusers_names,
    dit,
    dit_block,
    dit_rest,
    expert,
    flf2v,
    gguf_bytes,
    nvfp4,
    prefixed,
    pth_bytes,
    quantized_gguf,
    t5,
    t5xxl,
    ti2v,
    umt5,
    vace,
    write_safetensors,
)

T5_BF16 = "models_t5_umt5-xxl-enc-bf16.pth"
SHARDS = "diffusion_pytorch_model"
#: `lightx2v/Wan2.1-Distill-Models`: its three models.
MODELS = {"wan2.1_i2v_480p": True, "wan2.1_i2v_720p": True, "wan2.1_t2v_14b": False}


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_json(path: Path, value: object) -> Path:
    """Write a JSON file; its folder is made."""
    return write_bytes(path, json.dumps(value).encode())


def tokenizer(folder: Path) -> Path:
    """UMT5's tokenizer as Wan publishes it."""
    inner = folder / "google" / "umt5-xxl"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        write_json(inner / name, {})
    write_bytes(inner / "spiece.model", b"\n\x0e")
    return inner


def shards(folder: Path, table: Table, count: int = 3, stem: str = SHARDS) -> Path:
    """A network in numbered files, and the index that names them."""
    names = list(table)
    weight_map = {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        held = {name: table[name] for name in names[number::count]}
        write_safetensors(folder / file, held)
        weight_map |= dict.fromkeys(held, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    return write_json(folder / f"{stem}.safetensors.index.json", index)


def config(folder: Path, **values: object) -> None:
    """The config.json of Wan's own repositories, which has no `num_heads` of a tiny model."""
    write_json(folder / "config.json", {"num_heads": 2, **values})


def encoders(folder: Path, *, image: bool = False, wan22: bool = False) -> Path:
    """T5, VAE, tokenizer and, for image models, CLIP, as torch.save writes them."""
    write_bytes(folder / T5_BF16, pth_bytes(t5()))
    vae = "Wan2.2_VAE.pth" if wan22 else "Wan2.1_VAE.pth"
    write_bytes(folder / vae, pth_bytes(VAE22 if wan22 else VAE))
    if image:
        write_bytes(folder / CLIP_BF16, pth_bytes(clip()))
        write_json(folder / "xlm-roberta-large" / "tokenizer.json", {})
        write_bytes(folder / "xlm-roberta-large" / "sentencepiece.bpe.model", b"\n")
    tokenizer(folder)
    return folder


def official(folder: Path, table: Table | None = None, *, image: bool = False) -> Path:
    """`Wan-AI/Wan2.1-…`: the DiT in shards, the rest beside it."""
    shards(folder, table or dit(image=image))
    config(folder, num_layers=2)
    write_bytes(folder / "README.md", b"# Wan")
    (folder / "assets").mkdir()
    return encoders(folder, image=image)


def official_single(folder: Path) -> Path:
    """`Wan-AI/Wan2.1-T2V-1.3B`: the DiT in one file."""
    write_safetensors(folder / f"{SHARDS}.safetensors", dit())
    config(folder, num_layers=2)
    return encoders(folder)


def official_pair(folder: Path) -> Path:
    """`Wan-AI/Wan2.2-I2V-A14B`: two folders of shards."""
    for half in ("high_noise_model", "low_noise_model"):
        shards(folder / half, expert())
        config(folder / half, num_layers=2)
    write_json(folder / "configuration.json", {"framework": "Pytorch"})
    return encoders(folder)


def official_ti2v(folder: Path) -> Path:
    """`Wan-AI/Wan2.2-TI2V-5B`: flat shards and a VAE of its own."""
    shards(folder, ti2v())
    config(folder, num_layers=2)
    return encoders(folder, wan22=True)


def official_flf2v(folder: Path) -> Path:
    """`Wan-AI/Wan2.1-FLF2V-14B-720P`."""
    return official(folder, flf2v(), image=True)


def official_vace(folder: Path) -> Path:
    """`Wan-AI/Wan2.1-VACE-14B`."""
    return official(folder, vace())


def split(folder: Path, dtype: str, *, image: bool, layers: int = 2) -> Path:
    """LightX2V's folder of blocks beside its single files."""
    write_safetensors(folder / "non_block.safetensors", dit_rest(image=image))
    for layer in range(layers):
        write_safetensors(folder / f"block_{layer}.safetensors",
                          dit_block(layer, dtype, image=image))  # fmt: skip
    weight_map = dict.fromkeys(dit_rest(image=image), "non_block.safetensors")
    for layer in range(layers):
        weight_map |= dict.fromkeys(dit_block(layer, image=image), f"block_{layer}.safetensors")
    write_json(folder / f"{SHARDS}.safetensors.index.json", {"weight_map": weight_map})
    return folder


def distill_models(folder: Path, models: Mapping[str, bool] = MODELS) -> Path:
    """`lightx2v/Wan2.1-Distill-Models`: single files of several models, no encoders."""
    for model, image in models.items():
        write_safetensors(folder / f"{model}_lightx2v_4step.safetensors", dit(image=image))
        for tag, dtype in (("scaled_fp8_e4m3", "F8_E4M3"), ("int8", "I8")):
            stem = f"{model}_{tag}_lightx2v_4step"
            write_safetensors(folder / f"{stem}.safetensors", dit(2, dtype, image=image))
            split(folder / f"{stem}_split", dtype, image=image)
        comfy = comfy_scaled(dit(2, "F8_E4M3", image=image))
        name = f"{model}_scaled_fp8_e4m3_lightx2v_4step_comfyui.safetensors"
        write_safetensors(folder / name, comfy)
    config(folder)
    return folder


def single_pair(folder: Path) -> Path:
    """`lightx2v/Wan2.2-Distill-Models`: single files of two experts."""
    for half in ("high", "low"):
        stem = f"wan2.2_i2v_A14b_{half}_noise"
        write_safetensors(folder / f"{stem}_lightx2v_4step.safetensors", expert())
        write_safetensors(folder / f"{stem}_scaled_fp8_e4m3_lightx2v_4step.safetensors",
                          expert(2, "F8_E4M3"))  # fmt: skip
    return encoders(folder)


def legacy_pair(folder: Path) -> Path:
    """`lightx2v/Wan2.2-I2V-A14B-Moe-Distill-Lightx2v`: the experts below `distill_models/`."""
    inner = folder / "distill_models"
    for half in ("high_noise_model", "low_noise_model"):
        write_safetensors(inner / half / "distill_model.safetensors", expert())
        config(inner / half)
    encoders(inner)
    write_safetensors(folder / "loras" / "high_noise_model.safetensors", LORA)
    return folder


def encoder_parts(folder: Path) -> Path:
    """`lightx2v/Encoders`: T5 and CLIP in two precisions, and the tokenizer."""
    write_bytes(folder / T5_BF16, pth_bytes(t5()))
    write_safetensors(folder / "models_t5_umt5-xxl-enc-fp8.pth", t5("F8_E4M3"))
    write_bytes(folder / CLIP_BF16, pth_bytes(clip()))
    write_safetensors(folder / f"{CLIP_BF16.removesuffix('.pth')}-fp8.pth", clip("F8_E4M3"))
    tokenizer(folder)
    return folder


def comfyui(folder: Path) -> Path:
    """ComfyUI's `models`, with a Wan model sorted into folders of its own, and other models."""
    fp8 = comfy_scaled(prefixed(dit(2, "F8_E4M3", image=True)))
    dits = folder / "diffusion_models" / "wan" / "2.1"
    write_safetensors(dits / "wan2.1_i2v_480p_14B_fp8_e4m3fn_scaled.safetensors", fp8)
    write_safetensors(dits / "wan2.1_i2v_480p_14B_bf16.safetensors", dit(image=True))
    scaled = {"scaled_fp8": ("F8_E4M3", (2,)), "spiece_model": ("U8", (9,))}
    for key, (dtype, shape) in umt5().items():
        coded = "SelfAttention" in key and "bias" not in key
        scaled[key] = ("F8_E4M3" if coded else dtype, shape)
        if coded:
            scaled[key.replace(".weight", ".scale_weight")] = ("F32", ())
    encoder = folder / "text_encoders"
    write_safetensors(encoder / "umt5_xxl_fp8_e4m3fn_scaled.safetensors", scaled)
    write_safetensors(folder / "clip_vision" / "clip_vision_h.safetensors", clip_vision())
    write_safetensors(folder / "vae" / "wan" / "wan_2.1_vae.safetensors", VAE)
    write_safetensors(folder / "vae_approx" / "taew2_1.safetensors", TINY_VAE)
    write_safetensors(folder / "loras" / "wan" / "lightx2v_rank64.safetensors", LORA)
    return folder


def other_models(folder: Path) -> Path:
    """What image models have in the same folders."""
    write_safetensors(folder / "diffusion_models" / "flux1-dev.safetensors", FLUX)
    write_safetensors(folder / "unet" / "sd15_unet.safetensors", SD_UNET)
    write_safetensors(folder / "checkpoints" / "sd_xl_base_1.0.safetensors", SD)
    write_safetensors(folder / "text_encoders" / "t5xxl_fp16.safetensors", t5xxl())
    write_safetensors(folder / "text_encoders" / "clip_l.safetensors", CLIP_L)
    write_safetensors(folder / "vae" / "sdxl_vae.safetensors", SDXL_VAE)
    write_safetensors(folder / "vae" / "flux_vae_diffusers.safetensors", FLAT_VAE)
    write_safetensors(folder / "vae_approx" / "taesd_decoder.safetensors", TAESD)
    write_safetensors(folder / "loras" / "sdxl_style.safetensors", SD_LORA)
    return folder


SD: Table = {
    "model.diffusion_model.input_blocks.0.0.weight": ("F16", (320, 4, 3, 3)),
    "first_stage_model.decoder.mid.block_1.conv1.weight": ("F16", (8, 8, 3, 3)),
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": ("F16", (4, 8)),
}
SD_UNET: Table = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": ("F16", (8, 8)),
    "conv_in.weight": ("F16", (8, 4, 3, 3)),
}
FLUX: Table = {
    "double_blocks.0.img_attn.qkv.weight": ("BF16", (24, 8)),
    "img_in.weight": ("BF16", (8, 64)),
}
CLIP_L: Table = {"text_model.encoder.layers.0.self_attn.q_proj.weight": ("F16", (8, 8))}
SDXL_VAE: Table = {
    "decoder.conv_in.weight": ("F16", (8, 4, 3, 3)),
    "decoder.mid.block_1.conv1.weight": ("F16", (8, 8, 3, 3)),
    "decoder.up.0.block.0.conv1.weight": ("F16", (8, 8, 3, 3)),
}
FLAT_VAE: Table = {
    "decoder.conv_in.weight": ("F16", (8, 16, 3, 3)),
    "decoder.mid_block.resnets.0.conv1.weight": ("F16", (8, 8, 3, 3)),
}
TAESD: Table = {"1.weight": ("F16", (64, 4, 3, 3)), "3.conv.0.weight": ("F16", (64, 64, 3, 3))}
SD_LORA: Table = {
    "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight": ("F16", (4, 8)),
    "lora_unet_down_blocks_1_attentions_0_proj_in.lora_up.weight": ("F16", (8, 4)),
}


def diffusers(folder: Path, *, pair: bool = False, image: bool = False) -> Path:
    """`Wan-AI/…-Diffusers`: a folder for each network, the large ones in shards."""
    shards(folder / "transformer", diffusers_names(dit(image=image)))
    config(folder / "transformer", num_layers=2)
    if pair:
        shards(folder / "transformer_2", diffusers_names(dit(image=image)))
    shards(folder / "text_encoder", umt5(), 2, "model")
    write_safetensors(folder / "vae" / f"{SHARDS}.safetensors", DIFFUSERS_VAE)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        write_json(folder / "tokenizer" / name, {})
    if image:
        write_safetensors(folder / "image_encoder" / "model.safetensors", clip_vision())
    write_json(folder / "scheduler" / "scheduler_config.json", {})
    write_json(folder / "model_index.json", {"_class_name": "WanPipeline"})
    return folder


def gguf_pair(folder: Path) -> Path:
    """City96's and QuantStack's GGUF files of a Wan 2.2 pair."""
    table = quantized_gguf(expert())
    for half in ("HighNoise", "LowNoise"):
        write_bytes(folder / half / f"Wan2.2-I2V-A14B-{half}-Q4_K_M.gguf", gguf_bytes(table))
    return folder


def gguf_flat_pair(folder: Path) -> Path:
    """The same in one folder, as bartowski names them."""
    for half in ("high", "low"):
        name = f"wan2.2_i2v_{half}_noise_14B_Q4_K_M.gguf"
        write_bytes(folder / name, gguf_bytes(quantized_gguf(expert())))
    return folder


def nvfp4_file(folder: Path) -> Path:
    """`lightx2v/Wan2.2-NVFP4-Sparse` and its like: one file of four-bit codes."""
    name = "wan2.1_t2v_1_3b_nvfp4_lightx2v_4step.safetensors"
    write_safetensors(folder / name, nvfp4(dit()))
    return encoders(folder)


def hub_cache(hub: Path, repository: str, made: Path, revision: str = "a" * 40) -> Path:
    """Move a folder into the hub's cache: blobs, links to them, and which revision is main."""
    top = hub / f"models--{repository.replace('/', '--')}"
    (top / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot = top / "snapshots" / revision
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        blob = top / "blobs" / f"{revision[:4]}{len(list((top / 'blobs').iterdir())):036}"
        link = snapshot / path.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        depth = len(link.relative_to(top).parts) - 1
        link.symlink_to(Path(*[".."] * depth, "blobs", blob.name))
    write_bytes(top / "refs" / "main", revision.encode())
    return snapshot


def told(*folders: Path) -> dict[str, dict[str, Any]]:
    """What `scan --json` prints of these folders: the models by their names, each once."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["scan", *map(str, folders), "--json"]) == 0
    roots: dict[str, dict[str, Any]] = {}
    for root in json.loads(printed.getvalue())["roots"]:
        assert root["name"] not in roots
        roots[root["name"]] = root
    return roots


def only(*folders: Path) -> dict[str, Any]:
    """The one model in these folders."""
    (root,) = told(*folders).values()
    return root


def states(variant: dict[str, Any]) -> dict[str, str]:
    """What stands about each part of a variant."""
    return {verdict["part"]: verdict["state"] for verdict in variant["verdicts"]}


def verdict(root: dict[str, Any], part: str, number: int = 0) -> dict[str, str]:
    """The verdict on one part of a variant; every bad one says why and what to do."""
    found = root["variants"][number]["verdicts"]
    for one in found:
        assert one["state"] in {"ok", "missing", "broken", "not runnable", "elsewhere"}
        assert bool(one["reason"]) == bool(one["fix"]) == (one["state"] != "ok"), one
    (told_of,) = [one for one in found if one["part"] == part]
    return told_of
