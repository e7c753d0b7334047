"""Previews: what they show, how often, and that the video does not know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from engine.models.vae import denormalized
from engine.pipeline import Engine, run
from engine.preview import (
    MAX_HEIGHT,
    MAX_WIDTH,
    Previewer,
    draw_latents,
    tiny_vae_drawing,
    to_pictures,
)
from engine.schedule import make_sampler
from engine.spec.control import RunControl
from engine.spec.errors import JobError
from engine.spec.events import BytesRead, Done, Event, Preview, StageStarted, StepDone
from engine.spec.job import Euler, Job, Placing, Placings, Previews, StepDistill, UniPC, Weights
from engine.spec.picture import Picture
from engine.spec.precision import Precision
from tests.engine.support import make_job, random_tiny_vae, run_all


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def values(picture: Picture) -> Tensor:
    """The pixels as numbers: [H, W, 3]."""
    flat = torch.frombuffer(bytearray(picture.pixels), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, 3).float()


def roughness(pixels: Tensor) -> float:
    """How much neighbours differ."""
    return float(pixels.diff(dim=1).abs().mean())


@pytest.mark.golden
def test_real_latents_look_like_their_video(golden: Path) -> None:
    """A slice of cake with berries and mint on a white plate, before a dark background."""
    path = golden / "real_latents_wan21.pth"
    latents = torch.load(path, map_location="cpu", weights_only=True)[0]
    pictures = draw_latents(latents)
    assert [(picture.width, picture.height) for picture in pictures] == [(64, 40)] * 16
    frames = [values(picture) for picture in pictures]
    shuffled = (
        frames[5]
        .flatten(0, 1)[torch.randperm(40 * 64, generator=torch.Generator().manual_seed(0))]
        .view(40, 64, 3)
    )
    assert roughness(frames[5]) < 0.4 * roughness(shuffled)
    for before, after in pairwise(frames[1:]):
        assert (after - before).abs().mean() < 0.2 * frames[5].std()
    plate, corner, mint = frames[5][30, 6:12], frames[5][:4, 44:], frames[5][7:11, 45:50]
    assert plate.mean() > 220
    assert corner.mean() < 80
    red, green, blue = mint.mean((0, 1))
    assert green > red
    assert green > blue


@given(time=st.integers(1, 4), height=st.integers(1, 130), width=st.integers(1, 130),
       scale=st.sampled_from([0.0, 1.0, 1e6]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_latent_frame_is_a_small_picture(
    time: int, height: int, width: int, scale: float
) -> None:
    pictures = draw_latents(scale * noise(16, time, height, width))
    assert len(pictures) == time
    for picture in pictures:
        assert 1 <= picture.width <= min(width, MAX_WIDTH)
        assert 1 <= picture.height <= min(height, MAX_HEIGHT)
        assert len(picture.pixels) == 3 * picture.width * picture.height
    if height <= MAX_HEIGHT and width <= MAX_WIDTH:
        assert (pictures[0].width, pictures[0].height) == (width, height)
    elif min(pictures[0].width, pictures[0].height) > 8:
        assert pictures[0].width / pictures[0].height == pytest.approx(width / height, rel=0.1)


def test_the_same_latents_are_the_same_pictures_in_any_dtype_they_come_in() -> None:
    latents = noise(16, 3, 60, 104).bfloat16()
    assert draw_latents(latents) == draw_latents(latents.float()) == draw_latents(latents)


def test_a_picture_that_is_scaled_down_keeps_its_mean() -> None:
    frame = torch.linspace(-1, 1, 960)[None, None, None].expand(1, 3, 540, 960)
    (picture,) = to_pictures(frame)
    assert (picture.width, picture.height) == (96, 54)
    pixels = values(picture)
    assert pixels.mean() == pytest.approx(127.5, abs=1)
    assert (pixels[0].diff(dim=0) > 0).all()


@pytest.mark.parametrize("channels", [4, 12, 48])
def test_latents_of_another_vae_are_not_drawn(channels: int) -> None:
    assert draw_latents(noise(channels, 2, 8, 8)) == ()
    assert Previewer(draw_latents, 4).take(1, noise(channels, 2, 8, 8)) is None


@pytest.mark.parametrize(
    "schedule", [StepDistill((1000, 750, 500, 250), 5.0), UniPC(6, 5.0), Euler(6, 3.0)]
)
def test_a_sampler_finds_the_clean_latents_behind_a_true_flow(
    schedule: StepDistill | UniPC | Euler,
) -> None:
    clean, rest = noise(16, 2, 4, 4), noise(16, 2, 4, 4, seed=1)
    sampler = make_sampler(schedule)
    generator = torch.Generator().manual_seed(0)
    latents = sampler.sigmas[0] * rest + (1 - sampler.sigmas[0]) * clean  # type: ignore[attr-defined]
    for index in range(len(sampler)):
        sigma = sampler.sigmas[index]  # type: ignore[attr-defined]
        flow = (latents - clean) / sigma
        torch.testing.assert_close(sampler.clean(index, latents, flow), clean, rtol=1e-4, atol=1e-4)
        latents = sampler.step(index, latents, flow, generator)
    torch.testing.assert_close(latents, clean, rtol=1e-4, atol=1e-4)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn_at(moments: Sequence[float]) -> list[int]:
    """The steps that are drawn where steps end at these moments."""
    clock = Clock()
    previewer = Previewer(draw_latents, len(moments), clock)
    steps = []
    for step, clock.now in enumerate(moments, 1):
        if previewer.take(step, torch.zeros(16, 1, 2, 2)) is not None:
            steps.append(step)
    return steps


def test_the_first_and_the_last_step_are_drawn_and_one_a_second_in_between() -> None:
    assert drawn_at([5.0]) == [1]
    assert drawn_at([0.0, 0.1, 0.2, 0.3]) == [1, 4]
    assert drawn_at([0.0, 0.6, 1.1, 1.9, 2.2, 2.3]) == [1, 3, 5, 6]
    assert drawn_at([0.0, 30.0, 60.0]) == [1, 2, 3]


@given(st.lists(st.floats(0, 3), min_size=2, max_size=30))
def test_no_two_previews_before_the_last_are_within_a_second(gaps: list[float]) -> None:
    moments = [sum(gaps[:end]) for end in range(1, len(gaps) + 1)]
    steps = drawn_at(moments)
    assert (steps[0], steps[-1]) == (1, len(moments))
    times = [moments[step - 1] for step in steps[:-1]]
    assert all(after - before > 1 - 1e-9 for before, after in pairwise(times))


def test_slow_previews_become_rare() -> None:
    """Between those of the first and the last step they take a tenth of the time at most."""
    clock = Clock()

    def slow(clean: Tensor) -> tuple[Picture, ...]:
        clock.now += 5.0
        return draw_latents(clean)

    previewer = Previewer(slow, 20, clock)
    steps = []
    for step in range(1, 21):
        clock.now += 10.0
        if previewer.take(step, torch.zeros(16, 1, 2, 2)) is not None:
            steps.append(step)
    assert steps == [1, 6, 11, 16, 20]


def test_a_device_without_memory_for_a_preview_gets_one_from_latents() -> None:
    asked = []

    def greedy(_clean: Tensor) -> tuple[Picture, ...]:
        asked.append(1)
        raise torch.OutOfMemoryError

    previewer = Previewer(greedy, 2)
    clean = noise(16, 3, 4, 4)
    for step in (1, 2):
        preview = previewer.take(step, clean)
        assert preview is not None
        assert preview.frames == draw_latents(clean)
    assert asked == [1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_tiny_vae_draws_what_decoding_shows(count: int) -> None:
    """The first latents are decoded from the start: then the frame is the video's own."""
    vae, clean = random_tiny_vae(), noise(16, count, 8, 12)
    frames = torch.cat(list(vae.decode(clean)), dim=1)
    shown = (0, 4, 4)[count - 1]  # the last frame of the latent in the middle
    expected = to_pictures(frames[:, shown : shown + 1].transpose(0, 1))
    assert tiny_vae_drawing(vae, wants_denormalized=False)(clean) == expected
    other = tiny_vae_drawing(vae, wants_denormalized=True)
    assert other(clean) == tiny_vae_drawing(vae, wants_denormalized=False)(denormalized(clean))
    assert other(clean) != expected


