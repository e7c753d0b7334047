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
    |(?P<comma>,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[\]}]))
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

    def spaces(match: re.Match[str]) -> str:
        if match["string"] is not None:
            return match[0]
        return re.sub(r"[^\n]", " ", match[0])

    return _TOKENS.sub(spaces, text)


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


def line_of(text: str, key: str) -> int:
    """The line, from 1, of the first place where `key` is used as a key; 0 if nowhere."""
    match = re.search(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", blank(text))
    return text.count("\n", 0, match.start()) + 1 if match else 0
