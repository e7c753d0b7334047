"""Checkpoints that cannot be used: told in words, and the run starts from noise."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine import resume
from engine.spec.control import RunControl
from engine.spec.errors import CheckpointError
from engine.spec.events import Noted, Resumed, StepDone
from engine.spec.job import Job, UniPC
from tests.engine.support import make_job
from tests.engine.test_resume import finish, until_step


@pytest.fixture
def kept(demo_model: Path, tmp_path: Path) -> Job:
    """A job that ended after its second step."""
    job = make_job(demo_model, tmp_path / "out" / "a.mp4", tiny=True,
                   checkpoint=tmp_path / "c.safetensors")  # fmt: skip
    until_step(job, 2)
    return job


def rewritten(path: Path, **facts: str) -> None:
    """Save a checkpoint anew with other facts and the digest that belongs to them."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        told = {**file.metadata(), **facts}
    told.pop("digest")
    save_file(tensors, path, {**told, "digest": resume._digest(told, tensors)})


def not_a_number(path: Path) -> None:
    tensors = load_file(path)
    tensors["latents"].view(-1)[3] = float("nan")
    with safe_open(path, "pt") as file:
        told = file.metadata()
    told.pop("digest")
    save_file(tensors, path, {**told, "digest": resume._digest(told, tensors)})


def other_tensors(path: Path) -> None:
    save_file({"weight": torch.zeros(4)}, path)


def other_shape(path: Path) -> None:
    tensors = load_file(path)
    tensors["latents"] = tensors["latents"][:, :1].contiguous()
    with safe_open(path, "pt") as file:
        save_file(tensors, path, file.metadata())


def bad_generator(path: Path) -> None:
    tensors = load_file(path)
    tensors["generator"] = torch.zeros(100, dtype=torch.uint8)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    told.pop("digest")
    save_file(tensors, path, {**told, "digest": resume._digest(told, tensors)})


def sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def replaced(content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(content)

    return change


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


BREAK: dict[str, tuple[Callable[[Path], None], str]] = {
    "half": (lambda path: os.truncate(path, path.stat().st_size // 2), "needs"),
    "empty": (lambda path: os.truncate(path, 0), "0 bytes"),
    "schema": (lambda path: rewritten(path, schema="2"), "another version"),
    "step 0": (lambda path: rewritten(path, step="0"), "damaged"),
    "a step too many": (lambda path: rewritten(path, step="5"), "damaged"),
    "no number": (lambda path: rewritten(path, step="²"), "damaged"),
    "steps": (lambda path: rewritten(path, steps="9"), "other settings"),
    "nan": (not_a_number, "not finite"),
    "other tensors": (other_tensors, ""),
    "other shape": (other_shape, "not a checkpoint of this video"),
    "generator": (bad_generator, "not whole"),
    "sparse": (sparse, "not a checkpoint"),
    "long header": (replaced(struct.pack("<Q", 1 << 26) + b"{" * 999), "not a checkpoint"),
    "zip": (replaced(b"PK\x03\x04" + b"x" * 999), "not a checkpoint"),
    "folder": (as_folder, "not a file"),
    "pipe": (as_pipe, "not a file"),
    "dangling link": (as_dangling_link, "No such file"),
}


@pytest.mark.parametrize("how", BREAK)
def test_what_cannot_be_used_is_told_and_the_run_starts_from_noise(how: str, kept: Job) -> None:
    finish(replace(kept, checkpoint=None))
    video = kept.output.read_bytes()
    assert kept.checkpoint is not None
    change, why = BREAK[how]
    change(kept.checkpoint)
    events = finish(kept)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert "starts from noise" in notes[0]
    assert why in notes[0]
    assert len(notes) == (2 if how == "folder" else 1)  # it cannot be replaced, either
    assert not [event for event in events if isinstance(event, Resumed)]
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    assert kept.output.read_bytes() == video


@pytest.fixture(scope="module")
def small(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """The smallest UniPC job there is, after its second step."""
    folder = tmp_path_factory.mktemp("small")
    job = make_job(demo_model, folder / "a.mp4", tiny=True, width=16, height=16, frames=1,
                   schedule=UniPC(3), checkpoint=folder / "c.safetensors")  # fmt: skip
    until_step(job, 2)
    return job


def test_a_file_cut_at_any_length_is_refused(small: Job, tmp_path: Path) -> None:
    assert small.checkpoint is not None
    content, path = small.checkpoint.read_bytes(), tmp_path / "cut.safetensors"
    made_for = resume.fingerprint(small)
    path.write_bytes(content)
    assert resume.read(path, small, made_for, RunControl()).step == 2
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(CheckpointError):
            resume.read(path, small, made_for, RunControl())


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Flip, insert, drop or repeat bytes, anywhere or in the header."""
    kind = draw(st.sampled_from(("flip", "insert", "drop", "repeat")))
    place = draw(st.floats(0, 1)) * draw(st.sampled_from((1.0, 0.15)))
    extra = draw(st.binary(min_size=1, max_size=9))

    def mutate(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ (extra[0] or 1)]) + content[at + 1 :]
        if kind == "insert":
            return content[:at] + extra + content[at:]
        if kind == "drop":
            return content[:at] + content[at + len(extra) :]
        return content[:at] + content[at : at + 8] + content[at:]

    return mutate


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(mutations(), min_size=1, max_size=3))
def test_a_changed_file_is_refused_or_says_the_same(
    changes: list[Callable[[bytes], bytes]], small: Job, tmp_path: Path
) -> None:
    assert small.checkpoint is not None
    content, path = small.checkpoint.read_bytes(), tmp_path / "changed.safetensors"
    made_for = resume.fingerprint(small)
    for change in changes:
        content = change(content)
    path.write_bytes(content)
    try:
        walk = resume.read(path, small, made_for, RunControl())
    except CheckpointError:
        return
    whole = resume.read(small.checkpoint, small, made_for, RunControl())
    assert walk.step == whole.step
    assert torch.equal(walk.latents, whole.latents)
    assert torch.equal(walk.generator.get_state(), whole.generator.get_state())
    state, expected = walk.sampler.state(), whole.sampler.state()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_any_bytes_are_refused(content: bytes, small: Job, tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        resume.read(path, small, resume.fingerprint(small), RunControl())


def test_a_job_of_a_million_latents_is_not_read_from_a_small_file(
    small: Job,
) -> None:
    """The header is believed only as far as the file goes: nothing large is allocated for it."""
    large = replace(small, width=4096, height=4096, frames=81)
    assert small.checkpoint is not None
    made_for = resume.fingerprint(small)
    with pytest.raises(CheckpointError, match="not a checkpoint of this video"):
        resume.read(small.checkpoint, large, made_for, RunControl())
