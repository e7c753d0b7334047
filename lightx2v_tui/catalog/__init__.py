"""Disks to model roots: what is there, what it is, and what is missing.

Read `model.py` for the facts, `walk.py` for the way to them.
"""

from lightx2v_tui.catalog.components import component_at, read_config
from lightx2v_tui.catalog.model import (
    TITLES,
    Component,
    Disk,
    Kind,
    ModelRoot,
    Skipped,
    Variant,
)
from lightx2v_tui.catalog.roots import TOKENIZER, inspect_root
from lightx2v_tui.catalog.walk import find_roots

__all__ = [
    "TITLES", "TOKENIZER", "Component", "Disk", "Kind", "ModelRoot", "Skipped", "Variant",
    "component_at", "find_roots", "inspect_root", "read_config",
]  # fmt: skip
