"""What a screen does with the machine while a run is under way: read it, and foresee its peaks."""

from __future__ import annotations

import time
from dataclasses import replace

from textual import work

from engine.spec.errors import EngineError
from lightx2v_tui.gpus import GpuReading
from lightx2v_tui.host import CpuLoad, HostMemory
from lightx2v_tui.messages import MachineRead
from lightx2v_tui.output import printable
from lightx2v_tui.runs.device_lock import CPU, gpu_of
from lightx2v_tui.runs.expected import Expected, expect
from lightx2v_tui.runs.launcher import Launcher, Run
from lightx2v_tui.screens.base import AppScreen
from lightx2v_tui.widgets.background import in_background
from lightx2v_tui.widgets.meter_panel import Machine, MeterPanel

EARLY = 10.0  # seconds in which the machine is still as it was before the run


class MachineScreen(AppScreen[None]):
    """A screen with a `MeterPanel` on it."""

    _reading = False
    ram_peak = 0  # of the run's process, while the screen looked

    def __init__(self, *, classes: str) -> None:
        super().__init__(classes=classes)
        self._cpu = CpuLoad()

    @property
    def measured(self) -> str:
        """The device of the run that is shown; empty where there is nothing to measure."""
        raise NotImplementedError

    def keep_place(self) -> None:
        """Give the meters the place that they need."""
        raise NotImplementedError

    def foresee(self, gpus: GpuReading, memory: HostMemory) -> None:
        """Use a reading to say what the run will take."""

    def read_memory(self) -> HostMemory:
        """Read the RAM, on a thread."""
        from lightx2v_tui.host import read_memory

        return read_memory()

    def read_machine(self) -> None:
        """Read the machine, unless the last reading has not come back yet."""
        if not self._reading:  # a driver that hangs must not be asked again and again
            self._reading = True
            self._read_machine_now()

    @work(thread=True, exit_on_error=False, group="machine")
    def _read_machine_now(self) -> None:
        from lightx2v_tui.gpus import read_gpus

        try:
            self.post_message(MachineRead(read_gpus(), self.read_memory()))
        finally:
            self._reading = False

    def on_machine_read(self, message: MachineRead) -> None:
        """Draw the meters."""
        message.stop()
        if not self.measured:
            return
        gpus, memory = message.gpus, message.memory
        self.ram_peak = max(self.ram_peak, memory.process)
        self.foresee(gpus, memory)
        gpu = gpu_of(self.measured, gpus.gpus)
        seen = gpu is not None or self.measured == CPU
        problem = "" if seen else printable(gpus.problem or "it is not seen any more")
        machine = Machine(memory, self._cpu.read(), gpu, problem)
        self.query_one(MeterPanel).show(machine)
        self.keep_place()


class ForeseeingScreen(MachineScreen):
    """A screen that knows what the run of its own app was expected to take."""

    _launcher: Launcher
    _run: Run
    _foreseeing: Run | None = None  # what was foreseen, or is about to be

    @property
    def measured(self) -> str:
        """The device of the run that is shown; empty where it has ended."""
        return "" if self._run.ended else self._run.plan.job.device

    def foresee(self, gpus: GpuReading, memory: HostMemory) -> None:
        """Foresee the peaks once a run, from the machine as it was when the run began."""
        run = self._run
        if self._foreseeing is run:
            return
        self._foreseeing = run
        early = run.tracker.view.total(time.monotonic()) < EARLY

        def work() -> Expected | None:
            known = self._launcher.expected(run)
            if known is not None:
                return known
            try:
                told = expect(run.plan.job, gpus, run.memory or memory, run.held)
            except (EngineError, OSError):  # the run itself will say so
                return None
            return told if early else replace(told, vram_used=0)

        def take(expected: Expected | None) -> None:
            if expected is not None:
                self._launcher.expect(run, expected)
                if run is self._run and self.is_mounted:
                    self.query_one(MeterPanel).expect(expected)

        in_background(self, work, take)
