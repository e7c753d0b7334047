"""The Wan 2.1 diffusion transformer.

Module names are those of the published checkpoints (Wan 2.1, Wan Team 2025), so that a file's
keys are the model's own. Norms, modulation and the timestep path stay in float32; the stream of
hidden states and all linears are in the compute dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.ops.attention import Attend, Attention
from engine.spec.architecture import DitArchitecture

ROPE_THETA = 10_000.0
SENSITIVE = ("norm", "modulation", "time_embedding", "time_projection", "img_emb.proj.0",
             "img_emb.proj.4")  # fmt: skip


def keeps_float32(name: str) -> bool:
    """Say whether a parameter stays in float32 whatever the compute dtype."""
    return any(part in name for part in SENSITIVE)


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoids of [B] timesteps in 0..1000: float32 [B, dim], cosines first."""
    half = dim // 2
    frequency = torch.exp(
        torch.arange(half, dtype=torch.float64, device=timesteps.device)
        * (-torch.log(torch.tensor(ROPE_THETA, dtype=torch.float64)) / half)
    )
    angle = timesteps.double()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1).float()


def rope_table(grid: tuple[int, int, int], head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [F*H*W, head_dim/2], of a (F, H, W) grid of patches.

    The head is split into time, height and width; height and width get a third each, rounded
    down to even numbers, time gets the rest.
    """
    third = 2 * (head_dim // 6)
    angles = []
    for axis, (length, dim) in enumerate(
        zip(grid, (head_dim - 2 * third, third, third), strict=True)
    ):
        frequency = ROPE_THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
        view = [1, 1, 1, -1]
        view[axis] = length
        angles.append(angle.view(view).expand(*grid, -1))
    table = torch.cat(angles, dim=-1).flatten(0, 2)
    return table.cos().float(), table.sin().float()


def apply_rope(hidden: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate neighbouring pairs of [B, L, H, D] by the angles of the table."""
    cos, sin = (part[:, None, :] for part in rope)  # [L, 1, D/2]
    even, odd = hidden.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2).to(hidden.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm over all heads at once, in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize [..., dim]."""
        return F.rms_norm(hidden.float(), self.weight.shape, self.weight, self.eps).to(hidden.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in float32, given back in the dtype of its input."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize [..., dim]."""
        return super().forward(hidden.float()).to(hidden.dtype)


class QueryKeyValue(nn.Module):
    """The projections and norms that both kinds of attention have."""

    def __init__(self, arch: DitArchitecture, attend: type[nn.Module]) -> None:
        super().__init__()
        self.heads = arch.num_heads
        self.attention = Attention(attend)
        self.q = nn.Linear(arch.dim, arch.dim)
        self.k = nn.Linear(arch.dim, arch.dim)
        self.v = nn.Linear(arch.dim, arch.dim)
        self.o = nn.Linear(arch.dim, arch.dim)
        self.norm_q = RMSNorm(arch.dim, arch.eps)
        self.norm_k = RMSNorm(arch.dim, arch.eps)


class SelfAttention(QueryKeyValue):
    """Attention of all patches to all patches, with rotary positions."""

    def forward(self, hidden: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Map [B, L, dim] to [B, L, dim]."""
        split = (self.heads, -1)
        query = apply_rope(self.norm_q(self.q(hidden)).unflatten(-1, split), rope)
        key = apply_rope(self.norm_k(self.k(hidden)).unflatten(-1, split), rope)
        value = self.v(hidden).unflatten(-1, split)
        return self.o(self.attention(query, key, value))


class CrossAttention(QueryKeyValue):
    """Attention of the patches to the text and, in image-to-video models, to the image."""

    def __init__(self, arch: DitArchitecture, attend: type[nn.Module]) -> None:
        super().__init__(arch, attend)
        if arch.image_dim is not None:
            self.k_img = nn.Linear(arch.dim, arch.dim)
            self.v_img = nn.Linear(arch.dim, arch.dim)
            self.norm_k_img = RMSNorm(arch.dim, arch.eps)

    def forward(self, hidden: Tensor, text: Tensor, image: Tensor | None) -> Tensor:
        """Map [B, L, dim] to [B, L, dim]; `text` is [B, T, dim], `image` [B, I, dim]."""
        split = (self.heads, -1)
        query = self.norm_q(self.q(hidden)).unflatten(-1, split)
        key = self.norm_k(self.k(text)).unflatten(-1, split)
        value = self.v(text).unflatten(-1, split)
        attended = self.attention(query, key, value)
        if image is not None:
            key_image = self.norm_k_img(self.k_img(image)).unflatten(-1, split)
            value_image = self.v_img(image).unflatten(-1, split)
            attended = attended + self.attention(query, key_image, value_image)
        return self.o(attended)


class Block(nn.Module):
    """One transformer block: self attention, cross attention, feed-forward."""

    def __init__(self, arch: DitArchitecture, attend: type[nn.Module]) -> None:
        super().__init__()
        self.norm1 = LayerNorm(arch.dim, arch.eps, elementwise_affine=False)
        self.self_attn = SelfAttention(arch, attend)
        self.norm3 = LayerNorm(arch.dim, arch.eps)
        self.cross_attn = CrossAttention(arch, attend)
        self.norm2 = LayerNorm(arch.dim, arch.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(arch.dim, arch.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(arch.ffn_dim, arch.dim),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, arch.dim))

    def forward(
        self,
        hidden: Tensor,
        text: Tensor,
        image: Tensor | None,
        timestep: Tensor,
        rope: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Map [B, L, dim] to [B, L, dim]; `timestep` is float32 [B, 6, dim]."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            self.modulation.float() + timestep
        ).chunk(6, dim=1)  # each [B, 1, dim]
        attended = self.self_attn(modulate(self.norm1(hidden), shift, scale), rope)
        hidden = gated(hidden, attended, gate)
        hidden = hidden + self.cross_attn(self.norm3(hidden), text, image)
        fed = self.ffn(modulate(self.norm2(hidden), ffn_shift, ffn_scale))
        return gated(hidden, fed, ffn_gate)


class Head(nn.Module):
    """The last norm and the projection to patches."""

    def __init__(self, arch: DitArchitecture, patch_values: int) -> None:
        super().__init__()
        self.norm = LayerNorm(arch.dim, arch.eps, elementwise_affine=False)
        self.head = nn.Linear(arch.dim, patch_values)
        self.modulation = nn.Parameter(torch.empty(1, 2, arch.dim))

    def forward(self, hidden: Tensor, timestep: Tensor) -> Tensor:
        """Map [B, L, dim] to [B, L, patch values]; `timestep` is float32 [B, dim]."""
        shift, scale = (self.modulation.float() + timestep[:, None]).chunk(2, dim=1)
        return self.head(modulate(self.norm(hidden), shift, scale))


class ImageEmbedding(nn.Module):
    """CLIP features to cross-attention tokens (image-to-video models only)."""

    def __init__(self, arch: DitArchitecture, image_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            LayerNorm(image_dim),
            nn.Linear(image_dim, image_dim),
            nn.GELU(),
            nn.Linear(image_dim, arch.dim),
            LayerNorm(arch.dim),
        )
        if arch.first_last_frame:
            self.emb_pos = nn.Parameter(torch.empty(1, arch.image_tokens, image_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, I, image_dim] to [B, I, dim]; with positions, I is that of both images."""
        positions = getattr(self, "emb_pos", None)
        return self.proj(features if positions is None else features + positions)


class WanTransformer(nn.Module):
    """Predicts the flow of latents at a timestep, given text and, for I2V, an image."""

    def __init__(self, arch: DitArchitecture, attend: type[nn.Module] = Attend) -> None:
        super().__init__()
        self.arch = arch
        patch_values = arch.out_dim * arch.patch_size[0] * arch.patch_size[1] * arch.patch_size[2]
        self.patch_embedding = nn.Conv3d(arch.in_dim, arch.dim, arch.patch_size, arch.patch_size)
        self.text_embedding = nn.Sequential(
            nn.Linear(arch.text_dim, arch.dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(arch.dim, arch.dim),
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(arch.freq_dim, arch.dim), nn.SiLU(), nn.Linear(arch.dim, arch.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(arch.dim, 6 * arch.dim))
        self.blocks = nn.ModuleList(Block(arch, attend) for _ in range(arch.num_layers))
        self.head = Head(arch, patch_values)
        if arch.image_dim is not None:
            self.img_emb = ImageEmbedding(arch, arch.image_dim)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        rope: tuple[Tensor, Tensor],
        image_features: Tensor | None = None,
    ) -> Tensor:
        """Predict the flow.

        Args:
            latents: [B, in_dim, F, H, W]; for I2V the mask and image latents are channels of it.
            timesteps: [B], 0..1000.
            context: [B, text_len, text_dim], zeros behind the prompt's last token.
            rope: `rope_table` of the patch grid, on the device of `latents`.
            image_features: [B, I, image_dim] for image-to-video models.

        Returns:
            The flow, float32 [B, out_dim, F, H, W].
        """
        dtype = self.patch_embedding.weight.dtype
        hidden = self.patch_embedding(latents.to(dtype))  # [B, dim, F, H/2, W/2]
        grid = hidden.shape[2:]
        hidden = hidden.flatten(2).transpose(1, 2)  # [B, L, dim]
        embedded = self.time_embedding(timestep_embedding(timesteps, self.arch.freq_dim))
        modulation = self.time_projection(embedded).unflatten(1, (6, -1))  # float32 [B, 6, dim]
        text = self.text_embedding(context.to(dtype))  # [B, text_len, dim]
        image = None if image_features is None else self.img_emb(image_features.to(dtype))
        for block in self.blocks:
            hidden = block(hidden, text, image, modulation, rope)
        return self.unpatchify(self.head(hidden, embedded).float(), grid)

    def unpatchify(self, values: Tensor, grid: torch.Size) -> Tensor:
        """Lay patches [B, L, pf*ph*pw*out_dim] out as [B, out_dim, F, H, W]."""
        patch_f, patch_h, patch_w = self.arch.patch_size
        values = values.view(-1, *grid, patch_f, patch_h, patch_w, self.arch.out_dim)
        values = values.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, F, pf, H, ph, W, pw]
        return values.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def modulate(hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift in float32, given back in the dtype of `hidden`."""
    return torch.addcmul(shift, hidden.float(), 1 + scale).to(hidden.dtype)


def gated(hidden: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """Add a gated update in float32, given back in the dtype of `hidden`."""
    return torch.addcmul(hidden.float(), update.float(), gate).to(hidden.dtype)
