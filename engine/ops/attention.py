"""Attention, in one function."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend without a mask: [B, L, H, D] queries, [B, S, H, D] keys and values -> [B, L, H*D]."""
    heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return F.scaled_dot_product_attention(*heads_first).transpose(1, 2).flatten(2)