def test_a_tiny_vae_draws_one_frame_of_a_long_video() -> None:
    clean = noise(16, 9, 16, 28)
    (picture,) = tiny_vae_drawing(random_tiny_vae(), wants_denormalized=False)(clean)
    assert (picture.width, picture.height) == (94, 54)
    changed = torch.cat([clean[:, :3], noise(16, 6, 16, 28, seed=1)], dim=1)
    (other,) = tiny_vae_drawing(random_tiny_vae(), wants_denormalized=False)(changed)
    assert other != picture


# In runs of the demo model.


def job_of(root: Path, folder: Path, preview: Previews, **changes: object) -> Job:
    """A job with previews; it keeps its tensors."""
    job = make_job(root, folder / "a.mp4", save_tensors=folder / "kept.st", frames=9, **changes)
    tiny = Weights((root / "distill_models" / "taew2_1.pth",), Precision.BF16)
    return replace(job, preview=preview, preview_vae=tiny if preview is Previews.TINY_VAE else None)


def finish(job: Job) -> tuple[list[Event], dict[str, Tensor]]:
    events = run_all(job)
    assert isinstance(events[-1], Done), events[-1]
    assert job.save_tensors is not None
    return events, load_file(job.save_tensors)


def previews_in(events: Sequence[Event]) -> list[Preview]:
    return [event for event in events if isinstance(event, Preview)]


