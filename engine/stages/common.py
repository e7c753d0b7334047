"""What the stages of a run share: the run itself, the recipes of its networks, their checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.build import Placement, Recipe, load
from engine.models.tiny_vae import TinyVae
from engine.models.wan import keeps_float32
from engine.spec.architecture import TinyVaeArchitecture
from engine.spec.control import RunControl
from engine.spec.errors import Cancelled, EngineError
from engine.spec.events import Event, MemoryUsed
from engine.spec.header import read_header
from engine.spec.job import Job, Weights
from engine.spec.keys import clip_names, dit_names, same_names
from engine.warm import Engine, identity

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
T5 = Recipe("T5", same_names)
CLIP = Recipe("CLIP", clip_names)
DIT = Recipe("DiT", dit_names, float32=keeps_float32)
VAE_DECODER = Recipe("VAE", same_names, ignore=("encoder.", "conv1."))
VAE_ENCODER = Recipe("VAE encoder", same_names, ignore=("decoder.", "conv2."))
TINY_VAE_DECODER = Recipe("tiny VAE", same_names, ignore=("encoder.",))


@dataclass(frozen=True)
class Run:
    """One job under way: how to stop it, what is loaded, and the tensors to keep of it."""

    job: Job
    stop: RunControl
    engine: Engine
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The device everything is computed on."""
        return torch.device(self.job.device)

    def placement(self, dtype: torch.dtype | None = None) -> Placement:
        """Where networks of this run compute; in the compute dtype unless another is given."""
        chosen = dtype or DTYPES[self.job.compute_dtype.value]
        return Placement(self.device, chosen, self.job.quant_compute)

    def network(
        self,
        slot: str,
        recipe: Recipe,
        weights: Weights,
        make: Callable[[], nn.Module],
        placement: Placement,
        *also: Hashable,
    ) -> Generator[Event, None, nn.Module]:
        """Give a network: the one that is loaded, or one made on the meta device and filled."""

        def build() -> Generator[Event, None, nn.Module]:
            with torch.device("meta"):
                model = make()
            yield from load(model, recipe, weights, placement, self.stop)
            return model

        key = (identity(weights.files), weights.precision, placement.dtype,
               placement.quant_compute, self.device, *also)  # fmt: skip
        return (yield from self.engine.network(slot, key, self.device, build))

    def keep(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor for `--save-tensors`, as float32 on the CPU."""
        if self.job.save_tensors is not None:
            self.tensors[name] = tensor.detach().float().cpu().contiguous().clone()

    def clock(self) -> float:
        """Seconds of work: the time that a paused run waits does not count."""
        return time.perf_counter() - self.stop.paused_seconds

    def check_stop(self) -> None:
        """Raise `Cancelled` where the stop event is set."""
        if self.stop.is_set():
            raise Cancelled


def load_tiny_vae(run: Run, slot: str, weights: Weights) -> Generator[Event, None, TinyVae]:
    """Give a tiny VAE."""
    arch = TinyVaeArchitecture.from_shapes(read_header(weights.files[0]).shapes)
    return (
        yield from run.network(
            slot, TINY_VAE_DECODER, weights, lambda: TinyVae(arch), run.placement()
        )
    )


def memory_used(device: torch.device) -> MemoryUsed:
    """Read how much memory this process and the CUDA device hold."""
    import psutil

    ram = psutil.Process().memory_info().rss
    if device.type != "cuda":
        return MemoryUsed(ram, 0, 0)
    peak = torch.cuda.max_memory_allocated(device)
    return MemoryUsed(ram, torch.cuda.memory_allocated(device), peak)


def check_finite(values: Tensor, work: str, network: str) -> None:
    """Stop a run at the first value that is not finite.

    Raises:
        EngineError: naming the step and the network.
    """
    if not bool(torch.isfinite(values).all()):
        raise EngineError(
            f"{work} gave values that are not finite",
            f"{network} overflowed or its weights are damaged; the video would have been black",
            "Try --quant-compute dequant, --compute-dtype bfloat16, or the original weights.",
        )
