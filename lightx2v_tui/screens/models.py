"""The first screen: every model found on the disks, and what the one under the cursor holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from lightx2v_tui.messages import (
    ErrorMet,
    MachineRead,
    ModelChosen,
    RootsFound,
    ScanEnded,
)
from lightx2v_tui.output import printable
from lightx2v_tui.widgets.bars import MachineBar, TitleBar

if TYPE_CHECKING:  # the scan's thread imports it, after the first frame
    from engine.spec.errors import EngineError
    from lightx2v_tui.catalog import ModelRoot, Skipped
    from lightx2v_tui.gpus import Gpu

COLUMNS = {"Task": 7, "Size": 8, "Variants": 17}  # and the name takes what they leave
TELL_SECONDS = 0.15  # between two tellings of a scan: each draws the list, over SSH
EMPTY = """No models yet.

lightx2v-tui looks for Wan models as LightX2V, Wan-AI, ComfyUI and diffusers
lay them out, whole or in parts, in

{places}

Start it with --root DIR to look elsewhere, or try
`lightx2v-tui demo`: a tiny model made on the spot."""


class ModelTable(DataTable[Content]):
    """A table whose Enter is shown in the footer."""

    BINDINGS = [
        Binding("enter", "select_cursor", "Launch", id="models.open",
                tooltip="Choose precisions and launch"),
    ]  # fmt: skip


class ModelsScreen(Screen[None]):
    """The list of models and a pane that explains one."""

    BINDINGS = [
        Binding("r", "rescan", "Rescan", id="models.rescan", tooltip="Look at the disks again"),
        Binding("tab", "app.focus_next", "Details", id="models.details",
                tooltip="Go to the pane, to scroll it"),
    ]  # fmt: skip

    def __init__(self, places: Sequence[Path]) -> None:
        super().__init__()
        self._places = list(places)
        self._roots: dict[str, ModelRoot] = {}
        self._unconfirmed: set[str] = set()  # remembered from the last scan
        self._gpu: Gpu | None = None
        self._ram: int | None = None  # bytes available, once they were read
        self._skipped: list[Skipped] = []
        self._stop = threading.Event()
        self._wanted = ""  # the model the cursor was on before the table was filled anew

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        yield MachineBar()
        with Container(id="body"):
            yield ModelTable(id="models", cursor_type="row")
            with VerticalScroll(id="detail", classes="panel"):
                yield Static(id="about", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Start looking."""
        self.query_one(TitleBar).place = "Models"
        table = self.query_one(ModelTable)
        for name, width in (("Model", 44), *COLUMNS.items()):
            table.add_column(name, width=width, key=name)
        table.focus()
        self._recall()
        self.call_after_refresh(self.action_rescan)

    def _recall(self) -> None:
        """Show what was found last in the first frame; the scan will confirm it."""
        from lightx2v_tui.catalog import remembered

        places = [place.absolute() for place in self._places]
        for root in remembered.load():
            if any(root.path.absolute().is_relative_to(place) for place in places):
                self._roots[root.key] = root
                self._unconfirmed.add(root.key)
                self._show_row(root)
        self._explain_current()

    def on_unmount(self) -> None:
        """Stop looking."""
        self._stop.set()

    @on(events.Resize)
    def _on_resized(self) -> None:
        self.call_after_refresh(self._fit_name)

    def _fit_name(self) -> None:
        """Give the name what the other columns leave."""
        table = self.query_one(ModelTable)
        padding = 2 * table.cell_padding * (len(COLUMNS) + 1)
        bar = table.scrollbar_size_vertical or table.styles.scrollbar_size_vertical
        width = max(12, table.size.width - sum(COLUMNS.values()) - padding - 1 - bar)
        for column in table.columns.values():
            if column.key.value == "Model" and column.width != width:
                column.width = width
                self._empty_table()
                for root in self._roots.values():
                    self._show_row(root)

    def _empty_table(self) -> None:
        """Empty the table; the cursor comes back to its model when that is there again."""
        table = self.query_one(ModelTable)
        if table.row_count:
            key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key
            self._wanted = str(key.value)
        table.clear()

    def _show_row(self, root: ModelRoot) -> None:
        """Add the row of a model, or draw it anew where it stands."""
        from lightx2v_tui.screens.describe import row

        table = self.query_one(ModelTable)
        width = next(iter(table.columns.values())).width
        cells = row(root, width, remembered=root.key in self._unconfirmed, twin=self._is_twin(root))
        if root.key in {key.value for key in table.rows}:
            for column, cell in zip(table.columns, cells, strict=True):
                table.update_cell(root.key, column, cell)
            return
        table.add_row(*cells, key=root.key)
        if root.key == self._wanted:
            table.move_cursor(row=table.row_count - 1)

    def _is_twin(self, root: ModelRoot) -> bool:
        """Whether another model in the list has the same name."""
        return any(other.name == root.name for key, other in self._roots.items() if key != root.key)

    def action_rescan(self) -> None:
        """Look at the disks again; what is on the screen stays until it is confirmed."""
        self._stop.set()
        self._stop = threading.Event()
        self._skipped.clear()
        self._unconfirmed = set(self._roots)
        for root in self._roots.values():
            self._show_row(root)
        self.query_one(TitleBar).state = "looking…"
        self._scan(self._stop)

    @work(thread=True, exit_on_error=False, group="scan")
    def _scan(self, stop: threading.Event) -> None:
        from lightx2v_tui.catalog import ModelRoot, find_roots, remembered

        self._read_machine()
        started = told = time.perf_counter()
        roots: dict[str, ModelRoot] = {}
        skipped: list[Skipped] = []
        fresh: list[ModelRoot | Skipped] = []  # found since the screen was told
        try:
            for found in find_roots(self._places, stop):
                if isinstance(found, ModelRoot):
                    roots[found.key] = found
                else:
                    skipped.append(found)
                fresh.append(found)
                if time.perf_counter() - told > TELL_SECONDS:
                    self.post_message(RootsFound(fresh, stop))
                    told, fresh = time.perf_counter(), []
        except Exception as error:  # noqa: BLE001 - boundary: the app does not die from a scan
            self.post_message(ErrorMet(_stopped(error)))
        seconds = time.perf_counter() - started
        self.post_message(RootsFound(fresh, stop))
        self.post_message(ScanEnded(seconds, stop))
        if not stop.is_set():
            remembered.save([*roots.values()], skipped, seconds)

    @work(thread=True, exit_on_error=False, group="machine")
    def _read_machine(self) -> None:
        from lightx2v_tui.gpus import read_gpus
        from lightx2v_tui.host import read_memory

        self.post_message(MachineRead(read_gpus(), read_memory()))

    def on_machine_read(self, message: MachineRead) -> None:
        """Show what this machine has."""
        self.query_one(MachineBar).show(message.gpus, message.memory)
        self._gpu = next(iter(message.gpus.gpus), None)
        self._ram = message.memory.available
        self._explain_current()

    def on_roots_found(self, message: RootsFound) -> None:
        """Add rows, or confirm those that are there."""
        from lightx2v_tui.catalog import Skipped

        if message.scan is not self._stop:
            return  # of a scan before this one
        for found in message.found:
            if isinstance(found, Skipped):
                self._skipped.append(found)
                continue
            same = self._roots.get(found.key) == found and found.key not in self._unconfirmed
            self._roots[found.key] = found
            self._unconfirmed.discard(found.key)
            if not same:
                for root in [r for r in self._roots.values() if r.name == found.name]:
                    self._show_row(root)
        self._explain_current()

    def on_scan_ended(self, message: ScanEnded) -> None:
        """Say how it went; what was remembered and is not there any more goes."""
        if message.scan is not self._stop:
            return
        table = self.query_one(ModelTable)
        for key in self._unconfirmed:
            del self._roots[key]
            table.remove_row(key)
        self._unconfirmed.clear()
        self._explain_current()
        count = len(self._roots)
        missed = len(self._skipped)
        skipped = f", {missed} folder{'' if missed == 1 else 's'} skipped" if missed else ""
        self.query_one(
            TitleBar
        ).state = f"{count} model{'' if count == 1 else 's'} in {message.seconds:.1f} s{skipped}"
        if not count:
            self._explain_nothing()

    def _explain_nothing(self) -> None:
        self.query_one("#detail").border_title = "Nothing found"
        places = "\n".join(f"  {place}" for place in self._places)
        skipped = "".join(f"\n\nskipped {item.path}: {item.reason}" for item in self._skipped)
        text = EMPTY.format(places=places) + skipped
        self.query_one("#about", Static).update(Content(text))

    def _current(self) -> ModelRoot | None:
        """The model under the cursor."""
        table = self.query_one(ModelTable)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key
        return self._roots.get(str(key.value))

    def _explain_current(self) -> None:
        root = self._current()
        if root is not None:
            self._explain(root)

    @on(DataTable.RowHighlighted)
    def _on_highlight(self, event: DataTable.RowHighlighted) -> None:
        root = self._roots.get(str(event.row_key.value))
        if root is not None:
            self._explain(root)

    @on(DataTable.RowSelected)
    def _on_selected(self, event: DataTable.RowSelected) -> None:
        self._open(self._roots.get(str(event.row_key.value)))

    def _open(self, root: ModelRoot | None) -> None:
        if root is None:
            return
        from engine.spec.errors import JobError
        from lightx2v_tui.catalog.standing import first_fix
        from lightx2v_tui.runnable import reason_not_runnable

        reason = reason_not_runnable(root)
        if reason:
            fix = first_fix(root) or "Choose another model."
            self.post_message(ErrorMet(JobError(f"{root.name} cannot run", reason, fix)))
        else:
            self.post_message(ModelChosen(root))

    def _explain(self, root: ModelRoot) -> None:
        from lightx2v_tui.screens.describe import explain

        about = explain(root, self._gpu, remembered=root.key in self._unconfirmed, ram=self._ram)
        skipped = [
            ("\n" + printable(f"skipped {s.path}: {s.reason}"), "$text-muted")
            for s in self._skipped
        ]
        self.query_one("#detail").border_title = escape(printable(root.name))
        self.query_one("#about", Static).update(Content.assemble(about, *skipped))


def _stopped(error: Exception) -> EngineError:
    from engine.spec.errors import EngineError

    why = f"{type(error).__name__}: {error}".splitlines()[0]
    return EngineError(
        "The scan stopped", why, "What was found until then is listed; r looks again."
    )
