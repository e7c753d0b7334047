"""Runs of the command line against what the original Wan 2.1 networks compute.

Tolerances are those of the golden README. Quantized DiT tensors were computed on the bf16 text
encoder's context, whole quantized runs on the quantized encoder's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.ops.linear import choose_linear
from engine.spec.precision import QuantCompute
from tests.engine.support import CPU, command, relative

pytestmark = pytest.mark.golden

ROOT = "Tiny-T2V-StepDistill-CfgDistill-LightX2V"
NETWORK, RUN, LINEAR, EXACT = 1e-4, 1e-3, 1e-5, 0.0
W8A8_NETWORK = {"fp8": 1e-2, "int8": 5e-3}
W8A8_RUN = {"fp8": 2e-2, "int8": 1e-2}
WAYS = {"w8a8": "native", "weight_only": "dequant"}

Tensors = dict[str, Tensor]
Generate = Callable[..., Tensors]


@pytest.fixture(scope="session")
def reference(golden: Path) -> Tensors:
    return load_file(golden / "reference.safetensors")


@pytest.fixture(scope="session")
def generate(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generate]:
    """Make a preset and run it, once for each combination."""
    folder = tmp_path_factory.mktemp("golden")
    facts = json.loads((golden / "reference.json").read_text())

    @cache
    def run(dit: str, t5: str, way: str = "auto", vae: str = "tiny", step: int = 0) -> Tensors:
        name = f"{dit}-{t5}-{way}-{vae}-{step}"
        preset, kept = folder / f"{name}.json", folder / f"{name}.safetensors"
        choice = ("--dit", dit, "--t5", t5, "--vae", vae)
        assert command("preset", "make", golden / ROOT, *choice, "-o", preset) == 0
        one_step = ("--set", "sample_shift=1", "--set", f"denoising_step_list=[{step}]")
        arguments = (
            "run", preset, "--compute-dtype", "float32", "--device", "cpu",
            "--quant-compute", way, "--prompt", facts["prompt"], "--seed", facts["seed"],
            "--set", f"target_video_length={facts['num_frames']}",
            "--set", f"target_height={facts['height']}",
            "--set", f"target_width={facts['width']}",
            "--save-tensors", kept, "--output", folder / f"{name}.mp4", "--progress", "none",
            *(one_step if step else ()),
        )  # fmt: skip
        assert command(*arguments) == 0
        return load_file(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        yield run


@pytest.fixture(scope="session")
def table() -> Iterator[Callable[[str, Tensor, Tensor, float], None]]:
    """Compare one tensor, and print all errors at the end."""
    rows: list[str] = []

    def compare(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        error = relative(ours, theirs)
        rows.append(f"{name:<44} {error:>10.2e}  <= {tolerance:g}")
        assert error <= tolerance, rows[-1]

    yield compare
    print("\n" + "\n".join(rows))


def flow(run: Tensors, step: int) -> Tensor:
    """The DiT's output in a run of one step at shift 1, where sigma is step / 1000."""
    return (run["noise"] - run["latents.step0"]) / (step / 1000)


Compare = Callable[[str, Tensor, Tensor, float], None]


def test_whole_run(generate: Generate, reference: Tensors, table: Compare) -> None:
    run = generate("bf16", "bf16", vae="full")
    table("noise.seed42", run["noise"], reference["noise.seed42"], EXACT)
    table("t5.context", run["text.context"], reference["t5.context"], NETWORK)
    for step in range(4):
        name = f"t2v_distill.latents.step{step}"
        table(name, run[f"latents.step{step}"], reference[name], RUN)
    table("t2v_distill.vae_frames", run["frames"], reference["t2v_distill.vae_frames"], RUN)


def test_tiny_vae(generate: Generate, reference: Tensors, table: Compare) -> None:
    run = generate("bf16", "bf16", vae="tiny")
    table("t2v_distill.tae_frames", run["frames"], reference["t2v_distill.tae_frames"], RUN)


@pytest.mark.parametrize("step", [1000, 637, 250])
def test_dit(step: int, generate: Generate, reference: Tensors, table: Compare) -> None:
    name = f"dit_t2v.t{step}"
    run = generate("bf16", "bf16", step=step)
    table(name, flow(run, step), reference[name], NETWORK)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_quantized(
    precision: str, way: str, generate: Generate, reference: Tensors, table: Compare
) -> None:
    exact = way == "weight_only"
    network = NETWORK if exact else W8A8_NETWORK[precision]
    whole = RUN if exact else W8A8_RUN[precision]
    run = generate(precision, precision, WAYS[way])
    name = f"t5.context.{precision}.{way}"
    table(name, run["text.context"], reference[name], network)
    name = f"t2v_distill.{precision}.{way}.latents.step3"
    table(name, run["latents.step3"], reference[name], whole)
    name = f"dit_t2v.t1000.{precision}.{way}"
    one_step = generate(precision, "bf16", WAYS[way], step=1000)
    table(name, flow(one_step, 1000), reference[name], network)


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_one_linear(precision: str, golden: Path, reference: Tensors, table: Compare) -> None:
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
    table(name, linear(reference["qlinear.in"]), reference[name], LINEAR)


def test_runs_repeat_bit_for_bit(generate: Generate) -> None:
    full, tiny = generate("bf16", "bf16", vae="full"), generate("bf16", "bf16", vae="tiny")
    assert torch.equal(full["latents.step3"], tiny["latents.step3"])
