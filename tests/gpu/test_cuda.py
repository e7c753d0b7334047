"""On a CUDA device: the golden run, native linears, what stays allocated, and how fast it stops."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.ops.linear import DequantLinear, QuantizedLinear, choose_linear
from engine.ops.quantize import per_channel
from engine.pipeline import Engine, run
from engine.spec.control import RunControl as StopEvent
from engine.spec.events import (
    BytesRead,
    CancelledByUser,
    Done,
    Failed,
    MemoryUsed,
    StageStarted,
    StepDone,
)
from engine.spec.job import Job, Placing, Placings
from engine.spec.precision import Precision, QuantCompute
from tests.engine.support import CPU, command, make_job, relative

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CUDA = torch.device("cuda:0")
GOLDEN_ROOT = "Tiny-T2V-StepDistill-CfgDistill-LightX2V"
CODES = {Precision.FP8: torch.float8_e4m3fn, Precision.INT8: torch.int8}
#: How far a whole run may be from the reference; TF32 is off by default for products.
BOUNDS = {"float32": 1e-3, "bfloat16": 5e-2}


@pytest.fixture(autouse=True)
def clean_device() -> Iterator[None]:
    """No test sees what another left behind."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(CUDA)
    yield
    gc.collect()
    torch.cuda.empty_cache()


def allocated() -> int:
    torch.cuda.synchronize(CUDA)
    return torch.cuda.memory_allocated(CUDA)


def cuda_job(root: Path, folder: Path, **changes: object) -> Job:
    """A job on the device that keeps its tensors; native or not, as the job says."""
    kept = folder / "kept.safetensors"
    changes = {"device": "cuda:0", "tiny": True, "save_tensors": kept, **changes}
    return make_job(root, folder / "a.mp4", **changes)  # type: ignore[arg-type]


def finish(job: Job, engine: Engine | None = None) -> dict[str, Tensor]:
    events = list(run(job, StopEvent(), engine))
    assert isinstance(events[-1], Done), events[-1]
    assert job.save_tensors is not None
    return load_file(job.save_tensors)


@pytest.fixture
def warmed(demo_model: Path, tmp_path: Path) -> None:
    """What CUDA's libraries allocate once and keep is there before memory is compared."""
    engine = Engine()
    finish(cuda_job(demo_model, tmp_path), engine)
    engine.unload()


@pytest.mark.golden
@pytest.mark.parametrize("dtype", BOUNDS)
def test_the_golden_run(dtype: str, golden: Path, tmp_path: Path) -> None:
    facts = json.loads((golden / "reference.json").read_text())
    preset, kept = tmp_path / "preset.json", tmp_path / "kept.safetensors"
    made = command("preset", "make", golden / GOLDEN_ROOT, "--dit", "bf16", "--t5", "bf16",
                   "--vae", "full", "-o", preset)  # fmt: skip
    assert made == 0
    assert command(
        "run", preset, "--device", "cuda:0", "--compute-dtype", dtype,
        "--prompt", facts["prompt"], "--seed", facts["seed"],
        "--set", f"target_video_length={facts['num_frames']}",
        "--set", f"target_height={facts['height']}", "--set", f"target_width={facts['width']}",
        "--save-tensors", kept, "--output", tmp_path / "a.mp4", "--progress", "none",
    ) == 0  # fmt: skip
    run_, reference = load_file(kept), load_file(golden / "reference.safetensors")
    assert torch.equal(run_["noise"], reference["noise.seed42"])
    for step in range(4):
        name = f"t2v_distill.latents.step{step}"
        error = relative(run_[f"latents.step{step}"], reference[name])
        print(f"\n{dtype} {name}: {error:.2e}", end="")
        assert error <= BOUNDS[dtype]
    assert relative(run_["frames"], reference["t2v_distill.vae_frames"]) <= BOUNDS[dtype]


def linear_on(device: torch.device, codes: torch.dtype, weight: Tensor, bias: Tensor, *,
              compute: QuantCompute = QuantCompute.NATIVE) -> QuantizedLinear:  # fmt: skip
    """A quantized linear with these weights."""
    rows, columns = weight.shape
    chosen = choose_linear(codes, (rows, columns), compute, device)
    layer = chosen(nn.Linear(columns, rows, device="meta"), codes)
    stored, scale = per_channel(weight, codes)
    layer.codes = nn.Parameter(stored.to(device), requires_grad=False)
    layer.weight_scale = nn.Parameter(scale.to(device), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(device), requires_grad=False)
    return layer


def has_native(precision: Precision) -> bool:
    wanted = (8, 9) if precision is Precision.FP8 else (7, 5)
    return torch.cuda.get_device_capability(CUDA) >= wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 16, 17, 33, 1560])
@pytest.mark.parametrize("precision", CODES)
def test_native_linears_compute_what_the_cpu_computes(
    precision: Precision, tokens: int, dtype: torch.dtype
) -> None:
    if not has_native(precision):
        pytest.skip(f"this device does not multiply {precision.value}")
    generator = torch.Generator().manual_seed(tokens)
    weight = torch.randn(192, 256, generator=generator) / 16
    bias = torch.randn(192, generator=generator)
    hidden = torch.randn(tokens, 256, generator=generator).to(dtype)
    codes = CODES[precision]
    theirs = linear_on(CPU, codes, weight, bias.to(dtype))(hidden)
    layer = linear_on(CUDA, codes, weight, bias.to(dtype))
    assert not isinstance(layer, DequantLinear)
    ours = layer(hidden.to(CUDA))
    assert ours.dtype == dtype
    # FP8 products leave the device in bfloat16; INT8 is exact until it is rounded to the dtype.
    exact = precision is Precision.INT8 and dtype == torch.float32
    assert relative(ours.cpu(), theirs) < (1e-5 if exact else 8e-3)


