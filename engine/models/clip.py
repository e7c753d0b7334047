"""Wan's image encoder: the vision tower of open-clip's XLM-RoBERTa ViT-H.

Module names are those of the published checkpoint under `visual.`. Written out here rather than
taken from transformers, whose vision model splits the fused `to_qkv` that every file stores,
codes and scales included. Features are those of the penultimate block, as Wan uses them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.ops.attention import Attend
from engine.spec.architecture import ClipArchitecture

# Pixel statistics of CLIP's training images (OpenAI 2021).
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
EPS = 1e-5


class SelfAttention(nn.Module):
    """Attention of all patches to all patches."""

    def __init__(self, arch: ClipArchitecture) -> None:
        super().__init__()
        self.heads = arch.num_heads
        self.to_qkv = nn.Linear(arch.dim, 3 * arch.dim)
        self.proj = nn.Linear(arch.dim, arch.dim)
        self.attend = Attend()

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [B, L, dim] to [B, L, dim]."""
        heads = (part.unflatten(-1, (self.heads, -1)) for part in self.to_qkv(hidden).chunk(3, -1))
        query, key, value = (part.transpose(1, 2) for part in heads)  # [B, H, L, D]
        return self.proj(self.attend(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Norm, attention, norm, feed-forward."""

    def __init__(self, arch: ClipArchitecture) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(arch.dim, EPS)
        self.attn = SelfAttention(arch)
        self.norm2 = nn.LayerNorm(arch.dim, EPS)
        self.mlp = nn.Sequential(
            nn.Linear(arch.dim, arch.mlp_dim), nn.GELU(), nn.Linear(arch.mlp_dim, arch.dim)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [B, L, dim] to [B, L, dim]."""
        hidden = hidden + self.attn(self.norm1(hidden))
        return hidden + self.mlp(self.norm2(hidden))


class ClipVision(nn.Module):
    """Image to the features that the DiT's cross attention reads."""

    def __init__(self, arch: ClipArchitecture) -> None:
        super().__init__()
        self.image_size = arch.image_size
        self.patch_embedding = nn.Conv2d(3, arch.dim, arch.patch, arch.patch, bias=False)
        self.cls_embedding = nn.Parameter(torch.empty(1, 1, arch.dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, arch.num_tokens, arch.dim))
        self.pre_norm = nn.LayerNorm(arch.dim, EPS)
        self.transformer = nn.ModuleList(Block(arch) for _ in range(arch.num_layers - 1))

    def forward(self, image: Tensor) -> Tensor:
        """Encode [3, H, W], -1..1, any size: [1 + patches, dim]."""
        pixels = self.prepare(image).to(self.patch_embedding.weight.dtype)
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # [1, L, dim]
        hidden = torch.cat([self.cls_embedding, patches], dim=1) + self.pos_embedding
        hidden = self.pre_norm(hidden)
        for block in self.transformer:
            hidden = block(hidden)
        return hidden[0]

    def prepare(self, image: Tensor) -> Tensor:
        """Resize and normalise [3, H, W], -1..1: float32 [1, 3, size, size]."""
        size = (self.image_size, self.image_size)
        resized = F.interpolate(image[None].float(), size, mode="bicubic", align_corners=False)
        mean = torch.tensor(PIXEL_MEAN, device=image.device).view(1, 3, 1, 1)
        std = torch.tensor(PIXEL_STD, device=image.device).view(1, 3, 1, 1)
        return (resized * 0.5 + 0.5 - mean) / std
