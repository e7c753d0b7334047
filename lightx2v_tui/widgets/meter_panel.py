"""What the machine does during a run: its meters, and at the end how the peaks were foreseen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from engine.spec.events import MemoryUsed
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.host import HostMemory
from lightx2v_tui.runs.expected import Expected
from lightx2v_tui.units import size
from lightx2v_tui.widgets.lines import Line
from lightx2v_tui.widgets.meters import MARK, Level, Meter

NAMES = {"vram": "VRAM", "ram": "RAM", "gpu": "GPU", "temperature": "Temp", "power": "Power",
         "cpu": "CPU"}  # fmt: skip
OF_GPU = ("vram", "gpu", "temperature", "power")
HOTTEST = 100.0  # degrees Celsius at the end of the bar
#: Watts at the end of the bar: the next above all that was seen.
POWERS = (75, 150, 250, 350, 450, 600, 700, 1000, 1400, 2800)


@dataclass(frozen=True)
class Machine:
    """One reading: RAM, how busy the CPU is, and the run's GPU, or why it is not seen.

    A run on the CPU has neither a GPU nor a problem with it.
    """

    memory: HostMemory
    cpu: float  # percent
    gpu: Gpu | None = None
    problem: str = ""


class MeterPanel(Vertical):
    """The meters of one machine while it works."""

    DEFAULT_CSS = """
    MeterPanel { height: 1fr; min-height: 4;  }
    MeterPanel.-ended { height: auto; min-height: 3; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel")
        self.border_title = "Machine"
        self._most_power = 0.0
        self._expected: Expected | None = None

    def compose(self) -> ComposeResult:
        """Build the meters."""
        for key, name in NAMES.items():
            yield Meter(name, id=f"meter-{key}")
        yield Line(id="peak-vram")
        yield Line(id="peak-ram")

    @property
    def rows(self) -> int:
        """Lines that it takes at least, with its border."""
        return 2 + max(1, sum(child.display for child in self.children))

    def begin(self) -> None:
        """Another run begins: nothing of the last one is shown."""
        self.remove_class("-ended")
        self._most_power, self._expected = 0.0, None
        self.border_subtitle = ""
        for meter in self.query(Meter):
            meter.clear()
        for line in self.query(Line):
            line.hide()

    def expect(self, expected: Expected) -> None:
        """Mark the foreseen peaks on the bars from now on."""
        self._expected = expected
        self.border_subtitle = f"{MARK} foreseen peak"

    def show(self, machine: Machine) -> None:
        """Show one reading; where the GPU is seen no more, say so."""
        for key, level in self._levels(machine):
            self._meter(key).show(level)
        if machine.problem:
            for key in OF_GPU:
                self._meter(key).tell(machine.problem)

    def show_end(self, memory: MemoryUsed | None, ram_peak: int) -> None:
        """Show the peaks of a run that has ended, beside what was foreseen."""
        self.add_class("-ended")
        self.border_subtitle = ""
        for meter in self.query(Meter):
            meter.display = False
        foreseen = self._expected
        if memory is not None and memory.vram_peak:
            line = _peak("VRAM", memory.vram_peak, foreseen.vram_peak if foreseen else 0)
            self.query_one("#peak-vram", Line).show(line)
        line = _peak("RAM", ram_peak, foreseen.ram_peak if foreseen else 0)
        self.query_one("#peak-ram", Line).show(line)

    def _meter(self, key: str) -> Meter:
        return self.query_one(f"#meter-{key}", Meter)

    def _levels(self, machine: Machine) -> Iterator[tuple[str, Level]]:
        memory, gpu, foreseen = machine.memory, machine.gpu, self._expected
        if gpu is not None:
            yield from self._of_gpu(gpu)
        used = memory.total - memory.available
        yield "ram", _bytes(used, memory.total, foreseen.ram_used if foreseen else 0)
        if gpu is None and not machine.problem:
            yield "cpu", Level(machine.cpu / 100, f"{machine.cpu:.0f} %", alarms=False)

    def _of_gpu(self, gpu: Gpu) -> Iterator[tuple[str, Level]]:
        foreseen = self._expected.vram_used if self._expected else 0
        if gpu.total_bytes:
            yield "vram", _bytes(gpu.used_bytes, gpu.total_bytes, foreseen)
        if gpu.utilization is not None:
            yield "gpu", Level(gpu.utilization / 100, f"{gpu.utilization} %", alarms=False)
        if gpu.temperature is not None:
            yield "temperature", Level(gpu.temperature / HOTTEST, f"{gpu.temperature} °C")
        if gpu.power is not None:
            self._most_power = max(self._most_power, gpu.power)
            top = next((watts for watts in POWERS if watts >= self._most_power), POWERS[-1])
            amount = f"{gpu.power:.0f} W of {top} W"
            yield "power", Level(gpu.power / top, amount, alarms=False)


def _bytes(used: int, total: int, foreseen: int) -> Level:
    mark = foreseen / total if foreseen else None
    return Level(used / total, f"{size(used)} of {size(total)}", mark)


def _peak(name: str, measured: int, foreseen: int) -> Content:
    told = f", foreseen {size(foreseen)}" if foreseen else ""
    return Content.assemble((f"{name:<6}", "bold"), f"peak {size(measured)}{told}")
