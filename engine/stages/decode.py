"""Decoding: latents become frames, and frames a video."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor

from engine.durable import patiently
from engine.models.vae import WanVae, denormalized
from engine.spec.architecture import VaeArchitecture
from engine.spec.events import Event, FrameDone, StageStarted
from engine.spec.header import read_header
from engine.spec.space import video_bytes
from engine.stages.common import VAE_DECODER, Run, check_finite, load_tiny_vae, memory_used
from engine.video import ANOTHER_OUTPUT, VideoWriter

RESUMABLE = "All steps are kept: once that is mended, `--resume` finishes it."


def decode(run: Run, latents: Tensor, *, resumable: bool = False) -> Iterator[Event]:
    """Decode latents to frames and write them; on a full disk it waits for room and begins anew."""
    job = run.job
    yield StageStarted("load_vae")
    frames_of = yield from _decoder(run)
    needed = video_bytes(job)
    yield from patiently(
        run.stop, job.output, needed, lambda: _write(run, frames_of(latents), resumable=resumable)
    )
    run.engine.done("vae", job.placings.vae)
    yield memory_used(run.device)


def _write(run: Run, decoded: Iterator[Tensor], *, resumable: bool) -> Iterator[Event]:
    """Write frames as they are decoded, latent by latent."""
    job = run.job
    yield StageStarted("decode", job.frames)
    kept: list[Tensor] = []
    done = 0
    fix = RESUMABLE if resumable else ANOTHER_OUTPUT
    with VideoWriter(job.output, job.width, job.height, job.fps, job.settings, fix) as writer:
        for frames in decoded:
            check_finite(frames, "Decoding", "the VAE")
            if job.save_tensors is not None:
                kept.append(frames.cpu())
            for _ in writer.write(frames):
                run.check_stop()
                done += 1
                yield FrameDone(done, job.frames)
        if kept:
            run.keep("frames", torch.cat(kept, dim=1))


def _decoder(run: Run) -> Generator[Event, None, Callable[[Tensor], Iterator[Tensor]]]:
    """Give the way from latents to frames that the job asks for."""
    job = run.job
    if job.tiny_vae:
        tiny = yield from load_tiny_vae(run, "vae", job.vae)
        if job.tiny_vae_denormalized:
            return lambda latents: tiny.decode(denormalized(latents))
        return tiny.decode
    arch = VaeArchitecture.from_shapes(read_header(job.vae.files[0]).shapes)
    vae = yield from run.network(
        "vae", VAE_DECODER, job.vae, lambda: WanVae(arch, with_encoder=False), run.placement()
    )
    return vae.decode_tiled if job.tiling else vae.decode
