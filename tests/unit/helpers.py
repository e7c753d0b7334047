"""Tiny weight files in pure Python, model roots made of them, and snapshots of GPUs."""

from __future__ import annotations

import json
import math
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lightx2v_tui.gpus import Gpu

Table = Mapping[str, tuple[str, tuple[int, ...]]]

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1}
CODES = {"bf16": "BF16", "fp8": "F8_E4M3", "int8": "I8"}
DISTILLED = {"distill_models": "bf16", "distill_fp8": "fp8", "distill_int8": "int8"}
PLAIN = {"original": "bf16", "fp8": "fp8", "int8": "int8"}
CLIP_BF16 = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"


def safetensors_bytes(tensors: Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file with these tensors, all zero."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * BYTES[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    if len(header) % 256 == 0x80:
        header += b" " * 8  # a first byte of 0x80 would look like a pickle
    return raw_safetensors(header, bytes(end))


def raw_safetensors(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file with exactly this header."""
    return struct.pack("<Q", len(header)) + header + data


def write_safetensors(
    path: Path, tensors: Table, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file of zeros; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors_bytes(tensors, metadata))
    return path


def write_pickle(path: Path, pickled: bytes) -> Path:
    """Write a `.pth` zip whose data.pkl is exactly `pickled`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return path


def _linear(name: str, rows: int, columns: int, dtype: str, *, scaled: bool = True) -> Table:
    table = {f"{name}.weight": (dtype, (rows, columns)), f"{name}.bias": ("BF16", (rows,))}
    if dtype in ("F8_E4M3", "I8") and scaled:
        table[f"{name}.weight_scale"] = ("F32", (rows, 1))
    return table


def dit_block(
    layer: int, dtype: str = "BF16", *, scaled: bool = True, image: bool = False
) -> Table:
    """One block of a Wan DiT of width 8."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {}
    at = f"blocks.{layer}"
    for part in ("self_attn", "cross_attn"):
        for name in "qkvo":
            table |= _linear(f"{at}.{part}.{name}", 8, 8, dtype, scaled=scaled)
        table |= {f"{at}.{part}.norm_{name}.weight": ("BF16", (8,)) for name in "qk"}
    if image:
        for name in ("k_img", "v_img"):
            table |= _linear(f"{at}.cross_attn.{name}", 8, 8, dtype, scaled=scaled)
        table[f"{at}.cross_attn.norm_k_img.weight"] = ("BF16", (8,))
    table |= _linear(f"{at}.ffn.0", 16, 8, dtype, scaled=scaled)
    table |= _linear(f"{at}.ffn.2", 8, 16, dtype, scaled=scaled)
    table |= {f"{at}.norm3.{leaf}": ("BF16", (8,)) for leaf in ("weight", "bias")}
    table[f"{at}.modulation"] = ("BF16", (1, 6, 8))
    return table


def dit_rest(*, image: bool = False, last_frame: bool = False) -> Table:
    """What a Wan DiT of width 8 has beside its blocks."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "patch_embedding.weight": ("BF16", (8, 36 if image else 16, 1, 2, 2)),
        "patch_embedding.bias": ("BF16", (8,)),
        "head.modulation": ("BF16", (1, 2, 8)),
        **_linear("head.head", 64, 8, "BF16"),
        **_linear("text_embedding.0", 8, 4, "BF16"),
        **_linear("text_embedding.2", 8, 8, "BF16"),
        **_linear("time_embedding.0", 8, 6, "BF16"),
        **_linear("time_embedding.2", 8, 8, "BF16"),
        **_linear("time_projection.1", 48, 8, "BF16"),
    }
    if image:
        for index, rows, columns in ((1, 10, 10), (3, 8, 10)):
            table |= _linear(f"img_emb.proj.{index}", rows, columns, "BF16")
        for index, size in ((0, 10), (4, 8)):
            table |= {
                f"img_emb.proj.{index}.{leaf}": ("BF16", (size,)) for leaf in ("weight", "bias")
            }
    if last_frame:
        table["img_emb.emb_pos"] = ("BF16", (1, 514, 10))
    return table


def dit(layers: int = 2, dtype: str = "BF16", *, image: bool = False) -> Table:
    """A whole Wan DiT of width 8."""
    table = dict(dit_rest(image=image))
    for layer in range(layers):
        table |= dit_block(layer, dtype, image=image)
    return table


def t5(dtype: str = "BF16") -> Table:
    """A Wan UMT5 of one block."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "token_embedding.weight": ("BF16", (32, 8)),
        "norm.weight": ("BF16", (8,)),
        "blocks.0.norm1.weight": ("BF16", (8,)),
        "blocks.0.norm2.weight": ("BF16", (8,)),
        "blocks.0.pos_embedding.embedding.weight": ("BF16", (4, 2)),
    }
    for name, rows, columns in (
        ("attn.q", 12, 8), ("attn.k", 12, 8), ("attn.v", 12, 8), ("attn.o", 8, 12),
        ("ffn.gate.0", 16, 8), ("ffn.fc1", 16, 8), ("ffn.fc2", 8, 16),
    ):  # fmt: skip
        table |= _linear(f"blocks.0.{name}", rows, columns, dtype)
    return table


def clip(dtype: str = "F16") -> Table:
    """The mark of Wan's CLIP and one linear of its vision tower."""
    linear = _linear("visual.transformer.0.attn.proj", 8, 8, dtype)
    return {"visual.patch_embedding.weight": ("F16", (4, 3, 2, 2)), **linear}


VAE: Table = {
    "decoder.conv1.weight": ("BF16", (16, 16, 3, 3, 3)),
    "decoder.middle.0.residual.0.gamma": ("BF16", (16, 1, 1, 1)),
    "decoder.head.2.weight": ("BF16", (3, 4, 3, 3, 3)),
}
TINY_VAE: Table = {
    "decoder.1.weight": ("F16", (32, 16, 3, 3)),
    **{f"decoder.{index}.weight": ("F16", (16, 16, 3, 3)) for index in (8, 14, 20)},
}
LORA: Table = {
    "diffusion_model.blocks.0.ffn.0.lora_down.weight": ("BF16", (2, 8)),
    "diffusion_model.blocks.0.ffn.0.lora_up.weight": ("BF16", (16, 2)),
}


def write_folder(folder: Path, precision: str, *, image: bool = False, layers: int = 2) -> Path:
    """Write one precision folder as the guide draws it, and its tokenizer."""
    dtype = CODES[precision]
    if precision == "bf16":
        write_safetensors(folder / "distill_model.safetensors", dit(layers, image=image))
    else:
        write_safetensors(folder / "non_block.safetensors", dit_rest(image=image))
        for layer in range(layers):
            block = dit_block(layer, dtype, image=image)
            write_safetensors(folder / f"block_{layer}.safetensors", block)
        write_index(folder, layers, image=image)
    write_safetensors(folder / f"models_t5_umt5-xxl-enc-{precision}.pth", t5(dtype))
    write_safetensors(folder / "Wan2.1_VAE.pth", VAE)
    write_safetensors(folder / "taew2_1.pth", TINY_VAE)
    if image:
        name = CLIP_BF16 if precision == "bf16" else f"clip-{precision}.pth"
        write_safetensors(folder / name, clip(dtype))
    (folder / "config.json").write_text(json.dumps({"num_heads": 2, "num_layers": layers}))
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    (folder / "google" / "umt5-xxl" / "tokenizer.json").write_text("{}")
    return folder


def write_index(folder: Path, layers: int, *, image: bool = False) -> None:
    """Write the index of a block folder."""
    weight_map = dict.fromkeys(dit_rest(image=image), "non_block.safetensors")
    for layer in range(layers):
        weight_map |= dict.fromkeys(dit_block(layer, image=image), f"block_{layer}.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def write_root(
    root: Path, folders: Mapping[str, str] = DISTILLED, *, image: bool = False, layers: int = 2
) -> Path:
    """Write a model root in one of the guide's two layouts, with a LoRA beside the folders."""
    for name, precision in folders.items():
        write_folder(root / name, precision, image=image, layers=layers)
    write_safetensors(root / "loras" / "step_distill_lora_rank64.safetensors", LORA)
    return root


def gpu(capability: tuple[int, int], name: str = "Some GPU") -> Gpu:
    """A GPU with 24 GB, of which 4 are used."""
    return Gpu(0, "GPU-0", name, capability, 24_000_000_000, 4_000_000_000)


def permissions_hold() -> bool:
    """False for a user, such as root, who may read and write whatever the mode says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "closed"
        path.touch(mode=0)
        try:
            path.read_bytes()
        except PermissionError:
            return True
    return False
