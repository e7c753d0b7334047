"""Attention against softmax in float64, whole and in pieces that a run can stop between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.build import make_cancellable
from engine.ops import attention
from engine.ops.attention import Attention
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import Cancelled
from tests.engine.support import relative

HEADS, HEAD_DIM = 3, 8


def operands(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (queries, keys, keys)
    query, key, value = (
        torch.randn(2, size, HEADS, HEAD_DIM, generator=generator) for size in sizes
    )
    return query, key, value


def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum("blhd,bshd->bhls", query.double(), key.double()) * HEAD_DIM**-0.5
    attended = torch.einsum("bhls,bshd->blhd", scores.softmax(-1), value.double())
    return attended.flatten(2)


@pytest.mark.parametrize("flops", [1.0, 5e10])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (64, 64), (200, 7), (129, 300)])
def test_pieces_attend_like_the_whole(
    queries: int, keys: int, flops: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "PIECE_FLOPS", flops)
    operand = operands(queries, keys)
    attended = Attention()(*operand)
    assert attended.shape == (2, queries, HEADS * HEAD_DIM)
    assert relative(attended, reference(*operand)) < 1e-5


def test_a_stop_event_ends_attention_between_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PIECE_FLOPS", 1.0)
    stop, model = StopEvent(), Attention()
    pieces: list[int] = []
    make_cancellable(model, stop.is_set)

    def after(_module: object, _inputs: object, piece: Tensor) -> None:
        pieces.append(piece.shape[2])
        stop.set()

    model.attend.register_forward_hook(after)
    with pytest.raises(Cancelled):
        model(*operands(200, 7))
    assert pieces == [64]
