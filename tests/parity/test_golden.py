"""Runs of the command line against what the original Wan 2.1 networks compute.

Tolerances are those the data came with. Quantized DiT tensors were computed on the bf16 text
encoder's context, whole quantized runs on the quantized encoder's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.ops.linear import choose_linear
from engine.spec.precision import QuantCompute
from tests.engine.support import CPU

pytestmark = pytest.mark.golden

ROOT = "Tiny-T2V-StepDistill-CfgDistill-LightX2V"
NETWORK, RUN, LINEAR, EXACT = 1e-4, 1e-3, 1e-5, 0.0
W8A8_NETWORK = {"fp8": 1e-2, "int8": 5e-3}
W8A8_RUN = {"fp8": 2e-2, "int8": 1e-2}
WAYS = {"w8a8": "native", "weight_only": "dequant"}

Tensors = dict[str, Tensor]
Generate = Callable[..., Tensors]


@pytest.fixture(scope="session")
def generate(make_video: Callable[..., Tensors]) -> Generate:
    """Run the text-to-video root with some precisions, or one step of it at shift 1."""

    def run(dit: str, t5: str, way: str = "auto", vae: str = "tiny", step: int = 0) -> Tensors:
        one_step = ("--set", "sample_shift=1", "--set", f"denoising_step_list=[{step}]")
        options = ("--quant-compute", way, *(one_step if step else ()))
        return make_video(ROOT, ("--dit", dit, "--t5", t5, "--vae", vae), options)

    return run


def flow(run: Tensors, step: int) -> Tensor:
    """The DiT's output in a run of one step at shift 1, where sigma is step / 1000."""
    return (run["noise"] - run["latents.step0"]) / (step / 1000)


Compare = Callable[[str, Tensor, Tensor, float], None]


def test_whole_run(generate: Generate, reference: Tensors, compare: Compare) -> None:
    run = generate("bf16", "bf16", vae="full")
    compare("noise.seed42", run["noise"], reference["noise.seed42"], EXACT)
    compare("t5.context", run["text.context"], reference["t5.context"], NETWORK)
    for step in range(4):
        name = f"t2v_distill.latents.step{step}"
        compare(name, run[f"latents.step{step}"], reference[name], RUN)
    compare("t2v_distill.vae_frames", run["frames"], reference["t2v_distill.vae_frames"], RUN)


def test_tiny_vae(generate: Generate, reference: Tensors, compare: Compare) -> None:
    run = generate("bf16", "bf16", vae="tiny")
    compare("t2v_distill.tae_frames", run["frames"], reference["t2v_distill.tae_frames"], RUN)


@pytest.mark.parametrize("step", [1000, 637, 250])
def test_dit(step: int, generate: Generate, reference: Tensors, compare: Compare) -> None:
    name = f"dit_t2v.t{step}"
    run = generate("bf16", "bf16", step=step)
    compare(name, flow(run, step), reference[name], NETWORK)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_quantized(
    precision: str, way: str, generate: Generate, reference: Tensors, compare: Compare
) -> None:
    exact = way == "weight_only"
    network = NETWORK if exact else W8A8_NETWORK[precision]
    whole = RUN if exact else W8A8_RUN[precision]
    run = generate(precision, precision, WAYS[way])
    name = f"t5.context.{precision}.{way}"
    compare(name, run["text.context"], reference[name], network)
    name = f"t2v_distill.{precision}.{way}.latents.step3"
    compare(name, run["latents.step3"], reference[name], whole)
    name = f"dit_t2v.t1000.{precision}.{way}"
    one_step = generate(precision, "bf16", WAYS[way], step=1000)
    compare(name, flow(one_step, 1000), reference[name], network)


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_one_linear(precision: str, golden: Path, reference: Tensors, compare: Compare) -> None:
    block = load_file(golden / ROOT / f"distill_{precision}" / "block_0.safetensors")
    layer = {leaf: block[f"blocks.0.ffn.0.{leaf}"] for leaf in ("weight", "weight_scale", "bias")}
    rows, columns = layer["weight"].shape
    codes = layer["weight"].dtype
    chosen = choose_linear(codes, (rows, columns), QuantCompute.NATIVE, CPU)
    linear = chosen(nn.Linear(columns, rows, device="meta"), codes)
    linear.codes = nn.Parameter(layer["weight"], requires_grad=False)
    linear.weight_scale = nn.Parameter(layer["weight_scale"].float(), requires_grad=False)
    linear.bias = nn.Parameter(layer["bias"], requires_grad=False)
    name = f"qlinear.{precision}.out"
    compare(name, linear(reference["qlinear.in"]), reference[name], LINEAR)


def test_runs_repeat_bit_for_bit(generate: Generate) -> None:
    full, tiny = generate("bf16", "bf16", vae="full"), generate("bf16", "bf16", vae="tiny")
    assert torch.equal(full["latents.step3"], tiny["latents.step3"])
