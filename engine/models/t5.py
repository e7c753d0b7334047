"""Wan's text encoder: UMT5, under the names of Wan's files.

T5's encoder (Raffel et al. 2020) as UMT5 has it (Chung et al. 2023): every block has a table of
position biases of its own, and scores are not scaled. Written out here rather than taken from
transformers, which takes longer to import than the whole of PyTorch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.spec.architecture import T5Architecture

MAX_DISTANCE = 128  # tokens; those further away share a bucket, in every published UMT5
EPS = 1e-6


def table(rows: int, dim: int) -> nn.Embedding:
    """Make an embedding to be filled; drawing random weights imports PyTorch's compiler."""
    return nn.Embedding.from_pretrained(torch.empty(rows, dim))


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32, scaled in the dtype of its weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize [..., dim]."""
        normal = F.rms_norm(hidden.float(), self.weight.shape, eps=EPS)
        return normal.to(self.weight.dtype) * self.weight


class PositionBias(nn.Module):
    """A learned bias for each head and bucket of distances."""

    def __init__(self, arch: T5Architecture) -> None:
        super().__init__()
        self.embedding = table(arch.num_buckets, arch.num_heads)

    def forward(self, buckets: Tensor) -> Tensor:
        """Look up [L, L] buckets: [1, H, L, L]."""
        return self.embedding(buckets).permute(2, 0, 1)[None]


class SelfAttention(nn.Module):
    """Attention of all tokens to all tokens."""

    def __init__(self, arch: T5Architecture) -> None:
        super().__init__()
        self.heads = arch.num_heads
        self.q = nn.Linear(arch.dim, arch.dim_attn, bias=False)
        self.k = nn.Linear(arch.dim, arch.dim_attn, bias=False)
        self.v = nn.Linear(arch.dim, arch.dim_attn, bias=False)
        self.o = nn.Linear(arch.dim_attn, arch.dim, bias=False)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Map [1, L, dim] to [1, L, dim]; `bias` is [1, H, L, L]."""
        query, key, value = (
            layer(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [1, H, L, D]
            for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return self.o(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """A gated GELU, approximated by tanh."""

    def __init__(self, arch: T5Architecture) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(arch.dim, arch.dim_ffn, bias=False), nn.GELU(approximate="tanh")
        )
        self.fc1 = nn.Linear(arch.dim, arch.dim_ffn, bias=False)
        self.fc2 = nn.Linear(arch.dim_ffn, arch.dim, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [1, L, dim] to [1, L, dim]."""
        return self.fc2(self.gate(hidden) * self.fc1(hidden))


class Block(nn.Module):
    """Norm, attention, norm, feed-forward."""

    def __init__(self, arch: T5Architecture) -> None:
        super().__init__()
        self.norm1 = RMSNorm(arch.dim)
        self.attn = SelfAttention(arch)
        self.pos_embedding = PositionBias(arch)
        self.norm2 = RMSNorm(arch.dim)
        self.ffn = FeedForward(arch)

    def forward(self, hidden: Tensor, buckets: Tensor) -> Tensor:
        """Map [1, L, dim] to [1, L, dim]."""
        hidden = hidden + self.attn(self.norm1(hidden), self.pos_embedding(buckets))
        return hidden + self.ffn(self.norm2(hidden))


class Umt5(nn.Module):
    """Tokens to the contexts that the DiT's cross attention reads."""

    def __init__(self, arch: T5Architecture) -> None:
        super().__init__()
        self.num_buckets = arch.num_buckets
        self.token_embedding = table(arch.vocab_size, arch.dim)
        self.blocks = nn.ModuleList(Block(arch) for _ in range(arch.num_layers))
        self.norm = RMSNorm(arch.dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Encode tokens [L], without padding: [L, dim]."""
        buckets = position_buckets(len(ids), self.num_buckets, ids.device)
        hidden = self.token_embedding(ids[None])
        for block in self.blocks:
            hidden = block(hidden, buckets)
        return self.norm(hidden)[0]


def position_buckets(length: int, num_buckets: int, device: torch.device) -> Tensor:
    """Number the distances from each of so many tokens to each: int64 [L, L].

    Half of the buckets are for tokens behind and half for those in front; of each half, one for
    every small distance, and the rest in even steps of the logarithm up to MAX_DISTANCE.
    """
    places = torch.arange(length, device=device)
    distance = places[None, :] - places[:, None]
    half = num_buckets // 2
    exact = half // 2
    far = distance.abs()
    share = torch.log(far.clamp(min=1) / exact) / math.log(MAX_DISTANCE / exact)
    rough = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, rough) + (distance > 0) * half
