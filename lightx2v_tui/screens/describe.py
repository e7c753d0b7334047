"""A model root in words: one row of the list, and the pane that explains every component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from textual.content import Content

from lightx2v_tui.catalog import TITLES, Kind, ModelRoot, Skipped, Verdict, lora_in_words
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
from lightx2v_tui.launch import runnable
from lightx2v_tui.output import printable
from lightx2v_tui.screens.model_table import NAME, Row
from lightx2v_tui.units import duration, size

if TYPE_CHECKING:
    from pathlib import Path

    from lightx2v_tui.gpus import Gpu

#: How variants stand, the best first, and what stands behind their badges: nothing if whole.
MARKS = {COMPLETE: "", SCATTERED: "+", LATER: "", INCOMPLETE: "!"}
BEST = [*MARKS]
MEANINGS = {SCATTERED: "+ parts from elsewhere", INCOMPLETE: "! something is missing"}
SIGNS = {COMPLETE: "✓", SCATTERED: "+", LATER: "·", INCOMPLETE: "!"}
STYLES = {COMPLETE: "$success", SCATTERED: "$success", LATER: "$text-muted",
          INCOMPLETE: "$warning"}  # fmt: skip
TASKS = {"t2v": "text to video", "i2v": "image to video"}
LABEL = 9  # cells of what stands before a fact
EMPTY = """No models yet.

d downloads one, a adds a folder to look in, o opens a preset or a video's
settings, and `lightx2v-tui demo` makes a tiny model on the spot.

Looked for Wan models as LightX2V, Wan-AI, ComfyUI and diffusers lay them
out, whole or in parts, in

{places}"""
Line = tuple[tuple[str, str], ...]  # texts and their styles
BLANK: Line = ()


def row(root: ModelRoot, *, remembered: bool, twin: bool) -> Row:
    """The cells of one row; a twin's name says where it lies."""
    runs = not remembered and not runnable.reason_not_runnable(root)
    well = "$success" if runs else "dim"
    styles = {COMPLETE: well, SCATTERED: well, LATER: "dim", INCOMPLETE: "$warning"}
    badges = [(f"{printable(label)}{MARKS[word]} ", styles[word])
              for label, word in _badges(standing_of(root)).items()]  # fmt: skip
    total = sum(variant.nbytes for variant in root.variants)
    name = printable(f"{root.path.parent.name}/{root.name}" if twin else root.name)
    kind = root.disk.kind
    return {
        NAME: Content.styled(name, "bold" if runs else "dim"),
        "Task": Content("?" if root.task == "unknown" else root.task),
        "Size": Content(f"{size(total):>8}"),
        "Disk": Content.styled("–" if kind == "unknown" else kind,
                               "$warning" if root.disk.advice else "dim"),
        "Variants": Content.assemble(*badges),
    }  # fmt: skip


def _badges(standing: Standing) -> dict[str, str]:
    """What each precision is called, and how the best of its variants stands."""
    words: dict[str, str] = {}
    for each in standing.variants:
        label = each.variant.label
        words[label] = min(each.word, words.get(label, each.word), key=BEST.index)
    return words


def explain(
    root: ModelRoot, gpu: Gpu | None, *, remembered: bool, ram: int | None = None, width: int = 0
) -> Content:
    """Describe a root: every component, and every missing piece with the way to it.

    What is wrapped to `width` goes on below its own beginning; 0 wraps nothing.
    """
    standing = standing_of(root)
    badges = _badges(standing)
    lines = [*_whether_it_runs(root, gpu, ram, width, remembered=remembered)]
    lines += _incomplete(badges, width)
    lines += [_line(f"! {problem}", "$warning") for problem in root.problems]
    lines += [BLANK, *_facts(root, width)]
    for each in standing.variants:
        lines += [BLANK, *_variant(root, each, width)]
    if standing.shared:
        lines += [BLANK, _line("every variant", "bold"), *_verdicts(standing.shared, width)]
    words = badges.values()
    if marks := ", ".join(meaning for word, meaning in MEANINGS.items() if word in words):
        lines += [BLANK, _line(marks, "$text-muted")]
    lines += _loose(root, width)
    # names on a disk may hold what a terminal would obey
    parts = [Content.assemble(*((printable(t), style) for t, style in line)) for line in lines]
    return Content("\n").join(parts)


def _whether_it_runs(
    root: ModelRoot, gpu: Gpu | None, ram: int | None, width: int, *, remembered: bool
) -> Iterator[Line]:
    if remembered:
        yield _line("○ remembered from the last scan, not confirmed yet", "$warning")
    if reason := runnable.reason_not_runnable(root):
        yield from _hanging("✗ ", f"cannot run: {reason}", "bold $warning", width)
        return
    yield _line("● ready to launch", "bold $success")
    if not remembered:
        named, why = _recommended(root, gpu, ram)
        yield from _hanging("  ", f"recommended here: {named}", "", width)
        yield from _hanging("  ", why, "$text-muted", width)


