"""Tiny weight files in pure Python, model roots made of them, and snapshots of GPUs."""

from __future__ import annotations

import io
import json
import math
import struct
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightx2v_tui.gpus import Gpu

Table = Mapping[str, tuple[str, tuple[int, ...]]]

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
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
        **_linear("text_embedding.0", 8, 8, "BF16"),
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
    return {"visual.patch_embedding.weight": ("F16", (10, 3, 2, 2)), **linear}


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


VAE22: Table = {**VAE, "decoder.conv1.weight": ("BF16", (16, 48, 3, 3, 3))}
TINY_VAE22: Table = {**TINY_VAE, "decoder.1.weight": ("F16", (32, 48, 3, 3))}
DIFFUSERS_VAE: Table = {
    "decoder.conv_in.weight": ("BF16", (16, 16, 3, 3, 3)),
    "decoder.mid_block.resnets.0.conv1.weight": ("BF16", (16, 16, 3, 3, 3)),
    "decoder.up_blocks.0.resnets.0.conv1.weight": ("BF16", (16, 16, 3, 3, 3)),
}


def ti2v(layers: int = 2) -> Table:
    """A whole Wan 2.2 TI2V DiT: 48 latent channels in and out."""
    table = dict(dit(layers))
    table["patch_embedding.weight"] = ("BF16", (8, 48, 1, 2, 2))
    return {**table, "head.head.weight": ("BF16", (192, 8)), "head.head.bias": ("BF16", (192,))}


def expert(layers: int = 2, dtype: str = "BF16") -> Table:
    """One half of a Wan 2.2 image-to-video pair: image channels, but no CLIP."""
    return {**dit(layers, dtype), "patch_embedding.weight": ("BF16", (8, 36, 1, 2, 2))}


def flf2v(layers: int = 2) -> Table:
    """A whole first-and-last-frame DiT."""
    return {**dit(layers, image=True), **dit_rest(image=True, last_frame=True)}


def vace(layers: int = 2) -> Table:
    """A whole VACE DiT: Wan's, and blocks of its own."""
    table = dict(dit(layers))
    for name, stored in dit_block(0).items():
        table[f"vace_{name}"] = stored
    return {**table, "vace_patch_embedding.weight": ("BF16", (8, 96, 1, 2, 2))}


def prefixed(table: Table, prefix: str = "model.diffusion_model.") -> Table:
    """The same tensors as ComfyUI's exporters name them."""
    return {f"{prefix}{name}": stored for name, stored in table.items()}


def comfy_scaled(table: Table) -> Table:
    """A quantized table with ComfyUI's old scales: one a tensor, and a marker."""
    made: dict[str, tuple[str, tuple[int, ...]]] = {"scaled_fp8": ("F8_E4M3", (2,))}
    for name, stored in table.items():
        if name.endswith(".weight_scale"):
            made[name.replace(".weight_scale", ".scale_weight")] = ("F32", ())
        else:
            made[name] = stored
    return made


def cast(table: Table, dtype: str = "F8_E4M3") -> Table:
    """A bf16 table whose matrices are cast, without any scale."""
    return {name: (dtype if len(shape) == 2 and name.startswith("blocks.") else stored, shape)
            for name, (stored, shape) in table.items()}  # fmt: skip


