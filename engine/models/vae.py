"""The Wan 2.1 VAE, encoder and decoder, working latent by latent.

Every convolution over time is causal, so a video can be decoded one latent at a time if each
remembers its last two input frames: exact, with memory flat in video length. Module names are
those of the published Wan2.1_VAE.pth (Wan Team 2025). The first latent is one frame, every
further one is four.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.spec.architecture import VaeArchitecture

# Statistics of the latents the DiT was trained on (published with Wan 2.1).
LATENT_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
               0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
LATENT_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
              3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip
WIDTHS = (1, 2, 4, 4)  # multiples of the base width, from full to 1/8 resolution
DOUBLES_TIME = (False, True, True)  # between those resolutions
FRAMES_PER_LATENT = 4
STRIDE = 8


class Memory:
    """What the causal layers of one pass remember between chunks of frames."""

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}

    def seen(self, layer: nn.Module) -> Tensor | None:
        """Give the frames `layer` kept, or None where it has seen nothing yet."""
        return self._frames.get(layer)

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Keep frames [B, C, T, H, W] for the next chunk."""
        self._frames[layer] = frames


class CausalConv3d(nn.Conv3d):
    """A convolution that sees the past: zeros before the first frame, memory after it."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int | tuple[int, int, int]) -> None:
        size = (kernel, kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__(in_dim, out_dim, size, padding=(0, size[1] // 2, size[2] // 2))
        self.past = size[0] - 1

    def forward(self, frames: Tensor, memory: Memory) -> Tensor:
        """Map [B, in, T, H, W] to [B, out, T, H, W]."""
        if not self.past:
            return super().forward(frames)
        past = memory.seen(self)
        if past is None:
            past = frames.new_zeros(*frames.shape[:2], self.past, *frames.shape[3:])
        frames = torch.cat([past, frames], dim=2)
        memory.keep(self, frames[:, :, -self.past :].clone())
        return super().forward(frames)


class RMSNorm(nn.Module):
    """Normalizes over channels; `gamma` broadcasts over time and space."""

    def __init__(self, dim: int, trailing: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim, *([1] * trailing)))
        self.scale = dim**0.5

    def forward(self, frames: Tensor) -> Tensor:
        """Normalize [B, C, ...]."""
        return F.normalize(frames, dim=1) * self.scale * self.gamma


class ResidualBlock(nn.Module):
    """Two norm, SiLU, causal convolution, and a shortcut."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(in_dim, 3),
            nn.SiLU(),
            CausalConv3d(in_dim, out_dim, 3),
            RMSNorm(out_dim, 3),
            nn.SiLU(),
            nn.Dropout(0.0),
            CausalConv3d(out_dim, out_dim, 3),
        )
        self.shortcut = CausalConv3d(in_dim, out_dim, 1) if in_dim != out_dim else None

    def forward(self, frames: Tensor, memory: Memory) -> Tensor:
        """Map [B, in, T, H, W] to [B, out, T, H, W]."""
        norm1, silu, conv1, norm2, _, _, conv2 = self.residual
        hidden = conv1(silu(norm1(frames)), memory)
        hidden = conv2(silu(norm2(hidden)), memory)
        return hidden + (frames if self.shortcut is None else self.shortcut(frames, memory))


