"""Put the parts of one model together: its variants, what each lacks, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.spec.architecture import WAN22_CHANNELS, DitArchitecture
from engine.spec.precision import Precision
from lightx2v_tui.catalog.disk import disk_of
from lightx2v_tui.catalog.model import DITS, TITLES, Component, Kind, ModelRoot, Variant

if TYPE_CHECKING:
    from lightx2v_tui.catalog.folders import Folder

TOKENIZER = Path("google/umt5-xxl")
#: Where a tokenizer lies, below a model's folder or beside its T5.
TOKENIZERS = (TOKENIZER, Path("tokenizer"))
PARTS = (Kind.T5, Kind.CLIP, Kind.VAE, Kind.TINY_VAE)  # what a DiT needs, or may use
MIXED = "two DiTs in one folder, whose files LightX2V would mix"


@dataclass(frozen=True)
class Parts:
    """Networks and tokenizers that a variant can be made of."""

    components: tuple[Component, ...] = ()
    tokenizers: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Folder, components: Iterable[Component]) -> Parts:
        """The given networks of a folder, and its tokenizer."""
        places = [place for place in TOKENIZERS if place.parts[0] in folder.listing.folders]
        found = [folder.path / place for place in places]
        there = tuple(path for path in found if (path / "tokenizer.json").is_file())
        return cls(tuple(components), there)

    def plus(self, components: Iterable[Component]) -> Parts:
        """The same, and more networks."""
        return replace(self, components=(*self.components, *components))


def make_variant(
    folder: Path, own: Parts, shared: Parts, wanted: Precision | None, *, mixed: bool = False
) -> Variant:
    """Pick one component of each kind: one that fits the DiT, usable, of the wanted precision."""
    dits = [min(pool, key=lambda c: (not c.usable, c.precision is not wanted))
            for kind in DITS
            if (pool := [c for c in own.components if c.kind is kind])]  # fmt: skip
    if mixed:
        dits[0] = replace(dits[0], problems=(*dits[0].problems, MIXED))
    chosen = {dit.kind: dit for dit in dits}
    architecture = next((dit.architecture for dit in dits if dit.architecture), None)
    fitting = [fitted(c, architecture) for c in (*own.components, *shared.components)]
    for kind in PARTS:
        pool = [c for c in fitting if c.kind is kind]
        if pool:
            chosen[kind] = min(pool, key=lambda c: (not c.usable, c.precision is not wanted))
    tokenizer = next(iter((*own.tokenizers, *shared.tokenizers)), None)
    stored = [dit for dit in dits if dit.files]
    precision = stored[0].precision if stored else wanted
    label = precision.value if precision else stored[0].scheme if stored else "unknown"
    return Variant(precision, label, folder, chosen, tokenizer, tuple(_missing(chosen, tokenizer)))


def fitted(component: Component, dit: DitArchitecture | None) -> Component:
    """The component, with a problem where its width is not what the DiT works with."""
    problem = mismatch(component, dit) if dit is not None else ""
    return replace(component, problems=(*component.problems, problem)) if problem else component


def mismatch(component: Component, dit: DitArchitecture) -> str:
    """Why a component does not fit a DiT; empty where it does."""
    wanted = {Kind.T5: dit.text_dim, Kind.CLIP: dit.image_dim,
              Kind.VAE: dit.out_dim, Kind.TINY_VAE: dit.out_dim}.get(component.kind)  # fmt: skip
    if not component.width or wanted in (None, component.width):
        return ""
    name = component.files[0].name if component.files else TITLES[component.kind]
    if component.kind in (Kind.VAE, Kind.TINY_VAE):
        right = (
            "taew2_2 or Wan2.2_VAE" if dit.out_dim == WAN22_CHANNELS else "taew2_1 or Wan2.1_VAE"
        )
        return (f"{name} reads {component.width} latent channels, this DiT makes {wanted}: "
                f"it needs {right}")  # fmt: skip
    return f"{name} is {component.width} wide, this DiT reads {wanted}: it belongs to another model"


def _missing(chosen: dict[Kind, Component], tokenizer: Path | None) -> list[str]:
    missing = [TITLES[kind] for kind in (Kind.DIT, Kind.T5) if kind not in chosen]
    if Kind.DIT_LOW not in chosen and Kind.DIT in chosen and chosen[Kind.DIT].expert:
        missing.append(TITLES[Kind.DIT_LOW])
    if tokenizer is None:
        missing.append(f"tokenizer ({TOKENIZER}/tokenizer.json)")
    if Kind.VAE not in chosen and Kind.TINY_VAE not in chosen:
        missing.append("VAE")
    dit = chosen.get(Kind.DIT) or chosen.get(Kind.DIT_LOW)
    architecture = dit.architecture if dit is not None else None
    if architecture is None:
        return missing
    if architecture.image_dim is not None and Kind.CLIP not in chosen:
        missing.append("CLIP")
    if architecture.task != "t2v" and Kind.VAE not in chosen and Kind.TINY_VAE in chosen:
        missing.append("VAE (the tiny one does not encode the first frame)")
    return missing


def make_root(
    path: Path, name: str, variants: Sequence[Variant], layout: str, *, distilled: bool,
    loras: Sequence[Component] = (), others: Sequence[Component] = (),
    problems: Sequence[str] = (),
) -> ModelRoot:  # fmt: skip
    """One model of these variants; what they do not hold of `others` stays at hand."""
    dits = [v.components[kind] for v in variants for kind in DITS if kind in v.components]
    whole_first = sorted(dits, key=lambda dit: not dit.usable)
    architecture = next((dit.architecture for dit in whole_first if dit.architecture), None)
    held = {file for v in variants for c in v.components.values() for file in c.files}
    return ModelRoot(
        path=path,
        name=name,
        family=_family(architecture, dits, name),
        task=architecture.task if architecture else "unknown",
        distilled=distilled,
        variants=tuple(variants),
        architecture=architecture,
        loras=tuple(loras),
        disk=disk_of(path),
        problems=tuple(problems),
        layout=layout,
        others=tuple(fitted(c, architecture) for c in others if c.kind in PARTS
                     and not held.issuperset(c.files)),
    )  # fmt: skip


def _family(architecture: DitArchitecture | None, dits: Sequence[Component], name: str) -> str:
    """Shapes first; the text-to-video experts of Wan 2.2 have no shape of their own."""
    said = name.lower().replace("_", "").replace("-", "")
    experts = bool(dits) and all(dit.expert for dit in dits)
    pair = experts or "wan2.2" in said or "wan22" in said
    return "wan2.2" if pair else architecture.family if architecture else "wan2.1"
