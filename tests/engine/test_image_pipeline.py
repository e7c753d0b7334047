"""Image-to-video on a tiny model: size, guidance, kept tensors, warm runs, and broken images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.demo import T5, TINY_VAE, VAE, quantized, smooth, write_tokenizer
from engine.image import fit, read_image
from engine.models.clip import ClipVision
from engine.models.t5 import Umt5
from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from engine.models.wan import WanTransformer
from engine.pipeline import Engine, run
from engine.spec.architecture import ClipArchitecture, DitArchitecture
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import JobError
from engine.spec.events import BytesRead, CancelledByUser, Done, Event, Failed, StageStarted
from engine.spec.job import Guidance, Job, Placing, Placings, StepDistill
from engine.spec.precision import ComputeDtype
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Options, Plan
from lightx2v_tui.presets import Preset
from tests.engine.support import command, leftovers, relative

DIT = DitArchitecture(
    dim=64, ffn_dim=96, num_heads=2, num_layers=2, in_dim=36, out_dim=16, text_dim=64,
    freq_dim=64, image_dim=160,
)  # fmt: skip
CLIP = ClipArchitecture(dim=160, mlp_dim=320, num_heads=2, num_layers=3, patch=14, num_tokens=17)
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
EVERYTHING = {"T5", "CLIP", "VAE encoder", "DiT", "tiny VAE"}


def clip_state() -> dict[str, Tensor]:
    """A vision tower of three blocks, as the published file names it, with a stub of the text's."""
    with torch.device("cpu"):
        tower = ClipVision(replace(CLIP, num_layers=CLIP.num_layers + 1))  # the last is not used
    for name, parameter in tower.named_parameters():
        parameter.data.normal_(std=parameter.shape[-1] ** -0.5)
        if "norm" in name:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
    visual = {f"visual.{name}": value.half() for name, value in tower.state_dict().items()}
    rest = {
        "visual.post_norm.weight": torch.ones(160),
        "visual.head": torch.zeros(160, 8),
        "textual.token_embedding.weight": torch.zeros(4, 8),
        "log_scale": torch.zeros(()),
    }
    return {**visual, **rest}


