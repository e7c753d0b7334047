"""The app: screens made when they are first shown, themes, one session, one error surface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import actions
from textual.actions import ActionParseResult
from textual.app import SystemCommand
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from lightx2v_tui import last_used, settings
from lightx2v_tui.messages import (
    ErrorMet,
    FolderAdded,
    FormLeft,
    ModelChosen,
    PresetOpened,
    RunEnded,
    RunWanted,
    WatchWanted,
)
from lightx2v_tui.screens.models import ModelsScreen
from lightx2v_tui.shell.coming_back import ReturningApp
from lightx2v_tui.widgets.says_why import SaysWhy

if TYPE_CHECKING:  # what is only needed once there is something to launch
    from engine.spec.errors import EngineError
    from engine.spec.events import Event
    from lightx2v_tui.launch.forecast import Held
    from lightx2v_tui.presets import Preset
    from lightx2v_tui.runs.history import PastRun
    from lightx2v_tui.runs.launcher import Launcher
    from lightx2v_tui.screens.run import RunScreen


class LightX2VApp(ReturningApp):
    """Models, launch, run."""

    TITLE = "lightx2v-tui"
    CSS_PATH = ["app.tcss", "screens/models.tcss"]  # the first screen's is not loaded for it
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (70, "-normal"), (110, "-wide")]
    BINDINGS = [
        Binding("question_mark,f1", "keys", "Keys", id="app.keys",
                tooltip="The keys of this screen; F1 while typing"),
        Binding("q", "leave", "Quit", id="app.quit", tooltip="Leave the app"),
        Binding("v", "view_run", "View", id="app.run",
                tooltip="Show the run, of this app or of another process"),
        Binding("h", "history", "History", id="app.history", tooltip="The runs so far"),
        Binding("comma,f2", "settings", "Settings", id="app.settings", show=False,
                tooltip="Theme, keys, folders, previews; F2 while typing"),
        Binding("ctrl+u", "unload", "Free memory", id="app.unload", show=False,
                tooltip="Unload the networks that stay loaded"),
        Binding("ctrl+q", "leave", "Quit", id="app.quit_always", show=False,
                tooltip="Leave the app, while typing too"),
        Binding("ctrl+z", "suspend_process", "Suspend", id="app.suspend", show=False,
                tooltip="Back to the shell, `fg` returns; a run stands still meanwhile"),
        Binding("ctrl+t", "next_theme", "Next theme", id="app.theme", show=False,
                tooltip="Switch to the next colour theme"),
    ]  # fmt: skip

    def __init__(
        self, places: Sequence[Path], make_preset: Callable[[], Preset] | None = None
    ) -> None:
        """Look for models in `places`; where there is a preset, its launch form opens.

        The preset is made after the first frame: reading a model's headers takes a moment.
        """
        super().__init__()
        self._places = places
        self._make_preset = make_preset

    def get_default_screen(self) -> ModelsScreen:
        """The models are the first screen."""
        return ModelsScreen(self._places)

    def on_mount(self) -> None:
        """Dress, and open the preset that was given."""
        self.dress()
        if self._make_preset is not None:
            self.call_after_refresh(self._open_preset, self._make_preset)

    @property
    def launcher(self) -> Launcher:
        """The one engine and its line of runs, made when it is first needed."""
        if self._launcher is None:
            from lightx2v_tui.runs.launcher import Launcher

            self._launcher = Launcher(self._tell_end, self.ask_user)
        return self._launcher

    def _tell_end(self, event: Event) -> None:
        self.post_message(RunEnded(event))

    def _held(self) -> Held:
        """What the engine holds already."""
        from lightx2v_tui.launch.forecast import Held

        return self._launcher.held() if self._launcher is not None else Held()

    def _open_preset(self, make: Callable[[], Preset], name: str = "") -> None:
        """Open the launch form on a preset that is made now."""
        from engine.spec.errors import EngineError

        try:
            self._show_preset(make(), name)
        except EngineError as error:
            self.show_error(error)

    def on_preset_opened(self, message: PresetOpened) -> None:
        """Open the launch form on a preset."""
        self._open_preset(lambda: message.preset, message.name)

    def _show_preset(self, preset: Preset, name: str) -> None:
        from engine.spec.errors import EngineError
        from lightx2v_tui.presets.root import model_of
        from lightx2v_tui.screens.launch import LaunchScreen

        root = model_of(preset)
        if root is None:
            why = str(preset.model_path or "the preset has no `model_path`")
            raise EngineError("The preset's model was not found", why, "Choose a model below.")
        self._remember(preset, own_folder=False)
        screen = LaunchScreen(root, preset, self._held, lambda: self.busy, name)
        if isinstance(self.screen, LaunchScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def on_model_chosen(self, message: ModelChosen) -> None:
        """Open the launch form on a model root, with the values last used for it."""
        from lightx2v_tui.screens.launch import LaunchScreen

        root = message.root
        used = last_used.for_model(root.path, root.dit_places)
        self.push_screen(LaunchScreen(root, used, self._held, lambda: self.busy))

    def on_form_left(self, message: FormLeft) -> None:
        """Keep what was typed for the next time."""
        self._remember(message.preset, own_folder=False)

    def on_run_wanted(self, message: RunWanted) -> None:
        """Start a planned job; ask first where another video would be lost."""
        from lightx2v_tui.launch.planning import replaced
        from lightx2v_tui.screens.dialogs import Question

        told = "" if message.own_folder else replaced(message.plan.job.output)
        if not told:
            self._start(message)
            return

        def take(yes: bool | None) -> None:
            if yes:
                self._start(message)

        self.push_screen(Question("Replace the video?", f"{told}."), take)

    def _start(self, message: RunWanted) -> None:
        """Run and show it; while another run is under way it waits in line."""
        if message.plan.notes:
            notes = "\n".join(message.plan.notes)
            self.notify(notes, title="Note", severity="warning", markup=False)
        self._remember(message.form or message.plan.preset, own_folder=message.own_folder)
        self.begin(
            lambda patient: self.launcher.want(
                message.plan, own_folder=message.own_folder, patient=patient
            )
        )

    def _remember(self, preset: Preset, *, own_folder: bool) -> None:
        """Keep what is used, for the next time and the next start."""
        if problem := last_used.remember(replace(preset, output=None) if own_folder else preset):
            self.notify(problem, severity="warning", markup=False)

    def action_view_run(self) -> None:
        """Show the run under way, or the last one; else one of another process."""
        from lightx2v_tui.screens.run import RunScreen

        run = self._under_cursor
        if run is not None and not run.is_own:
            self.post_message(WatchWanted(run))
            return
        if run is None and self._watches:
            self.watch_runs(self.elsewhere)
            return
        if self.launcher.run is None:
            return
        shown = self._run_screen()
        if shown is None:
            self.push_screen(RunScreen(self.launcher, self.launcher.run))
            return
        while self.screen is not shown:
            self.pop_screen()
        if shown.run_shown is not self.launcher.run:
            shown.show_run(self.launcher.run)

    def _run_screen(self) -> RunScreen | None:
        """The screen of the run, in front or behind others."""
        found = [screen for screen in self.screen_stack if screen.has_class("run")]
        return cast("RunScreen", found[0]) if found else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Hide the key of a run where there is none, and those of what is shown already."""
        if action == "history":
            return not self.screen.has_class("history")
        if action == "offers":
            return bool(self.early)
        if action != "view_run":
            return True
        if self._under_cursor is not None:
            return True
        ran = self._launcher is not None and self._launcher.run is not None
        return bool(self.elsewhere) if self._watches else ran and not self._shows("run")

    def _shows(self, kind: str) -> bool:
        """Say whether a screen is in front, behind dialogs alone."""
        front = [screen for screen in self.screen_stack if not screen.is_modal]
        return bool(front) and front[-1].has_class(kind)

    @property
    def _under_cursor(self) -> PastRun | None:
        """A run under way that somebody points at in the history."""
        run = getattr(self.screen, "current", None) if self.screen.has_class("history") else None
        return run if run is not None and run.status == "running" else None

    @property
    def _watches(self) -> bool:
        """True where `v` means a run of another process: none of this app is under way or new."""
        if not self.elsewhere or self._shows("watch"):
            return False
        return not self.busy or self._shows("run")

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Perform an action; one that cannot be done now says why."""
        done = await super().run_action(action, default_namespace, namespaces)
        place = self if default_namespace is None else default_namespace
        if not done and isinstance(place, SaysWhy):
            name = actions.parse(action)[1] if isinstance(action, str) else action[1]
            if reason := place.reason_against(name):
                self.notify(reason, severity="warning", markup=False)
                return True
        return done

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

    def on_cancel_wanted(self) -> None:
        """Cancel the run under way."""
        self.launcher.cancel()

    def on_pause_wanted(self) -> None:
        """Let the run wait, or go on."""
        if self.launcher.paused:
            self.launcher.resume()
        else:
            self.launcher.pause()

    def on_folder_added(self, message: FolderAdded) -> None:
        """Look in a folder, now and at the next start."""
        stored, _ = settings.load()
        roots = dict.fromkeys((*stored.roots, str(message.folder)))
        if problem := settings.change(roots=tuple(roots)):
            self.notify(problem, severity="warning", markup=False)
        for screen in self.screen_stack:
            if isinstance(screen, ModelsScreen):
                screen.look_in(message.folder)

    def on_models_changed(self) -> None:
        """Look at the disks again."""
        for screen in self.screen_stack:
            if isinstance(screen, ModelsScreen):
                screen.action_rescan()

    def on_error_met(self, message: ErrorMet) -> None:
        """Tell an error."""
        self.show_error(message.error, message.log)

    def show_error(self, error: EngineError, log: str = "") -> None:
        """The one way errors are told."""
        from lightx2v_tui.screens.dialogs import ErrorDialog

        open_already = next((s for s in self.screen_stack if isinstance(s, ErrorDialog)), None)
        if open_already is not None:
            open_already.add(error, log)
        else:
            self.push_screen(ErrorDialog(error, log))

    def on_run_ended(self, message: RunEnded) -> None:
        """Start the next in line, and hand the end to the run's screen; without it, tell it."""
        from lightx2v_tui.widgets.outcome import ending_of

        self.start_next()
        run, shown = self.launcher.take_ended(), self._run_screen()
        if shown is not None and run is not None:
            shown.run_ended(run)
        else:
            told = ending_of(message.event)
            self.notify(told.text, title=told.title, severity=told.severity, markup=False)

    def action_keys(self) -> None:
        """Show the keys of the screen."""
        from lightx2v_tui.screens.dialogs import Dialog, KeysHelp

        if not isinstance(self.screen, Dialog):
            screen: Screen[object] = self.screen
            self.push_screen(KeysHelp(screen))

    def action_history(self) -> None:
        """Show the runs so far."""
        from lightx2v_tui.screens.history import HistoryScreen

        self._show_once(HistoryScreen, lambda: HistoryScreen(self._held))

    def action_settings(self) -> None:
        """Show the settings."""
        from lightx2v_tui.screens.settings import SettingsScreen

        self._show_once(SettingsScreen, SettingsScreen)

    def _show_once(self, kind: type[Screen[None]], make: Callable[[], Screen[None]]) -> None:
        """Show a screen, going back to it where it lies under others."""
        if not any(isinstance(screen, kind) for screen in self.screen_stack):
            self.push_screen(make())
            return
        while not isinstance(self.screen, kind):
            self.pop_screen()

    def action_unload(self) -> None:
        """Let go of what stays loaded between runs."""
        freed = self.launcher.unload()
        self.notify("Nothing is loaded any more." if freed else "A run is under way.")
