"""Attention, as a layer without weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Work of one piece on the CPU, in floating-point operations: a fraction of a second.
PIECE_FLOPS = 5e10


class Attend(nn.Module):
    """Scaled dot-product attention of all heads, without a mask."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: [B, H, L, D] queries, [B, H, S, D] keys and values -> [B, H, L, D]."""
        return F.scaled_dot_product_attention(query, key, value)


class Attention(nn.Module):
    """Attention that a run can be cancelled in the middle of.

    On a CPU the attention of a long video takes minutes in one call; queries are independent, so
    they are taken a piece at a time, at the same speed and with the same result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attend = Attend()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: [B, L, H, D] queries, [B, S, H, D] keys and values -> [B, L, H*D]."""
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        if query.is_cuda:
            attended = self.attend(query, key, value)
        else:
            flops_per_query = 4 * key.numel()
            rows = max(64, int(PIECE_FLOPS / flops_per_query))
            pieces = [self.attend(piece, key, value) for piece in query.split(rows, dim=2)]
            attended = torch.cat(pieces, dim=2)
        return attended.transpose(1, 2).flatten(2)
