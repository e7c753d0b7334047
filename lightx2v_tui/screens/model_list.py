"""The models of the first screen: which are shown, in which order, and what a filter asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lightx2v_tui.catalog import ModelRoot


@dataclass
class ModelList:
    """Models as they are found, those that run before those that do not."""

    roots: dict[str, ModelRoot] = field(default_factory=dict)
    unconfirmed: set[str] = field(default_factory=set)  # remembered from the last scan
    filter: str = ""
    _names: dict[str, int] = field(default_factory=dict)  # how many models have a name
    _runs: dict[str, bool] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def put(self, root: ModelRoot, *, confirmed: bool) -> None:
        """Add a model, or what is new about it."""
        if self.roots.get(root.key) != root:
            self._forget(root.key)
            self.roots[root.key] = root
            self._names[root.name] = self._names.get(root.name, 0) + 1
        if confirmed:
            self.unconfirmed.discard(root.key)
        else:
            self.unconfirmed.add(root.key)

    def drop(self, keys: Iterable[str]) -> None:
        """Take models out that are not there any more."""
        for key in list(keys):
            self._forget(key)
            self.roots.pop(key, None)
            self.unconfirmed.discard(key)

    def _forget(self, key: str) -> None:
        if (old := self.roots.get(key)) is not None:
            self._names[old.name] -= 1
        self._runs.pop(key, None)
        self._texts.pop(key, None)

    def doubt(self) -> None:
        """Confirm nothing any more: the disks are looked at again."""
        self.unconfirmed = set(self.roots)

    def is_twin(self, root: ModelRoot) -> bool:
        """Whether another model in the list has the same name."""
        return self._names.get(root.name, 0) > 1

    def runs(self, root: ModelRoot) -> bool:
        """Whether a video can be made with a model."""
        from lightx2v_tui.launch.runnable import reason_not_runnable

        if root.key not in self._runs:
            self._runs[root.key] = not reason_not_runnable(root)
        return self._runs[root.key]

    def shown(self) -> list[ModelRoot]:
        """What the filter lets through; as found, but what runs comes first."""
        words = self.filter.lower().split()
        found = [root for root in self.roots.values() if self._holds(root, words)]
        return sorted(found, key=lambda root: not self.runs(root))

    def _holds(self, root: ModelRoot, words: list[str]) -> bool:
        """Whether the words stand in what is known of a model, its place and its precisions."""
        if not words:
            return True
        if root.key not in self._texts:
            labels = (variant.label for variant in root.variants)
            told = (root.name, str(root.path), root.task, root.size, root.family, *labels,
                    root.disk.kind, "distilled" if root.distilled else "")  # fmt: skip
            self._texts[root.key] = "\n".join(told).lower()
        text = self._texts[root.key]
        return all(word in text for word in words)
