"""The app: screens made when they are first shown, themes, one session, one error surface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from lightx2v_tui import settings
from lightx2v_tui.messages import ErrorMet, ModelChosen, RunEnded, RunWanted
from lightx2v_tui.paths import themes_dir
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.themes import load_themes

if TYPE_CHECKING:  # what is only needed once there is something to launch
    from engine.spec.errors import EngineError
    from engine.spec.events import Event
    from lightx2v_tui.forecast import Held
    from lightx2v_tui.jobs import Plan
    from lightx2v_tui.presets import Preset
    from lightx2v_tui.runs import RunFolder
    from lightx2v_tui.session import Session
    from lightx2v_tui.tracker import Tracker

QUIT_SECONDS = 5.0  # how long leaving waits for the engine to notice that it should stop


class LightX2VApp(App[int]):
    """Models, launch, run."""

    TITLE = "lightx2v-tui"
    CSS_PATH = ["app.tcss", "screens/models.tcss"]  # the first screen's is not loaded for it
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (70, "-normal"), (110, "-wide")]
    BINDINGS = [
        Binding("question_mark,f1", "keys", "Keys", id="app.keys",
                tooltip="The keys of this screen; F1 while typing"),
        Binding("q", "leave", "Quit", id="app.quit", tooltip="Leave the app"),
        Binding("v", "view_run", "View run", id="app.run", tooltip="Show the run"),
        Binding("ctrl+u", "unload", "Free memory", id="app.unload", show=False,
                tooltip="Unload the networks that stay loaded"),
        Binding("ctrl+q", "leave", "Quit", id="app.quit_always", show=False),
        Binding("ctrl+t", "next_theme", "Theme", id="app.theme", show=False,
                tooltip="Switch to the next colour theme"),
    ]  # fmt: skip

    def __init__(
        self, places: Sequence[Path], make_preset: Callable[[], Preset] | None = None
    ) -> None:
        """Look for models in `places`; where there is a preset, its launch form opens.

        The preset is made after the first frame: reading a model's headers takes a moment.
        """
        super().__init__()
        self.animation_level = "none"  # every frame of an animation travels over SSH
        self._places = places
        self._make_preset = make_preset
        self._session: Session | None = None
        self._tracker: Tracker | None = None
        self._run: tuple[Plan, RunFolder] | None = None
        self._used: dict[Path, Preset] = {}

    def get_default_screen(self) -> ModelsScreen:
        """The models are the first screen."""
        return ModelsScreen(self._places)

    def on_mount(self) -> None:
        """Dress, and open the preset that was given."""
        self._load_themes()
        if self._make_preset is not None:
            self.call_after_refresh(self._open_preset, self._make_preset)

    @property
    def session(self) -> Session:
        """The one engine thread, made when it is first needed."""
        if self._session is None:
            from lightx2v_tui.session import Session

            self._session = Session(self._on_engine_event)
        return self._session

    def _held(self) -> Held:
        """What the engine holds already."""
        from lightx2v_tui.forecast import Held

        return self._session.held() if self._session is not None else Held()

    def _load_themes(self) -> None:
        themes, problems = load_themes(themes_dir())
        for theme in themes:
            self.register_theme(theme)
        stored, problem = settings.load()
        self.theme = stored.theme if stored.theme in self.available_themes else "textual-dark"
        problems += [problem] if problem else []
        if problems:
            self.notify("\n".join(problems), severity="warning", markup=False)
        self.theme_changed_signal.subscribe(self, lambda theme: settings.remember_theme(theme.name))

    def _open_preset(self, make: Callable[[], Preset]) -> None:
        """Open the launch form on a preset that names its model."""
        from engine.spec.errors import EngineError
        from lightx2v_tui.preset_root import model_of
        from lightx2v_tui.screens.launch import LaunchScreen

        try:
            preset = make()
            root = model_of(preset)
        except EngineError as error:
            self.show_error(error)
            return
        if root is None:
            why = str(preset.model_path or "the preset has no `model_path`")
            self.show_error(
                EngineError("The preset's model was not found", why, "Choose a model below.")
            )
            return
        self._remember(preset, own_folder=False)
        self.push_screen(LaunchScreen(root, preset, self._held))

    def on_model_chosen(self, message: ModelChosen) -> None:
        """Open the launch form on a model root, with the values last used for it."""
        from lightx2v_tui.screens.launch import LaunchScreen

        root = message.root
        used = self._used.get(root.path.absolute())
        same = used is not None and used.dit in root.dit_places  # several models share a folder
        self.push_screen(LaunchScreen(root, used if same else None, self._held))

    def on_run_wanted(self, message: RunWanted) -> None:
        """Start a planned job and show it; a run under way is shown instead."""
        from engine.spec.errors import EngineError
        from engine.spec.events import stages_of
        from lightx2v_tui.runs import RunRecord, new_run
        from lightx2v_tui.tracker import Tracker

        if self.session.busy:
            self.notify("A run is under way; this is it.")
            self.action_view_run()
            return
        plan = message.plan
        for note in plan.notes:
            self.notify(note, markup=False)
        try:
            folder = new_run()
            plan = plan.with_output(folder.output) if message.own_folder else plan
            record = RunRecord(folder, plan.preset)
        except (EngineError, OSError) as error:
            explained = EngineError("The run could not be recorded", str(error))
            self.show_error(error if isinstance(error, EngineError) else explained)
            return
        self._remember(plan.preset, own_folder=message.own_folder)
        self._run = (plan, folder)
        self._tracker = Tracker(stages_of(image=plan.job.image is not None))
        self.session.start(plan.job, folder, record)
        self.action_view_run()

    def _remember(self, preset: Preset, *, own_folder: bool) -> None:
        if preset.model_path is not None:
            used = replace(preset, output=None) if own_folder else preset
            self._used[preset.model_path.absolute()] = used

    def action_view_run(self) -> None:
        """Show the run under way, or the last one."""
        from lightx2v_tui.screens.run import RunScreen

        if self._run is None or self._tracker is None:
            return
        screen = RunScreen(*self._run, self._tracker)
        if isinstance(self.screen, RunScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Hide the key of a run where there is none, or where it is shown already."""
        shown = any(screen.has_class("run") for screen in self.screen_stack)
        return action != "view_run" or (self._run is not None and not shown)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Fill the command palette with Textual's commands and every key of the screen."""
        for command in super().get_system_commands(screen):
            if command.title not in ("Quit", "Keys"):
                yield command
        for action, active in {
            a.binding.action: a for a in screen.active_bindings.values()
        }.items():
            binding = active.binding
            if binding.tooltip and active.enabled:
                run = partial(self.run_action, action, active.node)
                yield SystemCommand(binding.description, binding.tooltip, run)

    async def action_quit(self) -> None:
        """Quit as `q` does, wherever the wish comes from."""
        self.action_leave()

    def on_cancel_wanted(self) -> None:
        """Cancel the run under way."""
        self.session.cancel()

    def on_error_met(self, message: ErrorMet) -> None:
        """Tell an error."""
        self.show_error(message.error, message.log)

    def show_error(self, error: EngineError, log: str = "") -> None:
        """The one way errors are told."""
        from lightx2v_tui.screens.dialogs import ErrorDialog

        self.push_screen(ErrorDialog(error, log))

    def _on_engine_event(self, event: Event) -> None:
        """Take an event on the engine's thread; screens look at the tracker when they draw."""
        from engine.spec.events import TERMINAL

        if self._tracker is not None:
            self._tracker.take(event)
        if isinstance(event, TERMINAL):
            self.post_message(RunEnded(event))

    def on_run_ended(self, message: RunEnded) -> None:
        """Hand the end of the run to whichever screen shows it."""
        from lightx2v_tui.screens.run import RunScreen

        for screen in self.screen_stack:
            if isinstance(screen, RunScreen):
                screen.run_ended()
                return
        self.notify(f"The run ended: {message.event.kind}", markup=False)

    def action_keys(self) -> None:
        """Show the keys of the screen."""
        from lightx2v_tui.screens.dialogs import Dialog, KeysHelp

        if not isinstance(self.screen, Dialog):
            screen: Screen[object] = self.screen
            self.push_screen(KeysHelp(screen))

    def action_next_theme(self) -> None:
        """Switch to the next theme of our own."""
        names = [theme.name for theme in load_themes(themes_dir())[0]]
        if names:
            here = names.index(self.theme) if self.theme in names else -1
            self.theme = names[(here + 1) % len(names)]
            self.notify(self.theme, title="Theme", timeout=2)

    def action_unload(self) -> None:
        """Let go of what stays loaded between runs."""
        freed = self.session.unload()
        self.notify("Nothing is loaded any more." if freed else "A run is under way.")

    def action_leave(self) -> None:
        """Quit, asking first where a run is under way."""
        from lightx2v_tui.screens.dialogs import Question

        if self.session.busy:
            text = "A video is being made. Quitting cancels it and nothing of it is kept."
            self.push_screen(Question("Quit and cancel the run?", text), self._leave)
        else:
            self._leave(True)

    def _leave(self, yes: bool | None) -> None:
        if yes:
            self.session.cancel()
            self.exit(0)

    def on_unmount(self) -> None:
        """Let the engine end before the process does."""
        if self._session is not None:
            self._session.cancel()
            self._session.wait(QUIT_SECONDS)
