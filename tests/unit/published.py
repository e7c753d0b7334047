"""The published Wan 2.1 models as sparse files: whole headers, no bytes on the disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from engine.models.clip import ClipVision
from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from engine.models.wan import WanTransformer
from engine.spec.architecture import (
    ClipArchitecture,
    DitArchitecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)
from engine.spec.job import Job, StepDistill, Weights
from engine.spec.precision import ComputeDtype, Precision, QuantCompute

WIDTHS = {"F32": 4, "BF16": 2, "F8_E4M3": 1, "I8": 1}
CODES = {Precision.FP8: "F8_E4M3", Precision.INT8: "I8"}
T2V_14B = DitArchitecture(5120, 13824, 40, 40, 16, 16, 4096, 256)
T2V_1_3B = DitArchitecture(1536, 8960, 12, 30, 16, 16, 4096, 256)
I2V_14B = replace(T2V_14B, in_dim=36, image_dim=1280)
CLIP = ClipArchitecture(1280, 5120, 16, 32, 14, 257)

Table = Mapping[str, tuple[int, ...]]


def shapes_of(model: nn.Module) -> Table:
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def dit_shapes(arch: DitArchitecture) -> Table:
    with torch.device("meta"):
        return shapes_of(WanTransformer(arch))


def t5_shapes() -> Table:
    """UMT5-XXL, in Wan's names."""
    table: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (256384, 4096), "norm.weight": (4096,),
    }  # fmt: skip
    for layer in range(24):
        block = f"blocks.{layer}"
        table |= {f"{block}.attn.{part}.weight": (4096, 4096) for part in "qkvo"}
        table |= {f"{block}.ffn.{part}.weight": (10240, 4096) for part in ("gate.0", "fc1")}
        table |= {f"{block}.{norm}.weight": (4096,) for norm in ("norm1", "norm2")}
        table[f"{block}.ffn.fc2.weight"] = (4096, 10240)
        table[f"{block}.pos_embedding.embedding.weight"] = (32, 64)
    return table


def clip_shapes() -> Table:
    with torch.device("meta"):  # features are taken before the last block, which files have
        model = ClipVision(replace(CLIP, num_layers=CLIP.num_layers + 1))
    return {f"visual.{name}": shape for name, shape in shapes_of(model).items()}


def write(path: Path, table: Table, precision: Precision = Precision.BF16) -> Weights:
    """Write a sparse safetensors file; linears of blocks are codes where it is quantized."""
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in table.items():
        linear = ("blocks." in name or "transformer." in name) and len(shape) == 2
        coded = precision.quantized and linear and "embedding" not in name
        entries[name] = (CODES[precision] if coded else "BF16", shape)
        if coded:
            entries[name.replace(".weight", ".weight_scale")] = ("F32", (shape[0], 1))
    header, end = {}, 0
    for name, (dtype, shape) in entries.items():
        start, end = end, end + math.prod(shape) * WIDTHS[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    os.truncate(path, 8 + len(raw) + end)
    return Weights((path,), precision)


def published_job(folder: Path, arch: DitArchitecture, precision: Precision, *,
                  t5: Precision | None = None) -> Job:  # fmt: skip
    """A job of 832x480, 81 frames on a GPU, with everything resident."""
    t5 = t5 or precision
    with torch.device("meta"):
        vae = shapes_of(WanVae(VaeArchitecture(96, 16), with_encoder=True))
    image = {}
    weights = write(folder / "vae.safetensors", vae)
    if arch.image_dim is not None:
        image = {"clip": write(folder / f"clip-{t5.value}", clip_shapes(), t5),
                 "vae_encoder": weights, "image": folder / "first.png"}  # fmt: skip
    return Job(
        dit=write(folder / f"dit-{precision.value}", dit_shapes(arch), precision),
        architecture=arch,
        t5=write(folder / f"t5-{t5.value}", t5_shapes(), t5),
        vae=weights, tiny_vae=False, tokenizer=folder, schedule=StepDistill(),
        prompt="A red fox runs across the snow. " * 8, negative_prompt="", seed=1,
        width=832, height=480, frames=81, fps=16, device="cuda:0",
        compute_dtype=ComputeDtype.BFLOAT16, quant_compute=QuantCompute.AUTO,
        output=folder / "a.mp4", **image,
    )  # fmt: skip


def with_tiny_vae(job: Job, folder: Path) -> Job:
    """The same job with taew2_1."""
    with torch.device("meta"):
        tiny = shapes_of(TinyVae(TinyVaeArchitecture((256, 128, 64, 64), 16)))
    return replace(job, vae=write(folder / "taew2_1.safetensors", tiny), tiny_vae=True)
