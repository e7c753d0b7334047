"""GPUs as NVML sees them: frozen snapshots, and a reason where there are none."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from engine.spec.precision import Support, fp8_support, int8_support


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU at one moment; memory in bytes."""

    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    total_bytes: int
    used_bytes: int
    utilization: int | None = None  # percent
    temperature: int | None = None  # degrees Celsius
    power: float | None = None  # watts

    @property
    def fp8(self) -> Support:
        """What it can do with FP8."""
        return fp8_support(self.capability)

    @property
    def int8(self) -> Support:
        """What it can do with INT8."""
        return int8_support(self.capability)


@dataclass(frozen=True)
class GpuReading:
    """All GPUs, or why none can be seen."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


def read_gpus() -> GpuReading:
    """Read all GPUs that CUDA will be shown, in CUDA's order; never raises."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return GpuReading(problem="nvidia-ml-py is not installed")
    except Exception as error:  # noqa: BLE001 - boundary: NVML raises its own family
        return GpuReading(problem=f"no NVIDIA driver answers ({error})")
    try:
        found = [_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except Exception as error:  # noqa: BLE001 - boundary: NVML raises its own family
        return GpuReading(problem=f"the NVIDIA driver failed ({error})")
    finally:
        with suppress(Exception):
            pynvml.nvmlShutdown()
    visible = _visible(found)
    problem = "" if visible else "CUDA_VISIBLE_DEVICES hides every GPU" if found else "no GPU found"
    return GpuReading(tuple(visible), problem)


def _read(nvml, index: int) -> Gpu:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a module
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: str, *arguments: object) -> object:
        try:
            return getattr(nvml, function)(handle, *arguments)
        except nvml.NVMLError:  # unsupported on this card
            return None

    memory = ask("nvmlDeviceGetMemoryInfo")  # None on unified memory
    utilization = ask("nvmlDeviceGetUtilizationRates")
    power = ask("nvmlDeviceGetPowerUsage")
    temperature = ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
    return Gpu(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        total_bytes=getattr(memory, "total", 0),
        used_bytes=getattr(memory, "used", 0),
        utilization=getattr(utilization, "gpu", None),
        temperature=temperature if isinstance(temperature, int) else None,
        power=power / 1000 if isinstance(power, int) else None,
    )


def _visible(gpus: list[Gpu]) -> list[Gpu]:
    """Apply CUDA_VISIBLE_DEVICES: numbers or UUIDs, cut at the first that matches nothing."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return gpus
    visible = []
    for item in (part.strip() for part in setting.split(",")):
        match = [g for g in gpus if str(g.index) == item or (item and g.uuid.startswith(item))]
        if not match:
            break
        visible.append(match[0])
    return visible
