"""The stages of a run, one line each, the one under way with its bar; below it what it does."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from engine.spec.events import STAGES, LoraApplied, describe_lora
from lightx2v_tui.output import printable
from lightx2v_tui.runs.tracker import RunView, StageView
from lightx2v_tui.units import duration, seconds, size
from lightx2v_tui.widgets.lines import Line
from lightx2v_tui.widgets.meters import bar

TITLE, TIME = 23, 8
SHORTEST_BAR, LONGEST_BAR = 6, 40


class StageList(Vertical):
    """Every stage of one run."""

    DEFAULT_CSS = """
    StageList { height: auto; }
    StageList #now { color: $primary; }
    StageList #loras { color: $text-muted; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel")
        self.border_title = "Progress"
        self._loras: tuple[LoraApplied, ...] | None = None

    def compose(self) -> ComposeResult:
        """Build a line for every stage that there can be."""
        for name in STAGES:
            yield Line(id=f"stage-{name}")
        yield Line(id="now")
        yield Static(id="loras", markup=False)

    @property
    def rows(self) -> int:
        """Lines that it takes, with its border."""
        return 2 + sum(max(1, each.size.height) for each in self.children if each.display)

    def show(self, view: RunView, now: float) -> None:
        """Show how far a run is."""
        there = {stage.name: stage for stage in view.stages}
        width = self.content_size.width
        for name in STAGES:
            line = self.query_one(f"#stage-{name}", Line)
            if name in there:
                line.show(stage_line(view, there[name], view.at(now), width))
            else:
                line.hide()
        line = self.query_one("#now", Line)
        if view.terminal is None:
            line.show(Content(_cut(now_line(view, now), width)))
        else:
            line.hide()
        if view.loras != self._loras:
            self._loras = view.loras
            loras = self.query_one("#loras", Static)
            told = [
                f"LoRA {printable(lora.path.name)}: {describe_lora(lora)}" for lora in view.loras
            ]
            loras.update(Content("\n".join(told)))
            loras.display = bool(told)


def stage_line(view: RunView, stage: StageView, now: float, width: int) -> Content:
    """One stage: whether it is done, how long it takes, and how far it is or what it did."""
    title = f"{STAGES[stage.name]:<{TITLE}}"
    if view.skipped(stage):
        return Content.assemble((f"✓ {title}", "$success"), (" kept from before", "$text-muted"))
    if stage.started is None:
        return Content.styled(f"○ {title}", "$text-muted")
    if stage.ended is None:
        spent = f"{seconds(now - stage.started):>{TIME}}  "
        room = min(LONGEST_BAR, width - 2 - TITLE - len(spent))
        drawn = ""
        if stage.total and room >= SHORTEST_BAR:
            drawn = bar(stage.done / stage.total, room)
        return Content.assemble((f"● {title}", "bold $accent"), spent, (drawn, "$primary"))
    spent = f"{duration(stage.ended - stage.started):>{TIME}}"
    if stage.broken_off:
        return Content.assemble((f"✗ {title}", "$warning"), spent)
    result = _result(view, stage)
    return Content.assemble((f"✓ {title}", "$success"), spent, (f"  {result}", "$text-muted"))


def _result(view: RunView, stage: StageView) -> str:
    """What a stage that has ended did."""
    if not stage.done:
        return ""
    if stage.name == "denoise" and view.seconds_per_step is not None:
        return f"{stage.done} × {view.seconds_per_step:.2f} s"
    return f"{stage.done} frames" if stage.name == "decode" else size(stage.done)


def now_line(view: RunView, now: float) -> str:
    """What the stage under way does, how fast, and when it ends."""
    stage = view.current
    if view.paused is not None:
        return "Paused; space lets it go on."
    if stage is None or stage.started is None:
        return ""
    if stage.name == "prepare":
        return "Loading PyTorch, once after each start…"
    if not stage.total:
        return ""
    remaining = view.remaining(now)
    parts = [*_doing(view, stage, now - stage.started)]
    parts += [f"ETA {seconds(remaining)}"] if remaining is not None else []
    return "  ".join(parts)


def _doing(view: RunView, stage: StageView, spent: float) -> list[str]:
    if stage.name == "denoise":
        speed = view.seconds_per_step
        return [f"step {stage.done}/{stage.total}", *([f"{speed:.2f} s/it"] if speed else [])]
    if stage.name == "decode":
        speed = stage.done / spent if spent > 0 else 0.0
        return [f"frame {stage.done}/{stage.total}", *([f"{speed:.1f} frames/s"] if speed else [])]
    amount = f"{size(stage.done)} of {size(stage.total)}"
    return [amount, *([printable(stage.detail)] if stage.detail else [])]


def _cut(text: str, width: int) -> str:
    """Text in one line; its end, where the ETA is, matters more than a long file name."""
    if width < 2 or len(text) <= width:
        return text
    head = width // 3
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"
