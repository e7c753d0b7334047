"""The two lines on top of every screen: where you are, and what this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from lightx2v_tui.output import printable
from lightx2v_tui.units import size

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu, GpuReading
    from lightx2v_tui.host import HostMemory


NAME = "lightx2v-tui"
BAR = 8  # cells of a memory bar
NOTABLE = 0.01  # of a memory; smaller changes are not worth the bytes of a line
HIGH = 0.9  # from where on a memory is nearly full
Reading = tuple["GpuReading", "HostMemory"]


class TitleBar(Static):
    """The name of the app and of the place in it."""

    DEFAULT_CSS = "TitleBar { height: 1; background: $panel; padding: 0 1; }"
    place: reactive[str] = reactive("")
    state: reactive[str] = reactive("")

    def render(self) -> Content:
        """Draw the line."""
        state = f"  {self.state}" if self.state else ""
        room = self.size.width - cell_len(state)
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
    """GPU, memory and what they mean for FP8; drawn anew where figures changed notably."""

    DEFAULT_CSS = """
    MachineBar { height: auto; max-height: 6; padding: 0 1; color: $text-muted; }
    """
    _shown: Reading | None = None

    def show(self, gpus: GpuReading, memory: HostMemory) -> bool:
        """Show one reading; False where it says nothing new."""
        if self._shown is not None and not _notable(self._shown, (gpus, memory)):
            return False
        self._shown = (gpus, memory)
        lines = [_gpu_line(gpu) for gpu in gpus.gpus]
        ram = f"RAM {size(memory.available)} of {size(memory.total)} free"
        if not lines:
            problem = f"{gpus.problem[:1].upper()}{gpus.problem[1:]}"
            lines = [Content(printable(f"{problem}: models run on the CPU. {ram}"))]
        elif len(lines) == 1 and not gpus.troubles:
            lines.append(Content(ram))
        else:
            said = [trouble.what for trouble in gpus.troubles]
            lines.append(Content(printable(". ".join([ram, *said]))))
        self.update(Content("\n").join(lines))
        return True


def _notable(old: Reading, new: Reading) -> bool:
    """Whether a reading differs so much from what is shown that it is worth drawing."""
    if [_same(gpu) for gpu in old[0].gpus] != [_same(gpu) for gpu in new[0].gpus]:
        return True
    if (old[0].problem, old[0].troubles) != (new[0].problem, new[0].troubles):
        return True
    pairs = [(a.used_bytes, b.used_bytes, b.total_bytes)
             for a, b in zip(old[0].gpus, new[0].gpus, strict=True)]  # fmt: skip
    pairs.append((old[1].available, new[1].available, new[1].total))
    return any(abs(a - b) > NOTABLE * total for a, b, total in pairs)


def _same(gpu: Gpu) -> Sequence[object]:
    """What of a GPU does not change from moment to moment."""
    return (gpu.uuid, gpu.name, gpu.capability, gpu.total_bytes)


def _gpu_line(gpu: Gpu) -> Content:
    """A GPU in one line: its memory as a bar, and what it does with FP8."""
    from lightx2v_tui.widgets.meters import bar

    head, figures, means = _parts(gpu)
    parts: list[tuple[str, str]] = [(head, "bold $foreground")]
    if gpu.total_bytes:
        used = gpu.used_bytes / gpu.total_bytes
        parts.append((f"  {bar(used, BAR)}", "$warning" if used > HIGH else "$primary"))
    parts += [(figures, ""), (means, "$success" if gpu.fp8.native else "$warning")]
    return Content.assemble(*((printable(text), style) for text, style in parts))


def _describe(gpu: Gpu) -> str:
    return "".join(_parts(gpu))


def _parts(gpu: Gpu) -> tuple[str, str, str]:
    """Its name, its memory, and what its compute capability means for FP8."""
    kind = "unified memory, " if gpu.unified else "MIG, " if gpu.mig else ""
    used, total = size(gpu.used_bytes), size(gpu.total_bytes)
    figures = f"  {kind}{used} of {total} used, " if gpu.total_bytes else f"  {kind}"
    level = f"{gpu.capability[0]}.{gpu.capability[1]}"
    means = f"{gpu.fp8.reason.partition(':')[0]} ({level})"
    return f"GPU {gpu.index} {gpu.name}", figures, means
