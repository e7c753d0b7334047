"""The run: stages, steps, memory, cancel, and the path of the result."""

from __future__ import annotations

import time
from collections import deque

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from engine.spec.events import STAGES, CancelledByUser, Done, Failed, describe_lora
from lightx2v_tui.jobs import Plan
from lightx2v_tui.messages import CancelWanted, ErrorMet, MachineRead, RunWanted
from lightx2v_tui.runs import RunFolder
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.tracker import RunView, StageView, Tracker
from lightx2v_tui.units import duration, seconds, size
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.meters import bar, history

INTERVAL = 0.5  # seconds between two drawings of the progress
METER_INTERVAL = 1.0
HISTORY = 240


class Line(Static):
    """One line that is sent to the terminal only when it says something new."""

    DEFAULT_CSS = "Line { height: 1; } Line.-unknown { display: none; }"
    _shown: Content | None = None

    def show(self, content: Content) -> None:
        """Show a line."""
        self.remove_class("-unknown")
        if content != self._shown:
            self._shown = content
            self.update(content)


class RunScreen(Screen[None]):
    """One run, live, and its end."""

    CSS_PATH = "run.tcss"
    BINDINGS = [
        Binding("c", "cancel", "Cancel", id="run.cancel", tooltip="Cancel this run"),
        Binding("r", "again", "Again", id="run.again", tooltip="Run again with the same seed"),
        Binding("n", "new_seed", "New seed", id="run.new_seed", tooltip="Run again, another seed"),
        Binding("y", "copy", "Copy", id="run.copy", tooltip="Copy the path of the video"),
        Binding("escape", "back", "Back", id="run.back", tooltip="Back; a run goes on"),
    ]

    def __init__(self, plan: Plan, folder: RunFolder, tracker: Tracker) -> None:
        super().__init__(classes="run")
        self._plan, self._folder, self._tracker = plan, folder, tracker
        self._ram: deque[float] = deque(maxlen=HISTORY)
        self._vram: deque[float] = deque(maxlen=HISTORY)
        self._cancelling = False
        self._error_is_new = False

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        with VerticalScroll(id="content"):
            with Container(id="progress", classes="panel") as panel:
                panel.border_title = "Progress"
                for stage in self._view.stages:
                    yield Line(id=f"stage-{stage.name}")
                yield Line(id="current")
                yield Line(id="lora", classes="-unknown")
            with Container(id="memory", classes="panel") as panel:
                panel.border_title = "Memory"
                yield Line(id="ram")
                yield Line(id="vram", classes="-unknown")
                yield Line(id="gpu", classes="-unknown")
            with Container(id="result", classes="panel") as panel:
                panel.border_title = "Video"
                yield Static(id="outcome", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Start drawing."""
        job = self._plan.job
        model = self._plan.preset.model_path
        self.query_one(TitleBar).place = f"{model.name if model else 'Run'} › Run"
        clip = f"CLIP {job.clip.precision.value}, " if job.clip else ""
        vae = "tiny VAE" if job.tiny_vae else "full VAE"
        facts = (
            f"{job.width}x{job.height}, {job.frames} frames at {job.fps} fps, seed {job.seed}\n"
            f"DiT {job.dit.precision.value}, T5 {job.t5.precision.value}, {clip}{vae}, "
            f"{job.device} {job.compute_dtype.value}\n"
        )
        self._facts = f"{facts}{job.prompt}"
        self.query_one("#outcome", Static).update(Content(self._facts))
        self._drawing = self.set_interval(INTERVAL, self._draw)
        self._metering = self.set_interval(METER_INTERVAL, self._read_machine)
        self._read_machine()
        self._draw()
        if self._view.terminal is not None:
            self._show_end()

    @property
    def _view(self) -> RunView:
        return self._tracker.view

    def _draw(self) -> None:
        now = time.monotonic()
        view = self._view
        if view.terminal is None:
            state = "cancelling…" if self._cancelling else "running"
            self.query_one(TitleBar).state = f"{state} {seconds(view.total(now))}"
        for stage in view.stages:
            self.query_one(f"#stage-{stage.name}", Line).show(
                _stage_line(stage, now, skipped=view.skipped(stage))
            )
        self.query_one("#current", Line).show(self._current_line(view, now))
        if view.loras:
            told = [f"{lora.path.name}: {describe_lora(lora)}" for lora in view.loras]
            self.query_one("#lora", Line).show(Content("LoRA " + "; ".join(told)))

    def _current_line(self, view: RunView, now: float) -> Content:
        stage = view.current
        if stage is not None and stage.name == "prepare":
            return Content("Loading PyTorch and transformers, once after each start…")
        if stage is None or not stage.total:
            return Content("")
        width = max(10, min(60, self.size.width - 44))
        text = f"{bar(stage.done / stage.total, width)} {_amount(stage)}"
        if stage.name == "denoise" and view.seconds_per_step is not None:
            text += f"  {view.seconds_per_step:.2f} s/it"
        remaining = view.remaining(now)
        return Content(text + (f"  ETA {seconds(remaining)}" if remaining is not None else ""))

    @work(thread=True, exit_on_error=False, group="machine")
    def _read_machine(self) -> None:
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.host import read_memory

        self.post_message(MachineRead(read_gpus(), read_memory()))

    def on_machine_read(self, message: MachineRead) -> None:
        """Draw the meters."""
        memory = message.memory
        self._ram.append(1 - memory.available / memory.total)
        width = max(8, min(30, self.size.width - 62))
        line = _meter("RAM ", self._ram, memory.total - memory.available, memory.total, width)
        self.query_one("#ram", Line).show(Content(f"{line} app {size(memory.process)}"))
        for gpu in message.gpus.gpus[:1]:
            if gpu.total_bytes:
                self._vram.append(gpu.used_bytes / gpu.total_bytes)
                line = _meter("VRAM", self._vram, gpu.used_bytes, gpu.total_bytes, width)
                self.query_one("#vram", Line).show(Content(line))
            readings = ((gpu.utilization, "% busy"), (gpu.temperature, "°C"), (gpu.power, "W"))
            facts = [f"{value:.0f} {unit}" for value, unit in readings if value is not None]
            self.query_one("#gpu", Line).show(Content(f"GPU  {gpu.name}  {'  '.join(facts)}"))

    def run_ended(self) -> None:
        """The engine is idle: show how the run ended, and what went wrong to whoever watches."""
        self._error_is_new = True
        if self.is_mounted:
            self._show_end()

    def _show_end(self) -> None:
        self._drawing.stop()
        self._metering.stop()
        self._draw()
        self._cancelling = False
        title, outcome = self.query_one(TitleBar), self.query_one("#outcome", Static)
        match self._view.terminal:
            case Done(path=path):
                total = duration(self._view.total(time.monotonic()))
                title.state = f"done in {total}"
                nbytes = path.stat().st_size if path.exists() else 0
                made = f"Made in {total}, seed {self._plan.job.seed}."
                outcome.update(
                    Content.assemble(
                        ("Saved ", "bold $success"),
                        (str(path), "bold"),
                        f"\n{size(nbytes)}. {made} y copies the path, for scp.\n\n{self._facts}",
                    )
                )
            case Failed(error=error):
                title.state = "failed"
                outcome.update(
                    Content.assemble(
                        (f"{error}\nlog: {self._folder.log}", "$error"), f"\n\n{self._facts}"
                    )
                )
                if self._error_is_new:
                    self.post_message(ErrorMet(error, str(self._folder.log)))
                self._error_is_new = False
            case CancelledByUser():
                title.state = "cancelled"
                outcome.update(Content(f"Cancelled; nothing was written.\n\n{self._facts}"))
        self.refresh_bindings()
        self.call_after_refresh(self.query_one("#result").scroll_visible, animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Grey out what cannot be done now."""
        busy = self._view.terminal is None
        allowed = {
            "cancel": busy,
            "again": not busy,
            "new_seed": not busy,
            "copy": isinstance(self._view.terminal, Done),
        }
        return True if allowed.get(action, True) else None

    def action_cancel(self) -> None:
        """Cancel, after asking."""
        text = "The video is not finished; nothing of it is kept."
        self.app.push_screen(Question("Cancel this run?", text), self._cancel)

    def _cancel(self, yes: bool | None) -> None:
        if yes and self._view.terminal is None:
            self._cancelling = True
            self.post_message(CancelWanted())
            self._draw()

    def action_again(self) -> None:
        """Run the same job again."""
        self._restart(self._plan)

    def action_new_seed(self) -> None:
        """Run again with the next random seed."""
        import secrets

        self._restart(self._plan.with_seed(secrets.randbelow(2**32)))

    def _restart(self, plan: Plan) -> None:
        own_folder = self._plan.job.output == self._folder.output
        self.post_message(RunWanted(plan, own_folder))

    def action_copy(self) -> None:
        """Copy the path of the video to the terminal's clipboard."""
        path = self._plan.job.output
        self.app.copy_to_clipboard(str(path))
        self.notify(str(path), title="Copied", markup=False)

    def action_back(self) -> None:
        """Back to the form; a run goes on and can be viewed again."""
        self.app.pop_screen()


def _meter(name: str, values: deque[float], used: int, total: int, width: int) -> str:
    amount = f"{size(used)} of {size(total)}"
    return f"{name} {bar(values[-1], width)} {amount:<20} {history(list(values), width // 2)}"


def _stage_line(stage: StageView, now: float, *, skipped: bool) -> Content:
    title = f"{STAGES[stage.name]:<24}"
    if skipped:
        return Content.assemble((f"✓ {title}", "$success"), " kept from the run before")
    if stage.started is None:
        return Content.styled(f"○ {title}", "dim")
    if stage.ended is None:
        spent = seconds(now - stage.started)
        return Content.assemble((f"● {title}", "bold $accent"), f" {spent}  {stage.detail}")
    spent = duration(stage.ended - stage.started)
    if stage.broken_off:
        return Content.assemble((f"✗ {title}", "$warning"), f" {spent}")
    return Content.assemble((f"✓ {title}", "$success"), f" {spent}")


def _amount(stage: StageView) -> str:
    if stage.name.startswith("load"):
        return f"{size(stage.done)} of {size(stage.total)}"
    unit = "step" if stage.name == "denoise" else "frame"
    return f"{unit} {stage.done}/{stage.total}"
