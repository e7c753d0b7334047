"""Every theme of the project loads; a bad one is named and the others stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightx2v_tui.paths import themes_dir
from lightx2v_tui.settings import DEFAULT_THEME
from lightx2v_tui.shell.themes import COLOURS, load_themes


def test_every_theme_of_the_project_loads() -> None:
    themes, problems = load_themes(themes_dir())
    assert problems == []
    assert len(themes) == len(list(themes_dir().glob("*.json"))) >= 3
    assert {theme.name for theme in themes} == {path.stem for path in themes_dir().glob("*.json")}
    assert DEFAULT_THEME in {theme.name for theme in themes}
    assert {theme.dark for theme in themes} == {True, False}


def good(**changes: object) -> str:
    return json.dumps({"name": "x", "primary": "#112233", **changes})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", ""),
        ("", ""),
        ("[]", "object"),
        ("null", "object"),
        ("[" * 100_000, ""),
        (good(primry="#fff"), "primry"),
        ('{"name": "x"}', "primary"),
        ('{"primary": "#fff"}', "name"),
        (good(name=5), "name"),
        (good(primary=5), ""),
        (good(primary=["#fff"]), ""),
        (good(variables=[]), "variables"),
        (good(variables=None), "variables"),
        (good(variables={"border": 5}), "border"),
        (good(luminosity_spread="much"), ""),
        (good(dark="no"), "dark"),
        (good(secondary=5), ""),
        (good(variables={"scrollbar": "nocolour"}), "nocolour"),
        *((good(**{name: "nocolour"}), "nocolour") for name in COLOURS),
        *((good(**{name: "#12"}), "#12") for name in COLOURS[:2]),
    ],
)
def test_a_bad_theme_is_named_and_does_not_hide_the_good_one(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "bad.json").write_text(text)
    (tmp_path / "good.json").write_text(good())
    themes, problems = load_themes(tmp_path)
    assert [theme.name for theme in themes] == ["x"]
    (problem,) = problems
    assert "bad.json" in problem
    assert said in problem


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    themes, problems = load_themes(tmp_path)
    assert themes == []
    assert len(problems) == 3


def test_no_folder_means_no_themes(tmp_path: Path) -> None:
    assert load_themes(tmp_path / "gone") == ([], [])
