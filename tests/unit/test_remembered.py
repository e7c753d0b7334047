"""What a scan found is shown at the next start, and a damaged memory is none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event

import pytest

from lightx2v_tui.catalog import ModelRoot, Skipped, find_roots, remembered
from lightx2v_tui.catalog.report import as_json, from_json
from tests.unit import trees
from tests.unit.helpers import DISTILLED, write_root


def found_in(*places: Path) -> list[ModelRoot]:
    found = find_roots(places, Event())
    return list({item.key: item for item in found if isinstance(item, ModelRoot)}.values())


@pytest.fixture
def roots(tmp_path: Path) -> list[ModelRoot]:
    """A guide root, a ComfyUI tree, and a root that lacks its T5, which the first one has."""
    disk = tmp_path / "disk"
    write_root(disk / "Model", DISTILLED, image=True)
    trees.comfyui(disk / "ComfyUI" / "models")
    broken = write_root(disk / "Broken", {"fp8": "fp8"})
    next((broken / "fp8").glob("models_t5*")).unlink()
    return found_in(disk)


def test_what_is_saved_is_loaded_as_it_was(roots: list[ModelRoot]) -> None:
    assert len(roots) >= 3
    assert any(root.offers for root in roots)
    remembered.save(roots, [Skipped(Path("/gone"), "no such folder")], 0.5)
    assert list(remembered.load()) == roots
    assert remembered.path().stat().st_mode & 0o077 == 0


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    write_root(tmp_path / os.fsdecode(b"caf\xe9"), DISTILLED)
    roots = found_in(tmp_path)
    remembered.save(roots, [], 0.0)
    assert list(remembered.load()) == roots


def test_nothing_is_remembered_before_the_first_scan() -> None:
    assert remembered.load() == ()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"form": 1}', '{"form": 1, "roots": 5, "skipped": []}',
             '{"form": 1, "roots": [{}], "skipped": []}', "\ud800", "[" * 100_000],
)  # fmt: skip
def test_a_damaged_memory_is_none(text: str) -> None:
    remembered.path().parent.mkdir(parents=True)
    remembered.path().write_bytes(text.encode(errors="surrogatepass"))
    assert remembered.load() == ()


def test_a_memory_of_another_form_is_not_read(roots: list[ModelRoot]) -> None:
    remembered.save(roots, [], 0.0)
    table = json.loads(remembered.path().read_text())
    remembered.path().write_text(json.dumps({**table, "form": remembered.FORM + 1}))
    assert remembered.load() == ()


def test_a_memory_that_lost_its_end_is_none(roots: list[ModelRoot]) -> None:
    remembered.save(roots, [], 0.0)
    text = remembered.path().read_text()
    for cut in range(0, len(text), max(1, len(text) // 40)):
        remembered.path().write_text(text[:cut])
        assert remembered.load() == ()


def test_a_disk_that_refuses_is_no_crash(
    roots: list[ModelRoot], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(remembered, "cache_dir", lambda: tmp_path / "file")
    remembered.save(roots, [], 0.0)
    assert remembered.load() == ()


def test_scan_json_is_what_is_remembered(roots: list[ModelRoot]) -> None:
    told = json.loads(json.dumps(as_json(roots, [], 0.25)))
    again, skipped = from_json(told)
    assert (list(again), skipped) == (roots, ())
    assert json.loads(json.dumps(as_json(again, skipped, 0.25))) == told
