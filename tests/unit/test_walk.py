"""The walk goes on past whatever does not answer, vanishes, loops or has no name in UTF-8."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lightx2v_tui.catalog import ModelRoot, Skipped, find_roots, recognise
from lightx2v_tui.catalog import walk as walking
from lightx2v_tui.catalog.files import Listing
from tests.unit import trees
from tests.unit.helpers import write_folder, write_root, write_safetensors

FP8 = {"fp8": "fp8"}
PATIENCE = 0.6
SOON = 5.0  # seconds, on a machine that is busy with something else


def walk(
    *starts: Path, stop: Event | None = None, patience: float = PATIENCE
) -> tuple[list[ModelRoot], list[Skipped]]:
    found = list(find_roots(starts, stop or Event(), patience))
    roots = {one.key: one for one in found if isinstance(one, ModelRoot)}
    return [*roots.values()], [one for one in found if isinstance(one, Skipped)]


class Hung:
    """A folder on a server that is gone: whoever asks for anything in it waits."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.answer, self.asked = folder, Event(), Event()
        scandir, stat = os.scandir, Path.stat

        def slow_scandir(path: Any = ".") -> Any:
            self._wait(path)
            return scandir(path)

        def slow_stat(path: Path, **options: Any) -> os.stat_result:
            self._wait(path)
            return stat(path, **options)

        monkeypatch.setattr(os, "scandir", slow_scandir)
        monkeypatch.setattr(Path, "stat", slow_stat)

    def _wait(self, path: object) -> None:
        inside = str(path) == str(self.folder) or str(path).startswith(f"{self.folder}/")
        if inside and threading.current_thread().name == "scan":
            self.asked.set()
            self.answer.wait(60)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_root(tmp_path / "disk" / name, FP8)
    return tmp_path / "disk"


@pytest.fixture
def hung(disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hung]:
    made = Hung(disk / "b", monkeypatch)
    yield made
    made.answer.set()


def test_a_folder_that_never_answers_is_left_and_the_rest_is_found(disk: Path, hung: Hung) -> None:
    started = time.monotonic()
    roots, skipped = walk(disk)
    assert time.monotonic() - started < PATIENCE + SOON
    assert [root.name for root in roots] == ["a", "c"], skipped
    (one,) = skipped
    assert one.path == hung.folder
    assert one.reason.startswith("did not answer for 0.6 s")
    assert str(hung.folder) in one.reason


