"""What a path that is being typed may become: the entries of its folder that begin alike."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from lightx2v_tui.output import printable

MOST = 50  # candidates that are worth showing; nobody reads further, but types on


@dataclass(frozen=True)
class Completions:
    """Whole texts that the field may hold next, how many there are, or why there are none."""

    candidates: tuple[str, ...] = ()
    total: int = 0
    problem: str = ""


def complete(
    typed: str, suffixes: Container[str] | None = None, *, folders: bool = False
) -> Completions:
    """Find what begins with what is typed: folders, and files with `suffixes` (None: all).

    Hidden entries come once their dot is typed. Upper and lower case are one where nothing has
    the case that was typed. Names that cannot be typed are left out.
    """
    if typed == "~":
        return Completions(("~/",), 1)
    head, _, start = typed.rpartition("/")
    head = typed[: len(typed) - len(start)]
    try:
        place = os.path.expanduser(head or ".")  # noqa: PTH111 - a Path raises for nobody's home
        with os.scandir(place) as entries:
            begun = [entry for entry in entries if _fits(entry.name, start.lower())]
            kinds = [(entry.name, _is_folder(entry)) for entry in begun]
    except (OSError, ValueError) as error:  # ValueError: a path that no folder can have
        return Completions(problem=getattr(error, "strerror", None) or str(error))
    wanted = [(name, folder) for name, folder in kinds if folder or (not folders and (
        suffixes is None or Path(name).suffix.lower() in suffixes))]  # fmt: skip
    found = [one for one in wanted if one[0].startswith(start)] or wanted
    first = nsmallest(MOST, found, key=lambda one: (one[0].lower(), one[0]))
    return Completions(
        tuple(f"{head}{name}{'/' if folder else ''}" for name, folder in first), len(found)
    )


def _fits(name: str, start: str) -> bool:
    hidden = name.startswith(".") and not start.startswith(".")
    return not hidden and name.lower().startswith(start) and _can_be_typed(name)


def _can_be_typed(name: str) -> bool:
    return printable(name) == name and not any("\ud800" <= letter <= "\udfff" for letter in name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into what may not be read
        return False
