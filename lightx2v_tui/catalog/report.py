"""The catalog as JSON, in the shape other programs rely on (`scan --json`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from lightx2v_tui.catalog.model import Component, Kind, ModelRoot, Skipped, Variant


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
        "distilled": root.distilled,
        "architecture": asdict(root.architecture) if root.architecture else None,
        "variants": [_variant(variant) for variant in root.variants],
        "loras": [_component(lora) for lora in root.loras],
        "disk": {
            "kind": root.disk.kind,
            "mount": str(root.disk.mount),
            "free_bytes": root.disk.free_bytes,
        },
        "problems": list(root.problems),
    }


def _variant(variant: Variant) -> dict[str, object]:
    return {
        "precision": variant.precision.value,
        "folder": str(variant.folder),
        "components": {
            kind.value: _component(component)
            for kind, component in variant.components.items()
            if kind is not Kind.LORA
        },
        "complete": variant.complete,
        "missing": list(variant.missing),
    }


def _component(component: Component) -> dict[str, object]:
    return {
        "files": [str(path) for path in component.files],
        "bytes": component.nbytes,
        "layout": component.layout,
        "scheme": component.scheme,
        "problems": list(component.problems),
    }
