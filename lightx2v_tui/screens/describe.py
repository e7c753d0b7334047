"""A model root in words: one row of the list, and the pane that explains every component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from lightx2v_tui import runnable
from lightx2v_tui.catalog import TITLES, Kind, ModelRoot, Verdict, lora_in_words
from lightx2v_tui.catalog.standing import VariantStanding, in_words, standing_of
from lightx2v_tui.units import duration, size

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu

#: What stands behind a variant's badge: nothing where it is whole.
MARKS = {"complete": "", "complete with parts from elsewhere": "+", "incomplete": "!"}
BEST = [*MARKS.values()]
Part = tuple[str, str]  # a text and its style


def row(root: ModelRoot, width: int, *, remembered: bool) -> tuple[Content, ...]:
    """The cells of one row; the name is cut to `width`."""
    runs = not runnable.reason_not_runnable(root)
    marks: dict[str, str] = {}
    for each in standing_of(root).variants:
        mark = MARKS[each.word]
        marks[each.variant.label] = min(mark, marks.get(each.variant.label, mark), key=BEST.index)
    style = dict.fromkeys(BEST, "dim" if remembered else "$success") | {"!": "$warning"}
    badges = [(f"{label}{mark} ", style[mark]) for label, mark in marks.items()]
    total = sum(variant.nbytes for variant in root.variants)
    fits = cell_len(root.name) <= width
    shown = root.name if fits else set_cell_size(root.name, width - 1).rstrip() + "…"
    name = Content.styled(shown, "bold" if runs and not remembered else "dim")
    return name, Content(root.task), Content(size(total)), Content.assemble(*badges)


def explain(root: ModelRoot, gpu: Gpu | None, *, remembered: bool) -> Content:
    """Describe a root: every component, and every missing piece with the way to it."""
    reason = runnable.reason_not_runnable(root)
    parts: list[Part] = []
    if remembered:
        parts.append(("remembered from the last scan, not confirmed yet\n", "$warning"))
    parts += [
        (f"{root.path}\n", "$text-muted"),
        (f"{root.family} {root.size} {root.task}, ", ""),
        ("step-distilled" if root.distilled else "40 or 50 steps", ""),
    ]
    if root.architecture is not None:
        arch = root.architecture
        parts.append((f", {arch.num_layers} blocks of width {arch.dim}", ""))
    parts.append((f"\n{_disk(root)}\n", ""))
    if root.disk.advice:
        parts.append((f"{root.disk.advice}\n", "$warning"))
    parts.append((f"cannot run: {reason}\n" if reason else "ready to launch\n",
                  "$warning" if reason else "$success"))  # fmt: skip
    if not (reason or remembered):
        parts.append((_recommended(root, gpu), "$text-muted"))
    parts += [(f"{problem}\n", "$warning") for problem in root.problems]
    standing = standing_of(root)
    for each in standing.variants:
        parts += _variant(root, each)
    parts += [("\nevery variant\n", "bold")] if standing.shared else []
    parts += _verdicts(standing.shared)
    parts += [(f"\n{TITLES[c.kind]:<9}{c.scheme:<6}{size(c.nbytes)}  {c.files[0].name}", "")
              for c in root.others if c.files]  # fmt: skip
    parts += [(f"\nLoRA {lora_in_words(lora)}", "") for lora in root.loras if lora.files]
    return Content.assemble(*parts)


def _disk(root: ModelRoot) -> str:
    """The disk, and about how long the best variant takes to read from it."""
    disk = root.disk
    told = f"disk: {disk.kind}, {size(disk.free_bytes)} free"
    usable = [variant.nbytes for variant in root.variants if variant.complete]
    if disk.bytes_per_second and usable:
        told += f", about {duration(min(usable) / disk.bytes_per_second)} to read the smallest"
    return told


def _recommended(root: ModelRoot, gpu: Gpu | None) -> str:
    from lightx2v_tui import choices  # presets come with it, which a remembered list can do without

    best = choices.recommended(root, gpu)
    picked = {Kind.DIT: best.dit, Kind.T5: best.t5, Kind.CLIP: best.clip}
    named = ", ".join(f"{TITLES[kind]} {p.value}" for kind, p in picked.items() if p)
    return f"recommended here: {named}. {choices.why_recommended(root, Kind.DIT, gpu)}\n"


def _variant(root: ModelRoot, standing: VariantStanding) -> list[Part]:
    variant = standing.variant
    where = f"{variant.folder.name}/  " if variant.folder != root.path else ""
    parts: list[Part] = [(f"\n{where}{standing.title}, {standing.word}\n", "bold")]
    parts += [(f"  {TITLES[kind]:<9}{component.scheme:<6}{size(component.nbytes)}\n", "")
              for kind, component in variant.components.items()]  # fmt: skip
    return parts + _verdicts(standing.verdicts)


def _verdicts(told: Sequence[Verdict]) -> list[Part]:
    parts: list[Part] = []
    for verdict in told:
        line, fix = in_words(verdict)
        parts.append((f"  {line}\n", "$text-muted" if verdict.state == "elsewhere" else "$warning"))
        if fix:
            parts.append((f"    → {fix}\n", "$accent"))
    return parts
