"""What a disk holds, as frozen facts: roots, variants, components, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from engine.spec.architecture import DitArchitecture
from engine.spec.precision import Precision


class Kind(str, Enum):
    """The networks a video model is made of, and LoRAs."""

    DIT = "dit"
    T5 = "t5"
    CLIP = "clip"
    VAE = "vae"
    TINY_VAE = "tiny_vae"
    LORA = "lora"


TITLES = {
    Kind.DIT: "DiT", Kind.T5: "T5", Kind.CLIP: "CLIP", Kind.VAE: "VAE", Kind.TINY_VAE: "tiny VAE",
    Kind.LORA: "LoRA",
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """One network on disk: its files, how they are laid out, and what is wrong with them."""

    kind: Kind
    files: tuple[Path, ...]
    nbytes: int
    layout: str  # "file", "shards" or "blocks"
    scheme: str  # what the tensors are stored as, e.g. "bf16", "fp8", "nvfp4"
    precision: Precision | None  # None: recognised, but not something this engine computes
    architecture: DitArchitecture | None = None
    problems: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """True where the component can be loaded."""
        return self.precision is not None and not self.problems


@dataclass(frozen=True)
class Variant:
    """One precision folder of a model root."""

    precision: Precision
    folder: Path
    components: Mapping[Kind, Component]
    tokenizer: Path | None
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True where a video can be made from this folder alone."""
        needed = [self.components.get(kind) for kind in (Kind.DIT, Kind.T5)]
        vaes = [self.components.get(kind) for kind in (Kind.VAE, Kind.TINY_VAE)]
        return (
            not self.missing
            and all(component and component.usable for component in needed)
            and any(component and component.usable for component in vaes)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all components."""
        return sum(component.nbytes for component in self.components.values())


@dataclass(frozen=True)
class Disk:
    """Where a root lies: kind is "ssd", "hdd", "network" or "unknown"."""

    kind: str = "unknown"
    mount: Path = Path("/")
    free_bytes: int = 0


@dataclass(frozen=True)
class ModelRoot:
    """A folder that holds one model in one or more precisions."""

    path: Path
    name: str
    family: str
    task: str
    distilled: bool
    variants: tuple[Variant, ...]
    architecture: DitArchitecture | None = None
    loras: tuple[Component, ...] = ()
    disk: Disk = field(default_factory=Disk)
    problems: tuple[str, ...] = ()

    def find(self, kind: Kind, precision: Precision | None = None) -> Component | None:
        """Find a component, usable ones first; any precision unless one is given."""
        found = [
            variant.components[kind]
            for variant in self.variants
            if kind in variant.components
            and precision in (None, variant.components[kind].precision)
        ]
        return min(found, key=lambda component: not component.usable, default=None)


@dataclass(frozen=True)
class Skipped:
    """A folder or file that could not be looked at, and why."""

    path: Path
    reason: str
