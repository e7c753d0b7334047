"""LightX2V config JSON <-> a typed `Preset`.

Reads what the guide prints and what people write (comments, trailing commas, both spellings of
renamed keys, `mm_config.mm_type`), keeps keys it does not know, and writes a file that LightX2V
of October 2025 and of today both accept. The app's own values stand under `lightx2v_tui`.
"""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lightx2v_tui.presets import jsonc
from lightx2v_tui.presets.keys import (
    KEYS,
    MM_KEYS,
    MM_TYPE,
    OWN,
    OWN_KEYS,
    SPELLINGS,
    Key,
    ValueKind,
    nearest,
    passed_on,
)
from lightx2v_tui.presets.model import Preset, PresetError, with_values
from lightx2v_tui.presets.networks import NETWORKS, WrongValue, precision_of, read_network
from lightx2v_tui.presets.writing import dumps, save, to_json

__all__ = [
    "Preset", "PresetError", "dumps", "is_own", "parse", "read", "read_text", "save", "to_json",
    "with_values",
]  # fmt: skip

MAX_PRESET_BYTES = 4_000_000
MAX_HINTS = 20  # notes of one sort that are said one by one


def read(path: Path, assignments: tuple[str, ...] = ()) -> Preset:
    """Read a preset file; `assignments` are `KEY=VALUE` texts that replace keys of it.

    Raises:
        PresetError: the file cannot be read, is not JSON, or a key has a value of a wrong kind.
    """
    return parse(read_text(path), str(path), assignments)


def read_text(path: Path) -> str:
    """The text of a preset file.

    Raises:
        PresetError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        content = _content(path)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path no file can have
        why = getattr(error, "strerror", None) or str(error)
        raise PresetError(
            f"The preset {path.name} cannot be read", f"{path}: {why}", "Check the path."
        ) from error
    if len(content) > MAX_PRESET_BYTES:
        raise PresetError(
            f"The preset {path.name} is too large",
            f"{path}: more than {MAX_PRESET_BYTES // 1_000_000} MB",
            "Give a LightX2V config file.",
        )
    return text


def is_own(path: Path) -> bool:
    """True where the file is as this app writes it, so that replacing it loses no one's words."""
    try:
        text = _content(path).decode() if path.is_file() else ""
        return text == dumps(parse(text, str(path)))
    except (OSError, ValueError, PresetError):
        return False


