"""Which layers of a DiT a LoRA changes, told from the headers of both files alone.

Names are those of LightX2V, diffusers' PEFT, ComfyUI and kohya's tools. The engine applies what
`plan_changes` gives, so that what is foreseen is what is done.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from engine.spec.architecture import Shapes
from engine.spec.errors import CheckpointError
from engine.spec.header import read_header, unreadable
from engine.spec.keys import DIT_PREFIXES, dit_names

PARTS = {
    r"lora_(?:down|A)(?:\.default)?\.weight": "down",
    r"lora_(?:up|B)(?:\.default)?\.weight": "up",
    r"alpha": "alpha",
    r"diff": "weight",
    r"diff_b": "bias",
    r"diff_m": "modulation",
}
DIFFERENCES = ("weight", "bias", "modulation")  # added to the parameter of that name
#: The parameter that each part is for.
CHANGED = {"down": "weight", "up": "weight", "alpha": "weight",
           **{part: part for part in DIFFERENCES}}  # fmt: skip
UNKNOWN = "unknown"  # the part of a key that is none of these
PREFIXES = (*DIT_PREFIXES, "transformer.", "base_model.model.", "lora_unet_")

#: The layers of a network: shapes of the parameters that each holds itself.
Layers = Mapping[str, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True)
class LayerChange:
    """What a LoRA holds for one layer: the key of each part, and all keys that name it."""

    layer: str
    parts: Mapping[str, str]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class LoraPlan:
    """What a LoRA would change, keys that change nothing, and why it is refused (None: it fits).

    `unmatched` keys name no layer; `ignored` keys are no LoRA's at all.
    """

    changes: tuple[LayerChange, ...]
    unmatched: tuple[str, ...]
    ignored: tuple[str, ...]
    refusal: CheckpointError | None


@dataclass(frozen=True)
class LoraMatch:
    """How a LoRA file fits a DiT: `matched` counts layers, `unmatched` and `ignored` keys.

    `dim_fits` is False where the LoRA is for a model of another size, `problem` says in a line why
    a run with it would be refused.
    """

    matched: int
    unmatched: int
    ignored: int
    dim_fits: bool
    keys: int
    problem: str = ""

    @property
    def matched_keys(self) -> int:
        """How many of its keys change something."""
        return self.keys - self.unmatched - self.ignored


class _OtherSizeError(CheckpointError):
    """A LoRA for a model of another size."""


def lora_match(lora: Path, dit: tuple[Path, ...]) -> LoraMatch:
    """Foresee what a LoRA does to the DiT in these files.

    Raises:
        CheckpointError: a file is missing or its header is broken.
    """
    plan = plan_changes(lora, read_header(lora).shapes, _layers_of_files(_identities(dit)))
    refusal = plan.refusal
    return LoraMatch(
        matched=len(plan.changes),
        unmatched=len(plan.unmatched),
        ignored=len(plan.ignored),
        dim_fits=not isinstance(refusal, _OtherSizeError),
        keys=sum(len(change.keys) for change in plan.changes)
        + len(plan.unmatched) + len(plan.ignored),
        problem=refusal.what if refusal is not None else "",
    )  # fmt: skip


def plan_changes(path: Path, shapes: Shapes, layers: Layers) -> LoraPlan:
    """Match the keys of the LoRA at `path` to layers, and check every shape."""
    changes: list[LayerChange] = []
    unmatched: list[str] = []
    ignored: list[str] = []
    refusal: CheckpointError | None = None
    for change in _grouped(shapes, layers):
        own = layers.get(change.layer, {})
        usable = _usable(change, own)
        if change.parts.keys() == {UNKNOWN}:
            ignored += change.keys
        elif usable.parts.keys() <= {"alpha"}:
            unmatched += change.keys
        else:
            changes.append(usable)
            refusal = refusal or _misfit(path, usable, own, shapes)
    if not changes:
        refusal = _fits_nothing(path, [*unmatched, *ignored])
    return LoraPlan(tuple(changes), tuple(unmatched), tuple(ignored), refusal)


def _usable(change: LayerChange, own: Mapping[str, tuple[int, ...]]) -> LayerChange:
    """Leave out what is for a parameter that the layer does not have."""
    kept = {part: key for part, key in change.parts.items() if CHANGED.get(part) in own}
    return replace(change, parts=kept)


def _grouped(keys: Iterable[str], layers: Iterable[str]) -> Iterator[LayerChange]:
    """Group keys by the layer they change, in the network's own names."""
    parts: dict[str, dict[str, str]] = {}
    named: dict[str, list[str]] = {}
    for key in keys:
        layer, part = _layer_and_part(key)
        parts.setdefault(layer, {})[part] = key
        named.setdefault(layer, []).append(key)
    renamed = dit_names([f"{layer}.weight" for layer in parts])
    flat = {layer.replace(".", "_"): layer for layer in layers}
    for layer, found in parts.items():
        own = renamed[f"{layer}.weight"].removesuffix(".weight")
        own = flat.get(own, own)  # kohya's tools write underscores for dots
        yield LayerChange(own, found, tuple(named[layer]))


