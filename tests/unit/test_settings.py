"""Settings survive, and a broken file gives the defaults and a line."""

from __future__ import annotations

import json

import pytest

from lightx2v_tui.settings import DEFAULT_THEME, Settings, change, load, settings_path
from lightx2v_tui.store import write_text


def test_without_a_file_there_are_defaults_and_nothing_to_say() -> None:
    assert load() == (Settings(DEFAULT_THEME, ()), "")
    assert not settings_path().exists()


def test_a_file_is_read() -> None:
    write_text(settings_path(), '{"theme": "x", "roots": ["/a", "~/b"], "future": 1}')
    assert load() == (Settings("x", ("/a", "~/b")), "")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "null", '{"theme": 5}', '{"theme": null}', '{"roots": 5}',
        '{"roots": null}', '{"roots": [5]}', '{"roots": "/models"}', '{"roots": {"/models": 1}}',
        "[" * 100_000, "\0", '{"keymap": []}', '{"keymap": {"a": 1}}', '{"glyphs": "runes"}',
        '{"glyphs": null}', '{"preview": "yes"}',
    ],
)  # fmt: skip
def test_a_broken_file_gives_defaults_and_a_line_that_names_it(text: str) -> None:
    write_text(settings_path(), text)
    settings, problem = load()
    assert settings == Settings()
    assert str(settings_path()) in problem
    assert "\n" not in problem


def test_bytes_that_are_no_text_give_defaults() -> None:
    write_text(settings_path(), "")
    settings_path().write_bytes(b"\xff\xfe")
    assert load()[0] == Settings()
    assert load()[1]


def test_a_theme_is_remembered_and_the_rest_kept() -> None:
    write_text(settings_path(), '{"theme": "x", "roots": ["/a"]}')
    change(theme="y")
    assert load() == (Settings("y", ("/a",)), "")


def test_a_first_theme_makes_the_file() -> None:
    change(theme="y")
    assert json.loads(settings_path().read_text())["theme"] == "y"


def test_a_broken_file_is_not_overwritten() -> None:
    write_text(settings_path(), '{"roots": ["/a"],,}')
    change(theme="y")
    assert settings_path().read_text() == '{"roots": ["/a"],,}'


def test_a_disk_that_refuses_is_no_crash() -> None:
    settings_path().parent.parent.mkdir(parents=True)
    settings_path().parent.write_text("a file in the way")
    change(theme="y")
    assert settings_path().parent.is_file()
