"""An input for paths, with what is typed completed from the disk in a list below it."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial

from textual import on
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Offset
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from lightx2v_tui.completion import Completions, complete
from lightx2v_tui.widgets.background import in_background

LINES = 6
NARROWEST = 24
PATIENCE = 8  # folders that may be waited for at once


class Candidates(OptionList, can_focus=False):
    """The list below a path input; it lies over what is there.

    It has a layer of its own, where it takes no part in how the screen aligns its boxes.
    """

    DEFAULT_CSS = """
    Candidates {
        layer: _tooltips; overlay: screen; constrain: inside inflect; display: none;
        height: auto; max-height: 6; padding: 0; border: none; scrollbar-size-vertical: 1;
        background: $panel; color: $foreground; overflow-x: hidden;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    Candidates > .option-list--option { padding: 0 1; }
    Candidates > .option-list--option-highlighted { background: $primary; color: $background; }
    Candidates:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    """

    def __init__(self, choose: Callable[[int], None]) -> None:
        """`choose` is told which line was clicked."""
        super().__init__(markup=False, compact=True)
        self._choose = choose

    @on(OptionList.OptionHighlighted)
    def _on_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()  # it is nobody's but the field's

    @on(OptionList.OptionSelected)
    def _on_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._choose(event.option_index)


class PathInput(Input):
    """Completes file and folder names.

    Up and down walk the list below, Tab or the right arrow takes a name, Enter takes one that was
    walked to, Escape closes the list. Folders are read on threads of their own, and only the
    answer to what stands in the field now is shown.
    """

    BINDINGS = [
        Binding("tab", "complete", "Complete", id="path.complete", show=False,
                tooltip="Take the completion, or go to the next field"),
        Binding("down", "walk(1)", "Next name", id="path.next", show=False,
                tooltip="The next of the names that begin so"),
        Binding("up", "walk(-1)", "Name before", id="path.before", show=False,
                tooltip="The name before"),
        Binding("escape", "close_list", "Close list", id="path.close", show=False,
                tooltip="Close the list of names"),
    ]  # fmt: skip

    def __init__(
        self, value: str = "", *, suffixes: Container[str] | None = None, folders: bool = False,
        placeholder: str = "", id: str | None = None, compact: bool = False,  # noqa: A002 - Textual's
    ) -> None:  # fmt: skip
        """Complete to files with `suffixes` (any where None), or to folders only."""
        super().__init__(value, placeholder=placeholder, id=id, compact=compact)
        self.select_on_focus = False  # a path is rather continued than replaced
        self._suffixes, self._folders = suffixes, folders
        self._list: Candidates | None = None
        self._found = Completions()
        self._asked = ""  # what the candidates are, or will be, for
        self._waiting = 0  # folders that have not answered yet
        self._walked = False  # whether a name was chosen with the arrows
        self._settled = value  # what needs no list: it was there, or was taken from one

    @property
    def listed(self) -> tuple[str, ...]:
        """The completions that are shown."""
        return self._found.candidates if self._is_open else ()

    @property
    def _is_open(self) -> bool:
        return self._list is not None and self._list.display

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Leave the arrows and Escape to others while no list is open."""
        return action not in ("walk", "close_list") or self._is_open

    @on(Input.Changed)
    def _on_typed(self) -> None:
        if self.has_focus and self.value != self._settled:
            self._ask()
        else:
            self._close()

    @on(Input.Submitted)
    def _on_taken(self) -> None:
        self._asked = ""  # names that come late would hide what is said of this one
        self._close()

    def on_blur(self) -> None:
        """The list is for who types here."""
        self._close()

    def on_resize(self) -> None:
        """The list lies where the field was."""
        self._close()

    def on_unmount(self) -> None:
        """The list goes with its field."""
        if self._list is not None and self._list.is_attached:
            self._list.remove()

    def _ask(self) -> None:
        typed = self._asked = self.value
        if not typed or self._waiting >= PATIENCE:
            self._close()
            return
        self._waiting += 1
        look = partial(complete, typed, self._suffixes, folders=self._folders)
        in_background(self, look, partial(self._take, typed))

    def _take(self, typed: str, found: Completions) -> None:
        self._waiting -= 1
        if not self.has_focus or self.value != self._asked:
            return
        if typed != self.value:
            if self._waiting == PATIENCE - 1:  # what stands here now was not asked for yet
                self._ask()
            return
        self._found = found
        alone = found.candidates == (typed,)
        if found.candidates and not alone:
            self._open()
        else:
            self._close()

    def _open(self) -> None:
        names = self._found.candidates
        listing = self._list
        if listing is None or not listing.is_attached:
            listing = self._list = Candidates(self._choose)
            self.screen.mount(listing)
        listing.clear_options()
        listing.add_options([Option(_shown(name)) for name in names])
        more = self._found.total - len(names)
        if more > 0:
            listing.add_option(Option(f"… {more} more", disabled=True))
        listing.highlighted = None
        self._place(listing)
        self._walked = False
        self._suggestion = names[0] if names[0].startswith(self.value) else ""
        listing.display = True

    def _place(self, listing: Candidates) -> None:
        """Lay the list below the last part of the path, within the field's own width."""
        region = self.content_region
        listing.styles.width = min(self.screen.size.width, max(NARROWEST, region.width))
        listing.absolute_offset = Offset(region.x, region.y + 1)

    def _close(self) -> None:
        self._walked = False
        if self._list is not None:
            self._list.display = False
        self._suggestion = ""

    def action_walk(self, down: int) -> None:
        """Walk the list."""
        listing, names = self._list, self._found.candidates
        if listing is None or not names:
            return
        here = listing.highlighted
        if here is None:
            listing.highlighted = 0 if down > 0 else len(names) - 1
        else:
            listing.highlighted = (here + down) % len(names)
        self._walked = True
        self._suggestion = ""

    def action_complete(self) -> None:
        """Take the name walked to, or what is shown dimmed; without one go to the next field."""
        begun = not self.value.endswith("/")  # a whole folder is left with Tab, not entered
        if self._walked:
            self._take_walked()
        elif begun and self._suggestion and self._suggestion != self.value:
            self._fill(self._suggestion)
        elif begun and self._is_open and self.value not in self._found.candidates:
            self._fill(self._found.candidates[0])  # written in another case
        else:
            self._close()
            self.screen.focus_next()

    async def action_submit(self) -> None:
        """Take the name walked to; without one the path is complete."""
        if self._walked:
            self._take_walked()
        else:
            await super().action_submit()

    def action_close_list(self) -> None:
        """Close the list."""
        self._close()

    def _take_walked(self) -> None:
        index = self._list.highlighted if self._list is not None else None
        if index is not None:
            self._fill(self._found.candidates[index])

    def _fill(self, text: str) -> None:
        """Put a completion into the field; of a folder its entries come next."""
        self._settled = "" if text.endswith("/") else text
        self.value = text
        self.action_end()
        if text == self._asked:
            self._close()

    def _choose(self, index: int) -> None:
        """Take the name that was clicked."""
        self._fill(self._found.candidates[index])
        self.focus()


def _shown(path: str) -> Content:
    """The last part of a path: what stands before it is in the field already."""
    return Content(path.rstrip("/").rpartition("/")[2] + ("/" if path.endswith("/") else ""))
