"""Groups of fields of a form: data comes down as `Fields`, a change is told upwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar

from textual import on
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Checkbox, Input, Label, Select

from lightx2v_tui.launch.form import Fields

E = TypeVar("E", bound=Enum)


class NumberInput(Input):
    """A field for a number, which the up and down keys change by a step."""

    BINDINGS = [
        Binding("up", "change(1)", "More", show=False, id="number.up", tooltip="A step more"),
        Binding("down", "change(-1)", "Less", show=False, id="number.down", tooltip="A step less"),
    ]

    def __init__(self, value: str, *, id: str, step: str, least: str = "0") -> None:  # noqa: A002 - Textual's
        """Start at `value`; the keys change it by `step` and never below `least`."""
        super().__init__(value, id=id, compact=True, classes="number")
        self._step, self._least = Decimal(step), Decimal(least)

    def action_change(self, steps: int) -> None:
        """Change the number; what is none stays as it is."""
        try:
            number = Decimal(self.value.strip())
        except InvalidOperation:
            return
        if number.is_finite() and abs(number) < 10**18:
            self.value = f"{max(self._least, number + steps * self._step):f}"
            self.action_end()


class Toggle(Checkbox):
    """A checkbox that says in plain marks whether it is on."""

    DEFAULT_CSS = """
    Toggle, Toggle:focus { border: none; padding: 0; background: transparent; width: auto; }
    """

    def render(self) -> Content:
        """Draw the mark and the label."""
        style = "bold $accent" if self.value else ""
        style = f"{style} reverse" if self.has_focus else style
        return Content.styled(f"{'●' if self.value else '○'} {self.label.plain}", style)

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002 - Textual's signature
        """As wide as its label and the mark."""
        return 2 + self.label.cell_length


class FieldPanel(Vertical):
    """Some fields of a form; the id of each is its name in `Fields`."""

    DEFAULT_CSS = """
    FieldPanel { height: auto; }
    FieldPanel .row { height: 1; width: 1fr; }
    FieldPanel Label { width: 9; color: $text-muted; }
    FieldPanel .between { width: auto; padding: 0 1; }
    FieldPanel Input { width: 1fr; }
    FieldPanel .number { width: 6; }
    FieldPanel #seed { width: 12; }
    FieldPanel #width, FieldPanel #height, FieldPanel #frames { width: 5; }
    FieldPanel #fps { width: 4; }
    FieldPanel #sampler { margin-left: 1; }
    FieldPanel Input.-wrong { color: $text-error; text-style: bold; }
    FieldPanel Toggle.beside { margin-left: 1; }
    FieldPanel Select { width: 1fr; height: 1; }
    FieldPanel Select SelectCurrent { background: $boost; }
    FieldPanel Select:focus > SelectCurrent { background: $primary; color: $background; }
    FieldPanel SelectOverlay { scrollbar-size-vertical: 1; }
    FieldPanel .note { width: 1fr; height: 1; color: $text-muted; }
    FieldPanel .apart { padding-left: 1; }
    """

    class Changed(Message):
        """Something was typed or picked."""

    def __init__(self, fields: Fields, title: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's
        """Show some of the fields."""
        super().__init__(id=id, classes="panel")
        self.border_title = title
        self._fields = fields

    def fill(self, fields: Fields) -> Fields:
        """Put what stands in these fields into all fields."""
        return replace(fields, **self._values())

    def mark(self, errors: Mapping[str, str]) -> None:
        """Mark the fields that are wrong."""
        for field in self.query(Input):
            field.set_class(field.id in errors, "-wrong")

    def _values(self) -> dict[str, Any]:
        names = Fields.__dataclass_fields__
        found: Iterable[Widget] = self.query("Input, Select, Checkbox")
        return {
            field.id: field.value
            for field in found
            if isinstance(field, (Input, Select, Checkbox)) and field.id in names
        }

    @on(Input.Changed)
    @on(Select.Changed)
    @on(Checkbox.Changed)
    def _on_field(self, event: Message) -> None:
        event.stop()
        self.changed()

    def changed(self) -> None:
        """Tell that something was typed or picked."""
        self.post_message(self.Changed())


def row(label: str, *fields: Widget) -> Widget:
    """A label and fields in a line."""
    return Horizontal(Label(label), *fields, classes="row")


def between(text: str) -> Label:
    """A word between two fields."""
    return Label(text, classes="between")


def toggle(name: str, label: str, *, on: bool, beside: bool = False) -> Toggle:
    """A field that is on or off."""
    return Toggle(label, on, id=name, compact=True, classes="beside" if beside else "")


def options(name: str, members: Iterable[tuple[str, E]], value: E) -> Select[E]:
    """A field in which one of a few is picked."""
    return Select(members, value=value, allow_blank=False, id=name, compact=True)
