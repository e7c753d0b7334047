"""What the user chose once: theme and folders, as a small JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lightx2v_tui import store
from lightx2v_tui.paths import config_dir

DEFAULT_THEME = "lightx2v-dark"


@dataclass(frozen=True)
class Settings:
    """The settings file."""

    theme: str = DEFAULT_THEME
    roots: tuple[str, ...] = ()


def settings_path() -> Path:
    """Where the settings are."""
    return config_dir() / "settings.json"


def load() -> tuple[Settings, str]:
    """Read the settings; a broken file gives the defaults and a line saying so."""
    path = settings_path()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        theme, roots = raw.get("theme", DEFAULT_THEME), raw.get("roots", [])
        listed = isinstance(roots, list) and all(isinstance(root, str) for root in roots)
        if not isinstance(theme, str) or not listed:
            raise ValueError("`theme` is a text, `roots` a list of texts")
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return Settings(), f"{path} is not used: {error}"
    return Settings(theme, tuple(roots)), ""


def remember_theme(name: str) -> None:
    """Store the theme, keeping everything else; a disk that refuses is not worth a crash."""
    current, problem = load()
    if problem or current.theme == name:
        return  # a file that could not be read is not overwritten
    try:
        store.write_json(settings_path(), asdict(replace(current, theme=name)))
    except OSError:
        return
