"""How much memory each stage of a run takes, on the device and in RAM.

Weights are counted from headers (`footprint`), activations from the networks' own arithmetic
(`activations`); stages are walked in the order a run takes them, with what stays loaded where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from engine.spec import activations
from engine.spec.activations import FLOAT, Linear, Peak, Products
from engine.spec.architecture import (
    ClipArchitecture,
    T5Architecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)
from engine.spec.footprint import Footprint, file_bytes, footprint
from engine.spec.job import Job, Placing, Previews, StepDistill, Weights
from engine.spec.precision import FP8_FROM, INT8_FROM, ComputeDtype, Precision, QuantCompute
from engine.spec.space import checkpoint_bytes

MIB = 1 << 20
#: A process that imported what a run imports (torch 2.13 for the CPU): VmHWM of
#: `import engine.pipeline, safetensors.torch, ftfy`, and what a first run adds: thread pools,
#: kernels made at run time, the tokenizer.
PROCESS = 242 * MIB
FIRST_RUN = 50 * MIB
#: What convolutions in float32 take there besides: 0 to 28 MiB, from run to run.
FLOAT32_RUN = 12 * MIB
#: Freed tensors below 32 MiB leave holes in glibc's heap: this share of what was alive, at most
#: so much. Differs from run to run by a tenth of the whole; larger tensors leave none.
HOLES = 450 * MIB
HOLE_SHARE, TINY_VAE_SHARE, VAE_SHARE = 1.0, 0.3, 0.65
#: Of CUDA itself, from public experience, not measured here: its context on the device, and its
#: libraries and pinned buffers in RAM.
CUDA_CONTEXT = 500 * MIB
CUDA_LIBRARIES = 1000 * MIB
#: What cuBLAS allocates once, through PyTorch, on the largest GPUs; a quarter of it elsewhere.
CUBLAS = 32 * MIB
#: What the caching allocator holds beyond what is allocated.
RESERVED = 1.05
#: libx264 at `medium`, for each pixel: itself, and each frame it looks ahead.
ENCODER, LOOKAHEAD, LOOKAHEAD_FRAMES = 90, 2, 80
PIXELS = 4 * 3 * 4 * 2 + 24  # bytes a pixel: four float frames on their way to the encoder
KEPT_COPIES = 3  # of a checkpoint while it is written
PUBLISHED_TINY_VAE = TinyVaeArchitecture((256, 128, 64, 64), 16)
#: The stages in which each network is loaded and works.
STAGES_OF = {
    "t5": ("load_t5", "encode_text"), "clip": ("load_clip", "encode_image"),
    "vae_encoder": ("load_clip", "encode_image"), "dit": ("load_dit", "denoise"),
    "preview_vae": ("load_dit", "denoise"), "vae": ("load_vae", "decode"),
}  # fmt: skip
ITEM = {ComputeDtype.FLOAT32: 4, ComputeDtype.BFLOAT16: 2, ComputeDtype.FLOAT16: 2}


@dataclass(frozen=True)
class Machine:
    """Bytes there are: on the device and in RAM, free for this process, and what it holds.

    `vram_free` counts as free what this process itself holds there; `ram_process` is what it
    holds in RAM beside the engine's networks: the engine's libraries, too, once it has one. A
    compute capability says which codes the GPU multiplies; None stands for one that multiplies all.
    """

    vram_total: int
    vram_free: int
    ram_available: int
    ram_process: int = 0
    has_engine: bool = False
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class StageMemory:
    """Peaks of one stage of `events.STAGES`, in bytes; `ram` is resident memory."""

    name: str
    vram: int
    ram: int
    mapped: int = 0  # of `ram`, pages of files, which the system takes back where it must


@dataclass(frozen=True)
class Network:
    """One network of a run: where it stays afterwards, and bytes of weights and beside them."""

    name: str
    placing: Placing
    weights: Footprint
    item: int  # bytes of what it computes in
    peak: Peak
    added: int = 0  # of LoRAs

    @property
    def kept(self) -> int:
        """Bytes of its weights in memory."""
        return self.weights.kept(self.item) + self.added


@dataclass(frozen=True)
class Walk:
    """A run, or two in a row, from stage to stage."""

    stages: tuple[StageMemory, ...]
    next_vram: int

    @property
    def vram(self) -> int:
        """The highest of all stages, on the device."""
        return max(stage.vram for stage in self.stages)

    @property
    def ram(self) -> int:
        """The highest of all stages, in RAM."""
        return max(stage.ram for stage in self.stages)

    @property
    def ram_wanted(self) -> int:
        """The same without pages the system can take back."""
        return max(stage.ram - stage.mapped for stage in self.stages)


def needs(job: Job, machine: Machine) -> Walk:
    """Walk the stages of a run with the job's own placings.

    Raises:
        CheckpointError: a file is missing or its header is broken.
    """
    networks = _networks(job, machine)
    meter = _Meter(job, machine, {}, {})
    first = _walk(job, networks, meter)
    again = _walk(job, networks, _Meter(job, machine, meter.held, meter.waiting))
    return Walk(first, max(stage.vram for stage in again))


def fits(job: Job, walk: Walk, machine: Machine) -> bool:
    """Say whether one run fits; the next one may not."""
    enough = ram_needed(walk, machine) <= machine.ram_available
    return enough and (on_cpu(job) or vram_needed(walk.vram) <= machine.vram_free)


def ram_needed(walk: Walk, machine: Machine) -> int:
    """What must be available in RAM beside what this process holds already."""
    return max(0, walk.ram_wanted - machine.ram_process)


def vram_needed(peak: int) -> int:
    """What the device must have free for a peak of allocated bytes."""
    return int(peak * RESERVED) + CUDA_CONTEXT


def on_cpu(job: Job) -> bool:
    """Say whether a job computes on the CPU."""
    return not job.device.startswith("cuda")


def disk_read(job: Job, machine: Machine) -> int:
    """Bytes that a run reads where nothing is loaded yet."""
    loras = sum(file_bytes(lora.path) for lora in job.loras)
    return loras + sum(network.weights.read for network in _networks(job, machine))


def _linear(job: Job, machine: Machine, weights: Footprint, precision: Precision,
            item: int) -> Linear:  # fmt: skip
    return Linear(_products(job, machine, precision), item, weights.widest, on_cpu(job))


def _products(job: Job, machine: Machine, precision: Precision) -> Products:
    """How linears multiply, as `engine.ops.linear.choose_linear` decides."""
    if not precision.quantized:
        return Products.PLAIN
    capability = machine.capability
    fp8 = precision is Precision.FP8
    lacking = capability is not None and capability < (FP8_FROM if fp8 else INT8_FROM)
    if job.quant_compute is QuantCompute.DEQUANT or (lacking and not on_cpu(job)):
        return Products.DEQUANT
    one_scale = capability == FP8_FROM  # kernels with a scale per row are avoided there
    return Products.EXACT if on_cpu(job) or not fp8 or one_scale else Products.FUSED


def _networks(job: Job, machine: Machine) -> tuple[Network, ...]:
    """The networks of a run in the order they are used."""
    item = ITEM[job.compute_dtype]
    networks = [_t5(job, machine)]
    if job.image is not None and job.vae_encoder is not None:
        networks += _image_encoders(job, machine)
    weights = footprint("dit", job.dit)
    batch = 2 if job.guidance is not None and job.guidance.batched else 1
    linear = _linear(job, machine, weights, job.dit.precision, item)
    peak = activations.dit(job.architecture, tokens(job), batch, linear, loras=bool(job.loras))
    added = _lora_bytes(job, item)
    networks.append(Network("dit", job.placings.dit, weights, item, peak, added))
    if job.preview is Previews.TINY_VAE and job.preview_vae is not None:
        networks.append(_tiny_decoder(job, "preview_vae", job.preview_vae))
    return (*networks, _decoder(job))


def tokens(job: Job) -> int:
    """How many patches the DiT attends to."""
    _, time, height, width = job.latent_shape
    patch_f, patch_h, patch_w = job.architecture.patch_size
    return (time // patch_f) * (height // patch_h) * (width // patch_w)


def _lora_bytes(job: Job, item: int) -> int:
    """LoRAs are merged into original weights and stay beside codes."""
    if not job.dit.precision.quantized:
        return 0
    return sum(file_bytes(lora.path) for lora in job.loras) * item // 2


@lru_cache(maxsize=16)
def _t5_architecture(weights: Footprint) -> T5Architecture:
    return T5Architecture.from_shapes(weights.shapes)


@lru_cache(maxsize=16)
def _clip_architecture(weights: Footprint) -> ClipArchitecture:
    return ClipArchitecture.from_shapes(weights.shapes)


def _t5(job: Job, machine: Machine) -> Network:
    item = 2 if job.compute_dtype is ComputeDtype.FLOAT16 else ITEM[job.compute_dtype]
    weights = footprint("t5", job.t5)
    arch = _t5_architecture(weights)
    longest = max(len(job.prompt), len(job.negative_prompt) if job.guidance else 0)
    length = min(job.architecture.text_len, longest + 1)  # a token is a letter or more
    peak = activations.t5(arch, length, _linear(job, machine, weights, job.t5.precision, item))
    return Network("t5", job.placings.t5, weights, item, peak)


def _image_encoders(job: Job, machine: Machine) -> list[Network]:
    item, networks = ITEM[job.compute_dtype], []
    assert job.vae_encoder is not None
    if job.clip is not None:
        weights = footprint("clip", job.clip)
        linear = _linear(job, machine, weights, job.clip.precision, item)
        peak = activations.clip(_clip_architecture(weights), linear)
        networks.append(Network("clip", job.placings.clip, weights, item, peak))
    weights = footprint("vae_encoder", job.vae_encoder)
    arch = VaeArchitecture.from_shapes(weights.shapes)
    peak = activations.vae_encoder(arch, job.latent_shape[1:], on_cpu=on_cpu(job))
    return [*networks, Network("vae_encoder", job.placings.vae, weights, FLOAT, peak)]


def _decoder(job: Job) -> Network:
    if job.tiny_vae:
        return _tiny_decoder(job, "vae", job.vae)
    item, size = ITEM[job.compute_dtype], job.latent_shape[1:]
    weights = footprint("vae", job.vae)
    arch = VaeArchitecture.from_shapes(weights.shapes)
    peak = activations.vae_decoder(arch, size, item, on_cpu=on_cpu(job), tiled=job.tiling)
    return Network("vae", job.placings.vae, weights, item, peak)


def _tiny_decoder(job: Job, name: str, files: Weights) -> Network:
    """The tiny VAE; the published one where the files are those of a full one."""
    item, weights = ITEM[job.compute_dtype], footprint("vae", files)
    tiny = "decoder.1.weight" in weights.shapes
    arch = TinyVaeArchitecture.from_shapes(weights.shapes) if tiny else PUBLISHED_TINY_VAE
    peak = activations.tiny_decoder(arch, job.latent_shape[1:], item, on_cpu=on_cpu(job))
    return Network(name, job.placings.vae, weights, item, peak)


class _Meter:
    """What is loaded where while a run goes on, and the peaks of its stages."""

    def __init__(
        self, job: Job, machine: Machine, held: dict[str, int], waiting: dict[str, int]
    ) -> None:
        self.cpu = on_cpu(job)
        libraries = PROCESS + FIRST_RUN + (0 if self.cpu else CUDA_LIBRARIES)
        if self.cpu and job.compute_dtype is ComputeDtype.FLOAT32:
            libraries += FLOAT32_RUN
        self.base = machine.ram_process + (0 if machine.has_engine else libraries)
        self.held, self.waiting = dict(held), dict(waiting)  # on the device, in RAM
        self.peaks: dict[str, StageMemory] = {}

    def note(self, stage: str, device: int, ram: int, mapped: int = 0) -> None:
        """Tell what a stage takes at one of its moments, beside what is loaded."""
        used = sum(self.held.values()) + device
        total = self.base + sum(self.waiting.values()) + ram + mapped + (used if self.cpu else 0)
        past = self.peaks.get(stage, StageMemory(stage, 0, 0))
        vram = 0 if self.cpu else max(past.vram, used + CUBLAS)
        higher = total > past.ram
        self.peaks[stage] = StageMemory(
            stage, vram, total if higher else past.ram, mapped if higher else past.mapped
        )

    def take(self, network: Network) -> bool:
        """Bring a network to the device; True where it has to be read."""
        fresh = network.name not in self.held and network.name not in self.waiting
        self.waiting.pop(network.name, None)
        self.held[network.name] = network.kept
        return fresh

    def put(self, network: Network) -> None:
        """Put a network where it stays."""
        if network.placing is Placing.DROP:
            del self.held[network.name]
        elif network.placing is Placing.CPU and not self.cpu:
            self.waiting[network.name] = self.held.pop(network.name)


def _walk(job: Job, networks: tuple[Network, ...], meter: _Meter) -> tuple[StageMemory, ...]:
    """Go through the stages of one run."""
    for load, work in STAGES_OF.values():
        used = [network for network in networks if STAGES_OF[network.name] == (load, work)]
        if work in meter.peaks:
            continue  # both image encoders share a stage
        for network in used:
            fresh, cast = meter.take(network), network.weights.cast(network.item)
            staged = cast if meter.cpu else cast + network.weights.largest
            meter.note(load, 0, staged if fresh else 0, network.weights.mapped if fresh else 0)
        for network in used:
            meter.note(work, network.peak.total, _beside(job, network, cpu=meter.cpu))
            if work != "denoise":  # image encoders leave one by one, the DiT with its previews
                meter.put(network)
        for network in used if work == "denoise" else ():
            meter.put(network)
    return tuple(meter.peaks.values())


def _beside(job: Job, network: Network, *, cpu: bool) -> int:
    """RAM of a stage that is no network's: holes, frames on their way, tensors to be saved."""
    share = HOLE_SHARE
    if network.name == "preview_vae" or (network.name == "vae" and job.tiny_vae):
        share = TINY_VAE_SHARE
    elif network.name in ("vae", "vae_encoder"):
        share = VAE_SHARE
    holes = int(min(HOLES, share * network.peak.alive)) if cpu else 0
    if network.name in ("dit", "preview_vae", "vae"):
        holes += _saved_latents(job)
    if network.name != "vae":
        return holes
    pixels = job.width * job.height
    encoder = ENCODER + LOOKAHEAD * min(job.frames, LOOKAHEAD_FRAMES)
    saved = 0 if job.save_tensors is None else 3 * (3 * job.frames * FLOAT)  # list, cat, copy
    return holes + pixels * (encoder + PIXELS + saved)


def _saved_latents(job: Job) -> int:
    kept = 0 if job.checkpoint is None else KEPT_COPIES * checkpoint_bytes(job)
    if job.save_tensors is None:
        return kept
    schedule = job.schedule
    steps = len(schedule.timesteps) if isinstance(schedule, StepDistill) else schedule.steps
    return kept + (steps + 1) * math.prod(job.latent_shape) * FLOAT
