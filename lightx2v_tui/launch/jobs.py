"""From a preset to a `Job`: every file found, every number checked, before the engine starts."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from engine.spec.errors import EngineError, JobError
from engine.spec.estimate import Machine, fitting
from engine.spec.image_size import image_size
from engine.spec.job import (
    SIZE_STEP,
    Euler,
    Guidance,
    Job,
    Placing,
    Placings,
    Previews,
    Schedule,
    StepDistill,
    UniPC,
    fit_area,
    partial_of,
    rounded_frames,
)
from engine.spec.precision import ComputeDtype, QuantCompute
from lightx2v_tui.catalog import Component, Kind
from lightx2v_tui.catalog.completeness import not_computed
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.launch import choices, runnable
from lightx2v_tui.launch.job_files import (
    Parts,
    broken,
    check_loras,
    component_of,
    parts_of,
    preview_vae_of,
    tokenizer_of,
    weights_of,
)
from lightx2v_tui.presets import Preset, to_json
from lightx2v_tui.presets.root import model_at

T = TypeVar("T")
#: What a preset may say of where networks stay.
OFFLOADS = ("cpu_offload", "t5_cpu_offload", "clip_cpu_offload", "vae_cpu_offload",
            "unload_modules")  # fmt: skip
#: LightX2V's attention operators, by what their names begin with: the module, and our name.
ATTENTION = {"flash_attn": ("flash_attn", "flash"), "sage_attn": ("sageattention", "sage")}


@dataclass(frozen=True)
class Options:
    """How to compute, which a preset does not say."""

    device: str = "cpu"
    compute_dtype: ComputeDtype = ComputeDtype.BFLOAT16
    quant_compute: QuantCompute = QuantCompute.AUTO
    save_tensors: Path | None = None
    stand_in: Path | None = None  # for an image that is named only when the preset is run
    preview: Previews = Previews.OFF


@dataclass(frozen=True)
class Plan:
    """A job, the preset that says the same in full, and what was adjusted on the way."""

    job: Job
    preset: Preset
    notes: tuple[str, ...]

    def with_output(self, output: Path) -> Plan:
        """The same video at another place."""
        return self._with(replace(self.preset, output=output))

    def with_seed(self, seed: int) -> Plan:
        """The same video from another seed."""
        return self._with(replace(self.preset, seed=seed))

    def _with(self, preset: Preset) -> Plan:
        settings = json.dumps(to_json(preset), ensure_ascii=False)
        output, seed = _or(preset.output, self.job.output), _or(preset.seed, self.job.seed)
        job = replace(self.job, output=output, seed=seed, settings=settings)
        return Plan(job, preset, self.notes)


def default_options(gpu: Gpu | None) -> Options:
    """The GPU where there is one, and the compute dtype it is good at."""
    if gpu is None:
        return Options()
    ampere = gpu.capability >= (8, 0)
    return Options("cuda:0", ComputeDtype.BFLOAT16 if ampere else ComputeDtype.FLOAT16)


def plan(
    preset: Preset,
    options: Options,
    output: Path,
    gpu: Gpu | None = None,
    machine: Machine | None = None,
) -> Plan:
    """Find every file and check every number.

    Where the preset says nothing of offload and the machine is known, the least that fits is
    chosen.

    Raises:
        JobError: the preset asks for something that cannot be.
        CheckpointError: a component is missing or broken.
    """
    check_place(output)
    full = _completed(preset, gpu, machine)
    dit = component_of(full, Kind.DIT, full.dit, full.dit_precision)
    if dit.architecture is None:
        raise broken(Kind.DIT, dit)
    full = replace(full, architecture=dit.architecture, task=dit.architecture.task)
    check_loras(full.loras or ())
    family = "wan2.2" if dit.expert else dit.architecture.family
    if reason := not_computed(family, dit.architecture.task):
        raise JobError("This model does not run yet", reason, "Choose a Wan 2.1 T2V or I2V model.")
    parts = parts_of(full, dit)
    notes = list(full.notes)
    preview_vae = preview_vae_of(full, options.preview, notes)
    parts = replace(parts, preview_vae=preview_vae)
    full = _with_size(_with_frames(full, notes), notes)
    if _stand_in(full, options) is not None:
        notes.append("no image is named; a run needs one: give it with --image")
    attention = _attention(full, options, notes)
    full = replace(
        full,
        dit_precision=parts.dit.precision,
        t5_precision=parts.t5.precision,
        clip_precision=parts.clip.precision if parts.clip else None,
        tokenizer=tokenizer_of(full, parts.t5),
        output=output,
    )
    job = _job(full, options, parts, attention)
    if machine is not None and all(getattr(full, name) is None for name in OFFLOADS):
        job = replace(job, placings=fitting(job, machine))
    return Plan(job, full, tuple(notes))


def check_place(output: Path) -> None:
    """Make sure that a file can be made at `output`, without making anything.

    Raises:
        EngineError: the nearest folder above it is not one, or cannot be written to.
    """
    parents = output.absolute().parents  # unlike a Path's own methods, os.path never raises
    above = next((folder for folder in parents if os.path.exists(folder)), Path("/"))  # noqa: PTH110
    reason = _no_name(partial_of(output))
    if not os.path.isdir(above):  # noqa: PTH112
        reason = f"{above} is not a folder"
    elif not os.access(above, os.W_OK | os.X_OK):
        reason = f"{above} cannot be written to"
    elif os.path.isdir(output):  # noqa: PTH112
        reason = "it is a folder"
    if reason:
        raise EngineError(
            "The output cannot be written", f"{output}: {reason}", "Choose another output."
        )


def _no_name(path: Path) -> str:
    """Say why no file can have this name; empty where one can."""
    try:
        path.lstat()
    except OSError as error:
        return str(error.strerror) if error.errno == errno.ENAMETOOLONG else ""
    return ""


def _job(full: Preset, options: Options, parts: Parts, attention: str) -> Job:
    assert full.architecture is not None  # `plan` filled both
    assert full.tokenizer is not None
    return Job(
        dit=weights_of(parts.dit),
        architecture=full.architecture,
        t5=weights_of(parts.t5),
        tokenizer=full.tokenizer,
        clip=weights_of(parts.clip) if parts.clip else None,
        vae=weights_of(parts.vae),
        vae_encoder=weights_of(parts.vae_encoder) if parts.vae_encoder else None,
        tiny_vae=parts.vae.kind is Kind.TINY_VAE,
        tiny_vae_denormalized=_denormalized(full, parts.preview_vae or parts.vae),
        tiling=bool(full.use_tiling_vae),
        schedule=_schedule(full),
        guidance=_guidance(full),
        loras=full.loras or (),
        placings=_placings(full, options.device),
        attention=attention,
        prompt=_or(full.prompt, ""),
        negative_prompt=_or(full.negative_prompt, ""),
        image=full.image or _stand_in(full, options),
        seed=_or(full.seed, choices.SEED),
        width=_or(full.width, choices.WIDTH),
        height=_or(full.height, choices.HEIGHT),
        frames=_or(full.frames, choices.FRAMES),
        fps=_or(full.fps, choices.FPS),
        device=options.device,
        compute_dtype=options.compute_dtype,
        quant_compute=options.quant_compute,
        output=_or(full.output, Path("output.mp4")),
        settings=json.dumps(to_json(full), ensure_ascii=False),
        save_tensors=options.save_tensors,
        preview=_preview(options, parts),
        preview_vae=weights_of(parts.preview_vae) if parts.preview_vae else None,
    )


def _stand_in(full: Preset, options: Options) -> Path | None:
    """What stands for the image that the preset would need and does not name."""
    return options.stand_in if full.task == "i2v" and full.image is None else None


def _preview(options: Options, parts: Parts) -> Previews:
    """The previews that can be made: latents need no VAE."""
    lacking = options.preview is Previews.TINY_VAE and parts.preview_vae is None
    return Previews.LATENTS if lacking else options.preview


def _schedule(full: Preset) -> Schedule:
    """The sampler asked for; else step-distilled where the model is, else Wan's own."""
    shift = _or(full.shift, choices.SHIFT)
    distilled = full.model_cls is not None and "distill" in full.model_cls
    if full.sampler is None and (distilled or full.timesteps is not None):
        return StepDistill(_or(full.timesteps, choices.DISTILLED_STEPS), shift)
    steps = _or(full.infer_steps, runnable.STEPS.get(full.task or "", 50))
    samplers: dict[str, type[UniPC] | type[Euler]] = {"unipc": UniPC, "euler": Euler}
    name = _or(full.sampler, "unipc")
    if name not in samplers:
        raise JobError(f"There is no sampler {name}", "it is unipc or euler", "Set `sampler`.")
    return samplers[name](steps, shift)


