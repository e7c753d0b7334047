"""LoRAs: read, matched to the layers of a DiT, merged into its weights or added beside codes.

A LoRA changes a layer by strength * (alpha / rank) * up @ down (Hu et al. 2021). Distillation
LoRAs also hold plain differences: `diff` of a weight, `diff_b` of a bias, `diff_m` of a
modulation. `engine.spec.lora_match` says which tensor of a file changes which layer.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopEvent

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.build import read_tensors
from engine.checkpoint import read_headers
from engine.ops.linear import QuantizedLinear
from engine.spec.errors import Cancelled
from engine.spec.events import BytesRead
from engine.spec.job import Lora
from engine.spec.lora_match import DIFFERENCES, Layers, plan_changes


@dataclass(frozen=True)
class LoraReport:
    """What a LoRA did: the layers it changed, keys that name no layer, keys that are no LoRA's."""

    path: Path
    matched: int
    unmatched: tuple[str, ...]
    ignored: tuple[str, ...] = ()


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
) -> Generator[BytesRead, None, list[LoraReport]]:
    """Apply LoRAs to a loaded DiT, in order; tells the bytes read and gives a report of each.

    Original weights are changed; beside codes the low-rank path is computed, in `dtype`.

    Raises:
        CheckpointError: a LoRA matches no layer, has half a pair, or has another width.
    """
    reports = []
    for lora in loras:
        report = yield from _apply(model, lora, dtype, stop)
        reports.append(report)
    return reports


def _apply(
    model: nn.Module, lora: Lora, dtype: torch.dtype, stop: StopEvent
) -> Generator[BytesRead, None, LoraReport]:
    headers = read_headers((lora.path,))
    plan = plan_changes(lora.path, headers[0].shapes, layers_of(model))
    if plan.refusal is not None:
        raise plan.refusal
    wanted = {key for change in plan.changes for key in change.parts.values()}
    tensors = yield from read_tensors("LoRA", headers, wanted, stop)
    for change in plan.changes:
        if stop.is_set():
            raise Cancelled
        parts = {part: tensors.pop(key).float() for part, key in change.parts.items()}
        _change(model, change.layer, parts, lora.strength, dtype)
    return LoraReport(lora.path, len(plan.changes), plan.unmatched, plan.ignored)


def layers_of(model: nn.Module) -> Layers:
    """The layers of a network and the shapes of their parameters; codes count as the weight."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    inside: set[str] = set()  # of layers that have low-rank paths already
    for name, module in model.named_modules():
        if name.rpartition(".")[0] in inside:
            continue
        layer = module
        if isinstance(module, LoraLinear):
            inside.add(name)
            layer = module.base
        own = {key: tuple(value.shape) for key, value in layer.named_parameters(recurse=False)}
        if isinstance(layer, QuantizedLinear):
            own["weight"] = own.pop("codes")
        if own:
            layers[name] = own
    return layers


def _change(
    model: nn.Module, name: str, parts: dict[str, Tensor], strength: float, dtype: torch.dtype
) -> None:
    """Change one layer, whose shapes were checked."""
    module = model.get_submodule(name)
    if "down" in parts:
        rank = parts["down"].shape[0]
        alpha = float(parts["alpha"]) if "alpha" in parts else float(rank)
        up = parts["up"] * (strength * alpha / rank)
        if isinstance(module, (QuantizedLinear, LoraLinear)):
            module = _beside(model, name, module)
            module.downs.append(_like(parts["down"], module, dtype))
            module.ups.append(_like(up, module, dtype))
        else:
            _add(module, "weight", up @ parts["down"])
    for part in DIFFERENCES:
        if part not in parts:
            continue
        value = parts[part] * strength
        if part == "weight" and isinstance(module, (QuantizedLinear, LoraLinear)):
            module = _beside(model, name, module)
            module.differences.append(_like(value, module, dtype))
        else:
            _add(module.base if isinstance(module, LoraLinear) else module, part, value)


def _beside(model: nn.Module, name: str, module: QuantizedLinear | LoraLinear) -> LoraLinear:
    """Give a quantized layer a low-rank path, once."""
    if isinstance(module, LoraLinear):
        return module
    layer = LoraLinear(module)
    model.set_submodule(name, layer)
    return layer


def _like(value: Tensor, layer: LoraLinear, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(value.to(layer.base.codes.device, dtype), requires_grad=False)


def _add(module: nn.Module, part: str, value: Tensor) -> None:
    """Add to a parameter, in float32."""
    parameter = module.get_parameter(part)
    added = parameter.data.float() + value.to(parameter.device).view(parameter.shape)
    parameter.data.copy_(added)
