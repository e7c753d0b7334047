"""GPUs as NVML sees them: frozen snapshots, and a reason where there are none."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from engine.spec.precision import Support, bf16_support, fp8_support, int8_support
from lightx2v_tui import host

NVIDIA, AMD, INTEL = "0x10de", "0x1002", "0x8086"
GPU_CLASSES = ("0x03", "0x12")  # PCI's display controllers and processing accelerators
ON_CPU = "Models run on the CPU, slowly; with an NVIDIA GPU they run many times faster."
#: What to do when the driver does not answer, by the name of NVML's error.
DRIVER_ADVICE = {
    "NVMLError_LibraryNotFound": "Install the NVIDIA driver; start a container with `--gpus all`.",
    "NVMLError_DriverNotLoaded": "Load the driver (`sudo modprobe nvidia`), or install it again.",
    "NVMLError_LibRmVersionMismatch": "The driver was updated: restart the machine to load it.",
    "NVMLError_NoPermission": "Let this user read and write /dev/nvidia*.",
}


@dataclass(frozen=True)
class Trouble:
    """Something that is not well, and what to do about it."""

    what: str
    advice: str


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, or the MIG instance of one, at one moment; memory in bytes."""

    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    total_bytes: int
    used_bytes: int
    utilization: int | None = None  # percent
    temperature: int | None = None  # degrees Celsius
    power: float | None = None  # watts
    unified: bool = False  # its memory is the machine's own
    parent: str = ""  # of a MIG instance: the UUID of the whole GPU
    note: str = ""

    @property
    def mig(self) -> bool:
        """True for a MIG instance, a slice of a GPU."""
        return bool(self.parent)

    @property
    def free_bytes(self) -> int:
        """Memory that nobody holds."""
        return max(0, self.total_bytes - self.used_bytes)

    @property
    def bf16(self) -> Support:
        """What it can do with bfloat16."""
        return bf16_support(self.capability)

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
    """All GPUs in CUDA's order (`gpus[i]` is `cuda:i`), or why none can be used and what to do."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    advice: str = ""
    driver: str = ""
    cuda: tuple[int, int] | None = None  # the newest CUDA that the driver serves
    troubles: tuple[Trouble, ...] = ()


def number_as_nvml() -> None:
    """Make CUDA number GPUs as NVML does, unless the user chose; call before torch is imported."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def read_gpus(system: Path = host.SYSTEM) -> GpuReading:
    """Read all GPUs that CUDA will be shown, in CUDA's order; never raises."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return GpuReading(
            problem="nvidia-ml-py is not installed", advice="Install lightx2v-tui again."
        )
    except Exception as error:  # noqa: BLE001 - boundary: NVML raises its own family
        return _no_driver(error, system)
    try:
        return _read_all(pynvml, system)
    except Exception as error:  # noqa: BLE001 - boundary: NVML raises its own family
        return _failed(f"the NVIDIA driver failed ({error})", "Check that `nvidia-smi` works.")
    finally:
        with suppress(Exception):
            pynvml.nvmlShutdown()


def _failed(problem: str, advice: str) -> GpuReading:
    return GpuReading(problem=problem, advice=advice)


def _read_all(nvml: ModuleType, system: Path) -> GpuReading:
    found: list[Gpu] = []
    troubles: list[Trouble] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus = _read_one(nvml, index)
        except Exception as error:  # noqa: BLE001 - boundary: one lost GPU must not hide the others
            advice = "Look at `nvidia-smi` and `dmesg`; restart the machine if the GPU is lost."
            troubles.append(Trouble(f"GPU {index} does not answer ({error})", advice))
            continue
        found += gpus
        if not gpus:
            what = f"GPU {index} is in MIG mode and has no instance"
            advice = "Make one (`sudo nvidia-smi mig -cgi … -C`), or end MIG mode (`-mig 0`)."
            troubles.append(Trouble(what, advice))
    visible = _one_instance(_visible(found))
    if not visible:
        return _nothing_visible(found, troubles, system)
    version = _ask(nvml, "nvmlSystemGetCudaDriverVersion_v2")
    return GpuReading(
        tuple(visible),
        driver=str(_ask(nvml, "nvmlSystemGetDriverVersion") or ""),
        cuda=(version // 1000, version % 1000 // 10) if isinstance(version, int) else None,
        troubles=(*troubles, *_order_troubles(found)),
    )


def _read_one(nvml: ModuleType, index: int) -> list[Gpu]:
    """A GPU as a list of one; in MIG mode its instances, since the whole computes nothing then."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    whole = Gpu(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        total_bytes=0,
        used_bytes=0,
    )
    mode = _ask(nvml, "nvmlDeviceGetMigMode", handle)  # None where a GPU has no such mode
    if not isinstance(mode, list | tuple) or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return [_measured(nvml, handle, whole)]
    instances = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        instance = _ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
        if instance is None:  # a place that nothing was made in
            continue
        uuid = str(nvml.nvmlDeviceGetUUID(instance))
        name = str(_ask(nvml, "nvmlDeviceGetName", instance) or f"{whole.name} MIG")
        slice_ = replace(whole, uuid=uuid, name=name, parent=whole.uuid)
        instances.append(_measured(nvml, instance, slice_))
    return instances


def _measured(nvml: ModuleType, handle: object, gpu: Gpu) -> Gpu:
    power = _ask(nvml, "nvmlDeviceGetPowerUsage", handle)
    temperature = _ask(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU)
    utilization = _ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
    seen = replace(
        gpu,
        utilization=getattr(utilization, "gpu", None),
        temperature=temperature if isinstance(temperature, int) else None,
        power=power / 1000 if isinstance(power, int) else None,
    )
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        if memory.total or gpu.mig:
            return replace(seen, total_bytes=memory.total, used_bytes=memory.used)
    except nvml.NVMLError_NotSupported:  # what a GPU without memory of its own answers
        pass
    except nvml.NVMLError:
        return seen
    return seen if gpu.mig else _unified(seen)


