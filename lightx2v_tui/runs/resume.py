"""A run that ended early goes on: from its folder back to the plan it was started with."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from engine.spec.errors import EngineError, JobError
from engine.spec.job import Placing, Placings, Previews
from engine.spec.precision import ComputeDtype, QuantCompute
from lightx2v_tui.gpus import read_gpus
from lightx2v_tui.host import read_memory
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.forecast import NOTHING_HELD, Held, machine_of
from lightx2v_tui.launch.jobs import Options, Plan
from lightx2v_tui.paths import expanded, runs_dir
from lightx2v_tui.presets import Preset, read
from lightx2v_tui.runs import processes
from lightx2v_tui.runs.device_lock import check_name, clock, gpu_of
from lightx2v_tui.runs.folder import KNOWN, SCHEMA, RunFolder

MAX_STATUS_BYTES = 1_000_000
#: What may be changed of a run that goes on: the latents do not depend on it.
FREE_KEYS = (*jobs.OFFLOADS, "use_tiling_vae", "use_tiny_vae", "tiny_vae_path")
Table = Mapping[str, Any]
E = TypeVar("E", bound=Enum)


@dataclass(frozen=True)
class Resumed:
    """A run that is to go on: its folder, what was recorded of it, and its plan."""

    folder: RunFolder
    earlier: Table
    plan: Plan


def find(name: str) -> Path:
    """The folder of a run by its id, or by its path.

    Raises:
        JobError: there is no such run.
    """
    path = expanded(Path(name))
    for folder in (path,) if "/" in name else (runs_dir() / name, path):
        if name and _is_run(folder):
            return folder.absolute()
    raise JobError(
        f"There is no run {name}",
        f"it is neither a run of {runs_dir()} nor the folder of one",
        "`lightx2v-tui runs` lists them.",
    )


def plan_of(folder: Path, held: Held = NOTHING_HELD) -> Plan:
    """The plan of a run that ended early, with the options it had.

    Raises:
        EngineError: it is done, it is running, or its files are gone.
    """
    return resumed(folder, held=held).plan


def resumed(
    folder: Path,
    *,
    output: Path | None = None,
    device: str | None = None,
    assign: tuple[str, ...] = (),
    held: Held = NOTHING_HELD,
) -> Resumed:
    """All that is needed to go on with a run; `output` moves its video.

    `assign` are `KEY=VALUE` texts for keys that do not decide the latents.

    Raises:
        EngineError: it is done, it is running, or its files are gone.
    """
    files = RunFolder(folder)
    status = _status(files)
    _check(files, status)
    names = _names(assign)
    preset = read(files.preset, assign)
    options = _options(status, device)
    last = _last_attempt(status)
    if last.get("tiny_vae") is True and "use_tiny_vae" not in names:
        preset = replace(preset, use_tiny_vae=True)
    if names:  # the user knows better than the last attempt
        last = {}
    place = (output or preset.output or files.output).absolute()
    return Resumed(files, status, _plan(preset, options, place, last, held))


def _plan(preset: Preset, options: Options, output: Path, last: Table, held: Held) -> Plan:
    """Plan again, as low as the last attempt was; sizes are as they were planned."""
    gpu = gpu_of(options.device, read_gpus().gpus)
    machine = machine_of(gpu, read_memory(), held)
    planned = jobs.plan(preset, options, output, gpu, machine)
    width, height = preset.width or planned.job.width, preset.height or planned.job.height
    full = replace(planned.preset, width=width, height=height)
    job = replace(planned.job, width=width, height=height)
    lowered = last.get("lowered") is True
    if lowered:
        job = replace(job, placings=_placings(last, job.placings))
    if lowered and last.get("tiling") is True:
        job = replace(job, tiling=True)
        full = replace(full, use_tiling_vae=True)
    if lowered and job.guidance is not None and last.get("batched_guidance") is False:
        job = replace(job, guidance=replace(job.guidance, batched=False))
        full = replace(full, batched_guidance=False)
    return Plan(job, full, notes=()).with_output(output)  # what was adjusted was told before


def _is_run(folder: Path) -> bool:
    try:
        return stat.S_ISREG((folder / "status.json").stat().st_mode)
    except (OSError, ValueError):
        return False


def _status(files: RunFolder) -> Table:
    name = files.path.name
    try:
        if not stat.S_ISREG(files.status.stat().st_mode):
            raise ValueError("it is not a file")
        with files.status.open("rb") as file:
            content = file.read(MAX_STATUS_BYTES + 1)
        table = json.loads(content) if len(content) <= MAX_STATUS_BYTES else None
        if not isinstance(table, dict):
            raise ValueError("it is not a small JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(
            f"The run {name} cannot go on", f"{files.status}: {error}", _anew(files)
        ) from error
    return table


def _check(files: RunFolder, status: Table) -> None:
    """Refuse a run that is done, is under way, or was recorded in another form."""
    name, schema = files.path.name, status.get("schema")
    if type(schema) is not int or schema not in KNOWN:
        why = f"its record has the form {str(schema)[:40]}, this version knows {SCHEMA}"
        raise EngineError(f"The run {name} cannot go on", why, "Update lightx2v-tui.")
    if status.get("status") == "done":
        raise _done(files, status)
    if status.get("status") == "running" and processes.owner_lives(files.path, status):
        raise _running(files, status)
    if schema != SCHEMA or not status.get("options"):
        why = "it was recorded without what is needed to go on"
        raise EngineError(f"The run {name} cannot go on", why, _anew(files))


def _anew(files: RunFolder) -> str:
    return f"Make the video anew: lightx2v-tui run {files.preset}"


def _done(files: RunFolder, status: Table) -> JobError:
    video = str(status.get("output"))
    there = Path(video).is_file()
    return JobError(
        f"The run {files.path.name} is done",
        f"its video is {video}" if there else f"its video was {video}, which is gone",
        "There is nothing to go on with." if there else _anew(files),
    )


def _running(files: RunFolder, status: Table) -> JobError:
    began = status.get("pid_started", status.get("started"))
    since = f" since {clock(began)}" if isinstance(began, float) and 0 <= began < 1e11 else ""
    return JobError(
        f"The run {files.path.name} is running",
        f"process {status.get('pid')} works on it{since}",
        "Wait for it, or cancel it there.",
    )


def _names(assign: tuple[str, ...]) -> set[str]:
    """The keys that are changed; those that decide the latents are refused."""
    names = {text.partition("=")[0].strip() for text in assign}
    if others := sorted(names - set(FREE_KEYS)):
        raise JobError(
            f"`{others[0]}` cannot be changed in a run that goes on",
            "it would be another video",
            f"What can be set is {', '.join(FREE_KEYS)}.",
        )
    return names


def _last_attempt(status: Table) -> Table:
    attempts = status.get("attempts")
    last = attempts[-1] if isinstance(attempts, list) and attempts else {}
    return last if isinstance(last, dict) else {}


def _options(status: Table, device: str | None) -> Options:
    """How it was computed; another device is one of the same kind, else the frames would differ."""
    told = status.get("options")
    told = told if isinstance(told, dict) else {}
    before = str(told.get("device"))
    for name in (before, device or before):
        check_name(name)
    if device is not None and device.partition(":")[0] != before.partition(":")[0]:
        raise JobError(
            f"The run cannot go on on {device}",
            f"it began on {before}, and another kind of device computes other frames",
            f"Leave --device away, or make the video anew on {device}.",
        )
    saved = told.get("save_tensors")
    return Options(
        device=device or before,
        compute_dtype=_member(ComputeDtype, told.get("compute_dtype"), ComputeDtype.BFLOAT16),
        quant_compute=_member(QuantCompute, told.get("quant_compute"), QuantCompute.AUTO),
        preview=_member(Previews, told.get("preview"), Previews.OFF),
        save_tensors=Path(saved) if isinstance(saved, str) else None,
    )


def _placings(last: Table, planned: Placings) -> Placings:
    told = last.get("placings")
    told = told if isinstance(told, dict) else {}
    return Placings(
        **{
            name: _member(Placing, told.get(name), getattr(planned, name))
            for name in ("dit", "t5", "clip", "vae")
        }
    )


def _member(kind: type[E], value: object, default: E) -> E:
    return next((member for member in kind if member.value == value), default)
