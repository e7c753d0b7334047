"""FlowUniPC, the sampler of Wan's 40 and 50 step models.

UniPC (Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
Diffusion Models") of order 2 with B(h) = e^h - 1 on a flow-matching schedule: alpha = 1 - sigma,
and the network's flow gives clean latents = latents - sigma * flow. Each step first corrects the
step before it with what the network said at its end, then predicts the next. The first and the
last step are of order 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.schedule import TRAIN_STEPS

ORDER = 2  # how many clean latents are remembered


def _log_snr(sigma: float) -> float:
    return math.inf if sigma == 0 else math.log((1 - sigma) / sigma)


@dataclass
class FlowUniPC:
    """The sampler and what it remembers: the clean latents it saw, and where it stood.

    `sigmas` are those at the ends of the steps, one more than steps, falling to 0.
    """

    sigmas: tuple[float, ...]
    _clean: list[Tensor] = field(default_factory=list)
    _before: Tensor | None = None

    def __len__(self) -> int:
        return len(self.sigmas) - 1

    def timestep(self, index: int) -> float:
        """The timestep the DiT is given at step `index`: a whole number, as in training."""
        return float(int(self.sigmas[index] * TRAIN_STEPS))

    def clean(self, index: int, latents: Tensor, flow: Tensor) -> Tensor:
        """The clean latents [C, T, H, W] that the flow points to from those at step `index`."""
        return latents - self.sigmas[index] * flow

    def step(self, index: int, latents: Tensor, flow: Tensor, _: torch.Generator) -> Tensor:
        """Move float32 latents [C, T, H, W] past step `index` by the predicted flow."""
        clean = self.clean(index, latents, flow)
        if self._before is not None:
            latents = self._corrected(index, self._before, clean)
        self._clean = [*self._clean[-1:], clean]
        self._before = latents
        return self._predicted(index, latents)

    def state(self) -> dict[str, Tensor]:
        """What the sampler remembers of the steps so far: latents [C, T, H, W] by name."""
        kept = {f"clean{index}": clean for index, clean in enumerate(self._clean)}
        return kept if self._before is None else {**kept, "before": self._before}

    def restore(self, state: Mapping[str, Tensor], step: int) -> None:
        """Remember again what `state` gave after `step` steps.

        Raises:
            ValueError: it is not what the sampler remembers then.
        """
        names = [f"clean{index}" for index in range(min(step, ORDER))]
        if set(state) != {*names, *(("before",) if step else ())}:
            raise ValueError(f"after {step} steps the sampler does not remember {list(state)}")
        self._clean, self._before = [state[name] for name in names], state.get("before")

    def _predicted(self, index: int, latents: Tensor) -> Tensor:
        """Predict the latents at the end of step `index`."""
        moved, weight = self._first_order(index, latents, self._clean[-1])
        if index == 0 or index == len(self) - 1:
            return moved
        return moved - weight * 0.5 * self._slope(index)

    def _corrected(self, index: int, before: Tensor, clean: Tensor) -> Tensor:
        """Correct the latents at the end of step `index - 1`, now that `clean` is known there."""
        step = index - 1
        moved, weight = self._first_order(step, before, self._clean[-1])
        change = clean - self._clean[-1]
        if step == 0:
            return moved - weight * 0.5 * change
        ratio, width = self._ratio(step), -self._width(step)
        phi_1 = math.expm1(width) / width - 1
        phi_2 = phi_1 / width - 0.5
        scale = math.expm1(width)
        # Two conditions, [1 1; ratio 1] x = (phi_1, 2 phi_2) / B(h), for the two differences.
        first, second = phi_1 / scale, 2 * phi_2 / scale
        on_slope = (first - second) / (1 - ratio)
        return moved - weight * (on_slope * self._slope(step) + (first - on_slope) * change)

    def _first_order(self, step: int, latents: Tensor, clean: Tensor) -> tuple[Tensor, float]:
        """The first-order move past `step`, and the weight of higher differences on top of it."""
        start, end = self.sigmas[step], self.sigmas[step + 1]
        weight = (1 - end) * math.expm1(-self._width(step))
        return end / start * latents - weight * clean, weight

    def _slope(self, step: int) -> Tensor:
        """The change of the clean latents over the step before `step`, per unit of log SNR."""
        return (self._clean[-2] - self._clean[-1]) / self._ratio(step)

    def _width(self, step: int) -> float:
        return _log_snr(self.sigmas[step + 1]) - _log_snr(self.sigmas[step])

    def _ratio(self, step: int) -> float:
        """The step before `step` in units of `step`, negative: it lies behind."""
        return -self._width(step - 1) / self._width(step)
