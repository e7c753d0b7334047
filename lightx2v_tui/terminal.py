"""What the terminal can show, decided from the environment alone: asking it costs a round trip."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from lightx2v_tui import settings

TRUECOLOUR = 1 << 24
#: Terminals whose fonts hold few letters, whatever the locale says.
PLAIN_TERMINALS = ("dumb", "unknown", "linux", "vt100", "vt102", "vt220", "ansi", "cons25")
COLOURLESS = ("dumb", "unknown", "vt100", "vt102", "vt220")
PLAIN_LOCALES = ("C", "POSIX")
#: One cell for one cell, by what the shape does: bars stay bars, marks stay marks.
SHAPES = {
    "-": "─━╌┄┈╴╶═▔–—―‒−⁃╾╼▃", "|": "‖│┃┆┊║▏▎▍▌▐▕╎▊▉▋╷╵",
    "+": "✓✔┌┐└┘├┤┬┴┼╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋╭╮╰╯✚▅", "#": "█▓▒▀■", "%": "▇", "_": "▁",
    ".": "·▂░․", "=": "▄≡", "*": "●•★◆⬤◉∗⭘▆", "o": "○◯◦°", "x": "×✗✘✕✖╳",
    "v": "▼▾↓⌄⬇", "^": "▲▴↑⌃⬆", ">": "→›▶▸»❯⮕", "<": "←‹◀◂«❮⌫⏎", '"': "“”„‟",
    "'": "‘’‚‛′", "!": "⚠", "~": "≈∼…", "u": "µ", " ": "\u00a0\u2007\u2009\u202f",
}  # fmt: skip
TRANSLATION = {ord(glyph): plain for plain, glyphs in SHAPES.items() for glyph in glyphs}
TRANSLATION[ord("🔎")] = "> "  # two cells; Textual's command palette begins with it
KEY_NAMES = {"↑": "up", "↓": "down", "←": "left", "→": "right", "⌫": "bksp", "⏎": "enter"}


@dataclass(frozen=True)
class Terminal:
    """Whether letters beyond ASCII can be shown, and how many colours; 0 are none at all."""

    unicode: bool = True
    colours: int = TRUECOLOUR

    @property
    def shades(self) -> bool:
        """True where pictures must be made of letters."""
        return not self.unicode or self.colours < 256


def here() -> Terminal:
    """The terminal of this process, as far as the user does not say otherwise."""
    return detect(os.environ, settings.load()[0].glyphs)


def detect(environment: Mapping[str, str], glyphs: str = "auto") -> Terminal:
    """Decide from an environment; `glyphs` is a setting that knows better than the locale."""
    term = environment.get("TERM", "").lower()
    unicode = _has_utf8(environment) and term not in PLAIN_TERMINALS
    if glyphs != "auto":
        unicode = glyphs == "unicode"
    return Terminal(unicode, _colours(environment, term))


def plain(text: str) -> str:
    """Replace what is not ASCII, one cell by one cell; what has no likeness becomes `?`."""
    if text.isascii():
        return text
    return "".join(_plain_letter(letter) for letter in text.translate(TRANSLATION))


def _plain_letter(letter: str) -> str:
    if letter.isascii():
        return letter
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return ""  # it stands on the letter before it, in no cell of its own
    return "??" if unicodedata.east_asian_width(letter) in "WF" else "?"


def _has_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale takes UTF-8; where none is set at all, as in containers, it does."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    values = {name: environment[name] for name in names if environment.get(name)}
    if values.get("LANG") in PLAIN_LOCALES and values.get("LC_CTYPE") == "C.UTF-8":
        del values["LC_CTYPE"]  # Python itself sets this one over a LANG of C
    if not values:
        return True
    encoding = next(iter(values.values())).partition(".")[2].partition("@")[0]
    return encoding.lower().replace("-", "") == "utf8"


def _colours(environment: Mapping[str, str], term: str) -> int:
    if "NO_COLOR" in environment or term in COLOURLESS:
        return 0
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return TRUECOLOUR
    return 256 if "256color" in term or "kitty" in term else 16
