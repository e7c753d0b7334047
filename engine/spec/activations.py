"""What networks need beside their weights, counted from the tensors alive at their peaks.

Each function follows the `forward` of its network in `engine.models` and adds up what Python and
PyTorch hold at the highest moments. Sizes are bytes; `item` is the width of the compute dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import accumulate

from engine.spec.architecture import (
    ClipArchitecture,
    DitArchitecture,
    T5Architecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)

FLOAT = 4
WIDTHS = (1, 2, 4, 4)  # of the VAE, from full to 1/8 resolution
TILE, TILE_OVERLAP = 32, 8  # latents
FRAME = 3 * 4 * FLOAT  # four frames of one pixel, float32
#: oneDNN lays float32 convolutions of odd widths out as matrices of patches, up to a size.
PATCH_CHANNELS, PATCH_BYTES = 16, 700 << 20
SCORES = 2  # copies of the VAE's attention scores, in float32: its attention is not fused


class Products(Enum):
    """How the linears of a network multiply."""

    PLAIN = "plain"
    DEQUANT = "dequant"
    EXACT = "exact"  # codes, summed in float32 or int32
    FUSED = "fused"  # FP8 codes on tensor cores that apply both scales


@dataclass(frozen=True)
class Peak:
    """Bytes alive in tensors at the peak, and what kernels take beside them for a moment."""

    alive: int
    workspace: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.alive + self.workspace


@dataclass(frozen=True)
class Linear:
    """How linears multiply, where, and how large the largest weight is."""

    products: Products
    item: int
    widest: int  # elements
    on_cpu: bool

    def peak(self, rows: int, width: int) -> int:
        """Bytes at the peak of mapping `rows` to `width` values, or back; the input included."""
        values, item = rows * width, self.item
        if self.products is Products.EXACT:
            weight = FLOAT * self.widest if self.on_cpu else 0
            return max(2 * FLOAT * values, (FLOAT + item) * values + weight)
        if self.products is Products.FUSED:
            return (item + FLOAT + 1) * values
        if self.products is Products.DEQUANT:
            return max(2 * item * values, item * values + 2 * FLOAT * self.widest)
        return 2 * item * values


def dit(arch: DitArchitecture, tokens: int, batch: int, linear: Linear, *, loras: bool) -> Peak:
    """Peak of one forward of the DiT, over `tokens` patches.

    A block peaks where its norms are computed in float32, or in its feed-forward: around that
    are the hidden states before and in the block, the attention's result and the norm's.
    """
    item = linear.item
    hidden = batch * tokens * arch.dim
    upcast = FLOAT if item < FLOAT else 0
    norm = hidden * (5 * item + upcast + 2 * FLOAT)
    feed = linear.peak(batch * tokens, arch.ffn_dim)
    if loras:
        feed = max(feed, 3 * item * batch * tokens * arch.ffn_dim)
    codes = hidden if linear.products in (Products.EXACT, Products.FUSED) else 0
    rope = tokens * (arch.dim // arch.num_heads) * FLOAT
    text = batch * (arch.text_len + arch.image_tokens) * (arch.dim * 2 + arch.text_dim) * item
    patch = arch.patch_size[0] * arch.patch_size[1] * arch.patch_size[2]
    latents = (batch + 4) * tokens * patch * (arch.in_dim + arch.out_dim) * FLOAT
    return Peak(max(norm, 4 * item * hidden + codes + feed) + rope + text + latents)


def t5(arch: T5Architecture, tokens: int, linear: Linear) -> Peak:
    """Peak of encoding one prompt: position bias and scores, or the gated feed-forward."""
    item = linear.item
    scores = arch.num_heads * tokens * tokens * (2 * item + 2 * FLOAT)
    feed = 2 * item * tokens * arch.dim_ffn + linear.peak(tokens, arch.dim_ffn)
    return Peak(max(scores, feed) + 6 * FLOAT * tokens * arch.dim)


def clip(arch: ClipArchitecture, linear: Linear) -> Peak:
    """Peak of encoding one image: the feed-forward of a block, or scores that are not fused."""
    tokens = arch.num_tokens
    scores = 3 * FLOAT * arch.num_heads * tokens * tokens
    highest = max(scores, linear.peak(tokens, arch.mlp_dim))
    pixels = 4 * 3 * FLOAT * arch.image_size * arch.image_size
    return Peak(highest + 8 * linear.item * tokens * arch.dim + pixels)


@dataclass(frozen=True)
class _Layer:
    """Elements a layer remembers between chunks, those alive at its peak, and its kernel's."""

    kept: float
    alive: float
    workspace: float


@dataclass(frozen=True)
class _Convolutions:
    """How convolutions are computed: what they need beside input and output."""

    item: int
    on_cpu: bool

    def workspace(self, channels: int, values: float, patches: float) -> float:
        """Elements of the input in the layout of the kernel, or of a matrix of its patches."""
        if self.on_cpu and self.item == FLOAT:
            if channels % PATCH_CHANNELS and patches * FLOAT < PATCH_BYTES:
                return 1.25 * patches  # measured: a quarter more
            return values
        return (1.35 if self.on_cpu else 1.0) * values

    def causal(self, held: float, wide: int, out: int, time: int, area: float) -> _Layer:
        """A 3x3x3 convolution of the chunk and the two frames before it, `held` around it."""
        seen = wide * (time + 2) * area
        alive = held + (2 * wide * time + 2 * wide + out * time) * area + 2 * wide * area
        return _Layer(2 * wide * area, alive, self.workspace(wide, seen, 27 * wide * time * area))

    def residual(self, wide: int, out: int, time: int, area: float) -> Iterator[_Layer]:
        """Two convolutions and a shortcut."""
        yield self.causal(wide * time * area, wide, out, time, area)
        yield self.causal((wide + out) * time * area, out, out, time, area)

    def upsample(self, wide: int, time: int, later: int, area: float) -> _Layer:
        """Twice the frames, where `later` says so, at twice the size and half the width."""
        kept = 2 * wide * area if later > time else 0
        large = wide * later * 4 * area
        alive = wide * (time + 2 * later) * area + 1.5 * large
        return _Layer(kept, alive, self.workspace(wide, large, 9 * large))

    def downsample(self, wide: int, time: int, area: float) -> _Layer:
        """Half the size; the frames, their copy and the padded copy."""
        values = wide * time * area
        return _Layer(wide * area / 4, 3.25 * values, values)


