"""Noise schedules: which timesteps are visited, and how the latents move between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.spec.job import StepDistill

TRAIN_STEPS = 1000


def shifted_sigmas(shift: float) -> Tensor:
    """Sigmas of the 1000 training timesteps, falling from 1: float64 [1000]."""
    sigmas = torch.linspace(1.0, 0.0, TRAIN_STEPS + 1, dtype=torch.float64)[:-1]
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal noise on the CPU in float32, so that a seed is one video everywhere."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


@dataclass(frozen=True)
class StepDistillSchedule:
    """LightX2V's 4-step sampler: predict the clean latents, then add fresh noise."""

    sigmas: tuple[float, ...]

    @classmethod
    def from_spec(cls, spec: StepDistill) -> StepDistillSchedule:
        """Pick the sigmas of the listed timesteps."""
        table = shifted_sigmas(spec.shift)
        return cls(tuple(float(table[TRAIN_STEPS - step]) for step in spec.timesteps))

    def __len__(self) -> int:
        return len(self.sigmas)

    def timestep(self, index: int) -> float:
        """The timestep the DiT is given at step `index`, 0..1000."""
        return self.sigmas[index] * TRAIN_STEPS

    def step(self, index: int, latents: Tensor, flow: Tensor, generator: torch.Generator) -> Tensor:
        """Move float32 latents [C, T, H, W] past step `index` by the predicted flow."""
        clean = latents - self.sigmas[index] * flow
        if index + 1 == len(self):
            return clean
        sigma = self.sigmas[index + 1]
        noise = draw_noise(tuple(clean.shape), generator).to(clean.device)
        return (1 - sigma) * clean + sigma * noise
