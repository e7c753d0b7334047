"""Text and image encoding: prompts and the first frame become what the DiT is told."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from engine.build import Recipe
from engine.image import first_frame_mask, fit, read_image
from engine.models.clip import ClipVision
from engine.models.t5 import Umt5
from engine.models.vae import FRAMES_PER_LATENT, WanVae
from engine.spec.architecture import ClipArchitecture, T5Architecture, VaeArchitecture
from engine.spec.errors import EngineError
from engine.spec.events import Event, StageStarted
from engine.spec.header import read_header
from engine.spec.job import Job, Weights
from engine.stages.common import CLIP, T5, VAE_ENCODER, Run, check_finite, memory_used
from engine.text import tokenize
from engine.warm import identity


def encode_text(run: Run) -> Generator[Event, None, tuple[Tensor, Tensor | None]]:
    """Encode the prompt and, for guidance, the negative prompt: contexts [L, text_dim] each."""
    job = run.job
    yield StageStarted("load_t5")
    prompts = [job.prompt] if job.guidance is None else [job.prompt, job.negative_prompt]
    files = identity((*job.t5.files, job.tokenizer / "tokenizer.json"))
    made_by = (files, run.placement(), job.architecture.text_len)
    kept = [run.engine.features(f"text{i}", (made_by, p)) for i, p in enumerate(prompts)]
    contexts = [context for context in kept if context is not None]
    if len(contexts) < len(prompts):
        contexts = yield from _encode_prompts(run, prompts)
        for index, (prompt, context) in enumerate(zip(prompts, contexts, strict=True)):
            run.engine.keep_features(f"text{index}", (made_by, prompt), context)
        run.engine.done("t5", job.placings.t5)
    names = ("text.context", "text.context_null")
    for name, context in zip(names, contexts, strict=False):
        run.keep(name, context)
    yield memory_used(run.device)
    return contexts[0], contexts[1] if len(contexts) > 1 else None


def _encode_prompts(run: Run, prompts: list[str]) -> Generator[Event, None, list[Tensor]]:
    job = run.job
    arch = T5Architecture.from_shapes(read_header(job.t5.files[0]).shapes)
    ids = [tokenize(prompt, job.tokenizer, job.architecture.text_len) for prompt in prompts]
    for each in ids:
        _check_vocabulary(each, arch)
    # UMT5 overflows in float16; bfloat16 is what Wan publishes it in.
    half = torch.bfloat16 if job.compute_dtype.value == "float16" else None
    placement = run.placement(half)
    model = yield from run.network("t5", T5, job.t5, lambda: Umt5(arch), placement)
    yield StageStarted("encode_text")
    # No padding and no mask: a masked token changes nothing in the tokens before it.
    contexts = [model(each[0].to(run.device)) for each in ids]
    for context in contexts:
        check_finite(context, "Encoding the prompt", "T5")
    return contexts


def encode_image(run: Run) -> Generator[Event, None, tuple[Tensor | None, Tensor | None]]:
    """Encode the first frame: CLIP features [I, D], and mask and latents [20, T, H/8, W/8]."""
    job = run.job
    if job.image is None:
        return None, None
    yield StageStarted("load_clip")
    key = (identity((job.image,)), job.latent_shape, identity(job.vae_encoder.files),
           job.clip and identity(job.clip.files), run.placement())  # fmt: skip
    features = run.engine.features("image.features", key)
    latents = run.engine.features("image.latents", key)
    if latents is None:
        features, latents = yield from _encode_first_frame(run)
        if features is not None:
            run.engine.keep_features("image.features", key, features)
        run.engine.keep_features("image.latents", key, latents)
    if features is not None:
        run.keep("image.features", features)
    run.keep("image.y", latents)
    yield memory_used(run.device)
    return features, latents


def _encode_first_frame(run: Run) -> Generator[Event, None, tuple[Tensor | None, Tensor]]:
    job = run.job
    image = fit(read_image(job.image), job.height, job.width).to(run.device)
    clip = None if job.clip is None else (yield from _clip(run, job.clip))
    encoder = yield from _vae_encoder(run)
    yield StageStarted("encode_image")
    features = None
    if clip is not None:
        features = clip(image)
        check_finite(features, "Encoding the image", "CLIP")
    run.engine.done("clip", job.placings.clip)
    latents = _image_latents(job, encoder, image)
    check_finite(latents, "Encoding the image", "the VAE encoder")
    run.engine.done("vae_encoder", job.placings.vae)
    return features, latents


def _clip(run: Run, weights: Weights) -> Generator[Event, None, ClipVision]:
    arch = ClipArchitecture.from_shapes(read_header(weights.files[0]).shapes)
    last = f"visual.transformer.{arch.num_layers - 1}."  # features are taken before it
    recipe = Recipe(CLIP.component, CLIP.names, ignore=(last,))
    return (
        yield from run.network("clip", recipe, weights, lambda: ClipVision(arch), run.placement())
    )


def _vae_encoder(run: Run) -> Generator[Event, None, WanVae]:
    """Give the VAE's encoder, in float32: bf16 shifts the whole video."""
    weights = run.job.vae_encoder
    arch = VaeArchitecture.from_shapes(read_header(weights.files[0]).shapes)
    return (
        yield from run.network(
            "vae_encoder", VAE_ENCODER, weights,
            lambda: WanVae(arch, with_encoder=True, with_decoder=False),
            run.placement(torch.float32),
        )
    )  # fmt: skip


def _image_latents(job: Job, encoder: WanVae, image: Tensor) -> Tensor:
    """Encode the image and zero frames behind it, with the mask in front: [20, T, H/8, W/8]."""
    _, time_steps, height, width = job.latent_shape
    zeros = image.new_zeros(3, FRAMES_PER_LATENT, job.height, job.width)
    latents = encoder.encode_chunks([image[:, None], *[zeros] * (time_steps - 1)])
    return torch.cat([first_frame_mask(time_steps, height, width).to(image.device), latents])


def _check_vocabulary(ids: Tensor, arch: T5Architecture) -> None:
    if int(ids.max()) >= arch.vocab_size:
        raise EngineError(
            "The tokenizer does not belong to this T5",
            f"it gives token {int(ids.max())}, the encoder knows {arch.vocab_size} tokens",
            "Use the google/umt5-xxl folder that came with the T5 file.",
        )
