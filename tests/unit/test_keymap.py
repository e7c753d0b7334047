"""The keys a user may give to actions: what is a key, what is taken, what a hand wrote wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightx2v_tui.app import LightX2VApp
from lightx2v_tui.screens.keys import (
    KnownKey,
    checked,
    conflict,
    is_key,
    keys_now,
    known_keys,
    normal,
)

QUIT = KnownKey("app.quit", "Everywhere", ("q",), "Quit", "Leave", "app")
AGAIN = KnownKey("run.again", "Run", ("r",), "Again", "Once more", "screen")
CANCEL = KnownKey("run.cancel", "Run", ("c",), "Cancel", "Stop", "screen")
RESCAN = KnownKey("models.rescan", "Models", ("r",), "Rescan", "Look", "screen")
LEFT = KnownKey("matrix.left", "Matrix", ("left", "h"), "Left", "Left", "field")
YES = KnownKey("question.yes", "Question", ("y", "q"), "Yes", "Yes", "dialog")
ALL = (QUIT, AGAIN, CANCEL, RESCAN, LEFT, YES)


@pytest.mark.parametrize(
    "text",
    ["a", "A", "?", ",", "+", "é", "f5", "f24", "enter", "escape", "tab", "space", "pageup",
     "ctrl+s", "ctrl+shift+left", "alt+x", "question_mark", "comma", "plus", "minus", "slash"],
)  # fmt: skip
def test_keys(text: str) -> None:
    assert is_key(text)


@pytest.mark.parametrize("text", ["", " ", "nokey", "ctrl+", "crtl+s", "ctrl+nokey", "\x1b", "aa"])
def test_no_keys(text: str) -> None:
    assert not is_key(text)


@given(st.text(max_size=20))
def test_any_text_is_a_key_or_not(text: str) -> None:
    assert isinstance(is_key(text), bool)
    assert isinstance(normal(text), str)


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from([key.id for key in ALL]),
                       st.text(max_size=12)))  # fmt: skip
def test_any_keymap_is_used_or_told(keymap: dict[str, str]) -> None:
    used, problems = checked(keymap, ALL)
    assert len(used) + len(problems) == len(keymap)
    assert set(used) <= {key.id for key in ALL}
    assert all(is_key(name) for keys in used.values() for name in keys.split(","))


def test_what_a_hand_wrote_is_named_as_textual_names_it() -> None:
    assert checked({"app.quit": "?, ctrl+x"}, ALL) == ({"app.quit": "question_mark,ctrl+x"}, [])
    used, problems = checked({"app.qiut": "x", "run.again": "foo"}, ALL)
    assert used == {}
    assert "app.qiut" in problems[0]
    assert "foo" in problems[1]


@pytest.mark.parametrize(
    ("key", "wanted", "other"),
    [
        (AGAIN, "c", CANCEL),  # the same screen
        (AGAIN, "q", QUIT),  # everywhere
        (QUIT, "c", CANCEL),
        (CANCEL, "r", AGAIN),
        (CANCEL, "h", None),  # a field hides it only while it has the focus
        (LEFT, "q", None),
        (YES, "r", None),  # a dialog hides all other keys
        (RESCAN, "c", None),  # another screen
        (AGAIN, "r", None),  # its own
    ],
)
def test_conflicts(key: KnownKey, wanted: str, other: KnownKey | None) -> None:
    assert conflict(key, wanted, ALL, {}) == other


def test_a_changed_key_leaves_its_old_one_to_others() -> None:
    keymap = {"run.cancel": "x"}
    assert keys_now(CANCEL, keymap) == ("x",)
    assert conflict(AGAIN, "c", ALL, keymap) is None
    assert conflict(AGAIN, "x", ALL, keymap) == CANCEL


def test_every_screen_is_known() -> None:
    known = known_keys(LightX2VApp)
    contexts = {key.context for key in known}
    assert {"Everywhere", "Models", "Launch", "Run", "History", "Settings"} <= contexts
    assert [key.place for key in known] == sorted(
        (key.place for key in known), key=("app", "screen", "field", "dialog").index
    )
    assert all(is_key(name) for key in known for name in key.keys)
