"""The two lines on top of every screen: where you are, and what this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from lightx2v_tui.units import size

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu, GpuReading
    from lightx2v_tui.host import HostMemory


class TitleBar(Static):
    """The name of the app and of the place in it."""

    DEFAULT_CSS = "TitleBar { height: 1; background: $panel; padding: 0 1; }"
    place: reactive[str] = reactive("")
    state: reactive[str] = reactive("")

    def render(self) -> Content:
        """Draw the line."""
        return Content.assemble(
            ("lightx2v-tui", "bold $primary"),
            (f" › {self.place}", "bold"),
            (f"  {self.state}", "$text-muted"),
        )


class MachineBar(Static):
    """GPU, memory and what they mean for FP8."""

    DEFAULT_CSS = "MachineBar { height: auto; padding: 0 1; color: $text-muted; }"

    def show(self, gpus: GpuReading, memory: HostMemory) -> None:
        """Show one reading."""
        ram = f"RAM {size(memory.available)} of {size(memory.total)} free"
        if gpus.gpus:
            lines = [_describe(gpu) for gpu in gpus.gpus]
            self.update(Content("\n".join([*lines, ram])))
        else:
            self.update(Content(f"No GPU: {gpus.problem}. Models run on the CPU. {ram}"))


def _describe(gpu: Gpu) -> str:
    used = f"{size(gpu.used_bytes)} of {size(gpu.total_bytes)} used" if gpu.total_bytes else ""
    return f"GPU {gpu.index} {gpu.name}  {used}  {gpu.fp8.reason.partition(':')[0]}"
