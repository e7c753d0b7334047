"""The launch form: a precision for each network, the prompt, the numbers, and one key to go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Label, Static, TextArea

from engine.spec.errors import EngineError, JobError
from engine.spec.image_size import image_size
from engine.spec.job import MAX_SIZE, SIZE_STEP, fit_area, rounded_frames
from engine.spec.precision import Precision
from lightx2v_tui import choices, jobs, runnable
from lightx2v_tui.catalog import TITLES, Component, Kind, ModelRoot
from lightx2v_tui.choices import Choice
from lightx2v_tui.forecast import Held
from lightx2v_tui.messages import ErrorMet, RunWanted
from lightx2v_tui.paths import expanded
from lightx2v_tui.presets import Preset
from lightx2v_tui.units import size
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.matrix import Cell, Matrix, Row

if TYPE_CHECKING:
    from textual.timer import Timer

    from engine.spec.estimate import Machine

FORECAST_SECONDS = 0.15  # after the last change
DEFAULT_OUTPUT = "in the run's folder"
UNASKED = object()
#: What the choice of precisions decides; everything else stays as the preset has it.
FROM_CHOICE = (
    "model_path", "dit", "dit_precision", "t5", "t5_precision", "tokenizer", "clip",
    "clip_precision", "vae", "tiny_vae", "use_tiny_vae",
)  # fmt: skip
NAMES = {"infer_steps": "steps", "guidance_scale": "guidance"}
INTEGERS = ("width", "height", "frames", "fps", "seed", "infer_steps")
NUMBERS = ("guidance_scale", "shift")


class LaunchScreen(Screen[None]):
    """Everything that is decided before a run."""

    CSS_PATH = "launch.tcss"
    BINDINGS = [
        Binding("ctrl+g", "generate", "Generate", id="launch.generate", priority=True,
                tooltip="Make the video"),
        Binding("tab", "app.focus_next", "Next field", id="launch.next", show=False,
                tooltip="Go to the next field"),
        Binding("a", "recommend", "Recommended", id="launch.recommend",
                tooltip="Pick the precisions recommended for this machine"),
        Binding("escape", "back", "Models", id="launch.back", tooltip="Back to the models"),
    ]  # fmt: skip

    def __init__(
        self, root: ModelRoot, preset: Preset | None, held: Callable[[], Held] = Held
    ) -> None:
        super().__init__()
        self._root = root
        self._is_new = preset is None
        best = choices.recommended(root, None)
        self._preset = preset or choices.preset_for(root, best)
        self._choice = Choice(
            self._preset.dit_precision or best.dit,
            self._preset.t5_precision or best.t5,
            bool(self._preset.use_tiny_vae),
            self._preset.clip_precision or best.clip,
        )
        self._guided = bool(self._preset.enable_cfg)
        self._held = held
        self._asked = 0  # forecasts asked for
        self._soon: Timer | None = None

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
                        yield from _field("height", preset.height, "  by", second=True)
                    with Horizontal():
                        yield from _field("frames", preset.frames, "Frames")
                        yield from _field("fps", preset.fps, " fps", second=True)
                    with Horizontal():
                        yield from _field("seed", preset.seed, "Seed")
                    if self._guided:
                        with Horizontal():
                            yield from _field("infer_steps", preset.infer_steps, "Steps")
                            yield from _field("shift", preset.shift, " shift", second=True)
                        with Horizontal():
                            yield from _field("guidance_scale", preset.guidance_scale, "Guidance")
                    if self._root.task == "i2v":
                        yield from _path("image", preset.image, "Image", "PNG, JPEG or WebP")
                    yield from _path("output", preset.output, "Output", DEFAULT_OUTPUT)
            yield _editor("prompt", preset.prompt, "Prompt")
            if self._guided:
                yield _editor("negative", preset.negative_prompt, "Negative prompt")
        with Horizontal(id="go"):
            with Container(id="told"):
                yield Static(id="summary", markup=False)
                yield Static(id="forecast", markup=False)
            yield Button("Generate", id="generate", variant="primary", compact=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Fill the matrix; Enter generates at once."""
        self.query_one(TitleBar).place = f"{self._root.name} › Launch"
        for field in self.query(Input):
            field.cursor_blink = False
        self._show_choice()
        self.query_one(Button).focus()
        if self._is_new:  # no GPU was asked yet: that takes a moment, and happens on a thread
            self._recommend(quietly=True)

    def on_screen_resume(self) -> None:
        """Another run may be started from here; what is free may have changed meanwhile."""
        self.query_one(Button).disabled = False
        self._show_summary()

    @on(Matrix.Picked)
    def _on_picked(self, event: Matrix.Picked) -> None:
        self._is_new = False
        if event.row == TITLES[Kind.VAE]:
            self._choice = replace(self._choice, tiny_vae=event.value == "tiny")
        else:
            name = next(kind.value for kind, title in TITLES.items() if title == event.row)
            picked: dict[str, Any] = {name: Precision(event.value)}
            self._choice = replace(self._choice, **picked)
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
        self._recommend(quietly=False)

    @work(thread=True, exit_on_error=False, group="recommend")
    def _recommend(self, *, quietly: bool) -> None:
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.host import read_memory

        gpu = next(iter(read_gpus().gpus), None)
        best = choices.recommended(self._root, gpu, read_memory().available)
        self.app.call_from_thread(self._take_choice, best, quietly)

    def _take_choice(self, choice: Choice, quietly: bool) -> None:
        if quietly and not self._is_new:
            return  # the user was faster
        self._choice = choice
        self._show_choice()
        if quietly:
            return
        names = {Kind.DIT: choice.dit, Kind.T5: choice.t5, Kind.CLIP: choice.clip}
        picked = [f"{TITLES[kind]} {name.value}" for kind, name in names.items() if name]
        self.notify(", ".join(picked), title="Recommended for this machine", timeout=3)

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
        try:
            plan, _ = self._planned(preset)
        except EngineError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 - boundary: the form stays, and says what it was
            self._tell(
                EngineError(
                    "The run could not be planned",
                    f"{type(error).__name__}: {error}",
                    "Check the files of the model; lightx2v-tui scan looks at them.",
                )
            )
        else:
            self.post_message(RunWanted(plan, own_folder=preset.output is None))

    def _tell(self, error: EngineError) -> None:
        """Tell why there is no run; the next may be started at once."""
        self.app.call_from_thread(setattr, self.query_one(Button), "disabled", False)
        self.post_message(ErrorMet(error))

    def _planned(self, preset: Preset, stand_in: Path | None = None) -> tuple[jobs.Plan, Machine]:
        """Plan on what the machine has free now, and what the engine holds already."""
        from lightx2v_tui.forecast import machine_of
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.host import read_memory

        gpu = next(iter(read_gpus().gpus), None)
        machine = machine_of(gpu, read_memory(), self._held())
        output = (preset.output or Path("output.mp4")).absolute()
        options = replace(jobs.default_options(gpu), stand_in=stand_in)
        return jobs.plan(preset, options, output, gpu, machine), machine

    @work(thread=True, exit_on_error=False, group="forecast")
    def _foresee(self, preset: Preset, asked: int) -> None:
        """Foresee the memory of a run; an answer to an older question is dropped."""
        from lightx2v_tui.forecast import foresee

        try:
            plan, machine = self._planned(preset, stand_in=Path("the first frame"))
            told = "\n".join(foresee(plan.job, machine).lines())
        except EngineError:
            told = ""  # what is missing is said elsewhere on this form
        if asked == self._asked:
            self.app.call_from_thread(self._show_forecast, told)

    def _show_forecast(self, told: str) -> None:
        self.query_one("#forecast", Static).update(Content(told))

    def _filled(self) -> Preset:
        """The preset with what the form says.

        Raises:
            JobError: a number is not one.
        """
        found = choices.preset_for(self._root, self._choice)
        values: dict[str, Any] = {name: getattr(found, name) for name in FROM_CHOICE}
        for name in INTEGERS:
            values[name] = self._number(name, int, "a whole number")
        for name in NUMBERS:
            values[name] = self._number(name, float, "a number")
        for name in ("output", "image"):
            for field in self.query(f"#{name}").results(Input):
                text = field.value.strip()
                values[name] = expanded(Path(text)).absolute() if text else None
        values["prompt"] = self.query_one("#prompt", TextArea).text
        for editor in self.query("#negative").results(TextArea):
            values["negative_prompt"] = editor.text
        kept = {name: value for name, value in values.items() if value is not UNASKED}
        return replace(self._preset, **kept)

    def _number(self, name: str, kind: type[int] | type[float], expected: str) -> object:
        """What a field says; UNASKED where this form has no such field."""
        for field in self.query(f"#{name}").results(Input):
            text = field.value.strip()
            try:
                return kind(text)
            except ValueError:
                raise JobError(
                    f"{NAMES.get(name, name)} is not a number",
                    f"it needs {expected}, got {text!r}" if text else "it is empty",
                    f"Type {expected} into {NAMES.get(name, name)}.",
                ) from None
        return UNASKED

    def _show_choice(self) -> None:
        root, choice = self._root, self._choice
        rows = [_precision_row(root, kind, _picked(choice, kind)) for kind in runnable.needed(root)]
        vaes = tuple(
            Cell(value, label, runnable.reason_no_vae(root, tiny=value == "tiny"))
            for value, label in (("full", "full"), ("tiny", "tiny"))
        )
        vae = root.find(Kind.TINY_VAE if choice.tiny_vae else Kind.VAE)
        self.query_one(Matrix).rows = (*rows, Row("VAE", vaes, int(choice.tiny_vae), _size(vae)))
        self._show_summary()

    def _show_summary(self) -> None:
        loras = f"{len(self._preset.loras)} LoRA · " if self._preset.loras else ""
        self.query_one("#summary", Static).update(Content(f"{loras}{self._advice()}"))
        if self._soon is not None:
            self._soon.stop()
        self._soon = self.set_timer(FORECAST_SECONDS, self._ask_forecast)

    def _ask_forecast(self) -> None:
        self._asked += 1
        with suppress(JobError):  # a number that is none yet; the summary says so
            self._foresee(self._filled(), self._asked)

    def _advice(self) -> str:
        """What is wrong or adjusted in the numbers, as they are typed."""
        try:
            preset = self._filled()
        except JobError as error:
            return error.what
        for name, value in (("width", preset.width), ("height", preset.height)):
            if not value or not SIZE_STEP <= value <= MAX_SIZE or value % SIZE_STEP:
                return f"{name} must be a multiple of {SIZE_STEP}, up to {MAX_SIZE}"
        frames = preset.frames or 0
        if frames < 1:
            return "at least 1 frame"
        if self._root.task == "i2v" and preset.image is None:
            return "needs an image for the first frame"
        rounded = rounded_frames(frames)
        steps = len(preset.timesteps) if preset.timesteps else preset.infer_steps
        note = f" ({frames} rounded to 4k+1)" if rounded != frames else ""
        length = rounded / max(1, preset.fps or 1)
        return f"{steps} steps · {rounded} frames{note}, {length:.1f} s{self._fitted(preset)}"

    def _fitted(self, preset: Preset) -> str:
        """The size an image-to-video gets from its image."""
        if preset.image is None or not (preset.width and preset.height):
            return ""
        try:
            fitted = fit_area(image_size(preset.image), preset.width, preset.height)
        except JobError as error:
            return f" · {error.what}"
        same = fitted == (preset.width, preset.height)
        return "" if same else f" · {fitted[0]}x{fitted[1]}, as the image"


