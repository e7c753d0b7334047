"""`run`, `demo` and `preset` as a user types them: exit codes, words, and what is left on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch

from tests.engine.support import leftovers
from tests.processes import PATIENCE, ForkServer, Process

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SMALL = [
    argument
    for value in ("target_video_length=5", "target_height=64", "target_width=96")
    for argument in ("--set", value)
]
BF16 = "models_t5_umt5-xxl-enc-bf16.pth"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks on one thread: other tests run beside these."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def make_preset(lightx2v: Run, root: Path, path: Path, **changes: object) -> Path:
    """A bf16 preset of a few small frames, with keys replaced."""
    done = lightx2v("preset", "make", root, "--dit", "bf16", "--t5", "bf16", "-o", path)
    assert done.returncode == 0, done.stderr
    table = json.loads(path.read_text())
    small = {"target_video_length": 5, "target_height": 64, "target_width": 96}
    path.write_text(json.dumps({**table, **small, **changes}))
    return path


@pytest.fixture
def preset(lightx2v: Run, demo_model: Path, tmp_path: Path) -> Path:
    return make_preset(lightx2v, demo_model, tmp_path / "preset.json")


@pytest.fixture
def broken(lightx2v: Run, model_copy: Path, tmp_path: Path) -> Path:
    """A preset for a copy of the model that the test breaks."""
    return make_preset(lightx2v, model_copy, tmp_path / "preset.json")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def frames_of(path: Path) -> list[tuple[int, int]]:
    """Width and height of every frame."""
    with av.open(str(path)) as container:
        return [(frame.width, frame.height) for frame in container.decode(video=0)]


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Expect an exit code and at most four lines that name what is wrong."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert 2 <= len(lines) <= 4, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert done.stdout == ""


def bomb(path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(path.parent / "victim"),)

    torch.save({"weight": torch.zeros(2), "bomb": Bomb()}, path)


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing T5": (lambda root: (root / "distill_models" / BF16).unlink(), BF16),
    "truncated DiT": (
        lambda root: os.truncate(root / "distill_models/distill_model.safetensors", 100_000),
        "distill_model.safetensors",
    ),
    "empty DiT": (
        lambda root: os.truncate(root / "distill_models/distill_model.safetensors", 0),
        "distill_model.safetensors",
    ),
    "truncated T5": (lambda root: os.truncate(root / "distill_models" / BF16, 50_000), BF16),
    "pickle bomb": (lambda root: bomb(root / "distill_models" / BF16), BF16),
    "config.json": (
        lambda root: (root / "distill_models/config.json").write_text("{ dim: 128"),
        "config.json",
    ),
    "missing VAE": (
        lambda root: (root / "distill_models/Wan2.1_VAE.pth").unlink(),
        "Wan2.1_VAE.pth",
    ),
    "VAE is a web page": (
        lambda root: (root / "distill_models/Wan2.1_VAE.pth").write_text("<!DOCTYPE html><html>"),
        "Wan2.1_VAE.pth",
    ),
    "missing tokenizer": (
        lambda root: shutil.rmtree(root / "distill_models/google"),
        "tokenizer",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_model_is_one_error_in_words(
    breakage: str, lightx2v: Run, broken: Path, model_copy: Path, out: Path, tmp_path: Path
) -> None:
    break_it, word = BREAKAGES[breakage]
    break_it(model_copy)
    done = lightx2v("run", broken, "--output", out / "a.mp4", "--progress", "none")
    refused(done, 1, word)
    assert leftovers(tmp_path) == []
    assert not (model_copy / "distill_models" / "victim").exists()


def test_a_model_folder_that_cannot_be_read(
    lightx2v: Run, broken: Path, model_copy: Path, out: Path, tmp_path: Path
) -> None:
    folder = model_copy / "distill_models"
    if os.geteuid() == 0:  # permissions do not bind root: a file stands where the folder was
        shutil.rmtree(folder)
        folder.write_text("")
    else:
        folder.chmod(0)
    done = lightx2v("run", broken, "--output", out / "a.mp4", "--progress", "none")
    if os.geteuid() != 0:
        folder.chmod(0o755)
    refused(done, 1)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--set", "target_video_length=0"], "target_video_length"),
        (["--set", "target_video_length=-3"], "target_video_length"),
        (["--set", "target_height=70"], "target_height"),
        (["--set", "target_width=0"], "target_width"),
        (["--set", "target_width=wide"], "target_width"),
        (["--seed", "-1"], "seed"),
        (["--seed", str(2**63)], "seed"),
        (["--set", "denoising_step_list=[250,1000]"], "denoising_step_list"),
        (["--set", "sample_shift=0"], "sample_shift"),
        (["--set", "fps=0"], "fps"),
        (["--set", "nonsense"], "KEY=VALUE"),
        (["--device", "tpu"], "tpu"),
        (["--image", "x.png"], "image"),
    ],
)
def test_values_that_cannot_be_are_wrong_usage(
    arguments: list[str], word: str, lightx2v: Run, preset: Path, out: Path, tmp_path: Path
) -> None:
    options = ["--output", out / "a.mp4", "--progress", "none", *arguments]
    refused(lightx2v("run", preset, *options), 2, word)
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "home" / "data").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("preset.json", "No such file")),
        ("not json", ("preset.json, line 1",)),
        ('{"fps": 16,\n "seed" 3}', ("preset.json, line 2",)),
        ("[1, 2]", ("preset.json", "list")),
        ('{\n"target_width": "wide"}', ("preset.json, line 2", "target_width", "wide")),
        ("\x00\xff", ("preset.json",)),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("preset", "check")], ids=["run", "check"])
def test_presets_that_cannot_be_read_are_wrong_usage(
    command: tuple[str, ...], text: str | None, words: tuple[str, ...], lightx2v: Run,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "preset.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    refused(lightx2v(*command, path), 2, *words)
    assert leftovers(tmp_path) == []


def test_an_output_that_cannot_be_written(lightx2v: Run, preset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = lightx2v("run", preset, "--output", tmp_path / "file" / "a.mp4", "--progress", "none")
    refused(done, 1, str(tmp_path / "file"))
    assert leftovers(tmp_path) == []


def test_a_video_that_is_replaced_is_told(lightx2v: Run, preset: Path, tmp_path: Path) -> None:
    out = tmp_path / "fox.mp4"
    out.write_text("precious")
    told = f"{out} is there already and will be replaced"
    dry = lightx2v("run", preset, "--output", out, "--dry-run")
    assert told in dry.stdout
    assert out.read_text() == "precious"
    done = lightx2v("run", preset, "--output", out, "--progress", "none")
    assert done.returncode == 0
    assert told in done.stderr
    assert out.stat().st_size > 500


@pytest.mark.parametrize("name", ["prompt", "output"])
def test_bytes_that_are_no_text_are_told_in_words(
    name: str, lightx2v: Run, preset: Path, out: Path, tmp_path: Path
) -> None:
    values = {"prompt": "A fox.", "output": str(out / "a.mp4")}
    values[name] = values[name].replace("a.mp4", os.fsdecode(b"\xff.mp4")) + os.fsdecode(b"\xff")
    arguments = (text for key, value in values.items() for text in (f"--{key}", value))
    done = lightx2v("run", preset, *arguments, "--progress", "none")
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert 2 <= len(done.stderr.strip().splitlines()) <= 4
        assert leftovers(tmp_path) == []


def test_a_data_folder_that_cannot_be_written(
    lightx2v: Run, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    done = lightx2v("run", preset, "--output", tmp_path / "a.mp4", "--progress", "none")
    refused(done, 1, str(tmp_path / "file"))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["nonsense"], ["preset"], ["run", "p.json", "--seed", "x"],
     ["run", "p.json", "--compute-dtype", "int4"], ["run", "p.json", "--progress", "loud"]],
)  # fmt: skip
def test_wrong_arguments(arguments: list[str], lightx2v: Run) -> None:
    done = lightx2v(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_prints_the_path_and_nothing_else(
    lightx2v: Run, preset: Path, out: Path, tmp_path: Path
) -> None:
    done = lightx2v("run", preset, "--output", out / "a.mp4", "--progress", "none", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out / 'a.mp4'}\n"
    assert done.stderr == ""
    assert frames_of(out / "a.mp4") == [(96, 64)] * 5
    assert [path.name for path in out.iterdir()] == ["a.mp4"]
    with av.open(str(out / "a.mp4")) as container:
        settings = json.loads(container.metadata["comment"])
    assert settings["lightx2v_tui"]["seed"] == 3
    (status,) = (tmp_path / "home" / "data").rglob("status.json")
    assert json.loads(status.read_text())["status"] == "done"


def test_a_preset_that_was_printed_runs(lightx2v: Run, demo_model: Path, tmp_path: Path) -> None:
    made = lightx2v("preset", "make", demo_model, "--dit", "fp8", "--t5", "int8", "--vae", "tiny")
    assert made.returncode == 0, made.stderr
    (tmp_path / "printed.json").write_text(made.stdout)
    done = lightx2v("run", tmp_path / "printed.json", *SMALL, "--output", "a.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'a.mp4'}\n"
    assert frames_of(tmp_path / "a.mp4") == [(96, 64)] * 5


def test_frames_are_rounded_down_and_it_is_said(lightx2v: Run, preset: Path, out: Path) -> None:
    arguments = ["--set", "target_video_length=4", "--output", out / "a.mp4", "--progress", "none"]
    done = lightx2v("run", preset, *arguments)
    assert done.returncode == 0, done.stderr
    assert "4 frames become 1" in done.stderr
    assert frames_of(out / "a.mp4") == [(96, 64)]


KEYS = {
    "stage": {"stage", "total"},
    "bytes": {"component", "file", "done", "total"},
    "step": {"step", "steps", "seconds"},
    "frame": {"frame", "frames"},
    "memory": {"ram", "vram", "vram_peak"},
    "saved": {"path"},
    "note": {"text"},
    "resumed": {"step", "steps"},
    "waiting": {"reason"},
    "attempt": {"number", "what"},
    "done": {"path", "seconds"},
    "failed": {"what", "why", "fix"},
    "cancelled": set(),
}
TERMINAL = {"done", "failed", "cancelled"}


def events_of(stdout: str) -> list[dict[str, object]]:
    """Every line as an event, of the kinds and with the keys that the contract names."""
    events: list[dict[str, object]] = [json.loads(line) for line in stdout.splitlines()]
    for event in events:
        assert set(event) - {"event"} == KEYS[str(event["event"])]
    assert [event["event"] in TERMINAL for event in events] == [False] * (len(events) - 1) + [True]
    return events


def test_json_progress(lightx2v: Run, preset: Path, out: Path) -> None:
    done = lightx2v("run", preset, "--output", out / "a.mp4", "--progress", "json")
    assert done.returncode == 0, done.stderr
    events = events_of(done.stdout)
    kinds = {str(event["event"]) for event in events}
    assert kinds == {"stage", "bytes", "step", "frame", "memory", "saved", "done"}
    steps = [(event["step"], event["steps"]) for event in events if event["event"] == "step"]
    assert steps == [(number, 4) for number in range(1, 5)]
    saved = [event["path"] for event in events if event["event"] == "saved"]
    assert saved == [events[-1]["path"]] == [str(out / "a.mp4")]


def test_json_progress_of_a_run_that_fails(lightx2v: Run, preset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = tmp_path / "file/a.safetensors"
    done = lightx2v("run", preset, "--save-tensors", kept, "--progress", "json")
    assert done.returncode == 1
    last = events_of(done.stdout)[-1]
    assert last["event"] == "failed"
    assert str(tmp_path / "file") in str(last["why"])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("progress", ["auto", "json"])
def test_a_dry_run_writes_nothing_and_imports_no_torch(
    progress: str, preset: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from lightx2v_tui.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'transformers', 'av', 'textual'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    arguments = ("run", preset, "--dry-run", "--progress", progress, "--output", "out/a.mp4")
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()
    assert "distill_model.safetensors" in done.stdout
    if progress == "json":
        assert json.loads(done.stdout)["size"] == "96x64, 5 frames at 16 fps"


#: Long enough to be interrupted.
LONGER = ("--set", "target_video_length=81", "--set", "target_width=192")


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, '"prepare"'), (signal.SIGINT, '"bytes"'), (signal.SIGINT, '"step"'),
     (signal.SIGINT, '"frame"'), (signal.SIGTERM, '"step"')],
)  # fmt: skip
def test_a_signal_cancels_and_leaves_nothing(
    number: signal.Signals, moment: str, server: ForkServer, preset: Path, out: Path, tmp_path: Path
) -> None:
    argv = ["run", str(preset), "--output", str(out / "a.mp4"), "--progress", "json", *LONGER]
    process = Process(server, argv, tmp_path)
    assert process.read(PATIENCE, moment)
    process.send(number)
    code, stderr = process.end(), process.stderr
    assert code == 130, stderr
    assert "Traceback" not in stderr
    assert process.events[-1] == {"event": "cancelled"}
    assert list(out.iterdir()) == []
    assert leftovers(tmp_path) == []
    (status,) = (tmp_path / "home" / "data").rglob("status.json")
    ending = "cancelled" if number == signal.SIGINT else "interrupted"
    assert json.loads(status.read_text())["status"] == ending
    assert f"run --resume {status.parent.name}" in stderr


def test_demo_makes_the_model_and_one_video(lightx2v: Run, tmp_path: Path) -> None:
    place, video = tmp_path / "models", tmp_path / "demo.mp4"
    done = lightx2v("demo", "--headless", "--dest", place, "--output", video, *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{video}\n"
    assert frames_of(video) == [(96, 64)] * 5
    assert len(list(place.iterdir())) == 1
    assert [name for name in leftovers(tmp_path) if name != "demo.mp4"] == []
    listed = lightx2v("scan", place, "--json")
    (root,) = json.loads(listed.stdout)["roots"]
    assert all(variant["complete"] for variant in root["variants"])


def test_demo_at_its_own_size(lightx2v: Run, demo_model: Path, tmp_path: Path) -> None:
    before = tree(demo_model)
    video = tmp_path / "demo.mp4"
    done = lightx2v("demo", "--headless", "--dest", demo_model.parent, "--output", video)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{video}\n"
    assert frames_of(video) == [(256, 160)] * 33
    assert tree(demo_model) == before


def test_demo_where_no_model_can_be_written(lightx2v: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = lightx2v("demo", "--headless", "--dest", tmp_path / "file", "--output", "a.mp4")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(tmp_path) == []


def test_preset_check_says_what_would_run(lightx2v: Run, preset: Path, tmp_path: Path) -> None:
    table = json.loads(preset.read_text())
    preset.write_text(json.dumps({**table, "target_widht": 3}))
    before = tree(tmp_path)
    done = lightx2v("preset", "check", preset)
    assert done.returncode == 0, done.stderr
    for words in ("target_height = 64  (used)", "did you mean `target_width`?",
                  "distill_model.safetensors", "96x64, 5 frames"):  # fmt: skip
        assert words in done.stdout
    assert tree(tmp_path) == before


def test_preset_check_of_a_model_that_is_gone(
    lightx2v: Run, broken: Path, model_copy: Path
) -> None:
    shutil.rmtree(model_copy)
    done = lightx2v("preset", "check", broken)
    assert done.returncode == 1
    assert 2 <= len(done.stderr.strip().splitlines()) <= 4
    assert "Traceback" not in done.stderr


def test_saved_presets_are_listed_and_run_by_name(
    lightx2v: Run, preset: Path, tmp_path: Path
) -> None:
    nothing = lightx2v("preset", "list")
    assert nothing.returncode == 0
    assert "no presets" in nothing.stdout
    saved = tmp_path / "home" / "data" / "lightx2v-tui" / "presets"
    saved.mkdir(parents=True)
    shutil.copy(preset, saved / "fox.json")
    (saved / "wrong.json").write_text("{")
    listed = lightx2v("preset", "list")
    assert listed.returncode == 0
    fox, wrong = listed.stdout.splitlines()
    assert fox.startswith("fox: Demo-T2V")
    assert "bf16, 96x64x5" in fox
    assert "not JSON" in wrong
    done = lightx2v("run", "fox", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "96x64" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--clip", "fp8"], "clip"), (["--lora", "missing.safetensors:1"], "missing.safetensors")],
)
def test_preset_make_refuses_what_is_not_there(
    arguments: list[str], word: str, lightx2v: Run, demo_model: Path, tmp_path: Path
) -> None:
    done = lightx2v("preset", "make", demo_model, *arguments, "-o", tmp_path / "p.json")
    refused(done, 2, word)
    assert not (tmp_path / "p.json").exists()


def test_preset_make_of_no_model(lightx2v: Run, tmp_path: Path) -> None:
    refused(lightx2v("preset", "make", tmp_path), 2, "not a model root")
    refused(lightx2v("preset", "make", tmp_path / "nowhere"), 2, "nowhere")
