"""All fields of the launch form in two columns: what will be made on the left, how on the right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from engine.spec.job import Previews
from lightx2v_tui.catalog import Kind, ModelRoot
from lightx2v_tui.launch import choices, form, runnable
from lightx2v_tui.launch.choices import Choice
from lightx2v_tui.presets import Preset
from lightx2v_tui.widgets.fields import FieldPanel
from lightx2v_tui.widgets.image_field import ImageField
from lightx2v_tui.widgets.loras import LoraPanel
from lightx2v_tui.widgets.numbers import MachinePanel, SamplingPanel, VideoPanel
from lightx2v_tui.widgets.precision import PrecisionPanel
from lightx2v_tui.widgets.prompt import PromptEditor


class LaunchForm(VerticalScroll, can_focus=False):
    """Shows a preset of a model, and reads it back as it was changed."""

    @dataclass
    class Changed(Message):
        """Something that decides what is made, or how, is another now."""

        reading: form.Reading

        def can_replace(self, message: Message) -> bool:
            """Only the newest matters."""
            return isinstance(message, LaunchForm.Changed)

    class Picked(Message):
        """A precision was picked by hand."""

    def __init__(self, root: ModelRoot, preset: Preset) -> None:
        super().__init__(id="form")
        self._root = root
        self._preset, self._choice = choices.opened(preset, root)
        self._shape = form.shape_of(self._preset)

    def compose(self) -> ComposeResult:
        """Build both columns."""
        with Container(id="columns"):
            with Container(id="left"):
                yield from self._left()
            with Container(id="right"):
                yield from self._right()

    def _left(self) -> Iterator[Widget]:
        preset = self._preset
        yield PrecisionPanel(self._root, self._choice)
        if self._shape.image:
            yield _panel("First frame", ImageField(preset.image, id="image"))
        yield PromptEditor(preset.prompt or "", "Prompt", id="prompt")
        if self._shape.guided:
            yield PromptEditor(preset.negative_prompt or "", "Negative prompt", id="negative")

    def _right(self) -> Iterator[Widget]:
        fields = form.fields_of(self._preset)
        tiny = not runnable.reason_no_vae(self._root, tiny=True)
        previews = [kind for kind in Previews if tiny or kind is not Previews.TINY_VAE]
        yield VideoPanel(fields, "Video", id="video")
        yield SamplingPanel(fields, self._shape)
        yield MachinePanel(fields, previews)
        yield _panel("LoRAs", LoraPanel(self._root, self._preset.loras or (), id="loras"))

    def on_mount(self) -> None:
        """Match the LoRAs with the DiT that is picked."""
        self._show_dit()

    def read(self) -> form.Reading:
        """The preset with what the fields say, and what is wrong with them."""
        fields = form.fields_of(self._preset)
        for panel in self.query(FieldPanel):
            fields = panel.fill(fields)
        texts = {editor.id: editor.text for editor in self.query(PromptEditor)}
        negative = texts.get("negative", fields.negative)
        fields = replace(fields, prompt=texts["prompt"], negative=negative)
        preset = choices.with_choice(self._preset, self._root, self._choice)
        loras = self.query_one(LoraPanel).loras
        if loras != (preset.loras or ()):
            preset = replace(preset, loras=loras)
        for image in self.query(ImageField):
            preset = replace(preset, image=image.path)
        return form.read(fields, preset)

    def show_choice(self, choice: Choice, why: str) -> None:
        """Show other precisions, and why."""
        self._choice = choice
        self.query_one(PrecisionPanel).show(choice, why)
        self._changed()

    def show_seed(self, seed: int, *, random: bool = False) -> None:
        """Put a seed into its field."""
        self.query_one(VideoPanel).show_seed(seed, random=random)

    def show_adjusted(self, text: str) -> None:
        """Say what the size becomes."""
        self.query_one(VideoPanel).show_adjusted(text)

    def go_to(self, name: str) -> None:
        """Focus the field of a name."""
        found = self.query_one(f"#{name}")
        (found.query_one(Input) if name == "image" else found).focus()

    @on(PrecisionPanel.Changed)
    def _on_choice(self, event: PrecisionPanel.Changed) -> None:
        event.stop()
        self._choice = event.choice
        self.post_message(self.Picked())
        self._changed()

    @on(FieldPanel.Changed)
    @on(LoraPanel.Changed)
    @on(ImageField.Changed)
    def _on_field(self, event: Message) -> None:
        event.stop()
        self._changed()

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.screen.focus_next()

    def _changed(self) -> None:
        reading = self.read()
        for panel in self.query(FieldPanel):
            panel.mark(reading.errors)
        self._show_dit()
        self.post_message(self.Changed(reading))

    def _show_dit(self) -> None:
        """Let the LoRAs be matched with the DiT that is chosen."""
        dit = self._root.find(Kind.DIT, self._choice.dit)
        self.query_one(LoraPanel).show_dit(dit.files if dit is not None else ())


def _panel(title: str, child: Widget) -> Widget:
    panel = Container(child, classes="panel small")
    panel.border_title = title
    return panel
