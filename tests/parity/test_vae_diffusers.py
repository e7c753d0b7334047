"""The VAE against diffusers' AutoencoderKLWan, through diffusers' own conversion of Wan's names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.build import Recipe
from engine.models.vae import Memory, WanVae
from engine.spec.architecture import VaeArchitecture
from engine.spec.header import read_header
from engine.spec.keys import same_names
from engine.stages import VAE_DECODER
from tests.engine.support import load_all, on_meta, random_vae, relative

pytestmark = pytest.mark.parity
diffusers = pytest.importorskip("diffusers")

DIM = 8
FRAMES = [1, 5, 9, 13]


@pytest.fixture(scope="module")
def wan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae") / "Wan2.1_VAE.pth"
    torch.save(random_vae(DIM, with_encoder=True).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def theirs(wan_file: Path) -> nn.Module:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    model = diffusers.AutoencoderKLWan(base_dim=DIM)
    state = torch.load(wan_file, weights_only=True)
    model.load_state_dict(convert_wan_vae_to_diffusers(state), strict=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def ours(wan_file: Path) -> WanVae:
    arch = VaeArchitecture.from_shapes(read_header(wan_file).shapes)
    model = on_meta(lambda: WanVae(arch, with_encoder=True))
    load_all(model, Recipe("VAE", same_names), [wan_file])
    assert isinstance(model, WanVae)
    return model


def statistics(theirs: nn.Module) -> tuple[Tensor, Tensor]:
    shape = (-1, 1, 1, 1)
    mean = torch.tensor(theirs.config.latents_mean).view(shape)
    return mean, torch.tensor(theirs.config.latents_std).view(shape)


def latents(count: int, seed: int = 0) -> Tensor:
    return torch.randn(16, count, 4, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", FRAMES)
def test_decode_matches(frames: int, ours: WanVae, theirs: nn.Module) -> None:
    values = latents((frames - 1) // 4 + 1)
    mean, std = statistics(theirs)
    expected = theirs.decode((values * std + mean)[None], return_dict=False)[0][0]
    decoded = torch.cat(list(ours.decode(values)), dim=1)
    assert decoded.shape == (3, frames, 32, 48)
    error = relative(decoded, expected.clamp(-1, 1))
    print(f"decode {frames} frames: {error:.2e}")
    assert error < 1e-4


@pytest.mark.parametrize("frames", FRAMES)
def test_encode_matches(frames: int, ours: WanVae, theirs: nn.Module) -> None:
    video = torch.rand(3, frames, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean, std = statistics(theirs)
    expected = (theirs.encode(video[None]).latent_dist.mode()[0] - mean) / std
    error = relative(ours.encode(video), expected)
    print(f"encode {frames} frames: {error:.2e}")
    assert error < 1e-4


def test_a_decoder_alone_ignores_the_encoder_of_the_file(wan_file: Path, ours: WanVae) -> None:
    alone = on_meta(lambda: WanVae(VaeArchitecture(DIM, 16), with_encoder=False))
    load_all(alone, VAE_DECODER, [wan_file])
    values = latents(2)
    for decoded, expected in zip(alone.decode(values), ours.decode(values), strict=True):
        assert torch.equal(decoded, expected)


def test_one_latent_at_a_time_equals_all_in_one_chunk(ours: WanVae, theirs: nn.Module) -> None:
    values = latents(4)
    mean, std = statistics(theirs)
    raw = (values * std + mean)[None]
    memory = Memory()
    chunks = [
        ours.decoder(ours.conv2(chunk, memory), memory)[0]
        for chunk in (raw[:, :, :1], raw[:, :, 1:])
    ]
    whole = torch.cat(chunks, dim=1).clamp(-1, 1)
    streamed = torch.cat(list(ours.decode(values)), dim=1)
    assert whole.shape == (3, 13, 32, 48)
    assert relative(streamed, whole) < 1e-5


def test_memory_is_flat_in_video_length(ours: WanVae) -> None:
    memory = Memory()
    elements = [elements_of(memory) for _ in decoding(ours, latents(8), memory)]
    assert elements[1] > 0
    assert elements[1:] == [elements[1]] * 7


def test_memory_keeps_frames_and_not_the_chunks_they_came_from(ours: WanVae) -> None:
    memory = Memory()
    list(decoding(ours, latents(3), memory))
    for frames in memory._frames.values():
        if frames.numel():
            assert frames.untyped_storage().nbytes() == frames.nbytes


def decoding(vae: WanVae, values: Tensor, memory: Memory) -> Iterator[Tensor]:
    for index in range(values.shape[1]):
        yield vae.decoder(vae.conv2(values[None, :, index : index + 1], memory), memory)


def elements_of(memory: Memory) -> int:
    return sum(frames.numel() for frames in memory._frames.values())
