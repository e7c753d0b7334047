"""Noise schedules: which timesteps are visited, and how the latents move between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.spec.job import Euler, Schedule, StepDistill

TRAIN_STEPS = 1000
LARGEST_SIGMA = 1 - 1 / TRAIN_STEPS


class Sampler(Protocol):
    """How latents move from noise to a video, step by step."""

    def __len__(self) -> int:
        """The number of steps."""

    def timestep(self, index: int) -> float:
        """The timestep the DiT is given at step `index`, 0..1000."""

    def clean(self, index: int, latents: Tensor, flow: Tensor) -> Tensor:
        """The clean latents [C, T, H, W] that the flow points to from those at step `index`."""

    def step(self, index: int, latents: Tensor, flow: Tensor, generator: torch.Generator) -> Tensor:
        """Move float32 latents [C, T, H, W] past step `index` by the predicted flow."""

    def state(self) -> dict[str, Tensor]:
        """What the sampler remembers of the steps so far: latents [C, T, H, W] by name."""

    def restore(self, state: Mapping[str, Tensor], step: int) -> None:
        """Remember again what `state` gave after `step` steps.

        Raises:
            ValueError: it is not what the sampler remembers then.
        """


def make_sampler(schedule: Schedule) -> Sampler:
    """Make the sampler of a schedule; it serves one run."""
    if isinstance(schedule, StepDistill):
        return StepDistillSampler.from_spec(schedule)
    if isinstance(schedule, Euler):
        return EulerSampler(even_sigmas(schedule.steps, schedule.shift))
    from engine.unipc import FlowUniPC

    return FlowUniPC(even_sigmas(schedule.steps, schedule.shift))


def even_sigmas(steps: int, shift: float) -> tuple[float, ...]:
    """Evenly spaced, then shifted sigmas at the ends of the steps: `steps + 1`, falling to 0."""
    even = torch.linspace(LARGEST_SIGMA, 0.0, steps + 1, dtype=torch.float64)
    return tuple((shift * even / (1 + (shift - 1) * even)).tolist())


def shifted_sigmas(shift: float) -> Tensor:
    """Sigmas of the 1000 training timesteps, falling from 1: float64 [1000]."""
    sigmas = torch.linspace(1.0, 0.0, TRAIN_STEPS + 1, dtype=torch.float64)[:-1]
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal noise on the CPU in float32, so that a seed is one video everywhere."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


class Forgetful:
    """A sampler that remembers nothing from step to step."""

    def state(self) -> dict[str, Tensor]:
        """What the sampler remembers: nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor], _step: int) -> None:
        """Remember nothing again.

        Raises:
            ValueError: there is something to remember.
        """
        if state:
            raise ValueError(f"this sampler remembers nothing, not {', '.join(state)}")


@dataclass(frozen=True)
class StepDistillSampler(Forgetful):
    """LightX2V's 4-step sampler: predict the clean latents, then add fresh noise."""

    sigmas: tuple[float, ...]

    @classmethod
    def from_spec(cls, spec: StepDistill) -> StepDistillSampler:
        """Pick the sigmas of the listed timesteps."""
        table = shifted_sigmas(spec.shift)
        return cls(tuple(float(table[TRAIN_STEPS - step]) for step in spec.timesteps))

    def __len__(self) -> int:
        return len(self.sigmas)

    def timestep(self, index: int) -> float:
        """The timestep the DiT is given at step `index`, 0..1000."""
        return self.sigmas[index] * TRAIN_STEPS

    def clean(self, index: int, latents: Tensor, flow: Tensor) -> Tensor:
        """The clean latents [C, T, H, W] that the flow points to from those at step `index`."""
        return latents - self.sigmas[index] * flow

    def step(self, index: int, latents: Tensor, flow: Tensor, generator: torch.Generator) -> Tensor:
        """Move float32 latents [C, T, H, W] past step `index` by the predicted flow."""
        clean = self.clean(index, latents, flow)
        if index + 1 == len(self):
            return clean
        sigma = self.sigmas[index + 1]
        noise = draw_noise(tuple(clean.shape), generator).to(clean.device)
        return (1 - sigma) * clean + sigma * noise


@dataclass(frozen=True)
class EulerSampler(Forgetful):
    """First-order steps along the flow."""

    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.sigmas) - 1

    def timestep(self, index: int) -> float:
        """The timestep the DiT is given at step `index`, 0..1000."""
        return self.sigmas[index] * TRAIN_STEPS

    def clean(self, index: int, latents: Tensor, flow: Tensor) -> Tensor:
        """The clean latents [C, T, H, W] that the flow points to from those at step `index`."""
        return latents - self.sigmas[index] * flow

    def step(self, index: int, latents: Tensor, flow: Tensor, _: torch.Generator) -> Tensor:
        """Move float32 latents [C, T, H, W] past step `index` by the predicted flow."""
        return latents + (self.sigmas[index + 1] - self.sigmas[index]) * flow
