"""Our FlowUniPC against diffusers' UniPCMultistepScheduler with flow prediction."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schedule import EulerSampler, even_sigmas
from engine.unipc import FlowUniPC
from tests.engine.support import relative

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("steps", "shift"), [(1, 5.0), (2, 1.0), (3, 8.0), (8, 5.0), (50, 3.0)])
def test_every_step(steps: int, shift: float) -> None:
    sigmas = even_sigmas(steps, shift)
    theirs = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    theirs.set_timesteps(steps)
    theirs.sigmas = torch.tensor(sigmas, dtype=torch.float32)
    ours = FlowUniPC(sigmas)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 3, 8, 8, generator=generator)
    other = latents.clone()
    for index, timestep in enumerate(theirs.timesteps):
        latents = ours.step(index, latents, torch.tanh(0.7 * latents + 0.1 * index), generator)
        flow = torch.tanh(0.7 * other + 0.1 * index)
        other = theirs.step(flow, timestep, other, return_dict=False)[0]
        assert relative(latents, other) < 1e-5


@settings(deadline=None, max_examples=50)
@given(steps=st.integers(1, 100), shift=st.floats(0.1, 20))
def test_sigmas_fall_and_end_at_zero(steps: int, shift: float) -> None:
    sigmas = even_sigmas(steps, shift)
    assert len(sigmas) == steps + 1
    assert all(later < earlier for earlier, later in pairwise(sigmas))
    assert sigmas[-1] == 0
    assert sigmas[0] < 1


def test_both_samplers_end_on_the_clean_latents_of_an_exact_flow() -> None:
    clean, noise = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    generator = torch.Generator()
    for sampler in (FlowUniPC(even_sigmas(6, 5.0)), EulerSampler(even_sigmas(6, 5.0))):
        latents = (1 - sampler.sigmas[0]) * clean + sampler.sigmas[0] * noise
        for index in range(len(sampler)):
            latents = sampler.step(index, latents, noise - clean, generator)
        assert relative(latents, clean) < 1e-4
