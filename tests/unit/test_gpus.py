"""GPUs through a stand-in for NVML, whose shape is that of the real module."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pynvml as real_nvml
import pytest

from lightx2v_tui.gpus import Gpu, read_gpus

CARDS = [
    ("GPU-aaaa-1111", "NVIDIA H100 80GB HBM3", (9, 0)),
    ("GPU-bbbb-2222", "NVIDIA A100-SXM4-80GB", (8, 0)),
]


class FakeNvml:
    """The functions of pynvml that are used, for two cards; `failing` names those that raise."""

    NVMLError = type("NVMLError", (Exception,), {})
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.cards = list(CARDS)
        self.open = 0

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise self.NVMLError(f"{name}: Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names
        self._check("nvmlInit")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1
        self._check("nvmlShutdown")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("nvmlDeviceGetCount")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        self._check("nvmlDeviceGetHandleByIndex")
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        self._check("nvmlDeviceGetUUID")
        return self.cards[handle][0]

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        self._check("nvmlDeviceGetName")
        return self.cards[handle][1]

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        self._check("nvmlDeviceGetCudaComputeCapability")
        return self.cards[handle][2]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=80_000, used=1_000 + handle, free=79_000 - handle)

    def nvmlDeviceGetUtilizationRates(self, _handle: int) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetPowerUsage(self, _handle: int) -> int:  # noqa: N802
        self._check("nvmlDeviceGetPowerUsage")
        return 312_500

    def nvmlDeviceGetTemperature(self, _handle: int, sensor: int) -> int:  # noqa: N802
        self._check("nvmlDeviceGetTemperature")
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 61


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    return fake


def names() -> list[str]:
    return [gpu.name.split()[1] for gpu in read_gpus().gpus]


def test_the_stand_in_has_only_what_the_real_module_has() -> None:
    used = [name for name in vars(FakeNvml) if name.lower().startswith("nvml")]
    assert len(used) > 10
    assert all(hasattr(real_nvml, name) for name in used)


def test_two_gpus_are_read_with_all_their_numbers(nvml: FakeNvml) -> None:
    reading = read_gpus()
    assert reading.problem == ""
    assert reading.gpus[0] == Gpu(0, CARDS[0][0], CARDS[0][1], (9, 0), 80_000, 1_000, 37, 61, 312.5)
    assert reading.gpus[1].used_bytes == 1_001
    assert (reading.gpus[0].fp8.native, reading.gpus[1].fp8.native) == (True, False)
    assert reading.gpus[1].int8.native
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("0", ["H100"]), ("1", ["A100-SXM4-80GB"]), ("1,0", ["A100-SXM4-80GB", "H100"]),
        (" 1 , 0 ", ["A100-SXM4-80GB", "H100"]), ("GPU-bbbb-2222", ["A100-SXM4-80GB"]),
        ("GPU-bbbb", ["A100-SXM4-80GB"]), ("GPU-bbbb,GPU-aaaa", ["A100-SXM4-80GB", "H100"]),
        ("1,7,0", ["A100-SXM4-80GB"]), ("0,-1,1", ["H100"]),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nvml")
def test_cuda_visible_devices_chooses_and_orders(
    monkeypatch: pytest.MonkeyPatch, setting: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert names() == expected


@pytest.mark.parametrize("setting", ["", " ", "-1", "7", "GPU-cccc", "none", ","])
@pytest.mark.usefixtures("nvml")
def test_a_setting_that_matches_nothing_hides_every_gpu(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    reading = read_gpus()
    assert reading.gpus == ()
    assert "CUDA_VISIBLE_DEVICES" in reading.problem


def test_no_card_is_said(nvml: FakeNvml) -> None:
    nvml.cards = []
    assert read_gpus().problem == "no GPU found"


def test_a_missing_driver_is_said(nvml: FakeNvml) -> None:
    nvml.failing = {"nvmlInit"}
    reading = read_gpus()
    assert reading.gpus == ()
    assert "no NVIDIA driver answers" in reading.problem
    assert "Not Supported" in reading.problem


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert "nvidia-ml-py" in read_gpus().problem


@pytest.mark.parametrize(
    ("failing", "field", "value"),
    [
        ("nvmlDeviceGetMemoryInfo", "total_bytes", 0),
        ("nvmlDeviceGetUtilizationRates", "utilization", None),
        ("nvmlDeviceGetPowerUsage", "power", None),
        ("nvmlDeviceGetTemperature", "temperature", None),
    ],
)
def test_a_field_the_card_does_not_have_is_left_out(
    nvml: FakeNvml, failing: str, field: str, value: object
) -> None:
    nvml.failing = {failing}
    reading = read_gpus()
    assert len(reading.gpus) == 2
    assert getattr(reading.gpus[0], field) == value
    assert reading.gpus[0].name == CARDS[0][1]


@pytest.mark.parametrize(
    "failing",
    [
        "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID",
        "nvmlDeviceGetName", "nvmlDeviceGetCudaComputeCapability", "nvmlShutdown",
    ],
)  # fmt: skip
def test_a_driver_that_fails_is_never_an_exception(nvml: FakeNvml, failing: str) -> None:
    nvml.failing = {failing}
    reading = read_gpus()
    assert reading.gpus or reading.problem
    assert nvml.open == 0


def test_this_machine_can_be_read() -> None:
    reading = read_gpus()
    assert bool(reading.gpus) is not bool(reading.problem)
