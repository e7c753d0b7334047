"""Terminals that lack letters or colours, as real ones: what leaves the app fits them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pyte
import pytest

from tests.terminal import ESCAPE, Terminal

SGR = re.compile(r"\x1b\[([0-9;:]*)m")
PLAIN_COLOURS = {*range(30, 38), *range(40, 48), *range(90, 98), *range(100, 108)}


def walked(demo_model: Path, env: Mapping[str, str], columns: int = 80, rows: int = 24) -> Terminal:
    """An app that has shown every screen that needs no run; it has ended."""
    arguments = ("demo", "--dest", str(demo_model.parent))
    with Terminal.app(*arguments, env=env, columns=columns, rows=rows) as terminal:
        terminal.wait("Generate")
        terminal.rest(0.5)
        for key, seconds in (
            ("?", 0.4), (ESCAPE, 0.4), (ESCAPE, 0.6), ("?", 0.4), (ESCAPE, 0.4), ("h", 0.6),
            (",", 1.0), ("\t", 0.2), ("\t", 0.2), ("\t", 0.2), ("\r", 0.4), (ESCAPE, 0.4),
            (ESCAPE, 0.4),
        ):  # fmt: skip
            terminal.press(key)
            terminal.rest(seconds)
    return terminal


def colours_of(written: bytes) -> set[str]:
    """The kinds of colour that were sent: `true`, `256`, `16`."""
    kinds = set()
    for match in SGR.finditer(written.decode(errors="replace")):
        codes = [int(code or 0) for code in re.split("[;:]", match[1])]
        while codes:
            code = codes.pop(0)
            if code in (38, 48):
                kinds.add("true" if codes[0] == 2 else "256")
                del codes[: 4 if codes[0] == 2 else 2]
            elif code in PLAIN_COLOURS:
                kinds.add("16")
    return kinds


def shown(terminal: Terminal, columns: int = 80, rows: int = 24) -> str:
    """What an emulator makes of everything that was written."""
    screen = pyte.Screen(columns, rows)
    text = re.sub(r"\x1b\[[?>=<][0-9;:]*[$]?[a-zA-Z](?<![hl])", "", terminal.written.decode())
    pyte.Stream(screen).feed(re.sub(r"\x1b[P_\]X^].*?(?:\x1b\\|\x07)", "", text))
    return "\n".join(screen.display)


@pytest.mark.parametrize(
    "env",
    [{"LC_ALL": "C"}, {"LANG": "C", "LC_ALL": "POSIX"}, {"TERM": "linux", "COLORTERM": ""}],
    ids=["C", "POSIX", "linux"],
)
def test_without_unicode_every_byte_is_ascii(demo_model: Path, env: Mapping[str, str]) -> None:
    terminal = walked(demo_model, env)
    assert "Settings" in terminal.text
    assert "The keys of this screen" in terminal.text
    assert not [byte for byte in terminal.written if byte >= 0x80]


def test_with_unicode_the_lines_are_drawn_as_lines(demo_model: Path) -> None:
    assert "─" in walked(demo_model, {"LANG": "C.UTF-8"}).text


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {"true"}),
        ({"COLORTERM": ""}, {"256"}),
        ({"COLORTERM": "", "TERM": "xterm"}, {"16"}),
        ({"NO_COLOR": "1"}, set()),
    ],
    ids=["truecolor", "256", "16", "none"],
)
def test_only_colours_are_sent_that_the_terminal_has(
    demo_model: Path, env: Mapping[str, str], expected: set[str]
) -> None:
    assert colours_of(walked(demo_model, env).written) == expected


def test_without_colours_the_row_under_the_cursor_is_reversed(demo_model: Path) -> None:
    terminal = walked(demo_model, {"NO_COLOR": "1"})
    assert any("7" in match[1].decode().split(";") for match in
               re.finditer(rb"\x1b\[([0-9;]*)m", terminal.written))  # fmt: skip


def test_an_emulator_shows_what_is_meant(demo_model: Path) -> None:
    arguments = ("demo", "--dest", str(demo_model.parent))
    with Terminal.app(*arguments, env={"LC_ALL": "C"}, columns=80, rows=24) as terminal:
        terminal.wait("Generate")
        terminal.rest(1.0)
        text = shown(terminal)
    lines = text.splitlines()
    assert "* bf16" in text
    assert "o fp8" in text
    assert any(line.startswith("+-") and "-+" in line for line in lines)
    assert all(len(line) == 80 for line in lines)
