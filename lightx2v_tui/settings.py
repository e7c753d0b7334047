"""What the user chose once: theme, folders, keys, as a small JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lightx2v_tui import store
from lightx2v_tui.paths import config_dir

DEFAULT_THEME = "lightx2v-dark"
GLYPHS = ("auto", "unicode", "ascii")


@dataclass(frozen=True)
class Settings:
    """The settings file."""

    theme: str = DEFAULT_THEME
    roots: tuple[str, ...] = ()
    #: Keys instead of those an action has: the id of its binding, and keys divided by commas.
    keymap: Mapping[str, str] = field(default_factory=dict)
    preview: bool = True  # whether the run screen draws previews
    glyphs: str = "auto"  # one of GLYPHS: whether the terminal has letters beyond ASCII


def settings_path() -> Path:
    """Where the settings are."""
    return config_dir() / "settings.json"


def load() -> tuple[Settings, str]:
    """Read the settings; a broken file gives the defaults and a line saying so."""
    path = settings_path()
    try:
        return _typed(json.loads(path.read_text(encoding="utf-8"))), ""
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return Settings(), f"{path} is not used: {error}"


def change(**values: object) -> str:
    """Store some settings, keeping all others; gives a line that says why not, or nothing.

    A file that could not be read is not overwritten.
    """
    current, problem = load()
    changed = replace(current, **values)  # type: ignore[arg-type] # checked by the field names
    if problem or changed == current:
        return problem
    try:
        store.write_json(settings_path(), asdict(changed))
    except OSError as error:
        return f"The settings were not stored: {settings_path()}: {error.strerror or error}"
    return ""


def _typed(raw: object) -> Settings:
    if not isinstance(raw, dict):
        raise TypeError("it is not a JSON object")
    default = Settings()
    theme, preview = raw.get("theme", default.theme), raw.get("preview", default.preview)
    roots, keymap = raw.get("roots", []), raw.get("keymap", {})
    if not isinstance(theme, str) or not _texts(roots, list):
        raise ValueError("`theme` is a text, `roots` a list of texts")
    if not _texts(keymap, dict) or not isinstance(preview, bool):
        raise ValueError("`keymap` has texts for texts, `preview` is true or false")
    glyphs = raw.get("glyphs", default.glyphs)
    if glyphs not in GLYPHS:
        raise ValueError(f"`glyphs` is one of {', '.join(GLYPHS)}")
    return Settings(theme, tuple(roots), keymap, preview, glyphs)


def _texts(value: object, kind: type) -> bool:
    """True where a list, or the values of an object, are texts."""
    values = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) and all(isinstance(text, str) for text in values)  # type: ignore[attr-defined] # a list or a dict's values