def test_the_whole_mount_is_left(disk: Path, hung: Hung, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d", "e"):
        write_root(hung.folder / name, FP8)
    monkeypatch.setattr(walking, "mount_point", lambda _: hung.folder)
    roots, skipped = walk(disk, hung.folder / "d", hung.folder / "e")
    assert [root.name for root in roots] == ["a", "c"], skipped
    assert [one.path for one in skipped] == [hung.folder]


def test_a_file_that_never_answers_is_a_folder_left(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = Hung(disk / "b" / "fp8" / "block_0.safetensors", monkeypatch)
    roots, skipped = walk(disk)
    hung.answer.set()
    assert [root.name for root in roots] == ["a", "c"], skipped
    assert [one.path for one in skipped] == [disk / "b"]


def test_what_answers_late_is_not_told_twice_and_harms_nothing(disk: Path, hung: Hung) -> None:
    found = find_roots([disk], Event(), PATIENCE)
    told = []
    for item in found:
        told.append(item)
        if isinstance(item, Skipped):
            hung.answer.set()
            time.sleep(0.2)
    names = [item.name for item in told if isinstance(item, ModelRoot)]
    assert names == ["a", "c"]


def test_two_folders_that_never_answer(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Hung(disk / "a", monkeypatch), Hung(disk / "c", monkeypatch)
    roots, skipped = walk(disk)
    first.answer.set()
    second.answer.set()
    assert [root.name for root in roots] == ["b"]
    assert [one.path for one in skipped] == [disk / "a", disk / "c"]


def test_a_start_that_never_answers_does_not_hold_up_the_others(disk: Path, hung: Hung) -> None:
    roots, skipped = walk(hung.folder, disk / "a", disk / "c")
    assert [root.name for root in roots] == ["a", "c"], skipped
    assert [one.path for one in skipped] == [hung.folder]


def test_stopping_ends_a_walk_that_hangs(disk: Path, hung: Hung) -> None:
    stop = Event()
    found = find_roots([disk], stop, 3600)
    assert isinstance(next(found), ModelRoot)
    hung.asked.wait(SOON)
    stop.set()
    started = time.monotonic()
    assert list(found) == []
    assert time.monotonic() - started < SOON


def test_roots_are_told_while_the_walk_goes_on(disk: Path, hung: Hung) -> None:
    found = find_roots([disk], Event(), 3600)
    first = next(found)
    assert isinstance(first, ModelRoot)
    assert first.name == "a"
    hung.answer.set()
    assert [item.name for item in found if isinstance(item, ModelRoot)] == ["b", "c"]


def test_dropping_the_walk_leaves_no_thread(disk: Path) -> None:
    stop = Event()
    found = find_roots([disk], stop, PATIENCE)
    next(found)
    stop.set()
    list(found)
    deadline = time.monotonic() + SOON
    while any(thread.name == "scan" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("when", ["folder", "file", "root"])
def test_what_vanishes_meanwhile_is_no_error(
    disk: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    scandir = os.scandir

    def vanishing(path: Any = ".") -> Any:
        entries = scandir(path)
        if str(path) == str(disk) and when == "folder":
            names = list(entries)
            shutil.rmtree(disk / "b", ignore_errors=True)
            return _Entries(names)
        if str(path) == str(disk / "b" / "fp8") and when != "folder":
            names = list(entries)
            gone = [disk / "b"] if when == "root" else []
            for folder in gone:
                shutil.rmtree(folder, ignore_errors=True)
            if when == "file":
                (disk / "b" / "fp8" / "block_0.safetensors").unlink(missing_ok=True)
            return _Entries(names)
        return entries

    monkeypatch.setattr(os, "scandir", vanishing)
    roots, skipped = walk(disk, patience=60)
    assert {root.name for root in roots} >= {"a", "c"}
    assert skipped == []
    if when == "file":
        (b,) = (root for root in roots if root.name == "b")
        assert not b.variants[0].complete


class _Entries(list[Any]):
    """What os.scandir gave, read before something vanished."""

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_an_error_of_the_disk_is_told_and_the_rest_is_found(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def failing(path: Any = ".") -> Any:
        if str(path) == str(disk / "b"):
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    roots, skipped = walk(disk)
    assert [root.name for root in roots] == ["a", "c"], skipped
    assert [(one.path, one.reason) for one in skipped] == [(disk / "b", "Input/output error")]


def test_link_loops_of_every_kind_end_and_are_told(disk: Path) -> None:
    (disk / "self").symlink_to("self")
    (disk / "up").symlink_to("..")
    (disk / "x").symlink_to("y")
    (disk / "y").symlink_to("x")
    (disk / "a" / "fp8" / "back").symlink_to(disk, target_is_directory=True)
    (disk / "gone").symlink_to("/nowhere/at/all")
    roots, skipped = walk(disk)
    assert [root.name for root in roots] == ["a", "b", "c"]
    assert {item.path.name for item in skipped} == {"self", "x", "y"}
    assert all("symbolic links" in item.reason for item in skipped)


def test_loops_inside_comfyuis_folders_end_and_count_once(tmp_path: Path) -> None:
    models = trees.comfyui(tmp_path / "models")
    for number in range(12):
        (models / "diffusion_models" / f"loop{number}").symlink_to(".")
        (models / "diffusion_models" / "wan" / f"up{number}").symlink_to("..")
    started = time.monotonic()
    (root,), _ = walk(tmp_path, patience=60)
    assert time.monotonic() - started < SOON
    assert len(root.variants) == 2


def test_a_link_to_a_part_of_a_model_is_no_other_model(disk: Path) -> None:
    (disk / "link").symlink_to(disk / "a" / "fp8")
    roots, _ = walk(disk)
    assert [root.name for root in roots] == ["a", "b", "c"]


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"new\nline", b" ", b"-rf", b"~"])
def test_any_folder_and_file_name_is_walked(tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    write_root(folder, FP8)
    write_safetensors(folder / "loras" / f"{os.fsdecode(name)}.safetensors", trees.LORA)
    (root,), skipped = walk(tmp_path)
    assert root.path == folder
    assert root.variants[0].complete
    assert len(root.loras) == 2
    assert skipped == []


def test_what_is_no_folder_or_weight_file_is_passed(disk: Path) -> None:
    os.mkfifo(disk / "a" / "fp8" / "pipe.safetensors")
    os.mkfifo(disk / "pipe")
    (disk / "b" / "fp8" / "folder.safetensors").mkdir()
    roots, _ = walk(disk, patience=60)
    assert [root.name for root in roots] == ["a", "b", "c"]
    assert all(root.variants[0].complete for root in roots)


def test_asking_where_a_start_really_is_does_not_hold_up_the_others(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, realpath = Event(), os.path.realpath

    def slow(path: Any, **options: Any) -> Any:
        if str(path) == str(disk / "b") and threading.current_thread().name == "scan":
            answer.wait(60)
        return realpath(path, **options)

    monkeypatch.setattr(os.path, "realpath", slow)
    roots, skipped = walk(disk / "b", disk / "a")
    answer.set()
    assert [root.name for root in roots] == ["a"]
    assert [one.path for one in skipped] == [disk / "b"]


def test_a_link_to_a_disk_that_never_answers_costs_only_itself(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nas").mkdir()
    (disk / "link").symlink_to(tmp_path / "nas")
    answer, realpath = Event(), os.path.realpath

    def slow(path: Any, **options: Any) -> Any:
        if str(path) == str(disk / "link"):
            answer.wait(60)
        return realpath(path, **options)

    monkeypatch.setattr(os.path, "realpath", slow)
    roots, skipped = walk(disk)
    answer.set()
    assert [root.name for root in roots] == ["a", "b", "c"]
    assert [one.path for one in skipped] == [disk / "link"]


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 5000])
def test_a_start_that_no_folder_can_be_called_is_skipped(disk: Path, name: str) -> None:
    roots, skipped = walk(disk / name, disk / "a")
    assert [root.name for root in roots] == ["a"]
    assert [one.path for one in skipped] == [disk / name]
    assert skipped[0].reason


def test_a_slow_folder_that_answers_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "Model" / "fp8", "fp8", layers=30)
    real = recognise.read_header

    def slow(path: Path, *arguments: object) -> object:
        time.sleep(0.02)
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(recognise, "read_header", slow)
    roots, skipped = walk(tmp_path, patience=0.3)
    assert [root.path for root in roots] == [folder.parent]
    assert skipped == []


def test_one_odd_folder_does_not_hide_the_others(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = walking.inspect

    def failing(listing: Listing) -> object:
        if listing.path.name == "b":
            raise RecursionError("no end of it")
        return real(listing)

    monkeypatch.setattr(walking, "inspect", failing)
    roots, skipped = walk(disk)
    assert [root.name for root in roots] == ["a", "c"]
    (item,) = skipped
    assert item.path.name == "b"
    assert "no end of it" in item.reason


def test_a_start_at_the_top_gives_plain_paths(tmp_path: Path) -> None:
    place = walking._Place("/", "/", 0)
    listing = Listing(tmp_path, frozenset({"mnt"}), ())
    assert place.below(listing, ["mnt"]) == [walking._Place("/mnt", "/mnt", 1)]
