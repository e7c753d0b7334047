"""DiTs side by side: which of them are one model stored in several ways, and which are pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lightx2v_tui.catalog.assembly import Parts, make_root, make_variant
from lightx2v_tui.catalog.components import BLOCK_FILE
from lightx2v_tui.catalog.folders import Folder, unfinished
from lightx2v_tui.catalog.model import DITS, Component, Kind, ModelRoot, Variant
from lightx2v_tui.catalog.recognise import distilled_by_name, expert_by_name

#: What a single file's name says beyond which model it is: precision, tool, expert, date.
DETAILS = re.compile(
    r"[-_.]?(?:scaled|fp8|e4m3fn|e4m3|e5m2|int8|bf16|fp16|fp32|nvfp4|comfyui|split|q\d[_a-z0-9]*|"
    r"(?:high|low)(?:[-_]?noise)?|(?<=[-_])(?:1\d{3}|2\d{5}))(?=[-_.]|$)"
)
#: Names that say nothing of the model: its folder's name does.
PLAIN = ("diffusion_pytorch_model", "distill_model")


def single_files(
    folder: Folder, dits: Sequence[Component], parts: Parts, loras: Sequence[Component],
    layout: str = "files",
) -> list[ModelRoot]:  # fmt: skip
    """One model for each name, one variant for each way it is stored."""
    models = _grouped(dits, folder.path)
    beside = [dit for dit in folder.of(Kind.DIT) if layout == "files" and not dit.expert]
    roots: list[ModelRoot] = []
    for members in models:
        variants = _stored_ways(folder.path, members, parts)
        own = layout == "files" and len(models) == 1
        name = folder.name if own else _identity(members[0], folder.path) or folder.name
        if any(root.name == name for root in roots):  # another network under the same name
            name += f" ({_task(members[0])})"
        problems = unfinished(folder)
        if len(beside) > 1:
            problems.append(f"{len(beside)} DiTs in this folder: LightX2V mixes them unless a "
                            "preset names the file, as presets written here do")  # fmt: skip
        distilled = distilled_by_name(name, *map(_stem, members))
        roots.append(
            make_root(folder.path, name, variants, layout, distilled=distilled, loras=loras,
                      others=parts.components, problems=problems)
        )  # fmt: skip
    return roots


def _grouped(dits: Iterable[Component], top: Path) -> list[list[Component]]:
    """DiTs by what they are called, then by size and task."""
    named: dict[str, list[Component]] = {}
    for dit in dits:
        named.setdefault(_identity(dit, top), []).append(dit)
    return [group for members in named.values() for group in _by_shape(members)]


def _by_shape(members: Sequence[Component]) -> list[list[Component]]:
    """DiTs by size and task; broken ones, whose blocks do not count, join those of their task."""
    read = [dit for dit in members if dit.architecture is not None]
    sound = [dit for dit in read if not dit.problems] or read
    groups: dict[str, list[Component]] = {}
    for dit in sound:
        groups.setdefault(_task(dit), []).append(dit)
    for dit in [dit for dit in members if dit not in sound]:
        task = dit.architecture.task if dit.architecture else _task(dit)
        alike = [name for name in groups if name.startswith(task)]
        groups.setdefault(next(iter((*alike, *groups)), task), []).append(dit)
    return [*groups.values()]


def _stored_ways(path: Path, members: Sequence[Component], parts: Parts) -> list[Variant]:
    """Variants of one model; each high-noise expert with the low-noise one stored alike."""
    order = sorted(members, key=lambda dit: dit.scheme)
    low = [dit for dit in order if dit.expert == "low"]
    taken: list[Component] = []
    variants = []
    for dit in [dit for dit in order if dit.expert != "low"]:
        partner = _partner(dit, low)
        taken += partner
        variants.append(make_variant(path, Parts((dit, *as_low(partner))), parts, dit.precision))
    variants += [
        make_variant(path, Parts(tuple(as_low([dit]))), parts, dit.precision)
        for dit in low
        if not any(dit is one for one in taken)
    ]
    return variants


def _partner(dit: Component, low: Sequence[Component]) -> list[Component]:
    """The low-noise expert for a high-noise one: of the same name where there are several."""
    alike = [c for c in low if dit.expert and (c.scheme, c.style) == (dit.scheme, dit.style)]
    wanted = _stem(dit).lower().replace("high", "low")
    return sorted(alike, key=lambda c: (c.layout != dit.layout, _stem(c).lower() != wanted))[:1]


def as_experts(folder: Folder) -> list[Component]:
    """The DiTs of a folder that is called high or low."""
    expert = expert_by_name(folder.path.name)
    dits = [replace(dit, expert=expert) for dit in folder.of(Kind.DIT)]
    return as_low(dits) if expert == "low" else dits


def as_low(components: Iterable[Component]) -> list[Component]:
    """These DiTs, as low-noise experts."""
    return [replace(c, kind=Kind.DIT_LOW, expert="low") for c in components if c.kind in DITS]


def _identity(dit: Component, top: Path) -> str:
    """Which model a DiT is by its name, without how it is stored; empty: its folder says."""
    stem = _stem(dit)
    if not stem.startswith(PLAIN):
        return DETAILS.sub("", stem.lower()).strip("-_.")
    own = next((file.parent for file in dit.files), top)
    return "" if own == top or dit.expert else own.name.lower()


def _stem(dit: Component) -> str:
    """The name that says which model it is: of blocks, their folder's."""
    first = next(iter((*dit.files, *dit.fetch)), Path())
    if BLOCK_FILE.fullmatch(first.name):
        folder = first.parent.name
        return folder if folder.endswith("_split") else PLAIN[0]
    return re.sub(r"-\d+-of-\d+$", "", first.stem)


def _task(dit: Component) -> str:
    architecture = dit.architecture
    return f"{architecture.task} {architecture.size}" if architecture else "cannot be read"
