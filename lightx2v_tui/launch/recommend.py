"""Which precision suits a network on a GPU, whether PyTorch fits the GPU, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.spec.precision import Precision
from lightx2v_tui.gpus import Gpu, Trouble
from lightx2v_tui.host import TorchBuild
from lightx2v_tui.units import size, version

BF16, FP8, INT8 = Precision.BF16, Precision.FP8, Precision.INT8
#: The networks that come in several precisions.
COMPONENTS = ("dit", "t5", "clip")
#: The share of a GPU's memory that weights may take, so that activations fit beside them.
COMFORTABLE = 0.6
#: What each of PyTorch's own builds holds kernels for: from and below these compute capabilities.
CUDA_12_6, CUDA_13_0 = (12, 6), (13, 0)
TURING, BLACKWELL, OLDEST = (7, 5), (10, 0), (5, 0)


@dataclass(frozen=True)
class Recommendation:
    """Precisions, the best first, and why the first is the best."""

    order: tuple[Precision, ...]
    reason: str

    @property
    def best(self) -> Precision:
        """The first of the order."""
        return self.order[0]


def recommend(component: str, gpu: Gpu | None, bf16_bytes: int = 0) -> Recommendation:
    """Say which precision suits "dit", "t5" or "clip" on `gpu`, or on the CPU where it is None.

    `bf16_bytes` is what the network's bf16 weights take, 0 where that is not known.
    """
    order, reason = _by_device(gpu, bf16_bytes)
    if order[0].quantized:
        reason = _sentences(reason, _room(gpu, bf16_bytes), _quality(component, order[0]))
    if component == "dit" and gpu is not None and gpu.capability >= BLACKWELL:
        reason = _sentences(reason, "NVFP4 files are not computed by this engine.")
    return Recommendation(order, reason)


def _by_device(gpu: Gpu | None, bf16_bytes: int) -> tuple[tuple[Precision, ...], str]:
    if gpu is None:
        return (BF16, INT8, FP8), (
            "On a CPU bf16 is exact; INT8 halves memory and is faster without bf16 units; FP8 is "
            "slower."
        )
    if gpu.fp8.native:
        return (FP8, INT8, BF16), (
            "This GPU multiplies FP8, in half the memory of bf16 and with more range than INT8."
        )
    if gpu.int8.native:
        return (INT8, FP8, BF16), (
            "This GPU multiplies INT8, in half the memory of bf16; FP8 would save memory, not time."
        )
    if bf16_bytes > COMFORTABLE * gpu.total_bytes:
        return (INT8, FP8, BF16), (
            f"This GPU multiplies neither FP8 nor INT8, but bf16 ({size(bf16_bytes)}) is too much "
            f"for {size(gpu.total_bytes)}: INT8 files save memory, not time."
        )
    return (BF16, INT8, FP8), (
        "This GPU multiplies neither FP8 nor INT8: bf16 files, computed in fp16, are fastest; "
        "the others save memory, not time."
    )


def _room(gpu: Gpu | None, bf16_bytes: int) -> str:
    fits = gpu is not None and 0 < bf16_bytes <= COMFORTABLE * gpu.total_bytes
    return f"bf16 ({size(bf16_bytes)}) would fit too, exact but slower." if fits else ""


def _quality(component: str, precision: Precision) -> str:
    if component == "t5" and precision is FP8:
        return "FP8 in T5's attention can shift what a prompt means: take bf16 if quality counts."
    if component in ("t5", "clip"):
        return "It runs once a video: what counts is its memory."
    return ""


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def torch_trouble(
    gpu: Gpu, build: TorchBuild | None, driver_cuda: tuple[int, int] | None = None
) -> Trouble | None:
    """Say why the installed PyTorch cannot compute on `gpu`, and what to install; None if it can.

    `driver_cuda` is the newest CUDA that the driver serves.
    """
    if build is None:
        return None
    what = _mismatch(gpu, build, driver_cuda)
    return Trouble(what, _cure(gpu, build, driver_cuda)) if what else None


def _mismatch(gpu: Gpu, build: TorchBuild, driver_cuda: tuple[int, int] | None) -> str:
    level = f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"
    if build.cuda is None:
        kind = "for ROCm (AMD)" if build.hip else "for the CPU only"
        return f"PyTorch {build.version} is built {kind}: it cannot use this GPU"
    if driver_cuda is not None and driver_cuda[0] < build.cuda[0]:
        served, wanted = version(driver_cuda), version(build.cuda)
        return f"the driver serves CUDA up to {served}, PyTorch is built for CUDA {wanted}"
    if gpu.capability < OLDEST or (gpu.capability < TURING and build.cuda > CUDA_12_6):
        return f"PyTorch's build for CUDA {version(build.cuda)} leaves out {level}"
    if gpu.capability >= BLACKWELL and build.cuda <= CUDA_12_6:
        return f"PyTorch's build for CUDA {version(build.cuda)} is older than {level}"
    return ""


def _cure(gpu: Gpu, build: TorchBuild, driver_cuda: tuple[int, int] | None) -> str:
    if gpu.capability < OLDEST:
        return "No supported PyTorch runs on this GPU: use another, or the CPU."
    new_driver = driver_cuda is None or driver_cuda >= CUDA_13_0
    if gpu.capability >= TURING and new_driver:
        return _install(build, CUDA_13_0)
    if gpu.capability >= BLACKWELL:
        return f"Update the NVIDIA driver to 580 or newer, then: {_install(build, CUDA_13_0)}"
    if driver_cuda is not None and driver_cuda[0] < CUDA_12_6[0]:
        return f"Update the NVIDIA driver, then: {_install(build, CUDA_12_6)}"
    return _install(build, CUDA_12_6)


def _install(build: TorchBuild, cuda: Sequence[int]) -> str:
    version = build.version.partition("+")[0]
    index = f"https://download.pytorch.org/whl/cu{cuda[0]}{cuda[1]}"
    return f"pip install --force-reinstall torch=={version} --index-url {index}"
