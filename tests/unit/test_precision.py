"""What a GPU can multiply follows from its compute capability."""

from __future__ import annotations

import pytest

from engine.spec.precision import Precision, fp8_support, int8_support


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (10, 0), (12, 0)])
def test_fp8_is_computed_from_8_9_on(capability: tuple[int, int]) -> None:
    support = fp8_support(capability)
    assert support.native
    assert f"{capability[0]}.{capability[1]}" in support.reason


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 7)])
def test_fp8_is_storage_only_below(capability: tuple[int, int]) -> None:
    support = fp8_support(capability)
    assert not support.native
    assert "storage only" in support.reason
    assert f"{capability[0]}.{capability[1]}" in support.reason


def test_the_a100_is_told_that_the_guide_errs() -> None:
    assert "A100" in fp8_support((8, 0)).reason
    assert "guide" in fp8_support((8, 0)).reason
    assert "A100" not in fp8_support((8, 6)).reason


@pytest.mark.parametrize(
    ("capability", "native"), [((6, 1), False), ((7, 0), False), ((7, 5), True), ((8, 0), True)]
)
def test_int8_is_computed_from_7_5_on(capability: tuple[int, int], native: bool) -> None:
    support = int8_support(capability)
    assert support.native is native
    assert ("storage only" in support.reason) is not native


def test_only_bf16_needs_no_scales() -> None:
    assert [precision.quantized for precision in Precision] == [False, True, True]