def write_root(root: Path) -> None:
    """A tiny I2V model in the guide's layout, original precision."""
    torch.manual_seed(5)
    folder = root / "original"
    folder.mkdir(parents=True)
    dit = smooth(WanTransformer(DIT)).state_dict()
    save_file(quantized(dit, None, bool), folder / "diffusion_pytorch_model.safetensors")
    t5 = smooth(Umt5(T5)).state_dict()
    torch.save(quantized(t5, None, bool), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(clip_state(), folder / CLIP_FILE)
    vae = smooth(WanVae(VAE, with_encoder=True)).state_dict()
    torch.save(vae, folder / "Wan2.1_VAE.pth")
    torch.save(smooth(TinyVae(TINY_VAE)).half().state_dict(), folder / "taew2_1.pth")
    write_tokenizer(folder / "google" / "umt5-xxl")
    (folder / "config.json").write_text(json.dumps({"num_heads": DIT.num_heads}))


def write_image(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A picture of random coloured tiles."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (4, 4, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).resize((width, height), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny I2V model; tests must not change it."""
    root = tmp_path_factory.mktemp("i2v") / "Tiny-I2V-LightX2V"
    write_root(root)
    return root


@pytest.fixture
def image_copy(tmp_path: Path) -> Path:
    """One that a test may break."""
    root = tmp_path / "model" / "Tiny-I2V-LightX2V"
    write_root(root)
    return root


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_image(tmp_path / "first.png", 96, 64)


def planned(root: Path, image: Path | None, folder: Path, **changes: object) -> Plan:
    """A plan of 5 frames of the area of 64x64, in float32, two distilled steps, no guidance."""
    small = Preset(
        model_path=root, image=image, width=64, height=64, frames=5, timesteps=(1000, 500),
        enable_cfg=False, use_tiny_vae=True,
    )  # fmt: skip
    preset = replace(small, **changes)  # type: ignore[arg-type]
    options = Options("cpu", ComputeDtype.FLOAT32, save_tensors=folder / "kept.safetensors")
    return jobs.plan(preset, options, folder / "out" / "a.mp4")


def finish(job: Job, engine: Engine | None = None) -> tuple[list[Event], dict[str, Tensor]]:
    events = list(run(job, StopEvent(), engine))
    assert isinstance(events[-1], Done), events[-1]
    assert job.save_tensors is not None
    return events, load_file(job.save_tensors)


def read_in(events: list[Event]) -> set[str]:
    return {event.component for event in events if isinstance(event, BytesRead)}


def test_the_video_takes_the_proportions_of_the_image(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    plan = planned(image_model, picture, tmp_path)
    assert (plan.job.width, plan.job.height) == (64, 48)
    assert any("64x64 becomes 64x48" in note for note in plan.notes)
    assert (plan.preset.width, plan.preset.height) == (64, 48)
    square = write_image(tmp_path / "square.png", 32, 32)
    assert planned(image_model, square, tmp_path).notes == ()


def test_a_run_tells_its_stages_and_keeps_what_it_saw(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    job = planned(image_model, picture, tmp_path).job
    events, kept = finish(job)
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert list(dict.fromkeys(stages)) == ["load_t5", "encode_text", "load_clip", "encode_image",
                                           "load_dit", "denoise", "load_vae", "decode"]  # fmt: skip
    assert read_in(events) == EVERYTHING
    assert kept["image.features"].shape == (17, 160)
    assert kept["image.y"].shape == (20, 2, 6, 8)
    assert torch.equal(kept["image.y"][:4, 0], torch.ones(4, 6, 8))
    assert torch.equal(kept["image.y"][:4, 1], torch.zeros(4, 6, 8))
    assert kept["frames"].shape == (3, 5, 48, 64)
    assert "text.context_null" not in kept


def test_features_and_latents_are_those_of_the_networks(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    """The kept tensors are what CLIP and the encoder make of the fitted image, computed here."""
    job = planned(image_model, picture, tmp_path).job
    _, kept = finish(job)
    image = fit(read_image(picture), 48, 64)
    assert job.clip is not None
    state = torch.load(job.clip.files[0])
    tower = ClipVision(replace(CLIP))
    tower.load_state_dict({name: state[f"visual.{name}"].float() for name in tower.state_dict()})
    assert job.vae_encoder is not None
    vae = WanVae(VAE, with_encoder=True)
    vae.load_state_dict(torch.load(job.vae_encoder.files[0]))
    with torch.no_grad():
        assert relative(kept["image.features"], tower(image)) < 1e-5
        video = torch.cat([image[:, None], torch.zeros(3, 4, 48, 64)], dim=1)
        assert relative(kept["image.y"][4:], vae.encode(video)) < 1e-5


def run_command(root: Path, image: Path | None, folder: Path, *more: object) -> int:
    """`preset make` and `run`, small."""
    preset = folder / "preset.json"
    assert command("preset", "make", root, "-o", preset) == 0
    given = () if image is None else ("--image", image)
    values = ("target_width=64", "target_height=64", "target_video_length=5", "infer_steps=2")
    settings = [part for value in values for part in ("--set", value)]
    return command(
        "run", preset, *given, *settings, "--compute-dtype", "float32", "--device", "cpu",
        "--progress", "none", "--output", folder / "out" / "a.mp4", *more,
    )  # fmt: skip


def test_the_command_line_makes_a_guided_video_of_an_image(
    image_model: Path, picture: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.safetensors"
    code = run_command(image_model, picture, tmp_path, "--save-tensors", kept,
                       "--negative-prompt", "blurry")  # fmt: skip
    told = capfd.readouterr()
    assert code == 0, told.err
    assert "64x64 becomes 64x48" in told.err
    tensors = load_file(kept)
    assert {"image.features", "image.y", "text.context", "text.context_null"} <= tensors.keys()
    assert {"latents.step0", "latents.step1"} <= tensors.keys()
    assert (tmp_path / "out" / "a.mp4").stat().st_size > 0


def test_a_missing_image_is_wrong_usage(
    image_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(image_model, None, tmp_path) == 2
    assert "needs an image" in capfd.readouterr().err
    assert run_command(image_model, tmp_path / "absent.png", tmp_path) == 2
    assert "absent.png" in capfd.readouterr().err
    assert leftovers(tmp_path / "out") == []


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"hello",
    "header only": lambda data: data[:33],
    "half": lambda data: data[: len(data) // 2],
    "noise behind the header": lambda data: data[:33] + bytes(range(256)) * 4,
}


@pytest.mark.parametrize("breakage", BROKEN)
def test_a_broken_image_is_said_in_words(
    breakage: str, image_model: Path, picture: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    picture.write_bytes(BROKEN[breakage](picture.read_bytes()))
    assert run_command(image_model, picture, tmp_path) in (1, 2)
    told = capfd.readouterr()
    assert "first.png" in told.err
    assert "Traceback" not in told.err
    assert "unexpected" not in told.err
    assert leftovers(tmp_path / "out") == []


def test_an_image_that_vanishes_after_the_plan(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    job = planned(image_model, picture, tmp_path).job
    picture.unlink()
    last = list(run(job, StopEvent()))[-1]
    assert isinstance(last, Failed)
    assert "first.png" in str(last.error)
    assert "unexpected" not in str(last.error)


def test_guidance_moves_away_from_the_negative_prompt(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    """One Euler-like step by hand: null + scale * (text - null), from two unguided runs."""
    one = {"timesteps": (1000,), "prompt": "A red fox", "negative_prompt": "blurry"}
    job = planned(image_model, picture, tmp_path, **one).job
    _, text = finish(job)
    _, null = finish(replace(job, prompt="blurry"))
    _, guided = finish(replace(job, guidance=Guidance(4.0)))
    assert torch.equal(guided["text.context_null"], null["text.context"])
    expected = null["latents.step0"] + 4 * (text["latents.step0"] - null["latents.step0"])
    assert relative(guided["latents.step0"], expected) < 1e-5
    assert relative(guided["latents.step0"], text["latents.step0"]) > 1e-3


def test_batched_guidance_equals_one_after_the_other(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    job = planned(image_model, picture, tmp_path, negative_prompt="blurry, static").job
    _, apart = finish(replace(job, guidance=Guidance(5.0)))
    _, batched = finish(replace(job, guidance=Guidance(5.0, batched=True)))
    assert relative(batched["latents.step1"], apart["latents.step1"]) < 1e-5


def test_a_warm_run_with_the_same_image_reads_nothing(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    engine, job = Engine(), planned(image_model, picture, tmp_path).job
    events, first = finish(job, engine)
    assert read_in(events) == EVERYTHING
    events, second = finish(job, engine)
    assert read_in(events) == set()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_image_encodes_only_the_image_anew(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    placings = Placings(t5=Placing.DROP, clip=Placing.DROP, vae=Placing.DROP)
    engine = Engine()
    job = replace(planned(image_model, picture, tmp_path).job, placings=placings)
    _, first = finish(job, engine)
    other = replace(job, image=write_image(tmp_path / "other.png", 96, 64, seed=1))
    events, second = finish(other, engine)
    assert read_in(events) == {"CLIP", "VAE encoder", "tiny VAE"}
    assert torch.equal(first["text.context"], second["text.context"])
    for name in ("image.features", "image.y", "latents.step0"):
        assert not torch.equal(first[name], second[name])
    _, fresh = finish(other)
    assert all(torch.equal(second[name], fresh[name]) for name in fresh)


def test_another_size_encodes_the_same_image_anew(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    engine, job = Engine(), planned(image_model, picture, tmp_path).job
    finish(job, engine)
    larger = replace(job, width=96, height=64, frames=9)
    events, kept = finish(larger, engine)
    assert read_in(events) == set()
    assert kept["image.y"].shape == (20, 3, 8, 12)
    _, fresh = finish(larger)
    assert all(torch.equal(kept[name], fresh[name]) for name in fresh)


@pytest.mark.parametrize("stage", ["load_clip", "encode_image"])
def test_cancelling_while_the_image_is_encoded(
    stage: str, image_model: Path, picture: Path, tmp_path: Path
) -> None:
    engine, stop, events = Engine(), StopEvent(), []
    job = planned(image_model, picture, tmp_path).job
    for event in run(job, stop, engine):
        events.append(event)
        if isinstance(event, StageStarted) and event.stage == stage:
            stop.set()
    assert isinstance(events[-1], CancelledByUser)
    assert leftovers(tmp_path / "out") == []
    _, kept = finish(job, engine)
    _, fresh = finish(job)
    assert all(torch.equal(kept[name], fresh[name]) for name in fresh)


DAMAGE = {
    "CLIP": (CLIP_FILE, "visual.transformer.0.attn.proj.weight"),
    "VAE": ("Wan2.1_VAE.pth", "encoder.conv1.weight"),
}


@pytest.mark.parametrize("network", DAMAGE)
def test_nan_weights_are_told_by_the_network_they_are_in(
    network: str, image_copy: Path, picture: Path, tmp_path: Path
) -> None:
    name, tensor = DAMAGE[network]
    path = image_copy / "original" / name
    state = torch.load(path)
    state[tensor].view(-1)[0] = float("nan")
    torch.save(state, path)
    last = list(run(planned(image_copy, picture, tmp_path).job, StopEvent()))[-1]
    assert isinstance(last, Failed)
    assert "not finite" in str(last.error)
    assert network in str(last.error)
    assert "DiT" not in str(last.error)


def test_a_clip_file_without_a_visual_tower_is_refused_by_name(
    image_copy: Path, picture: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = image_copy / "original" / CLIP_FILE
    state = {k: v for k, v in torch.load(path).items() if not k.startswith("visual.")}
    torch.save(state, path)
    preset = {"clip_original_ckpt": str(path)}
    settings = [part for key, value in preset.items() for part in ("--set", f"{key}={value}")]
    assert run_command(image_copy, picture, tmp_path, *settings) in (1, 2)
    told = capfd.readouterr()
    assert CLIP_FILE in told.err
    assert "clip" in told.err.lower()
    assert leftovers(tmp_path / "out") == []


def test_a_model_without_its_full_vae_cannot_encode_the_image(
    image_copy: Path, picture: Path, tmp_path: Path
) -> None:
    (image_copy / "original" / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(Exception, match="VAE"):
        planned(image_copy, picture, tmp_path)


def test_an_image_for_a_text_to_video_model_is_wrong_usage(
    demo_model: Path, picture: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match="takes no image"):
        planned(demo_model, picture, tmp_path)


def test_the_distilled_schedule_is_used_where_steps_are_listed(
    image_model: Path, picture: Path, tmp_path: Path
) -> None:
    assert planned(image_model, picture, tmp_path).job.schedule == StepDistill((1000, 500), 5.0)
