"""The first screen: every model found on the disks, and what the one under the cursor holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.timer import Timer
from textual.widgets import DataTable, Static

from lightx2v_tui.messages import (
    DownloadOpened,
    ErrorMet,
    FolderAdded,
    MachineRead,
    ModelChosen,
    PresetOpened,
    RootsFound,
    ScanEnded,
)
from lightx2v_tui.output import printable
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.screens.model_list import ModelList
from lightx2v_tui.screens.model_table import ModelTable, rooms
from lightx2v_tui.screens.scanning import scan
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.bars import MachineBar, TitleBar
from lightx2v_tui.widgets.filter_line import FilterLine
from lightx2v_tui.widgets.key_bar import KeyBar
from lightx2v_tui.widgets.notice import Notice

if TYPE_CHECKING:  # the scan's thread imports it, after the first frame
    from lightx2v_tui.catalog import ModelRoot, Skipped
    from lightx2v_tui.catalog.walk import Looked
    from lightx2v_tui.gpus import Gpu
    from lightx2v_tui.presets import Preset
    from lightx2v_tui.screens.presets import PresetDialog

COUNT_SECONDS = 0.5  # between two figures of how far a scan is
MACHINE_SECONDS = 4.0  # between two readings of the GPUs


class ModelsScreen(AppScreen[None]):
    """The list of models and a pane that explains one."""

    VERTICAL_BREAKPOINTS = [(0, "-low"), (12, "-high")]
    BINDINGS = [
        Binding("slash", "filter", "Filter", id="models.filter",
                tooltip="Show only models whose name, task, precision or path holds some words"),
        Binding("r", "rescan", "Rescan", id="models.rescan", tooltip="Look at the disks again"),
        Binding("d", "download", "Download", id="models.download",
                tooltip="Fetch models from the Hugging Face hub, or see what is being fetched"),
        Binding("a,plus", "add_folder", "Add folder", id="models.add", show=False,
                tooltip="Look for models in one more folder, now and from now on"),
        Binding("o", "open_preset", "Open", id="models.preset",
                tooltip="Open a saved preset, a preset file, or the settings of a video"),
        Binding("u", "app.offers", "Go on", id="models.offers", show=False,
                tooltip="Go on with a run that ended early"),
        Binding("tab", "app.focus_next", "Details", id="models.details", show=False,
                tooltip="Go to the pane, to scroll it"),
        Binding("enter", "launch", "Launch", id="models.pick", show=False,
                tooltip="Choose precisions and launch, from the pane too"),
        Binding("y", "copy", "Copy fix", id="models.copy", show=False,
                tooltip="Copy the command that mends the model under the cursor"),
        Binding("escape", "stop", "Stop looking", id="models.stop", show=False,
                tooltip="End the filter; stop looking at the disks"),
    ]  # fmt: skip

    def __init__(self, places: Sequence[Path]) -> None:
        super().__init__()
        self._places = list(places)
        self._models = ModelList()
        self._notice = Notice(id="notice")  # may be told before it is on the screen
        self._gpu: Gpu | None = None
        self._ram: int | None = None  # bytes available, once they were read
        self._skipped: list[Skipped] = []
        self._stop = threading.Event()
        self._scanning = False
        self._looked: Looked | None = None
        self._scanned = ""  # how the last scan went
        self._download = ""  # how far a download is
        self._newest: Path | None = None  # the folder of the model last used
        self._machine: Timer | None = None
        self._listed = False  # whether there are rows

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        yield MachineBar()
        yield self._notice
        with Container(id="body"):
            with Vertical(id="list"):
                yield FilterLine()
                yield ModelTable(id="models")
            with VerticalScroll(id="detail", classes="panel"):
                yield Static(id="about", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Start looking."""
        self.query_one(TitleBar).place = "Models"
        self.query_one(ModelTable).focus()
        self.query_one(ModelTable).fit(rooms(self.app.size.width)[0])
        self._recall()
        self.call_after_refresh(self.action_rescan)
        self.set_interval(COUNT_SECONDS, self._count)

    def _recall(self) -> None:
        """Show what was found last in the first frame; the scan will confirm it."""
        from lightx2v_tui import last_used
        from lightx2v_tui.catalog import remembered

        self._newest = last_used.newest()
        places = [place.absolute() for place in self._places]
        for root in remembered.load():
            if any(root.path.absolute().is_relative_to(place) for place in places):
                self._models.put(root, confirmed=False)
        self._show()

    def on_unmount(self) -> None:
        """Stop looking."""
        self._stop.set()

    def reason_against(self, action: str) -> str:
        """What needs a model under the cursor, or something to stop."""
        if action == "copy" and not self._fix[:1].islower():  # a command, not a sentence
            return "There is no command that would mend anything here."
        if action == "filter" and not self._models.roots:
            return "There are no models to filter yet."
        return ""

    # the list

    def _show(self) -> None:
        """Draw what has changed in the list, and the pane."""
        from lightx2v_tui.screens.describe import row

        models, shown = self._models, self._models.shown()
        rows = {root.key: row(root, remembered=root.key in models.unconfirmed,
                              twin=models.is_twin(root)) for root in shown}  # fmt: skip
        newest = next((r.key for r in shown if r.path.absolute() == self._newest), "")
        self.query_one(ModelTable).show(rows, newest)
        self.query_one(FilterLine).count(len(shown), len(models.roots))
        self._explain_current()
        if bool(rows) != self._listed:
            self._listed = bool(rows)
            self.refresh_bindings()

    @on(ModelTable.Fitted)
    @on(DataTable.RowHighlighted)
    def _explain_current(self) -> None:
        root = self._current()
        if root is not None:
            self._explain(root)
        elif self._models.filter:
            self._say("Nothing matches", "No model holds all of these words.\n\nEscape shows all.")

    def on_resize(self) -> None:
        """The pane is wrapped to its width."""
        self.call_after_refresh(self._explain_current)

    def _current(self) -> ModelRoot | None:
        """The model under the cursor."""
        return self._models.roots.get(self.query_one(ModelTable).current)

    def _explain(self, root: ModelRoot) -> None:
        from lightx2v_tui.screens.describe import explain

        remembered = root.key in self._models.unconfirmed
        width = self.query_one("#detail").scrollable_content_region.width
        width = width or rooms(self.app.size.width)[1]
        about = explain(root, self._gpu, remembered=remembered, ram=self._ram, width=width)
        skipped = [
            ("\n" + printable(f"skipped {s.path}: {s.reason}"), "$text-muted")
            for s in self._skipped
        ]
        self._say(root.name, Content.assemble(about, *skipped))

    def _say(self, title: str, text: Content | str) -> None:
        panel = self.query_one("#detail")
        shown = escape(printable(title))
        if panel.border_title != shown:
            panel.border_title = shown
            panel.scroll_home(animate=False)
        content = Content(text) if isinstance(text, str) else text
        about = self.query_one("#about", Static)
        if about.content != content:
            about.update(content)

    def _explain_nothing(self) -> None:
        from lightx2v_tui.screens.describe import nothing

        self._say("Nothing found", nothing(self._places, self._skipped))

    # the filter

    def action_filter(self) -> None:
        """Filter as you type."""
        self.query_one(FilterLine).open()

    @on(FilterLine.Changed)
    def _on_filter(self, message: FilterLine.Changed) -> None:
        self._models.filter = message.text
        self._show()

    @on(FilterLine.Left)
    def _on_filter_left(self) -> None:
        self.query_one(ModelTable).focus()

    @on(FilterLine.Ended)
    def _on_filter_ended(self) -> None:
        self.query_one(FilterLine).close()

    # the scan

    def action_rescan(self) -> None:
        """Look at the disks again; what is on the screen stays until it is confirmed."""
        from lightx2v_tui.catalog.walk import Looked

        self._stop.set()
        self._stop, self._looked, self._scanning = threading.Event(), Looked(), True
        self._skipped.clear()
        self._models.doubt()
        self._show()
        self._tell_state()
        self._scan(self._stop, self._looked)

    def action_stop(self) -> None:
        """Leave the pane, or the filter; where there is none, stop looking."""
        if self.query_one("#detail").has_focus:
            self.query_one(ModelTable).focus()
        elif not self.query_one(FilterLine).close():
            self._stop.set()

    @work(thread=True, exit_on_error=False, group="scan")
    def _scan(self, stop: threading.Event, looked: Looked) -> None:
        self._read_machine()
        scan(self._places, stop, looked, self.post_message)

    def on_roots_found(self, message: RootsFound) -> None:
        """Add rows, or confirm those that are there."""
        from lightx2v_tui.catalog import Skipped

        if message.scan is not self._stop or not message.found:
            return  # of a scan before this one
        for found in message.found:
            if isinstance(found, Skipped):
                self._skipped.append(found)
            else:
                self._models.put(found, confirmed=True)
        self._show()

    def on_scan_ended(self, message: ScanEnded) -> None:
        """Say how it went; what was remembered and is not there any more goes."""
        if message.scan is not self._stop:
            return
        self._scanning = False
        if message.whole:
            self._models.drop(self._models.unconfirmed)
        count, missed = len(self._models.roots), len(self._skipped)
        skipped = f", {missed} folder{'' if missed == 1 else 's'} skipped" if missed else ""
        how = f"in {message.seconds:.1f} s" if message.whole else "so far; r looks again"
        self._scanned = f"{count} model{'' if count == 1 else 's'} {how}{skipped}"
        self._tell_state()
        self._show()
        if not count:
            self._explain_nothing()

    def _count(self) -> None:
        if self._scanning:
            self._tell_state()

    def _tell_state(self) -> None:
        """Say in the title how far the scan and a download are."""
        state = self._scanned
        if self._scanning:
            looked = self._looked
            seen = looked is not None and looked.folders
            state = "looking…" + (
                f" {looked.folders} folders, {looked.files} weight files" if seen and looked else ""
            )
        words = [state, self._download]
        self.query_one(TitleBar).state = "  ".join(word for word in words if word)

    # the machine

    @work(thread=True, exit_on_error=False, group="machine")
    def _read_machine(self) -> None:
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.host import read_memory

        self.post_message(MachineRead(read_gpus(), read_memory()))

    def on_machine_read(self, message: MachineRead) -> None:
        """Show what this machine has, where it has changed; without a GPU nothing ever does."""
        if not self.query_one(MachineBar).show(message.gpus, message.memory):
            return
        self._gpu = next(iter(message.gpus.gpus), None)
        self._ram = message.memory.available
        self._explain_current()
        if self._gpu is not None and self._machine is None:
            self._machine = self.set_interval(MACHINE_SECONDS, self._look_at_machine)

    def _look_at_machine(self) -> None:
        if self.is_active:
            self._read_machine()

    def tell_download(self, text: str) -> None:
        """Say in the title how far a download is."""
        self._download = text
        self._tell_state()

    def tell_notice(self, lines: Sequence[tuple[str, str]]) -> None:
        """Say what goes on elsewhere, and what can go on here."""
        self._notice.show(lines)

    # what can be done

    @on(DataTable.RowSelected)
    def action_launch(self) -> None:
        """Open the launch form on the model under the cursor."""
        root = self._current()
        if root is not None:
            in_background(self, lambda: os.path.isdir(root.path),  # noqa: PTH112 - raises never
                          lambda there: self._open(root, there=there))  # fmt: skip

    def _open(self, root: ModelRoot, *, there: bool) -> None:
        from engine.spec.errors import JobError
        from lightx2v_tui.catalog.standing import first_fix
        from lightx2v_tui.launch.runnable import reason_not_runnable

        if not there:
            fix = "The disks are looked at again now; mount its disk if it is missing."
            self.post_message(ErrorMet(JobError(f"{root.name} is gone", str(root.path), fix)))
            self.action_rescan()
        elif reason := reason_not_runnable(root):
            fix = first_fix(root) or "Choose another model."
            self.post_message(ErrorMet(JobError(f"{root.name} cannot run", reason, fix)))
        else:
            self.post_message(ModelChosen(root))

    def action_download(self) -> None:
        """Choose something to fetch: what the model lacks, or more of it, where it is published."""
        from lightx2v_tui.catalog.repositories import repository_of, source_of

        root = self._current()
        own, cached = repository_of(root.path) if root is not None else ("", False)
        repository = source_of(self._fix) or own
        place = root.path.parent if root is not None and repository and not cached else None
        self.post_message(DownloadOpened(repository, place))

    def action_add_folder(self) -> None:
        """Ask for one more folder to look in."""
        from lightx2v_tui.screens.add_folder import AddFolderDialog

        self.app.push_screen(AddFolderDialog(self._places), self._add_folder)

    def _add_folder(self, folder: Path | None) -> None:
        if folder is not None:
            self.post_message(FolderAdded(folder))

    def look_in(self, folder: Path) -> None:
        """Look in one more folder."""
        if folder not in self._places:
            self._places.insert(0, folder)
            self.action_rescan()

    def action_open_preset(self) -> None:
        """Let a preset be chosen, and open the launch form on it."""
        from lightx2v_tui.screens.presets import PresetDialog

        dialog = PresetDialog()
        self.app.push_screen(dialog, lambda preset: self._open_preset(dialog, preset))

    def _open_preset(self, dialog: PresetDialog, preset: Preset | None) -> None:
        if preset is not None:
            self.post_message(PresetOpened(preset, dialog.loaded))

    @property
    def _fix(self) -> str:
        """The first step that mends the model under the cursor."""
        from lightx2v_tui.catalog.standing import first_fix

        root = self._current()
        return first_fix(root) if root is not None else ""

    def action_copy(self) -> None:
        """Copy that step to the terminal's clipboard."""
        self.app.copy_to_clipboard(self._fix)
        self.notify(printable(self._fix), title="Copied, if your terminal allows it", markup=False)
