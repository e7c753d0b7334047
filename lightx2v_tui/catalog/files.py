"""A folder's listing, kept to the names that matter, and the small JSON files beside weights."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.spec.errors import CheckpointError

WEIGHTS = (".safetensors", ".pth", ".pt", ".gguf")
INDEX = ".safetensors.index.json"
UNFINISHED = (".incomplete", ".part", ".partial", ".aria2", ".crdownload", ".tmp")
MODEL_INDEX = "model_index.json"  # of diffusers
MATTERS = (*WEIGHTS, *UNFINISHED, INDEX, MODEL_INDEX)
#: The last letters of names that matter: most names are sorted out by them alone.
TAILS = frozenset(tail for name in MATTERS for tail in (name[-3:], name[-3:].upper()))
#: Never entered: what programs keep there is not for people, or is reached another way.
SKIP = frozenset({
    "node_modules", "site-packages", "__pycache__", "proc", "sys", "dev", "blobs", "refs",
})  # fmt: skip
#: Told before each folder and file that is looked at, by whoever waits for the walk.
HEARTBEAT: ContextVar[Callable[[], None]] = ContextVar("heartbeat", default=lambda: None)
MAX_CONFIG_BYTES = 1_000_000
MAX_INDEX_BYTES = 8 << 20  # a 14B model's is a tenth of a megabyte


@dataclass(frozen=True)
class Listing:
    """One folder: its subfolders, and those of its files whose names matter."""

    place: Path | str
    folders: frozenset[str]
    files: tuple[str, ...]
    links: frozenset[str] = frozenset()  # which of the subfolders are links, to a folder or not

    @cached_property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Names of weight files, sorted."""
        return tuple(sorted(name for name in self.files if name.lower().endswith(WEIGHTS)))

    @cached_property
    def indexes(self) -> tuple[str, ...]:
        """Names of safetensors indexes, sorted."""
        return tuple(sorted(name for name in self.files if name.endswith(INDEX)))

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Names of downloads of weights that did not end."""
        stems = ((name, name.lower().rpartition(".")[0]) for name in self.files)
        return tuple(name for name, stem in stems
                     if name.lower().endswith(UNFINISHED) and stem.endswith(WEIGHTS))  # fmt: skip


def list_folder(path: Path | str) -> Listing:
    """List one folder; nothing but links is looked at more closely than by name.

    Raises:
        OSError: the folder cannot be read.
    """
    HEARTBEAT.get()()
    folders, links, files = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:  # of a large disk there are millions: nothing here is for show
            name = entry.name
            if name[-3:] in TAILS and name.lower().endswith(MATTERS):
                if name[0] != ".":
                    files.append(name)
                continue
            if entry.is_file(follow_symlinks=False) or name[0] == "." or name in SKIP:
                continue
            if entry.is_symlink():  # where it leads is not asked: that disk may not answer
                links.append(name)
                folders.append(name)
            elif entry.is_dir():
                folders.append(name)
    return Listing(path, frozenset(folders), tuple(files), frozenset(links))


def read_config(folder: Path) -> Mapping[str, object]:
    """Read `config.json` of a folder; empty where there is none.

    Raises:
        CheckpointError: the file is there but is not a JSON object.
    """
    return read_object(folder / "config.json")


def read_object(path: Path) -> Mapping[str, object]:
    """Read a small JSON file that holds an object; empty where there is no such file.

    Raises:
        CheckpointError: the file is there but is not a JSON object.
    """
    try:
        value = json.loads(_read(path, MAX_CONFIG_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _no_object(path, str(error)) from error
    if not isinstance(value, dict):
        raise _no_object(path, f"it holds a {type(value).__name__}, not an object")
    return value


def _read(path: Path, limit: int) -> bytes:
    """Read the start of a file; a pipe of that name would be waited for without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "it is not a file")
    with path.open("rb") as file:
        return file.read(limit)


def _no_object(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.parent.name}/{path.name} is not JSON",
        f"{path}: {why}",
        f"Download {path.name} again, or delete it: sizes are read from the weights.",
    )


def read_index(path: Path) -> frozenset[str]:
    """Read which files an index names.

    Raises:
        CheckpointError: it is no index, or names files outside its folder.
    """
    try:
        weight_map = json.loads(_read(path, MAX_INDEX_BYTES))["weight_map"]
        names = frozenset(weight_map.values())
        listed = frozenset(str(name) for name in names)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(
            f"{path.name} is damaged; download it again", str(path), "Download it again."
        ) from None
    outside = sorted(
        name for name in listed if name != Path(name).name or name in ("", "..") or "\0" in name
    )
    if outside:
        raise CheckpointError(
            f"{path.name} names a file outside its folder: {outside[0][:80]}",
            str(path),
            "Do not use this index; download it again from the model's own repository.",
        )
    return listed
