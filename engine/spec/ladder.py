"""The next lower plan for a job that memory was not enough for; nothing is changed in vain.

What costs no quality comes first: networks wait elsewhere, previews and the VAE take less. What
changes the picture is asked for. Each rung helps at the stage that failed, or is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from engine.spec.errors import OutOfMemoryFailure
from engine.spec.job import Job, Placing, Placings, Previews
from engine.spec.memory import STAGES_OF, on_cpu

#: Which placing decides where the network of a slot stays.
PLACING_OF = {"t5": "t5", "clip": "clip", "dit": "dit", "vae": "vae", "vae_encoder": "vae",
              "preview_vae": "vae"}  # fmt: skip
ENCODERS = frozenset(("t5", "clip"))
EVERYTHING = frozenset(field.name for field in fields(Placings))


@dataclass(frozen=True)
class Ask:
    """A lower plan that changes the picture: only the user may choose it."""

    question: str
    job: Job


def lower(job: Job, failure: OutOfMemoryFailure) -> Job | Ask | None:
    """The next lower plan for a job that ended with `failure`; None where there is none left."""
    rungs = (_placed(job, failure), _previewed(job, failure), _tiled(job, failure),
             _one_by_one(job, failure))  # fmt: skip
    lowered = next((rung for rung in rungs if rung is not None), None)
    return lowered or _tiny(job, failure)


def _placed(job: Job, failure: OutOfMemoryFailure) -> Job | None:
    """Fewer networks stay where memory was lacking: the encoders first, then all of them."""
    heavy = set(_in_the_way(job, failure))
    change = _to_ram if failure.device == "cuda" else _dropped
    for names in (ENCODERS, EVERYTHING):
        if heavy & names:
            places = {name: change(getattr(job.placings, name)) for name in names}
            return replace(job, placings=replace(job.placings, **places))
    return None


def _in_the_way(job: Job, failure: OutOfMemoryFailure) -> Iterator[str]:
    """The placings that kept a network in the memory that was lacking."""
    if failure.device == "cuda":
        staying = {Placing.RESIDENT}
    else:
        staying = {Placing.RESIDENT, Placing.CPU} if on_cpu(job) else {Placing.CPU}
    for slot, (_, work) in STAGES_OF.items():
        name = PLACING_OF[slot]
        # what computes on a GPU and waits in RAM is moved there at the end of its own stage
        arrives = failure.device == "ram" and not on_cpu(job) and failure.stage == work
        if getattr(job.placings, name) in staying and (slot in failure.beside or arrives):
            yield name


def _to_ram(placing: Placing) -> Placing:
    return Placing.CPU if placing is Placing.RESIDENT else placing


def _dropped(_: Placing) -> Placing:
    return Placing.DROP


def _computes_there(job: Job, failure: OutOfMemoryFailure) -> bool:
    """Say whether the memory that was lacking is the one networks compute in."""
    return failure.device == "cuda" or on_cpu(job)


def _previewed(job: Job, failure: OutOfMemoryFailure) -> Job | None:
    """Previews from latents, which need no network."""
    here = failure.stage in STAGES_OF["preview_vae"] and _computes_there(job, failure)
    if not here or job.preview is not Previews.TINY_VAE:
        return None
    return replace(job, preview=Previews.LATENTS)


def _tiled(job: Job, failure: OutOfMemoryFailure) -> Job | None:
    """The VAE decodes the picture in tiles."""
    if failure.stage != "decode" or job.tiling or job.tiny_vae or not _computes_there(job, failure):
        return None
    return replace(job, tiling=True, settings=_recorded(job, "use_tiling_vae"))


def _one_by_one(job: Job, failure: OutOfMemoryFailure) -> Job | None:
    """Guidance asks its two questions one after the other."""
    guidance = job.guidance
    if failure.stage != "denoise" or guidance is None or not guidance.batched:
        return None
    if not _computes_there(job, failure):
        return None
    return replace(job, guidance=replace(guidance, batched=False))


def _tiny(job: Job, failure: OutOfMemoryFailure) -> Ask | None:
    """The tiny VAE, where its file is known: the picture is a little softer."""
    if job.tiny_vae or job.preview_vae is None or failure.stage not in STAGES_OF["vae"]:
        return None
    settings = _recorded(job, "use_tiny_vae")
    tiny = replace(job, vae=job.preview_vae, tiny_vae=True, tiling=False, settings=settings)
    return Ask("Decode with the tiny VAE? Its picture is a little softer.", tiny)


def _recorded(job: Job, key: str) -> str:
    """The settings that the video carries, with the key of what the picture is made with set."""
    try:
        preset = json.loads(job.settings)
    except ValueError:
        return job.settings
    if not isinstance(preset, dict):
        return job.settings
    return json.dumps({**preset, key: True}, ensure_ascii=False)
