"""Wan's text encoder: transformers' UMT5, under Wan's file names.

UMT5 (Chung et al. 2023) differs from T5 in that every block has its own position bias.
"""

from __future__ import annotations

from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from engine.spec.architecture import T5Architecture

MAX_DISTANCE = 128  # of the position buckets, in every published UMT5
EPS = 1e-6


def build_t5(arch: T5Architecture) -> nn.Module:
    """Build the encoder on the current device; parameters carry transformers' names."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=arch.vocab_size,
            d_model=arch.dim,
            d_kv=arch.dim_attn // arch.num_heads,
            d_ff=arch.dim_ffn,
            num_layers=arch.num_layers,
            num_heads=arch.num_heads,
            relative_attention_num_buckets=arch.num_buckets,
            relative_attention_max_distance=MAX_DISTANCE,
            layer_norm_epsilon=EPS,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