def _content(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for whoever writes
        raise OSError(errno.EINVAL, "it is not a regular file")
    with path.open("rb") as file:
        return file.read(MAX_PRESET_BYTES + 1)


def parse(text: str, source: str, assignments: tuple[str, ...] = ()) -> Preset:
    """Parse the text of a preset; `source` is how errors call it."""
    raw = _object(text, source)
    for assignment in assignments:
        _assign(raw, assignment)
    assigned = frozenset(assignment.partition("=")[0].strip() for assignment in assignments)
    place = Source(source, text, assigned)
    try:
        return _typed(raw, place)
    except WrongValue as error:
        raise _wrong(place, error) from None


def _object(text: str, source: str) -> dict[str, Any]:
    try:
        raw = jsonc.loads(text)
    except jsonc.JsonError as error:
        what = f"`{error.key}` has a wrong value" if error.key else "this is not JSON"
        fix = "Comments and trailing commas are fine; quotes, colons and brackets must match."
        if error.key:
            fix = f"Give `{error.key}` a finite number, or remove it."
        raise PresetError(f"{source}, line {error.line}: {what}", str(error), fix) from None
    if not isinstance(raw, dict):
        raise PresetError(
            f"{source}: a preset is a JSON object", f"it holds a {_name(raw)}", "Start it with {."
        )
    return raw


@dataclass(frozen=True)
class Source:
    """Where a preset came from, to say in which line something is wrong."""

    name: str
    text: str
    assigned: frozenset[str] = frozenset()

    @cached_property
    def layout(self) -> jsonc.Layout:
        """The lines of the keys."""
        return jsonc.layout(self.text)

    def at(self, *path: str) -> str:
        """Name the place of a key: the file, and the line where it is known."""
        for key in (".".join(path), path[-1]):
            if key in self.assigned:
                return f"--set {key}"
        return self.at_line(self.layout.lines.get(path, 0))

    def at_line(self, line: int) -> str:
        """Name a line of the file; 0 is the file as a whole."""
        return f"{self.name}, line {line}" if line else self.name


def _assign(raw: dict[str, Any], assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise PresetError(
            f"--set {assignment} cannot be read", "it needs the form KEY=VALUE", "e.g. --set fps=24"
        )
    try:
        parsed: object = jsonc.strict(value)
    except jsonc.JsonError:
        parsed = value
    path = tuple(key.strip().split("."))
    if path[0] in OWN_KEYS and len(path) == 1:
        path = (OWN, *path)
    if len(path) > jsonc.MAX_DEPTH // 2:
        raise PresetError(f"--set {assignment[:40]}…", "too many dots", "Set a key of the preset.")
    *parents, leaf = path
    table = raw
    for parent in parents:
        below = table.setdefault(parent, {})
        if not isinstance(below, dict):
            raise PresetError(f"--set {assignment}", f"{parent} is not an object", "Set it whole.")
        table = below
    _forget_other_spellings(raw, path)
    table[leaf] = parsed


def _forget_other_spellings(raw: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove what else says the same as a key: the value that is set must win."""
    for spelling in SPELLINGS.get(path[-1], ()):
        raw.pop(spelling, None)
    if path == ("mm_config", "mm_type"):
        raw.pop("dit_quant_scheme", None)
        raw.pop("dit_quantized", None)
    elif path == ("dit_quant_scheme",):
        raw.pop("dit_quantized", None)
        if isinstance(raw.get("mm_config"), dict):
            raw["mm_config"].pop("mm_type", None)


def _typed(raw: Mapping[str, Any], source: Source) -> Preset:
    own, config = _table(raw, OWN), _table(raw, "mm_config")
    said = {name: _convert(raw, key, name) for name, key in KEYS.items() if name in raw}
    said["mm_type"] = _convert(config, MM_TYPE, "mm_config", "mm_type")
    said = {name: value for name, value in said.items() if value is not None}
    values = {KEYS[name].field: said[name] for name in KEYS if name in said}
    values |= {key.field: _convert(own, key, OWN, name) for name, key in OWN_KEYS.items()}
    for kind in NETWORKS:
        network = read_network(kind, said)
        values |= {kind: network.path, f"{kind}_precision": network.precision}
    known = {*KEYS, OWN, "mm_config"}
    extra = {key: value for key, value in raw.items() if key not in known}
    own_extra = {key: value for key, value in own.items() if key not in OWN_KEYS}
    fields = Preset.__dataclass_fields__
    return Preset(
        **{key: value for key, value in values.items() if key in fields},
        extra=extra,
        own_extra=own_extra,
        mm_extra={key: value for key, value in config.items() if key != "mm_type"},
        notes=tuple(_notes(raw, said, source)),
        words=_words(raw, said),
    )


def _words(raw: Mapping[str, object], said: Mapping[str, object]) -> dict[str, object]:
    """What the file says of known keys, as it says it; its paths in full."""
    return {
        name: value if isinstance(value, (Path, str)) else raw.get(name, value)
        for name, value in said.items()
    }


def _table(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = raw.get(name)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise WrongValue((name,), "an object", table)
    return table


def _convert(table: Mapping[str, object], key: Key, *path: str) -> Any:  # noqa: ANN401 - any field's
    value = table.get(path[-1])
    converted = None if value is None else key.kind.convert(value)
    if converted is None and value is not None:
        raise WrongValue(path, key.kind.expected, value)
    return converted


def _wrong(source: Source, error: WrongValue) -> PresetError:
    path, name = error.path, error.path[-1]
    shown = json.dumps(error.got, ensure_ascii=False, default=str)[:80]
    kinds = {name: key.kind for name, key in (KEYS if len(path) == 1 else OWN_KEYS).items()}
    meant = _meant(error.got, kinds.get(name))
    fix = f"Write `{name}` as {meant}." if meant else f"Correct `{name}`, or remove it"
    return PresetError(
        f"{source.at(*path)}: `{name}` has a wrong value",
        f"expected {error.expected}, got {shown}",
        fix if meant else f"{fix} to use the default.",
    )


def _meant(got: object, kind: ValueKind | None) -> str:
    """The value that somebody meant who wrote `"true"` for true, or 4.0 for 4."""
    guess: object = None
    if isinstance(got, str):
        try:
            guess = jsonc.strict(got.strip().lower())
        except jsonc.JsonError:
            return ""
    elif isinstance(got, float) and got.is_integer():
        guess = int(got)
    elif type(got) is int and got in (0, 1):
        guess = bool(got)
    fits = kind is not None and guess is not None and kind.convert(guess) is not None
    return json.dumps(guess) if fits else ""


def _notes(raw: Mapping[str, Any], said: Mapping[str, Any], source: Source) -> Iterator[str]:
    duplicates = source.layout.duplicates
    for twice in duplicates[:MAX_HINTS]:
        place = source.at_line(twice.line)
        yield f"{place}: `{twice.key}` stands on line {twice.first} too; the last one is used"
    for name, spellings in SPELLINGS.items():
        for other in spellings:
            if name in said and other in said and said[name] != said[other] and name < other:
                newest = next(key for key in reversed(KEYS) if key in (name, other))
                yield f"{source.at(name)}: `{name}` and `{other}` disagree; `{newest}` is used"
    schemes = [said[name] for name in ("dit_quant_scheme", "mm_type") if name in said]
    if len({precision_of(scheme) for scheme in schemes}) > 1:
        place = source.at("mm_config", "mm_type")
        yield f"{place}: `mm_type` and `dit_quant_scheme` disagree; the second is used"
    yield from _unknown_keys(raw, source)


def _unknown_keys(raw: Mapping[str, Any], source: Source) -> Iterator[str]:
    known = {*KEYS, OWN, "mm_config"}
    paths: list[tuple[str, ...]]
    paths = [(key,) for key in raw if key not in known and (key in OWN_KEYS or not passed_on(key))]
    for table, keys in ((OWN, tuple(OWN_KEYS)), ("mm_config", MM_KEYS)):
        paths += [(table, key) for key in _table(raw, table) if key not in keys]
    for path in paths[:MAX_HINTS]:
        yield f"{source.at(*path)}: {_unknown(path)}"
    if len(paths) > MAX_HINTS:
        yield f"{source.name}: {len(paths) - MAX_HINTS} more keys are not known and kept"


def _unknown(path: tuple[str, ...]) -> str:
    *table, key = path
    if key in OWN_KEYS:
        return f"`{key}` is kept and not used; it belongs under `{OWN}`"
    near = nearest(key)
    if table:
        near = nearest(key, OWN_KEYS if table == [OWN] else MM_KEYS)
    return f"`{key}` is not known and is kept" + (f"; did you mean `{near}`?" if near else "")


def _name(value: object) -> str:
    return {list: "list", str: "string", type(None): "null"}.get(type(value), "number or boolean")