def _layer_and_part(key: str) -> tuple[str, str]:
    name = key
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    for pattern, part in PARTS.items():
        if match := re.fullmatch(rf"(.+)\.{pattern}", name):
            return match[1], part
    return name, UNKNOWN


def _misfit(
    path: Path, change: LayerChange, own: Mapping[str, tuple[int, ...]], shapes: Shapes
) -> CheckpointError | None:
    """Tell why a change cannot be applied to a layer; None where it can."""
    given = {part: shapes[key] for part, key in change.parts.items()}
    refusal = _pair_misfit(path, change.layer, own, given)
    if refusal is not None:
        return refusal
    for part in DIFFERENCES:
        if part in given and _squeezed(own[part]) != _squeezed(given[part]):
            return _other_size(path, change.layer, list(own[part]), f"{list(given[part])}")
    return None


def _pair_misfit(
    path: Path, layer: str, own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> CheckpointError | None:
    """Tell why the product of two matrices cannot be added to a layer's weight."""
    if "down" not in given and "up" not in given:
        return None
    if "down" not in given or "up" not in given:
        why = "has only one of the two matrices of its pair"
        return _damaged(path, layer, "incomplete", why)
    up, down, weight = given["up"], given["down"], own["weight"]
    matrices = len(up) == len(down) == len(weight) == 2
    if not matrices or (up[0], down[1]) != weight or not up[1] == down[0] > 0:
        return _other_size(path, layer, list(weight), f"{list(up)} times {list(down)}")
    if math.prod(given.get("alpha", ())) != 1:
        return _damaged(path, layer, "damaged", "has an alpha that is not one number")
    return None


def _damaged(path: Path, layer: str, how: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"The LoRA {path.name} is {how}", f"{path}: {layer} {why}", "Download the LoRA again."
    )


def _squeezed(shape: tuple[int, ...]) -> list[int]:
    """A shape without its dimensions of one, which do not count."""
    return [size for size in shape if size != 1]


def _other_size(path: Path, layer: str, own: object, given: str) -> CheckpointError:
    return _OtherSizeError(
        f"The LoRA {path.name} is for a model of another size",
        f"{path}: {layer} is {own}, the LoRA has {given}",
        "Use a LoRA made for this model's family and size.",
    )


def _fits_nothing(path: Path, keys: list[str]) -> CheckpointError:
    example = f", for instance {', '.join(keys[:3])}" if keys else ""
    return CheckpointError(
        f"The LoRA {path.name} fits nothing in this model",
        f"{path}: none of its {len(keys)} keys names a layer{example}",
        "Use a LoRA made for this model's family and size.",
    )


def _identities(files: tuple[Path, ...]) -> tuple[tuple[Path, int, int], ...]:
    """Paths with what tells a replaced file apart."""
    found = []
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        found.append((path, status.st_size, status.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=8)
def _layers_of_files(files: tuple[tuple[Path, int, int], ...]) -> Layers:
    """The layers of the DiT in these files; codes have the shape of the weight they stand for."""
    shapes = {
        name: shape for path, _, _ in files for name, shape in read_header(path).shapes.items()
    }
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for stored, name in dit_names(shapes).items():
        layer, _, parameter = name.rpartition(".")
        layers.setdefault(layer, {})[parameter] = shapes[stored]
    return layers
