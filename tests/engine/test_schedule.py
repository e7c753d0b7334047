"""The distilled schedule: its sigmas, its steps and its noise."""

from __future__ import annotations

import pytest
import torch

from engine.schedule import StepDistillSampler, draw_noise, make_sampler, shifted_sigmas
from engine.spec.job import Euler, Schedule, StepDistill, UniPC

DISTILLED = StepDistillSampler.from_spec(StepDistill((1000, 750, 500, 250), 5.0))


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 5.0, 8.0, 100.0])
def test_sigmas_fall_from_one(shift: float) -> None:
    sigmas = shifted_sigmas(shift)
    assert sigmas.shape == (1000,)
    assert sigmas[0] == 1
    assert sigmas[-1] > 0
    assert (sigmas.diff() < 0).all()


def test_a_shift_of_one_changes_nothing() -> None:
    expected = torch.arange(1000, 0, -1, dtype=torch.float64) / 1000
    torch.testing.assert_close(shifted_sigmas(1.0), expected, rtol=0, atol=1e-12)


def test_published_steps_and_shift() -> None:
    assert DISTILLED.sigmas == pytest.approx((1.0, 0.9375, 5 / 6, 0.625), abs=1e-9)
    timesteps = [DISTILLED.timestep(index) for index in range(len(DISTILLED))]
    assert timesteps == pytest.approx([1000.0, 937.5, 5000 / 6, 625.0], abs=1e-6)


def test_steps_add_the_noise_of_the_next_sigma() -> None:
    latents, flow = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    moved = DISTILLED.step(1, latents, flow, torch.Generator().manual_seed(7))
    noise = draw_noise((2, 3, 4, 4), torch.Generator().manual_seed(7))
    clean = latents - 0.9375 * flow
    torch.testing.assert_close(moved, clean / 6 + noise * 5 / 6, rtol=1e-5, atol=1e-6)


def test_the_last_step_returns_the_clean_latents_and_draws_nothing() -> None:
    latents, flow = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    generator = torch.Generator().manual_seed(7)
    before = generator.get_state()
    moved = DISTILLED.step(3, latents, flow, generator)
    assert torch.equal(moved, latents - 0.625 * flow)
    assert torch.equal(generator.get_state(), before)


def test_a_perfect_flow_leads_to_the_clean_latents() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(2, 1, 4, 4)
    latents = draw_noise((2, 1, 4, 4), generator)
    for index, sigma in enumerate(DISTILLED.sigmas):
        latents = DISTILLED.step(index, latents, (latents - clean) / sigma, generator)
    torch.testing.assert_close(latents, clean, rtol=1e-5, atol=1e-5)


def test_a_seed_is_a_noise() -> None:
    def noise(seed: int) -> torch.Tensor:
        return draw_noise((16, 3, 8, 12), torch.Generator("cpu").manual_seed(seed))

    assert noise(42).dtype == torch.float32
    assert torch.equal(noise(42), noise(42))
    assert torch.equal(noise(42), torch.randn(16, 3, 8, 12, generator=torch.manual_seed(42)))
    assert not torch.equal(noise(42), noise(43))


@pytest.mark.parametrize("schedule", [StepDistill(), Euler(4), UniPC(4)], ids=type)
def test_a_sampler_remembers_only_what_it_would(schedule: Schedule) -> None:
    """What another sampler, or the same one after another step, remembers is refused."""
    generator, latents = torch.Generator().manual_seed(0), torch.ones(1, 1, 2, 2)
    walked = make_sampler(schedule)
    for step in range(4):
        latents = walked.step(step, latents, latents / 2, generator)
        again = make_sampler(schedule)
        again.restore(walked.state(), step + 1)
        assert again.state().keys() == walked.state().keys()
        with pytest.raises(ValueError, match="remember"):
            make_sampler(schedule).restore({**walked.state(), "other": latents}, step + 1)
        if isinstance(schedule, UniPC):
            with pytest.raises(ValueError, match="remember"):
                make_sampler(schedule).restore({}, step + 1)
