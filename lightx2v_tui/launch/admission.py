"""What is refused before anything is loaded: a run that the machine's RAM cannot hold.

The system would end such a process without a word, after minutes of loading. VRAM is no reason:
running out of it is told, and a lower plan is tried.
"""

from __future__ import annotations

from engine.spec.errors import EngineError
from lightx2v_tui.host import HostMemory
from lightx2v_tui.launch.forecast import Forecast
from lightx2v_tui.units import size


class TooLittleRam(EngineError):  # noqa: N818 - told as it is
    """A run needs more RAM than this process can get."""


def check_ram(forecast: Forecast, memory: HostMemory) -> str:
    """Refuse a run that RAM and swap together cannot hold; gives a note where it will swap.

    The swap of the machine is not counted where a container or service has a limit of its own.

    Raises:
        TooLittleRam: with the figures, and what would fit.
    """
    needed, available = forecast.estimate.ram_needed, forecast.machine.ram_available
    swap = 0 if memory.limit is not None else memory.swap_free
    if needed <= available:
        return ""
    if needed <= available + swap:
        return f"RAM {size(needed)} of {size(available)}: the rest is swapped, which is slow"
    limited = f", the limit of this container or service is {size(memory.total)}"
    beside = limited if memory.limit is not None else f", {size(swap)} of swap"
    advice = " ".join(forecast.estimate.advice[:1]) or "Choose lighter weights or a smaller video."
    raise TooLittleRam(
        f"This run needs {size(needed)} of RAM",
        f"{size(available)} are free{beside}; the system would end it while it loads",
        f"{advice.rstrip('.')}. `--force` tries all the same.",
    )
