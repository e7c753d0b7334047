"""The settings: theme, previews, letters, folders, and every key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import DataTable, OptionList, Static
from textual.widgets.option_list import Option

from lightx2v_tui import settings
from lightx2v_tui.messages import (
    FolderAdded,
    GlyphsChanged,
    KeymapChanged,
    ThemeTried,
)
from lightx2v_tui.output import printable
from lightx2v_tui.screens.add_folder import AddFolderDialog
from lightx2v_tui.screens.ask_key import RESET, AskKey
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.screens.dialogs import Question
from lightx2v_tui.screens.key_table import KeyTable
from lightx2v_tui.screens.keys import KnownKey, checked, known_keys
from lightx2v_tui.settings import GLYPHS
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.key_bar import KeyBar

ADD = "+ add a folder"
FIT_SECONDS = 0.1  # a window that is dragged has many sizes, of which the last one counts
LETTERS = {"auto": "by the locale", "unicode": "all there are", "ascii": "ASCII only"}


class SettingsScreen(AppScreen[None]):
    """What is decided once; everything is stored as it is changed."""

    CSS_PATH = "settings.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-high")]
    BINDINGS = [
        Binding("tab", "app.focus_next", "Next", id="settings.next",
                tooltip="The next part of the settings"),
        Binding("backspace,delete,x", "remove", "Remove", id="settings.remove",
                tooltip="Forget the folder, or give the action its own key again"),
        Binding("plus,insert", "add", "Add folder", id="settings.add", show=False,
                tooltip="Add a folder of models"),
        Binding("R", "reset", "Reset", id="settings.reset",
                tooltip="Give every action the keys it came with"),
        Binding("escape", "back", "Back", id="settings.back", tooltip="Back"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._settings, self._problem = settings.load()
        self._known: tuple[KnownKey, ...] = ()
        self._kept = ""  # the theme to go back to
        self._resized: Timer | None = None

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        with Container(id="body"):
            with Vertical(id="left"):
                for name, title in (("themes", "Theme"), ("display", "Display"),
                                    ("folders", "Folders of models")):  # fmt: skip
                    listing = OptionList(id=name, classes="panel", markup=False, compact=True)
                    listing.border_title = title
                    yield listing
            with Vertical(id="right", classes="panel") as right:
                right.border_title = "Keys"
                yield KeyTable(id="keys")
                yield Static(id="about", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what is set."""
        self.query_one(TitleBar).place = "Settings"
        self._kept = self.app.theme
        names = self.app.available_themes
        ours = sorted(names, key=lambda name: (name not in self._own_themes(), name))
        themes = self.query_one("#themes", OptionList)
        themes.add_options([Option(name, id=name) for name in ours])
        themes.highlighted = ours.index(self._kept)
        themes.focus()
        self._show_display()
        self._show_folders()
        if self._problem:
            self.notify(self._problem, severity="warning", markup=False)
        in_background(self, partial(known_keys, type(self.app)), self._take_keys)

    def _own_themes(self) -> set[str]:
        from lightx2v_tui.paths import themes_dir

        return {path.stem for path in themes_dir().glob("*.json")}

    def on_resize(self) -> None:
        """Give the columns the width there is now."""
        if self._resized is not None:
            self._resized.stop()
        self._resized = self.set_timer(FIT_SECONDS, self._fit)

    def _fit(self) -> None:
        if self._known and not self.query_one(KeyTable).fits:
            self._show_keys()

    def _take_keys(self, known: tuple[KnownKey, ...]) -> None:
        self._known = known
        if self.is_mounted:
            self._show_keys()

    def _show_keys(self) -> None:
        self.query_one(KeyTable).show(self._known, self._keymap)
        self.refresh_bindings()

    @property
    def _keymap(self) -> dict[str, str]:
        """What of the stored keymap can be used."""
        return checked(self._settings.keymap, self._known)[0]

    def _show_display(self) -> None:
        listing = self.query_one("#display", OptionList)
        at = listing.highlighted
        listing.clear_options()
        previews = "on" if self._settings.preview else "off"
        listing.add_option(Option(f"Previews of runs: {previews}", id="preview"))
        letters = LETTERS[self._settings.glyphs]
        listing.add_option(Option(f"Letters: {letters}", id="glyphs"))
        listing.highlighted = at or 0

    def _show_folders(self) -> None:
        listing = self.query_one("#folders", OptionList)
        at = listing.highlighted or 0
        listing.clear_options()
        listing.add_options([Option(printable(root)) for root in self._settings.roots])
        listing.add_option(Option(ADD))
        listing.highlighted = min(at, len(self._settings.roots))
        self.refresh_bindings()

    def _change(self, **values: object) -> bool:
        """Store some settings; False where they cannot be."""
        problem = settings.change(**values)
        self._settings, _ = settings.load()
        if problem:
            self.notify(problem, severity="error", markup=False)
        return not problem

    @on(OptionList.OptionHighlighted, "#themes")
    def _on_theme(self, event: OptionList.OptionHighlighted) -> None:
        if event.option.id and self.query_one("#themes").has_focus:
            self.post_message(ThemeTried(event.option.id, keep=False))

    @on(OptionList.OptionSelected, "#themes")
    def _on_theme_kept(self, event: OptionList.OptionSelected) -> None:
        if event.option.id:
            self._kept = event.option.id
            self.post_message(ThemeTried(self._kept, keep=True))
            self.notify(self._kept, title="Theme kept", timeout=2)

    @on(OptionList.OptionSelected, "#display")
    def _on_display(self, event: OptionList.OptionSelected) -> None:
        if event.option.id == "preview":
            self._change(preview=not self._settings.preview)
        else:
            now = GLYPHS.index(self._settings.glyphs)
            if self._change(glyphs=GLYPHS[(now + 1) % len(GLYPHS)]):
                self.post_message(GlyphsChanged())
        self._show_display()

    @on(OptionList.OptionSelected, "#folders")
    def _on_folder(self, event: OptionList.OptionSelected) -> None:
        if event.option_index == len(self._settings.roots):
            self.action_add()

    @on(OptionList.OptionHighlighted)
    def _on_any(self) -> None:
        self.refresh_bindings()

    @on(DataTable.RowHighlighted)
    def _on_key_highlighted(self) -> None:
        key = self._key
        self.query_one("#about", Static).update(Content(key.tooltip if key else ""))
        self.refresh_bindings()

    @on(DataTable.RowSelected)
    def _on_key_selected(self) -> None:
        key = self._key
        if key is not None:
            dialog = AskKey(key, self._known, self._keymap)
            self.app.push_screen(dialog, partial(self._take_key, key))

    @property
    def _key(self) -> KnownKey | None:
        """The action under the cursor."""
        current = self.query_one(KeyTable).current
        return next((key for key in self._known if key.id == current), None)

    def _take_key(self, key: KnownKey, pressed: str | None) -> None:
        if pressed is None:
            return
        keymap = {**self._keymap, key.id: pressed}
        if pressed == RESET or (pressed,) == key.keys:
            del keymap[key.id]
        self._use(keymap)

    def _use(self, keymap: Mapping[str, str]) -> None:
        if self._change(keymap=dict(keymap)):
            self.post_message(KeymapChanged(keymap))
            self.call_later(self._show_keys)

    def reason_against(self, action: str) -> str:
        """Say why an action cannot be done now; empty where it can."""
        try:
            table, folders = self.query_one(KeyTable), self.query_one("#folders", OptionList)
        except NoMatches:  # not composed yet
            return ""
        if action == "reset":
            return "" if self._settings.keymap else "Every action has the keys it came with."
        if action != "remove":
            return ""
        if table.has_focus:
            changed = self._key is not None and self._key.id in self._settings.keymap
            return "" if changed else "This action has the keys it came with."
        if folders.has_focus:
            at = folders.highlighted
            listed = at is not None and at < len(self._settings.roots)
            return "" if listed else "There is no folder under the cursor."
        return "Only folders and changed keys can be removed."

    def action_remove(self) -> None:
        """Forget a folder, or give an action its own key again."""
        if self.query_one(KeyTable).has_focus and self._key is not None:
            self._take_key(self._key, RESET)
            return
        at = self.query_one("#folders", OptionList).highlighted
        if at is not None and at < len(self._settings.roots):
            roots = self._settings.roots
            self._change(roots=roots[:at] + roots[at + 1 :])
            self._show_folders()

    def action_add(self) -> None:
        """Add a folder of models."""
        places = [Path(root) for root in self._settings.roots]
        self.app.push_screen(AddFolderDialog(places), self._take_folder)

    def _take_folder(self, folder: Path | None) -> None:
        if folder is not None:
            self._change(roots=(*self._settings.roots, str(folder)))
            self.post_message(FolderAdded(folder))
        self._show_folders()

    def action_reset(self) -> None:
        """Give every action the keys it came with, after asking."""
        question = f"{len(self._settings.keymap)} changed keys are forgotten."
        self.app.push_screen(
            Question("Reset all keys?", question), lambda yes: self._use({}) if yes else None
        )

    def action_back(self) -> None:
        """Back to where the settings were opened."""
        self.app.pop_screen()

    def on_screen_suspend(self) -> None:
        """A theme that was only looked at goes."""
        self.post_message(ThemeTried(self._kept, keep=True))
