"""Saved presets: load, rename, delete and save them, or open any preset file or video."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.spec.errors import EngineError
from lightx2v_tui.output import printable
from lightx2v_tui.presets import Preset, library
from lightx2v_tui.presets.library import ExistsError, SavedPreset
from lightx2v_tui.runs.history import ago
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.path_input import PathInput
from lightx2v_tui.widgets.says_why import SaysWhy

NAME_WIDTH = 24
NONE_YET = "No presets are saved yet: ctrl+s in the launch form saves one."
FILE_FIELD = "or the path of a preset, or of an mp4"
HINT = "enter load   / filter   r rename   d delete   o file   esc close"
FILE_HINT = "enter opens a file   tab completes its path   esc close"


@dataclass(frozen=True)
class Opened:
    """What came of opening a file."""

    preset: Preset | None = None
    error: EngineError | None = None


class PresetDialog(SaysWhy, ModalScreen[Preset | None]):
    """The saved presets, and a field for any other file; gives the preset to load."""

    CSS_PATH = "presets.tcss"
    AUTO_FOCUS = "#saved"
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]
    BINDINGS = [
        Binding("slash", "filter", "Filter", id="presets.filter",
                tooltip="Show the presets whose name, model or prompt holds what is typed"),
        Binding("r,f2", "rename", "Rename", id="presets.rename",
                tooltip="Give the preset another name"),
        Binding("d,delete", "delete", "Delete", id="presets.delete",
                tooltip="Delete the preset; you are asked first"),
        Binding("o", "file", "Open file", id="presets.file",
                tooltip="Open a preset file, or the settings stored in an mp4"),
        Binding("escape", "back", "Close", id="presets.close", tooltip="Load nothing"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._saved: tuple[SavedPreset, ...] = ()
        self._shown: tuple[SavedPreset, ...] = ()
        self._renamed: SavedPreset | None = None
        self._opening = ""  # the path that is being opened
        self.loaded = ""  # the name of the saved preset that was loaded

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = "Presets"
            yield Input(id="filter", placeholder="filter", compact=True)
            yield OptionList(id="saved", markup=False, compact=True)
            yield Static(id="detail", markup=False)
            yield PathInput(id="file", suffixes=(".json", ".jsonc", ".mp4"),
                            placeholder=FILE_FIELD, compact=True)  # fmt: skip
            yield Input(id="name", max_length=library.MAX_NAME, compact=True)
            yield Static(id="told", markup=False)
            yield Static(HINT, id="hint", classes="hint", markup=False)

    def on_mount(self) -> None:
        """List the presets; reading them may take a moment on a slow disk."""
        self._reload()

    def reason_against(self, action: str) -> str:
        """Nothing can be renamed or deleted where nothing is listed."""
        if action in ("rename", "delete") and not self._shown:
            return "There is no saved preset to change."
        return ""

    def _reload(self, name: str = "") -> None:
        in_background(self, library.saved_presets, partial(self._take, name))

    def _take(self, name: str, saved: tuple[SavedPreset, ...]) -> None:
        self._saved = saved
        self._show(name)
        self.set_class(not saved, "-none")
        if self.is_mounted:
            self.query_one("#hint", Static).update(HINT if saved else FILE_HINT)
            self.set_focus(self.query_one("#saved" if saved else "#file"))

    def _show(self, name: str = "") -> None:
        """List what the filter lets through, with the cursor on the preset `name`."""
        if not self.is_mounted:
            return
        words = self.query_one("#filter", Input).value.lower().split()
        self._shown = tuple(one for one in self._saved if _holds(one, words))
        listing = self.query_one("#saved", OptionList)
        name = name or self._name_at(listing.highlighted)
        listing.clear_options()
        lines = _lines(self._shown, time.time())
        listing.add_options(
            Option(line, id=one.name) for line, one in zip(lines, self._shown, strict=True)
        )
        names = [one.name for one in self._shown]
        listing.highlighted = (names.index(name) if name in names else 0) if names else None
        counts = f"{len(self._shown)} of {len(self._saved)}" if words else str(len(self._saved))
        self.query_one(Vertical).border_title = f"Presets ({counts})" if self._saved else "Presets"
        self._describe()
        self.refresh_bindings()

    def _name_at(self, index: int | None) -> str:
        names = [option.id for option in self.query_one("#saved", OptionList).options]
        return (names[index] or "") if index is not None and index < len(names) else ""

    @property
    def _here(self) -> SavedPreset | None:
        index = self.query_one("#saved", OptionList).highlighted
        return self._shown[index] if index is not None and index < len(self._shown) else None

    def _describe(self) -> None:
        here = self._here
        if here is None:
            text = "Nothing matches." if self._saved else NONE_YET
        elif here.preset is None:
            text = f"It cannot be loaded: {printable(here.problem)}"
        else:
            text = "\n".join(library.details(here.preset))
        detail = self.query_one("#detail", Static)
        detail.set_class(here is not None and here.preset is None, "-problem")
        detail.update(Content(text))

    @on(OptionList.OptionHighlighted, "#saved")
    def _on_highlighted(self) -> None:
        self._describe()

    @on(OptionList.OptionSelected, "#saved")
    def _on_selected(self) -> None:
        self._load()

    def _load(self) -> None:
        here = self._here
        if here is not None and here.preset is not None:
            self.loaded = here.name
            self.dismiss(here.preset)
        elif here is not None:
            self._tell(f"“{here.name}” cannot be loaded: {here.problem}")

    @on(Input.Changed, "#filter")
    def _on_filter(self) -> None:
        self._show()

    @on(Input.Submitted, "#filter")
    def _on_filtered(self) -> None:
        self.set_focus(self.query_one("#saved"))

    @on(Input.Changed, "#file")
    def _on_path(self) -> None:
        self._opening = ""
        self._tell("")

    @on(Input.Submitted, "#file")
    def _on_file(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text:
            self.set_focus(self.query_one("#saved"))
            return
        self._opening = text
        self._tell("Reading…", problem=False)
        in_background(self, lambda: _opened(text), partial(self._take_opened, text))

    def _take_opened(self, text: str, opened: Opened) -> None:
        if text != self._opening or not self.is_current:
            return  # something else was typed, or the dialog is gone
        if opened.preset is not None:
            self.dismiss(opened.preset)
        elif opened.error is not None:
            self._tell(_words(opened.error))

    def action_filter(self) -> None:
        """Go to the filter."""
        self.set_focus(self.query_one("#filter"))

    def action_file(self) -> None:
        """Go to the field for a file."""
        self.set_focus(self.query_one("#file"))

    def action_rename(self) -> None:
        """Let the name be edited."""
        self._renamed = self._here
        if self._renamed is not None:
            self.add_class("-renaming")
            field = self.query_one("#name", Input)
            field.value = self._renamed.name
            self.set_focus(field)
            field.action_select_all()
            self._tell("enter renames, escape leaves it", problem=False)

    @on(Input.Submitted, "#name")
    def _on_name(self, event: Input.Submitted) -> None:
        if self._renamed is None:
            return
        try:
            path = library.rename(self._renamed.path, event.value)
        except EngineError as error:
            self._tell(_words(error))
        else:
            self._end_renaming()
            self._reload(path.stem)

    def _end_renaming(self) -> None:
        self._renamed = None
        self.remove_class("-renaming")
        self.set_focus(self.query_one("#saved"))
        self._tell("")

    def action_delete(self) -> None:
        """Delete the preset, asking first."""
        here = self._here
        if here is not None:
            text = f"“{printable(here.name)}” is deleted for good. Videos made with it stay."
            self.app.push_screen(Question("Delete the preset?", text), partial(self._delete, here))

    def _delete(self, preset: SavedPreset, yes: bool | None) -> None:
        if not yes:
            return
        try:
            library.delete(preset.path)
        except EngineError as error:
            self._tell(_words(error))
        self._reload()

    def action_back(self) -> None:
        """Leave the renaming, then the filter, then the dialog."""
        filtered = self.query_one("#filter", Input)
        if self._renamed is not None:
            self._end_renaming()
        elif filtered.value or filtered.has_focus:
            filtered.value = ""
            self.set_focus(self.query_one("#saved"))
        else:
            self.dismiss(None)

    def _tell(self, text: str, *, problem: bool = True) -> None:
        told = self.query_one("#told", Static)
        told.set_class(bool(text), "-told")
        told.set_class(problem, "-problem")
        told.update(Content(printable(text, keep="\n")))


class SaveDialog(ModalScreen[Path | None]):
    """Asks for a name and saves a preset under it; gives its file."""

    CSS_PATH = "presets.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]
    BINDINGS = [
        Binding("escape", "back", "Leave it", id="save.close", tooltip="Save nothing"),
    ]  # fmt: skip

    def __init__(self, preset: Preset, name: str = "") -> None:
        """Propose `name`, or one made from the preset's model."""
        super().__init__()
        self._preset = preset
        self._name = name or library.proposed_name(preset)

    def compose(self) -> ComposeResult:
        """Build the box."""
        with Vertical() as box:
            box.border_title = "Save preset"
            yield Input(self._name, id="name", placeholder="name", compact=True)
            yield Static(id="told", markup=False)
            lines = (library.summary(self._preset), *library.details(self._preset))
            yield Static(Content("\n".join(lines)), id="detail", markup=False)
            yield Static("enter save   esc leave it", classes="hint", markup=False)

    def on_mount(self) -> None:
        """Let the name be typed over at once."""
        field = self.query_one(Input)
        self.set_focus(field)
        field.action_select_all()

    @on(Input.Changed)
    def _on_typed(self, event: Input.Changed) -> None:
        reason = library.reason_against_name(event.value)
        if reason:
            self._tell(f"{reason[:1].upper()}{reason[1:]}.", problem=True)
            return
        path = library.path_of(event.value)
        if path.exists():
            self._tell("There is one of this name: you are asked before it is replaced.")
        else:
            self._tell(f"It becomes {path}")

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        self._save(event.value, replacing=False)

    def _save(self, name: str, *, replacing: bool) -> None:
        try:
            self.dismiss(library.save(name, self._preset, replacing=replacing))
        except ExistsError as error:
            text = f"{error.what}."
            if not error.own:
                text += " It was not written by this app: its comments and order would be lost."
            self.app.push_screen(Question("Replace it?", text), partial(self._replace, name))
        except EngineError as error:
            self._tell(_words(error), problem=True)

    def _replace(self, name: str, yes: bool | None) -> None:
        if yes:
            self._save(name, replacing=True)

    def action_back(self) -> None:
        """Save nothing."""
        self.dismiss(None)

    def _tell(self, text: str, *, problem: bool = False) -> None:
        told = self.query_one("#told", Static)
        told.add_class("-told")
        told.set_class(problem, "-problem")
        told.update(Content(printable(text, keep="\n")))


