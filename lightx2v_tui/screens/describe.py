"""A model root in words: one row of the list, and the pane that explains every component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from lightx2v_tui import runnable
from lightx2v_tui.catalog import TITLES, Kind, ModelRoot, Verdict, lora_in_words
from lightx2v_tui.catalog.model import Component
from lightx2v_tui.catalog.standing import (
    COMPLETE,
    INCOMPLETE,
    LATER,
    SCATTERED,
    Standing,
    VariantStanding,
    in_words,
    standing_of,
)
from lightx2v_tui.output import printable
from lightx2v_tui.units import duration, size

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu

#: How variants stand, the best first, and what stands behind their badges: nothing if whole.
MARKS = {COMPLETE: "", SCATTERED: "+", LATER: "", INCOMPLETE: "!"}
BEST = [*MARKS]
MEANINGS = {SCATTERED: "+ parts from elsewhere", INCOMPLETE: "! something is missing"}
Line = tuple[str, str]  # a text and its style


def row(root: ModelRoot, width: int, *, remembered: bool, twin: bool) -> tuple[Content, ...]:
    """The cells of one row; the name is cut to `width`, and a twin's says where it lies."""
    runs = not remembered and not runnable.reason_not_runnable(root)
    well = "$success" if runs else "dim"
    styles = {COMPLETE: well, SCATTERED: well, LATER: "dim", INCOMPLETE: "$warning"}
    badges = [(f"{printable(label)}{MARKS[word]} ", styles[word])
              for label, word in _badges(standing_of(root)).items()]  # fmt: skip
    total = sum(variant.nbytes for variant in root.variants)
    name = printable(f"{root.path.parent.name}/{root.name}" if twin else root.name)
    shown = name if cell_len(name) <= width else set_cell_size(name, width - 1).rstrip() + "…"
    return (
        Content.styled(shown, "bold" if runs else "dim"),
        Content("?" if root.task == "unknown" else root.task),
        Content(size(total)),
        Content.assemble(*badges),
    )


def _badges(standing: Standing) -> dict[str, str]:
    """What each precision is called, and how the best of its variants stands."""
    words: dict[str, str] = {}
    for each in standing.variants:
        label = each.variant.label
        words[label] = min(each.word, words.get(label, each.word), key=BEST.index)
    return words


def explain(
    root: ModelRoot, gpu: Gpu | None, *, remembered: bool, ram: int | None = None
) -> Content:
    """Describe a root: every component, and every missing piece with the way to it."""
    standing = standing_of(root)
    lines = [*_heading(root, standing, remembered=remembered)]
    lines += _whether_it_runs(root, gpu, ram, remembered=remembered)
    lines += [(problem, "$warning") for problem in root.problems]
    for each in standing.variants:
        lines += _variant(root, each)
    lines += [("", ""), ("every variant", "bold")] if standing.shared else []
    lines += _verdicts(standing.shared)
    loose = [(f"{_component(c)}  {c.files[0].name}", "") for c in root.others if c.files]
    loose += [(f"LoRA {lora_in_words(lora)}", "") for lora in root.loras if lora.files]
    lines += [("", ""), *loose] if loose else []
    # names on a disk may hold what a terminal would obey
    return Content.assemble(*((f"{printable(text)}\n", style) for text, style in lines))


def _heading(root: ModelRoot, standing: Standing, *, remembered: bool) -> Iterator[Line]:
    """Where it lies, what it is, and what the marks behind its badges say."""
    if remembered:
        yield "remembered from the last scan, not confirmed yet", "$warning"
    yield str(root.path), "$text-muted"
    about = " ".join(word for word in (root.family, root.size, root.task) if word)
    about += ", step-distilled" if root.distilled else ", 40 or 50 steps"
    if root.architecture is not None and root.architecture.num_layers:
        about += f", {root.architecture.num_layers} blocks of width {root.architecture.dim}"
    yield about, ""
    words = {*_badges(standing).values()}
    if marks := ", ".join(meaning for word, meaning in MEANINGS.items() if word in words):
        yield marks, "$text-muted"
    yield _disk(root), ""
    if root.disk.advice:
        yield root.disk.advice, "$warning"


def _whether_it_runs(
    root: ModelRoot, gpu: Gpu | None, ram: int | None, *, remembered: bool
) -> Iterator[Line]:
    if reason := runnable.reason_not_runnable(root):
        yield f"cannot run: {reason}", "$warning"
        return
    yield "ready to launch", "$success"
    if not remembered:
        yield _recommended(root, gpu, ram), "$text-muted"


def _disk(root: ModelRoot) -> str:
    """The disk, and about how long the best variant takes to read from it."""
    disk = root.disk
    told = f"disk: {disk.kind}, {size(disk.free_bytes)} free"
    usable = [variant.nbytes for variant in root.variants if variant.complete]
    if disk.bytes_per_second and usable:
        told += f", about {duration(min(usable) / disk.bytes_per_second)} to read the smallest"
    return told


def _recommended(root: ModelRoot, gpu: Gpu | None, ram: int | None) -> str:
    from lightx2v_tui import choices  # presets come with it, which a remembered list can do without

    best = choices.recommended(root, gpu, ram)
    picked = {Kind.DIT: best.dit, Kind.T5: best.t5, Kind.CLIP: best.clip}
    named = ", ".join(f"{TITLES[kind]} {p.value}" for kind, p in picked.items() if p)
    return f"recommended here: {named}. {choices.why_recommended(root, Kind.DIT, gpu, ram)}"


def _variant(root: ModelRoot, standing: VariantStanding) -> list[Line]:
    variant = standing.variant
    where = f"{variant.folder.name}/  " if variant.folder != root.path else ""
    lines: list[Line] = [("", ""), (f"{where}{standing.title}, {standing.word}", "bold")]
    lines += [(f"  {_component(component)}", "") for component in variant.components.values()]
    return lines + _verdicts(standing.verdicts)


def _component(component: Component) -> str:
    return f"{TITLES[component.kind]:<8} {component.scheme:<5} {size(component.nbytes)}"


def _verdicts(told: Sequence[Verdict]) -> list[Line]:
    lines: list[Line] = []
    for verdict in told:
        line, fix = in_words(verdict)
        lines.append((f"  {line}", "$text-muted" if verdict.state == "elsewhere" else "$warning"))
        if fix:
            lines.append((f"    → {fix}", "$accent"))
    return lines
