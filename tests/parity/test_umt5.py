"""The text encoder against transformers' UMT5 as Wan runs it: padded to 512 tokens, masked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from engine.models.t5 import build_t5
from engine.spec.architecture import T5Architecture
from engine.spec.header import read_header
from engine.spec.keys import t5_names
from engine.stages import T5
from tests.engine.support import load_all, on_meta, randomised, relative

pytestmark = pytest.mark.parity

PADDED = 512
LAYERS = 3
PARTS = ("attn.q", "attn.k", "attn.v", "attn.o", "pos_embedding.embedding", "norm1", "norm2",
         "ffn.gate.0", "ffn.fc1", "ffn.fc2")  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    config = UMT5Config(
        vocab_size=97, d_model=32, d_kv=12, d_ff=48, num_layers=LAYERS, num_heads=3,
        relative_attention_num_buckets=16, feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    return randomised(UMT5EncoderModel(config))


@pytest.fixture(scope="module")
def ours(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    path = tmp_path_factory.mktemp("t5") / "models_t5_umt5-xxl-enc-bf16.pth"
    blocks = [f"blocks.{layer}.{part}" for layer in range(LAYERS) for part in PARTS]
    wan = [f"{name}.weight" for name in ("token_embedding", "norm", *blocks)]
    state = theirs.state_dict()
    torch.save({name: state[own] for name, own in t5_names(wan).items()}, path)
    arch = T5Architecture.from_shapes(read_header(path).shapes)
    model = on_meta(lambda: build_t5(arch))
    load_all(model, T5, [path])
    model.encoder.embed_tokens = model.shared
    return model


@pytest.mark.parametrize("length", [1, 2, 24, 300, 512])
def test_unpadded_equals_padded_and_masked(length: int, ours: nn.Module, theirs: nn.Module) -> None:
    ids = torch.randint(3, 97, (1, length), generator=torch.Generator().manual_seed(length))
    padded, mask = torch.zeros(2, 1, PADDED, dtype=torch.int64)
    padded[:, :length], mask[:, :length] = ids, 1
    expected: Tensor = theirs(input_ids=padded, attention_mask=mask).last_hidden_state[0, :length]
    error = relative(ours(input_ids=ids).last_hidden_state[0], expected)
    print(f"{length} tokens: {error:.2e}")
    assert error < 1e-4


def test_each_block_has_positions_of_its_own(ours: nn.Module) -> None:
    tables = [
        block.layer[0].SelfAttention.relative_attention_bias.weight for block in ours.encoder.block
    ]
    assert len(tables) == LAYERS
    assert not torch.equal(tables[0], tables[1])
