"""Both VAEs decode latent by latent: 4k+1 frames, none of which knows what comes later."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from tests.engine.support import random_tiny_vae, random_vae

VAES = {"full": random_vae(4), "tiny": random_tiny_vae()}


@pytest.fixture(params=VAES)
def vae(request: pytest.FixtureRequest) -> WanVae | TinyVae:
    return VAES[request.param]


def latents(count: int, seed: int = 0) -> Tensor:
    return torch.randn(16, count, 4, 6, generator=torch.Generator().manual_seed(seed))


def decoded(vae: WanVae | TinyVae, values: Tensor) -> Tensor:
    return torch.cat(list(vae.decode(values)), dim=1)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_first_latent_is_one_frame_and_each_further_one_four(
    count: int, vae: WanVae | TinyVae
) -> None:
    chunks = list(vae.decode(latents(count)))
    assert [tuple(chunk.shape) for chunk in chunks] == [
        (3, 4 if index else 1, 32, 48) for index in range(count)
    ]


def test_frames_are_float32_between_black_and_white(vae: WanVae | TinyVae) -> None:
    frames = decoded(vae, latents(3))
    assert frames.dtype == torch.float32
    assert -1 <= frames.min() < frames.max() <= 1
    assert (frames.abs() < 1).float().mean() > 0.5  # else the next tests compare clamped values


def test_early_frames_do_not_depend_on_later_latents(vae: WanVae | TinyVae) -> None:
    values = latents(4)
    changed = torch.cat([values[:, :2], latents(3, seed=1)], dim=1)
    before, after = decoded(vae, values), decoded(vae, changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5 : before.shape[1]])


def test_later_frames_depend_on_earlier_latents(vae: WanVae | TinyVae) -> None:
    values = latents(3)
    changed = torch.cat([latents(1, seed=1), values[:, 1:]], dim=1)
    before, after = decoded(vae, values), decoded(vae, changed)
    assert not torch.equal(before[:, 1:5], after[:, 1:5])


def test_decoding_twice_gives_the_same_frames(vae: WanVae | TinyVae) -> None:
    values = latents(2)
    assert torch.equal(decoded(vae, values), decoded(vae, values))
