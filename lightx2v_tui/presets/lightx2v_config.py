"""What is compared: a config as its file says it, and what stands on disk around it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightx2v_tui.catalog import Component
from lightx2v_tui.presets.model import Preset

USED, KEPT = "used", "kept, not used"


@dataclass(frozen=True)
class Difference:
    """A key that does not mean the same to all three."""

    key: str
    then: str  # LightX2V of October 2025
    now: str  # LightX2V of August 2026
    here: str


@dataclass(frozen=True)
class FolderConfig:
    """A config.json that LightX2V reads after the preset, and over it; `broken` says why not."""

    path: Path
    values: Mapping[str, object] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What stands around a preset: how its file is written, and what is on disk."""

    strict: bool = True  # the file is JSON without comments and trailing commas
    configs: tuple[FolderConfig, ...] = ()
    exists: Callable[[Path], bool] = os.path.exists  # unlike Path.exists, it never raises
    dit: Component | None = None  # the one that is used here
    installed: Callable[[str], bool] = field(default=lambda _: True)  # an attention operator


@dataclass(frozen=True)
class Config:
    """The keys of a preset as its file has them."""

    preset: Preset
    said: Mapping[str, object]
    around: Surroundings

    @property
    def quantized(self) -> bool:
        """True where LightX2V takes the DiT as quantized."""
        return self.said.get("dit_quantized") is True

    @property
    def distilled(self) -> bool:
        """True where LightX2V samples as step-distilled models want it."""
        return "distill" in (self.preset.model_cls or "")


Rule = Callable[[Config], Iterator[Difference]]


def shown(value: object) -> str:
    """A value as the file has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"
