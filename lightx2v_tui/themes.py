"""Colour themes: one JSON file each, with the fields of Textual's `Theme`; bad ones are named."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

MAX_BYTES = 100_000
COLOURS = (
    "primary", "secondary", "accent", "foreground", "background", "surface", "panel", "boost",
    "success", "warning", "error",
)  # fmt: skip


def load_themes(folder: Path) -> tuple[list[Theme], list[str]]:
    """Read every theme of a folder; gives the good ones, and a line for each bad one."""
    themes: list[Theme] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            themes.append(_read(path))
        except (OSError, ValueError, TypeError, RecursionError, ColorParseError) as error:
            problems.append(f"theme {path.name} is not used: {error}")
    return themes, problems


def _read(path: Path) -> Theme:
    with path.open("rb") as file:
        raw = json.loads(file.read(MAX_BYTES))
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    unknown = raw.keys() - {field.name for field in fields(Theme)}
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
    theme = Theme(**raw)
    for name in COLOURS:
        colour = getattr(theme, name)
        if colour is not None:
            Color.parse(colour)
    for name in ("name", "primary"):
        if not isinstance(getattr(theme, name), str):
            raise TypeError(f"{name} is not a text")
    if not isinstance(theme.variables, dict):
        raise TypeError("variables is not an object")
    theme.to_color_system().generate()
    return theme
