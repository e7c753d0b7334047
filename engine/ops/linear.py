"""Linear layers on quantized weights, and the choice between them, made once at build time.

`nn.Linear` stays what it is. A layer whose stored weight is FP8 or INT8 codes becomes one of
three classes: weights dequantized before the product (`DequantLinear`), or W8A8 with activations
quantized per token (`Fp8Linear`, `Int8Linear`). On CUDA W8A8 uses the tensor cores; on the CPU
the same codes are multiplied exactly, so that tests see the real arithmetic. Torch's own FP8
product for the CPU gives the same numbers and was measured several times slower.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.ops.quantize import per_token_fp8, per_token_int8
from engine.spec.precision import QuantCompute

CODES = {"F8_E4M3": torch.float8_e4m3fn, "I8": torch.int8}
INT_MM_MIN_ROWS = 32  # torch._int_mm on CUDA refuses 16 rows and fewer
FP8_MULTIPLE = 16  # torch._scaled_mm: K and N
INT8_MULTIPLE = 8


class QuantizedLinear(nn.Module):
    """Holds codes [out, in], `weight_scale` float32 [out, 1] and a bias in the compute dtype."""

    def __init__(self, linear: nn.Linear, codes: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = linear.out_features, linear.in_features
        shape = (linear.out_features, linear.in_features)
        self.codes = nn.Parameter(torch.empty(shape, dtype=codes, device="meta"), False)
        self.weight_scale = nn.Parameter(torch.empty(shape[0], 1, device="meta"), False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.data, False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., in] to [..., out] in the dtype of `hidden`."""
        product = self.product(hidden.reshape(-1, hidden.shape[-1]))  # [tokens, out]
        if self.bias is not None:
            # in place where that rounds no more: a bfloat16 product has less precision than
            # a bias in float32 or float16
            exact = torch.promote_types(product.dtype, self.bias.dtype) == product.dtype
            product = product.add_(self.bias) if exact else product + self.bias
        return product.to(hidden.dtype).unflatten(0, hidden.shape[:-1])

    def product(self, tokens: Tensor) -> Tensor:
        """Multiply [tokens, in] by the weights: [tokens, out] in any dtype, without the bias."""
        raise NotImplementedError


class DequantLinear(QuantizedLinear):
    """Weights dequantized to the compute dtype before the product."""

    def product(self, tokens: Tensor) -> Tensor:
        """Multiply in the dtype of `tokens`."""
        weight = (self.codes.to(torch.float32) * self.weight_scale).to(tokens.dtype)
        return F.linear(tokens, weight)


class Fp8Linear(QuantizedLinear):
    """W8A8 in float8_e4m3fn."""

    def product(self, tokens: Tensor) -> Tensor:
        """Multiply codes, then apply both scales."""
        codes, scale = per_token_fp8(tokens)
        if tokens.is_cuda:
            return torch._scaled_mm(
                codes, self.codes.t(), scale, self.weight_scale.t().contiguous(),
                out_dtype=torch.bfloat16, use_fast_accum=True,
            )  # fmt: skip
        exact = codes.to(torch.float32) @ self.codes.to(torch.float32).t()
        return exact.mul_(scale).mul_(self.weight_scale.t())


class Fp8AdaLinear(QuantizedLinear):
    """W8A8 in float8_e4m3fn for compute capability 8.9 below torch 2.12.

    The kernel that applies one scale per row ignores the current stream there and can hang; the
    one with a single scale does not, so both scales are applied behind it.
    """

    def product(self, tokens: Tensor) -> Tensor:
        """Multiply codes, then apply both scales."""
        codes, scale = per_token_fp8(tokens)
        one = scale.new_ones(())
        exact = torch._scaled_mm(codes, self.codes.t(), one, one, out_dtype=torch.float32)
        return exact.mul_(scale).mul_(self.weight_scale.t())


class Int8Linear(QuantizedLinear):
    """W8A8 in int8, summed in int32."""

    def product(self, tokens: Tensor) -> Tensor:
        """Multiply codes, then apply both scales."""
        codes, scale = per_token_int8(tokens)
        missing = INT_MM_MIN_ROWS - codes.shape[0]
        if tokens.is_cuda and missing > 0:
            codes = F.pad(codes, (0, 0, 0, missing))
        exact = torch._int_mm(codes, self.codes.t())[: tokens.shape[0]]
        return (exact * scale).mul_(self.weight_scale.t())


def choose_linear(codes: torch.dtype, shape: tuple[int, int], compute: QuantCompute,
                  device: torch.device) -> type[QuantizedLinear]:  # fmt: skip
    """Choose the class for one layer from its codes, its [out, in] shape and the device."""
    if compute is QuantCompute.DEQUANT:
        return DequantLinear
    fp8 = codes == torch.float8_e4m3fn
    if device.type == "cuda":
        multiple = FP8_MULTIPLE if fp8 else INT8_MULTIPLE
        capability = torch.cuda.get_device_capability(device)
        if any(size % multiple for size in shape) or capability < ((8, 9) if fp8 else (7, 5)):
            return DequantLinear
        if fp8 and capability == (8, 9) and torch.__version__ < "2.12":
            return Fp8AdaLinear
    return Fp8Linear if fp8 else Int8Linear
