"""A run as a generator of events: text, image, denoise, decode; one terminal event, and last."""

from __future__ import annotations

import copy
import os
import re
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path

import torch
from torch import Tensor

from engine.durable import patiently, put_in_place
from engine.exhausted import exhausted, failure_of
from engine.resume import Keeper
from engine.spec.control import RunControl
from engine.spec.errors import Cancelled, DiskFull, EngineError, OutOfMemoryFailure
from engine.spec.events import CancelledByUser, Done, Event, Failed, Saved, StageStarted
from engine.spec.job import Job, Placings
from engine.spec.memory import STAGES_OF
from engine.spec.space import check_space, is_full, tensors_bytes
from engine.stages import Conditions, Run, decode, denoise, encode_image, encode_text
from engine.video import check_writable
from engine.warm import Engine

__all__ = ["Engine", "run"]
# PyTorch's kernels for CPUs are made anew for each length of a prompt, and by default 1024 of them
# are kept: 200 MB in an app that stays open. oneDNN reads this as it makes the first one.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def run(job: Job, stop: RunControl, engine: Engine | None = None) -> Iterator[Event]:
    """Make one video; the last event is `Done`, `Failed` or `CancelledByUser`.

    Networks that `engine` holds are not loaded again, and what this run loads stays in it. A run
    that memory was not enough for ends with an `OutOfMemoryFailure` and an empty engine.
    """
    started = time.perf_counter()
    engine = engine or Engine()
    engine.follow(stop)
    ending: Event
    stage = "prepare"
    try:
        with closing(_stages(Run(job, stop, engine))) as events:
            for event in events:
                stage = event.stage if isinstance(event, StageStarted) else stage
                yield event
        ending = Done(job.output, time.perf_counter() - started - stop.paused_seconds)
    except Cancelled:
        ending = CancelledByUser()
    except Exception as error:  # noqa: BLE001 - boundary: whatever torch raises becomes readable
        ending = Failed(_told(error, job, stage, engine))
    if isinstance(ending, Failed) and isinstance(ending.error, OutOfMemoryFailure):
        engine.unload()
    _settle(engine, job.placings)
    yield ending


def _told(error: Exception, job: Job, stage: str, engine: Engine) -> EngineError:
    """Tell an error anew, in words: its own traceback would keep the networks alive."""
    memory = exhausted(error)
    if memory is not None:
        beside = tuple(
            slot for slot in engine.held_on("cuda" if memory == "cuda" else "cpu")
            if stage not in STAGES_OF[slot]
        )  # fmt: skip
        return failure_of(error, memory, job.device, stage, beside)
    if isinstance(error, EngineError):
        return copy.copy(error)
    traceback.print_exc()  # to the run's log
    return EngineError(
        "The engine stopped on an unexpected error",
        f"{type(error).__name__}: {error}".splitlines()[0],
        "The run's log has the details; please report it with that log.",
    )


def _settle(engine: Engine, placings: Placings) -> None:
    """Put networks where they stay; one that finds no room there is let go with all others."""
    try:
        engine.settle(placings)
    except Exception as error:
        if exhausted(error) is None:
            raise
        engine.unload()


def _stages(run: Run) -> Generator[Event, None, None]:
    job = run.job
    _check_device(job.device)
    check_writable(job.output)
    if job.save_tensors is not None:
        check_writable(job.save_tensors)
    check_space(job)
    _settle(run.engine, job.placings)  # what stayed from a run with other placings
    keeper = Keeper(job, run.stop)
    walk = yield from keeper.begin()
    if not walk.done:
        text, text_null = yield from encode_text(run)
        image_features, image_latents = yield from encode_image(run)
        conditions = Conditions(text, text_null, image_features, image_latents)
        yield from denoise(run, conditions, walk, keeper)
    yield from decode(run, walk.latents, resumable=keeper.safe)
    yield Saved(job.output)
    if job.save_tensors is not None:
        yield from _save_tensors(run, job.save_tensors)
        yield Saved(job.save_tensors)


def _save_tensors(run: Run, path: Path) -> Iterator[Event]:
    partial = path.with_name(f".{path.name}.partial")

    def attempt() -> Iterator[Event]:
        try:
            _save_file(run.tensors, partial)
            put_in_place(partial, path)
        except OSError as error:
            kind = DiskFull if is_full(error) else EngineError
            raise kind(
                "The tensors could not be written",
                f"{path}: {error.strerror or error}",
                "Choose another --save-tensors.",
            ) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        yield from ()

    return patiently(run.stop, path, tensors_bytes(run.job), attempt)


def _save_file(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors without a copy of them in memory.

    Raises:
        OSError: they could not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:  # it carries the number only in its words
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _check_device(name: str) -> None:
    device = torch.device(name)
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        why = "this PyTorch sees no CUDA device"
    elif (device.index or 0) >= torch.cuda.device_count():
        why = f"there are {torch.cuda.device_count()} CUDA devices, counted from 0"
    else:
        return
    raise EngineError(f"Cannot run on {name}", why, "Use --device cpu, or see lightx2v-tui doctor.")
