"""The diffusion transformer against diffusers', loaded from a file that diffusers wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from engine.models.wan import WanTransformer, rope_table
from engine.spec.architecture import DitArchitecture
from engine.spec.header import read_header
from engine.spec.keys import dit_names
from engine.stages import DIT
from tests.engine.support import load_all, on_meta, randomised, relative

pytestmark = pytest.mark.parity
diffusers = pytest.importorskip("diffusers")

IMAGE_TOKENS, TEXT_TOKENS = 257, 512
GRID = (3, 4, 6)


def oracle(**changes: object) -> torch.nn.Module:
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 16, "out_channels": 16,
        "text_dim": 16, "freq_dim": 256, "ffn_dim": 48, "num_layers": 2, "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
    }  # fmt: skip
    return randomised(diffusers.WanTransformer3DModel(**{**config, **changes}))


def ours_from(folder: Path, heads: int) -> WanTransformer:
    files = sorted(folder.glob("*.safetensors"))
    stored = {name: shape for file in files for name, shape in read_header(file).shapes.items()}
    shapes = {wan: stored[name] for name, wan in dit_names(stored).items()}
    arch = DitArchitecture.from_shapes(shapes, {"num_heads": heads, "text_len": TEXT_TOKENS})
    model = on_meta(lambda: WanTransformer(arch))
    load_all(model, DIT, files)
    assert isinstance(model, WanTransformer)
    return model


def inputs(channels: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    frames, height, width = GRID
    latents = torch.randn(1, channels, frames, 2 * height, 2 * width, generator=generator)
    context = torch.randn(1, TEXT_TOKENS, 16, generator=generator)
    context[:, 20:] = 0
    return latents, torch.tensor([637.0]), context


@pytest.mark.parametrize("head_dim", [12, 44, 64])
def test_text_to_video_matches(head_dim: int, tmp_path: Path) -> None:
    theirs = oracle(attention_head_dim=head_dim)
    theirs.save_pretrained(tmp_path)
    latents, timestep, context = inputs(16)
    expected = theirs(latents, timestep, context, return_dict=False)[0]
    ours = ours_from(tmp_path, heads=2)
    error = relative(ours(latents, timestep, context, rope_table(GRID, head_dim)), expected)
    print(f"t2v, head width {head_dim}: {error:.2e}")
    assert error < 1e-4


def test_image_to_video_matches(tmp_path: Path) -> None:
    theirs = oracle(in_channels=36, image_dim=20, added_kv_proj_dim=24)
    theirs.save_pretrained(tmp_path)
    latents, timestep, context = inputs(36)
    image = torch.randn(1, IMAGE_TOKENS, 20, generator=torch.Generator().manual_seed(4))
    expected = theirs(latents, timestep, context, image, return_dict=False)[0]
    ours = ours_from(tmp_path, heads=2)
    assert ours.arch.task == "i2v"
    flow = ours(latents, timestep, context, rope_table(GRID, 12), image)
    error = relative(flow, expected)
    print(f"i2v: {error:.2e}")
    assert error < 1e-4


def test_shards_load_like_one_file(tmp_path: Path) -> None:
    theirs = oracle()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    theirs.save_pretrained(tmp_path / "file")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    shards = ours_from(tmp_path / "shards", heads=2).state_dict()
    whole = ours_from(tmp_path / "file", heads=2).state_dict()
    assert shards.keys() == whole.keys()
    assert all(torch.equal(shards[name], whole[name]) for name in whole)


def test_every_weight_of_the_file_is_used(tmp_path: Path) -> None:
    theirs = oracle()
    theirs.save_pretrained(tmp_path)
    ours = ours_from(tmp_path, heads=2).state_dict()
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, "pt") as stored:
        names = dit_names(stored.keys())
        assert sorted(names.values()) == sorted(ours)
        for name, own in names.items():
            assert torch.equal(stored.get_tensor(name), ours[own]), name
