"""A run as a generator of events: text, denoise, decode; always one terminal event, and last."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Event as StopEvent

import torch

from engine.spec.errors import Cancelled, EngineError
from engine.spec.events import CancelledByUser, Done, Event, Failed, Saved
from engine.spec.job import Job
from engine.stages import Conditions, Run, decode, denoise, encode_image, encode_text
from engine.video import check_writable
from engine.warm import Engine

__all__ = ["Engine", "run"]


def run(job: Job, stop: StopEvent, engine: Engine | None = None) -> Iterator[Event]:
    """Make one video; the last event is `Done`, `Failed` or `CancelledByUser`.

    Networks that `engine` holds are not loaded again, and what this run loads stays in it.
    """
    started = time.perf_counter()
    engine = engine or Engine()
    engine.follow(stop)
    ending: Event
    try:
        yield from _stages(Run(job, stop, engine))
        ending = Done(job.output, time.perf_counter() - started)
    except Cancelled:
        ending = CancelledByUser()
    except EngineError as error:  # told anew: its traceback would keep the networks alive
        ending = Failed(type(error)(error.what, error.why, error.fix))
    except torch.OutOfMemoryError as error:
        ending = Failed(_out_of_memory(job, str(error)))
    except Exception as error:  # noqa: BLE001 - boundary: whatever torch raises becomes readable
        traceback.print_exc()  # to the run's log
        ending = Failed(
            EngineError(
                "The engine stopped on an unexpected error",
                f"{type(error).__name__}: {error}".splitlines()[0],
                "The run's log has the details; please report it with that log.",
            )
        )
    if isinstance(ending, Failed) and isinstance(ending.error, OutOfMemoryFailure):
        engine.unload()
    engine.settle(job.placings)
    yield ending


def _stages(run: Run) -> Iterator[Event]:
    job = run.job
    _check_device(job.device)
    check_writable(job.output)
    if job.save_tensors is not None:
        check_writable(job.save_tensors)
    text, text_null = yield from encode_text(run)
    image_features, image_latents = yield from encode_image(run)
    conditions = Conditions(text, text_null, image_features, image_latents)
    latents = yield from denoise(run, conditions)
    yield from decode(run, latents)
    yield Saved(job.output)
    if job.save_tensors is not None:
        _save_tensors(run, job.save_tensors)
        yield Saved(job.save_tensors)


def _save_tensors(run: Run, path: Path) -> None:
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(run.tensors, partial)
        partial.replace(path)
    except OSError as error:
        raise EngineError(
            "The tensors could not be written", f"{path}: {error}", "Choose another --save-tensors."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


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


class OutOfMemoryFailure(EngineError):  # noqa: N818 - told as it is
    """The device's memory was not enough; everything that was loaded has been let go."""


def _out_of_memory(job: Job, message: str) -> OutOfMemoryFailure:
    return OutOfMemoryFailure(
        f"{job.device} ran out of memory",
        message.splitlines()[0],
        "Choose a smaller size, fewer frames, the tiny VAE, or FP8 / INT8 weights.",
    )
