"""Which precisions there are, how weights are stored in them, and who can compute them.

Sources: NVIDIA's compute-capability tables (FP8 tensor cores from 8.9, INT8 from 7.5) and the
dtypes LightX2V's converter writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Precision(str, Enum):
    """How a component's linear weights are stored."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"

    @property
    def quantized(self) -> bool:
        """True where the stored values are codes that need a `weight_scale`."""
        return self is not Precision.BF16


class ComputeDtype(str, Enum):
    """The floating-point type of activations and of everything that is not quantized."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class QuantCompute(str, Enum):
    """How quantized linears multiply: W8A8, or weights dequantized first."""

    AUTO = "auto"
    NATIVE = "native"
    DEQUANT = "dequant"


#: The compute capabilities that multiply natively, from these on.
INT8_FROM, BF16_FROM, FP8_FROM = (7, 5), (8, 0), (8, 9)
#: safetensors dtype names of quantized codes, and what they make of the tensor they store.
CODE_DTYPES = {"F8_E4M3": Precision.FP8, "I8": Precision.INT8}


@dataclass(frozen=True)
class Support:
    """What a device can do with one precision, and why."""

    native: bool
    reason: str


def bf16_support(capability: tuple[int, int]) -> Support:
    """Say whether a CUDA device of this compute capability multiplies bfloat16."""
    label = f"compute capability {capability[0]}.{capability[1]}"
    if capability >= BF16_FROM:
        return Support(True, f"BF16 compute: {label} has BF16 tensor cores")
    return Support(False, f"BF16 storage only: {label} is below 8.0, weights are computed in fp16")


def fp8_support(capability: tuple[int, int]) -> Support:
    """Say whether a CUDA device of this compute capability multiplies FP8."""
    label = f"compute capability {capability[0]}.{capability[1]}"
    if capability >= FP8_FROM:
        return Support(True, f"FP8 compute: {label} has FP8 tensor cores")
    a100 = " (an A100 is 8.0; the guide lists it among FP8 cards, wrongly)"
    why = f"{label} is below 8.9{a100 if capability == (8, 0) else ''}"
    dtype = "bf16" if capability >= BF16_FROM else "fp16"
    return Support(False, f"FP8 storage only: {why}, weights are computed in {dtype}")


def int8_support(capability: tuple[int, int]) -> Support:
    """Say whether a CUDA device of this compute capability multiplies INT8."""
    label = f"compute capability {capability[0]}.{capability[1]}"
    if capability >= INT8_FROM:
        return Support(True, f"INT8 compute: {label} multiplies INT8, as all from 7.5 on")
    return Support(False, f"INT8 storage only: {label} is below 7.5, weights are computed in fp16")