def _incomplete(badges: dict[str, str], width: int) -> list[Line]:
    """Say in front which variants cannot be used, where others can."""
    broken = [label for label, word in badges.items() if word == INCOMPLETE]
    if not 0 < len(broken) < len(badges):
        return []
    told = f"{', '.join(broken)} incomplete: what is missing stands below"
    return _hanging("! ", told, "$warning", width)


def _recommended(root: ModelRoot, gpu: Gpu | None, ram: int | None) -> tuple[str, str]:
    from lightx2v_tui.launch import (
        choices,  # presets come with it, which a remembered list can do without
    )

    best = choices.recommended(root, gpu, ram)
    picked = {Kind.DIT: best.dit, Kind.T5: best.t5, Kind.CLIP: best.clip}
    named = ", ".join(f"{TITLES[kind]} {p.value}" for kind, p in picked.items() if p)
    return named, choices.why_recommended(root, Kind.DIT, gpu, ram)


def _facts(root: ModelRoot, width: int) -> Iterator[Line]:
    """Where it lies, and what it is."""
    task = TASKS.get(root.task, root.task)
    about = " ".join(word for word in (root.family, root.size, task) if word)
    about += ", step-distilled" if root.distilled else ", 40 or 50 steps"
    yield from _fact("Model", about, width)
    if root.architecture is not None and root.architecture.num_layers:
        blocks = f"{root.architecture.num_layers} blocks of width {root.architecture.dim}"
        yield from _fact("Network", blocks, width)
    yield from _fact("Disk", _disk(root), width)
    if root.disk.advice:
        yield from _fact("", root.disk.advice, width, "$warning")
    yield from _fact("Folder", str(root.path), width)


def _disk(root: ModelRoot) -> str:
    """The disk, and about how long the best variant takes to read from it."""
    disk = root.disk
    kind = "of an unknown kind" if disk.kind == "unknown" else disk.kind
    told = f"{kind}, {size(disk.free_bytes)} free"
    usable = [variant.nbytes for variant in root.variants if variant.complete]
    if disk.bytes_per_second and usable:
        told += f", about {duration(min(usable) / disk.bytes_per_second)} to read the smallest"
    return told


def _line(text: str, style: str = "") -> Line:
    return ((text, style),)


def _fact(label: str, text: str, width: int, style: str = "") -> list[Line]:
    return _hanging(f"{label:<{LABEL}}", text, style, width, "$text-muted")


def _hanging(lead: str, text: str, style: str, width: int, lead_style: str = "") -> list[Line]:
    """A text whose further lines begin where its first word stands."""
    room = width - len(lead)
    lines = wrap(text, room, break_on_hyphens=False) if room >= LABEL else [text]
    return [
        ((lead if place == 0 else " " * len(lead), lead_style or style), (line, style))
        for place, line in enumerate(lines or [""])
    ]


def _variant(root: ModelRoot, standing: VariantStanding, width: int) -> list[Line]:
    variant = standing.variant
    where = f"{variant.folder.name}/  " if variant.folder != root.path else ""
    style = f"bold {STYLES[standing.word]}"
    title = f"{where}{standing.title}, {standing.word}"
    lines = _hanging(f"{SIGNS[standing.word]} ", title, style, width)
    lines += [_component(component) for component in variant.components.values()]
    return lines + _verdicts(standing.verdicts, width)


def _component(component: Component) -> Line:
    title = f"  {TITLES[component.kind]:<13} "
    return (title, ""), (f"{component.scheme:<5} {size(component.nbytes):>9}", "$text-muted")


def _loose(root: ModelRoot, width: int) -> list[Line]:
    """What lies beside the variants."""
    others = [(*_component(c), (f"  {c.files[0].name}", "")) for c in root.others if c.files]
    lines: list[Line] = [BLANK, _line("beside them", "bold"), *others] if others else []
    loras = [lora_in_words(lora) for lora in root.loras if lora.files]
    lines += [BLANK, _line("LoRAs", "bold")] if loras else []
    return lines + [line for lora in loras for line in _hanging("  ", lora, "", width)]


def nothing(places: Sequence[Path], skipped: Sequence[Skipped]) -> str:
    """Where was looked for models in vain, and what can be done."""
    looked = "\n".join(f"  {place}" for place in places)
    passed = "".join(f"\n\nskipped {item.path}: {item.reason}" for item in skipped)
    return printable(EMPTY.format(places=looked) + passed, keep="\n")


def _verdicts(told: Sequence[Verdict], width: int) -> list[Line]:
    """What is wrong, and below it what mends it: a command stays in one piece, to be copied."""
    lines: list[Line] = []
    for verdict in told:
        line, fix = in_words(verdict)
        style = "$text-muted" if verdict.state == "elsewhere" else "$warning"
        lines += _hanging("  ", line, style, width)
        if fix[:1].isupper():  # a sentence
            lines += _hanging("  → ", fix, "$accent", width)
        elif fix:
            lines.append(_line(f"  → {fix}", "$accent"))
    return lines
