"""The launch form: a precision for each network, the prompt, the numbers, and one key to go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Label, Static, TextArea

from engine.spec.errors import EngineError, JobError
from engine.spec.job import rounded_frames
from engine.spec.precision import Precision
from lightx2v_tui import choices, jobs
from lightx2v_tui.catalog import Component, Kind, ModelRoot
from lightx2v_tui.choices import Choice
from lightx2v_tui.messages import ErrorMet, RunWanted
from lightx2v_tui.presets import Preset
from lightx2v_tui.units import size
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.matrix import Cell, Matrix, Row

DEFAULT_OUTPUT = "in the run's folder"
FIELDS = ("width", "height", "frames", "fps", "seed")


class LaunchScreen(Screen[None]):
    """Everything that is decided before a run."""

    CSS_PATH = "launch.tcss"
    BINDINGS = [
        Binding("ctrl+g", "generate", "Generate", id="launch.generate", priority=True,
                tooltip="Make the video"),
        Binding("a", "recommend", "Recommended", id="launch.recommend",
                tooltip="Pick the precisions recommended for this machine"),
        Binding("escape", "back", "Models", id="launch.back", tooltip="Back to the models"),
    ]  # fmt: skip

    def __init__(self, root: ModelRoot, preset: Preset | None) -> None:
        super().__init__()
        self._root = root
        best = choices.recommended(root, None)
        self._preset = preset or choices.preset_for(root, best)
        self._choice = Choice(
            self._preset.dit_precision or best.dit,
            self._preset.t5_precision or best.t5,
            bool(self._preset.use_tiny_vae),
        )

    def compose(self) -> ComposeResult:
        """Build the form."""
        preset = self._preset
        yield TitleBar()
        with VerticalScroll(id="form", can_focus=False):
            with Container(id="top"):
                with Container(id="precision", classes="panel") as panel:
                    panel.border_title = "Precision"
                    yield Matrix(id="matrix")
                    yield Static(id="reason", markup=False)
                with Container(id="video", classes="panel") as panel:
                    panel.border_title = "Video"
                    with Horizontal():
                        yield from _field("width", preset.width, "Size")
                        yield from _field("height", preset.height, "  by")
                    with Horizontal():
                        yield from _field("frames", preset.frames, "Frames")
                        yield from _field("fps", preset.fps, "at fps")
                    with Horizontal():
                        yield from _field("seed", preset.seed, "Seed")
                    with Horizontal():
                        yield Label("Output")
                        yield Input(
                            str(preset.output or ""),
                            placeholder=DEFAULT_OUTPUT,
                            id="output",
                            compact=True,
                        )
            prompt = TextArea(preset.prompt or "", id="prompt", classes="panel", compact=False)
            prompt.border_title = "Prompt"
            prompt.cursor_blink = False
            prompt.show_line_numbers = False
            prompt.soft_wrap = True
            prompt.tab_behavior = "focus"
            yield prompt
        with Horizontal(id="go"):
            yield Static(id="summary", markup=False)
            yield Button("Generate", id="generate", variant="primary", compact=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Fill the matrix; Enter generates at once."""
        self.query_one(TitleBar).place = f"{self._root.name} › Launch"
        for field in self.query(Input):
            field.cursor_blink = False
        self._show_choice()
        self.query_one(Button).focus()

    def on_screen_resume(self) -> None:
        """Another run may be started from here."""
        self.query_one(Button).disabled = False

    @on(Matrix.Picked)
    def _on_picked(self, event: Matrix.Picked) -> None:
        if event.row == "VAE":
            self._choice = replace(self._choice, tiny_vae=event.value == "tiny")
        else:
            picked = Precision(event.value)
            self._choice = (
                replace(self._choice, dit=picked)
                if event.row == "DiT"
                else replace(self._choice, t5=picked)
            )
        self._show_choice()

    @on(Matrix.Highlighted)
    def _on_highlighted(self, event: Matrix.Highlighted) -> None:
        self.query_one("#reason", Static).update(Content(event.reason))

    @on(Input.Changed)
    def _on_changed(self) -> None:
        self._show_summary()

    @on(Input.Submitted)
    def _on_submitted(self) -> None:
        self.focus_next()

    @on(Button.Pressed, "#generate")
    def _on_generate(self) -> None:
        self.action_generate()

    def action_recommend(self) -> None:
        """Pick what is recommended for this machine."""
        self._recommend()

    @work(thread=True, exit_on_error=False, group="recommend")
    def _recommend(self) -> None:
        from lightx2v_tui.gpus import read_gpus

        best = choices.recommended(self._root, next(iter(read_gpus().gpus), None))
        self.app.call_from_thread(self._take_choice, best)

    def _take_choice(self, choice: Choice) -> None:
        self._choice = choice
        self._show_choice()

    def action_back(self) -> None:
        """Back to the models."""
        self.app.pop_screen()

    def action_generate(self) -> None:
        """Plan the job on a thread (it reads headers), then start it."""
        try:
            preset = self._filled()
        except JobError as error:
            self.post_message(ErrorMet(error))
            return
        self.query_one(Button).disabled = True
        self._plan(preset)

    @work(thread=True, exit_on_error=False, group="plan")
    def _plan(self, preset: Preset) -> None:
        from lightx2v_tui.gpus import read_gpus

        gpu = next(iter(read_gpus().gpus), None)
        try:
            output = (preset.output or Path("output.mp4")).expanduser().absolute()
            plan = jobs.plan(preset, jobs.default_options(gpu), output, gpu)
        except EngineError as error:
            self.post_message(ErrorMet(error))
        else:
            self.post_message(RunWanted(plan, own_folder=preset.output is None))

    def _filled(self) -> Preset:
        """The preset with what the form says.

        Raises:
            JobError: a number is not one.
        """
        base = choices.preset_for(self._root, self._choice)
        values: dict[str, object] = {}
        for name in FIELDS:
            text = self.query_one(f"#{name}", Input).value.strip()
            try:
                values[name] = int(text)
            except ValueError:
                raise JobError(
                    f"{name} is not a number",
                    f"it needs a whole number, got {text!r}" if text else "it is empty",
                    f"Type a whole number into {name}.",
                ) from None
        output = self.query_one("#output", Input).value.strip()
        values["prompt"] = self.query_one(TextArea).text
        values["output"] = Path(output) if output else None
        kept = self._preset
        return replace(
            base,
            **values,  # type: ignore[arg-type] # FIELDS are whole numbers of Preset
            negative_prompt=kept.negative_prompt,
            timesteps=kept.timesteps,
            infer_steps=kept.infer_steps,
            shift=kept.shift,
            extra={**base.extra, **kept.extra},
        )

    def _show_choice(self) -> None:
        root, choice = self._root, self._choice
        rows = [
            _precision_row(root, kind, picked)
            for kind, picked in ((Kind.DIT, choice.dit), (Kind.T5, choice.t5))
        ]
        vaes = tuple(
            Cell(value, label, choices.reason_no_vae(root, tiny=value == "tiny"))
            for value, label in (("full", "full"), ("tiny", "tiny"))
        )
        vae = root.find(Kind.TINY_VAE if choice.tiny_vae else Kind.VAE)
        self.query_one(Matrix).rows = (*rows, Row("VAE", vaes, int(choice.tiny_vae), _size(vae)))
        self._show_summary()

    def _show_summary(self) -> None:
        root, choice = self._root, self._choice
        vae = Kind.TINY_VAE if choice.tiny_vae else Kind.VAE
        parts = [root.find(Kind.DIT, choice.dit), root.find(Kind.T5, choice.t5), root.find(vae)]
        nbytes = sum(part.nbytes for part in parts if part)
        text = f"{size(nbytes)} of weights, {len(choices.DISTILLED_STEPS)} steps"
        self.query_one("#summary", Static).update(Content(f"{text}{self._advice()}"))

    def _advice(self) -> str:
        """What is wrong or adjusted in the numbers, as they are typed."""
        try:
            preset = self._filled()
        except JobError as error:
            return f" · {error.what}"
        for name, value in (("width", preset.width), ("height", preset.height)):
            if not value or value < 16 or value % 16:
                return f" · {name} must be a multiple of 16"
        frames = preset.frames or 0
        if frames < 1:
            return " · at least 1 frame"
        rounded = rounded_frames(frames)
        note = f" ({frames} rounded to 4k+1)" if rounded != frames else ""
        return f" · {rounded} frames{note}, {rounded / max(1, preset.fps or 1):.1f} s of video"


def _field(name: str, value: int | None, label: str) -> ComposeResult:
    yield Label(label)
    shown = "" if value is None else str(value)
    yield Input(shown, id=name, classes="number", type="integer", compact=True)


def _precision_row(root: ModelRoot, kind: Kind, picked: Precision) -> Row:
    cells = tuple(
        Cell(precision.value, precision.value, choices.reason_not(root, kind, precision))
        for precision in choices.ORDER
    )
    title = "DiT" if kind is Kind.DIT else "T5"
    return Row(title, cells, choices.ORDER.index(picked), _size(root.find(kind, picked)))


def _size(component: Component | None) -> str:
    return size(component.nbytes) if component else ""
