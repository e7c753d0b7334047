"""Quantized arithmetic as pure functions.

Weights: codes [out, in] with one scale per output channel, written by LightX2V's converter
(FP8: amax / 448, INT8: amax / 127). Activations: one scale per token, at run time. A product is
then `scale_x[token] * scale_w[channel] * (codes_x @ codes_w.T)`.
"""

from __future__ import annotations

import torch
from torch import Tensor

FP8_MAX = 448.0  # the largest finite float8_e4m3fn
INT8_MAX = 127.0
SMALLEST_SCALE = 1e-12  # a token of zeros has codes of zero, whatever its scale


def per_token_fp8(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize [tokens, in] to float8_e4m3fn codes and float32 scales [tokens, 1].

    Clamped before the cast: below torch 2.12 values above 464 become NaN instead of 448.
    """
    scaled, scale = _scale_rows(activations, FP8_MAX)
    return scaled.clamp_(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def per_token_int8(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize [tokens, in] to int8 codes and float32 scales [tokens, 1]."""
    scaled, scale = _scale_rows(activations, INT8_MAX)
    return scaled.round_().clamp_(-INT8_MAX - 1, INT8_MAX).to(torch.int8), scale


def per_channel(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Quantize a weight [out, in] as LightX2V's converter does: codes and scales [out, 1]."""
    quantize = per_token_fp8 if dtype == torch.float8_e4m3fn else per_token_int8
    return quantize(weight)


def _scale_rows(values: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """One new float32 tensor as large as `values`, and no other: there are gigabytes of them."""
    lowest, highest = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    scale = torch.maximum(highest, lowest.neg()).float().div_(largest).clamp_min_(SMALLEST_SCALE)
    return values.to(torch.float32, copy=True).div_(scale), scale
