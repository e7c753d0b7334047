"""LoRAs: read, matched to the layers of a DiT, merged into its weights or added beside codes.

A LoRA changes a layer by strength * (alpha / rank) * up @ down (Hu et al. 2021). Distillation
LoRAs also hold plain differences: `diff` of a weight, `diff_b` of a bias, `diff_m` of a
modulation. Names are those of LightX2V, diffusers' PEFT and ComfyUI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoint import read_headers, stream
from engine.ops.linear import QuantizedLinear
from engine.spec.errors import CheckpointError
from engine.spec.job import Lora
from engine.spec.keys import DIT_PREFIXES, dit_names

PARTS = {
    r"lora_(?:down|A)(?:\.default)?\.weight": "down",
    r"lora_(?:up|B)(?:\.default)?\.weight": "up",
    r"alpha": "alpha",
    r"diff": "weight",
    r"diff_b": "bias",
    r"diff_m": "modulation",
}
UNKNOWN = "unknown"  # the part of a key that is none of these
PREFIXES = (*DIT_PREFIXES, "transformer.", "base_model.model.", "lora_unet_")


@dataclass(frozen=True)
class LoraReport:
    """What a LoRA did: the layers it changed, keys that name no layer, keys that are no LoRA's."""

    path: Path
    matched: int
    unmatched: tuple[str, ...]
    ignored: tuple[str, ...] = ()


@dataclass
class _Change:
    """The tensors of one layer."""

    parts: dict[str, Tensor] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)


class LoraLinear(nn.Module):
    """A quantized linear and the low-rank paths beside it."""

    weight = None

    def __init__(self, base: QuantizedLinear) -> None:
        super().__init__()
        self.base = base
        self.downs = nn.ParameterList()
        self.ups = nn.ParameterList()
        self.differences = nn.ParameterList()

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        result: Tensor = self.base(hidden)
        for down, up in zip(self.downs, self.ups, strict=True):
            result = result + F.linear(F.linear(hidden, down), up)
        for difference in self.differences:
            result = result + F.linear(hidden, difference)
        return result


def apply_loras(
    model: nn.Module, loras: Iterable[Lora], dtype: torch.dtype, stop: StopEvent
) -> list[LoraReport]:
    """Apply LoRAs to a loaded DiT, in order; gives a report of each.

    Original weights are changed; beside codes the low-rank path is computed, in `dtype`.

    Raises:
        CheckpointError: a LoRA matches no layer, has half a pair, or has another width.
    """
    return [_apply(model, lora, dtype, stop) for lora in loras]


def _apply(model: nn.Module, lora: Lora, dtype: torch.dtype, stop: StopEvent) -> LoraReport:
    unmatched: list[str] = []
    ignored: list[str] = []
    matched = 0
    flat = {name.replace(".", "_"): name for name, _ in model.named_modules()}
    for read, change in _read(lora.path, stop).items():
        name = flat.get(read, read)  # kohya's tools write underscores for dots
        if change.parts.keys() == {UNKNOWN}:
            ignored += change.keys
            continue
        if _change(model, name, change, lora, dtype):
            matched += 1
        else:
            unmatched += change.keys
    if not matched:
        shown = ", ".join([*unmatched, *ignored][:3])
        raise CheckpointError(
            f"The LoRA {lora.path.name} fits nothing in this model",
            f"{lora.path}: none of its {len(unmatched + ignored)} keys names a layer, "
            f"for instance {shown}",
            "Use a LoRA made for this model's family and size.",
        )
    return LoraReport(lora.path, matched, tuple(unmatched), tuple(ignored))


def _read(path: Path, stop: StopEvent) -> dict[str, _Change]:
    """Read a LoRA file, its tensors grouped by the layer they change, in Wan's names."""
    headers = read_headers((path,))
    stored = {name for header in headers for name in header.tensors}
    changes: dict[str, _Change] = {}
    for piece in stream(headers, stored, stop):
        if piece.tensor is None:
            continue
        layer, part = _layer_and_part(piece.name)
        change = changes.setdefault(layer, _Change())
        change.parts[part] = piece.tensor.float()
        change.keys.append(piece.name)
    renamed = dit_names([f"{layer}.weight" for layer in changes])
    return {
        renamed[f"{layer}.weight"].removesuffix(".weight"): change
        for layer, change in changes.items()
    }


