"""What to download: a repository, some of its variants, and the folder they go into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.spec.errors import EngineError
from lightx2v_tui.catalog.repositories import MODELS
from lightx2v_tui.downloads import fetching
from lightx2v_tui.downloads.fetching import DownloadPlan
from lightx2v_tui.downloads.hub import Repository
from lightx2v_tui.downloads.parts import Parts, RemoteVariant, recommended
from lightx2v_tui.messages import DownloadWanted, ErrorMet
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.units import size
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.bars import TitleBar
from lightx2v_tui.widgets.key_bar import KeyBar
from lightx2v_tui.widgets.marked_list import MarkedList
from lightx2v_tui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu

STATES = ("-choosing", "-asking", "-chosen")
COMPANIONS = {"t5": "lightx2v/Encoders", "vae": "lightx2v/Autoencoders"}
#: What the names of repositories say, in words; each of the first that fits.
ABOUT = (
    (("encoders",), "T5, CLIP and tokenizer"), (("autoencoders",), "VAEs, full and tiny"),
    (("loras",), "LoRAs"), (("nvfp4",), "NVFP4, not run yet"), (("flf2v",), "first and last frame"),
    (("vace",), "VACE, not run yet"), (("ti2v",), "text or image to video"),
    (("i2v",), "image to video"), (("t2v",), "text to video"),
    (("distill-models",), "single files, 4 steps"),
    (("official-models",), "single files, 40 or 50 steps"),
)  # fmt: skip


@dataclass(frozen=True)
class Looked:
    """What the hub said of a repository."""

    name: str
    repository: Repository | None = None
    parts: Parts | None = None
    best: RemoteVariant | None = None
    error: EngineError | None = None


@dataclass(frozen=True)
class Measured:
    """What a choice comes to on the disk."""

    plan: DownloadPlan
    free: int
    blocked: str = ""


class DownloadScreen(AppScreen[None]):
    """Three steps on one screen: which repository, what of it, and where to."""

    CSS_PATH = "download.tcss"
    BINDINGS = [
        Binding("ctrl+g", "start", "Download", id="download.start", show=False,
                tooltip="Fetch what is marked, also while typing"),
        Binding("tab", "app.focus_next", "Next field", id="download.next", show=False,
                tooltip="Go to the next field"),
        Binding("escape", "back", "Back", id="download.back",
                tooltip="Back to the repositories, then to the models"),
    ]  # fmt: skip

    def __init__(self, repository: str = "", place: Path | None = None) -> None:
        """Begin with a repository where one is named; `place` is where models are kept."""
        super().__init__()
        self._start_with, self._place = repository, place
        self._asked = ""  # the repository that the hub was asked for last
        self._typed = ""  # what the field held then
        self._looked: Looked | None = None
        self._measured: Measured | None = None
        self._turn = 0  # which choice was measured last

    def compose(self) -> ComposeResult:
        """Build the screen."""
        yield TitleBar()
        with Vertical(id="repository", classes="panel") as panel:
            panel.border_title, panel.border_subtitle = "Repository", "enter looks it up"
            yield Input(self._start_with, id="name", compact=True,
                        placeholder="type to filter, or OWNER/NAME of any other")  # fmt: skip
        with Vertical(id="what", classes="panel"):
            yield OptionList(id="known", markup=False, compact=True)
            yield Static(id="told", markup=False)
            yield MarkedList(id="variants")
            yield Static(id="shared", markup=False)
        with Vertical(id="where", classes="panel") as panel:
            panel.border_title = "Into"
            yield PathInput(str(self._place or fetching.default_place()), folders=True,
                            id="place", compact=True)  # fmt: skip
            yield Static(id="room", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """List what is known, or look at the repository that was named."""
        self.query_one(TitleBar).place = "Models › Download"
        self._list_known()
        if self._start_with:
            self._look(self._start_with)
        else:
            self._show("-choosing")
            self.query_one("#name").focus()

    def reason_against(self, action: str) -> str:
        """Why nothing can be fetched yet."""
        if action != "start":
            return ""
        if self._looked is None or not self.has_class("-chosen"):
            return "Choose a repository first."
        if not self.query_one(MarkedList).marked and self._variants:
            return "Nothing is marked: space marks a variant."
        return _against(self._measured)

    @property
    def _variants(self) -> tuple[RemoteVariant, ...]:
        parts = self._looked.parts if self._looked is not None else None
        return parts.variants if parts is not None else ()

    def _show(self, state: str) -> None:
        for each in STATES:
            self.set_class(each == state, each)
        titles = {"-choosing": "Known repositories", "-asking": "", "-chosen": "What to fetch"}
        panel = self.query_one("#what")
        panel.border_title = titles[state]
        if state != "-choosing":
            panel.border_subtitle = ""
        self.refresh_bindings()

    # which repository

    def _list_known(self) -> None:
        """List the known repositories that hold every word that is typed."""
        words = self.query_one("#name", Input).value.lower().replace("/", " ").split()
        found = [name for name in MODELS if all(word in name.lower() for word in words)]
        listing = self.query_one("#known", OptionList)
        listing.clear_options()
        listing.add_options([Option(name, id=name) for name in found])
        listing.highlighted = 0 if found else None

    @on(Input.Changed, "#name")
    def _on_typed(self) -> None:
        if self.has_class("-choosing"):
            self._list_known()

    @on(Input.Submitted, "#name")
    def _on_named(self, event: Input.Submitted) -> None:
        listing = self.query_one("#known", OptionList)
        typed = event.value.strip()
        if "/" not in typed and listing.option_count:
            typed = listing.get_option_at_index(listing.highlighted or 0).id or typed
        if typed:
            self._look(typed)

    @on(OptionList.OptionHighlighted, "#known")
    def _on_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self.query_one("#what").border_subtitle = about(event.option.id or "")

    @on(OptionList.OptionSelected, "#known")
    def _on_known(self, event: OptionList.OptionSelected) -> None:
        self._look(event.option.id or "")

    def on_key(self, event: object) -> None:
        """Let the arrows lead from the field into the list."""
        if getattr(event, "key", "") == "down" and self.focused is self.query_one("#name"):
            target = "#known" if self.has_class("-choosing") else "#variants"
            self.query_one(target).focus()

    def _look(self, name: str) -> None:
        field = self.query_one("#name", Input)
        self._asked, self._typed = name, field.value
        field.value = name
        self.query_one("#told", Static).update(Content(f"Asking the hub for {printable(name)}…"))
        self._show("-asking")
        in_background(self, lambda: _looked(name), self._take_looked)

    def _take_looked(self, looked: Looked) -> None:
        if looked.name != self._asked or not self.is_mounted:
            return  # something else was asked for meanwhile
        if looked.error is not None or looked.parts is None:
            self._show("-choosing")
            self.query_one("#name", Input).value = self._typed  # the list holds what it held
            self._list_known()
            self.query_one("#name").focus()
            if looked.error is not None:
                self.post_message(ErrorMet(looked.error))
            return
        self._looked = looked
        self._list_variants(looked.parts, looked.best)
        self._show("-chosen")
        self.query_one("#variants" if self._variants else "#place").focus()
        self._measure()

    # what of it

    def _list_variants(self, parts: Parts, best: RemoteVariant | None) -> None:
        lines = [_variant_line(variant, best=variant is best) for variant in parts.variants]
        marked = {place for place, variant in enumerate(parts.variants) if variant is best}
        self.query_one(MarkedList).show(lines, marked)
        count, shared = len(parts.shared), sum(file.nbytes for file in parts.shared)
        plural = "" if count == 1 else "s"
        told = [f"with them: {count} shared file{plural}, {size(shared)}"] if count else []
        if parts.lacks:
            where = ", ".join(f"{kind.upper()} in {COMPANIONS[kind]}" for kind in parts.lacks)
            told.append(f"not in it: {where}")
        self.query_one("#shared", Static).update(Content(printable("\n".join(told), keep="\n")))

    @on(MarkedList.Changed)
    def _on_marked(self) -> None:
        self._measure()

    # where to

    @on(Input.Changed, "#place")
    def _on_place(self) -> None:
        self._measure()

    @on(Input.Submitted, "#place")
    @on(MarkedList.Entered)
    async def _on_entered(self) -> None:
        await self.app.run_action("start", self)  # which says why where it cannot

    def _measure(self) -> None:
        """Look what of the choice is here already, and how much room there is."""
        looked = self._looked
        if looked is None or looked.repository is None or looked.parts is None:
            return
        self._turn += 1
        self._measured = None
        marked = [self._variants[place] for place in self.query_one(MarkedList).marked]
        place = expanded(Path(self.query_one("#place", PathInput).value.strip() or "."))
        measure = partial(_measured, looked.repository, looked.parts, marked, place)
        in_background(self, measure, partial(self._take_measured, self._turn))

    def _take_measured(self, turn: int, measured: Measured) -> None:
        if turn != self._turn or not self.is_mounted:
            return
        self._measured = measured
        self.refresh_bindings()
        room = self.query_one("#room", Static)
        room.set_class(bool(measured.blocked), "-short")
        room.update(Content(printable(_room(measured), keep="\n")))

    def action_start(self) -> None:
        """Hand the plan over."""
        if self._measured is not None:
            self.post_message(DownloadWanted(self._measured.plan))

    def action_back(self) -> None:
        """From the variants to the repositories, from there to the models."""
        if self.has_class("-choosing"):
            self.dismiss()
            return
        self._asked, self._looked, self._measured = "", None, None
        self._show("-choosing")
        name = self.query_one("#name", Input)
        name.value = ""
        name.focus()
        self._list_known()


def _against(measured: Measured | None) -> str:
    """Why what was measured cannot be fetched."""
    if measured is None:
        return "What is here already is still being looked at."
    whole = all(each.whole for each in measured.plan.files)
    return measured.blocked or ("All of it is here already." if whole else "")


def about(repository: str) -> str:
    """What the name of a repository says, in words."""
    name = repository.lower()
    words = next((text for forms, text in ABOUT if all(form in name for form in forms)), "")
    distilled = "distill" in name and "step" not in words and not words.startswith(("LoRA", "T5"))
    return f"{words}, 4 steps" if distilled else words


def _variant_line(variant: RemoteVariant, *, best: bool) -> Content:
    """Its precision and size first: a name may be longer than the line."""
    words = variant.precision.value if variant.precision is not None else variant.kind
    note = "  recommended here" if best else ""
    if variant.kind == "dit" and variant.precision is None:
        words, note = "?", "  not run by this app"
    told = f"{words:<5} {size(variant.nbytes):>9}  {printable(variant.name)}"
    return Content.assemble(told, (note, "bold" if best else ""))


def _looked(name: str) -> Looked:
    from lightx2v_tui.gpus import read_gpus

    try:
        repository, parts = fetching.look(name)
    except EngineError as error:
        return Looked(name, error=error)
    gpu: Gpu | None = next(iter(read_gpus().gpus), None)
    return Looked(name, repository, parts, recommended(parts, gpu))


def _measured(
    repository: Repository, parts: Parts, marked: list[RemoteVariant], place: Path
) -> Measured:
    plan = fetching.plan(repository, parts, marked, place)
    free, blocked = fetching.free_bytes(plan.folder), ""
    above = next((p for p in (plan.folder, *plan.folder.parents) if p.exists()), place)
    if not above.is_dir():
        blocked = f"{above} is a file, not a folder."
    elif not fetching.may_write(above):
        blocked = f"You may not write to {above}."
    elif plan.left > free:
        blocked = f"{size(plan.left - free)} too much for the disk of {above}."
    return Measured(plan, free, blocked)


def _room(measured: Measured) -> str:
    plan = measured.plan
    here = f" ({size(plan.here)} are here already)" if plan.here else ""
    figures = f"{size(plan.left)} to fetch{here}, {size(measured.free)} free"
    return f"{measured.blocked or figures}\nmodel folder: {plan.folder.name}/"
