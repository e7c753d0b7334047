"""Key tables: how the same tensor is called in the file formats people have.

Tensors are renamed by the module path in front of the last dot, so that `weight`, `bias` and
`weight_scale` of one layer always travel together. Sources: the published Wan 2.1 checkpoints
and diffusers' conversion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

KeyTable = tuple[tuple[str, str], ...]

#: Prefixes that other tools put in front of every key of a DiT.
DIT_PREFIXES = ("model.diffusion_model.", "diffusion_model.")

#: diffusers' WanTransformer3DModel -> Wan's names; `attn1` is self, `attn2` cross attention.
DIT_FROM_DIFFUSERS: KeyTable = (
    (r"blocks\.(\d+)\.attn1\.to_([qkv])", r"blocks.\1.self_attn.\2"),
    (r"blocks\.(\d+)\.attn1\.to_out\.0", r"blocks.\1.self_attn.o"),
    (r"blocks\.(\d+)\.attn1\.norm_([qk])", r"blocks.\1.self_attn.norm_\2"),
    (r"blocks\.(\d+)\.attn2\.to_([qkv])", r"blocks.\1.cross_attn.\2"),
    (r"blocks\.(\d+)\.attn2\.to_out\.0", r"blocks.\1.cross_attn.o"),
    (r"blocks\.(\d+)\.attn2\.norm_([qk])", r"blocks.\1.cross_attn.norm_\2"),
    (r"blocks\.(\d+)\.attn2\.add_([kv])_proj", r"blocks.\1.cross_attn.\2_img"),
    (r"blocks\.(\d+)\.attn2\.norm_added_k", r"blocks.\1.cross_attn.norm_k_img"),
    (r"blocks\.(\d+)\.norm2", r"blocks.\1.norm3"),
    (r"blocks\.(\d+)\.ffn\.net\.0\.proj", r"blocks.\1.ffn.0"),
    (r"blocks\.(\d+)\.ffn\.net\.2", r"blocks.\1.ffn.2"),
    (r"blocks\.(\d+)\.scale_shift_table", r"blocks.\1.modulation"),
    (r"scale_shift_table", "head.modulation"),
    (r"proj_out", "head.head"),
    (r"patch_embedding", "patch_embedding"),
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
)
#: Parameters that are tensors of their own: they have no `.weight` behind the last dot.
_BARE = ("scale_shift_table", "modulation", "pos_embed", "emb_pos")


def rename(table: KeyTable, name: str) -> str:
    """Rename one tensor; a name that no row matches comes back as it was."""
    path, _, leaf = name.rpartition(".")
    if leaf in _BARE:
        path, leaf = name, ""
    for pattern, replacement in table:
        if re.fullmatch(pattern, path):
            renamed = re.sub(pattern, replacement, path)
            return f"{renamed}.{leaf}" if leaf else renamed
    return name


#: ComfyUI's scaled FP8: a marker, and scales of activations that are measured at run time here.
COMFY_EXTRAS = ("scaled_fp8", "scale_input", "input_scale", "comfy_quant")
#: What only diffusers' names have in them.
DIFFUSERS_MARKS = (".attn1.", ".attn2.", ".ffn.net.")
COMFY_SCALE = "scale_weight"


def dit_names(stored: Iterable[str]) -> dict[str, str]:
    """Map stored names of a DiT file (Wan's, prefixed, or diffusers') to Wan's names.

    ComfyUI's scales get LightX2V's name; its extra tensors are not needed and are left out.
    """
    names = tuple(name for name in stored if name.rpartition(".")[2] not in COMFY_EXTRAS)
    prefix = next((p for p in DIT_PREFIXES if any(name.startswith(p) for name in names)), "")
    bare = {name: _lightx2v_scale(name.removeprefix(prefix)) for name in names}
    if any(mark in name for name in bare.values() for mark in DIFFUSERS_MARKS):
        return {name: rename(DIT_FROM_DIFFUSERS, wan) for name, wan in bare.items()}
    return bare


def _lightx2v_scale(name: str) -> str:
    path, _, leaf = name.rpartition(".")
    return f"{path}.weight_scale" if leaf == COMFY_SCALE else name


def clip_names(stored: Iterable[str]) -> dict[str, str]:
    """Map the vision tower of Wan's CLIP to its own names; text tower and head are left out."""
    left_out = ("visual.head", "visual.post_norm")
    return {
        name: name.removeprefix("visual.")
        for name in stored
        if name.startswith("visual.") and not name.startswith(left_out)
    }


def same_names(stored: Iterable[str]) -> dict[str, str]:
    """Map every stored name to itself: the file uses the network's own names."""
    return {name: name for name in stored}
