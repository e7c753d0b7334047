"""Every key of every screen, as the settings list them: found in the classes, not kept by hand."""

from __future__ import annotations

import importlib
import pkgutil
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from types import ModuleType

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, REPLACED_KEYS, Keys
from textual.screen import ModalScreen, Screen

MODIFIERS = frozenset({"ctrl", "shift", "alt", "super", "hyper", "meta"})
NAMED_KEYS = frozenset(key.value for key in Keys if not key.value.startswith("<"))
MOST_WORDS = 10  # in the name of a letter that has a key
EVERYWHERE = "Everywhere"
#: What has keys, in the order it is listed; a dialog hides all other keys, a field some.
PLACES = ("app", "screen", "field", "dialog")


@dataclass(frozen=True)
class KnownKey:
    """One action with keys: where it works, what it does, and the keys it has by itself."""

    id: str
    context: str
    keys: tuple[str, ...]
    description: str
    tooltip: str
    place: str  # one of PLACES


def known_keys(app: type[DOMNode]) -> tuple[KnownKey, ...]:
    """The keys of the app, its screens and its widgets, by context."""
    found = {key.id: key for owner in owners(app) for key in _keys_of(owner)}
    return tuple(sorted(found.values(), key=lambda key: (PLACES.index(key.place), key.context)))


def owners(app: type[DOMNode]) -> list[type[DOMNode]]:
    """Every class of this project that has keys; the modules of all screens are imported."""
    from lightx2v_tui import screens, widgets

    modules = [*_modules_of(screens), *_modules_of(widgets)]
    classes = [app, *(value for module in modules for value in vars(module).values())]
    return [
        value
        for value in dict.fromkeys(c for c in classes if isinstance(c, type))
        if issubclass(value, DOMNode)
        and value.__module__.startswith("lightx2v_tui.")
        and "BINDINGS" in vars(value)
    ]


def bindings_of(owner: type[DOMNode]) -> Iterator[Binding]:
    """What a class itself binds."""
    for binding in vars(owner).get("BINDINGS", ()):
        yield binding if isinstance(binding, Binding) else Binding(*binding)


def context_of(owner: type[DOMNode]) -> str:
    """How people call a class: its name in words."""
    if place_of(owner) == "app":
        return EVERYWHERE
    words = re.findall("[A-Z][a-z]*", owner.__name__.removesuffix("Screen"))
    return " ".join(words).capitalize()


def place_of(owner: type[DOMNode]) -> str:
    """Which of PLACES a class is."""
    if issubclass(owner, App):
        return "app"
    if issubclass(owner, ModalScreen):
        return "dialog"
    return "screen" if issubclass(owner, Screen) else "field"


def keys_now(key: KnownKey, keymap: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of an action, as the user wants them."""
    return tuple(keymap[key.id].split(",")) if key.id in keymap else key.keys


def conflict(
    key: KnownKey, wanted: str, known: tuple[KnownKey, ...], keymap: Mapping[str, str]
) -> KnownKey | None:
    """What else has a key where it would be wanted: in the same place, or everywhere."""
    for other in known:
        meets = other.context == key.context or {key.place, other.place} == {"app", "screen"}
        if other.id != key.id and meets and wanted in keys_now(other, keymap):
            return other
    return None


def checked(
    keymap: Mapping[str, str], known: tuple[KnownKey, ...]
) -> tuple[dict[str, str], list[str]]:
    """What of a keymap can be used, and a line for each thing that cannot."""
    ids = {key.id for key in known}
    used, problems = {}, []
    for name, keys in keymap.items():
        wrong = [key for key in keys.split(",") if not is_key(key)]
        if name not in ids:
            problems.append(f"settings: no action is called {name[:40]!r}")
        elif wrong:
            problems.append(f"settings: {name} has no key {wrong[0][:40]!r}")
        else:
            used[name] = ",".join(normal(key) for key in keys.split(","))
    return used, problems


def is_key(text: str) -> bool:
    """True where a text names a key as Textual calls it: `a`, `ctrl+s`, `f5`, `question_mark`."""
    *modifiers, key = text.strip().split("+") if text.strip() != "+" else ["+"]
    if not MODIFIERS.issuperset(modifiers):
        return False
    if len(key) == 1:
        return key.isprintable() and not key.isspace()
    name = REPLACED_KEYS.get(key, key)
    if key in NAMED_KEYS or name in NAMED_KEYS or key in KEY_NAME_REPLACEMENTS.values():
        return True
    return _is_letter(name)


def _is_letter(name: str) -> bool:
    """True for the name of a letter, in which Textual writes blanks and hyphens as `_`."""
    first, *rest = name.split("_")
    if len(rest) > MOST_WORDS:
        return False
    for marks in product(" -", repeat=len(rest)):
        spelt = first + "".join(mark + word for mark, word in zip(marks, rest, strict=True))
        with suppress(KeyError):
            return bool(unicodedata.lookup(spelt))
    return False


def normal(key: str) -> str:
    """A key as Textual calls it: `question_mark` for `?`."""
    key = key.strip()
    if len(key) == 1 and not key.isalnum():
        name = unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")
        return KEY_NAME_REPLACEMENTS.get(name, name)
    return key


def _modules_of(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(info.name)


def _keys_of(owner: type[DOMNode]) -> Iterator[KnownKey]:
    for binding in bindings_of(owner):
        if binding.id:
            keys = tuple(normal(key) for key in binding.key.split(","))
            yield KnownKey(
                binding.id,
                context_of(owner),
                keys,
                binding.description,
                binding.tooltip,
                place_of(owner),
            )
