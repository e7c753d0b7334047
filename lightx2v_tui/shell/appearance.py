"""How the app looks and which keys it has: themes, what the terminal can show, the user's keys."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from textual.app import App
from textual.binding import Binding
from textual.events import DescendantFocus
from textual.filter import LineFilter
from textual.notifications import Notification, Notify, SeverityLevel
from textual.theme import Theme

from lightx2v_tui import settings, terminal
from lightx2v_tui.messages import GlyphsChanged, KeymapChanged, ThemeTried
from lightx2v_tui.paths import themes_dir
from lightx2v_tui.settings import Settings
from lightx2v_tui.shell.themes import load_themes
from lightx2v_tui.widgets.filters import NoOrders, filters_for

NO_ORDERS = NoOrders()
FALLBACK_THEME = "textual-dark"
FEW_COLOURS_THEME = "sixteen-colours"


@dataclass
class Told(Notification):
    """What is told in passing, and in whose place."""

    place: str = ""


class DressedApp(App[int]):
    """An app in the user's theme and keys, on a terminal that may lack colours or letters."""

    def __init__(self) -> None:
        super().__init__()
        self.animation_level = "none"  # every frame of an animation travels over SSH
        self.terminal = terminal.here()
        self._filters_for_terminal = filters_for(self.terminal)
        self.no_color = self.no_color or not self.terminal.colours  # styles ask for it
        self._kept_theme = ""  # what is shown and not to be stored again
        self._tried = ""  # a theme that is only looked at

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """No cursor blinks: every blink would travel over SSH."""
        if hasattr(event.widget, "cursor_blink"):  # a field or an editor; not imported for this
            event.widget.cursor_blink = False

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Everything that is drawn goes through these."""
        return [*super().get_line_filters(), NO_ORDERS, *self._filters_for_terminal]

    def get_key_display(self, binding: Binding) -> str:
        """Name keys in words where the terminal has no arrows."""
        shown = super().get_key_display(binding)
        if self.terminal.unicode:
            return shown
        for glyph, name in terminal.KEY_NAMES.items():
            shown = shown.replace(glyph, name)
        return shown

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Tell something over the keys, in the place of what was told before.

        Warnings and errors take only the place of those of the same title.
        """
        text = f"{title}: {message}" if title else message
        seconds = self.NOTIFICATION_TIMEOUT if timeout is None else timeout
        place = "" if severity == "information" else title or severity
        self.post_message(Notify(Told(text, "", severity, seconds, markup, place=place)))

    def on_notify(self, message: Notify) -> None:
        """Take away what it is told instead of; Textual then shows it."""
        place = getattr(message.notification, "place", None)
        for told in list(self._notifications):
            if place == getattr(told, "place", place):
                self._unnotify(told)

    def dress(self) -> None:
        """Put on what the settings say; what is wrong with them is told once."""
        themes, problems = load_themes(themes_dir())
        for theme in themes:
            self.register_theme(theme)
        stored, problem = settings.load()
        self.theme = self._kept_theme = self._theme_of(stored)
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        self._warn(problems + ([problem] if problem else []))
        if stored.keymap:
            with suppress(ValueError):  # told below
                self.set_keymap(dict(stored.keymap))
            self.call_after_refresh(self._check_keymap, stored)  # it looks into all screens

    def _theme_of(self, stored: Settings) -> str:
        """The theme of the settings; on a terminal of few colours one that is made of them."""
        few = 0 < self.terminal.colours < 256
        wanted = self.available_themes.get(stored.theme)
        if few and FEW_COLOURS_THEME in self.available_themes and not (wanted and wanted.ansi):
            return FEW_COLOURS_THEME
        return stored.theme if wanted else FALLBACK_THEME

    def _keep_theme(self, theme: Theme) -> None:
        if theme.name in (self._tried, self._kept_theme):
            return
        self._kept_theme = theme.name
        if problem := settings.change(theme=theme.name):
            self._warn([problem])

    def _check_keymap(self, stored: Settings) -> None:
        from lightx2v_tui.screens.keys import checked, known_keys

        keymap, problems = checked(stored.keymap, known_keys(type(self)))
        self.set_keymap(keymap)
        self._warn(problems, "Keys")

    def _warn(self, problems: Sequence[str], title: str = "Settings") -> None:
        if problems:
            self.notify("\n".join(problems), title=title, severity="warning", markup=False)

    def on_theme_tried(self, message: ThemeTried) -> None:
        """Show a theme; it is stored once it is kept."""
        self._tried = "" if message.keep else message.name
        if message.name in self.available_themes:
            self.theme = message.name
            if message.keep:
                self._keep_theme(self.available_themes[message.name])

    def on_keymap_changed(self, message: KeymapChanged) -> None:
        """Use other keys from now on."""
        self.set_keymap(dict(message.keymap))

    def on_glyphs_changed(self, message: GlyphsChanged) -> None:
        """Draw everything anew, in other letters."""
        del message
        self.terminal = terminal.here()
        self._filters_for_terminal = filters_for(self.terminal)
        self.refresh_css(animate=False)

    def action_next_theme(self) -> None:
        """Switch to the next theme of our own."""
        names = [theme.name for theme in load_themes(themes_dir())[0]]
        if names:
            here = names.index(self.theme) if self.theme in names else -1
            self.theme = names[(here + 1) % len(names)]
            self.notify(self.theme, title="Theme", timeout=2)
