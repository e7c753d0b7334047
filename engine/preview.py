"""Previews: small pictures of the clean latents that a step predicts, while a run denoises."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.exhausted import exhausted
from engine.models.tiny_vae import TinyVae
from engine.models.vae import denormalized
from engine.spec.events import Preview
from engine.spec.picture import Picture

MAX_WIDTH, MAX_HEIGHT = 96, 54
INTERVAL = 1.0  # seconds between two previews: a link over SSH carries little
SHARE = 0.1  # of a run's time that previews may take, where decoding is slow
#: The linear fit of Wan 2.1's latents (as the DiT makes them) to RGB, -1..1, that ComfyUI publishes
#: (comfy/latent_formats.py, Wan21): a row of red, green and blue for each channel, and what is
#: added to their sum.
RGB_OF_LATENTS = (
    (-0.1299, -0.1692, 0.2932), (0.0671, 0.0406, 0.0442),
    (0.3568, 0.2548, 0.1747), (0.0372, 0.2344, 0.1420),
    (0.0313, 0.0189, -0.0328), (0.0296, -0.0956, -0.0665),
    (-0.3477, -0.4059, -0.2925), (0.0166, 0.1902, 0.1975),
    (-0.0412, 0.0267, -0.1364), (-0.1293, 0.0740, 0.1636),
    (0.0680, 0.3019, 0.1128), (0.0032, 0.0581, 0.0639),
    (-0.1251, 0.0927, 0.1699), (0.0060, -0.0633, 0.0005),
    (0.3477, 0.2275, 0.2950), (0.1984, 0.0913, 0.1861),
)  # fmt: skip
RGB_BIAS = (-0.1835, -0.0868, -0.3360)

#: Pictures of clean latents, float32 [C, T, H/8, W/8].
Draw = Callable[[Tensor], tuple[Picture, ...]]


class Previewer:
    """Makes the previews of one run: of its first and last step, and one a second in between."""

    def __init__(self, draw: Draw, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._draw, self._steps, self._clock = draw, steps, clock
        self._due = 0.0  # when the next one may be made

    def take(self, step: int, clean: Tensor) -> Preview | None:
        """Draw the clean latents that step `step` (from 1) predicts; None where it is too early."""
        began = self._clock()
        if 1 < step < self._steps and began < self._due:
            return None
        try:
            frames = self._draw(clean)
        except (MemoryError, RuntimeError) as error:  # a run does not end for its previews
            if exhausted(error) is None:
                raise
            self._draw = draw_latents
            frames = self._draw(clean)
        ended = self._clock()
        self._due = max(began + INTERVAL, ended + (ended - began) * (1 - SHARE) / SHARE)
        return Preview(step, frames) if frames else None


def draw_latents(clean: Tensor) -> tuple[Picture, ...]:
    """Draw every latent frame by the linear fit; nothing where the latents are not Wan 2.1's."""
    if clean.shape[0] != len(RGB_OF_LATENTS):
        return ()
    factors = torch.tensor(RGB_OF_LATENTS, device=clean.device)
    bias = torch.tensor(RGB_BIAS, device=clean.device)
    rgb = torch.einsum("cthw,cd->tdhw", clean.float(), factors) + bias[:, None, None]
    return to_pictures(rgb)


def tiny_vae_drawing(vae: TinyVae, *, wants_denormalized: bool) -> Draw:
    """Draw the frame in the middle with a tiny VAE, which sees the latent before it as well."""

    def draw(clean: Tensor) -> tuple[Picture, ...]:
        middle = clean.shape[1] // 2
        near = clean[:, max(0, middle - 1) : middle + 1]
        *_, frames = vae.decode(denormalized(near) if wants_denormalized else near)
        return to_pictures(frames[:, -1:].transpose(0, 1))

    return draw


def to_pictures(frames: Tensor) -> tuple[Picture, ...]:
    """Scale frames [T, 3, H, W], -1..1, down to the size of a preview."""
    height, width = frames.shape[2:]
    scale = min(1.0, MAX_WIDTH / width, MAX_HEIGHT / height)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size != (height, width):
        frames = F.interpolate(frames, size, mode="area")
    pixels = frames.add(1).mul(127.5).round().clamp(0, 255).byte()
    rows = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # [T, H, W, 3]
    return tuple(Picture(size[1], size[0], frame.tobytes()) for frame in rows)