class AttentionBlock(nn.Module):
    """Single-head attention within each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, 2)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, frames: Tensor, _memory: Memory) -> Tensor:
        """Map [B, C, T, H, W] to the same shape."""
        batch, _, time, height, width = frames.shape
        images = frames.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
        qkv = self.to_qkv(self.norm(images)).flatten(2).transpose(1, 2)  # [B*T, H*W, 3C]
        query, key, value = qkv[:, None].chunk(3, dim=-1)  # one head
        attended = F.scaled_dot_product_attention(query, key, value)[:, 0]  # [B*T, H*W, C]
        attended = self.proj(attended.transpose(1, 2).unflatten(2, (height, width)))
        return frames + attended.unflatten(0, (batch, time)).transpose(1, 2)


class Upsample(nn.Module):
    """Doubles height and width, and time where the level asks for it."""

    def __init__(self, dim: int, *, doubles_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"),
            nn.Conv2d(dim, dim // 2, 3, padding=1),
        )
        self.time_conv = CausalConv3d(dim, 2 * dim, (3, 1, 1)) if doubles_time else None

    def forward(self, frames: Tensor, memory: Memory) -> Tensor:
        """Map [B, C, T, H, W] to [B, C/2, T or 2T, 2H, 2W]; the first frame stays one frame."""
        if self.time_conv is not None:
            if memory.seen(self) is None:
                memory.keep(self, frames[:, :, :0].clone())
            else:
                doubled = self.time_conv(frames, memory).unflatten(1, (2, -1))  # [B, 2, C, T, ..]
                frames = doubled.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        images = self.resample(frames.transpose(1, 2).flatten(0, 1))
        return images.unflatten(0, (frames.shape[0], -1)).transpose(1, 2)


class Downsample(nn.Module):
    """Halves height and width, and time where the level asks for it."""

    def __init__(self, dim: int, *, halves_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, 2))
        self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), (2, 1, 1)) if halves_time else None

    def forward(self, frames: Tensor, memory: Memory) -> Tensor:
        """Map [B, C, T, H, W] to [B, C, T or T/2, H/2, W/2]; the first frame stays one frame."""
        images = self.resample(frames.transpose(1, 2).flatten(0, 1))
        halved = images.unflatten(0, (frames.shape[0], -1)).transpose(1, 2)
        if self.time_conv is None:
            return halved
        past = memory.seen(self)
        memory.keep(self, halved[:, :, -1:].clone())
        return halved if past is None else self.time_conv(torch.cat([past, halved], dim=2))


class Half(nn.Module):
    """What encoder and decoder share: a first convolution, levels, a middle and a head."""

    def middle_of(self, dim: int) -> nn.ModuleList:
        """Build the blocks at the lowest resolution."""
        return nn.ModuleList(
            [ResidualBlock(dim, dim), AttentionBlock(dim), ResidualBlock(dim, dim)]
        )

    def head_of(self, in_dim: int, out_dim: int) -> nn.Sequential:
        """Build the last norm, SiLU and convolution."""
        return nn.Sequential(RMSNorm(in_dim, 3), nn.SiLU(), CausalConv3d(in_dim, out_dim, 3))


class Decoder(Half):
    """Latents to frames."""

    def __init__(self, arch: VaeArchitecture) -> None:
        super().__init__()
        top = arch.dim * WIDTHS[-1]
        self.conv1 = CausalConv3d(arch.latent_channels, top, 3)
        self.middle = self.middle_of(top)
        levels: list[nn.Module] = []
        in_dim = top
        for level in reversed(range(4)):
            dim = arch.dim * WIDTHS[level]
            levels += [ResidualBlock(in_dim if i == 0 else dim, dim) for i in range(3)]
            if level:
                levels.append(Upsample(dim, doubles_time=DOUBLES_TIME[level - 1]))
            in_dim = dim // 2
        self.upsamples = nn.ModuleList(levels)
        self.head = self.head_of(arch.dim, 3)

    def forward(self, latents: Tensor, memory: Memory) -> Tensor:
        """Map [B, C, 1, H/8, W/8] to [B, 3, 1 or 4, H, W]."""
        hidden = self.conv1(latents, memory)
        for layer in (*self.middle, *self.upsamples):
            hidden = layer(hidden, memory)
        norm, silu, conv = self.head
        return conv(silu(norm(hidden)), memory)


class Encoder(Half):
    """Frames to the mean and variance of latents."""

    def __init__(self, arch: VaeArchitecture) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(3, arch.dim, 3)
        levels: list[nn.Module] = []
        in_dim = arch.dim
        for level in range(4):
            dim = arch.dim * WIDTHS[level]
            levels += [ResidualBlock(in_dim, dim), ResidualBlock(dim, dim)]
            if level < 3:
                levels.append(Downsample(dim, halves_time=DOUBLES_TIME[level]))
            in_dim = dim
        self.downsamples = nn.ModuleList(levels)
        self.middle = self.middle_of(in_dim)
        self.head = self.head_of(in_dim, 2 * arch.latent_channels)

    def forward(self, frames: Tensor, memory: Memory) -> Tensor:
        """Map [B, 3, 1 or 4, H, W] to [B, 2C, 1, H/8, W/8]."""
        hidden = self.conv1(frames, memory)
        for layer in (*self.downsamples, *self.middle):
            hidden = layer(hidden, memory)
        norm, silu, conv = self.head
        return conv(silu(norm(hidden)), memory)


class WanVae(nn.Module):
    """Turns normalised latents into frames and back; either half may be left out."""

    def __init__(
        self, arch: VaeArchitecture, *, with_encoder: bool, with_decoder: bool = True
    ) -> None:
        super().__init__()
        channels = arch.latent_channels
        if with_encoder:
            self.encoder = Encoder(arch)
            self.conv1 = CausalConv3d(2 * channels, 2 * channels, 1)
        if with_decoder:
            self.conv2 = CausalConv3d(channels, channels, 1)
            self.decoder = Decoder(arch)

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Decode [C, T, H/8, W/8] latent by latent: yields float32 [3, 1 or 4, H, W], -1..1."""
        values = denormalized(latents).to(self.conv2.weight.dtype)[None]
        memory = Memory()
        for index in range(latents.shape[1]):
            yield self._decode_one(values[:, :, index : index + 1], memory)

    def decode_tiled(self, latents: Tensor, tile: int = 32, overlap: int = 8) -> Iterator[Tensor]:
        """Decode in tiles of `tile` latents a side that blend over `overlap`; for little memory.

        Every tile has a memory of its own, so each latent costs the activations of one tile.
        Seams are not exact: attention and convolutions see only their tile.
        """
        values = denormalized(latents).to(self.conv2.weight.dtype)[None]
        _, _, time, height, width = values.shape
        rows, columns = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
        memories = {(top, left): Memory() for top in rows for left in columns}
        for index in range(time):
            blended, weights = None, None
            for (top, left), memory in memories.items():
                part = values[:, :, index : index + 1, top : top + tile, left : left + tile]
                frames = self._decode_one(part, memory)
                if blended is None or weights is None:
                    size = (height * STRIDE, width * STRIDE)
                    blended = frames.new_zeros(3, frames.shape[1], *size)
                    weights = frames.new_zeros(size)
                ramp = blend_ramp(frames.shape[2:], overlap * STRIDE, frames.device)
                bottom, right = top * STRIDE + frames.shape[2], left * STRIDE + frames.shape[3]
                blended[:, :, top * STRIDE : bottom, left * STRIDE : right] += frames * ramp
                weights[top * STRIDE : bottom, left * STRIDE : right] += ramp
            assert blended is not None  # there is at least one tile
            yield blended / weights

    def _decode_one(self, latent: Tensor, memory: Memory) -> Tensor:
        """Decode one denormalised latent [1, C, 1, H/8, W/8]."""
        return self.decoder(self.conv2(latent, memory), memory)[0].float().clamp_(-1, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """Encode [3, 4k+1, H, W], -1..1, to normalised latents, float32 [C, k+1, H/8, W/8]."""
        chunks = [frames[:, :1], *frames[:, 1:].split(FRAMES_PER_LATENT, dim=1)]
        return self.encode_chunks(chunk for chunk in chunks if chunk.shape[1])

    def encode_chunks(self, chunks: Iterable[Tensor]) -> Tensor:
        """Encode chunks of 1, 4, 4, … frames [3, 1 or 4, H, W], without holding them all."""
        memory = Memory()
        dtype = self.conv1.weight.dtype
        encoded = torch.cat([self.encoder(c.to(dtype)[None], memory) for c in chunks], dim=2)
        mean_of_latents = self.conv1(encoded, memory).chunk(2, dim=1)[0][0].float()
        mean, std = _statistics(mean_of_latents)
        return (mean_of_latents - mean) / std


def denormalized(latents: Tensor) -> Tensor:
    """Undo the normalisation of latents [C, T, H, W], in float32."""
    mean, std = _statistics(latents)
    return latents.float() * std + mean


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin so that they cover `length`, the last one flush with the end."""
    if length <= tile:
        return [0]
    starts = list(range(0, length - tile, tile - overlap))
    return [*starts, length - tile]


def blend_ramp(size: torch.Size, overlap: int, device: torch.device) -> Tensor:
    """Weights [H, W] that rise linearly over `overlap` pixels from every edge, and are never 0."""
    sides = []
    for length in size:
        position = torch.arange(length, device=device) + 1
        sides.append((torch.minimum(position, position.flip(0)) / (overlap + 1)).clamp(max=1.0))
    return sides[0][:, None] * sides[1][None, :]


def _statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (-1, 1, 1, 1)
    mean = torch.tensor(LATENT_MEAN, device=like.device).view(shape)
    return mean, torch.tensor(LATENT_STD, device=like.device).view(shape)
