"""Attention, as a layer without weights."""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.spec.errors import EngineError

#: Work of one piece on the CPU, in floating-point operations: a fraction of a second.
PIECE_FLOPS = 5e10


class Attend(nn.Module):
    """PyTorch's scaled dot-product attention, with the best kernel it has for the device."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: [B, H, L, D] queries, [B, H, S, D] keys and values -> [B, H, L, D]."""
        return F.scaled_dot_product_attention(query, key, value)


class CudaAttend(nn.Module):
    """The same on CUDA, where cuDNN is asked first, then FlashAttention."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: [B, H, L, D] queries, [B, H, S, D] keys and values -> [B, H, L, D]."""
        order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION,
                 SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # fmt: skip
        with sdpa_kernel(order, set_priority=True):
            return F.scaled_dot_product_attention(query, key, value)


class FlashAttend(nn.Module):
    """flash-attn, where it is installed."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: [B, H, L, D] queries, [B, H, S, D] keys and values -> [B, H, L, D]."""
        from flash_attn import flash_attn_func

        heads_last = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return flash_attn_func(*heads_last).transpose(1, 2)


class SageAttend(nn.Module):
    """SageAttention, where it is installed."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: [B, H, L, D] queries, [B, H, S, D] keys and values -> [B, H, L, D]."""
        from sageattention import sageattn

        return sageattn(query, key, value, tensor_layout="HND")


OPTIONAL = {"flash": ("flash_attn", FlashAttend), "sage": ("sageattention", SageAttend)}


def choose_attention(name: str, device: torch.device) -> type[nn.Module]:
    """Choose the attention of a DiT, once: `sdpa`, or `flash` or `sage` where installed.

    Raises:
        EngineError: it is not installed, or does not run on this device.
    """
    if name == "sdpa":
        return CudaAttend if device.type == "cuda" else Attend
    module, attend = OPTIONAL[name]
    missing = importlib.util.find_spec(module) is None
    if missing or device.type != "cuda":
        why = f"{module} is not installed" if missing else f"it does not run on {device.type}"
        raise EngineError(
            f"{name} attention cannot be used", why, "Use torch_sdpa for `self_attn_1_type`."
        )
    return attend


class Attention(nn.Module):
    """Attention that a run can be cancelled in the middle of.

    On a CPU the attention of a long video takes minutes in one call; queries are independent, so
    they are taken a piece at a time, at the same speed and with the same result.
    """

    def __init__(self, attend: type[nn.Module] = Attend) -> None:
        super().__init__()
        self.attend = attend()

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
