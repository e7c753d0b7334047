"""From a preset to a `Job`: every file found, every number checked, before the engine starts."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from engine.spec.errors import CheckpointError, EngineError, JobError
from engine.spec.estimate import Machine, fitting
from engine.spec.image_size import image_size
from engine.spec.job import (
    SIZE_STEP,
    Euler,
    Guidance,
    Job,
    Placing,
    Placings,
    Schedule,
    StepDistill,
    UniPC,
    Weights,
    fit_area,
    partial_of,
    rounded_frames,
)
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from lightx2v_tui import choices, runnable
from lightx2v_tui.catalog import TITLES, TOKENIZER, Component, Kind, component_at
from lightx2v_tui.catalog.completeness import not_computed
from lightx2v_tui.choices import Choice
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.preset_root import model_at
from lightx2v_tui.presets import Preset, to_json

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


@dataclass(frozen=True)
class _Parts:
    """The components a job is made of."""

    dit: Component
    t5: Component
    clip: Component | None
    vae: Component
    vae_encoder: Component | None


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
    dit = _component(full, Kind.DIT, full.dit, full.dit_precision)
    if dit.architecture is None:
        raise _broken(Kind.DIT, dit)
    full = replace(full, architecture=dit.architecture, task=dit.architecture.task)
    family = "wan2.2" if dit.expert else dit.architecture.family
    if reason := not_computed(family, dit.architecture.task):
        raise JobError("This model does not run yet", reason, "Choose a Wan 2.1 T2V or I2V model.")
    parts = _parts(full, dit)
    notes = list(full.notes)
    full = _with_size(_with_frames(full, notes), notes)
    if _stand_in(full, options) is not None:
        notes.append("no image is named; a run needs one: give it with --image")
    attention = _attention(full, options, notes)
    full = replace(
        full,
        dit_precision=parts.dit.precision,
        t5_precision=parts.t5.precision,
        clip_precision=parts.clip.precision if parts.clip else None,
        tokenizer=_tokenizer(full, parts.t5),
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


def _parts(full: Preset, dit: Component) -> _Parts:
    t5 = _component(full, Kind.T5, full.t5, full.t5_precision)
    tiny = bool(full.use_tiny_vae)
    kind, path = (Kind.TINY_VAE, full.tiny_vae) if tiny else (Kind.VAE, full.vae)
    vae = _component(full, kind, path, None)
    clip = encoder = None
    if dit.architecture is not None and dit.architecture.image_dim is not None:
        clip = _component(full, Kind.CLIP, full.clip, full.clip_precision)
    if full.task == "i2v":
        encoder = _component(full, Kind.VAE, full.vae, None) if tiny else vae
    return _Parts(dit, t5, clip, vae, encoder)


def _job(full: Preset, options: Options, parts: _Parts, attention: str) -> Job:
    assert full.architecture is not None  # `plan` filled both
    assert full.tokenizer is not None
    return Job(
        dit=_weights(parts.dit),
        architecture=full.architecture,
        t5=_weights(parts.t5),
        tokenizer=full.tokenizer,
        clip=_weights(parts.clip) if parts.clip else None,
        vae=_weights(parts.vae),
        vae_encoder=_weights(parts.vae_encoder) if parts.vae_encoder else None,
        tiny_vae=parts.vae.kind is Kind.TINY_VAE,
        tiny_vae_denormalized=_denormalized(full, parts.vae),
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
    )


def _stand_in(full: Preset, options: Options) -> Path | None:
    """What stands for the image that the preset would need and does not name."""
    return options.stand_in if full.task == "i2v" and full.image is None else None


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
    choice = Choice(
        dit=preset.dit_precision or best.dit,
        t5=preset.t5_precision or best.t5,
        tiny_vae=best.tiny_vae if preset.use_tiny_vae is None else preset.use_tiny_vae,
        clip=preset.clip_precision or best.clip,
    )
    found = choices.preset_for(root, choice)
    if preset.model_cls is not None and "distill" not in preset.model_cls:
        found = replace(found, timesteps=None)
    said = {
        name: value
        for name in Preset.__dataclass_fields__
        if (value := getattr(preset, name)) not in (None, {}, ())
    }
    for kind in ("dit", "t5", "clip"):  # a file that is named decides its own precision
        said.setdefault(f"{kind}_precision", None if kind in said else getattr(choice, kind))
    return replace(found, **said)


def _component(
    preset: Preset, kind: Kind, path: Path | None, precision: Precision | None
) -> Component:
    if path is None:
        raise _absent(preset, kind, precision)
    component = component_at(path, kind)
    if not component.usable:
        raise _broken(kind, component)
    if precision is not None and component.precision is not precision:
        raise JobError(
            f"The {TITLES[kind]} is not {precision.value}",
            f"{path} holds {component.scheme}",
            "Name the files of the precision you want, or change the precision.",
        )
    return component


def _absent(preset: Preset, kind: Kind, precision: Precision | None) -> CheckpointError:
    where = f"{preset.model_path} has none" if preset.model_path else "the preset names no file"
    wanted = f"{precision.value} " if precision else ""
    fix = "Give the model's root folder with --model, or name the file in the preset."
    if preset.model_path:
        fix = f"Run lightx2v-tui scan {preset.model_path} to see what is missing."
    return CheckpointError(f"There is no {wanted}{TITLES[kind]}", where, fix)


def _broken(kind: Kind, component: Component) -> CheckpointError:
    problem = component.problems[0] if component.problems else f"it is stored as {component.scheme}"
    return CheckpointError(
        f"The {TITLES[kind]} cannot be used",
        problem,
        "Download its files again, or choose another precision.",
    )


def _tokenizer(preset: Preset, t5: Component) -> Path:
    """The tokenizer the preset names, or the one beside the T5 file, as LightX2V looks for it."""
    beside = t5.files[0].parent / TOKENIZER
    folder = preset.tokenizer or beside
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            "The T5 tokenizer is missing",
            f"{folder / 'tokenizer.json'} does not exist",
            "Put the google/umt5-xxl folder of the model beside its T5 file.",
        )
    return folder


def _weights(component: Component) -> Weights:
    assert component.precision is not None  # `usable` was checked
    return Weights(component.files, component.precision)
