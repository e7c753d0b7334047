"""What a disk holds, as frozen facts: roots, variants, components, and what is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from engine.spec.architecture import DitArchitecture
from engine.spec.precision import Precision


class Kind(str, Enum):
    """The networks a video model is made of, and LoRAs."""

    DIT = "dit"
    DIT_LOW = "dit_low"  # the low-noise expert of a Wan 2.2 pair; the other one is its `dit`
    T5 = "t5"
    CLIP = "clip"
    VAE = "vae"
    TINY_VAE = "tiny_vae"
    LORA = "lora"


DITS = (Kind.DIT, Kind.DIT_LOW)
TITLES = {
    Kind.DIT: "DiT", Kind.DIT_LOW: "low-noise DiT", Kind.T5: "T5", Kind.CLIP: "CLIP",
    Kind.VAE: "VAE", Kind.TINY_VAE: "tiny VAE", Kind.LORA: "LoRA",
}  # fmt: skip


@dataclass(frozen=True)
class LoraFacts:
    """What a LoRA's header says: its rank, and the width of the DiT it changes (0: not said)."""

    rank: int
    dim: int
    image: bool = False  # it changes image layers, which only image-to-video models have


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
    style: str = "wan"  # whose tensor names: wan, prefixed, diffusers, comfyui, transformers, gguf
    unread: str = ""  # why this engine cannot read it, however whole it is
    width: int = 0  # what must fit the DiT: a T5's or CLIP's width, a VAE's latent channels
    expert: str = ""  # "high" or "low", of a Wan 2.2 pair
    lora: LoraFacts | None = None
    fetch: tuple[Path, ...] = ()  # files that are damaged or absent
    pointer: bool = False  # those files are Git LFS pointers

    @property
    def usable(self) -> bool:
        """True where the component can be loaded."""
        return self.precision is not None and not self.problems and not self.unread

    @property
    def reason(self) -> str:
        """Why it cannot be used; empty where it can."""
        if self.problems or self.unread:
            return self.problems[0] if self.problems else self.unread
        computed = self.precision is not None
        return "" if computed else f"stored as {self.scheme}, which this engine does not compute"


@dataclass(frozen=True)
class Verdict:
    """What stands about one part of a variant.

    `state` is "ok", "missing", "broken", "not runnable" or "elsewhere"; `fix` is the command that
    would fetch or mend it, or a sentence where no command could. Paths in `reason` that lie below
    the model's root are told from there.
    """

    part: str  # a `Kind` in words, or "tokenizer"
    state: str
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Variant:
    """One precision of a model root."""

    precision: Precision | None  # None: stored as something this engine does not compute
    label: str  # the precision in words
    folder: Path
    components: Mapping[Kind, Component]
    tokenizer: Path | None
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True where a video can be made from this variant alone."""
        needed = [self.components.get(kind) for kind in (Kind.DIT, Kind.T5)]
        needed += [self.components[kind] for kind in (Kind.DIT_LOW,) if kind in self.components]
        dit = self.components.get(Kind.DIT)
        architecture = dit.architecture if dit is not None else None
        if architecture is not None and architecture.image_dim is not None:
            needed.append(self.components.get(Kind.CLIP))
        vaes = [self.components.get(kind) for kind in (Kind.VAE, Kind.TINY_VAE)]
        if architecture is not None and architecture.task != "t2v":
            vaes = vaes[:1]  # the tiny one does not encode what the model is shown
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
    bytes_per_second: int = 0  # a usual figure for the kind, not a measurement; 0: not known

    @property
    def advice(self) -> str:
        """The guide's advice where weights lie on something slow."""
        if self.kind not in ("hdd", "network"):
            return ""
        where = "a hard disk" if self.kind == "hdd" else "the network"
        return f"on {where}: models load many times faster from an SSD such as /mnt/ssd/models"


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
    layout: str = "guide"  # guide, files, comfyui or diffusers
    others: tuple[Component, ...] = ()  # of this root, in no variant
    offers: tuple[Component, ...] = ()  # found elsewhere, for what this root lacks
    tokenizer_offer: Path | None = None

    @property
    def key(self) -> str:
        """What tells roots apart: several models may share a folder."""
        return f"{self.path}\n{self.name}"

    @property
    def size(self) -> str:
        """What people call its size, such as 14B; empty where the DiT cannot be read."""
        arch = self.architecture
        return arch.size if arch is not None and arch.num_layers else ""

    @property
    def reads_clip(self) -> bool:
        """True where its DiT has image layers, which a CLIP feeds."""
        return self.architecture is not None and self.architecture.image_dim is not None

    @property
    def dit_places(self) -> frozenset[Path]:
        """The files of its DiTs, and the folders of those that lie in many files."""
        dits = [c for c in self.components() if c.kind in DITS]
        files = {file.absolute() for dit in dits for file in dit.files}
        many = {
            dit.files[0].parent.absolute() for dit in dits if dit.files and dit.layout != "file"
        }
        return frozenset(files | many)

    @property
    def tokenizer(self) -> Path | None:
        """The first tokenizer folder of its variants, or the one that lies elsewhere."""
        return next((v.tokenizer for v in self.variants if v.tokenizer), self.tokenizer_offer)

    def short(self, text: str) -> str:
        """A text whose paths below this root begin there."""
        return re.sub(rf"(?<!\S){re.escape(f'{self.path}{os.sep}')}", "", text)

    def why(self, component: Component) -> str:
        """Why a component cannot be used; a file that is named is not told with its path too."""
        told = component.reason
        for file in component.fetch:
            told = told.replace(f": {file}: ", ": ")
        return self.short(told)

    def components(self) -> Iterator[Component]:
        """Every component at hand: of the variants, then loose ones, then those elsewhere."""
        for variant in self.variants:
            yield from variant.components.values()
        yield from self.others
        yield from self.offers

    def find(self, kind: Kind, precision: Precision | None = None) -> Component | None:
        """Find a component, usable ones first; any precision unless one is given."""
        found = (
            component
            for component in self.components()
            if component.kind is kind and precision in (None, component.precision)
        )
        return min(found, key=lambda component: not component.usable, default=None)


@dataclass(frozen=True)
class Skipped:
    """A folder or file that could not be looked at, and why."""

    path: Path
    reason: str


def lora_in_words(lora: Component) -> str:
    """A LoRA's file, its rank, and how wide a DiT it is for."""
    name, facts = lora.files[0].name if lora.files else "?", lora.lora
    if facts is None:
        return name
    rank = f"rank {facts.rank}" if facts.rank else "differences only"
    wide = f", for a DiT {facts.dim} wide" if facts.dim else ""
    return f"{name} ({rank}{wide}{', image-to-video' if facts.image else ''})"
