"""Where the app keeps things; nothing is created by asking."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

NAME = "lightx2v-tui"


def data_dir() -> Path:
    """Runs and saved presets."""
    from platformdirs import user_data_path

    return user_data_path(NAME)


def cache_dir() -> Path:
    """The demo model; safe to delete."""
    from platformdirs import user_cache_path

    return user_cache_path(NAME)


def config_dir() -> Path:
    """Settings."""
    from platformdirs import user_config_path

    return user_config_path(NAME)


def presets_dir() -> Path:
    """Presets saved by name."""
    return data_dir() / "presets"


def runs_dir() -> Path:
    """One folder per run."""
    return data_dir() / "runs"


def themes_dir() -> Path:
    """The colour themes, beside the package in a checkout and in an installed wheel alike."""
    return Path(__file__).resolve().parent.parent / "themes"


def expanded(path: Path) -> Path:
    """Replace `~`; the home of nobody stays as it is written, and is then not found."""
    import os

    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for nobody


def short(path: str | Path) -> str:
    """A path as people read it: with `~` for their home."""
    path, home = Path(path), expanded(Path("~"))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def model_dirs() -> list[Path]:
    """Folders where people keep models: the guide's, home, the Hugging Face cache, here."""
    import os

    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    cache = os.environ.get("HF_HUB_CACHE") or f"{home}/hub"
    places = ["/mnt/ssd/models", "/data/ssd/models", "/opt/models", "~/models", cache]
    with suppress(FileNotFoundError):  # the current folder was deleted
        places.append(str(Path.cwd()))
    return [expanded(Path(place)) for place in places]
