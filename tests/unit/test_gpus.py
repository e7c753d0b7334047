"""GPUs through a stand-in for NVML, whose shape is that of the real module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pynvml as real_nvml
import pytest

from lightx2v_tui import gpus
from lightx2v_tui.gpus import Gpu, GpuReading, number_as_nvml, read_gpus
from lightx2v_tui.host import HostMemory

GB = 10**9
NO_SENSORS = frozenset(
    {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature"}
)


@dataclass(frozen=True)
class Card:
    """A GPU, or one instance of one, as a driver describes it."""

    uuid: str
    name: str
    capability: tuple[int, int]
    total: int = 80_000
    used: int = 1_000
    unsupported: frozenset[str] = frozenset()
    mig: tuple[Card | None, ...] | None = None  # None: its mode is off


H100 = Card("GPU-aaaa-1111", "NVIDIA H100 80GB HBM3", (9, 0))
A100 = Card("GPU-bbbb-2222", "NVIDIA A100-SXM4-80GB", (8, 0), used=1_001)
SLICES = tuple(
    Card(f"MIG-{letter * 4}", f"NVIDIA H100 80GB HBM3 MIG {size}", (0, 0), total, 500, NO_SENSORS)
    for letter, size, total in (("c", "1g.10gb", 10_000), ("d", "2g.20gb", 20_000))
)
SLICED = replace(H100, mig=(SLICES[0], None, SLICES[1], None))


class NvmlError(Exception):
    """NVML's family of errors."""


class NotSupportedError(NvmlError):
    """What a card answers that lacks something."""


