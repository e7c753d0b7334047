"""The tiny VAE's decoder (taew2_1 of madebyollin/taehv, MIT), frame by frame.

taew2_1 reads latents as the DiT makes them; lighttaew2_1 wants them denormalised first. Each
`Remember` block sees its previous input frame and `Grow` blocks turn one frame into several, so a
latent becomes four frames; the first three frames of a video are warm-up and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from engine.spec.architecture import TinyVaeArchitecture

WARM_UP_FRAMES = 3


def conv(in_dim: int, out_dim: int, *, bias: bool = True) -> nn.Conv2d:
    """Build a 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_dim, out_dim, 3, padding=1, bias=bias)


class Clamp(nn.Module):
    """Squashes latents softly into -3..3."""

    def forward(self, frame: Tensor) -> Tensor:
        """Map any shape to itself."""
        return torch.tanh(frame / 3) * 3


class Remember(nn.Module):
    """A residual block over this frame and the one before it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(2 * dim, dim), nn.ReLU(), conv(dim, dim), nn.ReLU(), conv(dim, dim)
        )

    def forward(self, frame: Tensor, past: Tensor) -> Tensor:
        """Map [1, C, H, W] and the previous input to [1, C, H, W]."""
        return torch.relu(self.conv(torch.cat([frame, past], dim=1)) + frame)


class Grow(nn.Module):
    """One frame becomes `factor` frames."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim * factor, 1, bias=False)
        self.factor = factor

    def forward(self, frame: Tensor) -> Tensor:
        """Map [1, C, H, W] to [factor, C, H, W]."""
        return self.conv(frame).unflatten(1, (self.factor, -1))[0]


class TinyVae(nn.Module):
    """Decodes normalised latents to frames; numbers in the list are the checkpoint's keys."""

    def __init__(self, arch: TinyVaeArchitecture) -> None:
        super().__init__()
        a, b, c, d = arch.widths
        self.decoder = nn.ModuleList([
            Clamp(), conv(arch.latent_channels, a), nn.ReLU(),
            Remember(a), Remember(a), Remember(a), nn.Upsample(scale_factor=2), Grow(a, 1),
            conv(a, b, bias=False),
            Remember(b), Remember(b), Remember(b), nn.Upsample(scale_factor=2), Grow(b, 2),
            conv(b, c, bias=False),
            Remember(c), Remember(c), Remember(c), nn.Upsample(scale_factor=2), Grow(c, 2),
            conv(c, d, bias=False), nn.ReLU(), conv(d, 3),
        ])  # fmt: skip

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Decode [C, T, H/8, W/8] latent by latent: yields float32 [3, 1 or 4, H, W], -1..1."""
        past: dict[int, Tensor] = {}
        values = latents.to(self.decoder[1].weight.dtype).transpose(0, 1)  # [T, C, H/8, W/8]
        for index, latent in enumerate(values):
            frames = torch.cat(list(self._from_layer(0, latent[None], past)))
            frames = frames[WARM_UP_FRAMES:] if index == 0 else frames
            yield frames.transpose(0, 1).float().mul(2).sub(1).clamp_(-1, 1)

    def _from_layer(self, first: int, frame: Tensor, past: dict[int, Tensor]) -> Iterator[Tensor]:
        """Run one frame [1, C, H, W] through the layers from `first` on; it may become several."""
        for index in range(first, len(self.decoder)):
            layer = self.decoder[index]
            if isinstance(layer, Remember):
                previous = past.get(index, torch.zeros_like(frame))
                past[index] = frame
                frame = layer(frame, previous)
            elif isinstance(layer, Grow):
                for grown in layer(frame).split(1):
                    yield from self._from_layer(index + 1, grown, past)
                return
            else:
                frame = layer(frame)
        yield frame
