"""The text encoder against transformers' UMT5 as Wan runs it: padded to 512 tokens, masked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel
from transformers.models.umt5.modeling_umt5 import UMT5Attention

from engine.models.t5 import Umt5, position_buckets
from engine.spec.architecture import T5Architecture
from engine.spec.header import read_header
from engine.stages import T5
from tests.engine.support import load_all, on_meta, randomised, relative

pytestmark = pytest.mark.parity

PADDED = 512
LAYERS = 3
#: Names in a block: Wan's, and transformers'.
NAMES = {
    "attn.q": "layer.0.SelfAttention.q", "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v", "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm", "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0", "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}  # fmt: skip


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
    names = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"} | {
        f"blocks.{layer}.{wan}": f"encoder.block.{layer}.{other}"
        for layer in range(LAYERS)
        for wan, other in NAMES.items()
    }
    state = theirs.state_dict()
    torch.save({f"{wan}.weight": state[f"{other}.weight"] for wan, other in names.items()}, path)
    arch = T5Architecture.from_shapes(read_header(path).shapes)
    model = on_meta(lambda: Umt5(arch))
    load_all(model, T5, [path])
    return model


@pytest.mark.parametrize("length", [1, 2, 24, 300, 512])
def test_unpadded_equals_padded_and_masked(length: int, ours: nn.Module, theirs: nn.Module) -> None:
    ids = torch.randint(3, 97, (1, length), generator=torch.Generator().manual_seed(length))
    padded, mask = torch.zeros(2, 1, PADDED, dtype=torch.int64)
    padded[:, :length], mask[:, :length] = ids, 1
    expected: Tensor = theirs(input_ids=padded, attention_mask=mask).last_hidden_state[0, :length]
    error = relative(ours(ids[0]), expected)
    print(f"{length} tokens: {error:.2e}")
    assert error < 1e-4


def test_each_block_has_positions_of_its_own(ours: nn.Module) -> None:
    tables = [block.pos_embedding.embedding.weight for block in ours.blocks]
    assert len(tables) == LAYERS
    assert not torch.equal(tables[0], tables[1])


@settings(deadline=None)
@given(st.integers(1, 700), st.sampled_from([4, 8, 16, 32, 64]), st.integers(0, 20))
def test_distances_fall_into_the_buckets_of_transformers(
    length: int, num_buckets: int, head: int
) -> None:
    config = UMT5Config(relative_attention_num_buckets=num_buckets, d_model=8, num_heads=1, d_kv=8)
    places = torch.arange(length) - head % length
    expected = UMT5Attention(config)._relative_position_bucket(places)
    ours = position_buckets(length, num_buckets, torch.device("cpu"))[head % length]
    assert torch.equal(ours, expected)
