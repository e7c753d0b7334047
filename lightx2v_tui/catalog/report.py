"""The catalog as JSON: what `scan --json` prints, and what is remembered between starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.spec.architecture import DitArchitecture
from engine.spec.precision import Precision
from lightx2v_tui.catalog.model import (
    Component,
    Disk,
    Kind,
    LoraFacts,
    ModelRoot,
    Skipped,
    Variant,
)


def as_json(
    roots: Sequence[ModelRoot], skipped: Sequence[Skipped], seconds: float
) -> dict[str, object]:
    """The whole scan as one JSON object."""
    return {
        "roots": [_root(root) for root in roots],
        "skipped": [{"path": str(item.path), "reason": item.reason} for item in skipped],
        "seconds": round(seconds, 3),
    }


def _root(root: ModelRoot) -> dict[str, object]:
    return {
        "path": str(root.path),
        "name": root.name,
        "family": root.family,
        "task": root.task,
        "size": root.size,
        "distilled": root.distilled,
        "layout": root.layout,
        "architecture": asdict(root.architecture) if root.architecture else None,
        "variants": [_variant(root, variant) for variant in root.variants],
        "loras": [_component(lora) for lora in root.loras],
        "others": [_component(component) for component in root.others],
        "offers": [_component(component) for component in root.offers],
        "tokenizer_offer": str(root.tokenizer_offer) if root.tokenizer_offer else None,
        "disk": {
            "kind": root.disk.kind,
            "mount": str(root.disk.mount),
            "free_bytes": root.disk.free_bytes,
            "bytes_per_second": root.disk.bytes_per_second,
            "advice": root.disk.advice,
        },
        "problems": list(root.problems),
    }


def _variant(root: ModelRoot, variant: Variant) -> dict[str, object]:
    from lightx2v_tui.catalog.completeness import verdicts  # reading back does not need it

    return {
        "precision": variant.label,
        "folder": str(variant.folder),
        "components": {
            kind.value: _component(component)
            for kind, component in variant.components.items()
            if kind is not Kind.LORA
        },
        "tokenizer": str(variant.tokenizer) if variant.tokenizer else None,
        "complete": variant.complete,
        "missing": list(variant.missing),
        "verdicts": [asdict(verdict) for verdict in verdicts(root, variant)],
    }


def _component(component: Component) -> dict[str, object]:
    return {
        "kind": component.kind.value,
        "files": [str(path) for path in component.files],
        "bytes": component.nbytes,
        "layout": component.layout,
        "scheme": component.scheme,
        "precision": component.precision.value if component.precision else None,
        "style": component.style,
        "width": component.width,
        "expert": component.expert,
        "architecture": asdict(component.architecture) if component.architecture else None,
        "lora": asdict(component.lora) if component.lora else None,
        "fetch": [str(path) for path in component.fetch],
        "pointer": component.pointer,
        "unread": component.unread,
        "problems": list(component.problems),
    }


def from_json(table: Mapping[str, Any]) -> tuple[tuple[ModelRoot, ...], tuple[Skipped, ...]]:
    """Read back what `as_json` made.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is something else.
    """
    skipped = tuple(Skipped(Path(item["path"]), item["reason"]) for item in table["skipped"])
    return tuple(_read_root(root) for root in table["roots"]), skipped


def _read_root(told: Mapping[str, Any]) -> ModelRoot:
    disk = told["disk"]
    offer = told["tokenizer_offer"]
    return ModelRoot(
        path=Path(told["path"]),
        name=str(told["name"]),
        family=str(told["family"]),
        task=str(told["task"]),
        distilled=bool(told["distilled"]),
        variants=tuple(_read_variant(variant) for variant in told["variants"]),
        architecture=_read_architecture(told["architecture"]),
        loras=tuple(_read_component(lora) for lora in told["loras"]),
        disk=Disk(disk["kind"], Path(disk["mount"]), disk["free_bytes"], disk["bytes_per_second"]),
        problems=tuple(map(str, told["problems"])),
        layout=str(told["layout"]),
        others=tuple(_read_component(component) for component in told["others"]),
        offers=tuple(_read_component(component) for component in told["offers"]),
        tokenizer_offer=Path(offer) if offer else None,
    )


def _read_architecture(told: Mapping[str, Any] | None) -> DitArchitecture | None:
    if told is None:
        return None
    return DitArchitecture(**{**told, "patch_size": tuple(told["patch_size"])})


def _read_variant(told: Mapping[str, Any]) -> Variant:
    label, tokenizer = str(told["precision"]), told["tokenizer"]
    known = label in {precision.value for precision in Precision}
    return Variant(
        precision=Precision(label) if known else None,
        label=label,
        folder=Path(told["folder"]),
        components={
            Kind(kind): _read_component(component) for kind, component in told["components"].items()
        },
        tokenizer=Path(tokenizer) if tokenizer else None,
        missing=tuple(map(str, told["missing"])),
    )


def _read_component(told: Mapping[str, Any]) -> Component:
    kind = Kind(told["kind"])
    precision, lora = told["precision"], told["lora"]
    return Component(
        kind=kind,
        files=tuple(map(Path, told["files"])),
        nbytes=int(told["bytes"]),
        layout=str(told["layout"]),
        scheme=str(told["scheme"]),
        precision=Precision(precision) if precision else None,
        architecture=_read_architecture(told["architecture"]),
        problems=tuple(map(str, told["problems"])),
        style=str(told["style"]),
        unread=str(told["unread"]),
        width=int(told["width"]),
        expert=str(told["expert"]),
        lora=LoraFacts(**lora) if lora else None,
        fetch=tuple(map(Path, told["fetch"])),
        pointer=bool(told["pointer"]),
    )
