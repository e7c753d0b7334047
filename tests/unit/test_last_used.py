"""What was last used with each model, in this start and the next."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.job import Lora
from engine.spec.precision import Precision
from lightx2v_tui import last_used
from lightx2v_tui.presets import Preset
from tests.unit.helpers import permissions_hold


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("fp8.safetensors", "bf16.safetensors", "t5.pth", "other.safetensors"):
        (folder / name).touch()
    return folder


def preset_of(model: Path, dit: str = "fp8", **values: object) -> Preset:
    preset = Preset(model_path=model, dit=model / f"{dit}.safetensors",
                    dit_precision=Precision(dit) if dit != "other" else Precision.BF16,
                    prompt="a fox", seed=7, random_seed=True)  # fmt: skip
    return replace(preset, **values)  # type: ignore[arg-type]


def test_nothing_was_used_yet(model: Path) -> None:
    assert last_used.newest() is None
    assert last_used.for_model(model) is None
    assert not last_used.folder().exists()


def test_what_was_used_comes_back_whole(model: Path) -> None:
    loras = (Lora(model / "style.safetensors", 0.4),)
    preset = preset_of(model, loras=loras, extra={"feature_caching": "Tea"})
    assert last_used.remember(preset) == ""
    assert last_used.for_model(model) == preset
    assert last_used.newest() == model
    (file,) = last_used.folder().iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_newest_of_a_model_wins(model: Path) -> None:
    for precision in ("fp8", "bf16", "fp8"):
        last_used.remember(preset_of(model, precision, prompt=precision))
    used = last_used.for_model(model)
    assert used is not None
    assert used.prompt == "fp8"
    last_used.remember(preset_of(model, "bf16", prompt="again"))
    used = last_used.for_model(model)
    assert used is not None
    assert used.prompt == "again"


def test_models_that_share_a_folder_have_values_of_their_own(model: Path) -> None:
    last_used.remember(preset_of(model, "fp8", prompt="first model"))
    last_used.remember(preset_of(model, "other", prompt="second model"))
    for dit, prompt in (("fp8", "first model"), ("other", "second model")):
        used = last_used.for_model(model, {model / f"{dit}.safetensors"})
        assert used is not None
        assert used.prompt == prompt
    assert last_used.for_model(model, {model / "bf16.safetensors"}) is None
    assert last_used.for_model(model.parent) is None


def test_what_is_gone_is_left_out(model: Path) -> None:
    preset = preset_of(model, t5=model / "t5.pth", t5_precision=Precision.FP8,
                       image=model / "gone.png", vae=model / "gone.pth")  # fmt: skip
    last_used.remember(preset)
    assert last_used.for_model(model) == replace(preset, image=None, vae=None)
    (model / "t5.pth").unlink()
    used = last_used.for_model(model)
    assert used == replace(preset, image=None, vae=None, t5=None, t5_precision=None)


def test_a_dit_that_is_gone_leaves_the_use_before(model: Path) -> None:
    last_used.remember(preset_of(model, "bf16"))
    last_used.remember(preset_of(model, "fp8"))
    (model / "fp8.safetensors").unlink()
    assert last_used.for_model(model) == preset_of(model, "bf16")
    (model / "bf16.safetensors").unlink()
    assert last_used.for_model(model) is None


def test_a_broken_file_is_none_and_is_replaced_by_the_next_use(model: Path) -> None:
    last_used.remember(preset_of(model))
    other = model.parent / "other"
    last_used.remember(Preset(model_path=other))
    newest, oldest = last_used._newest_first()
    oldest.write_text("{ broken")
    assert last_used.for_model(model) is None
    assert last_used.newest() == other
    newest.write_bytes(b"\xff\xfe\0")
    assert last_used.newest() is None
    assert last_used.remember(preset_of(model)) == ""
    assert last_used.for_model(model) == preset_of(model)
    assert last_used.newest() == model


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_used, "KEPT", 5)
    for number in range(9):
        last_used.remember(Preset(model_path=tmp_path / str(number)))
    assert len(list(last_used.folder().iterdir())) == 5
    assert last_used.for_model(tmp_path / "3") is None
    assert last_used.for_model(tmp_path / "4") is not None


def test_a_preset_without_a_model_is_not_kept() -> None:
    assert last_used.remember(Preset(prompt="x")) == ""
    assert not last_used.folder().exists()


def test_a_folder_that_cannot_be_written_is_told(model: Path) -> None:
    last_used.folder().parent.mkdir(parents=True)
    last_used.folder().write_text("in the way")
    assert "not remembered" in last_used.remember(preset_of(model))
    assert last_used.for_model(model) is None
    assert last_used.newest() is None


def test_pipes_links_and_strangers_are_left_alone(model: Path, tmp_path: Path) -> None:
    last_used.remember(preset_of(model))
    (used,) = last_used.folder().iterdir()
    start = used.name.partition("-")[0]
    os.mkfifo(last_used.folder() / f"{start}-pipe.json")
    (tmp_path / "preset.json").write_text('{"model_path": "/elsewhere"}')
    (last_used.folder() / f"{start}-link.json").symlink_to(tmp_path / "preset.json")
    assert last_used.for_model(model) == preset_of(model)
    assert last_used.newest() == model


def test_a_name_of_no_text_is_remembered(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"m\xff")
    assert "not remembered" in last_used.remember(Preset(model_path=folder)) or (
        last_used.newest() is not None
    )


def test_values_from_an_unreadable_file_are_none(model: Path) -> None:
    if not permissions_hold():
        pytest.skip("this user may read everything")
    last_used.remember(preset_of(model))
    (file,) = last_used.folder().iterdir()
    file.chmod(0)
    assert last_used.for_model(model) is None
    assert last_used.newest() is None


@settings(deadline=None, max_examples=60,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(content=st.binary(max_size=60) | st.sampled_from([b"[]", b"{}", b'{"model_path": 3}',
       b'{"model_path": "\\u0000"}', b"[" * 5000, b'{"model_path": " "}']))  # fmt: skip
def test_whatever_a_file_holds_nothing_breaks(model: Path, content: bytes) -> None:
    last_used.remember(preset_of(model))
    for file in last_used.folder().iterdir():
        file.write_bytes(content)
    assert last_used.newest() is None
    assert last_used.for_model(model) is None


def test_the_first_frame_pays_nothing_for_it() -> None:
    code = (
        "import sys; from lightx2v_tui import last_used; last_used.newest(); "
        "print(sorted(m for m in sys.modules if m in ('lightx2v_tui.presets', 'hashlib')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