def _peak(layers: list[_Layer], item: int, tiles: int, *, again: bool) -> Peak:
    """The peak of a chunk; in a first one, layers that were not reached hold nothing."""
    after = list(accumulate(layer.kept for layer in layers))
    others = (tiles - 1) * after[-1]
    peaks = [
        (layer.alive + others + (after[-1] if again or tiles > 1 else held), layer.workspace)
        for layer, held in zip(layers, after, strict=True)
    ]
    alive, workspace = max(peaks, key=sum)
    return Peak(int(item * alive), int(item * workspace))


@lru_cache(maxsize=256)
def vae_decoder(
    arch: VaeArchitecture, size: tuple[int, int, int], item: int, *, on_cpu: bool, tiled: bool
) -> Peak:
    """Peak of decoding latents of `size` (T, H/8, W/8), one after the other.

    Every convolution remembers two frames; in tiles, every tile remembers its own.
    """
    time, height, width = size
    tile = (min(TILE, height), min(TILE, width)) if tiled else (height, width)
    tiles = _tiles(height, tile[0]) * _tiles(width, tile[1])
    area, convolve = tile[0] * tile[1], _Convolutions(item, on_cpu)
    layers = _decoder_layers(arch, convolve, 4 if time > 1 else 1, area)
    scores = _attention(arch, area)
    frames = (1 if tiles == 1 else 3) * FRAME * height * width * 64
    kept = tiles * item * sum(layer.kept for layer in layers)
    return _higher(_peak(layers, item, tiles, again=time > 1), kept + scores, frames)


def _higher(peak: Peak, other: float, beside: int) -> Peak:
    """The higher of two moments, with what is there at both."""
    highest = peak if peak.total > other else Peak(int(other))
    return Peak(highest.alive + beside, highest.workspace)


def _decoder_layers(
    arch: VaeArchitecture, convolve: _Convolutions, frames: int, area: float
) -> list[_Layer]:
    top, time = WIDTHS[-1] * arch.dim, 1
    layers = [convolve.causal(0, arch.latent_channels, top, 1, area)]
    for _ in range(2):
        layers += convolve.residual(top, top, 1, area)
    wide = top
    for level in reversed(range(4)):
        out = WIDTHS[level] * arch.dim
        for index in range(3):
            layers += convolve.residual(out if index else wide, out, time, area)
        if level:
            later = min(frames, 2 * time) if level > 1 else time
            layers.append(convolve.upsample(out, time, later, area))
            wide, time, area = out // 2, later, 4 * area
    return [*layers, convolve.causal(arch.dim * time * area, arch.dim, 3, time, area)]


@lru_cache(maxsize=256)
def vae_encoder(arch: VaeArchitecture, size: tuple[int, int, int], *, on_cpu: bool) -> Peak:
    """Peak of encoding the first frame and the empty ones behind it, in float32."""
    time, height, width = size
    frames, area = (4 if time > 1 else 1), float(height * width * 64)
    convolve = _Convolutions(FLOAT, on_cpu)
    layers = [convolve.causal(0, 3, arch.dim, frames, area)]
    wide, now = arch.dim, frames
    for level in range(4):
        out = WIDTHS[level] * arch.dim
        layers += convolve.residual(wide, out, now, area)
        layers += convolve.residual(out, out, now, area)
        if level < 3:
            layers.append(convolve.downsample(out, now, area))
            now, area = (max(1, now // 2) if level else now), area / 4
        wide = out
    for _ in range(2):
        layers += convolve.residual(wide, wide, now, area)
    scores = _attention(arch, area)
    kept = FLOAT * sum(layer.kept for layer in layers)
    pixels = 2 * FRAME * height * width * 64
    return _higher(_peak(layers, FLOAT, 1, again=time > 1), kept + scores, pixels)


def _attention(arch: VaeArchitecture, area: float) -> float:
    """Bytes of the attention at the lowest resolution: scores, and seven copies of a frame."""
    return FLOAT * area * (SCORES * area + 7 * WIDTHS[-1] * arch.dim)


def tiny_decoder(
    arch: TinyVaeArchitecture, size: tuple[int, int, int], item: int, *, on_cpu: bool
) -> Peak:
    """Peak of the tiny VAE: its last, widest frames, and what earlier layers hold meanwhile."""
    _, height, width = size
    a, b, c, d = arch.widths
    grown = 3 * c + 2 * d + 3 * (b + c) / 4 + (2 * a + 3 * b) / 16 + 3 * a / 64
    workspace = c + d if on_cpu else max(c, d)
    pixels = height * width * 64
    alive = pixels * (item * (grown + 24) + 2 * FRAME)
    return Peak(int(alive), pixels * item * workspace)


def _tiles(length: int, tile: int) -> int:
    """How many tiles cover `length`, as `engine.models.vae.tile_starts` lays them."""
    if length <= tile:
        return 1
    return len(range(0, length - tile, tile - TILE_OVERLAP)) + 1