def _field(name: str, value: float | None, label: str, *, second: bool = False) -> ComposeResult:
    yield Label(label, classes="second" if second else "")
    shown = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    kind = "number" if name in NUMBERS else "integer"
    yield Input(shown, id=name, classes="number", type=kind, compact=True)  # type: ignore[arg-type] # one of Textual's literals


def _path(name: str, value: Path | None, label: str, hint: str) -> ComposeResult:
    with Horizontal():
        yield Label(label)
        yield Input(str(value or ""), placeholder=hint, id=name, compact=True)


def _editor(name: str, text: str | None, title: str) -> TextArea:
    editor = TextArea(text or "", id=name, classes="panel", soft_wrap=True, tab_behavior="focus")
    editor.border_title = title
    editor.cursor_blink = False
    return editor


def _picked(choice: Choice, kind: Kind) -> Precision:
    return {Kind.DIT: choice.dit, Kind.T5: choice.t5}.get(kind) or choice.clip or Precision.BF16


def _precision_row(root: ModelRoot, kind: Kind, picked: Precision) -> Row:
    cells = tuple(
        Cell(precision.value, precision.value, runnable.reason_not(root, kind, precision))
        for precision in runnable.ORDER
    )
    return Row(TITLES[kind], cells, runnable.ORDER.index(picked), _size(root.find(kind, picked)))


def _size(component: Component | None) -> str:
    return size(component.nbytes) if component else ""
