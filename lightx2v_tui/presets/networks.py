"""How the keys of DiT, T5 and CLIP say precision and file, and how both are written.

LightX2V has a flag, a scheme and two paths for each network; the guide has `mm_config.mm_type`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.spec.precision import Precision

NETWORKS = ("dit", "t5", "clip")
DIT_SCHEMES = (("dit_quant_scheme",), ("mm_config", "mm_type"))
#: The last word of the guide's `mm_type`, by LightX2V's name of the same operator.
OPERATORS = {"vllm": "Vllm", "sgl": "Sgl", "q8f": "Q8F", "torchao": "Torchao"}


class WrongValue(ValueError):  # noqa: N818 - a value, said where it stands by who reads it
    """The key at `path` holds something else than what is expected."""

    def __init__(self, path: tuple[str, ...], expected: str, got: object) -> None:
        super().__init__(path, expected, got)
        self.path = path
        self.expected = expected
        self.got = got


@dataclass(frozen=True)
class Network:
    """The precision and the file or folder of a network; None where nothing is said."""

    precision: Precision | None = None
    path: Path | None = None


def read_network(kind: str, said: Mapping[str, object]) -> Network:
    """Say what the keys of one network mean together.

    Raises:
        WrongValue: a scheme is none that this engine computes.
    """
    precision = _dit_precision(said) if kind == "dit" else _encoder_precision(kind, said)
    original, quantized = said.get(f"{kind}_original_ckpt"), said.get(f"{kind}_quantized_ckpt")
    if precision is Precision.BF16:
        path = original
    else:
        path = quantized or (original if precision is None else None)
    return Network(precision, Path(str(path)) if path is not None else None)


def _dit_precision(said: Mapping[str, object]) -> Precision | None:
    """`dit_quantized` decides; else the scheme, else the guide's `mm_type`, else the paths."""
    if said.get("dit_quantized") is False:
        return Precision.BF16
    for path in DIT_SCHEMES:
        scheme = said.get(path[-1])
        if scheme is not None:
            found = precision_of(str(scheme))
            if found is None:
                raise WrongValue(path, "an fp8 or int8 scheme, or Default", scheme)
            return found
    original_only = "dit_original_ckpt" in said and "dit_quantized_ckpt" not in said
    return Precision.BF16 if original_only else None


def _encoder_precision(kind: str, said: Mapping[str, object]) -> Precision | None:
    quantized = said.get(f"{kind}_quantized")
    if quantized is None:
        return Precision.BF16 if f"{kind}_original_ckpt" in said else None
    if not quantized:
        return Precision.BF16
    scheme = said.get(f"{kind}_quant_scheme")
    found = precision_of(str(scheme or ""))
    if found in (None, Precision.BF16):
        raise WrongValue((f"{kind}_quant_scheme",), '"fp8" or "int8"', scheme)
    return found


def precision_of(scheme: str) -> Precision | None:
    """The precision of a scheme's name; None where this engine computes none such."""
    text = scheme.lower()
    if text.startswith("default"):
        return Precision.BF16
    return next((p for p in (Precision.FP8, Precision.INT8) if p.value in text), None)


def write_network(kind: str, network: Network, said: Mapping[str, object]) -> dict[str, object]:
    """The keys of one network, with the words of the file for what it already `said`."""
    before = read_network(kind, said)
    keys = _switches(kind, network.precision, said)
    if network.precision is before.precision:  # its own schemes say the same: keep them
        keys |= {name: said[name] for name in _switch_names(kind) if name in said}
    if network == before:
        paths = (f"{kind}_original_ckpt", f"{kind}_quantized_ckpt")
        keys |= {name: str(said[name]) for name in paths if name in said}
    elif network.path is not None:
        original = network.precision is Precision.BF16
        keys[f"{kind}_{'original' if original else 'quantized'}_ckpt"] = str(network.path)
    return keys


def _switch_names(kind: str) -> tuple[str, ...]:
    names = (f"{kind}_quantized", f"{kind}_quant_scheme")
    return (*names, "mm_type") if kind == "dit" else names


def _switches(
    kind: str, precision: Precision | None, said: Mapping[str, object]
) -> dict[str, object]:
    if precision is None:
        return {}
    keys: dict[str, object] = {f"{kind}_quantized": precision.quantized}
    if kind != "dit":
        return keys | ({f"{kind}_quant_scheme": precision.value} if precision.quantized else {})
    if not precision.quantized:
        return keys | {"mm_type": "Default"}
    name, operator = precision.value, _operator(said)
    keys["dit_quant_scheme"] = f"{name}-{operator}"
    keys["mm_type"] = f"W-{name}-channel-sym-A-{name}-channel-sym-dynamic-{OPERATORS[operator]}"
    return keys


def _operator(said: Mapping[str, object]) -> str:
    """The operator that the file asks LightX2V for, under either name."""
    schemes = " ".join(str(said.get(path[-1], "")) for path in DIT_SCHEMES).lower()
    return next((name for name in OPERATORS if name in schemes), "vllm")