@dataclass
class FakeNvml:
    """The functions of pynvml that are used; `failing` names those that raise."""

    cards: list[Card] = field(default_factory=lambda: [H100, A100])
    failing: set[str] = field(default_factory=set)
    error: type[Exception] = NvmlError
    open: int = 0

    NVMLError = NvmlError
    NVMLError_NotSupported = NotSupportedError
    NVML_TEMPERATURE_GPU = real_nvml.NVML_TEMPERATURE_GPU
    NVML_DEVICE_MIG_ENABLE = real_nvml.NVML_DEVICE_MIG_ENABLE

    def _check(self, name: str, card: Card | None = None) -> None:
        if name in self.failing:
            raise self.error(f"{name} fails")
        if card is not None and name in card.unsupported:
            raise NotSupportedError("Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names
        self._check("nvmlInit")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1
        self._check("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        self._check("nvmlSystemGetDriverVersion")
        return "580.82.07"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        self._check("nvmlSystemGetCudaDriverVersion_v2")
        return 12080

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("nvmlDeviceGetCount")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        self._check("nvmlDeviceGetHandleByIndex", self.cards[index])
        return self.cards[index]

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:  # noqa: N802
        self._check("nvmlDeviceGetMigMode", card)
        return [int(card.mig is not None), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:  # noqa: N802
        return len(card.mig or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:  # noqa: N802
        found = (card.mig or ())[index]
        if found is None:
            raise NvmlError("Not Found")
        return found

    def nvmlDeviceGetUUID(self, card: Card) -> str:  # noqa: N802
        self._check("nvmlDeviceGetUUID", card)
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:  # noqa: N802
        self._check("nvmlDeviceGetName", card)
        return card.name

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:  # noqa: N802
        self._check("nvmlDeviceGetCudaComputeCapability", card)
        return card.capability

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo", card)
        return SimpleNamespace(total=card.total, used=card.used, free=card.total - card.used)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetUtilizationRates", card)
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:  # noqa: N802
        self._check("nvmlDeviceGetPowerUsage", card)
        return 312_500

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:  # noqa: N802
        self._check("nvmlDeviceGetTemperature", card)
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 61


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return fake


@pytest.fixture
def pci(tmp_path: Path) -> Callable[..., Path]:
    """A system that has these PCI devices, each a class and a vendor."""

    def make(*devices: tuple[str, str]) -> Path:
        for number, (kind, vendor) in enumerate(devices):
            folder = tmp_path / "sys" / "bus" / "pci" / "devices" / f"0000:0{number}:00.0"
            folder.mkdir(parents=True)
            (folder / "class").write_text(f"{kind}\n")
            (folder / "vendor").write_text(f"{vendor}\n")
        (tmp_path / "sys" / "bus" / "pci" / "devices").mkdir(parents=True, exist_ok=True)
        return tmp_path

    return make


def names() -> list[str]:
    return [gpu.name.split()[1] for gpu in read_gpus().gpus]


def uuids() -> list[str]:
    return [gpu.uuid for gpu in read_gpus().gpus]


def test_the_stand_in_has_only_what_the_real_module_has() -> None:
    used = [name for name in vars(FakeNvml) if name.lower().startswith("nvml")]
    assert len(used) > 10
    assert all(hasattr(real_nvml, name) for name in used)


@pytest.mark.parametrize(
    ("name", "capability", "bf16", "fp8", "int8"),
    [
        ("Tesla V100-SXM2-32GB", (7, 0), False, False, False),
        ("Tesla T4", (7, 5), False, False, True),
        ("NVIDIA A100-SXM4-80GB", (8, 0), True, False, True),
        ("NVIDIA GeForce RTX 3090", (8, 6), True, False, True),
        ("NVIDIA L4", (8, 9), True, True, True),
        ("NVIDIA GeForce RTX 4090", (8, 9), True, True, True),
        ("NVIDIA H100 80GB HBM3", (9, 0), True, True, True),
        ("NVIDIA H200", (9, 0), True, True, True),
        ("NVIDIA GH200 480GB", (9, 0), True, True, True),
        ("NVIDIA B200", (10, 0), True, True, True),
        ("NVIDIA GeForce RTX 5090", (12, 0), True, True, True),
    ],
)
def test_what_real_cards_multiply(
    nvml: FakeNvml, name: str, capability: tuple[int, int], bf16: bool, fp8: bool, int8: bool
) -> None:
    nvml.cards = [Card("GPU-1", name, capability)]
    (gpu,) = read_gpus().gpus
    assert gpu.name == name
    assert (gpu.bf16.native, gpu.fp8.native, gpu.int8.native) == (bf16, fp8, int8)
    assert ("A100" in gpu.fp8.reason) is ("A100" in name)
    assert not gpu.unified
    for support in (gpu.bf16, gpu.fp8, gpu.int8):
        assert f"{capability[0]}.{capability[1]}" in support.reason
        assert support.native or f"in {'bf16' if bf16 else 'fp16'}" in support.reason


def test_two_gpus_are_read_with_all_their_numbers(nvml: FakeNvml) -> None:
    reading = read_gpus()
    assert reading.problem == ""
    assert reading.gpus[0] == Gpu(0, H100.uuid, H100.name, (9, 0), 80_000, 1_000, 37, 61, 312.5)
    assert (reading.gpus[1].index, reading.gpus[1].free_bytes) == (1, 78_999)
    assert (reading.driver, reading.cuda, reading.troubles) == ("580.82.07", (12, 8), ())
    assert nvml.open == 0


def test_a_driver_that_does_not_tell_its_version_is_read_all_the_same(nvml: FakeNvml) -> None:
    nvml.failing = {"nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2"}
    reading = read_gpus()
    assert (len(reading.gpus), reading.driver, reading.cuda) == (2, "", None)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("0", ["H100"]), ("1", ["A100-SXM4-80GB"]), ("1,0", ["A100-SXM4-80GB", "H100"]),
        (" 1 , 0 ", ["A100-SXM4-80GB", "H100"]), ("GPU-bbbb-2222", ["A100-SXM4-80GB"]),
        ("GPU-bbbb", ["A100-SXM4-80GB"]), ("GPU-bbbb,GPU-aaaa", ["A100-SXM4-80GB", "H100"]),
        ("1,7,0", ["A100-SXM4-80GB"]), ("0,-1,1", ["H100"]), ("0,GPU,1", ["H100"]),
        ("0,GPU-bbbb", ["H100"]), ("GPU-bbbb,0", ["A100-SXM4-80GB"]), ("1x", ["A100-SXM4-80GB"]),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nvml")
def test_cuda_visible_devices_chooses_and_orders(
    monkeypatch: pytest.MonkeyPatch, setting: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert names() == expected


@pytest.mark.parametrize(
    "setting", ["", " ", "-1", "7", "GPU-cccc", "none", ",", "GPU-", "0,0", "GPU-a,GPU-aa"]
)
@pytest.mark.usefixtures("nvml")
def test_a_setting_that_matches_nothing_hides_every_gpu(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    reading = read_gpus()
    assert reading.gpus == ()
    assert "CUDA_VISIBLE_DEVICES" in reading.problem
    assert "nvidia-smi -L" in reading.advice


def test_a_mig_instance_is_read_in_place_of_its_gpu(nvml: FakeNvml) -> None:
    nvml.cards = [replace(SLICED, mig=(SLICES[0],))]
    (gpu,) = read_gpus().gpus
    assert gpu == Gpu(0, "MIG-cccc", SLICES[0].name, (9, 0), 10_000, 500, parent=H100.uuid)
    assert gpu.mig
    assert gpu.fp8.native


def test_of_several_mig_instances_cuda_shows_one_and_no_whole_gpu(nvml: FakeNvml) -> None:
    nvml.cards = [A100, SLICED]
    (gpu,) = read_gpus().gpus
    assert (gpu.uuid, gpu.index) == ("MIG-cccc", 1)
    assert "one MIG instance" in gpu.note
    assert "CUDA_VISIBLE_DEVICES=MIG-" in gpu.note


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("MIG-dddd", ["MIG-dddd"]), ("MIG-d", ["MIG-dddd"]), ("MIG-dddd,MIG-cccc", ["MIG-dddd"]),
        ("1", ["MIG-cccc"]), ("GPU-aaaa", ["MIG-cccc"]), ("0", [A100.uuid]), ("0,1", ["MIG-cccc"]),
        ("MIG-", []), ("MIG-eeee", []),
    ],
)  # fmt: skip
def test_a_setting_chooses_among_mig_instances(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, setting: str, expected: list[str]
) -> None:
    nvml.cards = [A100, SLICED]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert uuids() == expected


def test_a_mig_instance_without_a_name_has_its_gpu_s(nvml: FakeNvml) -> None:
    nameless = replace(SLICES[0], unsupported=NO_SENSORS | {"nvmlDeviceGetName"})
    nvml.cards = [replace(H100, mig=(nameless,))]
    assert read_gpus().gpus[0].name == f"{H100.name} MIG"


def test_mig_mode_without_an_instance_computes_nothing_and_says_what_to_do(nvml: FakeNvml) -> None:
    nvml.cards = [replace(H100, mig=(None, None))]
    reading = read_gpus()
    assert reading.gpus == ()
    assert "no instance" in reading.problem
    assert "mig -cgi" in reading.advice
    nvml.cards.append(A100)
    reading = read_gpus()
    assert [gpu.index for gpu in reading.gpus] == [1]
    assert "GPU 0" in reading.troubles[0].what


def test_a_card_that_knows_no_mig_is_whole(nvml: FakeNvml) -> None:
    nvml.cards = [replace(H100, unsupported=frozenset({"nvmlDeviceGetMigMode"}))]
    assert not read_gpus().gpus[0].mig


@pytest.mark.parametrize(
    "card",
    [
        Card("GPU-1", "NVIDIA GB10", (12, 1), unsupported=frozenset({"nvmlDeviceGetMemoryInfo"})),
        Card("GPU-1", "Orin (nvgpu)", (8, 7), total=0, used=0),
    ],
)
def test_a_gpu_without_memory_of_its_own_has_the_machine_s(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, card: Card
) -> None:
    monkeypatch.setattr(gpus.host, "read_memory", lambda: HostMemory(128 * GB, 100 * GB, GB))
    nvml.cards = [card]
    (gpu,) = read_gpus().gpus
    assert (gpu.total_bytes, gpu.used_bytes, gpu.unified) == (128 * GB, 28 * GB, True)
    assert "machine's memory" in gpu.note


def test_memory_that_cannot_be_read_for_another_reason_is_not_the_machine_s(
    nvml: FakeNvml,
) -> None:
    nvml.failing = {"nvmlDeviceGetMemoryInfo"}
    assert [(gpu.total_bytes, gpu.unified) for gpu in read_gpus().gpus] == [(0, False)] * 2


def test_memory_of_a_mig_instance_that_is_not_told_is_not_the_machine_s(nvml: FakeNvml) -> None:
    hidden = replace(SLICES[0], unsupported=frozenset({"nvmlDeviceGetMemoryInfo"}))
    nvml.cards = [replace(H100, mig=(hidden,))]
    (gpu,) = read_gpus().gpus
    assert (gpu.total_bytes, gpu.unified) == (0, False)


@pytest.mark.parametrize(
    ("failing", "member"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization"),
        ("nvmlDeviceGetPowerUsage", "power"),
        ("nvmlDeviceGetTemperature", "temperature"),
    ],
)
def test_a_sensor_the_card_does_not_have_is_left_out(
    nvml: FakeNvml, failing: str, member: str
) -> None:
    nvml.failing = {failing}
    reading = read_gpus()
    assert len(reading.gpus) == 2
    assert getattr(reading.gpus[0], member) is None
    assert reading.gpus[0].total_bytes == 80_000


def test_a_lost_gpu_does_not_hide_the_others(nvml: FakeNvml) -> None:
    nvml.cards[0] = replace(H100, unsupported=frozenset({"nvmlDeviceGetHandleByIndex"}))
    reading = read_gpus()
    assert [gpu.index for gpu in reading.gpus] == [1]
    assert "GPU 0 does not answer" in reading.troubles[0].what
    assert reading.troubles[0].advice


@pytest.mark.parametrize(
    "failing",
    [
        "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID",
        "nvmlDeviceGetName", "nvmlDeviceGetCudaComputeCapability",
    ],
)  # fmt: skip
def test_a_driver_that_fails_is_never_an_exception(nvml: FakeNvml, failing: str) -> None:
    nvml.failing = {failing}
    reading = read_gpus()
    assert reading.gpus == ()
    assert f"{failing} fails" in reading.problem
    assert reading.advice
    assert nvml.open == 0


def test_a_driver_that_fails_to_close_has_been_read(nvml: FakeNvml) -> None:
    nvml.failing = {"nvmlShutdown"}
    assert len(read_gpus().gpus) == 2


def driver_error(name: str) -> type[Exception]:
    return type(name, (NvmlError,), {})


DISPLAY, COMPUTE, NETWORK = "0x030000", "0x030200", "0x020000"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("NVMLError_LibraryNotFound", "Install the NVIDIA driver"),
        ("NVMLError_DriverNotLoaded", "modprobe"),
        ("NVMLError_LibRmVersionMismatch", "restart"),
        ("NVMLError_NoPermission", "/dev/nvidia"),
        ("NVMLError_Unknown", "nvidia-smi"),
    ],
)
def test_a_gpu_whose_driver_does_not_answer_is_told_from_no_gpu(
    nvml: FakeNvml, pci: Callable[..., Path], error: str, advice: str
) -> None:
    nvml.failing, nvml.error = {"nvmlInit"}, driver_error(error)
    assert hasattr(real_nvml, error)
    reading = read_gpus(pci((NETWORK, "0x8086"), (COMPUTE, "0x10de")))
    assert reading.gpus == ()
    assert reading.problem.startswith("an NVIDIA GPU is here")
    assert "nvmlInit fails" in reading.problem
    assert advice in reading.advice


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ([], "no NVIDIA GPU found"),
        ([(NETWORK, "0x8086"), (DISPLAY, "0x1a03")], "no NVIDIA GPU found"),
        ([("0x068000", "0x10de")], "no NVIDIA GPU found"),  # a bridge is no GPU
        ([(DISPLAY, "0x1002")], "an AMD GPU"),
        ([("0x120000", "0x1002"), (DISPLAY, "0x1a03")], "an AMD GPU"),
        ([(DISPLAY, "0x8086")], "an Intel GPU"),
    ],
)
def test_a_machine_without_an_nvidia_gpu_is_told_what_it_has(
    nvml: FakeNvml, pci: Callable[..., Path], devices: list[tuple[str, str]], said: str
) -> None:
    nvml.failing, nvml.error = {"nvmlInit"}, driver_error("NVMLError_LibraryNotFound")
    reading = read_gpus(pci(*devices))
    assert said in reading.problem
    assert "CPU" in reading.advice
    assert "driver" not in reading.problem


