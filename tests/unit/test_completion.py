"""What a path that is being typed may become."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightx2v_tui.completion import MOST, Completions, complete
from tests.unit.helpers import permissions_hold


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    (here / "Sub" / "deep").mkdir(parents=True)
    for name in ("a.png", "a.PNG", "ab.txt", ".dot.png", "with space.png"):
        (here / name).touch()
    monkeypatch.chdir(here)
    return here


def test_folders_and_wanted_files_by_name() -> None:
    assert complete("", (".png",)).candidates == ("a.PNG", "a.png", "Sub/", "with space.png")
    assert complete("", None).candidates[:3] == ("a.PNG", "a.png", "ab.txt")
    assert complete("", folders=True).candidates == ("Sub/",)


def test_what_was_typed_stays_as_it_was_typed(place: Path) -> None:
    home = os.environ["HOME"]
    Path(home, "pictures").mkdir()
    assert complete("~/pic").candidates == ("~/pictures/",)
    assert complete("~").candidates == ("~/",)
    assert complete(f"{place}/w").candidates == (f"{place}/with space.png",)
    assert complete("Sub/../a.p").candidates == ("Sub/../a.png",)


def test_the_typed_case_wins_and_otherwise_does_not_matter() -> None:
    assert complete("a.P").candidates == ("a.PNG",)
    assert complete("sUb").candidates == ("Sub/",)


def test_hidden_names_come_with_their_dot() -> None:
    assert complete(".").candidates == (".dot.png",)


def test_a_link_into_nowhere_is_a_file_and_one_to_a_folder_a_folder(place: Path) -> None:
    (place / "link").symlink_to(place / "Sub")
    (place / "lost.png").symlink_to(place / "gone")
    (place / "loop").symlink_to(place / "loop")
    assert complete("l", (".png",)).candidates == ("link/", "lost.png")


def test_names_that_cannot_be_typed_are_left_out(place: Path) -> None:
    (place / "z\x1b[31m.png").touch()
    (place / "z\n.png").touch()
    os.close(os.open(os.fsencode(place) + b"/z\xff.png", os.O_CREAT))
    assert complete("z") == Completions()


def test_many_are_counted(place: Path) -> None:
    for number in range(MOST + 7):
        (place / f"n{number:03}").touch()
    found = complete("n")
    assert (len(found.candidates), found.total) == (MOST, MOST + 7)
    assert found.candidates[0] == "n000"


def test_what_cannot_be_listed_says_why(place: Path) -> None:
    assert "No such file" in complete("nowhere/").problem
    assert "Not a directory" in complete("a.png/").problem
    assert complete("a\0/").problem
    assert complete("~nobody-of-this-name/").problem
    if permissions_hold():
        (place / "Sub").chmod(0)
        assert "Permission" in complete("Sub/").problem
        (place / "Sub").chmod(0o700)


@settings(deadline=None, max_examples=150,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.text(alphabet="aA./~b \0é\udc80S", max_size=9))
def test_any_text_gives_candidates_that_continue_it(typed: str) -> None:
    for candidate in complete(typed).candidates:
        assert candidate.lower().startswith(typed.lower())
        assert os.path.lexists(os.path.expanduser(candidate))  # noqa: PTH111 - as it is done
