"""Codes and scales: bounds of the rounding error, zeros, huge values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from engine.ops.quantize import per_channel, per_token_fp8, per_token_int8

Quantizer = Callable[[Tensor], tuple[Tensor, Tensor]]

LARGEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}
QUANTIZERS = {"fp8": per_token_fp8, "int8": per_token_int8}
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
ROWS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=FLOATS)


def half_step(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The furthest a value may lie from its code, float64."""
    if dtype == torch.int8:
        return scale.double().expand_as(values) / 2
    normal = values.double().abs() * 2**-4  # 3 bits of mantissa
    return torch.maximum(normal, scale.double() * 2**-10)  # half the smallest subnormal


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=list(QUANTIZERS))
@given(rows=ROWS)
@settings(max_examples=150, deadline=None)
def test_error_is_at_most_half_a_step(quantize: Quantizer, rows: np.ndarray) -> None:
    values = torch.from_numpy(rows)
    codes, scale = quantize(values)
    assert scale.shape == (len(rows), 1)
    assert codes.shape == values.shape
    restored = codes.double() * scale.double()
    bound = half_step(values, scale, codes.dtype)
    assert ((restored - values.double()).abs() <= bound * (1 + 1e-5)).all()


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=list(QUANTIZERS))
def test_each_row_uses_the_whole_range(quantize: Quantizer) -> None:
    values = torch.randn(16, 64) * torch.logspace(-6, 6, 16)[:, None]
    codes, scale = quantize(values)
    largest = LARGEST[codes.dtype]
    assert (codes.float().abs().amax(1) == largest).all()
    expected = values.double().abs().amax(1, keepdim=True) / largest
    torch.testing.assert_close(scale.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=list(QUANTIZERS))
def test_rows_of_zeros_have_codes_of_zero(quantize: Quantizer) -> None:
    codes, scale = quantize(torch.zeros(3, 8))
    assert (codes.float() == 0).all()
    assert (scale > 0).all()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=list(QUANTIZERS))
def test_huge_values_never_become_nan(quantize: Quantizer, dtype: torch.dtype) -> None:
    top = torch.finfo(dtype).max
    values = torch.randn(8, 32).mul(1e6).clamp(-top, top).to(dtype)
    values[0, 0], values[1, 0] = top, -top
    codes, scale = quantize(values)
    assert torch.isfinite(codes.float()).all()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("dtype", LARGEST)
def test_weights_get_one_scale_per_output_channel(dtype: torch.dtype) -> None:
    weight = torch.randn(24, 40) * torch.logspace(-3, 3, 24)[:, None]
    codes, scale = per_channel(weight, dtype)
    assert codes.dtype == dtype
    assert scale.shape == (24, 1)
    assert scale.dtype == torch.float32
    bound = half_step(weight, scale, dtype)
    assert ((codes.double() * scale.double() - weight.double()).abs() <= bound * 1.00001).all()
