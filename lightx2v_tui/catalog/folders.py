"""A folder under inspection: its networks, its subfolders, its name, its unfinished downloads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import CheckpointError
from lightx2v_tui.catalog.components import find_components
from lightx2v_tui.catalog.files import (
    MODEL_INDEX,
    UNFINISHED,
    Listing,
    list_folder,
    read_object,
)
from lightx2v_tui.catalog.model import Component, Kind
from lightx2v_tui.catalog.repositories import hub_repository, repository_of

DOWNLOADS = Path(".cache/huggingface/download")  # where `hf download --local-dir` keeps its parts


@dataclass
class Folder:
    """A listed folder, whose weight files are read when they are first asked for."""

    listing: Listing
    _found: tuple[Component, ...] | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.listing.path

    @property
    def components(self) -> tuple[Component, ...]:
        """Every network in it.

        No cached_property: before Python 3.12 that holds a lock for all folders, and a thread
        that waits for a dead server would hold it for ever.
        """
        if self._found is None:
            self._found = find_components(self.listing)
        return self._found

    def of(self, *kinds: Kind) -> list[Component]:
        """Its components of these kinds."""
        return [component for component in self.components if component.kind in kinds]

    def below(self, names: Iterable[str], depth: int = 1) -> list[Folder]:
        """Its subfolders of these names that can be read, and theirs to a depth, each once."""
        return list(self._below(names, depth, set()))

    def _below(
        self, names: Iterable[str], depth: int, seen: set[tuple[int, int]]
    ) -> Iterator[Folder]:
        for name in sorted(self.listing.folders.intersection(names)):
            path = self.path / name
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                    continue
                seen.add((status.st_dev, status.st_ino))
                folder = Folder(list_folder(path))
            except OSError:  # told by the walk, which looks at each folder itself
                continue
            yield folder
            if depth > 1:
                yield from folder._below(folder.listing.folders, depth - 1, seen)

    def read_pipeline(self) -> Mapping[str, object]:
        """Read model_index.json; empty where there is none that can be read."""
        if MODEL_INDEX not in self.listing.files:
            return {}
        with suppress(CheckpointError):
            return read_object(self.path / MODEL_INDEX)
        return {}

    @property
    def name(self) -> str:
        """The folder's name; in the hub's cache the repository's, and which revision."""
        repository = hub_repository(self.path)
        if repository is None:
            return self.path.resolve().name
        name = repository_of(self.path)[0].rpartition("/")[2]
        with suppress(OSError, UnicodeDecodeError):
            main = (repository / "refs" / "main").read_text(encoding="ascii").strip()
            if main and main != self.path.name:
                return f"{name} @{self.path.name[:7]}"
        return name


def unfinished(folder: Folder, inner: Iterable[Folder] = ()) -> list[str]:
    """Downloads into this folder and its `inner` ones that did not end, as a problem in words."""
    found = [name for each in (folder, *inner) for name in each.listing.unfinished]
    repository = hub_repository(folder.path)
    places = [folder.path / DOWNLOADS] if repository is None else [repository / "blobs"]
    found += [name for place in places for name in _parts_below(place)]
    several = len(found) > 1
    return [f"{len(found)} download{'s' if several else ''} stopped half-way here: {found[0]}"
            f"{', …' if several else ''}"] if found else []  # fmt: skip


def _parts_below(place: Path) -> list[str]:
    names = [name for _, _, names in os.walk(place) for name in names]
    return sorted(name for name in names if name.endswith(UNFINISHED))
