"""What was last used with each model: one preset file a model, in a folder of the app's own.

A file that cannot be read counts as none, and the next run with its model replaces it; the others
are not touched. Nothing heavy is imported: the first frame asks for the newest.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightx2v_tui.paths import data_dir

if TYPE_CHECKING:
    from lightx2v_tui.presets import Preset

KEPT = 100  # files; a model has one for each of its DiTs
MAX_BYTES = 4_000_000
#: What a preset names on the disk, and the precision that goes with each.
PLACES = {
    "dit": "dit_precision", "t5": "t5_precision", "clip": "clip_precision", "tokenizer": "",
    "vae": "", "tiny_vae": "", "image": "",
}  # fmt: skip


def folder() -> Path:
    """Where the files are."""
    return data_dir() / "last_used"


def remember(preset: Preset) -> str:
    """Keep a preset as the one last used with its model; gives a line that says why not.

    A preset without a model is not kept.
    """
    from lightx2v_tui import presets

    if preset.model_path is None:
        return ""
    path = folder() / _name(preset.model_path.absolute(), preset.dit)
    try:
        presets.save(preset, path)
        now = time.time_ns()  # finer than what the disk writes by itself
        os.utime(path, ns=(now, now))
        for old in _newest_first()[KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, presets.PresetError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "why", "") or str(error)
        return f"What was used is not remembered: {path}: {why}"
    return ""


def for_model(path: Path, dits: Collection[Path] | None = None) -> Preset | None:
    """The preset last used with the model in a folder; of several models, with one of `dits`.

    What it names and is gone is left out, so that the best of what is there takes its place; a
    preset whose DiT is gone is none.
    """
    from lightx2v_tui import presets

    start = _name(path.absolute(), None).partition("-")[0]
    for file in _newest_first(f"{start}-"):
        with suppress(presets.PresetError):
            preset = presets.read(file)
            fits = preset.model_path is not None and preset.model_path.absolute() == path.absolute()
            if fits and (dits is None or preset.dit is None or preset.dit.absolute() in dits):
                there = _there(preset)
                if there.dit is not None or preset.dit is None:
                    return there
    return None


def newest() -> Path | None:
    """The folder of the model last used; None where none was, or nothing tells."""
    for file in _newest_first():
        with suppress(OSError, ValueError, RecursionError):
            raw = json.loads(_text(file))
            path = raw.get("model_path") if isinstance(raw, dict) else None
            if isinstance(path, str) and path.strip() and "\0" not in path:
                return Path(path)
    return None


def _there(preset: Preset) -> Preset:
    gone = [
        name for name in PLACES if (path := getattr(preset, name)) and not os.path.lexists(path)
    ]
    emptied = {key: None for name in gone for key in (name, PLACES[name]) if key}
    return replace(preset, **emptied)  # type: ignore[arg-type] # all of them may be None


def _newest_first(start: str = "") -> list[Path]:
    with suppress(OSError), os.scandir(folder()) as entries:
        found = [
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
            for entry in entries
            if entry.name.startswith(start)
            and entry.name.endswith(".json")
            and entry.name[0] != "."
            and entry.is_file(follow_symlinks=False)
        ]
        return [folder() / name for _, name in sorted(found, reverse=True)]
    return []


def _text(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        return opened.read(MAX_BYTES)


def _name(model: Path, dit: Path | None) -> str:
    """A file's name: models of one folder begin alike."""
    from hashlib import sha256

    parts = [os.fsencode(model), os.fsencode(dit.absolute()) if dit else b""]
    return "-".join(sha256(part).hexdigest()[:16] for part in parts) + ".json"
