"""Small tools the engine's tests share: errors, random weights, loading, jobs and runs."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.build import Placement, Recipe, load
from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from engine.pipeline import run
from engine.spec.architecture import TinyVaeArchitecture, VaeArchitecture
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import CheckpointError
from engine.spec.events import BytesRead, Event
from engine.spec.job import Job, Weights
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from lightx2v_tui import cli
from lightx2v_tui.catalog import inspect_root
from lightx2v_tui.launch import choices, jobs
from lightx2v_tui.launch.jobs import Options

CPU = torch.device("cpu")
torch.set_num_threads(1)  # the networks are tiny, and test processes share the cores
gc.freeze()  # a run collects garbage: half a second for what the imports above made


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Relative error of two tensors of one shape, in float64."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} is not {tuple(theirs.shape)}"
    reference = theirs.double()
    return float((ours.double() - reference).norm() / reference.norm())


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter random values, norms around one, and no gradients."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2 or "gamma" in name or "norm" in name:
            scaled = 0.1 * noise + (0.0 if name.endswith("bias") else 1.0)
        elif "table" in name or "modulation" in name:
            scaled = 0.3 * noise
        else:
            scaled = noise * parameter[0].numel() ** -0.5
        parameter.data = scaled
        parameter.requires_grad_(False)
    return model.eval()


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without memory, as the stages do."""
    with torch.device("meta"):
        return build()


def loading(
    model: nn.Module,
    recipe: Recipe,
    files: Sequence[Path],
    precision: Precision = Precision.BF16,
    *,
    dtype: torch.dtype = torch.float32,
    compute: QuantCompute = QuantCompute.AUTO,
    stop: StopEvent | None = None,
) -> Iterator[BytesRead]:
    """Load weights on the CPU, event by event."""
    weights = Weights(tuple(files), precision)
    return load(model, recipe, weights, Placement(CPU, dtype, compute), stop or StopEvent())


def load_all(
    model: nn.Module,
    recipe: Recipe,
    files: Sequence[Path],
    precision: Precision = Precision.BF16,
    **options: object,
) -> list[BytesRead]:
    """Load weights to the end; gives the events."""
    return list(loading(model, recipe, files, precision, **options))  # type: ignore[arg-type]


def refused(
    model: nn.Module,
    recipe: Recipe,
    files: Sequence[Path],
    precision: Precision = Precision.BF16,
) -> CheckpointError:
    """Expect loading to be refused before anything was loaded; gives the error."""
    with pytest.raises(CheckpointError) as caught:
        load_all(model, recipe, files, precision)
    assert all(parameter.is_meta for parameter in model.parameters())
    return caught.value


def make_job(
    root: Path,
    output: Path,
    *,
    precision: Precision = Precision.BF16,
    tiny: bool = False,
    save_tensors: Path | None = None,
    compute_dtype: ComputeDtype = ComputeDtype.FLOAT32,
    **changes: object,
) -> Job:
    """A job of 64x64, 5 frames, on a model root."""
    found = inspect_root(root)
    assert found is not None
    preset = choices.preset_for(found, choices.Choice(precision, precision, tiny))
    small = replace(preset, width=64, height=64, frames=5)
    options = Options("cpu", compute_dtype, save_tensors=save_tensors)
    job = jobs.plan(small, options, output).job
    return replace(job, **changes)  # type: ignore[arg-type]


def run_all(job: Job, stop: StopEvent | None = None) -> list[Event]:
    """Run a job to its end; gives all its events."""
    return list(run(job, stop or StopEvent()))


def command(*arguments: object) -> int:
    """Run the command line in this process; gives the exit code, signal handlers stay ours."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return cli.main([str(argument) for argument in arguments])
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def random_vae(dim: int = 8, *, with_encoder: bool = False) -> WanVae:
    """A full VAE with random weights."""
    vae = randomised(WanVae(VaeArchitecture(dim, 16), with_encoder=with_encoder))
    assert isinstance(vae, WanVae)
    return vae


def random_tiny_vae() -> TinyVae:
    """A tiny VAE with random weights."""
    vae = randomised(TinyVae(TinyVaeArchitecture((16, 8, 8, 8), 16)))
    assert isinstance(vae, TinyVae)
    last = vae.decoder[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    last.weight.mul_(0.02)  # so that frames stay between black and white
    last.bias.add_(0.5)
    return vae


def leftovers(folder: Path) -> list[str]:
    """Files below `folder` that a run would only leave behind when it was interrupted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return [
        str(path.relative_to(folder))
        for path in paths
        if path.suffix == ".mp4" or path.name.startswith(".") or "partial" in path.name
    ]
