"""Decoding in tiles: exact with one tile, and with several no seam that an eye would find."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.demo import smooth
from engine.models.vae import STRIDE, WanVae, blend_ramp, tile_starts
from engine.spec.architecture import VaeArchitecture
from tests.engine.support import CPU

OVERLAP = 8
RANGE = 2.0  # pixels go from -1 to 1


def smooth_vae(seed: int = 0, *, attention: bool = True) -> WanVae:
    """A random VAE whose video is smooth; without attention it sees only what is near."""
    torch.manual_seed(seed)
    vae = smooth(WanVae(VaeArchitecture(4, 16), with_encoder=False))
    assert isinstance(vae, WanVae)
    if not attention:
        vae.decoder.middle[1].proj.weight.zero_()
    return vae


def latents_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(16, *shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def whole(vae: WanVae, latents: Tensor) -> Tensor:
    return torch.cat(list(vae.decode(latents)), dim=1)


@torch.no_grad()
def tiled(vae: WanVae, latents: Tensor, tile: int, overlap: int = OVERLAP) -> Tensor:
    return torch.cat(list(vae.decode_tiled(latents, tile, overlap)), dim=1)


def steps(frames: Tensor) -> Tensor:
    """The mean step from each column of pixels to the next."""
    return frames.diff(dim=3).abs().mean(dim=(0, 1, 2))


def seams(width: int, tile: int) -> list[int]:
    """Columns of pixels after which a tile begins or ends."""
    starts = tile_starts(width, tile, OVERLAP)
    edges = {start for start in starts if start} | {s + tile for s in starts if s + tile < width}
    return [edge * STRIDE - 1 for edge in sorted(edges)]


@pytest.mark.parametrize("shape", [(3, 6, 8), (1, 8, 5), (2, 1, 1)])
def test_one_tile_over_everything_is_exact(shape: tuple[int, ...]) -> None:
    vae, latents = smooth_vae(), latents_of(*shape)
    expected = list(vae.decode(latents))
    found = list(vae.decode_tiled(latents, 8, 4))
    assert [frames.shape for frames in found] == [frames.shape for frames in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-6


def test_tiles_come_latent_by_latent() -> None:
    found = [frames.shape for frames in smooth_vae().decode_tiled(latents_of(3, 10, 20), 16, 8)]
    assert found == [(3, 1, 80, 160), (3, 4, 80, 160), (3, 4, 80, 160)]


@pytest.mark.parametrize("seed", range(2))
def test_near_things_decode_alike_in_tiles_and_whole(seed: int) -> None:
    """Without attention only seams differ: nothing far from them, little at them."""
    vae, latents = smooth_vae(seed, attention=False), latents_of(2, 16, 40, seed=seed)
    expected, found = whole(vae, latents), tiled(vae, latents, 24)
    error = (found - expected).abs()
    assert error.mean() < 0.01 * RANGE  # measured: 0.0015
    inside = 8 * STRIDE  # two tiles share the columns from 16 to 24
    assert error[..., :inside].max() < 1e-3
    assert error[..., -inside:].max() < 1e-3
    assert error.max() > 1e-3  # it is not exact, so this bound is worth its name
    ratio = steps(found) / steps(expected)
    assert ratio[seams(40, 24)].max() < 1.5  # measured: 1.07


@pytest.mark.parametrize("seed", range(2))
def test_seams_are_no_steeper_than_the_picture(seed: int) -> None:
    """With attention every tile has its own colours; blending must hide where they meet."""
    vae, latents = smooth_vae(seed), latents_of(3, 24, 40, seed=seed)
    expected, found = whole(vae, latents), tiled(vae, latents, 16)
    assert (found - expected).abs().mean() < 0.04 * RANGE  # measured: up to 0.057 of 2
    for turned in (False, True):
        theirs, ours = (
            frames.transpose(2, 3) if turned else frames for frames in (expected, found)
        )
        places = seams(ours.shape[3] // STRIDE, 16)
        assert places
        assert (steps(ours)[places] / steps(theirs).mean()).max() < 2.0  # measured: 1.4
        largest = ours.diff(dim=3).abs()[..., places].max()
        assert largest < 1.1 * theirs.diff(dim=3).abs().max()  # measured: 1.02


def test_without_blending_the_same_bound_would_not_hold() -> None:
    """Tiles pasted side by side: what `test_seams_are_no_steeper_than_the_picture` would catch."""
    vae, latents = smooth_vae(1), latents_of(1, 16, 32, seed=1)
    left, right = whole(vae, latents[..., :16]), whole(vae, latents[..., 16:])
    pasted = torch.cat([left, right], dim=3)
    assert steps(pasted)[16 * STRIDE - 1] / steps(whole(vae, latents)).mean() > 2.0


@st.composite
def tilings(draw: st.DrawFn) -> tuple[int, int, int]:
    """A length, a tile and an overlap shorter than it."""
    tile = draw(st.integers(1, 64))
    return draw(st.integers(1, 300)), tile, draw(st.integers(0, tile - 1))


@given(tilings())
def test_tiles_cover_everything_and_overlap_enough(tiling: tuple[int, int, int]) -> None:
    length, tile, overlap = tiling
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    assert all(start >= 0 for start in starts)
    assert starts[-1] + tile >= length
    assert starts[-1] + tile == length or len(starts) == 1  # no tile is smaller than another
    for first, second in pairwise(starts):
        assert first < second <= first + tile - overlap


@given(tilings())
@settings(max_examples=50)
def test_blending_weights_are_positive_everywhere(tiling: tuple[int, int, int]) -> None:
    length, tile, overlap = tiling
    total = torch.zeros(length)
    for start in tile_starts(length, tile, overlap):
        size = min(tile, length)
        ramp = blend_ramp(torch.Size((1, size)), overlap, CPU)[0]
        assert (ramp > 0).all()
        assert (ramp <= 1).all()
        assert torch.equal(ramp, ramp.flip(0))
        assert (ramp[: (size + 1) // 2].diff() >= 0).all()
        total[start : start + size] += ramp
    assert (total > 0).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 20))
@settings(max_examples=50)
def test_a_ramp_is_the_product_of_its_sides(height: int, width: int, overlap: int) -> None:
    ramp = blend_ramp(torch.Size((height, width)), overlap, CPU)
    assert ramp.shape == (height, width)
    rows = blend_ramp(torch.Size((height, 1)), overlap, CPU)
    columns = blend_ramp(torch.Size((1, width)), overlap, CPU)
    corner = blend_ramp(torch.Size((1, 1)), overlap, CPU)
    assert torch.allclose(ramp * corner, rows * columns, atol=1e-6)
