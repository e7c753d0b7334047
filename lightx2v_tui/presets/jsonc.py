"""JSON as people write it: `//` and `/* */` comments and trailing commas, with honest lines.

Comments are replaced by spaces, so that every line and column of an error is the file's own.
What strict JSON has no word for (NaN, Infinity, 1e999) is refused, and so is what Python could
read but not write again.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import NoReturn

MAX_DEPTH = 64  # of objects and lists; Python writes less deep than it reads
MAX_DIGITS = 4000  # of one number; Python refuses a few more
KEPT_DEPTH = 3  # of the objects whose keys have lines
# What is never closed is one token to the end: looked for again at each place, it would take ages.
_TOKENS = re.compile(
    r"""
    (?P<string>"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))
    |(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<rest>/\*.*)
    |(?P<mark>[\[\]{}:,]|[^\s"/\[\]{}:,]+|/)
    """,
    re.VERBOSE | re.DOTALL,
)


class JsonError(ValueError):
    """The text is not JSON; `line` counts from 1, `key` is the one whose value is wrong."""

    def __init__(self, message: str, line: int = 1, key: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.key = key


class _NumberError(ValueError):
    """A number that JSON does not have; `text` is how it was written."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True)
class Duplicate:
    """A key that stands twice in one object; the last one counts."""

    key: str
    line: int
    first: int


@dataclass(frozen=True)
class Layout:
    """On which lines the keys of a text stand, by the objects they stand in."""

    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)


def blank(text: str) -> str:
    """Replace comments and trailing commas by spaces; strings stay untouched."""

    kept = list(text)
    before, comma = "", -1  # the last token, and where it is a comma behind a value
    for match in _TOKENS.finditer(text):
        if match["comment"] is not None:
            start, end = match.span()
            kept[start:end] = re.sub(r"[^\n]", " ", match[0])
            continue
        token = match[0][0]
        if token in "]}" and comma >= 0:
            kept[comma] = " "
        comma = match.start() if token == "," and before not in ("", "{", "[", ",", ":") else -1
        before = token
    return "".join(kept)


def loads(text: str) -> object:
    """Parse JSON with comments and trailing commas.

    Raises:
        JsonError: the text is not JSON, or nested deeper than is kept.
    """
    return strict(blank(text.removeprefix("\ufeff")))


def strict(text: str) -> object:
    """Parse JSON as the standard has it: no comments, no trailing commas, no NaN.

    Raises:
        JsonError: the text is not JSON, or nested deeper than is kept.
    """
    _check_depth(text)
    try:
        return json.loads(
            text, parse_constant=_refuse, parse_float=_finite_number, parse_int=_whole_number
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at column {error.colno}", error.lineno) from None
    except _NumberError as error:
        raise _bad_number(text, error.text) from None


def _refuse(text: str) -> NoReturn:
    raise _NumberError(text)


def _finite_number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _whole_number(text: str) -> int:
    return int(text) if len(text) <= MAX_DIGITS else _refuse(text)


def _check_depth(text: str) -> None:
    depth = 0
    for match in _TOKENS.finditer(text):
        if match[0] in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                line = _line(text, match.start())
                raise JsonError(f"it is nested more than {MAX_DEPTH} deep", line)
        elif match[0] in ("]", "}"):
            depth -= 1


def _bad_number(text: str, written: str) -> JsonError:
    """Say where the number stands: Python's reader knows only how it is written."""
    key = before = ""
    for match in _TOKENS.finditer(text):
        if match[0] == ":":
            key = before
        elif match[0] == written:
            shown = written if len(written) < 40 else f"{written[:20]}… ({len(written)} digits)"
            name = str(json.loads(key)) if key else ""
            return JsonError(f"expected a number, got {shown}", _line(text, match.start()), name)
        before = match[0]
    return JsonError("it holds a number that JSON does not have")


def layout(text: str) -> Layout:
    """Find the lines of all keys of a text; those inside lists are not told apart."""
    found = Layout()
    seen: list[dict[str, int]] = []  # the keys of each object that is open, and their lines
    path: list[str] = []
    brackets: list[str] = []
    line, place, before = 1, 0, ""
    for match in _TOKENS.finditer(text):
        if match["comment"] is not None:
            continue
        token = match[0]
        if token in ("{", "["):
            brackets.append(token)
            seen.append({})
            path.append("")
        elif token in ("}", "]") and brackets:
            brackets.pop()
            seen.pop()
            path.pop()
        elif token == ":" and brackets and brackets[-1] == "{" and before[:1] == '"':
            path[-1] = _unquoted(before)
            _note(found, tuple(path), seen[-1], line)
        else:  # the line of a key is that of its name, not of its colon
            line += text.count("\n", place, match.start())
            place, before = match.start(), token
    return found


def _note(found: Layout, path: tuple[str, ...], seen: dict[str, int], line: int) -> None:
    key = path[-1]
    if key in seen:
        found.duplicates.append(Duplicate(key, line, seen[key]))
    seen.setdefault(key, line)
    if len(path) <= KEPT_DEPTH:
        found.lines[path] = line


def _unquoted(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
