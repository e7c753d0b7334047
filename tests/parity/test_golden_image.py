"""Image-to-video, guidance, UniPC and LoRAs against what the original Wan 2.1 networks compute."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.build import Placement, load
from engine.image import read_image
from engine.models.vae import WanVae
from engine.models.wan import WanTransformer, rope_table
from engine.spec.architecture import VaeArchitecture
from engine.spec.control import RunControl as StopEvent
from engine.spec.header import read_header
from engine.spec.job import Weights
from engine.spec.precision import Precision, QuantCompute
from engine.stages import DIT, VAE_ENCODER
from lightx2v_tui.catalog import Kind, inspect_root
from tests.engine.support import CPU, on_meta, relative

pytestmark = pytest.mark.golden

T2V, I2V = "Tiny-T2V-StepDistill-CfgDistill-LightX2V", "Tiny-I2V-LightX2V"
LORA = "loras/tiny_cfg_step_distill_lora_rank4.safetensors"
NETWORK, RUN = 1e-4, 1e-3
W8A8 = {"fp8": 1e-2, "int8": 5e-3}
#: How far a quantized image-to-video may be from the original one.
CLOSE = {"fp8": 0.05, "int8": 0.02}
WAYS = {"w8a8": "native", "weight_only": "dequant"}

Tensors = dict[str, Tensor]
MakeVideo = Callable[..., Tensors]
Compare = Callable[[str, Tensor, Tensor, float], None]


def picked(dit: str, t5: str, clip: str) -> tuple[str, ...]:
    """Arguments that pick precisions."""
    return ("--dit", dit, "--t5", t5, "--clip", clip)


def image_options(golden: Path, *more: str) -> tuple[str, ...]:
    """Arguments of the distilled image-to-video run."""
    steps = ("--set", "denoising_step_list=[1000,750,500,250]", "--set", "enable_cfg=false")
    return ("--image", str(golden / "first_frame.png"), *steps, *more)


def test_unipc_with_guidance(make_video: MakeVideo, reference: Tensors, compare: Compare) -> None:
    options = ("--set", "sampler=unipc", "--set", "infer_steps=8", "--set", "enable_cfg=true",
               "--set", "sample_guide_scale=6")  # fmt: skip
    run = make_video(T2V, ("--dit", "bf16", "--t5", "bf16"), options)
    compare("t5.context_null", run["text.context_null"], reference["t5.context_null"], NETWORK)
    for step in range(8):
        name = f"t2v_unipc8_cfg6.latents.step{step}"
        compare(name, run[f"latents.step{step}"], reference[name], RUN)


def test_unipc_schedule(reference: Tensors, compare: Compare) -> None:
    from engine.schedule import make_sampler
    from engine.spec.job import UniPC

    sampler = make_sampler(UniPC(8, 5.0))
    timesteps = torch.tensor([sampler.timestep(index) for index in range(len(sampler))])
    compare("unipc8.timesteps", timesteps, reference["unipc8.timesteps"], 0.0)
    sigmas = torch.tensor(sampler.sigmas)  # type: ignore[attr-defined] # of this sampler
    compare("unipc8.sigmas", sigmas, reference["unipc8.sigmas"], 1e-6)


def test_image_to_video(
    golden: Path, make_video: MakeVideo, reference: Tensors, compare: Compare
) -> None:
    run = make_video(I2V, picked("bf16", "bf16", "bf16"), image_options(golden))
    compare("clip.features", run["image.features"], reference["clip.features"], NETWORK)
    compare("i2v.y", run["image.y"], reference["i2v.y"], NETWORK)
    encoded = run["image.y"][4:]
    compare("vae.encode_first_frame", encoded, reference["vae.encode_first_frame"], NETWORK)
    for step in range(4):
        name = f"i2v_distill.latents.step{step}"
        compare(name, run[f"latents.step{step}"], reference[name], RUN)
    compare("i2v_distill.vae_frames", run["frames"], reference["i2v_distill.vae_frames"], RUN)


@pytest.mark.parametrize(("precision", "way"), list(product(("fp8", "int8"), WAYS)))
def test_quantized_clip(
    precision: str,
    way: str,
    golden: Path,
    make_video: MakeVideo,
    reference: Tensors,
    compare: Compare,
) -> None:
    options = image_options(golden, "--quant-compute", WAYS[way])
    run = make_video(I2V, picked(precision, precision, precision), options)
    name = f"clip.features.{precision}.{way}"
    bound = NETWORK if way == "weight_only" else W8A8[precision]
    compare(name, run["image.features"], reference[name], bound)


@pytest.mark.parametrize(("dit", "t5", "clip"), list(product(("bf16", "fp8", "int8"), repeat=3)))
def test_every_mixture_runs_and_stays_close(
    dit: str, t5: str, clip: str, golden: Path, make_video: MakeVideo
) -> None:
    original = make_video(I2V, picked("bf16", "bf16", "bf16"), image_options(golden))
    run = make_video(I2V, picked(dit, t5, clip), image_options(golden))
    error = relative(run["latents.step3"], original["latents.step3"])
    print(f"\nDiT {dit}, T5 {t5}, CLIP {clip}: {error:.4f} from the original", end="")
    used = {dit, t5, clip}
    assert error <= max((CLOSE[name] for name in used if name in CLOSE), default=0.0)


def test_the_image_network(golden: Path, reference: Tensors, compare: Compare) -> None:
    root = inspect_root(golden / I2V)
    assert root is not None
    dit = root.find(Kind.DIT, Precision.BF16)
    assert dit is not None
    arch = dit.architecture
    assert arch is not None
    model = on_meta(lambda: WanTransformer(arch))
    placement = Placement(CPU, torch.float32, QuantCompute.AUTO)
    list(load(model, DIT, Weights(dit.files, Precision.BF16), placement, StopEvent()))
    noise = reference["noise.seed42"]
    _, time, height, width = noise.shape
    context = torch.zeros(1, arch.text_len, arch.text_dim)
    context[0, : len(reference["t5.context"])] = reference["t5.context"]
    flow = model(
        torch.cat([noise, reference["i2v.y"]])[None],
        torch.tensor([1000.0]),
        context,
        rope_table((time, height // 2, width // 2), arch.dim // arch.num_heads),
        reference["clip.features"][None],
    )[0]
    compare("dit_i2v.t1000", flow, reference["dit_i2v.t1000"], NETWORK)


def test_encoding_a_video(golden: Path, reference: Tensors, compare: Compare) -> None:
    path = golden / I2V / "original" / "Wan2.1_VAE.pth"
    arch = VaeArchitecture.from_shapes(read_header(path).shapes)
    vae = on_meta(lambda: WanVae(arch, with_encoder=True, with_decoder=False))
    assert isinstance(vae, WanVae)
    placement = Placement(CPU, torch.float32, QuantCompute.AUTO)
    list(load(vae, VAE_ENCODER, Weights((path,), Precision.BF16), placement, StopEvent()))
    latents = vae.encode(reference["vae.encode_video.in"].float())
    compare("vae.encode_video.out", latents, reference["vae.encode_video.out"], NETWORK)


def test_the_first_frame_is_read_exactly(golden: Path) -> None:
    image = read_image(golden / "first_frame.png")
    assert image.shape == (3, 64, 96)
    assert float(image.min()) >= -1
    assert float(image.max()) <= 1


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
def test_lora(
    precision: str, golden: Path, make_video: MakeVideo, reference: Tensors, compare: Compare
) -> None:
    """Merged into original weights; beside codes, the low-rank path adds what merging adds."""
    lora = f"{golden / T2V / LORA}:0.8"
    options = ("--set", "denoising_step_list=[1000]", "--quant-compute", "dequant")
    choice = ("--dit", precision, "--t5", "bf16")
    run = make_video(T2V, (*choice, "--lora", lora), options)
    flow = run["noise"] - run["latents.step0"]  # at timestep 1000 sigma is 1
    if precision == "bf16":
        compare("dit_t2v.t1000.lora0.8", flow, reference["dit_t2v.t1000.lora0.8"], NETWORK)
        return
    plain = make_video(T2V, choice, options)
    added = flow - (plain["noise"] - plain["latents.step0"])
    expected = reference["dit_t2v.t1000.lora0.8"] - reference["dit_t2v.t1000"]
    assert relative(added, expected) < 0.1


def test_every_tensor_of_the_reference_has_a_test(reference: Tensors) -> None:
    here = Path(__file__).parent
    text = "".join(path.read_text() for path in here.glob("test_golden*.py"))
    patterns = {
        "t5.ids": "t5.context",  # the context is only right where the ids are
        "qlinear.in": "qlinear.in",
    }
    for name in reference:
        parts = patterns.get(name, name).split(".")
        assert all(part.rstrip("0123456789") in text for part in parts), name