def _unified(gpu: Gpu) -> Gpu:
    memory = host.read_memory()
    return replace(
        gpu,
        total_bytes=memory.total,
        used_bytes=memory.total - memory.available,
        unified=True,
        note="It shares the machine's memory: its figures and the RAM's are the same.",
    )


def _ask(nvml: ModuleType, function: str, *arguments: object) -> object:
    """NVML's answer, or None where this card or driver has none."""
    try:
        return getattr(nvml, function)(*arguments)
    except nvml.NVMLError:
        return None


def _visible(gpus: list[Gpu]) -> list[Gpu]:
    """Apply CUDA_VISIBLE_DEVICES: numbers or UUIDs, cut at the first that matches nothing."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return gpus
    items = [item.strip() for item in setting.split(",")]
    visible: list[Gpu] = []
    for item in items:
        match = _named(item, gpus)
        if match is None or _kind(item) != _kind(items[0]):  # CUDA reads one kind of name
            break
        if match in visible:  # CUDA shows nothing at all where one is named twice
            return []
        visible.append(match)
    return visible


def _kind(item: str) -> str:
    return item[:4] if item.startswith(("GPU-", "MIG-")) else ""


def _named(item: str, gpus: list[Gpu]) -> Gpu | None:
    """The GPU of a number, or of the start of a UUID where only one has it."""
    number = re.match(r"\+?\d+", item)  # CUDA reads as many digits as there are
    if number:
        matches = [gpu for gpu in gpus if gpu.index == int(number[0])]
    elif item.startswith("MIG-"):
        matches = [gpu for gpu in gpus if gpu.uuid.startswith(item)]
        return matches[0] if len(matches) == 1 else None
    else:
        matches = [gpu for gpu in gpus if item and (gpu.parent or gpu.uuid).startswith(item)]
    wholes = {gpu.parent or gpu.uuid for gpu in matches}
    return matches[0] if len(wholes) == 1 else None


def _one_instance(gpus: list[Gpu]) -> list[Gpu]:
    """As CUDA does: one MIG instance is all that a program sees, where there is any."""
    instances = [gpu for gpu in gpus if gpu.mig]
    if not instances or len(gpus) == 1:
        return gpus
    note = (
        f"CUDA shows a program one MIG instance and nothing else: this one of {len(gpus)} devices. "
        "CUDA_VISIBLE_DEVICES=MIG-… chooses another; `nvidia-smi -L` lists them."
    )
    return [replace(instances[0], note=note)]


def _order_troubles(gpus: list[Gpu]) -> tuple[Trouble, ...]:
    """Say so where CUDA's numbers may be others than NVML's."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    by_uuid = bool(setting) and not re.search(r"(^|,)\s*\d", setting)
    same = len({gpu.name for gpu in gpus}) < 2
    if same or by_uuid or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return ()
    what = "CUDA counts the fastest GPU first, so that its numbers may not be those shown here"
    advice = "Set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name UUIDs in CUDA_VISIBLE_DEVICES."
    return (Trouble(what, advice),)


def _nothing_visible(found: list[Gpu], troubles: list[Trouble], system: Path) -> GpuReading:
    if found:
        advice = "Unset it, or name GPUs that `nvidia-smi -L` lists, by number or UUID."
        return _failed("CUDA_VISIBLE_DEVICES hides every GPU", advice)
    if troubles:
        return _failed(troubles[0].what, troubles[0].advice)
    if NVIDIA in gpu_vendors(system):
        advice = "Start a container with `--gpus all`; else see that no other driver holds the GPU."
        return _failed("an NVIDIA GPU is here, but its driver shows none", advice)
    return _no_nvidia(system)


def _no_driver(error: Exception, system: Path) -> GpuReading:
    name = type(error).__name__
    advice = DRIVER_ADVICE.get(name, "Check that `nvidia-smi` works.")
    if NVIDIA in gpu_vendors(system):
        return _failed(f"an NVIDIA GPU is here, but no NVIDIA driver answers ({error})", advice)
    absent = name in ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")
    if absent and _lists_gpus(system):
        return _no_nvidia(system)
    return _failed(f"no NVIDIA driver answers ({error})", advice)


def _lists_gpus(system: Path) -> bool:
    """Whether a GPU that is here would be seen; Windows hides it from its Linux."""
    if platform.system() == "Darwin":
        return True
    return (system / "sys/bus/pci/devices").is_dir() and not (system / "dev/dxg").exists()


def _no_nvidia(system: Path) -> GpuReading:
    vendors = gpu_vendors(system)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        kind = "an Apple GPU"
    elif AMD in vendors or (system / "dev/kfd").exists():
        kind = "an AMD GPU"
    elif INTEL in vendors:
        kind = "an Intel GPU"
    else:
        return _failed("no NVIDIA GPU found", ON_CPU)
    return _failed(f"this machine has {kind}, which this engine does not use", ON_CPU)


@lru_cache(maxsize=8)
def gpu_vendors(system: Path = host.SYSTEM) -> frozenset[str]:
    """PCI vendor numbers of all GPUs that Linux knows of, with a driver or without."""
    vendors = set()
    for device in (system / "sys/bus/pci/devices").glob("*"):
        with suppress(OSError):
            if (device / "class").read_text().startswith(GPU_CLASSES):
                vendors.add((device / "vendor").read_text().strip())
    return frozenset(vendors)
