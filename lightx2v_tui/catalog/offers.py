"""Parts that one model lacks and another folder or disk has: a T5 is a T5 wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.spec.precision import Precision
from lightx2v_tui.catalog.assembly import PARTS, mismatch
from lightx2v_tui.catalog.layouts import Found
from lightx2v_tui.catalog.model import Component, Kind, ModelRoot


def with_offers(roots: Sequence[ModelRoot], loose: Sequence[Found]) -> Iterator[ModelRoot]:
    """Yield the roots that lack something which lies elsewhere, each with its offers."""
    pool = [c for found in loose for c in found.parts if c.usable]
    pool += [c for root in roots for c in _own(root) if c.usable and c.kind in PARTS]
    tokenizers = [path for found in loose for path in found.tokenizers]
    tokenizers += [v.tokenizer for root in roots for v in root.variants if v.tokenizer]
    loras = [c for found in loose for c in found.parts if c.kind is Kind.LORA]
    for root in roots:
        offered = offer(root, pool, tokenizers)
        more = tuple(lora for lora in loras if _changes(lora, root))
        offered = replace(offered, loras=(*root.loras, *more))
        if offered != root:
            yield offered


def offer(root: ModelRoot, pool: Sequence[Component], tokenizers: Sequence[Path]) -> ModelRoot:
    """The root with what fits it of `pool`, for each kind of network that it has none of."""
    lacks = _needed(root) - {component.kind for component in _own(root) if component.usable}
    taken: dict[tuple[Kind, object], Component] = {}
    for component in pool if lacks else ():
        if component.kind in lacks and _fits(component, root):
            taken.setdefault((component.kind, component.precision), component)
    lacks_tokenizer = not any(variant.tokenizer for variant in root.variants)
    return replace(
        root,
        offers=tuple(sorted(taken.values(), key=_rank)),
        tokenizer_offer=next(iter(tokenizers), None) if lacks_tokenizer else None,
    )


def _rank(component: Component) -> tuple[int, int]:
    """The exact ones of each kind first: what is looked for in any precision takes the first."""
    precisions = [*Precision]
    return [*Kind].index(component.kind), precisions.index(component.precision or precisions[-1])


def _own(root: ModelRoot) -> Iterator[Component]:
    for variant in root.variants:
        yield from variant.components.values()
    yield from root.others


def _needed(root: ModelRoot) -> set[Kind]:
    """A CLIP only where the model has image layers; a tiny VAE is never missed."""
    return {Kind.T5, Kind.VAE, *((Kind.CLIP,) if root.reads_clip else ())}


def _fits(component: Component, root: ModelRoot) -> bool:
    return root.architecture is not None and not mismatch(component, root.architecture)


def _changes(lora: Component, root: ModelRoot) -> bool:
    """A LoRA is for DiTs of one width, and one of image layers for image-to-video models."""
    arch, facts = root.architecture, lora.lora
    if arch is None or facts is None or lora.problems or facts.dim != arch.dim:
        return False
    return arch.image_dim is not None or not facts.image