@pytest.mark.parametrize("shape", [(24, 256), (192, 100), (8, 8)])
@pytest.mark.parametrize("precision", CODES)
def test_shapes_the_kernels_refuse_are_computed_all_the_same(
    precision: Precision, shape: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(shape, generator=generator), torch.zeros(shape[0])
    hidden = torch.randn(5, shape[1], generator=generator)
    layer = linear_on(CUDA, CODES[precision], weight, bias)
    theirs = linear_on(CPU, CODES[precision], weight, bias)
    bound = 0.06 if isinstance(layer, DequantLinear) else 8e-3  # W8A8 rounds activations, too
    assert relative(layer(hidden.to(CUDA)).cpu(), theirs(hidden)) < bound


@pytest.mark.parametrize("compute", [QuantCompute.NATIVE, QuantCompute.DEQUANT])
@pytest.mark.parametrize("precision", list(Precision))
def test_a_run_is_near_the_one_on_the_cpu(
    precision: Precision, compute: QuantCompute, demo_model: Path, tmp_path: Path
) -> None:
    job = cuda_job(demo_model, tmp_path, precision=precision, quant_compute=compute)
    ours = finish(job)["latents.step3"]
    theirs = finish(replace(job, device="cpu"))["latents.step3"]
    plain = precision is Precision.BF16 or compute is QuantCompute.DEQUANT
    assert relative(ours, theirs) < (1e-3 if plain else 5e-2)


@pytest.mark.usefixtures("warmed")
def test_networks_placed_in_ram_leave_nothing_on_the_device(
    demo_model: Path, tmp_path: Path
) -> None:
    before = allocated()
    engine = Engine()
    placings = Placings(Placing.CPU, Placing.CPU, Placing.CPU, Placing.CPU)
    job = cuda_job(demo_model, tmp_path, placings=placings)
    first = finish(job, engine)
    text = first["text.context"].nbytes  # the prompt's features are kept where they are used
    assert allocated() - before <= 2 * text + (1 << 16)
    events = list(run(job, StopEvent(), engine))
    assert isinstance(events[-1], Done)
    assert not any(isinstance(event, BytesRead) for event in events)
    assert job.save_tensors is not None
    second = load_file(job.save_tensors)
    assert relative(second["latents.step3"], first["latents.step3"]) < 1e-6


@pytest.mark.usefixtures("warmed")
def test_unload_and_drop_give_all_memory_back(demo_model: Path, tmp_path: Path) -> None:
    before = allocated()
    engine = Engine()
    finish(cuda_job(demo_model, tmp_path), engine)
    assert allocated() > before
    engine.unload()
    assert allocated() == before
    dropped = Placings(Placing.DROP, Placing.DROP, Placing.DROP, Placing.DROP)
    finish(cuda_job(demo_model, tmp_path, placings=dropped), engine)
    engine.unload()
    assert allocated() == before


def test_memory_of_the_device_is_told(demo_model: Path, tmp_path: Path) -> None:
    events = list(run(cuda_job(demo_model, tmp_path), StopEvent()))
    told = [event for event in events if isinstance(event, MemoryUsed)]
    assert told
    assert all(0 < event.vram <= event.vram_peak for event in told)


def test_a_long_run_is_cancelled_within_half_a_second(demo_model: Path, tmp_path: Path) -> None:
    """The device runs behind the host; the queue must not hide seconds of work."""
    warm = cuda_job(demo_model, tmp_path)  # in float32: no GPU makes 81 frames of it in 0.1 s
    engine = Engine()
    finish(warm, engine)
    job = replace(warm, width=1280, height=720, frames=81)
    stop, stopped_at = StopEvent(), 0.0

    def cancel() -> None:
        nonlocal stopped_at
        stopped_at = time.perf_counter()
        stop.set()

    last, steps = None, 0
    timer = Timer(0.1, cancel)
    for event in run(job, stop, engine):
        if isinstance(event, StageStarted) and event.stage == "denoise":
            timer.start()
        steps += isinstance(event, StepDone)
        last = event
    torch.cuda.synchronize(CUDA)
    waited = time.perf_counter() - stopped_at
    timer.cancel()
    assert isinstance(last, CancelledByUser), last
    print(f"\ncancelled after {steps} steps and {waited * 1000:.0f} ms")
    assert waited < 0.5


def test_a_device_that_is_not_there_is_an_error_in_words(demo_model: Path, tmp_path: Path) -> None:
    absent = f"cuda:{torch.cuda.device_count()}"
    events = list(run(cuda_job(demo_model, tmp_path, device=absent), StopEvent()))
    assert len(events) == 1
    assert isinstance(events[0], Failed)
    assert absent in str(events[0].error)


@pytest.mark.usefixtures("warmed")
def test_running_out_of_memory_is_said_in_words_and_leaves_nothing(
    demo_model: Path, tmp_path: Path
) -> None:
    before, engine = allocated(), Engine()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    allowed = torch.cuda.memory_reserved(CUDA) + (16 << 20)
    torch.cuda.set_per_process_memory_fraction(allowed / total, CUDA)
    try:
        huge = cuda_job(demo_model, tmp_path, width=1280, height=720, frames=81)
        last = list(run(huge, StopEvent(), engine))[-1]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)
    assert isinstance(last, Failed)
    assert "out of memory" in str(last.error)
    assert allocated() == before
    finish(cuda_job(demo_model, tmp_path), engine)