def _layer_and_part(key: str) -> tuple[str, str]:
    name = key
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    for pattern, part in PARTS.items():
        if match := re.fullmatch(rf"(.+)\.{pattern}", name):
            return match[1], part
    return name, UNKNOWN


def _change(model: nn.Module, name: str, change: _Change, lora: Lora, dtype: torch.dtype) -> bool:
    """Change one layer; False where the model has none of that name, or nothing fits it."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return False
    done = False
    parts = change.parts
    if "down" in parts or "up" in parts:
        _check_pair(lora.path, name, module, parts)
        rank = parts["down"].shape[0]
        alpha = float(parts["alpha"]) if "alpha" in parts else float(rank)
        up = parts["up"] * (lora.strength * alpha / rank)
        if isinstance(module, (QuantizedLinear, LoraLinear)):
            module = _beside(model, name, module)
            module.downs.append(_like(parts["down"], module, dtype))
            module.ups.append(_like(up, module, dtype))
            done = True
        else:
            done = _add(module, "weight", up @ parts["down"])
    for part in ("weight", "bias", "modulation"):
        if part not in parts:
            continue
        value = parts[part] * lora.strength
        if part == "weight" and isinstance(module, (QuantizedLinear, LoraLinear)):
            module = _beside(model, name, module)
            _check_shape(lora.path, name, module.base.codes.shape, value.shape)
            module.differences.append(_like(value, module, dtype))
            done = True
        else:
            layer = module.base if isinstance(module, LoraLinear) else module
            if isinstance(parameter := getattr(layer, part, None), Tensor):
                _check_shape(lora.path, name, parameter.shape, value.shape)
            done |= _add(layer, part, value)
    return done


def _beside(model: nn.Module, name: str, module: QuantizedLinear | LoraLinear) -> LoraLinear:
    """Give a quantized layer a low-rank path, once."""
    if isinstance(module, LoraLinear):
        return module
    layer = LoraLinear(module)
    model.set_submodule(name, layer)
    return layer


def _like(value: Tensor, layer: LoraLinear, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(value.to(layer.base.codes.device, dtype), requires_grad=False)


def _add(module: nn.Module, part: str, value: Tensor) -> bool:
    """Add to a parameter, in float32; False where the layer has none."""
    parameter = getattr(module, part, None)
    if not isinstance(parameter, Tensor):
        return False
    added = parameter.data.float() + value.to(parameter.device).view(parameter.shape)
    parameter.data.copy_(added)
    return True


def _check_shape(path: Path, name: str, own: torch.Size, given: torch.Size) -> None:
    """Refuse a difference of another shape; dimensions of one do not count."""
    if [size for size in own if size != 1] != [size for size in given if size != 1]:
        raise _another_size(path, name, list(own), f"{list(given)}")


def _another_size(path: Path, name: str, own: object, given: str) -> CheckpointError:
    return CheckpointError(
        f"The LoRA {path.name} is for a model of another size",
        f"{path}: {name} is {own}, the LoRA has {given}",
        "Use a LoRA made for this model's family and size.",
    )


def _check_pair(path: Path, name: str, module: nn.Module, parts: dict[str, Tensor]) -> None:
    if "down" not in parts or "up" not in parts:
        raise CheckpointError(
            f"The LoRA {path.name} is incomplete",
            f"{name} has only one of the two matrices of its pair",
            "Download the LoRA again.",
        )
    down, up = parts["down"], parts["up"]
    layer = module.base if isinstance(module, LoraLinear) else module
    own = (getattr(layer, "out_features", None), getattr(layer, "in_features", None))
    if (up.shape[0], down.shape[1]) != own or up.shape[1] != down.shape[0]:
        raise _another_size(path, name, list(own), f"{list(up.shape)} times {list(down.shape)}")
