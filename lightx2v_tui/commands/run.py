"""`run`: one generation without a screen."""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import sys
from pathlib import Path
from typing import TextIO

from engine.spec.errors import EngineError, JobError
from engine.spec.events import TERMINAL, CancelledByUser, Done, Event, Failed
from engine.spec.job import Job, Schedule, StepDistill, partial_of
from lightx2v_tui import jobs, output, presets
from lightx2v_tui.forecast import Forecast, foresee, machine_of
from lightx2v_tui.gpus import Gpu, GpuReading, read_gpus
from lightx2v_tui.host import read_memory
from lightx2v_tui.jobs import Options, Plan
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded, presets_dir, runs_dir
from lightx2v_tui.preset_root import on_model
from lightx2v_tui.presets import Preset
from lightx2v_tui.progress import Bar, JsonLines, Progress, Silent
from lightx2v_tui.runs import RunRecord, new_run
from lightx2v_tui.session import Session
from lightx2v_tui.units import size

OK, FAILED, CANCELLED = 0, 1, 130


def execute(args: argparse.Namespace) -> int:
    """Read the preset, plan the job, run it, and print the path of the video."""
    preset = _with_arguments(presets.read(find_preset(args.preset), tuple(args.assign)), args)
    reading = read_gpus()
    options = _options(args, reading)
    if args.dry_run:  # the engine itself says it in a run
        _check_device(options.device, reading)
    return generate(
        preset,
        options,
        destination=args.output or preset.output,
        gpu=_gpu_of(options.device, reading),
        progress=args.progress,
        dry_run=args.dry_run,
    )


def find_preset(name: str) -> Path:
    """A preset file by its path, or a saved one by its name."""
    path = expanded(Path(name))
    saved = presets_dir() / f"{name}.json"
    named = os.path.exists(path) or "/" in name  # noqa: PTH110 - a Path raises at long names
    return saved if not named and os.path.exists(saved) else path  # noqa: PTH110


def generate(
    preset: Preset,
    options: Options,
    *,
    destination: Path | None,
    gpu: Gpu | None,
    progress: str = "auto",
    dry_run: bool = False,
) -> int:
    """Plan and run one preset; the video goes to `destination`, or into the run's folder."""
    machine = machine_of(gpu if options.device != "cpu" else None, read_memory())
    if dry_run:
        shown = destination or runs_dir() / "NEW" / "output.mp4"
        planned = jobs.plan(preset, options, shown, gpu, machine)
        _describe(planned, foresee(planned.job, machine), as_json=progress == "json")
        return OK
    # without a place of its own it goes into the run's folder; whatever is wrong is told first
    planned = jobs.plan(preset, options, destination or Path("output.mp4"), gpu, machine)
    forecast = foresee(planned.job, machine)
    if not forecast.fits:
        for line in forecast.lines():
            _note(line, sys.stderr)
    folder = new_run()
    planned = planned.with_output((destination or folder.output).absolute())
    for note in planned.notes:
        _note(note, sys.stderr)
    stdout, stderr = output.private_copy(output.STDOUT), output.private_copy(output.STDERR)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    session = Session(events.put)
    _stop_on_signals(session, planned.job, stderr)
    session.start(planned.job, folder, RunRecord(folder, planned.preset))
    try:
        terminal = _follow(events, _progress(progress, stdout, stderr))
    except OSError:  # whoever read the progress has gone
        session.cancel()
        raise
    finally:
        session.wait()
    return _end(terminal, folder.log, stdout if progress != "json" else None, stderr)


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


def _gpu_of(device: str, reading: GpuReading) -> Gpu | None:
    """The GPU that a device names; None where it is the CPU, or is not there."""
    kind, _, index = device.partition(":")
    place = int(index or 0)
    return reading.gpus[place] if kind == "cuda" and place < len(reading.gpus) else None


def _check_device(device: str, reading: GpuReading) -> None:
    if device == "cpu" or _gpu_of(device, reading) is not None:
        return
    why = f"there are {len(reading.gpus)} CUDA devices, counted from 0"
    if not reading.gpus:
        why = reading.problem or "there is no CUDA device"
    fix = "Use --device cpu, or see lightx2v-tui doctor."
    raise EngineError(f"Cannot run on {device}", why, fix)


def _options(args: argparse.Namespace, reading: GpuReading) -> Options:
    device = args.device or ("cuda:0" if reading.gpus else "cpu")
    if not re.fullmatch(r"cpu|cuda(?::[0-9]{1,3})?", device):
        raise JobError(
            f"There is no device {device}", "it is cpu, cuda or cuda:N", "See lightx2v-tui doctor."
        )
    default = jobs.default_options(_gpu_of(device, reading))
    return Options(
        device=device,
        compute_dtype=args.compute_dtype or default.compute_dtype,
        quant_compute=args.quant_compute,
        save_tensors=args.save_tensors.absolute() if args.save_tensors else None,
    )


def _stop_on_signals(session: Session, job: Job, stderr: TextIO) -> None:
    """The first Ctrl+C or SIGTERM asks the engine to stop, the second does not ask."""
    asked = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            partial_of(job.output).unlink(missing_ok=True)
            os._exit(CANCELLED)
        asked = True
        stderr.write("\nStopping at the next block; again to stop at once.\n")
        session.cancel()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _progress(kind: str, stdout: TextIO, stderr: TextIO) -> Progress:
    if kind == "json":
        return JsonLines(stdout)
    return Silent() if kind == "none" else Bar(stderr)


def _follow(events: queue.SimpleQueue[Event], progress: Progress) -> Event:
    while True:
        event = events.get()
        progress.take(event)
        if isinstance(event, TERMINAL):
            return event


def _end(terminal: Event, log: Path, stdout: TextIO | None, stderr: TextIO) -> int:
    match terminal:
        case Done(path=path):
            if stdout is not None:
                stdout.write(f"{path}\n")
            return OK
        case Failed(error=error):
            stderr.write(printable(f"{error}\n(log: {log})\n", keep="\n"))
            return FAILED
        case CancelledByUser():
            stderr.write("Cancelled; nothing was written.\n")
        case _:
            pass
    return CANCELLED


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
