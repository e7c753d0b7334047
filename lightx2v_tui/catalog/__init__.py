"""Disks to model roots: what is there, what it is, and what is missing.

Read `model.py` for the facts, `walk.py` for the way to them, `layouts.py` for what is known. Names
are imported when they are first used: what was found last is shown before anything can be scanned.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lightx2v_tui.catalog.model import (
    TITLES,
    Component,
    Disk,
    Kind,
    ModelRoot,
    Skipped,
    Variant,
    Verdict,
    lora_in_words,
)

if TYPE_CHECKING:
    from lightx2v_tui.catalog.assembly import TOKENIZER
    from lightx2v_tui.catalog.completeness import verdicts
    from lightx2v_tui.catalog.components import component_at
    from lightx2v_tui.catalog.files import read_config
    from lightx2v_tui.catalog.lookup import inspect_root, inspect_roots
    from lightx2v_tui.catalog.walk import find_roots

_LAZY = {
    "TOKENIZER": "assembly", "verdicts": "completeness", "component_at": "components",
    "read_config": "files", "inspect_root": "lookup", "inspect_roots": "lookup",
    "find_roots": "walk",
}  # fmt: skip

__all__ = [
    "TITLES", "TOKENIZER", "Component", "Disk", "Kind", "ModelRoot", "Skipped", "Variant",
    "Verdict", "component_at", "find_roots", "inspect_root", "inspect_roots", "lora_in_words",
    "read_config", "verdicts",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