def _guidance(full: Preset) -> Guidance | None:
    """Guidance where the preset asks for it; a scale of 1 would change nothing."""
    scale = _or(full.guidance_scale, choices.GUIDANCE_SCALE)
    wanted = full.enable_cfg and scale != 1
    return Guidance(scale, bool(full.batched_guidance)) if wanted else None


def _denormalized(full: Preset, vae: Component) -> bool:
    """lighttaew2_1 reads denormalised latents, taew2_1 does not; the tensors do not tell."""
    named = vae.files[0].name.lower().startswith("lighttae")
    return _or(full.tiny_vae_denormalized, named) if vae.kind is Kind.TINY_VAE else False


def _placings(full: Preset, device: str) -> Placings:
    """Where networks stay: as the preset says; else encoders in RAM, the rest on the device."""
    if full.unload_modules:
        return Placings(Placing.DROP, Placing.DROP, Placing.DROP, Placing.DROP)
    on_gpu = device != "cpu"

    def place(offload: bool | None, default: bool) -> Placing:
        return Placing.CPU if _or(offload, default) and on_gpu else Placing.RESIDENT

    everything = full.cpu_offload or False
    return Placings(
        dit=place(full.cpu_offload, False),
        t5=place(full.t5_cpu_offload, True),
        clip=place(full.clip_cpu_offload, True),
        vae=place(full.vae_cpu_offload, everything),
    )


