"""A list whose lines are marked: the mark is a letter, not only a colour."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

MARKED, UNMARKED = ("[x] ", "bold"), ("[ ] ", "")  # no colours: the cursor has its own


class MarkedList(OptionList):
    """Space marks a line, Enter goes on with what is marked."""

    BINDINGS = [
        Binding("space", "mark", "Mark", id="marked.mark", tooltip="Mark or unmark the line"),
        Binding("enter", "enter", "Download", id="marked.enter",
                tooltip="Fetch what is marked"),
    ]  # fmt: skip

    class Changed(Message):
        """Other lines are marked now."""

    class Entered(Message):
        """Enter was pressed."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False, compact=True)
        self._texts: tuple[Content, ...] = ()
        self._marked: set[int] = set()

    @property
    def marked(self) -> tuple[int, ...]:
        """The places of the marked lines."""
        return tuple(sorted(self._marked))

    def show(self, lines: Sequence[Content], marked: Collection[int]) -> None:
        """Show other lines, with the cursor on the first marked one."""
        self._texts, self._marked = tuple(lines), set(marked)
        self.clear_options()
        self.add_options([Option(self._prompt(place)) for place in range(len(lines))])
        if lines:
            self.highlighted = min(self._marked, default=0)

    def _prompt(self, place: int) -> Content:
        mark = MARKED if place in self._marked else UNMARKED
        return Content.assemble(mark, self._texts[place])

    def action_mark(self) -> None:
        """Mark or unmark the line under the cursor."""
        place = self.highlighted
        if place is not None:
            self._marked ^= {place}
            self.replace_option_prompt_at_index(place, self._prompt(place))
            self.post_message(self.Changed())

    def action_enter(self) -> None:
        """Go on."""
        self.post_message(self.Entered())
