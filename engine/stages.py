"""The stages of a run: text, image, denoise, decode.

A stage is a generator: it yields events and returns what the next stage needs. Networks come from
the warm engine, which loads what it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from threading import Event as StopEvent

import torch
from torch import Tensor, nn

from engine.build import Placement, Recipe, load
from engine.image import first_frame_mask, fit, read_image
from engine.lora import apply_loras
from engine.models.clip import ClipVision
from engine.models.t5 import build_t5
from engine.models.tiny_vae import TinyVae
from engine.models.vae import FRAMES_PER_LATENT, WanVae, denormalized
from engine.models.wan import WanTransformer, keeps_float32, rope_table
from engine.ops.attention import choose_attention
from engine.schedule import draw_noise, make_sampler
from engine.spec.architecture import (
    ClipArchitecture,
    T5Architecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)
from engine.spec.errors import Cancelled, EngineError
from engine.spec.events import Event, FrameDone, LoraApplied, MemoryUsed, StageStarted, StepDone
from engine.spec.header import read_header
from engine.spec.job import Job, Weights
from engine.spec.keys import clip_names, dit_names, same_names, t5_names
from engine.text import tokenize
from engine.video import VideoWriter
from engine.warm import Engine, identity

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
T5 = Recipe("T5", t5_names)
CLIP = Recipe("CLIP", clip_names)
DIT = Recipe("DiT", dit_names, float32=keeps_float32)
VAE_DECODER = Recipe("VAE", same_names, ignore=("encoder.", "conv1."))
VAE_ENCODER = Recipe("VAE encoder", same_names, ignore=("decoder.", "conv2."))
TINY_VAE_DECODER = Recipe("tiny VAE", same_names, ignore=("encoder.",))


@dataclass(frozen=True)
class Run:
    """One job under way: how to stop it, what is loaded, and the tensors to keep of it."""

    job: Job
    stop: StopEvent
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

    def check_stop(self) -> None:
        """Raise `Cancelled` where the stop event is set."""
        if self.stop.is_set():
            raise Cancelled


@dataclass(frozen=True)
class Conditions:
    """What the DiT is told: text [L, D], the negative prompt's, image features and latents."""

    text: Tensor
    text_null: Tensor | None = None
    image_features: Tensor | None = None
    image_latents: Tensor | None = None


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
    model = yield from run.network("t5", T5, job.t5, lambda: build_t5(arch), placement)
    model.encoder.embed_tokens = model.shared
    yield StageStarted("encode_text")
    # No padding and no mask: a masked token changes nothing in the tokens before it.
    contexts = [model(input_ids=each.to(run.device)).last_hidden_state[0] for each in ids]
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


def denoise(run: Run, conditions: Conditions) -> Generator[Event, None, Tensor]:
    """Walk the schedule from noise; returns the latents, float32 [C, T, H/8, W/8]."""
    job = run.job
    yield StageStarted("load_dit")
    model = yield from _dit(run)
    sampler = make_sampler(job.schedule)
    generator = torch.Generator("cpu").manual_seed(job.seed)
    noise = draw_noise(job.latent_shape, generator)
    run.keep("noise", noise)
    latents = noise.to(run.device)
    predict = _predictor(run, model, conditions)
    yield StageStarted("denoise", len(sampler))
    for index in range(len(sampler)):
        run.check_stop()
        started = time.perf_counter()
        flow = predict(latents, sampler.timestep(index))
        latents = sampler.step(index, latents, flow, generator)
        check_finite(latents, f"Denoising step {index + 1} of {len(sampler)}", "the DiT")
        run.keep(f"latents.step{index}", latents)
        yield StepDone(index + 1, len(sampler), time.perf_counter() - started)
        yield memory_used(run.device)
    run.engine.done("dit", job.placings.dit)
    return latents


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
            reports = apply_loras(model, job.loras, placement.dtype, run.stop)
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


def decode(run: Run, latents: Tensor) -> Iterator[Event]:
    """Decode latents to frames and write them, latent by latent."""
    job = run.job
    yield StageStarted("load_vae")
    frames_of = yield from _decoder(run)
    yield StageStarted("decode", job.frames)
    kept: list[Tensor] = []
    done = 0
    with VideoWriter(job.output, job.width, job.height, job.fps, job.settings) as writer:
        for frames in frames_of(latents):
            check_finite(frames, "Decoding", "the VAE")
            if job.save_tensors is not None:
                kept.append(frames.cpu())
            for _ in writer.write(frames):
                run.check_stop()
                done += 1
                yield FrameDone(done, job.frames)
        if kept:
            run.keep("frames", torch.cat(kept, dim=1))
    run.engine.done("vae", job.placings.vae)
    yield memory_used(run.device)


def _decoder(run: Run) -> Generator[Event, None, Callable[[Tensor], Iterator[Tensor]]]:
    """Give the way from latents to frames that the job asks for."""
    job = run.job
    shapes = read_header(job.vae.files[0]).shapes
    if job.tiny_vae:
        tiny_arch = TinyVaeArchitecture.from_shapes(shapes)
        tiny = yield from run.network(
            "vae", TINY_VAE_DECODER, job.vae, lambda: TinyVae(tiny_arch), run.placement()
        )
        if job.tiny_vae_denormalized:
            return lambda latents: tiny.decode(denormalized(latents))
        return tiny.decode
    arch = VaeArchitecture.from_shapes(shapes)
    vae = yield from run.network(
        "vae", VAE_DECODER, job.vae, lambda: WanVae(arch, with_encoder=False), run.placement()
    )
    return vae.decode_tiled if job.tiling else vae.decode


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
