"""Files of the app's own: written whole or not at all, readable by the user alone."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

PRIVATE_DIR = 0o700


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there, each the user's alone.

    Raises:
        OSError: one cannot be made.
    """
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(mode=PRIVATE_DIR, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step; whoever reads sees the old file or the new one.

    Raises:
        OSError: the folder cannot be made or written to; `path` is as it was.
    """
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with `write_text`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