@pytest.mark.parametrize(
    "schedule", [StepDistill((1000, 750, 500, 250), 5.0), UniPC(4, 5.0), Euler(4, 5.0)]
)
def test_a_run_shows_its_first_and_its_last_step(
    schedule: StepDistill | UniPC | Euler, demo_model: Path, tmp_path: Path
) -> None:
    events, kept = finish(job_of(demo_model, tmp_path, Previews.LATENTS, schedule=schedule))
    previews = previews_in(events)
    assert (previews[0].step, previews[-1].step) == (1, 4)
    assert all(len(preview.frames) == 3 for preview in previews)  # of 9 frames
    assert previews[0].frames != previews[-1].frames
    # At the last step the clean latents are the video's.
    last = [values(picture) for picture in previews[-1].frames]
    video = [values(picture) for picture in draw_latents(kept["latents.step3"])]
    for ours, theirs in zip(last, video, strict=True):
        assert (ours - theirs).abs().max() <= 1
    place = events.index(previews[0])
    assert isinstance(events[place - 1], StepDone)


@pytest.mark.parametrize("preview", [Previews.LATENTS, Previews.TINY_VAE])
@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP8])
def test_a_video_is_the_same_bit_for_bit_with_and_without_previews(
    precision: Precision, preview: Previews, demo_model: Path, tmp_path: Path
) -> None:
    events, kept = finish(job_of(demo_model, tmp_path / "x", preview, precision=precision))
    quiet, plain = finish(job_of(demo_model, tmp_path / "y", Previews.OFF, precision=precision))
    assert previews_in(quiet) == []
    assert len(previews_in(events)) >= 2
    assert kept.keys() == plain.keys()
    assert all(torch.equal(kept[name], plain[name]) for name in plain)


def test_without_being_asked_a_job_makes_no_previews(demo_model: Path, tmp_path: Path) -> None:
    assert make_job(demo_model, tmp_path / "a.mp4").preview is Previews.OFF


def test_a_tiny_vae_is_loaded_with_the_dit_and_told(demo_model: Path, tmp_path: Path) -> None:
    events, _ = finish(job_of(demo_model, tmp_path, Previews.TINY_VAE))
    stage, seen = "", {}
    for event in events:
        if isinstance(event, StageStarted):
            stage = event.stage
        if isinstance(event, BytesRead) and event.component == "tiny VAE":
            seen[stage] = event.file
    assert seen == {"load_dit": "taew2_1.pth"}
    assert [len(preview.frames) for preview in previews_in(events)] == [1] * len(
        previews_in(events)
    )
    assert previews_in(events)[0].frames[0].width == 54


@pytest.mark.parametrize("placing", list(Placing))
def test_a_tiny_vae_stays_where_the_vae_stays(
    placing: Placing, demo_model: Path, tmp_path: Path
) -> None:
    engine = Engine()
    placings = Placings(vae=placing)
    job = job_of(demo_model, tmp_path, Previews.TINY_VAE, placings=placings)
    for number in range(2):
        events = list(run(job, RunControl(), engine))
        assert isinstance(events[-1], Done)
        read = {event.component for event in events if isinstance(event, BytesRead)}
        assert ("tiny VAE" in read) is (number == 0 or placing is Placing.DROP)
    assert ("preview_vae" in engine._loaded) is (placing is not Placing.DROP)


def test_a_tiny_vae_preview_without_a_tiny_vae_is_no_job(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4")
    with pytest.raises(JobError, match="taew2_1"):
        replace(job, preview=Previews.TINY_VAE, preview_vae=None)
