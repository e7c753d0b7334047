"""One folder by its path: which models are in it, without a walk."""

from __future__ import annotations

from pathlib import Path

from lightx2v_tui.catalog.files import list_folder
from lightx2v_tui.catalog.layouts import inspect
from lightx2v_tui.catalog.model import ModelRoot


def inspect_roots(path: Path) -> tuple[ModelRoot, ...]:
    """Look at one folder, or at the folder of one DiT file, for the models in it.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return inspect(list_folder(path)).roots
    roots = inspect(list_folder(path.parent)).roots
    return tuple(root for root in roots if path.absolute() in root.dit_places)


def inspect_root(path: Path) -> ModelRoot | None:
    """Look at one folder: the first model in it, or None.

    Raises:
        OSError: the folder cannot be read.
    """
    return next(iter(inspect_roots(path)), None)