def nvfp4(table: Table) -> Table:
    """A bf16 table whose blocks are stored as NVFP4: two codes a byte, two levels of scales."""
    made: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (dtype, shape) in table.items():
        made[name] = (dtype, shape)
        if name.startswith("blocks.") and name.endswith(".weight") and len(shape) == 2:
            made[name] = ("U8", (shape[0], shape[1] // 2))
            made[f"{name}_scale"] = ("F8_E4M3", (shape[0], 1))
            made[f"{name}_global_scale"] = ("F32", ())
    return made


#: Wan's names in diffusers' spelling, in the order they are replaced.
DIFFUSERS_NAMES = (
    ("head.modulation", "scale_shift_table"), ("head.head", "proj_out"),
    ("self_attn.", "attn1."), ("cross_attn.", "attn2."), (".norm3", ".norm2"),
    (".norm_k_img", ".norm_added_k"), (".k_img", ".add_k_proj"), (".v_img", ".add_v_proj"),
    *((f"attn{part}.{leaf}.", f"attn{part}.{to}.") for part in "12"
      for leaf, to in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))),
    ("ffn.0", "ffn.net.0.proj"), ("ffn.2", "ffn.net.2"), (".modulation", ".scale_shift_table"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
    ("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
)  # fmt: skip


def diffusers_names(table: Table) -> Table:
    """A Wan DiT under the names of diffusers' WanTransformer3DModel."""
    made = {}
    for name, stored in table.items():
        renamed = name
        for wan, diffusers in DIFFUSERS_NAMES:
            renamed = renamed.replace(wan, diffusers)
        made[renamed] = stored
    return made


def umt5(width: int = 8, blocks: int = 2) -> Table:
    """A UMT5 encoder under transformers' names: positions in every block."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "shared.weight": ("BF16", (32, width)),
        "encoder.final_layer_norm.weight": ("BF16", (width,)),
    }
    for block in range(blocks):
        at = f"encoder.block.{block}.layer"
        table[f"{at}.0.SelfAttention.relative_attention_bias.weight"] = ("BF16", (4, 2))
        table |= {f"{at}.0.SelfAttention.{leaf}.weight": ("BF16", (12, width)) for leaf in "qkv"}
        table[f"{at}.1.DenseReluDense.wi_0.weight"] = ("BF16", (16, width))
    return table


def t5xxl() -> Table:
    """The T5 of image models: positions in the first block only."""
    return {name: stored for name, stored in umt5().items()
            if "relative_attention_bias" not in name or ".block.0." in name}  # fmt: skip


def clip_vision(width: int = 10) -> Table:
    """A CLIP vision tower under transformers' names."""
    return {
        "vision_model.embeddings.patch_embedding.weight": ("F16", (width, 3, 2, 2)),
        "vision_model.encoder.layers.0.mlp.fc1.weight": ("F16", (16, width)),
    }


def lora(style: str = "wan", rank: int = 4, *, image: bool = False) -> Table:
    """A LoRA for a Wan DiT of width 8, in the spelling of one of the tools that make them."""
    attn = {"wan": "diffusion_model.blocks.0.self_attn.q", "diffusers": "blocks.0.attn1.to_q",
            "kohya": "lora_unet_blocks_0_self_attn_q"}[style]  # fmt: skip
    down, up = ("lora_A", "lora_B") if style != "kohya" else ("lora_down", "lora_up")
    lead = "transformer." if style == "diffusers" else ""
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        f"{lead}{attn}.{down}.weight": ("BF16", (rank, 8)),
        f"{lead}{attn}.{up}.weight": ("BF16", (8, rank)),
    }
    if style == "kohya":
        table[f"{attn}.alpha"] = ("F32", ())
    if image:
        table[f"diffusion_model.blocks.0.cross_attn.k_img.{down}.weight"] = ("BF16", (rank, 8))
    return table


#: ggml's numbers for tensor types, and the bytes that so many values take.
GGML = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}


def gguf_bytes(
    tensors: Table, texts: Mapping[str, str] | None = None, *, version: int = 3
) -> bytes:
    """A GGUF file with these tensors, all zero, and text metadata."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    texts = {"general.architecture": "wan", **(texts or {})}
    made = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(texts))
    for key, value in texts.items():
        made += text(key) + struct.pack("<I", 8) + text(value)
    end = 0
    for name, (dtype, shape) in tensors.items():
        number, block, nbytes = GGML[dtype]
        sizes = struct.pack(f"<{len(shape)}Q", *shape[::-1])
        made += text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", number, end)
        end += -(-math.prod(shape) // block * nbytes // 32) * 32
    return made + bytes(-len(made) % 32 + end)


def quantized_gguf(table: Table, dtype: str = "Q4_K") -> Table:
    """A DiT as converters to GGUF store it: matrices in blocks of 256 values, the rest floats."""
    return {name: (dtype, (8, 256)) if len(shape) == 2 and name.startswith("blocks.") else
            ("F32", shape) for name, (_, shape) in table.items()}  # fmt: skip


def pth_bytes(tensors: Table) -> bytes:
    """A file as torch.save writes it: a zip with a pickle of tensors, and their bytes."""
    storages = {"BF16": "BFloat16Storage", "F16": "HalfStorage", "F32": "FloatStorage"}
    pickled, datas = b"\x80\x02ccollections\nOrderedDict\n)R(", []
    for key, (name, (dtype, shape)) in enumerate(tensors.items()):
        count = math.prod(shape)
        storage = f"ctorch\n{storages[dtype]}\n".encode()
        number = _text(str(key))
        pickled += _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        pickled += _text("storage") + storage + number + _text("cpu") + _number(count) + b"tQ"
        pickled += _number(0) + _tuple(shape) + _tuple((1,) * len(shape)) + b"\x89"
        pickled += b"ccollections\nOrderedDict\n)RtR"
        datas.append((f"archive/data/{key}", bytes(count * BYTES[dtype])))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled + b"u.")
        for place, data in datas:
            archive.writestr(place, data)
    return file.getvalue()


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


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