def test_an_amd_gpu_is_seen_where_only_its_device_is(
    nvml: FakeNvml, pci: Callable[..., Path]
) -> None:
    nvml.cards = []
    root = pci()
    (root / "dev").mkdir()
    (root / "dev" / "kfd").touch()
    assert "an AMD GPU" in read_gpus(root).problem


def test_an_apple_machine_is_told_so(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.failing, nvml.error = {"nvmlInit"}, driver_error("NVMLError_LibraryNotFound")
    monkeypatch.setattr(gpus.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(gpus.platform, "machine", lambda: "arm64")
    assert "an Apple GPU" in read_gpus(tmp_path).problem


def test_where_devices_cannot_be_listed_only_the_driver_is_told(
    nvml: FakeNvml, tmp_path: Path, pci: Callable[..., Path]
) -> None:
    nvml.failing, nvml.error = {"nvmlInit"}, driver_error("NVMLError_LibraryNotFound")
    assert read_gpus(tmp_path).problem.startswith("no NVIDIA driver answers")
    windows = pci()
    (windows / "dev").mkdir()
    (windows / "dev" / "dxg").touch()
    assert read_gpus(windows).problem.startswith("no NVIDIA driver answers")


def test_a_driver_that_shows_none_is_told_from_no_gpu(
    nvml: FakeNvml, pci: Callable[..., Path]
) -> None:
    nvml.cards = []
    reading = read_gpus(pci((COMPUTE, "0x10de")))
    assert "shows none" in reading.problem
    assert "--gpus all" in reading.advice


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert "nvidia-ml-py" in read_gpus().problem


@pytest.mark.parametrize(
    ("order", "visible", "cards", "warned"),
    [
        ("FASTEST_FIRST", None, [H100, A100], True),
        (None, None, [H100, A100], True),
        ("FASTEST_FIRST", "1", [H100, A100], True),
        ("FASTEST_FIRST", "GPU-bbbb", [H100, A100], False),
        ("FASTEST_FIRST", None, [H100, replace(H100, uuid="GPU-9")], False),
        ("PCI_BUS_ID", None, [H100, A100], False),
    ],
)
def test_numbers_that_cuda_may_count_otherwise_are_told(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, order: str | None, visible: str | None,
    cards: list[Card], warned: bool,
) -> None:  # fmt: skip
    nvml.cards = cards
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    for variable, value in (("CUDA_DEVICE_ORDER", order), ("CUDA_VISIBLE_DEVICES", visible)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert ["fastest GPU first" in trouble.what for trouble in read_gpus().troubles] == (
        [True] if warned else []
    )


@pytest.mark.parametrize("chosen", [None, "FASTEST_FIRST"])
def test_cuda_is_made_to_count_as_nvml_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", chosen or "")
    if chosen is None:
        monkeypatch.delenv("CUDA_DEVICE_ORDER")
    number_as_nvml()
    assert gpus.os.environ["CUDA_DEVICE_ORDER"] == (chosen or "PCI_BUS_ID")


def test_this_machine_can_be_read() -> None:
    reading = read_gpus()
    assert isinstance(reading, GpuReading)
    assert bool(reading.gpus) is not bool(reading.problem)
    assert bool(reading.problem) is bool(reading.advice)
