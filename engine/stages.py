"""The stages of a run: each loads its network, works, and lets the network go.

A stage is a generator: it yields events and returns what the next stage needs.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from threading import Event as StopEvent

import torch
from torch import Tensor

from engine.build import Placement, Recipe, load, make_cancellable
from engine.models.t5 import build_t5
from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from engine.models.wan import WanTransformer, keeps_float32, rope_table
from engine.schedule import StepDistillSchedule, draw_noise
from engine.spec.architecture import T5Architecture, TinyVaeArchitecture, VaeArchitecture
from engine.spec.errors import Cancelled, EngineError
from engine.spec.events import Event, FrameDone, MemoryUsed, StageStarted, StepDone
from engine.spec.header import read_header
from engine.spec.job import Job
from engine.spec.keys import dit_names, same_names, t5_names
from engine.text import tokenize
from engine.video import VideoWriter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
T5 = Recipe("T5", t5_names)
DIT = Recipe("DiT", dit_names, float32=keeps_float32)
VAE_DECODER = Recipe("VAE", same_names, ignore=("encoder.", "conv1."))
TINY_VAE_DECODER = Recipe("tiny VAE", same_names, ignore=("encoder.",))


@dataclass(frozen=True)
class Run:
    """One job under way: how to stop it, where it computes, and the tensors to keep of it."""

    job: Job
    stop: StopEvent
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def placement(self, dtype: torch.dtype | None = None) -> Placement:
        """Where networks of this run live; the compute dtype unless another is given."""
        job = self.job
        chosen = dtype or DTYPES[job.compute_dtype.value]
        return Placement(torch.device(job.device), chosen, job.quant_compute)

    def keep(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor for `--save-tensors`, as float32 on the CPU."""
        if self.job.save_tensors is not None:
            self.tensors[name] = tensor.detach().float().cpu().contiguous().clone()

    def check_stop(self) -> None:
        """Raise `Cancelled` where the stop event is set."""
        if self.stop.is_set():
            raise Cancelled


def encode_text(run: Run) -> Generator[Event, None, Tensor]:
    """Encode the prompt; returns the context [L, text_dim] of its L tokens."""
    job = run.job
    yield StageStarted("load_t5")
    arch = T5Architecture.from_shapes(read_header(job.t5.files[0]).shapes)
    ids = tokenize(job.prompt, job.tokenizer, job.architecture.text_len)
    _check_vocabulary(ids, arch)
    # UMT5 overflows in float16; bfloat16 is what Wan publishes it in.
    half = torch.bfloat16 if job.compute_dtype.value == "float16" else None
    placement = run.placement(half)
    with torch.device("meta"):
        model = build_t5(arch)
    yield from load(model, T5, job.t5, placement, run.stop)
    model.encoder.embed_tokens = model.shared
    make_cancellable(model, run.stop)
    yield StageStarted("encode_text")
    # No padding and no mask: a masked token changes nothing in the tokens before it.
    context = model(input_ids=ids.to(placement.device)).last_hidden_state[0]
    run.keep("text.context", context)
    del model
    yield memory_used(placement.device)
    return context


def denoise(run: Run, context: Tensor) -> Generator[Event, None, Tensor]:
    """Walk the schedule from noise; returns the latents, float32 [C, T, H/8, W/8]."""
    job = run.job
    yield StageStarted("load_dit")
    placement = run.placement()
    with torch.device("meta"):
        model = WanTransformer(job.architecture)
    yield from load(model, DIT, job.dit, placement, run.stop)
    make_cancellable(model, run.stop)

    schedule = StepDistillSchedule.from_spec(job.schedule)
    generator = torch.Generator("cpu").manual_seed(job.seed)
    noise = draw_noise(job.latent_shape, generator)
    run.keep("noise", noise)
    latents = noise.to(placement.device)
    padded = context.new_zeros(1, job.architecture.text_len, context.shape[-1])
    padded[0, : context.shape[0]] = context
    rope = _rope(job, placement.device)
    yield StageStarted("denoise", len(schedule))
    for index in range(len(schedule)):
        run.check_stop()
        started = time.perf_counter()
        timestep = torch.tensor([schedule.timestep(index)], device=placement.device)
        flow = model(latents[None], timestep, padded, rope)[0]
        latents = schedule.step(index, latents, flow, generator)
        _check_finite(latents, index, len(schedule))
        run.keep(f"latents.step{index}", latents)
        yield StepDone(index + 1, len(schedule), time.perf_counter() - started)
        yield memory_used(placement.device)
    return latents


def decode(run: Run, latents: Tensor) -> Iterator[Event]:
    """Decode latents to frames and write them, latent by latent."""
    job = run.job
    yield StageStarted("load_vae")
    shapes = read_header(job.vae.files[0]).shapes
    with torch.device("meta"):
        model = (
            TinyVae(TinyVaeArchitecture.from_shapes(shapes))
            if job.tiny_vae
            else WanVae(VaeArchitecture.from_shapes(shapes), with_encoder=False)
        )
    recipe = TINY_VAE_DECODER if job.tiny_vae else VAE_DECODER
    placement = run.placement()
    yield from load(model, recipe, job.vae, placement, run.stop)
    make_cancellable(model, run.stop)

    yield StageStarted("decode", job.frames)
    kept: list[Tensor] = []
    done = 0
    with VideoWriter(job.output, job.width, job.height, job.fps, job.settings) as writer:
        for frames in model.decode(latents):
            if job.save_tensors is not None:
                kept.append(frames.cpu())
            for _ in writer.write(frames):
                run.check_stop()
                done += 1
                yield FrameDone(done, job.frames)
        if kept:
            run.keep("frames", torch.cat(kept, dim=1))
    yield memory_used(placement.device)


def memory_used(device: torch.device) -> MemoryUsed:
    """Read how much memory this process and the CUDA device hold."""
    import psutil

    ram = psutil.Process().memory_info().rss
    if device.type != "cuda":
        return MemoryUsed(ram, 0, 0)
    peak = torch.cuda.max_memory_allocated(device)
    return MemoryUsed(ram, torch.cuda.memory_allocated(device), peak)


def _rope(job: Job, device: torch.device) -> tuple[Tensor, Tensor]:
    _, time_steps, height, width = job.latent_shape
    patch_f, patch_h, patch_w = job.architecture.patch_size
    grid = (time_steps // patch_f, height // patch_h, width // patch_w)
    cos, sin = rope_table(grid, job.architecture.dim // job.architecture.num_heads)
    return cos.to(device), sin.to(device)


def _check_vocabulary(ids: Tensor, arch: T5Architecture) -> None:
    if int(ids.max()) >= arch.vocab_size:
        raise EngineError(
            "The tokenizer does not belong to this T5",
            f"it gives token {int(ids.max())}, the encoder knows {arch.vocab_size} tokens",
            "Use the google/umt5-xxl folder that came with the T5 file.",
        )


def _check_finite(latents: Tensor, index: int, steps: int) -> None:
    if not bool(torch.isfinite(latents).all()):
        raise EngineError(
            f"Denoising step {index + 1} of {steps} gave values that are not finite",
            "the DiT overflowed; the video would have been black",
            "Try --quant-compute dequant, --compute-dtype bfloat16, or the original DiT.",
        )
