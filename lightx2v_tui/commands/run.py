"""`run`: one generation without a screen."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from engine.spec.errors import EngineError, JobError
from engine.spec.job import Job, Schedule, StepDistill
from engine.spec.precision import QuantCompute
from lightx2v_tui import presets
from lightx2v_tui.gpus import GpuReading, read_gpus
from lightx2v_tui.host import read_memory
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.admission import TooLittleRam, check_ram
from lightx2v_tui.launch.forecast import Forecast, foresee, machine_of
from lightx2v_tui.launch.jobs import Options, Plan
from lightx2v_tui.launch.planning import replaced
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded, presets_dir, runs_dir
from lightx2v_tui.presets import Preset
from lightx2v_tui.presets.root import on_model
from lightx2v_tui.runs import resume
from lightx2v_tui.runs.device_lock import check_name, gpu_of
from lightx2v_tui.runs.folder import RunFolder, new_run
from lightx2v_tui.runs.headless import OK, Headless, Request
from lightx2v_tui.units import size

#: What a run that goes on has decided already.
FIXED = ("model", "prompt", "negative_prompt", "image", "seed", "compute_dtype", "quant_compute",
         "save_tensors")  # fmt: skip


def execute(args: argparse.Namespace) -> int:
    """Read the preset, plan the job, run it, and print the path of the video."""
    if args.resume is not None:
        return _go_on(args)
    if args.preset is None:
        args.wrong("give a PRESET, or --resume RUN")
    preset = _with_arguments(presets.read(find_preset(args.preset), tuple(args.assign)), args)
    reading = read_gpus()
    options = _options(args, reading)
    if args.dry_run:  # the engine itself says it in a run
        _check_device(options.device, reading)
    return generate(
        preset,
        options,
        destination=args.output or preset.output,
        manner=_manner(args),
    )


@dataclass(frozen=True)
class Manner:
    """How a run is watched, and what it may wait for or try."""

    progress: str = "auto"
    dry_run: bool = False
    wait: bool = False
    force: bool = False


AS_USUAL, DRY = Manner(), Manner(dry_run=True)


def _manner(args: argparse.Namespace) -> Manner:
    return Manner(args.progress, args.dry_run, args.wait, args.force)


def find_preset(name: str) -> Path:
    """A preset file by its path, or a saved one by its name."""
    path = expanded(Path(name))
    saved = presets_dir() / f"{name}.json"
    named = os.path.exists(path) or "/" in name  # noqa: PTH110 - a Path raises at long names
    return saved if not named and os.path.exists(saved) else path  # noqa: PTH110


def generate(
    preset: Preset, options: Options, *, destination: Path | None, manner: Manner = AS_USUAL
) -> int:
    """Plan and run one preset; the video goes to `destination`, or into the run's folder."""

    def plan() -> Plan:
        gpu = gpu_of(options.device, read_gpus().gpus)
        machine = machine_of(gpu, read_memory())
        # without a place of its own it goes into the run's folder; what is wrong is told first
        planned = jobs.plan(preset, options, destination or Path("output.mp4"), gpu, machine)
        notes = filter(None, (*planned.notes, replaced(destination)))
        return replace(planned, notes=tuple(notes)).with_output(planned.job.output.absolute())

    if manner.dry_run:
        shown = destination or runs_dir() / "NEW" / "output.mp4"
        return _say(plan().with_output(shown), manner)
    headless = Headless(manner.progress)
    request = Request(_admitted(plan, headless, manner), new_run, own_folder=destination is None)
    return headless.run(request, wait=manner.wait)


def _go_on(args: argparse.Namespace) -> int:
    """Go on with a run, in its own folder and with the options it had."""
    for name in FIXED:
        if getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise JobError(
                f"{option} cannot be given to a run that goes on",
                "it would be another video",
                f"Leave {option} away, or make a new video from a preset.",
            )
    folder, manner = resume.find(args.resume), _manner(args)

    def again() -> resume.Resumed:
        output = args.output.absolute() if args.output else None
        assign = tuple(args.assign)
        return resume.resumed(folder, output=output, device=args.device, assign=assign)

    if manner.dry_run:
        return _say(again().plan, manner)
    headless = Headless(manner.progress)
    if args.preset is not None:
        headless.note(f"{args.preset} is not read: the run goes on with its own preset")
    earlier = again().earlier
    planned = _admitted(lambda: again().plan, headless, manner)
    request = Request(planned, lambda: RunFolder(folder), own_folder=False, earlier=earlier)
    return headless.run(request, wait=manner.wait)


