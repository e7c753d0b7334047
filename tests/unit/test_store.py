"""Files of the app's own are whole or not there, and for the user alone."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from lightx2v_tui.store import write_json, write_text
from tests.unit.helpers import permissions_hold


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "one é\n")
    write_text(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert names(path.parent) == ["a.txt"]


def test_a_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "own" / "a.txt"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_folder_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "own" / "a.txt", "x")
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700


def test_json_is_indented_and_keeps_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"é": [1, None]}
    assert "é" in text
    assert text.endswith("}\n")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "own" / "a.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_text(path, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "old"
    assert names(path.parent) == ["a.txt"]


def test_a_folder_in_the_way_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "own" / "a.txt").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a\.txt"):
        write_text(tmp_path / "own" / "a.txt", "x")
    assert names(tmp_path / "own") == ["a.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file" / "b.txt", "x")


@pytest.mark.skipif(not permissions_hold(), reason="root may write everywhere")
def test_a_folder_that_refuses_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    write_text(folder / "a.txt", "old")
    folder.chmod(0o500)
    with pytest.raises(PermissionError):
        write_text(folder / "a.txt", "new")
    assert (folder / "a.txt").read_text() == "old"


def test_a_reader_sees_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, ["x" * 1000] * 50)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(len(json.loads(path.read_text())))

    reader = threading.Thread(target=read)
    reader.start()
    for count in range(1, 60):
        write_json(path, ["x" * 1000] * (count % 3 * 40 + 1))
    stop.set()
    reader.join()
    assert set(seen) <= {50, 1, 41, 81}


def test_folders_are_the_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_text(tmp_path / "data" / "app" / "runs" / "a.txt", "x")
    finally:
        os.umask(before)
    made = [tmp_path / "data", tmp_path / "data" / "app", tmp_path / "data" / "app" / "runs"]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 3
    assert (made[-1] / "a.txt").stat().st_mode & 0o777 == 0o600