def _attention(full: Preset, options: Options, notes: list[str]) -> str:
    """The attention a preset asks for, where it is installed and the device has it."""
    wanted = next((own for name, own in ATTENTION.items() if name in _or(full.attention, "")), None)
    if wanted is None or options.device == "cpu":
        return "sdpa"
    module, name = wanted
    if not attention_installed(_or(full.attention, "")):
        notes.append(f"{module} is not installed; PyTorch's attention is used")
        return "sdpa"
    return name


def attention_installed(operator: str) -> bool:
    """Say whether the package that an attention operator of LightX2V needs is installed."""
    needed = [module for name, (module, _) in ATTENTION.items() if name in operator]
    return all(importlib.util.find_spec(module) is not None for module in needed)


def _with_frames(full: Preset, notes: list[str]) -> Preset:
    """Round the frame count down to 4k+1, saying so; `Job` refuses counts below 1."""
    wanted = _or(full.frames, choices.FRAMES)
    frames = rounded_frames(wanted)
    if wanted < 1 or frames == wanted:
        return replace(full, frames=wanted)
    notes.append(f"{wanted} frames become {frames}: the VAE makes 4k+1")
    return replace(full, frames=frames)


def _with_size(full: Preset, notes: list[str]) -> Preset:
    """Give an image-to-video the proportions of its image, saying so."""
    if full.task != "i2v" or full.image is None:
        return full
    wanted = (_or(full.width, choices.WIDTH), _or(full.height, choices.HEIGHT))
    if min(wanted) < SIZE_STEP:
        return full  # `Job` refuses it
    size = fit_area(image_size(full.image), *wanted)
    if size != wanted:
        notes.append(
            f"{wanted[0]}x{wanted[1]} becomes {size[0]}x{size[1]}: the same area in the "
            "proportions of the image"
        )
    return replace(full, width=size[0], height=size[1])


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _completed(preset: Preset, gpu: Gpu | None, machine: Machine | None) -> Preset:
    """Fill what a preset leaves open from its model root, where it names one."""
    root = model_at(preset.model_path, preset.dit) if preset.model_path else None
    if root is None:
        return preset
    best = choices.recommended(root, gpu, machine.ram_available if machine else None)
    return choices.completed(preset, root, best)