def _holds(saved: SavedPreset, words: list[str]) -> bool:
    prompt = saved.preset.prompt or "" if saved.preset is not None else ""
    text = f"{saved.name} {saved.summary} {prompt}".lower()
    return all(word in text for word in words)


def _lines(saved: Sequence[SavedPreset], now: float) -> list[Content]:
    """Name, age, precision, size and model, in columns as narrow as they may be."""
    names = _column([_cut(printable(one.name)) for one in saved])
    ages = _column([ago(one.when, now) for one in saved])
    facts = [_facts(one.preset) for one in saved]
    precisions, sizes = (_column([fact[at] for fact in facts]) for at in (0, 1))
    return [
        Content.assemble(
            names[at],
            (f"  {ages[at]}  ", "$foreground 85%"),
            f"{precisions[at]}  {sizes[at]}  "
            if one.preset
            else ("cannot be read", "$text-warning"),
            (facts[at][2], "$foreground 85%"),
        )
        for at, one in enumerate(saved)
    ]


def _facts(preset: Preset | None) -> tuple[str, str, str]:
    """Precision, size and model; empty where a preset says nothing of it."""
    if preset is None:
        return "", "", ""
    size = (preset.width, preset.height, preset.frames)
    return (
        preset.dit_precision.value if preset.dit_precision else "",
        "" if None in size else "x".join(map(str, size)),
        printable(preset.model_path.name) if preset.model_path else "any model",
    )


def _cut(name: str) -> str:
    return name if cell_len(name) <= NAME_WIDTH else f"{set_cell_size(name, NAME_WIDTH - 1)}…"


def _column(texts: list[str]) -> list[str]:
    """Texts of one width."""
    width = max(map(cell_len, texts), default=0)
    return [set_cell_size(text, width) for text in texts]


def _opened(text: str) -> Opened:
    try:
        return Opened(library.open_file(Path(text)))
    except EngineError as error:
        return Opened(error=error)


def _words(error: EngineError) -> str:
    return "\n".join(line for line in (error.what, error.why, error.fix) if line)
