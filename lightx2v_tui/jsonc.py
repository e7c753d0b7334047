"""JSON as people write it: `//` and `/* */` comments and trailing commas, with honest lines.

Comments are replaced by spaces, so that every line and column of an error is the file's own.
"""

from __future__ import annotations

import json
import re

_TOKENS = re.compile(
    r"""
    (?P<string>"(?:[^"\\]|\\.)*")
    |(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<mark>[^\s"/]|/)
    """,
    re.VERBOSE | re.DOTALL,
)


class JsonError(ValueError):
    """The text is not JSON; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


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
        JsonError: the text is not JSON, or nested deeper than Python can read.
    """
    try:
        return json.loads(blank(text.removeprefix("\ufeff")))
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at column {error.colno}", error.lineno) from None
    except RecursionError:
        raise JsonError("it is nested too deeply", 1) from None
    except ValueError as error:  # a number with more digits than Python reads
        raise JsonError(str(error), 1) from None


def line_of(text: str, *path: str) -> int:
    """The line, from 1, of a key that stands in the objects named before it; 0 if nowhere."""
    return line_in(blank(text), *path)


def line_in(blanked: str, *path: str) -> int:
    """The same in a text that `blank` has already gone over."""
    start, place = 0, -1
    for key in path:
        match = re.compile(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:").search(
            blanked, start
        )
        if match is None:
            return 0
        start, place = match.end(), match.start()
    return blanked.count("\n", 0, place) + 1 if place >= 0 else 0
