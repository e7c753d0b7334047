"""The numbers of a video: its size and length, how it is sampled, and how it is run."""

from __future__ import annotations

from collections.abc import Collection

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Checkbox, Input, Select, Static

from engine.spec.job import Previews
from lightx2v_tui.launch import form
from lightx2v_tui.launch.form import Fields, Offload, Shape
from lightx2v_tui.widgets.fields import (
    FieldPanel,
    NumberInput,
    between,
    options,
    row,
    toggle,
)
from lightx2v_tui.widgets.path_input import PathInput

CUSTOM = ""
PREVIEWS = {
    Previews.LATENTS: "latents",
    Previews.TINY_VAE: "tiny VAE",
    Previews.OFF: "off",
}


class VideoPanel(FieldPanel):
    """How large and how long the video is, and from which seed it is made."""

    def compose(self) -> ComposeResult:
        """Build the fields."""
        fields = self._fields
        sizes = [(f"{size}  {group}", size) for size, group in form.sizes()]
        here = form.size_name(fields.width, fields.height)
        yield row(
            "Size",
            Select(
                [*sizes, ("custom", CUSTOM)],
                value=here,
                allow_blank=False,
                id="size",
                compact=True,
            ),
        )
        yield row(
            "",
            NumberInput(fields.width, id="width", step="16", least="16"),
            between("by"),
            NumberInput(fields.height, id="height", step="16", least="16"),
            Static(id="adjusted", classes="note", markup=False),
        )
        yield row(
            "Frames",
            NumberInput(fields.frames, id="frames", step="4", least="1"),
            between("at"),
            NumberInput(fields.fps, id="fps", step="1", least="1"),
            Static("fps", id="length", classes="note", markup=False),
        )
        yield row(
            "Seed",
            NumberInput(fields.seed, id="seed", step="1"),
            toggle("random_seed", "random", on=fields.random_seed, beside=True),
        )

    def on_mount(self) -> None:
        """Say how long it will be."""
        self._seed = self._fields.seed  # as it was shown, not typed
        self._show_length()

    def show_seed(self, seed: int, *, random: bool = False) -> None:
        """Put a seed into its field."""
        self._seed = str(seed)
        self.query_one("#random_seed", Checkbox).value = random
        self.query_one("#seed", Input).value = self._seed

    def show_adjusted(self, text: str) -> None:
        """Say what the size becomes."""
        self.query_one("#adjusted", Static).update(Content(text), layout=False)

    @on(Input.Changed, "#seed")
    def _on_seed(self, event: Input.Changed) -> None:
        if event.value != self._seed:  # a number that is typed is meant
            self._seed = event.value
            self.query_one("#random_seed", Checkbox).value = False

    @on(Select.Changed, "#size")
    def _on_size(self, event: Select.Changed) -> None:
        if event.value and event.value != self._size_typed():
            width, height = str(event.value).split("x")
            self.query_one("#width", Input).value = width
            self.query_one("#height", Input).value = height

    @on(Input.Changed, "#width, #height")
    def _on_side(self) -> None:
        self.query_one("#size", Select).value = self._size_typed()

    @on(Input.Changed, "#frames, #fps")
    def _on_time(self) -> None:
        self._show_length()

    def _size_typed(self) -> str:
        sides = (self.query_one(f"#{name}", Input).value for name in ("width", "height"))
        return form.size_name(*sides)

    def _show_length(self) -> None:
        frames, fps = (self.query_one(f"#{name}", Input).value for name in ("frames", "fps"))
        told = ", ".join(filter(None, ("fps", form.length(frames, fps))))
        self.query_one("#length", Static).update(Content(told), layout=False)


class SamplingPanel(FieldPanel):
    """How the video is sampled."""

    def __init__(self, fields: Fields, shape: Shape) -> None:
        """Show the fields that a model of this shape has."""
        super().__init__(fields, "Sampling", id="sampling")
        self._shape = shape

    def compose(self) -> ComposeResult:
        """Build the fields."""
        fields = self._fields
        if self._shape.listed:
            yield row("Steps", Input(fields.steps, id="steps", compact=True))
        else:
            yield row(
                "Steps",
                NumberInput(fields.steps, id="steps", step="1", least="1"),
                options_of_texts("sampler", form.SAMPLERS, fields.sampler),
            )
        shift = NumberInput(fields.shift, id="shift", step="0.5", least="0.5")
        if not self._shape.guided:
            yield row("Shift", shift, Static(id="counted", classes="note apart", markup=False))
            return
        guidance = NumberInput(fields.guidance, id="guidance", step="0.5", least="0")
        yield row("Guidance", guidance, Static(id="guided", classes="note apart", markup=False))
        yield row("Shift", shift)

    def on_mount(self) -> None:
        """Say what the numbers come to."""
        self._tell()

    @on(Input.Changed)
    def _on_number(self) -> None:
        self._tell()

    def _tell(self) -> None:
        values = self._values()
        for note in self.query("#guided").results(Static):
            off = str(values["guidance"]).strip() in ("1", "1.0")
            note.update(Content("none" if off else ""), layout=False)
        for note in self.query("#counted").results(Static):
            count = len(str(values["steps"]).replace(",", " ").split())
            note.update(Content(f"{count} step{'' if count == 1 else 's'}"), layout=False)


class MachinePanel(FieldPanel):
    """How the run treats the machine, and where its video goes."""

    def __init__(self, fields: Fields, previews: Collection[Previews]) -> None:
        """Offer those previews that the model has."""
        super().__init__(fields, "Run", id="machine")
        self._previews = previews

    def compose(self) -> ComposeResult:
        """Build the fields."""
        fields = self._fields
        modes = [mode for mode in Offload if mode in (*form.OFFLOADS, fields.offload)]
        yield row(
            "Offload", options("offload", [(mode.value, mode) for mode in modes], fields.offload)
        )
        there = fields.preview if fields.preview in self._previews else Previews.LATENTS
        yield row(
            "Preview",
            options("preview", [(PREVIEWS[kind], kind) for kind in self._previews], there),
        )
        yield row("VAE", toggle("tiling", "decode in tiles", on=fields.tiling))
        yield row("Output", PathInput(fields.output, id="output", suffixes=(".mp4",),
                                      placeholder="in the run's folder", compact=True))  # fmt: skip


def options_of_texts(name: str, texts: Collection[str], value: str) -> Select[str]:
    """A field in which one of some texts is picked."""
    return Select(
        [(text, text) for text in texts], value=value, allow_blank=False, id=name, compact=True
    )
