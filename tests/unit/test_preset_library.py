"""The presets saved by name, and the settings that videos carry."""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.errors import EngineError
from engine.spec.job import Lora
from engine.spec.mp4_comment import read_comment
from engine.spec.precision import Precision
from engine.video import VideoWriter
from lightx2v_tui import presets
from lightx2v_tui.cli import main
from lightx2v_tui.paths import presets_dir
from lightx2v_tui.presets import Preset, PresetError, library
from lightx2v_tui.presets.library import ExistsError
from tests.unit.helpers import permissions_hold

QUICK = settings(deadline=None, max_examples=60,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
PRESET = Preset(
    model_path=Path("/models/Wan2.1-T2V-14B"), dit_precision=Precision.FP8, width=832, height=480,
    frames=81, fps=16, seed=7, prompt="a fox\nin snow", infer_steps=4,
    loras=(Lora(Path("/l/style.safetensors"), 0.5),),
)  # fmt: skip


def write_video(path: Path, comment: str) -> Path:
    with VideoWriter(path, 32, 32, 16, comment) as writer:
        for _ in writer.write(torch.zeros(3, 2, 32, 32)):
            pass
    return path


def names() -> list[str]:
    return [saved.name for saved in library.saved_presets()]


def test_what_is_saved_is_listed_and_reads_back() -> None:
    assert library.saved_presets() == ()
    path = library.save(" night fox ", PRESET)
    assert path == presets_dir() / "night fox.json"
    assert presets.read(path) == PRESET
    assert path.stat().st_mode & 0o777 == 0o600
    (one,) = library.saved_presets()
    assert (one.name, one.path, one.preset, one.problem) == ("night fox", path, PRESET, "")
    assert one.when == path.stat().st_mtime
    assert one.summary == "Wan2.1-T2V-14B, DiT fp8, 832x480x81"


def test_details_say_what_the_line_has_no_room_for() -> None:
    told = "\n".join(library.details(replace(PRESET, use_tiny_vae=True)))
    for words in ("DiT fp8", "tiny VAE", "832x480, 81 frames", "4 steps", "seed 7", "style 0.5",
                  "a fox in snow"):  # fmt: skip
        assert words in told
    assert library.details(Preset()) == ()


def test_texts_from_files_lose_their_escapes() -> None:
    preset = replace(PRESET, model_path=Path("/m/\x1b[2Jm"), prompt="\x1b]0;x\x07fox")
    assert "\x1b" not in library.summary(preset)
    assert "\x1b" not in "".join(library.details(preset))
    assert "\x1b" not in library.proposed_name(preset)


def test_broken_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    library.save("good", PRESET)
    folder = presets_dir()
    (folder / "wrong.json").write_text("{")
    (folder / "list.json").write_text("[1]")
    (folder / "folder.json").mkdir()
    (folder / "lost.json").symlink_to(tmp_path / "gone")
    os.mkfifo(folder / "pipe.json")
    (folder / ".hidden.json").write_text("{}")
    (folder / "notes.txt").write_text("x")
    saved = {one.name: one for one in library.saved_presets()}
    assert sorted(saved) == ["folder", "good", "list", "lost", "pipe", "wrong"]
    assert saved["good"].preset == PRESET
    reasons = {"wrong": "not JSON", "list": "it holds a list", "lost": "No such file",
               "pipe": "not a regular file", "folder": "not a regular file"}  # fmt: skip
    for name, words in reasons.items():
        assert saved[name].preset is None
        assert words in saved[name].problem
        assert saved[name].summary == saved[name].problem


@pytest.mark.parametrize(
    "name", ["", "  ", ".hidden", "a/b", "..", "a\\b", "a\nb", "a\x1b[1m", "x" * 81, "狐" * 70,
             "half \ud800"]
)  # fmt: skip
def test_names_that_no_preset_can_have(name: str) -> None:
    with pytest.raises(PresetError, match="is not a name"):
        library.save(name, PRESET)
    assert not presets_dir().exists()


@QUICK
@given(st.text(max_size=90))
def test_a_name_stays_in_the_folder_or_is_refused(name: str) -> None:
    try:
        path = library.save(name, PRESET, replacing=True)
    except PresetError:
        assert library.reason_against_name(name)
        return
    assert path.parent == presets_dir()
    assert path.stem == name.strip()
    assert path.is_file()
    assert name.strip() in names()


@QUICK
@given(st.text(max_size=300))
def test_a_proposed_name_is_one(model: str) -> None:
    preset = replace(PRESET, model_path=Path("/m") / model.replace("\0", ""))
    assert library.reason_against_name(library.proposed_name(preset)) == ""


def test_nothing_is_replaced_unasked() -> None:
    path = library.save("fox", PRESET)
    with pytest.raises(ExistsError) as caught:
        library.save("fox", replace(PRESET, seed=8))
    assert caught.value.own
    assert presets.read(path).seed == 7
    library.save("fox", replace(PRESET, seed=8), replacing=True)
    assert presets.read(path).seed == 8
    path.write_text('{"seed": 1} // by hand')
    with pytest.raises(ExistsError) as caught:
        library.save("fox", PRESET)
    assert not caught.value.own
    assert "comments" in caught.value.why
    assert path.read_text() == '{"seed": 1} // by hand'


def test_what_is_no_file_is_never_replaced() -> None:
    presets_dir().mkdir(parents=True)
    (presets_dir() / "dir.json").mkdir()
    with pytest.raises(PresetError, match="cannot be saved"):
        library.save("dir", PRESET, replacing=True)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    presets_dir().parent.mkdir(parents=True)
    presets_dir().write_text("in the way")
    with pytest.raises(PresetError, match="cannot be saved"):
        library.save("fox", PRESET)
    assert library.saved_presets() == ()


def test_renaming_keeps_what_is_there() -> None:
    fox, owl = library.save("fox", PRESET), library.save("owl", Preset())
    with pytest.raises(ExistsError, match="owl"):
        library.rename(fox, "owl")
    with pytest.raises(PresetError, match="is not a name"):
        library.rename(fox, "a/b")
    assert names() == ["fox", "owl"]
    assert library.rename(fox, "fox") == fox
    moved = library.rename(fox, "Red fox")
    assert presets.read(moved) == PRESET
    assert names() == ["owl", "Red fox"]
    assert presets.read(owl) == Preset()
    with pytest.raises(PresetError, match="cannot be renamed"):
        library.rename(fox, "other")


def test_only_saved_presets_are_deleted(tmp_path: Path) -> None:
    path = library.save("fox", PRESET)
    elsewhere = tmp_path / "mine.json"
    elsewhere.write_text("{}")
    with pytest.raises(PresetError, match="not deleted"):
        library.delete(elsewhere)
    assert elsewhere.exists()
    library.delete(path)
    assert names() == []
    with pytest.raises(PresetError, match="cannot be deleted"):
        library.delete(path)


def test_a_read_only_folder_is_told() -> None:
    path = library.save("fox", PRESET)
    if not permissions_hold():
        pytest.skip("this user may write everywhere")
    presets_dir().chmod(0o500)
    try:
        for act in (lambda: library.delete(path), lambda: library.rename(path, "a"),
                    lambda: library.save("b", PRESET)):  # fmt: skip
            with pytest.raises(PresetError, match="cannot be"):
                act()
    finally:
        presets_dir().chmod(0o700)


def test_the_settings_of_a_video_are_a_preset(tmp_path: Path) -> None:
    text = json.dumps(presets.to_json(replace(PRESET, prompt="狐狸 “fox” " * 9000)))
    preset = library.open_file(write_video(tmp_path / "fox.mp4", text))
    assert preset == replace(PRESET, prompt="狐狸 “fox” " * 9000)


def test_a_video_never_says_where_to_write(tmp_path: Path) -> None:
    raw = presets.to_json(replace(PRESET, output=Path("/etc/passwd"), prompt="a\x1b[2Jb\n\tc"))
    own = raw["lightx2v_tui"]
    assert isinstance(own, dict)
    own["save_tensors"] = "/etc/tensors"
    preset = library.from_video(write_video(tmp_path / "a.mp4", json.dumps(raw)))
    assert preset.output is None
    assert "save_tensors" not in preset.own_extra
    assert "/etc" not in presets.dumps(preset)
    assert preset.prompt == "a?[2Jb\n\tc"


@pytest.mark.parametrize(
    ("comment", "words"),
    [("", "no comment"), ("made with love", "not JSON"), ("[]", "it holds a list"),
     ('{"target_width": "wide"}', "target_width")],
)  # fmt: skip
def test_other_comments_are_told(comment: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="carries no settings") as caught:
        library.from_video(write_video(tmp_path / "a.mp4", comment))
    assert words in caught.value.why


@QUICK
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
def test_any_comment_is_read_as_it_was_written(tmp_path: Path, comment: str) -> None:
    path = write_video(tmp_path / "a.mp4", comment)
    assert read_comment(path, 4000) == comment
    with suppress(PresetError):
        assert library.from_video(path).output is None


def box(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I4s", len(content) + 8 if size is None else size, kind) + content


def comment_boxes(text: bytes) -> bytes:
    data = box(b"data", bytes(8) + text)
    return box(b"udta", box(b"meta", bytes(4) + box(b"ilst", box(b"\xa9cmt", data))))


def test_boxes_of_all_sizes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for content, read in {
        box(b"ftyp", b"isom") + box(b"moov", comment_boxes(b"one")): "one",
        box(b"ftyp", b"isom") + box(b"moov", comment_boxes(b"last"), 0): "last",
        box(b"ftyp", b"") + struct.pack(">I4sQ", 1, b"moov", 16 + len(comment_boxes(b"64")))
        + comment_boxes(b"64"): "64",
        box(b"ftyp", b"") + box(b"moov", box(b"udta", box(
            b"\xa9cmt", struct.pack(">HH", 5, 0) + b"apple"))): "apple",
        box(b"ftyp", b"") + box(b"moov", box(b"trak", b"")): "",
        box(b"ftyp", b"isom"): "",
    }.items():  # fmt: skip
        path.write_bytes(content)
        assert read_comment(path, 100) == read


def test_a_comment_of_a_gigabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    huge = 1 << 30
    with path.open("wb") as file:
        file.write(box(b"ftyp", b"isom"))
        for kind, skip in ((b"moov", 0), (b"udta", 0), (b"meta", 4), (b"ilst", 0)):
            file.write(box(kind, bytes(skip), 0))
        file.write(box(b"\xa9cmt", b"", huge + 24) + box(b"data", bytes(8), huge + 16))
        file.truncate(file.tell() + huge + 100)  # a hole: it takes no place
    with pytest.raises(EngineError, match="too large"):
        read_comment(path, 1000)
    with pytest.raises(EngineError, match="too large"):
        library.from_video(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x89PNG\r\n\x1a\n" * 9, b"{}", bytes(4000)])
def test_what_is_no_video_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(EngineError, match="is not an mp4"):
        library.from_video(path)


def test_a_file_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("pipe.mp4", "gone.mp4", "x" * 400 + ".mp4", "a\0b.mp4"):
        with pytest.raises(EngineError, match="cannot be read"):
            library.open_file(tmp_path / name)
    with pytest.raises(EngineError, match="cannot be read"):
        library.open_file(tmp_path)


@QUICK
@given(st.data())
def test_a_damaged_video_gives_a_text_or_an_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(box(b"ftyp", b"isom") + box(b"moov", comment_boxes(b"x" * 40)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.mp4"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(EngineError):
        assert len(read_comment(path, 1000)) <= 1000


def test_preset_make_takes_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "fox.mp4", json.dumps(presets.to_json(PRESET)))
    assert main(["preset", "make", str(video)]) == 0
    assert presets.parse(capsys.readouterr().out, "stdout") == PRESET
    out = tmp_path / "fox.json"
    assert main(["preset", "make", str(video), "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert presets.read(out) == PRESET
    assert presets.is_own(out)


@pytest.mark.parametrize("option", [["--dit", "fp8"], ["--vae", "tiny"], ["--lora", "a:1"]])
def test_preset_make_of_a_video_takes_no_precision(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "fox.mp4", json.dumps(presets.to_json(PRESET)))
    assert main(["preset", "make", str(video), *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_preset_make_of_a_video_without_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video: Any = write_video(tmp_path / "fox.mp4", "")
    assert main(["preset", "make", str(video), "-o", str(tmp_path / "p.json")]) == 2
    assert "carries no settings" in capsys.readouterr().err
    assert not (tmp_path / "p.json").exists()
