"""What a terminal can show is decided from its environment, and what it cannot is replaced."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from lightx2v_tui import settings, terminal
from lightx2v_tui.terminal import TRUECOLOUR, Terminal, detect, plain
from lightx2v_tui.widgets.filters import PlainLetters, filters_for
from lightx2v_tui.widgets.meters import bar

MODERN = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "en_GB.UTF-8"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Terminal(True, TRUECOLOUR)),
        ({"COLORTERM": ""}, Terminal(True, 256)),
        ({"COLORTERM": "24bit"}, Terminal(True, TRUECOLOUR)),
        ({"COLORTERM": "", "TERM": "xterm"}, Terminal(True, 16)),
        ({"COLORTERM": "", "TERM": "screen"}, Terminal(True, 16)),
        ({"COLORTERM": "", "TERM": "xterm-kitty"}, Terminal(True, 256)),
        ({"COLORTERM": "", "TERM": "linux"}, Terminal(False, 16)),
        ({"COLORTERM": "", "TERM": "dumb"}, Terminal(False, 0)),
        ({"NO_COLOR": ""}, Terminal(True, 0)),
        ({"LANG": "C"}, Terminal(False, TRUECOLOUR)),
        ({"LANG": "POSIX"}, Terminal(False, TRUECOLOUR)),
        ({"LANG": "C.UTF-8"}, Terminal(True, TRUECOLOUR)),
        ({"LANG": "en_US.utf8"}, Terminal(True, TRUECOLOUR)),
        ({"LANG": "de_DE.UTF-8@euro"}, Terminal(True, TRUECOLOUR)),
        ({"LANG": "en_US.ISO-8859-1"}, Terminal(False, TRUECOLOUR)),
        ({"LC_ALL": "C"}, Terminal(False, TRUECOLOUR)),
        ({"LC_ALL": "C", "LC_CTYPE": "C.UTF-8"}, Terminal(False, TRUECOLOUR)),
        ({"LC_CTYPE": "C"}, Terminal(False, TRUECOLOUR)),
        ({"LANG": "C", "LC_CTYPE": "en_GB.UTF-8"}, Terminal(True, TRUECOLOUR)),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, Terminal(False, TRUECOLOUR)),  # Python's own doing
        ({"LANG": "", "LC_CTYPE": "C.UTF-8"}, Terminal(True, TRUECOLOUR)),
        ({"LANG": ""}, Terminal(True, TRUECOLOUR)),  # as in a container
    ],
)
def test_what_an_environment_means(changes: dict[str, str], expected: Terminal) -> None:
    assert detect({**MODERN, **changes}) == expected


def test_a_setting_knows_better_than_the_locale() -> None:
    assert not detect(MODERN, "ascii").unicode
    assert detect({**MODERN, "LC_ALL": "C", "TERM": "linux"}, "unicode").unicode
    settings.change(glyphs="ascii")
    assert not terminal.here().unicode


def test_pictures_are_made_of_letters_where_there_is_nothing_better() -> None:
    assert not Terminal(True, TRUECOLOUR).shades
    assert not Terminal(True, 256).shades
    assert Terminal(True, 16).shades
    assert Terminal(True, 0).shades
    assert Terminal(False, TRUECOLOUR).shades


def test_every_shape_has_one_likeness_of_one_cell() -> None:
    shapes = "".join(terminal.SHAPES.values())
    assert len(shapes) == len(set(shapes))
    assert set(map(ord, shapes)) < set(terminal.TRANSLATION)
    assert all(cell_len(chr(glyph)) == len(text) for glyph, text in terminal.TRANSLATION.items())
    assert all(len(likeness) == 1 for likeness in terminal.SHAPES)
    assert all(cell_len(shape) == 1 for shape in shapes)


def test_bars_boxes_and_marks_keep_their_meaning() -> None:
    assert plain("╭─ ✓ ─╮") == "+- + -+"
    assert plain("✗ ● ○ ×") == "x * o x"
    assert plain(bar(0.5, 8)) == "####...."
    levels = plain("▁▂▃▄▅▆▇█")
    assert levels == "_.-=+*%#"


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=60))
def test_any_text_becomes_ascii_of_the_same_width(text: str) -> None:
    segments = PlainLetters().apply([Segment(text, Style(bold=True))], Color(0, 0, 0))
    (segment,) = segments
    assert segment.text.isascii()
    assert segment.style == Style(bold=True)
    assert cell_len(segment.text) == cell_len(text) or text.isascii()


@given(st.text(alphabet=string.printable))
def test_ascii_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_a_good_terminal_needs_no_filters() -> None:
    assert filters_for(Terminal()) == []
    assert len(filters_for(Terminal(False, 0))) == 2


def test_without_colours_none_are_left() -> None:
    (colourless,) = filters_for(Terminal(True, 0))
    style = Style(color="red", bgcolor="blue", bold=True)
    (segment,) = colourless.apply([Segment("x", style)], Color(0, 0, 0))
    assert segment.style is not None
    assert segment.style.bold
    assert segment.style.color is not None
    assert segment.style.color.is_default
