"""From a preset to a `Job`: every file found, every number checked, before the engine starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from engine.spec.errors import CheckpointError, JobError
from engine.spec.job import Job, StepDistill, Weights, rounded_frames
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from lightx2v_tui import choices
from lightx2v_tui.catalog import TITLES, TOKENIZER, Component, Kind, ModelRoot, component_at
from lightx2v_tui.catalog import inspect_root as inspect
from lightx2v_tui.choices import Choice
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.presets import Preset, to_json

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How to compute, which a preset does not say."""

    device: str = "cpu"
    compute_dtype: ComputeDtype = ComputeDtype.BFLOAT16
    quant_compute: QuantCompute = QuantCompute.AUTO
    save_tensors: Path | None = None


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


def plan(preset: Preset, options: Options, output: Path, gpu: Gpu | None = None) -> Plan:
    """Find every file and check every number.

    Raises:
        JobError: the preset asks for something that cannot be.
        CheckpointError: a component is missing or broken.
    """
    full = _completed(preset, gpu)
    dit = _component(full, Kind.DIT, full.dit, full.dit_precision)
    if dit.architecture is None:
        raise _broken(Kind.DIT, dit)
    t5 = _component(full, Kind.T5, full.t5, full.t5_precision)
    tiny = bool(full.use_tiny_vae)
    kind, path = (Kind.TINY_VAE, full.tiny_vae) if tiny else (Kind.VAE, full.vae)
    vae = _component(full, kind, path, None)
    frames, notes = _frames(full)
    full = replace(
        full,
        architecture=dit.architecture,
        task=dit.architecture.task,
        dit_precision=dit.precision,
        t5_precision=t5.precision,
        tokenizer=_tokenizer(full, t5),
        frames=frames,
        output=output,
    )
    _check_runnable(full)
    _check_loras(full)
    return Plan(_job(full, options, dit, t5, vae), full, (*full.notes, *notes))


def _job(full: Preset, options: Options, dit: Component, t5: Component, vae: Component) -> Job:
    assert full.architecture is not None  # `plan` filled both
    assert full.tokenizer is not None
    return Job(
        dit=_weights(dit),
        architecture=full.architecture,
        t5=_weights(t5),
        tokenizer=full.tokenizer,
        vae=_weights(vae),
        tiny_vae=vae.kind is Kind.TINY_VAE,
        schedule=StepDistill(
            _or(full.timesteps, choices.DISTILLED_STEPS), _or(full.shift, choices.SHIFT)
        ),
        prompt=_or(full.prompt, ""),
        negative_prompt=_or(full.negative_prompt, ""),
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


def _frames(preset: Preset) -> tuple[int, tuple[str, ...]]:
    """Round the frame count down to 4k+1, saying so; `Job` refuses counts below 1."""
    wanted = _or(preset.frames, choices.FRAMES)
    frames = rounded_frames(wanted)
    if wanted < 1 or frames == wanted:
        return wanted, ()
    return frames, (f"{wanted} frames become {frames}: the VAE makes 4k+1",)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _completed(preset: Preset, gpu: Gpu | None) -> Preset:
    """Fill what a preset leaves open from its model root, where it names one."""
    root = _root(preset.model_path) if preset.model_path else None
    if root is None:
        return preset
    best = choices.recommended(root, gpu)
    choice = Choice(
        dit=preset.dit_precision or best.dit,
        t5=preset.t5_precision or best.t5,
        tiny_vae=best.tiny_vae if preset.use_tiny_vae is None else preset.use_tiny_vae,
    )
    found = choices.preset_for(root, choice)
    said = {
        name: value
        for name in Preset.__dataclass_fields__
        if (value := getattr(preset, name)) not in (None, {}, ())
    }
    for kind in ("dit", "t5"):  # a file that is named decides its own precision
        said.setdefault(f"{kind}_precision", None if kind in said else getattr(choice, kind))
    return replace(found, **said)


def on_model(preset: Preset, model: Path) -> Preset:
    """Move a preset to another model root: paths into its old root are looked up anew."""
    old = preset.model_path
    moved = {
        name: None
        for name in ("dit", "t5", "clip", "tokenizer", "vae", "tiny_vae")
        if old and (path := getattr(preset, name)) and path.is_relative_to(old)
    }
    return replace(preset, model_path=model.absolute(), **moved)  # type: ignore[arg-type]


def _root(path: Path) -> ModelRoot | None:
    try:
        return inspect(path)
    except OSError as error:
        raise CheckpointError(
            f"The model folder {path.name} cannot be read",
            f"{path}: {error.strerror}",
            "Give the model's root folder with --model.",
        ) from error


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


def _check_runnable(preset: Preset) -> None:
    if preset.task != "t2v":
        raise JobError(
            f"{preset.task} models do not run yet",
            "this engine makes text-to-video with step-distilled Wan 2.1 models so far",
            "Choose a T2V step-distilled model.",
        )
    if preset.enable_cfg or (preset.timesteps is None and preset.model_cls != "wan2.1_distill"):
        raise JobError(
            "Only step-distilled models run so far",
            "the preset asks for guidance, or is for a model of 40 or 50 steps",
            "Choose a step-distilled model, with `enable_cfg` false.",
        )


def _check_loras(preset: Preset) -> None:
    if preset.extra.get("lora_configs"):
        raise JobError(
            "LoRAs are not applied yet",
            "the preset has `lora_configs`, and a video without them would not be what it asks for",
            "Remove `lora_configs`, for instance with --set lora_configs=[].",
        )


def _weights(component: Component) -> Weights:
    assert component.precision is not None  # `usable` was checked
    return Weights(component.files, component.precision)
