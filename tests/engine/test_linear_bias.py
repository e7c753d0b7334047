"""A product of less precision than the compute dtype is not what the sum is rounded to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.ops.linear import QuantizedLinear


class Fused(QuantizedLinear):
    """As the fused FP8 product of CUDA: it gives bfloat16 whatever it is given."""

    def product(self, tokens: Tensor) -> Tensor:
        return torch.ones(tokens.shape[0], self.out_features, dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_bias_is_added_in_the_wider_dtype(dtype: torch.dtype) -> None:
    linear = nn.Linear(8, 16).to(dtype)
    with torch.no_grad():
        linear.bias.fill_(1 / 512)
    result = Fused(linear, torch.float8_e4m3fn)(torch.zeros(2, 3, 8, dtype=dtype))
    assert result.dtype == dtype
    expected = 1.0 if dtype is torch.bfloat16 else 1 + 1 / 512
    assert torch.equal(result, torch.full((2, 3, 16), expected, dtype=dtype))
