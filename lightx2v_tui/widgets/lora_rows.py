"""One line a LoRA: whether it is applied, how strongly, and what of it fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from textual import events
from textual.app import RenderResult
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Size, clamp
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from lightx2v_tui.output import printable

STEP = 0.05
STRONGEST = 4.0
STRENGTH_WIDTH = 6
NARROWEST = 8  # cells of a name, before what fits gives way to it
NOTHING = "no LoRAs found; + adds a file"


@dataclass(frozen=True)
class Entry:
    """A LoRA that may be applied; `note` says what of it fits, `problem` why it would not do."""

    path: Path
    on: bool = False
    strength: float = 1.0
    note: str = ""
    problem: str = ""
    added: bool = False  # by path, so that it can be taken off the list


class LoraRows(Widget, can_focus=True):
    """One line a LoRA; it tells what is wanted, and the panel does it."""

    DEFAULT_CSS = """
    LoraRows { height: auto; width: 1fr; }
    LoraRows:focus { background-tint: $foreground 4%; }
    """
    BINDINGS = [
        Binding("up,k", "move(-1)", "Up", show=False, id="loras.up", tooltip="The LoRA above"),
        Binding("down,j", "move(1)", "Down", show=False, id="loras.down",
                tooltip="The LoRA below"),
        Binding("left,h", "strengthen(-1)", "Weaker", show=False, id="loras.weaker",
                tooltip="Apply it less; or type a number"),
        Binding("right,l", "strengthen(1)", "Stronger", show=False, id="loras.stronger",
                tooltip="Apply it more; or type a number"),
        Binding("space", "switch", "Apply", id="loras.toggle", tooltip="Apply this LoRA, or not"),
        Binding("shift+up,K", "carry(-1)", "Earlier", show=False, id="loras.earlier",
                tooltip="Apply it earlier: they are applied in order"),
        Binding("shift+down,J", "carry(1)", "Later", show=False, id="loras.later",
                tooltip="Apply it later: they are applied in order"),
        Binding("plus,insert", "add", "Add LoRA", id="loras.add",
                tooltip="Add a LoRA file by its path"),
        Binding("x,delete", "remove", "Remove", show=False, id="loras.remove",
                tooltip="Take an added LoRA off the list"),
    ]  # fmt: skip
    entries: reactive[tuple[Entry, ...]] = reactive((), layout=True)
    cursor: reactive[int] = reactive(0)
    typed: reactive[str] = reactive("")  # a strength in the making

    @dataclass
    class Edited(Message):
        """The entries are others now."""

        entries: tuple[Entry, ...]

    @dataclass
    class Highlighted(Message):
        """The cursor is on an entry; -1 where the list lost the focus."""

        index: int

    class AddWanted(Message):
        """A file is to be added."""

    def validate_cursor(self, cursor: int) -> int:
        """Stay on the list."""
        return clamp(cursor, 0, max(0, len(self.entries) - 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """One line a LoRA, however narrow it is."""
        return max(1, len(self.entries))

    def render(self) -> RenderResult:
        """Draw one line per LoRA."""
        if not self.entries:
            return Content.styled(
                NOTHING, "$text-muted reverse" if self.has_focus else "$text-muted"
            )
        return Content("\n").join(self._line(i, entry) for i, entry in enumerate(self.entries))

    def _line(self, index: int, entry: Entry) -> Content:
        here = self.has_focus and index == self.cursor
        strength = f"{self.typed}▏" if here and self.typed else f"{entry.strength:.2f}"
        note = entry.note
        room = self.size.width - STRENGTH_WIDTH - 4
        name = printable(entry.path.name)
        space = room - len(note) - 2
        if len(name) > space:
            name = printable(entry.path.stem)
        if space < min(len(name), NARROWEST):
            note, space = "", room
        name = name if len(name) <= space else f"{name[: max(1, space - 1)]}…"
        style = "bold $accent" if entry.on else ""
        return Content.assemble(
            ("● " if entry.on else "○ ", style),
            (f"{strength:>{STRENGTH_WIDTH - 1}}", f"{style} reverse" if here else style or "dim"),
            (f"  {name}", style),
            (f"  {note}", "$text-warning" if entry.problem else "$text-muted"),
        )

    def action_move(self, down: int) -> None:
        """Move the cursor."""
        self._take_typed()
        self.cursor += down

    def action_switch(self) -> None:
        """Apply this LoRA, or not; an empty list asks for a file."""
        if not self.entries:
            self.post_message(self.AddWanted())
            return
        self._take_typed()
        self._change(on=not self.entries[self.cursor].on)

    def action_strengthen(self, steps: int) -> None:
        """Change the strength by some steps."""
        if self.entries:
            self._take_typed()
            self._change(strength=_clamped(self.entries[self.cursor].strength + steps * STEP))

    def action_carry(self, down: int) -> None:
        """Move the LoRA within the order."""
        there = self.cursor + down
        if 0 <= there < len(self.entries):
            self._take_typed()
            moved = list(self.entries)
            moved.insert(there, moved.pop(self.cursor))
            self.post_message(self.Edited(tuple(moved)))
            self.entries, self.cursor = tuple(moved), there

    def action_add(self) -> None:
        """Ask for a file."""
        self.post_message(self.AddWanted())

    def action_remove(self) -> None:
        """Take an added LoRA off the list; one of the model is only switched off."""
        if not self.entries:
            return
        if self.entries[self.cursor].added:
            left = (*self.entries[: self.cursor], *self.entries[self.cursor + 1 :])
            self.entries = left
            self.cursor = self.cursor
            self.post_message(self.Edited(left))
        else:
            self._change(on=False)

    def on_key(self, event: events.Key) -> None:
        """Take a strength that is typed."""
        if not self.entries:
            return
        if self.typed and event.key in ("enter", "escape", "backspace"):
            if event.key == "enter":
                self._take_typed()
            else:
                self.typed = self.typed[:-1] if event.key == "backspace" else ""
            event.stop()
        elif event.character and event.character in "0123456789.-," and len(self.typed) < 5:
            self.typed += event.character.replace(",", ".")
            event.stop()

    def _take_typed(self) -> None:
        text, self.typed = self.typed, ""
        if text:
            try:
                self._change(strength=_clamped(float(text)))
            except ValueError:
                self.notify(f"{text} is not a number", severity="warning", markup=False)

    def _change(self, **values: object) -> None:
        entry = replace(self.entries[self.cursor], **values)  # type: ignore[arg-type] # its fields
        before, after = self.entries[: self.cursor], self.entries[self.cursor + 1 :]
        self.entries = (*before, entry, *after)
        self.post_message(self.Edited(self.entries))

    def watch_cursor(self) -> None:
        """Tell which line it is."""
        if self.has_focus:
            self.post_message(self.Highlighted(self.cursor))

    def on_focus(self) -> None:
        """Tell which line it is."""
        self.post_message(self.Highlighted(self.cursor))

    def on_blur(self) -> None:
        """A strength that was typed counts."""
        self._take_typed()
        self.post_message(self.Highlighted(-1))

    def on_click(self, event: events.Click) -> None:
        """Switch with the mouse."""
        if not self.entries:
            self.action_add()
        elif 0 <= event.y < len(self.entries):
            self.cursor = event.y
            self.action_switch()


def _clamped(strength: float) -> float:
    return round(clamp(strength, -STRONGEST, STRONGEST), 3) + 0.0  # never -0.0
