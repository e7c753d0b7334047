"""The LoRAs of a run: which are applied, how strongly, in which order, and what each fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input, Static

from engine.spec.errors import CheckpointError
from engine.spec.job import Lora
from engine.spec.lora_match import lora_match
from lightx2v_tui.catalog import ModelRoot
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded, short
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.lora_rows import Entry, LoraRows
from lightx2v_tui.widgets.path_input import PathInput


class LoraPanel(Vertical):
    """The LoRAs of a model, and those added by path."""

    DEFAULT_CSS = """
    LoraPanel { height: auto; width: 1fr; }
    LoraPanel VerticalScroll { height: auto; max-height: 8; }
    LoraPanel Static { height: auto; max-height: 3; color: $text-muted; display: none; }
    LoraPanel Static.-told { display: block; }
    LoraPanel Static.-problem { color: $text-warning; }
    LoraPanel PathInput { display: none; }
    LoraPanel.-adding PathInput { display: block; }
    """
    BINDINGS = [
        Binding("escape", "end_adding", "Leave it", show=False, id="loras.leave",
                tooltip="Add no LoRA"),
    ]  # fmt: skip

    class Changed(Message):
        """What is applied, how strongly, or in which order has changed."""

    def __init__(
        self,
        root: ModelRoot,
        loras: Sequence[Lora] = (),
        *,
        id: str | None = None,  # noqa: A002 - Textual's
    ) -> None:
        """List the LoRAs of a model, with those to be applied in front."""
        super().__init__(id=id)
        own = {component.files[0].absolute() for component in root.loras if component.files}
        wanted = tuple(
            Entry(lora.path, True, lora.strength, added=lora.path.absolute() not in own)
            for lora in loras
        )
        listed = {entry.path.absolute() for entry in wanted}
        self._entries = (*wanted, *(Entry(path) for path in sorted(own - listed)))
        self._dit: tuple[Path, ...] = ()
        self._told: tuple[Lora, ...] = tuple(loras)

    @property
    def loras(self) -> tuple[Lora, ...]:
        """What is applied, in order."""
        return tuple(Lora(entry.path, entry.strength) for entry in self._entries if entry.on)

    def show_dit(self, files: Sequence[Path]) -> None:
        """Tell what fits the DiT in these files."""
        if tuple(files) != self._dit:
            self._dit = tuple(files)
            self._match(self._entries)

    def compose(self) -> ComposeResult:
        """Build the list, the line that explains, and the field for a file."""
        with VerticalScroll(can_focus=False):
            yield LoraRows()
        yield Static(markup=False)
        yield PathInput(suffixes=(".safetensors",), placeholder="path of a .safetensors file",
                        compact=True)  # fmt: skip

    def on_mount(self) -> None:
        """Show what there is."""
        self._show()

    def on_resize(self) -> None:
        """What was added to the panel is to be seen."""
        if self.has_focus_within:
            self.call_after_refresh(self.scroll_visible, animate=False)

    @on(LoraRows.Edited)
    def _on_edited(self, event: LoraRows.Edited) -> None:
        event.stop()
        told = {entry.path: (entry.note, entry.problem) for entry in self._entries}
        self._take(
            tuple(
                replace(entry, note=told[entry.path][0], problem=told[entry.path][1])
                for entry in event.entries
            )
        )

    @on(LoraRows.Highlighted)
    def _on_highlighted(self, event: LoraRows.Highlighted) -> None:
        event.stop()
        if event.index >= 0:
            line = Region(0, event.index, 1, 1)
            self.query_one(VerticalScroll).scroll_to_region(line, animate=False)
        self._explain(event.index)

    @on(LoraRows.AddWanted)
    def _on_add_wanted(self, event: LoraRows.AddWanted) -> None:
        event.stop()
        self.add_class("-adding")
        self.query_one(PathInput).focus()

    @on(Input.Changed)
    def _on_typed(self, event: Input.Changed) -> None:
        event.stop()  # nothing of the form has changed yet

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if text:
            self._add(expanded(Path(text)).absolute())
        else:
            self.action_end_adding()

    def action_end_adding(self) -> None:
        """Close the field for a file."""
        self.remove_class("-adding")
        self.query_one(PathInput).value = ""
        self.query_one(LoraRows).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Leave Escape to others while no file is being added."""
        return action != "end_adding" or self.has_class("-adding")

    def _add(self, path: Path) -> None:
        rows = self.query_one(LoraRows)
        places = [entry.path.absolute() for entry in self._entries]
        if path in places:
            at = places.index(path)
            entries = (*self._entries[:at], replace(self._entries[at], on=True),
                       *self._entries[at + 1 :])  # fmt: skip
        else:
            at, entries = len(places), (*self._entries, Entry(path, on=True, added=True))
        self._take(entries)
        rows.cursor = at
        self._match((entries[at],))
        self.action_end_adding()

    def _take(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries
        self._show()
        if self.loras != self._told:
            self._told = self.loras
            self.post_message(self.Changed())

    def _show(self) -> None:
        rows = self.query_one(LoraRows)
        rows.entries = self._entries
        self._explain(rows.cursor if rows.has_focus else -1)

    def _explain(self, index: int) -> None:
        """Say of the entry under the cursor where it lies, or why it would not do."""
        told = self.query_one(Static)
        entry = self._entries[index] if 0 <= index < len(self._entries) else None
        told.set_class(entry is not None, "-told")
        if entry is not None:
            told.set_class(bool(entry.problem), "-problem")
            where = printable(f"in {short(entry.path.parent)}")
            said = entry.problem or entry.note
            told.update(Content(f"{said}\n{where}" if said else where))

    def _match(self, entries: Sequence[Entry]) -> None:
        dit = self._dit
        for path in dict.fromkeys(entry.path for entry in entries):

            def look(path: Path = path) -> tuple[Path, str, str]:
                return (path, *_matched(path, dit))

            def take(told: tuple[Path, str, str]) -> None:
                if dit == self._dit and self.is_mounted:
                    self._note(*told)

            in_background(self, look, take)

    def _note(self, path: Path, note: str, problem: str) -> None:
        self._entries = tuple(
            replace(entry, note=note, problem=problem) if entry.path == path else entry
            for entry in self._entries
        )
        self._show()


def _matched(path: Path, dit: tuple[Path, ...]) -> tuple[str, str]:
    """How a LoRA fits a DiT, in a few words, and why it would not do."""
    if not dit:
        return "", ""
    try:
        match = lora_match(path, dit)
    except CheckpointError as error:
        return "cannot be read", error.what
    if not match.problem:
        return f"{match.matched_keys} of {match.keys} keys", ""
    fits = "damaged" if match.matched else "fits nothing"
    return fits if match.dim_fits else "another size", match.problem
