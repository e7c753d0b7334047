"""Quantized linears against products in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.ops.linear import (
    DequantLinear,
    Fp8Linear,
    Int8Linear,
    QuantizedLinear,
    choose_linear,
)
from engine.ops.quantize import per_channel
from engine.spec.precision import QuantCompute
from tests.engine.support import CPU, relative

OUT, IN = 48, 80
CODES = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
W8A8 = {torch.float8_e4m3fn: Fp8Linear, torch.int8: Int8Linear}


def layer(
    cls: type[QuantizedLinear], codes: torch.dtype, *, bias: bool = True
) -> tuple[QuantizedLinear, Tensor]:
    """A quantized layer with random weights, and the weight it was made of."""
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(1))
    made = cls(nn.Linear(IN, OUT, bias=bias), codes)
    stored, scale = per_channel(weight, codes)
    made.codes = nn.Parameter(stored, requires_grad=False)
    made.weight_scale = nn.Parameter(scale, requires_grad=False)
    return made, weight


def tokens(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, IN, generator=torch.Generator().manual_seed(2)) * scale


def dequantized(made: QuantizedLinear) -> Tensor:
    return made.codes.double() * made.weight_scale.double()


def w8a8_reference(made: QuantizedLinear, hidden: Tensor) -> Tensor:
    """The same arithmetic in float64, activations quantized here and not by the engine."""
    assert made.bias is not None
    largest = 448.0 if made.codes.dtype == torch.float8_e4m3fn else 127.0
    scale = hidden.abs().amax(-1, keepdim=True) / largest
    scaled = hidden / scale
    whole = made.codes.dtype == torch.int8
    codes = scaled.round() if whole else scaled.clamp(-448, 448).to(torch.float8_e4m3fn)
    product = codes.double() @ made.codes.double().t()
    return product * scale.double() * made.weight_scale.double().t() + made.bias.double()


@pytest.mark.parametrize("codes", CODES.values(), ids=list(CODES))
def test_w8a8_equals_the_product_of_codes(codes: torch.dtype) -> None:
    made, _ = layer(W8A8[codes], codes)
    hidden = tokens(40)
    assert relative(made(hidden), w8a8_reference(made, hidden)) < 1e-5


@pytest.mark.parametrize("codes", CODES.values(), ids=list(CODES))
def test_dequantized_equals_a_plain_linear(codes: torch.dtype) -> None:
    made, _ = layer(DequantLinear, codes)
    hidden = tokens(40)
    assert made.bias is not None
    expected = hidden.double() @ dequantized(made).t() + made.bias.double()
    assert relative(made(hidden), expected) < 1e-5


@pytest.mark.parametrize(("name", "bound"), [("fp8", 0.05), ("int8", 0.015)])
def test_quantizing_costs_little_accuracy(name: str, bound: float) -> None:
    codes = CODES[name]
    made, weight = layer(W8A8[codes], codes, bias=False)
    hidden = tokens(200)
    error = relative(made(hidden), hidden.double() @ weight.double().t())
    assert 0 < error < bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", [DequantLinear, Fp8Linear, Int8Linear])
def test_dtype_and_shape_of_the_input_are_kept(
    cls: type[QuantizedLinear], dtype: torch.dtype
) -> None:
    made, weight = layer(cls, torch.int8 if cls is Int8Linear else torch.float8_e4m3fn)
    made.bias = nn.Parameter(made.bias.to(dtype), requires_grad=False)
    hidden = tokens(2, 3).to(dtype)
    product = made(hidden)
    assert product.shape == (2, 3, OUT)
    assert product.dtype == dtype
    expected = hidden.double() @ weight.double().t() + made.bias.double()
    assert relative(product, expected) < 0.06


@pytest.mark.parametrize("codes", CODES.values(), ids=list(CODES))
def test_tokens_of_zeros_give_the_bias(codes: torch.dtype) -> None:
    made, _ = layer(W8A8[codes], codes)
    hidden = tokens(3)
    hidden[1] = 0
    assert torch.equal(made(hidden)[1], made.bias)


@pytest.mark.parametrize("cls", [DequantLinear, Fp8Linear, Int8Linear])
def test_huge_activations_stay_finite_and_right(cls: type[QuantizedLinear]) -> None:
    made, _ = layer(cls, torch.int8 if cls is Int8Linear else torch.float8_e4m3fn)
    hidden = tokens(8, scale=1e6)
    product = made(hidden)
    assert torch.isfinite(product).all()
    assert relative(product, hidden.double() @ dequantized(made).t()) < 0.05


@pytest.mark.parametrize("codes", CODES.values(), ids=list(CODES))
def test_a_token_does_not_depend_on_its_neighbours(codes: torch.dtype) -> None:
    made, _ = layer(W8A8[codes], codes)
    hidden = tokens(4)
    alone = made(hidden[:1])
    hidden[1:] *= 1e4
    torch.testing.assert_close(made(hidden)[:1], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("codes", CODES.values(), ids=list(CODES))
def test_the_cpu_computes_natively_unless_told_otherwise(codes: torch.dtype) -> None:
    for compute in (QuantCompute.AUTO, QuantCompute.NATIVE):
        assert choose_linear(codes, (OUT, IN), compute, CPU) is W8A8[codes]
    assert choose_linear(codes, (OUT, IN), QuantCompute.DEQUANT, CPU) is DequantLinear
