"""Will it fit? What a run needs of a machine, the least offload that fits, and what would help.

Every advice was checked by estimating the changed job. There is no smallest machine: where
nothing fits, the advice says what would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from engine.spec.job import SIZE_STEP, Job, Placing, Placings, Weights, rounded_frames
from engine.spec.memory import (
    Machine,
    StageMemory,
    Walk,
    disk_read,
    fits,
    needs,
    on_cpu,
    ram_needed,
    vram_needed,
)
from engine.spec.precision import FP8_FROM, Precision, QuantCompute

__all__ = ["Estimate", "Machine", "StageMemory", "estimate", "fitting"]

Verdict = Literal["fits", "offload", "too big"]
R, C, D = Placing.RESIDENT, Placing.CPU, Placing.DROP
#: Offloads from none to all; dropping costs reading again, but no RAM.
ON_GPU = (Placings(R, R, R, R), Placings(R, C, C, R), Placings(R, C, C, C), Placings(R, D, D, R),
          Placings(R, D, D, D), Placings(C, C, C, C), Placings(C, D, D, C),
          Placings(D, D, D, D))  # fmt: skip
ON_CPU = (Placings(R, R, R, R), Placings(R, D, D, R), Placings(D, D, D, D))
SMALLER = (0.87, 0.75, 0.66, 0.5, 0.33, 0.25)  # of width and height
SHORTER, SHORTEST = (0.75, 0.6, 0.4, 0.2, 0.1, 0.0), 5  # of the frames
CARDS = (8, 12, 16, 24, 32, 48, 80, 96, 141)  # GB of memory that GPUs are sold with
TITLES = {"dit": "the DiT", "t5": "T5", "clip": "CLIP"}


@dataclass(frozen=True)
class Estimate:
    """What a run needs, in bytes, and whether the machine has it.

    `vram_peak` is what PyTorch allocates, as `torch.cuda.max_memory_allocated` has it;
    `vram_needed` adds what the device must have free beside that. `ram_needed` is `ram_peak`
    without what this process holds already and without pages of files, which the system takes
    back. `next_vram_peak` is that of another run with another prompt, with what stayed loaded.
    `placings` are the least offload that fits; those of the job where none does.
    """

    vram_peak: int
    vram_needed: int
    next_vram_peak: int
    ram_peak: int
    ram_needed: int
    disk_read: int
    stages: tuple[StageMemory, ...]
    offloaded: tuple[str, ...]
    verdict: Verdict
    placings: Placings
    advice: tuple[str, ...]


def estimate(job: Job, machine: Machine) -> Estimate:
    """Foresee VRAM, RAM and disk of a job on a machine, from headers alone.

    Raises:
        CheckpointError: a file is missing or its header is broken.
    """
    walk = needs(job, machine)
    offloaded = _offloaded(job)
    verdict: Verdict = "offload" if offloaded else "fits"
    if not fits(job, walk, machine):
        verdict = "too big"
    return Estimate(
        vram_peak=walk.vram,
        vram_needed=0 if on_cpu(job) else vram_needed(walk.vram),
        next_vram_peak=walk.next_vram,
        ram_peak=walk.ram,
        ram_needed=ram_needed(walk, machine),
        disk_read=disk_read(job, machine),
        stages=walk.stages,
        offloaded=offloaded,
        verdict=verdict,
        placings=_least(job, machine) or job.placings,
        advice=_advice(job, machine) if verdict == "too big" else (),
    )


def fitting(job: Job, machine: Machine) -> Placings:
    """Propose the least offload that fits this run and the next, else this run only.

    Where nothing fits, every network is dropped after its part.

    Raises:
        CheckpointError: a file is missing or its header is broken.
    """
    return _least(job, machine) or ON_GPU[-1]


def _least(job: Job, machine: Machine) -> Placings | None:
    """The least offload that fits; None where even the last rung does not, which takes least."""
    ladder = ON_CPU if on_cpu(job) else ON_GPU
    if not _helps(job, ladder[-1], machine):
        return None
    once = None
    for placings in ladder:
        walk = needs(replace(job, placings=placings), machine)
        if fits(job, walk, machine):
            if on_cpu(job) or vram_needed(walk.next_vram) <= machine.vram_free:
                return placings
            once = once or placings
    return once


def _helps(job: Job, placings: Placings, machine: Machine) -> bool:
    return fits(job, needs(replace(job, placings=placings), machine), machine)


def _offloaded(job: Job) -> tuple[str, ...]:
    """Components that do not stay on the device; on a CPU, those that are dropped."""
    places = {"dit": job.placings.dit, "t5": job.placings.t5, "vae": job.placings.vae}
    if job.clip is not None:
        places["clip"] = job.placings.clip
    leaving = (D,) if on_cpu(job) else (C, D)
    return tuple(name for name, placing in places.items() if placing in leaving)


@dataclass(frozen=True)
class _Change:
    """A job that differs, and how to say so."""

    words: str
    job: Job


def _advice(job: Job, machine: Machine) -> tuple[str, ...]:
    """What would fit, with figures, in the order of what it costs; else what is lacking."""
    offload = _checked(_Change("", job), machine)
    if offload:  # then other changes are worth telling where they fit without it
        kept = [change for changes in _single(job, machine) for change in changes
                if _helps(change.job, job.placings, machine)]  # fmt: skip
        told = [offload, *(_told(change, machine) for change in kept[:1])]
        return tuple(told)
    for choices in (_single(job, machine), _combined(job, machine), _elsewhere(job, machine)):
        told = [words for changes in choices if (words := _first(changes, machine))]
        if told:
            return tuple(told)
    return (_lacking(job, machine),)


def _first(alternatives: Iterable[_Change], machine: Machine) -> str:
    """The first of some changes that helps, in words; empty where none does."""
    return next((told for change in alternatives if (told := _checked(change, machine))), "")


def _checked(change: _Change, machine: Machine) -> str:
    """A change in words where it helps, with the offload it takes."""
    placings = _least(change.job, machine)
    if placings is None:
        return ""
    job = replace(change.job, placings=placings)
    offload = _offload_words(job) if placings != change.job.placings else ""
    return _told(_Change(_listed("; ", change.words, offload), job), machine)


def _told(change: _Change, machine: Machine) -> str:
    """A change in words, with what it then takes."""
    figures = _figures(change.job, needs(change.job, machine))
    return f"{change.words[0].upper()}{change.words[1:]}: {figures}"


def _listed(comma: str, *words: str) -> str:
    return comma.join(filter(None, words))


def _figures(job: Job, walk: Walk) -> str:
    ram = f"{_gigabytes(walk.ram)} of RAM"
    return ram if on_cpu(job) else f"{_gigabytes(vram_needed(walk.vram))} of GPU memory, {ram}"


def _offload_words(job: Job) -> str:
    """The offload of a job in the words of its preset keys."""
    places, names = job.placings, {**TITLES, "vae": "the VAE"}
    if job.clip is None:
        del names["clip"]
    said = []
    for placing, words in ((C, "waiting in RAM"), (D, "unloaded after use")):
        if listed := [word for name, word in names.items() if getattr(places, name) is placing]:
            said.append(f"{_sentence(listed)} {words}")
    return ", ".join(said) or "everything on the device"


Alternatives = Iterable[_Change]


def _single(job: Job, machine: Machine) -> Iterator[Alternatives]:
    """One change at a time, those that cost no quality first."""
    if job.dit.precision.quantized and job.quant_compute is not QuantCompute.DEQUANT:
        yield [_Change("`--quant-compute dequant`", _dequantized(job))]
    if job.guidance is not None and job.guidance.batched:
        yield [_Change("guidance in two passes", _unbatched(job))]
    if not job.tiny_vae:
        yield [_Change("the tiny VAE", replace(job, tiny_vae=True))]
    yield _quantized(job, machine)
    yield _smaller(job)
    yield _shorter(job)


def _combined(job: Job, machine: Machine) -> Iterator[Alternatives]:
    """Everything that keeps size and length; with less of one, then with less of both."""
    lean = _leanest(job, machine)
    both = zip(_smaller(lean.job), _shorter(lean.job), strict=True)
    yield chain(
        [lean],
        (_also(lean, size) for size in _smaller(lean.job)),
        (_also(lean, length) for length in _shorter(lean.job)),
        (
            _Change(
                _listed("; ", lean.words, size.words, length.words),
                replace(size.job, frames=length.job.frames),
            )
            for size, length in both
        ),
    )


def _also(lean: _Change, change: _Change) -> _Change:
    return _Change(_listed("; ", lean.words, change.words), change.job)


def _elsewhere(job: Job, machine: Machine) -> Iterator[Alternatives]:
    """The CPU, which is slow, where there is enough RAM."""
    if not on_cpu(job):
        words, lean = "`--device cpu`, which is slow", _leanest(job, machine)
        also = _Change(_listed("; ", words, lean.words), replace(lean.job, device="cpu"))
        yield [_Change(words, replace(job, device="cpu", placings=ON_CPU[0])), also]


def _lacking(job: Job, machine: Machine) -> str:
    """What even the smallest run would need."""
    lean = _leanest(job, machine)
    *_, size = _smaller(lean.job)
    *_, length = _shorter(size.job)
    least = replace(length.job, placings=ON_GPU[-1])
    walk = needs(least, machine)
    words = _listed("; ", lean.words, size.words, length.words)
    ram = _gigabytes(machine.ram_available + machine.ram_process)
    there = ram if on_cpu(job) else f"{_gigabytes(machine.vram_free)} and {ram}"
    card = next((size for size in CARDS if size * 0.95e9 > vram_needed(walk.vram)), CARDS[-1])
    other = "a machine with more RAM" if on_cpu(job) else f"a GPU of {card} GB"
    if not on_cpu(job) and ram_needed(walk, machine) > machine.ram_available:
        other = f"{other} in a machine with more RAM"
    return (
        f"Even with {words} it needs {_figures(least, walk)}; there is {there}. "
        f"Use a smaller model, or {other}."
    )


def _leanest(job: Job, machine: Machine) -> _Change:
    """The same size and length with everything that saves memory, in words."""
    *_, small = [_Change("", job), *_quantized(job, machine)]
    plain = _unbatched(replace(small.job, tiny_vae=True, tiling=False))
    lean = min((plain, _dequantized(plain)), key=lambda job: needs(job, machine).vram)
    option = "`--quant-compute dequant`" if lean.quant_compute != job.quant_compute else ""
    return _Change(_listed("; ", small.words, option, "the tiny VAE"), lean)


def _dequantized(job: Job) -> Job:
    return replace(job, quant_compute=QuantCompute.DEQUANT)


def _unbatched(job: Job) -> Job:
    guidance = job.guidance
    return replace(job, guidance=guidance and replace(guidance, batched=False))


def _quantized(job: Job, machine: Machine) -> Iterator[_Change]:
    """Weights in eight bits: FP8 where the GPU multiplies it, else INT8; all of them last."""
    fp8 = machine.capability is None or machine.capability >= FP8_FROM
    eight = Precision.FP8 if fp8 else Precision.INT8
    small = {
        name: Weights(weights.files, eight)
        for name in TITLES
        if (weights := getattr(job, name)) is not None and not weights.precision.quantized
    }
    for names in (("dit",), ("t5",), tuple(TITLES)):
        if chosen := {name: small[name] for name in names if name in small}:
            titles = _sentence([TITLES[name] for name in chosen])
            changed = replace(job, **chosen)  # type: ignore[arg-type]
            yield _Change(f"{eight.value.upper()} weights of {titles}", changed)


def _smaller(job: Job) -> Iterator[_Change]:
    for factor in SMALLER:
        width, height = (
            max(SIZE_STEP, round(size * factor / SIZE_STEP) * SIZE_STEP)
            for size in (job.width, job.height)
        )
        yield _Change(f"{width}x{height}", replace(job, width=width, height=height))


def _shorter(job: Job) -> Iterator[_Change]:
    for factor in SHORTER:
        frames = max(min(job.frames, SHORTEST), rounded_frames(int(job.frames * factor)))
        yield _Change(f"{frames} frames", replace(job, frames=frames))


def _sentence(words: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
