"""Which precision suits a network on a GPU, and whether the installed PyTorch fits the GPU."""

from __future__ import annotations

import pytest

from engine.spec.precision import Precision
from lightx2v_tui.gpus import Gpu
from lightx2v_tui.host import TorchBuild
from lightx2v_tui.launch.recommend import COMPONENTS, recommend, torch_trouble
from tests.unit.helpers import gpu

GB = 10**9
BF16, FP8, INT8 = Precision.BF16, Precision.FP8, Precision.INT8
BY_FP8, BY_INT8, BY_BF16 = (FP8, INT8, BF16), (INT8, FP8, BF16), (BF16, INT8, FP8)
V100, T4, A100, RTX3090, L4, H100, B200, RTX5090 = (
    gpu(capability)
    for capability in ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize(
    ("card", "order", "said"),
    [
        (H100, BY_FP8, "multiplies FP8"), (L4, BY_FP8, "multiplies FP8"),
        (B200, BY_FP8, "multiplies FP8"), (RTX5090, BY_FP8, "multiplies FP8"),
        (A100, BY_INT8, "not time"), (RTX3090, BY_INT8, "not time"), (T4, BY_INT8, "not time"),
        (V100, BY_BF16, "computed in fp16"), (None, BY_BF16, "CPU"),
    ],
)  # fmt: skip
def test_the_best_comes_first_with_its_reason(
    component: str, card: Gpu | None, order: tuple[Precision, ...], said: str
) -> None:
    found = recommend(component, card)
    assert (found.order, found.best) == (order, order[0])
    assert said in found.reason


def test_fp8_of_the_text_encoder_is_a_risk_to_quality_and_is_told() -> None:
    assert "attention" in recommend("t5", H100).reason
    for component, card in (("dit", H100), ("clip", H100), ("t5", A100), ("t5", None)):
        assert "attention" not in recommend(component, card).reason


def test_what_blackwell_could_and_this_engine_cannot_is_told_of_the_dit() -> None:
    assert [("NVFP4" in recommend("dit", card).reason) for card in (H100, B200, RTX5090)] == [
        False, True, True,
    ]  # fmt: skip
    assert "NVFP4" not in recommend("t5", B200).reason


@pytest.mark.parametrize("nbytes", [0, 14 * GB, 15 * GB])
def test_bf16_that_would_fit_is_told(nbytes: int) -> None:
    assert ("would fit" in recommend("dit", H100, nbytes).reason) is (nbytes == 14 * GB)
    assert recommend("dit", H100, nbytes).order == BY_FP8


@pytest.mark.parametrize(
    ("nbytes", "order"), [(0, BY_BF16), (14 * GB, BY_BF16), (15 * GB, BY_INT8)]
)
def test_where_nothing_is_native_bf16_is_best_while_it_fits(
    nbytes: int, order: tuple[Precision, ...]
) -> None:
    found = recommend("dit", V100, nbytes)
    assert found.order == order
    assert ("15.0 GB" in found.reason) is (nbytes == 15 * GB)
    assert recommend("dit", None, nbytes).order == BY_BF16


CPU, ROCM = TorchBuild("2.13.0+cpu"), TorchBuild("2.13.0+rocm7.2", None, "7.2")
CU126, CU128, CU130, CU132 = (
    TorchBuild(f"2.11.0+cu{major}{minor}", (major, minor))
    for major, minor in ((12, 6), (12, 8), (13, 0), (13, 2))
)


@pytest.mark.parametrize("card", [T4, A100, RTX3090, L4, H100])
@pytest.mark.parametrize("build", [CU126, CU128, CU130, CU132, None])
def test_every_build_for_cuda_fits_from_turing_to_hopper(
    card: Gpu, build: TorchBuild | None
) -> None:
    assert torch_trouble(card, build, (13, 2)) is None
    assert torch_trouble(card, build) is None


@pytest.mark.parametrize(
    ("card", "build", "driver", "what", "advice"),
    [
        (H100, CPU, (13, 0), "CPU only", "torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"),
        (H100, CPU, (12, 4), "CPU only", "whl/cu126"),
        (V100, CPU, (13, 0), "CPU only", "whl/cu126"),
        (H100, CPU, (11, 8), "CPU only", "Update the NVIDIA driver, then: pip"),
        (B200, CPU, (12, 8), "CPU only", "580 or newer"),
        (H100, ROCM, (13, 0), "ROCm", "whl/cu130"),
        (H100, CU130, (12, 8), "serves CUDA up to 12.8", "whl/cu126"),
        (RTX5090, CU130, (12, 8), "serves CUDA up to 12.8", "580 or newer"),
        (A100, CU126, (11, 4), "serves CUDA up to 11.4", "Update the NVIDIA driver, then: pip"),
        (V100, CU130, (13, 0), "leaves out compute capability 7.0", "whl/cu126"),
        (V100, CU128, (12, 8), "leaves out compute capability 7.0", "whl/cu126"),
        (B200, CU126, (13, 0), "older than compute capability 10.0", "whl/cu130"),
        (B200, CU126, None, "older than compute capability 10.0", "whl/cu130"),
        (gpu((3, 7)), CU126, (12, 2), "leaves out compute capability 3.7", "or the CPU"),
    ],
)  # fmt: skip
def test_a_pytorch_that_cannot_use_the_gpu_is_told_with_what_to_install(
    card: Gpu, build: TorchBuild, driver: tuple[int, int] | None, what: str, advice: str
) -> None:
    trouble = torch_trouble(card, build, driver)
    assert trouble is not None
    assert what in trouble.what
    assert advice in trouble.advice


@pytest.mark.parametrize(
    ("card", "build", "driver"),
    [
        (V100, CU126, (13, 0)), (B200, CU128, (12, 8)), (RTX5090, CU130, (13, 0)),
        (H100, CU126, (12, 2)), (H100, CU132, (13, 0)),
    ],
)  # fmt: skip
def test_a_driver_serves_every_build_of_its_own_generation(
    card: Gpu, build: TorchBuild, driver: tuple[int, int]
) -> None:
    assert torch_trouble(card, build, driver) is None
