"""Checkpoints: how far a run has come, kept after every step, and gone on with bit for bit.

A checkpoint is a safetensors file: latents, the state of the noise generator and what the sampler
remembers; its metadata says after which step, of which run, and a digest of it all. What cannot be
used is told, and the run starts from noise: never a wrong video.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoint import stream
from engine.durable import patiently, write_whole
from engine.schedule import Sampler, draw_noise, make_sampler
from engine.spec.control import RunControl
from engine.spec.errors import CheckpointError, DiskFull
from engine.spec.events import Event, Noted, Resumed
from engine.spec.header import Header, TensorInfo, read_header
from engine.spec.job import Job
from engine.spec.space import CHECKPOINT_REST, checkpoint_bytes, is_full
from engine.warm import identity

SCHEMA = "1"
LATENTS, GENERATOR, SAMPLER = "latents", "generator", "sampler."
MOST_GENERATOR = 16 << 10  # bytes; PyTorch's are 5056


@dataclass
class Walk:
    """Where a run is on its way from noise to latents: `step` steps are done."""

    sampler: Sampler
    generator: torch.Generator
    latents: Tensor
    step: int = 0

    @property
    def done(self) -> bool:
        """True where no step is left."""
        return self.step >= len(self.sampler)


def from_noise(job: Job) -> Walk:
    """The beginning of a run: noise of its seed."""
    generator = torch.Generator("cpu").manual_seed(job.seed)
    noise = draw_noise(job.latent_shape, generator)
    return Walk(make_sampler(job.schedule), generator, noise.to(job.device))


def fingerprint(job: Job) -> str:
    """A hash of everything that decides the latents of a job, and of nothing else.

    Where networks stay, how latents are decoded and previewed, and whether guidance asks its two
    questions at once may change on the way: a lower plan loses no step.

    Raises:
        CheckpointError: a file is not there any more.
    """

    def same(*files: Path) -> Hashable:
        return identity(tuple(file.absolute() for file in files))

    components = [
        weights and (same(*weights.files), weights.precision)
        for weights in (job.dit, job.t5, job.clip, job.vae_encoder)
    ]
    facts = (
        components,
        same(job.tokenizer / "tokenizer.json"),
        job.image and same(job.image),
        [(same(lora.path), lora.strength) for lora in job.loras],
        job.guidance and (job.guidance.scale, job.negative_prompt),
        (job.prompt, job.seed, job.latent_shape, job.schedule, job.architecture, job.attention),
        (job.device.partition(":")[0], job.compute_dtype, job.quant_compute),
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def write(path: Path, walk: Walk, made_for: str) -> None:
    """Replace the checkpoint at `path`.

    Raises:
        OSError: it cannot be written; the one before is as it was.
    """
    from safetensors.torch import save

    state = {f"{SAMPLER}{name}": value for name, value in walk.sampler.state().items()}
    tensors = {LATENTS: walk.latents, GENERATOR: walk.generator.get_state(), **state}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    facts = {"schema": SCHEMA, "step": str(walk.step), "steps": str(len(walk.sampler)),
             "fingerprint": made_for}  # fmt: skip
    write_whole(path, save(tensors, {**facts, "digest": _digest(facts, tensors)}))


def read(path: Path, job: Job, made_for: str, stop: RunControl) -> Walk:
    """Read the checkpoint at `path`, which must be one of this very job.

    Raises:
        CheckpointError: it is broken, or of another job.
        OSError: it cannot be read.
    """
    _check_file(path, checkpoint_bytes(job))
    header = read_header(path)
    facts = {key: header.metadata.get(key, "") for key in ("schema", "step", "steps",
                                                           "fingerprint")}  # fmt: skip
    sampler = make_sampler(job.schedule)
    _check_facts(facts, made_for, len(sampler))
    _check_tensors(header, job.latent_shape)
    pieces = stream([header], header.tensors.keys(), stop)
    tensors = {piece.name: piece.tensor for piece in pieces if piece.tensor is not None}
    if header.metadata.get("digest") != _digest(facts, tensors):
        raise _useless("it is damaged")
    return _walk(job, sampler, tensors, int(facts["step"]))


def _check_file(path: Path, most: int) -> None:
    """Refuse what is no checkpoint by its size, so that no more than one is ever read."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _useless("it is not a file")
    with path.open("rb") as file:
        announced = int.from_bytes(file.read(8), "little")
    if status.st_size > most or announced > CHECKPOINT_REST:
        raise _useless("it is not a checkpoint of this video")


