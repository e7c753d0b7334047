"""One past run in words: its row in the table, and all that is known of it in the pane."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from engine.spec.errors import EngineError
from engine.spec.events import STAGES
from engine.spec.picture import Picture
from lightx2v_tui.output import printable
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import history
from lightx2v_tui.runs.history import PastRun
from lightx2v_tui.runs.watching import how_far
from lightx2v_tui.units import duration

#: How a run ended: its mark and its colour.
MARKS = {
    "done": ("✓", "$success"), "failed": ("✗", "$error"), "cancelled": ("○", "$secondary"),
    "interrupted": ("‖", "$warning"), "running": ("●", "$accent"),
}  # fmt: skip
OFFLOADS = {
    "cpu_offload": "everything through RAM", "t5_cpu_offload": "T5 in RAM",
    "clip_cpu_offload": "CLIP in RAM", "vae_cpu_offload": "VAE in RAM",
    "unload_modules": "networks unloaded after use",
}  # fmt: skip
THUMBNAIL = (96, 54)  # pixels, at most
Line = tuple[str, str]  # a text and its style


@dataclass(frozen=True)
class Column:
    """A column of the table; without a width it takes what is left."""

    title: str
    width: int


@dataclass(frozen=True)
class Detail:
    """What is read of one run when the cursor comes to it."""

    preset: Preset | None = None
    problem: str = ""
    picture: Picture | None = None
    has_log: bool = False
    has_video: bool = False


def columns(width: int) -> tuple[Column, ...]:
    """The columns for a table of so many cells; a narrow one has the most telling ones."""
    sized = [Column("", 1), Column("When", 6)]
    if width >= 66:
        sized += [Column("Model", 16 if width < 84 else 24)]
    if width >= 46:
        sized += [Column("Size", 11), Column("Steps", 5), Column("Time", 7)]
    spent = sum(column.width + 2 for column in sized)
    return (*sized, Column("Prompt", max(6, width - spent - 2)))


def row(run: PastRun, shown: tuple[Column, ...], now: float) -> list[Content]:
    """The cells of one run."""
    facts, (mark, colour) = run.facts, MARKS.get(run.status, ("?", ""))
    size = f"{facts.width}x{facts.height}x{facts.frames}" if facts.width else ""
    texts = {
        "When": history.ago(run.when, now),
        "Model": facts.model or "",
        "Size": size,
        "Steps": f"{run.step}/{run.steps}" if run.steps else "",
        "Time": duration(run.took(now)),
        "Prompt": facts.prompt or run.problem,
    }
    cells = [Content.styled(mark, f"bold {colour}")]
    for column in shown[1:]:
        text = cut(printable(" ".join(texts[column.title].split())), column.width)
        cells.append(Content(text))
    return cells


def cut(text: str, width: int) -> str:
    """A text that takes at most so many cells."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def haystack(run: PastRun) -> str:
    """What the filter looks in."""
    facts = run.facts
    size = f"{facts.width}x{facts.height}x{facts.frames}"
    words = (run.id, run.status, facts.model or "", size, f"seed {facts.seed}", facts.prompt)
    return " ".join((*words, run.error or "", run.output or "")).lower()


def look_at(run: PastRun) -> Detail:
    """Read what the pane shows of a run; what cannot be read is left out, or told."""
    from lightx2v_tui.pictures import read_picture  # av: 0.1 s

    preset, problem, picture = None, "", None
    try:
        preset = history.preset_of(run)
    except EngineError as error:
        problem = f"{error.what}: {error.why}"
    video = history.video_of(run)
    if video is not None:
        try:
            picture = read_picture(video, *THUMBNAIL)
        except EngineError as error:
            problem = problem or error.why
    has_log = os.path.isfile(run.log)  # noqa: PTH113 - a Path raises where it may not look
    return Detail(preset, problem, picture, has_log, video is not None)


def explain(run: PastRun, detail: Detail | None, now: float) -> Content:
    """Describe a run: how it ended, what made it, where everything is."""
    lines = [*_heading(run, now), *_ending(run, detail)]
    if detail is not None and detail.preset is not None:
        lines += [("", ""), *_settings(detail.preset)]
    if detail is not None and detail.problem:
        lines += [("", ""), (detail.problem, "$warning")]
    lines += [("", ""), *_prompt(run), ("", ""), *_places(run, detail)]
    return Content.assemble(
        *((f"{printable(text, keep=chr(10))}\n", style) for text, style in lines)
    )


def _heading(run: PastRun, now: float) -> Iterator[Line]:
    mark, colour = MARKS.get(run.status, ("?", ""))
    yield f"{mark} {run.status}, {_how_far(run, now)}", f"bold {colour}"
    began = time.strftime("%A %d %B %Y, %H:%M:%S", time.localtime(run.when))
    yield began, "$text-muted"


def _how_far(run: PastRun, now: float) -> str:
    took = duration(run.took(now))
    if run.status == "done":
        return f"made in {took}"
    stage = STAGES.get(run.stage or "", run.stage or "")
    steps = f", step {run.step} of {run.steps}" if run.stage == "denoise" and run.steps else ""
    where = f" in “{stage}”{steps}" if stage else ""
    return f"after {took}{where}"


def _ending(run: PastRun, detail: Detail | None) -> Iterator[Line]:
    if run.problem:
        yield run.problem, "$warning"
    if run.status == "interrupted" and not run.problem:
        yield "The app or the machine ended while it ran.", "$warning"
    if run.can_go_on:
        yield f"u goes on with it {'after ' + how_far(run) if run.kept else 'anew'}.", "$accent"
    if run.status == "running":
        yield "v shows it live.", "$accent"
    styles = ("bold $error", "", "$accent")
    yield from zip((run.error or "").splitlines()[:3], styles, strict=False)
    if run.status == "done" and detail is not None and not detail.has_video:
        yield "The video is not there any more.", "$warning"


def _settings(preset: Preset) -> Iterator[Line]:
    from lightx2v_tui.presets.library import details

    model = preset.model_path.name if preset.model_path else "no model is named"
    yield model, "bold"
    told = details(preset)
    prompt = " ".join((preset.prompt or "").split())
    yield from ((line, "") for line in told if line != printable(prompt))
    chosen = [words for name, words in OFFLOADS.items() if getattr(preset, name)]
    if chosen:
        yield ", ".join(chosen), ""


def _prompt(run: PastRun) -> Iterator[Line]:
    if run.facts.prompt:
        yield run.facts.prompt, "italic"


def _places(run: PastRun, detail: Detail | None) -> Iterator[Line]:
    has_video = detail is not None and detail.has_video
    if run.output and has_video:
        yield run.output, "bold"
    if not has_video or not (run.output or "").startswith(f"{run.folder}/"):
        yield str(run.folder), "$text-muted"
