"""Denoising: the DiT with its LoRAs walks the schedule from noise to latents."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.lora import apply_loras
from engine.models.wan import WanTransformer, rope_table
from engine.ops.attention import choose_attention
from engine.preview import Previewer, draw_latents, tiny_vae_drawing
from engine.resume import Keeper, Walk
from engine.spec.events import Event, LoraApplied, StageStarted, StepDone
from engine.spec.job import Job, Previews
from engine.stages.common import DIT, Run, check_finite, load_tiny_vae, memory_used
from engine.warm import identity


@dataclass(frozen=True)
class Conditions:
    """What the DiT is told: text [L, D], the negative prompt's, image features and latents."""

    text: Tensor
    text_null: Tensor | None = None
    image_features: Tensor | None = None
    image_latents: Tensor | None = None


def denoise(run: Run, conditions: Conditions, walk: Walk, keeper: Keeper) -> Iterator[Event]:
    """Walk what is left of the schedule; each step is kept before it is told."""
    job, sampler = run.job, walk.sampler
    yield StageStarted("load_dit")
    model = yield from _dit(run)
    previews = yield from _previewer(run, len(sampler))
    if walk.step == 0:
        run.keep("noise", walk.latents)
    predict = _predictor(run, model, conditions)
    yield StageStarted("denoise", len(sampler))
    while not walk.done:
        run.check_stop()
        index, before, started = walk.step, walk.latents, run.clock()
        flow = predict(before, sampler.timestep(index))
        walk.latents = sampler.step(index, before, flow, walk.generator)
        walk.step += 1
        check_finite(walk.latents, f"Denoising step {walk.step} of {len(sampler)}", "the DiT")
        run.keep(f"latents.step{index}", walk.latents)
        preview = None
        if previews is not None:
            preview = previews.take(walk.step, sampler.clean(index, before, flow))
        seconds = run.clock() - started
        yield from keeper.keep(walk)
        yield StepDone(walk.step, len(sampler), seconds)
        if preview is not None:
            yield preview
        yield memory_used(run.device)
    run.engine.done("dit", job.placings.dit)
    run.engine.done("preview_vae", job.placings.vae)


def _previewer(run: Run, steps: int) -> Generator[Event, None, Previewer | None]:
    """Give what draws the previews of a run; a tiny VAE is loaded for it where that is asked."""
    job = run.job
    if job.preview is Previews.OFF:
        return None
    if job.preview is Previews.LATENTS or job.preview_vae is None:
        return Previewer(draw_latents, steps)
    vae = yield from load_tiny_vae(run, "preview_vae", job.preview_vae)
    draw = tiny_vae_drawing(vae, wants_denormalized=job.tiny_vae_denormalized)
    return Previewer(draw, steps)


def _dit(run: Run) -> Generator[Event, None, WanTransformer]:
    """Give the DiT with its LoRAs; other LoRAs mean another network."""
    job = run.job
    loras = tuple((identity((lora.path,)), lora.strength) for lora in job.loras)
    attend = choose_attention(job.attention, run.device)
    fresh = False

    def make() -> WanTransformer:
        nonlocal fresh
        fresh = True
        return WanTransformer(job.architecture, attend)

    placement = run.placement()
    model = yield from run.network(
        "dit", DIT, job.dit, make, placement, job.architecture, loras, attend
    )
    if fresh and job.loras:
        try:
            reports = yield from apply_loras(model, job.loras, placement.dtype, run.stop)
        except BaseException:
            run.engine.drop("dit")  # a DiT with half of its LoRAs must not be found again
            raise
        for report in reports:
            counts = (report.matched, len(report.unmatched), len(report.ignored))
            yield LoraApplied(report.path, *counts)
    return model


def _predictor(
    run: Run, model: WanTransformer, conditions: Conditions
) -> Callable[[Tensor, float], Tensor]:
    """Everything that is the same at every step, done once; gives latents and timestep -> flow."""
    job = run.job
    rope = _rope(job, run.device)
    image = conditions.image_features
    texts = [conditions.text] if conditions.text_null is None else [
        conditions.text, conditions.text_null,
    ]  # fmt: skip
    padded = torch.cat([_padded(text, job.architecture.text_len) for text in texts])
    batched = job.guidance is not None and job.guidance.batched

    def flows(latents: Tensor, timestep: float) -> list[Tensor]:
        if conditions.image_latents is not None:
            latents = torch.cat([latents, conditions.image_latents])
        answers: list[Tensor] = []
        for context in (padded,) if batched else padded.split(1):
            count = context.shape[0]
            timesteps = torch.full((count,), timestep, device=run.device)
            images = None if image is None else image.expand(count, *image.shape)
            answers += model(
                latents.expand(count, *latents.shape), timesteps, context, rope, images
            )
        return answers

    def predict(latents: Tensor, timestep: float) -> Tensor:
        flow, *null = flows(latents, timestep)
        if not null:
            return flow
        assert job.guidance is not None  # a negative prompt is encoded only with guidance
        return null[0] + job.guidance.scale * (flow - null[0])

    return predict


def _padded(context: Tensor, length: int) -> Tensor:
    """Put zeros behind the tokens, as Wan does: [L, D] -> [1, length, D]."""
    padded = context.new_zeros(1, length, context.shape[-1])
    padded[0, : context.shape[0]] = context
    return padded


def _rope(job: Job, device: torch.device) -> tuple[Tensor, Tensor]:
    _, time_steps, height, width = job.latent_shape
    patch_f, patch_h, patch_w = job.architecture.patch_size
    grid = (time_steps // patch_f, height // patch_h, width // patch_w)
    cos, sin = rope_table(grid, job.architecture.dim // job.architecture.num_heads)
    return cos.to(device), sin.to(device)