def _check_facts(facts: Mapping[str, str], made_for: str, steps: int) -> None:
    if facts["schema"] != SCHEMA:
        raise _useless("another version of this program wrote it")
    if facts["fingerprint"] != made_for or facts["steps"] != str(steps):
        raise _useless("it is of a run with other settings or files")
    if facts["step"] not in map(str, range(1, steps + 1)):
        raise _useless("it is damaged")


def _check_tensors(header: Header, shape: tuple[int, ...]) -> None:
    """Refuse a file with tensors that no checkpoint of this shape has, before any is read."""
    for info in header.tensors.values():
        if not (_is_generator(info) or _is_latents(info, shape)):
            raise _useless("it is not a checkpoint of this video")
    if not {LATENTS, GENERATOR} <= header.tensors.keys():
        raise _useless("it is not whole")


def _is_generator(info: TensorInfo) -> bool:
    fits = info.dtype == "U8" and len(info.shape) == 1 and info.nbytes <= MOST_GENERATOR
    return info.name == GENERATOR and fits


def _is_latents(info: TensorInfo, shape: tuple[int, ...]) -> bool:
    named = info.name == LATENTS or info.name.startswith(SAMPLER)
    return named and info.dtype == "F32" and info.shape == shape


def _walk(job: Job, sampler: Sampler, tensors: Mapping[str, Tensor], step: int) -> Walk:
    """Put the tensors of a checkpoint where they came from."""
    generator = torch.Generator("cpu")
    values = {name: tensor for name, tensor in tensors.items() if name != GENERATOR}
    if not all(bool(torch.isfinite(value).all()) for value in values.values()):
        raise _useless("it holds values that are not finite")
    latents, *_ = (value.to(job.device) for name, value in values.items() if name == LATENTS)
    memory = {name.removeprefix(SAMPLER): value.to(job.device)
              for name, value in values.items() if name != LATENTS}  # fmt: skip
    try:
        generator.set_state(tensors[GENERATOR])
        sampler.restore(memory, step)
    except (RuntimeError, ValueError) as error:
        raise _useless("it is not whole") from error
    return Walk(sampler, generator, latents, step)


def _digest(facts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """A hash of everything in a checkpoint: a flipped bit would be another video."""
    digest = hashlib.sha256(json.dumps(sorted(facts.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _useless(why: str) -> CheckpointError:
    return CheckpointError("The checkpoint cannot be used", why)


class Keeper:
    """Keeps the checkpoint of one run, and says whether its last step is safe on the disk."""

    def __init__(self, job: Job, stop: RunControl) -> None:
        """A job without a checkpoint is kept nowhere.

        Raises:
            CheckpointError: a file of the job is not there any more.
        """
        self._job, self._stop = job, stop
        self._path = job.checkpoint
        self._made_for = fingerprint(job) if job.checkpoint is not None else ""
        self.safe = False

    def begin(self) -> Generator[Event, None, Walk]:
        """Go on with the checkpoint that is there, or begin with noise, and tell which."""
        walk = yield from self._found()
        if walk is None:
            return from_noise(self._job)
        self.safe = True
        yield Resumed(walk.step, len(walk.sampler))
        return walk

    def keep(self, walk: Walk) -> Iterator[Event]:
        """Keep a step that was done; a full disk is waited for, any other trouble told once.

        Raises:
            Cancelled: the run was stopped while it waited for room.
        """
        if self._path is None:
            return
        path = self._path

        def attempt() -> Iterator[Event]:
            try:
                write(path, walk, self._made_for)
            except OSError as error:
                if is_full(error):
                    raise DiskFull("The checkpoint could not be written") from error
                raise
            yield from ()

        try:
            yield from patiently(self._stop, path, checkpoint_bytes(self._job), attempt)
            self.safe = True
        except OSError as error:
            self._path, self.safe = None, False
            yield Noted(
                f"{path} cannot be written ({error.strerror or error}); "
                "the run goes on, but its further steps would be lost if it were interrupted"
            )

    def _found(self) -> Generator[Event, None, Walk | None]:
        path = self._path
        if path is None:
            return None
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            pass  # reading says why
        if self._job.save_tensors is not None:
            yield Noted(f"{path.name} is not gone on with: all steps are to be saved")
            return None
        try:
            return read(path, self._job, self._made_for, self._stop)
        except OSError as error:
            why = error.strerror or str(error)
        except CheckpointError as error:
            why = error.why
        yield Noted(f"{path.name} is not gone on with: {why}; the run starts from noise")
        return None
