"""Tensor names of all formats lead to one name each, and no two to the same."""

from __future__ import annotations

from engine.spec.keys import DIT_FROM_DIFFUSERS, dit_names, rename, same_names

LAYERS = range(12)
LEAVES = ("weight", "bias", "weight_scale")


def wan_dit() -> list[str]:
    """Every name of a Wan 2.1 I2V DiT, quantized, with first and last frame."""
    parts = [f"{a}_attn.{x}" for a in ("self", "cross") for x in "qkvo"]
    parts += ["cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2", "norm3"]
    parts += [f"{a}_attn.norm_{x}" for a in ("self", "cross") for x in "qk"]
    parts += ["cross_attn.norm_k_img"]
    modules = [f"blocks.{layer}.{part}" for layer in LAYERS for part in parts]
    modules += ["patch_embedding", "head.head", "time_projection.1"]
    modules += [f"{a}_embedding.{i}" for a in ("text", "time") for i in (0, 2)]
    modules += [f"img_emb.proj.{i}" for i in (0, 1, 3, 4)]
    names = [f"{module}.{leaf}" for module in modules for leaf in LEAVES]
    names += [f"blocks.{layer}.modulation" for layer in LAYERS]
    return [*names, "head.modulation", "img_emb.emb_pos"]


def diffusers_dit() -> dict[str, str]:
    """Names of diffusers' WanTransformer3DModel and the Wan name of each."""
    block = {
        "attn1.to_q": "self_attn.q", "attn1.to_k": "self_attn.k", "attn1.to_v": "self_attn.v",
        "attn1.to_out.0": "self_attn.o", "attn1.norm_q": "self_attn.norm_q",
        "attn1.norm_k": "self_attn.norm_k", "attn2.to_q": "cross_attn.q",
        "attn2.to_k": "cross_attn.k", "attn2.to_v": "cross_attn.v",
        "attn2.to_out.0": "cross_attn.o",
        "attn2.norm_q": "cross_attn.norm_q", "attn2.norm_k": "cross_attn.norm_k",
        "attn2.add_k_proj": "cross_attn.k_img", "attn2.add_v_proj": "cross_attn.v_img",
        "attn2.norm_added_k": "cross_attn.norm_k_img", "norm2": "norm3",
        "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2",
    }  # fmt: skip
    rest = {
        "patch_embedding": "patch_embedding", "proj_out": "head.head",
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
        "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
        "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
        "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    }  # fmt: skip
    modules = rest | {
        f"blocks.{layer}.{theirs}": f"blocks.{layer}.{wan}"
        for layer in LAYERS
        for theirs, wan in block.items()
    }
    names = {f"{m}.{leaf}": f"{wan}.{leaf}" for m, wan in modules.items() for leaf in LEAVES}
    names |= {f"blocks.{i}.scale_shift_table": f"blocks.{i}.modulation" for i in LAYERS}
    names["scale_shift_table"] = "head.modulation"
    names["condition_embedder.image_embedder.pos_embed"] = "img_emb.emb_pos"
    return names


def test_diffusers_names_lead_to_all_wan_names_and_only_to_them() -> None:
    expected = diffusers_dit()
    assert dit_names(expected) == expected
    assert sorted(expected.values()) == sorted(wan_dit())


def test_wan_names_stay_as_they_are() -> None:
    names = wan_dit()
    assert dit_names(names) == {name: name for name in names}


def test_prefixes_of_other_tools_are_taken_off() -> None:
    for prefix in ("model.diffusion_model.", "diffusion_model."):
        assert dit_names(prefix + name for name in wan_dit()) == {
            prefix + name: name for name in wan_dit()
        }


def test_prefixed_diffusers_names_are_understood() -> None:
    expected = diffusers_dit()
    found = dit_names(f"diffusion_model.{name}" for name in expected)
    assert found == {f"diffusion_model.{name}": wan for name, wan in expected.items()}


def test_no_row_of_the_table_is_dead() -> None:
    names = diffusers_dit()
    for pattern, _ in DIT_FROM_DIFFUSERS:
        table = tuple(row for row in DIT_FROM_DIFFUSERS if row[0] != pattern)
        lost = [name for name, wan in names.items() if rename(table, name) != wan]
        assert lost or pattern == "patch_embedding"


def test_an_unknown_name_comes_back_as_it_was() -> None:
    for name in ("blocks.0.attn1.to_x.weight", "extra", "", "a.b.c", "xblocks.0.norm2.weight"):
        assert rename(DIT_FROM_DIFFUSERS, name) == name


def test_same_names_is_the_identity() -> None:
    assert same_names(iter(["b", "a"])) == {"a": "a", "b": "b"}
