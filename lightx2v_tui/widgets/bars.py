"""The two lines on top of every screen: where you are, and what this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from lightx2v_tui.units import size

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu, GpuReading
    from lightx2v_tui.host import HostMemory


NAME = "lightx2v-tui"


class TitleBar(Static):
    """The name of the app and of the place in it."""

    DEFAULT_CSS = "TitleBar { height: 1; background: $panel; padding: 0 1; }"
    place: reactive[str] = reactive("")
    state: reactive[str] = reactive("")

    def render(self) -> Content:
        """Draw the line."""
        state = f"  {self.state}" if self.state else ""
        room = self.size.width - len(state)
        full = f"{NAME} › {self.place}"
        if cell_len(full) <= room:
            return Content.assemble(
                (NAME, "bold $primary"), (f" › {self.place}", "bold"), (state, "$text-muted")
            )
        model, arrow, here = self.place.rpartition(" › ")
        spare = max(1, room - cell_len(arrow + here) - 1)
        short = f"{set_cell_size(model, spare).rstrip()}…{arrow}{here}" if arrow else self.place
        return Content.assemble((short[: max(0, room)], "bold"), (state, "$text-muted"))


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
            problem = f"{gpus.problem[:1].upper()}{gpus.problem[1:]}"
            self.update(Content(f"{problem}: models run on the CPU. {ram}"))


def _describe(gpu: Gpu) -> str:
    kind = "unified memory, " if gpu.unified else "MIG, " if gpu.mig else ""
    used, total = size(gpu.used_bytes), size(gpu.total_bytes)
    memory = f"{kind}{used} of {total} used, " if gpu.total_bytes else ""
    level = f"{gpu.capability[0]}.{gpu.capability[1]}"
    return f"GPU {gpu.index} {gpu.name}  {memory}{gpu.fp8.reason.partition(':')[0]} ({level})"
