"""Our CLIP vision tower against transformers' CLIPVisionModel, at a tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from engine.models.clip import ClipVision
from engine.spec.architecture import ClipArchitecture
from engine.spec.errors import CheckpointError
from engine.spec.header import read_header
from engine.stages import CLIP
from tests.engine.support import load_all, on_meta, randomised, relative

pytestmark = pytest.mark.parity

DIM, LAYERS, PATCH, SIDE = 160, 3, 14, 4
LINEARS = {"self_attn.out_proj": "attn.proj", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2",
           "layer_norm1": "norm1", "layer_norm2": "norm2"}  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    config = CLIPVisionConfig(
        hidden_size=DIM, intermediate_size=4 * DIM, num_hidden_layers=LAYERS,
        num_attention_heads=DIM // 80, image_size=SIDE * PATCH, patch_size=PATCH,
        hidden_act="gelu", layer_norm_eps=1e-5,
    )  # fmt: skip
    return randomised(CLIPVisionModel(config))


def wan_names(model: nn.Module) -> dict[str, Tensor]:
    """The weights of transformers' model under the names Wan stores them by."""
    state = {
        name.removeprefix("vision_model."): value for name, value in model.state_dict().items()
    }
    stored = {
        "visual.patch_embedding.weight": state["embeddings.patch_embedding.weight"],
        "visual.cls_embedding": state["embeddings.class_embedding"].view(1, 1, DIM),
        "visual.pos_embedding": state["embeddings.position_embedding.weight"][None],
    }
    for leaf in ("weight", "bias"):
        stored[f"visual.pre_norm.{leaf}"] = state[f"pre_layrnorm.{leaf}"]
        stored[f"visual.post_norm.{leaf}"] = state[f"post_layernorm.{leaf}"]
        for layer in range(LAYERS):
            source, target = f"encoder.layers.{layer}", f"visual.transformer.{layer}"
            qkv = [state[f"{source}.self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            stored[f"{target}.attn.to_qkv.{leaf}"] = torch.cat(qkv)
            for there, here in LINEARS.items():
                stored[f"{target}.{here}.{leaf}"] = state[f"{source}.{there}.{leaf}"].clone()
    return {
        **stored,
        "visual.head": torch.zeros(DIM, 8),
        "textual.head.0.weight": torch.zeros(2, 2),
    }


def test_penultimate_features(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "clip.pth"
    torch.save(wan_names(theirs), path)
    arch = ClipArchitecture.from_shapes(read_header(path).shapes)
    assert (arch.num_layers, arch.image_size, arch.num_heads) == (LAYERS, SIDE * PATCH, 2)
    ours = on_meta(lambda: ClipVision(arch))
    assert isinstance(ours, ClipVision)
    last = f"visual.transformer.{LAYERS - 1}."
    recipe = type(CLIP)(CLIP.component, CLIP.names, ignore=(last,))
    load_all(ours, recipe, [path])
    image = torch.rand(3, 90, 70) * 2 - 1
    pixels = ours.prepare(image)
    expected = theirs(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][0]
    assert relative(ours(image), expected) < 1e-4


def test_a_file_without_a_vision_tower_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text-only.pth"
    torch.save({"textual.head.0.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"visual\.patch_embedding\.weight"):
        ClipArchitecture.from_shapes(read_header(path).shapes)