def _admitted(plan: Callable[[], Plan], headless: Headless, manner: Manner) -> Callable[[], Plan]:
    """A plan that is refused where RAM cannot hold it, and else says what is tight."""

    def checked() -> Plan:
        planned = plan()
        memory = read_memory()
        gpu = gpu_of(planned.job.device, read_gpus().gpus)
        forecast = foresee(planned.job, machine_of(gpu, memory))
        if forecast.fits:
            return planned
        try:
            tight = check_ram(forecast, memory)
        except TooLittleRam as error:
            if not manner.force:
                raise
            tight = f"{error.what}; {error.why}"
        for line in (*forecast.lines(), tight):
            if line:
                headless.note(line)
        return planned

    return checked


def _say(planned: Plan, manner: Manner) -> int:
    """Say what would run."""
    gpu = gpu_of(planned.job.device, read_gpus().gpus)
    forecast = foresee(planned.job, machine_of(gpu, read_memory()))
    _describe(planned, forecast, as_json=manner.progress == "json")
    return OK


def _with_arguments(preset: Preset, args: argparse.Namespace) -> Preset:
    if args.model is not None:
        preset = on_model(preset, args.model)
    return presets.with_values(
        preset,
        prompt=args.prompt,
        negative_prompt=args.negative_prompt,
        seed=args.seed,
        image=expanded(args.image).absolute() if args.image else None,
    )


def _note(text: str, stream: TextIO) -> None:
    stream.write(f"note: {printable(text)}\n")


def _check_device(device: str, reading: GpuReading) -> None:
    if device == "cpu" or gpu_of(device, reading.gpus) is not None:
        return
    why = f"there are {len(reading.gpus)} CUDA devices, counted from 0"
    if not reading.gpus:
        why = reading.problem or "there is no CUDA device"
    fix = "Use --device cpu, or see lightx2v-tui doctor."
    raise EngineError(f"Cannot run on {device}", why, fix)


def _options(args: argparse.Namespace, reading: GpuReading) -> Options:
    device = args.device or ("cuda:0" if reading.gpus else "cpu")
    check_name(device)
    default = jobs.default_options(gpu_of(device, reading.gpus))
    return Options(
        device=device,
        compute_dtype=args.compute_dtype or default.compute_dtype,
        quant_compute=args.quant_compute or QuantCompute.AUTO,
        save_tensors=args.save_tensors.absolute() if args.save_tensors else None,
    )


def _describe(planned: Plan, forecast: Forecast, *, as_json: bool) -> None:
    lines = _facts(planned.job)
    if as_json:
        facts: dict[str, object] = dict(lines)
        facts |= {"notes": planned.notes, "estimate": forecast.as_json()}
        print(json.dumps(facts, indent=2))  # noqa: T201
        return
    lines.append(("memory", forecast.line()))
    lines += [("advice", advice) for advice in forecast.estimate.advice]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(printable(f"{name:<{width}}  {value}", keep="\n\t"))  # noqa: T201 - of the prompt
    for note in planned.notes:
        _note(note, sys.stdout)


def _facts(job: Job) -> list[tuple[str, str]]:
    def weights(files: tuple[Path, ...], precision: str) -> str:
        nbytes = size(sum(path.stat().st_size for path in files))
        where = files[0] if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
        return f"{precision}, {nbytes}, {where}"

    vae = "tiny VAE" if job.tiny_vae else "VAE"
    return [
        ("DiT", weights(job.dit.files, job.dit.precision.value)),
        ("T5", weights(job.t5.files, job.t5.precision.value)),
        ("tokenizer", str(job.tokenizer)),
        ("CLIP", weights(job.clip.files, job.clip.precision.value) if job.clip else "none"),
        (vae, weights(job.vae.files, "original")),
        ("image", str(job.image or "none")),
        (
            "LoRA",
            ", ".join(f"{lora.path.name} at {lora.strength:g}" for lora in job.loras) or "none",
        ),
        ("size", f"{job.width}x{job.height}, {job.frames} frames at {job.fps} fps"),
        ("latents", "x".join(map(str, job.latent_shape))),
        ("steps", _steps(job.schedule)),
        ("guidance", f"{job.guidance.scale:g}" if job.guidance else "none"),
        ("seed", str(job.seed)),
        ("prompt", job.prompt),
        ("device", f"{job.device}, {job.compute_dtype.value}"),
        ("quantized", f"{job.quant_compute.value} compute"),
        ("output", str(job.output)),
    ]


def _steps(schedule: Schedule) -> str:
    if isinstance(schedule, StepDistill):
        return f"{list(schedule.timesteps)}, shift {schedule.shift:g}, step-distilled"
    return f"{schedule.steps}, shift {schedule.shift:g}, {type(schedule).__name__}"
