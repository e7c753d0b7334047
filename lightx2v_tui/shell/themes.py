"""Colour themes: one JSON file each, with the fields of Textual's `Theme`; bad ones are named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

MAX_BYTES = 100_000
ANSI_VARIABLES = ("ansi-background", "ansi-foreground")  # Textual's own styles use them
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
        text = file.read(MAX_BYTES)
    try:
        raw = json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is not JSON from {where} on; mend or delete it") from error
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    for name, value in raw.items():
        _check_field(name, value)
    theme = Theme(**raw)
    defaults = replace(theme, variables={}).to_color_system().generate()
    for name, value in theme.variables.items():
        if defaults.get(name, "").startswith("#"):
            Color.parse(value)
    theme.to_color_system().generate()
    absent = [name for name in ANSI_VARIABLES if theme.ansi and name not in theme.variables]
    if absent:
        raise ValueError(f"a theme with ansi needs the variable {absent[0]}")
    return theme


def _check_field(name: str, value: object) -> None:
    """Check one field before Textual sees it: what it raises for a wrong kind ends the app."""
    if name not in {field.name for field in fields(Theme)}:
        raise ValueError(f"unknown field {name!r}")
    expected: type | tuple[type, ...] = str
    if name in ("dark", "ansi"):
        expected = bool
    elif name in ("luminosity_spread", "text_alpha"):
        expected = (int, float)
    elif name == "variables":
        expected = dict
    if not isinstance(value, expected):
        raise TypeError(f"{name} has a value of a wrong kind: {value!r}")
    if name in COLOURS:
        Color.parse(str(value))
    if isinstance(value, dict):
        for variable, text in value.items():
            if not isinstance(text, str):
                raise TypeError(f"the variable {variable} is not a text: {text!r}")
