"""`preset make`, `check` and `list`: what is written, what is told of it, what is not replaced."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lightx2v_tui import presets
from lightx2v_tui.cli import main
from lightx2v_tui.launch import jobs
from lightx2v_tui.paths import presets_dir

Captured = pytest.CaptureFixture[str]
ARCHITECTURE = {
    "dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "eps",
    "text_len", "patch_size", "vae_stride", "num_channels_latents",
}  # fmt: skip
HAND_WRITTEN = """{
    // from the guide
    "task": "t2v",
    "mm_config": {
        "mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"
    },                              // DIT quantization scheme
    "vae_pth": "Wan2.1_VAE.pth",
    "infer_step": 4,
    "lora_configs": [{"path": "/nowhere/l.safetensors"}],
}
"""


def make(root: Path, path: Path, *options: str) -> int:
    return main(["preset", "make", str(root), "-o", str(path), *options])


@pytest.fixture
def made(demo_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "made.json"
    assert make(demo_model, path) == 0
    return path


def check_written(path: Path, *, clip: bool, distilled: bool) -> None:
    """What any LightX2V must find in a preset, and that the file is stable."""
    text = path.read_text(encoding="utf-8")
    table = json.loads(text)  # strict JSON
    kinds = ["dit", "t5", *(["clip"] if clip else [])]
    for kind in kinds:
        state = "quantized" if table[f"{kind}_quantized"] else "original"
        assert Path(table[f"{kind}_{state}_ckpt"]).exists()
    for key in ("vae_pth", "vae_path", "tiny_vae_path", "tae_path", "t5_tokenizer_path"):
        assert Path(table[key]).is_absolute()
        assert Path(table[key]).exists()
    assert set(table) >= ARCHITECTURE
    assert ("denoising_step_list" in table) == distilled
    preset = presets.read(path)
    presets.save(preset, path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()
    assert preset.notes == ()
    assert presets.is_own(path)


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
@pytest.mark.parametrize("name", ["Tiny-T2V-StepDistill-CfgDistill-LightX2V", "Tiny-I2V-LightX2V"])
def test_presets_of_the_golden_roots(
    golden: Path, tmp_path: Path, name: str, precision: str
) -> None:
    path, i2v = tmp_path / "p.json", "I2V" in name
    options = ["--dit", precision, "--t5", precision, *(["--clip", precision] if i2v else [])]
    assert make(golden / name, path, *options) == 0
    check_written(path, clip=i2v, distilled=not i2v)


def test_presets_of_the_demo_model(demo_model: Path, tmp_path: Path) -> None:
    for precision in ("bf16", "fp8", "int8"):
        assert make(demo_model, tmp_path / "p.json", "--dit", precision, "--t5", precision) == 0
        check_written(tmp_path / "p.json", clip=False, distilled=True)


def test_a_preset_of_the_app_is_replaced(made: Path, demo_model: Path) -> None:
    assert make(demo_model, made, "--dit", "int8") == 0
    assert json.loads(made.read_text())["dit_quant_scheme"] == "int8-vllm"


@pytest.mark.parametrize("content", [HAND_WRITTEN, "", "{}", "my notes"])
def test_a_file_written_by_hand_is_not_replaced(
    demo_model: Path, tmp_path: Path, capsys: Captured, content: str
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    assert make(demo_model, path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 3
    assert "--force" in err
    assert path.read_text() == content
    assert make(demo_model, path, "--force") == 0
    assert presets.is_own(path)


def test_what_is_no_file_is_not_replaced(demo_model: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert make(demo_model, fifo, "--force") == 2
    assert fifo.is_fifo()
    assert make(demo_model, tmp_path, "--force") == 2


@pytest.mark.parametrize(("answer", "replaced"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_the_app_asks(
    demo_model: Path, tmp_path: Path, answer: str, replaced: bool
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(HAND_WRITTEN)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lightx2v_tui", "preset", "make", demo_model, "-o", path]
    with subprocess.Popen(
        command, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL
    ) as running:
        os.write(ours, f"{answer}\n".encode())
        running.wait(60)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert "overwrite? [y/N]" in shown
    assert running.returncode == (0 if replaced else 2)
    assert (path.read_text() != HAND_WRITTEN) == replaced


def test_check_tells_every_key_and_every_difference(
    demo_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(HAND_WRITTEN.replace("{", f'{{"model_path": "{demo_model}",', 1))
    assert main(["preset", "check", str(path)]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert f"vae_pth = Wan2.1_VAE.pth  (does not exist, looked for in {Path.cwd()})" in lines
    assert any(line.startswith("lora_configs = ") and "does not exist" in line for line in lines)
    assert "infer_step = 4  (not known, kept)" in lines
    place = lines.index("  mm_config.mm_type (line 5)")
    assert lines[place + 1].startswith("    LightX2V: ignored")
    place = lines.index("  vae_pth (line 7)")
    for line, who in zip(lines[place + 1 :], ("Oct 2025", "Aug 2026"), strict=False):
        assert line.startswith(f"    {who}: ")
    assert "did you mean `infer_steps`?" in out
    assert "comments and trailing commas" in out
    assert len(err.splitlines()) == 3
    told = out[out.index("Where LightX2V") :]
    for place in (demo_model, tmp_path):  # no path is broken, however long
        told = told.replace(str(place), "")
    assert max(map(len, told.splitlines())) <= 80


def test_check_of_what_the_app_wrote_finds_little_to_tell(made: Path, capsys: Captured) -> None:
    assert main(["preset", "check", str(made), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {found["key"] for found in report["differences"]} <= {"lightx2v_tui", "t5_quant_scheme"}
    assert report["error"] is None
    assert report["plan"] == json.loads(made.read_text()) | {
        "lightx2v_tui": report["plan"]["lightx2v_tui"]
    }
    keys = {line["key"]: line["use"] for line in report["keys"]}
    assert keys["vae_path"] == "a file"
    assert keys["t5_tokenizer_path"] == keys["model_path"] == "a folder"


def test_check_as_json_says_what_stops_a_run(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.json"
    path.write_text(HAND_WRITTEN)
    assert main(["preset", "check", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["plan"] is None
    assert report["error"]["what"]
    assert [note for note in report["notes"] if "infer_step" in note]


def test_check_reads_the_configs_of_the_model(
    model_copy: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "p.json"
    assert make(model_copy, path, "--dit", "fp8") == 0
    (model_copy / "config.json").write_text('{"dim": 5120, "num_layers": 40}')
    quantized = model_copy / "distill_fp8" / "config.json"
    quantized.write_text(json.dumps(json.loads(quantized.read_text()) | {"num_layers": 4}))
    capsys.readouterr()
    main(["preset", "check", str(path), "--json"])
    found = {found["key"]: found for found in json.loads(capsys.readouterr().out)["differences"]}
    assert "num_layers" not in found  # the last file says what the preset says
    (model_copy / "config.json").write_text("not JSON")
    main(["preset", "check", str(path), "--json"])
    found = {found["key"]: found for found in json.loads(capsys.readouterr().out)["differences"]}
    assert "it stops" in found[str(model_copy / "config.json")]["now"]


def test_paths_of_the_wrong_kind_are_told(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "p.json"
    table = {"vae_path": str(tmp_path), "t5_tokenizer_path": str(path), "model_path": "/a" * 3000}
    path.write_text(json.dumps(table))
    assert main(["preset", "check", str(path)]) in (1, 2)
    out = capsys.readouterr().out
    assert f"vae_path = {tmp_path}  (not a file)" in out
    assert f"t5_tokenizer_path = {path}  (not a folder)" in out
    assert "File name too long" in out


def test_list_says_only_what_a_preset_says(made: Path, capsys: Captured) -> None:
    assert main(["preset", "list"]) == 0
    assert "no presets in" in capsys.readouterr().out
    folder = presets_dir()
    folder.mkdir(parents=True)
    made.rename(folder / "made.json")
    (folder / "empty.json").write_text("{}")
    (folder / "wide.json").write_text('{"target_width": 832}')
    (folder / "broken.json").write_text("{")
    assert main(["preset", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "None" not in "".join(lines)
    assert lines[0].startswith("broken: ")
    assert "this is not JSON" in lines[0]
    assert lines[1] == "empty: any model, DiT of any precision"
    assert lines[2].endswith(", 832x480x81")
    assert main(["preset", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == ["broken", "empty", "made", "wide"]
    assert listed[0]["problem"]
    assert (listed[3]["width"], listed[3]["height"]) == (832, None)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_image_is_an_input_of_a_run_and_not_of_a_preset(
    golden: Path, tmp_path: Path, capsys: Captured, options: list[str]
) -> None:
    path = tmp_path / "p.json"
    assert make(golden / "Tiny-I2V-LightX2V", path) == 0
    capsys.readouterr()
    assert main(["preset", "check", str(path), *options]) == 0
    out, err = capsys.readouterr()
    assert "no image is named" in out
    assert err == ""
    if options:
        assert "image" not in json.loads(out)["plan"]["lightx2v_tui"]
    assert main(["run", str(path), "--dry-run"]) == 2
    assert "needs an image" in capsys.readouterr().err


def test_a_preset_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "lightx2v_tui", "preset", "check", fifo]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "not a regular file" in done.stderr


def test_check_compares_the_preset_with_its_dit(
    made: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = json.loads(made.read_text())
    changes = {"task": "i2v", "model_cls": "wan2.2_moe_distill", "self_attn_1_type": "flash_attn2"}
    made.write_text(json.dumps(table | changes))
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda _: None)
    main(["preset", "check", str(made), "--json"])
    found = {found["key"]: found for found in json.loads(capsys.readouterr().out)["differences"]}
    assert found["task"]["here"].startswith("t2v")
    assert found["model_cls"]["here"].startswith("wan2.1")
    assert "not installed" in found["self_attn_1_type"]["now"]


def test_list_says_where_presets_belong(capsys: Captured) -> None:
    assert main(["preset", "list"]) == 0
    assert f"-o {presets_dir() / 'NAME.json'}" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--dit", "--t5", "--clip"])
def test_a_precision_that_is_none_is_told_which_there_are(option: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["preset", "make", ".", option, "fp4"])
    assert "'fp4' is not one of bf16|fp8|int8" in capsys.readouterr().err
