"""The launch form: a precision for each network, the prompt, the numbers, and one key to go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Button, Static

from engine.spec.errors import EngineError, JobError
from lightx2v_tui.catalog import TITLES, Kind, ModelRoot
from lightx2v_tui.launch import choices, form, planning
from lightx2v_tui.launch.choices import Choice
from lightx2v_tui.launch.forecast import Forecast, Held
from lightx2v_tui.messages import ErrorMet, FormLeft, PresetOpened, RunWanted
from lightx2v_tui.output import printable
from lightx2v_tui.presets import Preset
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.key_bar import KeyBar
from lightx2v_tui.widgets.launch_form import LaunchForm
from lightx2v_tui.widgets.verdict import Verdict

if TYPE_CHECKING:
    from textual.timer import Timer

    from lightx2v_tui.screens.presets import PresetDialog

FORECAST_SECONDS = 0.15  # after the last change
BUSY_SECONDS = 1.0
TINY, WIDE, ROOMY, SHORT = 38, 110, 150, 16
NO_IMAGE = "It turns an image into a video that begins with it."
IMAGE_FIX = "Name a PNG, JPEG or WebP file."


class LaunchScreen(AppScreen[None]):
    """Everything that is decided before a run."""

    CSS_PATH = "launch.tcss"
    BINDINGS = [
        Binding("ctrl+g,f5", "generate", "Generate", id="launch.generate", priority=True,
                tooltip="Make the video"),
        Binding("tab", "app.focus_next", "Next field", id="launch.next", show=False,
                tooltip="Go to the next field"),
        Binding("a,f4", "recommend", "Best", id="launch.recommend",
                tooltip="Pick the precisions recommended for this machine; F4 while typing"),
        Binding("ctrl+r", "draw_seed", "New seed", id="launch.seed", show=False,
                tooltip="Draw a new seed, which stays"),
        Binding("ctrl+s", "save", "Save", id="launch.save", tooltip="Save the values as a preset"),
        Binding("f12", "save_as", "Save as", id="launch.save_as", show=False,
                tooltip="Save these values as a preset of another name"),
        Binding("ctrl+o", "presets", "Presets", id="launch.presets",
                tooltip="Load, rename or delete saved presets"),
        Binding("escape", "back", "Back", id="launch.back", tooltip="Back to the models"),
    ]  # fmt: skip

    def __init__(
        self,
        root: ModelRoot,
        preset: Preset | None,
        held: Callable[[], Held] = Held,
        busy: Callable[[], bool] = bool,
        name: str = "",
    ) -> None:
        """Show a preset of a model; `name` is that of the saved preset it was loaded from."""
        super().__init__()
        self._root = root
        self._is_new = preset is None
        self._preset = preset or choices.preset_for(root, choices.recommended(root, None))
        self._before = self._preset  # anything was changed
        self._held, self._busy = held, busy
        self._saved_as = name
        self._asked = 0  # forecasts asked for
        self._soon: Timer | None = None

    def compose(self) -> ComposeResult:
        """Build the form."""
        yield TitleBar()
        with Container(id="body"):
            yield LaunchForm(self._root, self._preset)
            with Container(id="side") as side:
                side.border_title = "Will it fit?"
                with Container(id="told"):
                    yield Static(id="summary", markup=False)
                    yield Verdict()
                yield Button("Generate", id="generate", variant="primary", compact=True)
        yield KeyBar()

    def on_mount(self) -> None:
        """Fill what the machine decides; Enter generates at once."""
        self._arrange(self.app.size)
        self.query_one(TitleBar).place = f"{printable(self._root.name)} › Launch"
        reading = self.query_one(LaunchForm).read()
        self._show_summary(reading)
        self._before = reading.preset
        self.query_one(Button).focus()
        self.set_interval(BUSY_SECONDS, self._show_busy)
        if self._is_new:  # no GPU was asked yet: that takes a moment, and happens on a thread
            self._recommend(quietly=True)

    def on_resize(self, event: events.Resize) -> None:
        """Arrange the form for the terminal."""
        self._arrange(event.size)

    def _arrange(self, size: Size) -> None:
        self.set_class(size.width >= ROOMY, "-roomy")
        self.set_class(size.height < SHORT, "-short")
        self.set_class(size.width < TINY, "-tiny")
        self.query_one(Verdict).roomy = size.width >= WIDE

    def on_screen_resume(self) -> None:
        """Another run may be started from here; what is free may have changed meanwhile."""
        self.query_one(Button).disabled = False
        self._show_busy()
        self._show_summary(self.query_one(LaunchForm).read())

    def _show_busy(self) -> None:
        button, label = self.query_one(Button), "Queue" if self._busy() else "Generate"
        if str(button.label) != label:
            button.label = label

    @on(LaunchForm.Picked)
    def _on_picked(self) -> None:
        self._is_new = False

    @on(LaunchForm.Changed)
    def _on_changed(self, event: LaunchForm.Changed) -> None:
        self._show_summary(event.reading)

    @on(Button.Pressed, "#generate")
    def _on_generate(self) -> None:
        self.action_generate()

    def action_draw_seed(self) -> None:
        """Draw a new seed."""
        self.query_one(LaunchForm).show_seed(form.draw_seed())

    def action_recommend(self) -> None:
        """Pick what is recommended for this machine."""
        self._recommend(quietly=False)

    @work(thread=True, exit_on_error=False, group="recommend")
    def _recommend(self, *, quietly: bool) -> None:
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.host import read_memory

        gpu, ram = next(iter(read_gpus().gpus), None), read_memory().available
        best = choices.recommended(self._root, gpu, ram)
        why = choices.why_recommended(self._root, Kind.DIT, gpu, ram)
        self.app.call_from_thread(self._take_choice, best, why, quietly)

    def _take_choice(self, choice: Choice, why: str, quietly: bool) -> None:
        if quietly and not self._is_new:
            return  # the user was faster
        self.query_one(LaunchForm).show_choice(choice, why)
        if quietly:
            self._before = self.query_one(LaunchForm).read().preset
            return
        names = {Kind.DIT: choice.dit, Kind.T5: choice.t5, Kind.CLIP: choice.clip}
        picked = [f"{TITLES[kind]} {name.value}" for kind, name in names.items() if name]
        self.notify(", ".join(picked), title="Recommended for this machine", markup=False)

    def action_back(self) -> None:
        """Back to the models; what was changed is there the next time."""
        preset = self.query_one(LaunchForm).read().preset
        if preset != self._before:
            self.app.post_message(FormLeft(preset))  # this screen has no messages any more
        self.app.pop_screen()

    def action_generate(self) -> None:
        """Plan the job on a thread (it reads headers), then start it."""
        reading = self.query_one(LaunchForm).read()
        if reading.errors:
            name, why = next(iter(reading.errors.items()))
            self.query_one(LaunchForm).go_to(name)
            fix = "Correct it; it has the focus."
            self.post_message(ErrorMet(JobError("A field is not right", why, fix)))
            return
        preset = reading.preset
        if form.shape_of(preset).image and preset.image is None:
            self.query_one(LaunchForm).go_to("image")
            self.post_message(ErrorMet(JobError("This model needs an image", NO_IMAGE, IMAGE_FIX)))
            return
        if preset.random_seed:
            self.query_one(LaunchForm).show_seed(form.draw_seed(), random=True)
            preset = self.query_one(LaunchForm).read().preset
        self.query_one(Button).disabled = True
        self._plan(preset)

    @work(thread=True, exit_on_error=False, group="plan")
    def _plan(self, preset: Preset) -> None:
        try:
            # what ran is told by its seed: the form alone draws others
            plan, _ = planning.plan_here(replace(preset, random_seed=None), self._held())
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
            self.post_message(RunWanted(plan, own_folder=preset.output is None, form=preset))

    def _tell(self, error: EngineError) -> None:
        """Tell why there is no run; the next may be started at once."""
        self.app.call_from_thread(setattr, self.query_one(Button), "disabled", False)
        self.post_message(ErrorMet(error))

    @work(thread=True, exit_on_error=False, group="forecast")
    def _foresee(self, preset: Preset, asked: int) -> None:
        """Foresee the memory of a run; an answer to an older question is dropped."""
        from lightx2v_tui.launch.forecast import foresee

        told: Forecast | EngineError
        try:
            plan, machine = planning.plan_here(preset, self._held(), Path("the first frame"))
            told = foresee(plan.job, machine)
        except EngineError as error:
            told = error
        if asked == self._asked:
            self.app.call_from_thread(self._show_forecast, preset, told)

    def _show_forecast(self, preset: Preset, told: Forecast | EngineError) -> None:
        if not self.is_attached:
            return  # the form was left meanwhile
        verdict, adjusted = self.query_one(Verdict), ""
        if isinstance(told, EngineError):
            verdict.forecast, verdict.problem = None, told.what
        else:
            verdict.forecast = told
            size = (told.job.width, told.job.height)  # as the image is, where there is one
            adjusted = "" if size == (preset.width, preset.height) else "→{}x{}".format(*size)
        self.query_one(LaunchForm).show_adjusted(adjusted)

    def _show_summary(self, reading: form.Reading) -> None:
        lacking = form.shape_of(reading.preset).image and reading.preset.image is None
        text = NO_IMAGE if lacking and not reading.errors else form.summary(reading)
        summary = self.query_one("#summary", Static)
        summary.set_class(bool(reading.errors or lacking), "-wrong")
        summary.update(Content(text), layout=False)
        if reading.errors:
            self._asked += 1  # what was asked before is of other values
            verdict = self.query_one(Verdict)
            verdict.forecast, verdict.problem = None, ""
        if self._soon is not None:
            self._soon.stop()
        self._soon = self.set_timer(FORECAST_SECONDS, self._ask_forecast)

    def _ask_forecast(self) -> None:
        reading = self.query_one(LaunchForm).read()
        if not reading.errors:  # else the summary says so
            self._asked += 1
            self._foresee(reading.preset, self._asked)

    def action_save(self) -> None:
        """Save over the preset that was loaded or saved before; else ask for a name."""
        from lightx2v_tui import presets
        from lightx2v_tui.presets import library

        name = self._saved_as
        if not name or not presets.is_own(library.path_of(name)):
            self.action_save_as()
        elif (preset := self._savable()) is not None:
            try:
                self._on_saved(library.save(name, preset, replacing=True))
            except EngineError as error:
                self.post_message(ErrorMet(error))

    def action_save_as(self) -> None:
        """Ask for a name to save under."""
        from lightx2v_tui.screens.presets import SaveDialog

        if (preset := self._savable()) is not None:
            self.app.push_screen(SaveDialog(preset, self._saved_as), self._on_saved)

    def _savable(self) -> Preset | None:
        reading = self.query_one(LaunchForm).read()
        if reading.errors:
            self.notify(form.summary(reading), title="Not saved", severity="warning", markup=False)
            return None
        return reading.preset

    def _on_saved(self, path: Path | None) -> None:
        if path is not None:
            self._saved_as = path.stem
            self.notify(printable(path.stem), title="Saved", markup=False)

    def action_presets(self) -> None:
        """Load, rename or delete saved presets."""
        from lightx2v_tui.screens.presets import PresetDialog

        dialog = PresetDialog()
        self.app.push_screen(dialog, partial(self._on_loaded, dialog))

    def _on_loaded(self, dialog: PresetDialog, preset: Preset | None) -> None:
        if preset is not None:
            self.post_message(PresetOpened(preset, dialog.loaded))
