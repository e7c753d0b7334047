"""What a run tells while it reads: which file of which network, and how much of it in all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine import checkpoint
from engine.pipeline import run
from engine.spec.control import RunControl
from engine.spec.errors import Cancelled, CheckpointError
from engine.spec.events import BytesRead, Done, Event, Failed, StageStarted
from engine.spec.header import read_header
from engine.spec.job import Job, Lora, Weights
from engine.spec.precision import Precision
from lightx2v_tui.launch import jobs
from lightx2v_tui.presets import Preset
from tests.engine.support import leftovers, make_job, run_all

DEMO_LORA = Path("loras") / "demo_cfg_step_distill_lora_rank4.safetensors"


def told(events: list[Event]) -> dict[str, list[BytesRead]]:
    """What was told of each component."""
    found: dict[str, list[BytesRead]] = {}
    for event in events:
        if isinstance(event, BytesRead):
            found.setdefault(event.component, []).append(event)
    return found


def whole(weights: Weights) -> int:
    """Bytes of all tensors in some files."""
    headers = [read_header(path) for path in weights.files]
    return sum(info.nbytes for header in headers for info in header.tensors.values())


def expect(read: list[BytesRead], weights: Weights, *, everything: bool = True) -> None:
    """Expect the names of these files, growing counts, and a total that is reached."""
    assert {event.file for event in read} <= {path.name for path in weights.files}
    done = [event.done for event in read]
    assert done == sorted(done)
    assert {event.total for event in read} == {done[-1]}
    assert 0 < done[-1] <= whole(weights)
    if everything:
        assert done[-1] == whole(weights)


def stage_of(events: list[Event], component: str) -> str:
    """The stage in which a component is read."""
    stage = ""
    for event in events:
        stage = event.stage if isinstance(event, StageStarted) else stage
        if isinstance(event, BytesRead) and event.component == component:
            return stage
    return ""


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("precision", list(Precision))
def test_every_network_names_its_files_and_counts_its_bytes(
    precision: Precision, tiny: bool, demo_model: Path, tmp_path: Path
) -> None:
    lora = Lora(demo_model / DEMO_LORA)
    job = make_job(demo_model, tmp_path / "a.mp4", precision=precision, tiny=tiny,
                   loras=(lora, lora))  # fmt: skip
    events = run_all(job)
    assert isinstance(events[-1], Done)
    read = told(events)
    vae = "tiny VAE" if tiny else "VAE"
    assert list(read) == ["T5", "DiT", "LoRA", vae]
    expect(read["T5"], job.t5)
    expect(read["DiT"], job.dit)
    expect(read[vae], job.vae, everything=False)
    assert [stage_of(events, name) for name in read] == ["load_t5", "load_dit", "load_dit",
                                                         "load_vae"]  # fmt: skip
    values = sum(value.nbytes for value in load_file(lora.path).values())
    assert [event.file for event in read["LoRA"] if event.done == event.total == values] == [
        DEMO_LORA.name
    ] * 2


@pytest.mark.golden
def test_the_image_encoders_name_their_files(golden: Path, tmp_path: Path) -> None:
    root, picture = golden / "Tiny-I2V-LightX2V", golden / "first_frame.png"
    preset = Preset(model_path=root, image=picture, width=64, height=64, frames=5)
    job = jobs.plan(preset, jobs.Options(), tmp_path / "a.mp4").job
    assert job.clip is not None
    assert job.vae_encoder is not None
    events = run_all(job)
    assert isinstance(events[-1], Done)
    read = told(events)
    expect(read["CLIP"], job.clip, everything=False)
    expect(read["VAE encoder"], job.vae_encoder, everything=False)
    assert stage_of(events, "CLIP") == stage_of(events, "VAE encoder") == "load_clip"


def small_chunks(monkeypatch: pytest.MonkeyPatch, path: Path) -> dict[str, torch.Tensor]:
    """A `.pth` file that is read in chunks of 64 bytes; gives its tensors."""
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 64)
    state = {
        "even": torch.arange(64, dtype=torch.float32).view(8, 8),
        "odd": torch.arange(37, dtype=torch.bfloat16),
        "turned": torch.arange(30.0).view(5, 6).t(),
        "one": torch.tensor(3.0),
        "none": torch.empty(0, 4),
    }
    torch.save(state, path)
    return state


def test_a_large_tensor_of_a_pth_file_is_told_chunk_by_chunk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.pth"
    state = small_chunks(monkeypatch, path)
    pieces = list(checkpoint.stream([read_header(path)], state, RunControl()))
    for name, tensor in state.items():
        of_one = [piece for piece in pieces if piece.name == name]
        assert sum(piece.nbytes for piece in of_one) == tensor.nbytes
        assert [piece.tensor is None for piece in of_one] == [True] * (len(of_one) - 1) + [False]
        assert of_one[-1].tensor is not None
        assert torch.equal(of_one[-1].tensor, tensor)
    assert len([piece for piece in pieces if piece.name == "even"]) == 4


def test_reading_a_large_tensor_of_a_pth_file_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.pth"
    state, stop = small_chunks(monkeypatch, path), RunControl()
    pieces = checkpoint.stream([read_header(path)], state, stop)
    assert next(pieces).tensor is None
    stop.set()
    with pytest.raises(Cancelled):
        next(pieces)


# A folder that is deleted while it is read.


def delete_at(job: Job, component: str, folder: Path) -> Event:
    """Run, deleting a folder when a component is first read of; gives the last event."""
    gone = False
    for event in run(job, RunControl()):
        if not gone and isinstance(event, BytesRead) and event.component == component:
            shutil.rmtree(folder)
            gone = True
        last = event
    assert gone
    return last


@pytest.mark.parametrize("component", ["T5", "DiT"])
def test_a_model_that_is_deleted_while_it_is_read_ends_the_run_in_words(
    component: str, model_copy: Path, tmp_path: Path
) -> None:
    """What is read next is named; in words, and nothing is left behind."""
    job = make_job(model_copy, tmp_path / "a.mp4", precision=Precision.FP8)
    last = delete_at(job, component, model_copy)
    assert isinstance(last, Failed)
    assert isinstance(last.error, CheckpointError)
    assert "is missing" in last.error.what
    assert str(model_copy) in last.error.why
    assert last.error.fix
    assert leftovers(tmp_path) == []


def test_a_lora_that_is_deleted_while_the_dit_is_read_is_named(
    model_copy: Path, tmp_path: Path
) -> None:
    lora = Lora(model_copy / DEMO_LORA)
    job = make_job(model_copy, tmp_path / "a.mp4", loras=(lora,))
    last = delete_at(job, "DiT", model_copy / "loras")
    assert isinstance(last, Failed)
    assert DEMO_LORA.name in last.error.what
