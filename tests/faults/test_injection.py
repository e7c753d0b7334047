"""Whatever names, prompts, records and logs hold, a terminal is never told to obey it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from lightx2v_tui.output import CONTROL, printable
from lightx2v_tui.presets import Preset, parse
from lightx2v_tui.presets.writing import dumps
from lightx2v_tui.widgets.filters import NoOrders
from tests.terminal import ENTER, ESCAPE, Terminal

#: No program here ever asks for these itself; `qz` stands on both sides so that cutting shows.
ORDERS = ("\x1b]777;qz", "\x1b[?9977h", "\x1bP9977qz", "\x9b9977m", "\x90qz", "qz\rqz", "qz\bqz",
          "qz\x7fqz", "qz\x0eqz", "qz\x07qz", "qz\x00qz", "qz\nqz")  # fmt: skip
HOSTILE = "".join(order for order in ORDERS if "\x00" not in order)
MARKUP = "qz[b]mark[red]"
FORBIDDEN = re.compile(
    rb"\x1b\]777|\x1b\[\?9977|\x1bP9977|\xc2?\x9b9977|\xc2?\x90qz|qz[\r\x08\x7f\x0e\x07\x00]+qz"
)
SIZE = {"columns": 200, "rows": 50}


@pytest.fixture
def model(demo_model: Path, tmp_path: Path) -> Path:
    """A model whose folder, LoRA and settings carry orders; it runs."""
    root = Path(shutil.copytree(demo_model, tmp_path / "disk" / f"{MARKUP}{HOSTILE}"))
    (lora,) = (root / "loras").iterdir()
    lora.rename(lora.with_name(f"{MARKUP}{HOSTILE}.safetensors"))
    (root / "loras" / f"{HOSTILE}broken.safetensors").write_bytes(b"<html>")
    return root


@pytest.fixture
def preset(model: Path, tmp_path: Path) -> Path:
    """A preset whose prompt, name and unknown keys carry orders."""
    path = tmp_path / f"{MARKUP}{HOSTILE}.json"
    table = {
        "model_path": str(model), "target_width": 64, "target_height": 64,
        "target_video_length": 5, f"{HOSTILE}key": HOSTILE, f"infer_step{HOSTILE}": 4,
        "lightx2v_tui": {"prompt": MARKUP + HOSTILE, "negative_prompt": HOSTILE,
                         "output": str(tmp_path / f"{HOSTILE}.mp4")},
    }  # fmt: skip
    path.write_text(json.dumps(table))
    return path


@pytest.fixture
def run(own_home: Path, preset: Path) -> Path:
    """A run on record, whose every text carries orders, and its log."""
    folder = own_home / "data" / "lightx2v-tui" / "runs" / f"20260101-000000{HOSTILE}"
    folder.mkdir(parents=True)
    status = {
        "schema": 2, "status": "failed", "stage": HOSTILE, "step": 1, "steps": 4, "pid": 1,
        "output": HOSTILE, "started": 1.7e9, "seconds": 3.0, "host": HOSTILE,
        "error": f"{MARKUP}{HOSTILE}\n{HOSTILE}\n{HOSTILE}", "notes": [MARKUP + HOSTILE],
        "waiting": HOSTILE, "options": {"device": HOSTILE},
    }  # fmt: skip
    (folder / "status.json").write_text(json.dumps(status))
    shutil.copy(preset, folder / "preset.json")
    (folder / "log.txt").write_text(f"{MARKUP}{HOSTILE}\nloglineqz\n", encoding="utf-8")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """An mp4 of somebody else, whose comment carries orders."""
    path = tmp_path / "foreign.mp4"
    comment = {"model_path": f"/nowhere/{HOSTILE}", f"key{HOSTILE}": HOSTILE,
               "lightx2v_tui": {"prompt": MARKUP + HOSTILE}}  # fmt: skip
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = json.dumps(comment)
        container.metadata["title"] = "qz"
        stream = container.add_stream("libx264", rate=16)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "rgb24")))
        container.mux(stream.encode(None))
    return path


def obeyed(written: bytes) -> list[bytes]:
    """The orders that a terminal would have carried out."""
    return FORBIDDEN.findall(written)


def finish(terminal: Terminal) -> None:
    """Read until the program has ended and everything was read."""
    while os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        terminal.pump(0.05)
    while terminal.pump(0):
        pass


def test_the_needles_are_found() -> None:
    for order in ORDERS:
        if "\n" not in order:  # a terminal writes lines itself
            assert obeyed(order.encode()), order
    assert obeyed(HOSTILE.encode("latin-1"))


COMMANDS: dict[str, Callable[[Path, Path, Path], tuple[object, ...]]] = {
    "scan": lambda model, _preset, _video: ("scan", model.parent),
    "scan of nothing": lambda model, _preset, _video: ("scan", model / HOSTILE),
    "check": lambda _model, preset, _video: ("preset", "check", preset),
    "make": lambda model, _preset, _video: ("preset", "make", model),
    "make of a video": lambda _model, _preset, video: ("preset", "make", video),
    "list": lambda _model, _preset, _video: ("preset", "list"),
    "runs": lambda _model, _preset, _video: ("runs",),
    "dry run": lambda _model, preset, _video: ("run", preset, "--dry-run"),
    "no run": lambda _model, _preset, _video: ("run", "--resume", HOSTILE),
    "go on": lambda _model, _preset, _video: ("run", "--resume", f"20260101-000000{HOSTILE}"),
    "run": lambda _model, preset, _video: ("run", preset, "--set", f"prompt={HOSTILE}"),
    "wrong value": lambda _model, preset, _video: ("run", preset, "--set", f"fps={HOSTILE}"),
    "download": lambda _model, _preset, _video: ("download", HOSTILE),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_passes_orders_on(
    name: str, model: Path, preset: Path, video: Path, run: Path, own_home: Path
) -> None:
    assert run.is_dir()
    saved = own_home / "data" / "lightx2v-tui" / "presets"
    saved.mkdir(parents=True)
    shutil.copy(preset, saved / preset.name)
    arguments = tuple(map(str, COMMANDS[name](model, preset, video)))
    with Terminal.app(*arguments, env={"OMP_NUM_THREADS": "1"}, **SIZE) as terminal:
        finish(terminal)
    assert b"Traceback" not in terminal.written
    assert "qz" in terminal.text
    assert obeyed(terminal.written) == []


def test_no_screen_passes_orders_on(model: Path, preset: Path, run: Path) -> None:
    """The form, a run and its log while it grows, the models, presets, history and a past log."""
    arguments = ("--root", str(model.parent), "--preset", str(preset))
    with Terminal.app(*arguments, env={"OMP_NUM_THREADS": "1"}, **SIZE) as terminal:
        terminal.wait("Generate")
        terminal.rest(1.0)
        terminal.press(ENTER)
        log = wait_for_log(terminal, run)
        log.write_text(f"{MARKUP}{HOSTILE}\nloggedqz\n")
        terminal.press("l")
        terminal.wait("loggedqz")
        terminal.wait("Play")
        for key in (ESCAPE, "\x0f", ESCAPE, ESCAPE, "\t", "h", "\x1b[B", "\t", "l"):
            terminal.press(key)
            terminal.rest(0.6)
        terminal.wait("loglineqz", 10)
    assert terminal.text.count(MARKUP) > 10  # it was shown, and not as markup
    assert obeyed(terminal.written) == []


def wait_for_log(terminal: Terminal, known: Path) -> Path:
    """The log of the run that begins now."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        terminal.pump(0.02)
        for log in known.parent.glob("*/log.txt"):
            if log.parent != known:
                return log
    raise AssertionError(f"it never began: {terminal.text[-2000:]}")


@given(text=st.text(st.sampled_from("qz \x1b[mé─漢字") | st.characters(max_codepoint=0xA0)))
def test_what_is_drawn_keeps_its_width_and_gives_no_orders(text: str) -> None:
    (drawn,) = NoOrders().apply([Segment(text)], Color(0, 0, 0))
    assert cell_len(drawn.text) == cell_len(text)
    assert printable(drawn.text) == drawn.text
    assert drawn.text == "".join(letter for letter in text if ord(letter) not in CONTROL)


@given(text=st.text(st.characters(max_codepoint=0xA0), max_size=20))
def test_a_preset_that_is_shown_gives_no_orders(text: str) -> None:
    written = dumps(Preset(prompt=text))
    assert printable(written, keep="\n") == written
    assert parse(written, "p.json").prompt == text
