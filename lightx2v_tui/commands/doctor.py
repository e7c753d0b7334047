"""`doctor`: what this machine can run, and the reason for each no."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.spec.precision import Support
from lightx2v_tui import host, paths
from lightx2v_tui.catalog.disk import disk_of
from lightx2v_tui.gpus import Gpu, GpuReading, read_gpus
from lightx2v_tui.host import HostMemory, TorchBuild
from lightx2v_tui.launch.recommend import COMPONENTS, Recommendation, recommend, torch_trouble
from lightx2v_tui.output import printable
from lightx2v_tui.units import size, version

ATTENTION_PACKAGES = ("flash_attn", "sageattention")
PACKAGES = ("torch", "tokenizers", "safetensors", "av", "textual", "ftfy")
TITLES = {"dit": "DiT", "t5": "T5", "clip": "CLIP"}
INDENT, NARROWEST = 18, 60


@dataclass(frozen=True)
class Check:
    """One finding: its topic, whether it is well, what was seen, and what to do if not."""

    topic: str
    ok: bool
    seen: str
    advice: str = ""


def execute(args: argparse.Namespace) -> int:
    """Look at everything, and print text or JSON."""
    reading, memory, build = read_gpus(), host.read_memory(), host.torch_build()
    checks = [*_gpus(reading, build), *_packages(build), _attention()]
    checks += [*_memory(memory), *_places(args.root), *_runs(), *_terminal()]
    if args.json:
        report = {
            "gpus": [_gpu_facts(gpu) for gpu in reading.gpus],
            "host": _host_facts(reading, memory, build),
            "checks": [asdict(check) for check in checks],
        }
        print(json.dumps(report, indent=2))  # noqa: T201
        return 0
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    for check in checks:
        for line in _lines(check, width):
            sys.stdout.write(f"{printable(line)}\n")
    return 0


def _lines(check: Check, width: int) -> Iterator[str]:
    """A finding as text; what does not fit goes on below, under its own column."""
    rest = " " * INDENT
    yield from textwrap.wrap(
        f"{'ok' if check.ok else 'no':<3} {check.topic:<13} {check.seen}",
        width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    yield from textwrap.wrap(
        check.advice, width, initial_indent=f"{rest}-> ", subsequent_indent=f"{rest}   ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _gpu_facts(gpu: Gpu) -> dict[str, object]:
    supports = {"bf16": asdict(gpu.bf16), "fp8": asdict(gpu.fp8), "int8": asdict(gpu.int8)}
    best = {name: asdict(recommend(name, gpu)) for name in COMPONENTS}
    return {**asdict(gpu), "mig": gpu.mig, **supports, "recommended": best}


def _host_facts(
    reading: GpuReading, memory: HostMemory, build: TorchBuild | None
) -> dict[str, object]:
    return {
        **asdict(memory),
        "cores": host.cpu_count(),
        "system": platform.system(),
        "machine": platform.machine(),
        "driver": reading.driver,
        "cuda": reading.cuda,
        "torch": asdict(build) if build else None,
    }


def _gpus(reading: GpuReading, build: TorchBuild | None) -> Iterator[Check]:
    if not reading.gpus:
        yield Check("GPU", False, reading.problem, reading.advice)
        yield from _recommended(None)
    elif reading.driver:
        cuda = f", for CUDA up to {version(reading.cuda)}" if reading.cuda else ""
        yield Check("NVIDIA driver", True, f"{reading.driver}{cuda}")
    told = set()
    for gpu in reading.gpus:
        yield _gpu(gpu)
        kind = (gpu.name, gpu.capability, gpu.total_bytes)
        if kind not in told:  # eight of a kind are explained once
            told.add(kind)
            yield from _abilities(gpu, reading, build)
    for trouble in reading.troubles:
        yield Check("GPUs", False, trouble.what, trouble.advice)


def _gpu(gpu: Gpu) -> Check:
    room = f"{size(gpu.free_bytes)} of {size(gpu.total_bytes)} free"
    shared = " (the machine's own memory)" if gpu.unified else ""
    memory = f"{room}{shared}" if gpu.total_bytes else "its memory is not told"
    kind = ", a MIG instance" if gpu.mig else ""
    return Check(f"GPU {gpu.index}", True, f"{gpu.name}{kind}, {memory}", gpu.note)


def _abilities(gpu: Gpu, reading: GpuReading, build: TorchBuild | None) -> Iterator[Check]:
    trouble = torch_trouble(gpu, build, reading.cuda)
    if trouble:
        yield Check("  PyTorch", False, trouble.what, trouble.advice)
    yield _ability("BF16", gpu.bf16, "bf16 files load all the same, and are computed in fp16.")
    for name, support in (("FP8", gpu.fp8), ("INT8", gpu.int8)):
        yield _ability(name, support, f"{name} files load all the same, only slower.")
    yield from _recommended(gpu)


def _ability(name: str, support: Support, advice: str) -> Check:
    return Check(f"  {name}", support.native, support.reason, "" if support.native else advice)


def _recommended(gpu: Gpu | None) -> Iterator[Check]:
    """What suits each network; networks with the same answer share a line."""
    names: dict[Recommendation, list[str]] = {}
    for component in COMPONENTS:
        names.setdefault(recommend(component, gpu), []).append(TITLES[component])
    for best, which in names.items():
        first, *others = (precision.value for precision in best.order)
        order = f"{first}, else {' or '.join(others)}"
        yield Check("  precision", True, f"{', '.join(which)}: {order}. {best.reason}")


def _packages(build: TorchBuild | None) -> list[Check]:
    checks = [Check("python", True, f"{platform.python_version()} on {platform.system()}")]
    for name in PACKAGES:
        try:
            installed = importlib.metadata.version(name)
            kind = f", {_kind(build)}" if name == "torch" and build else ""
            checks.append(Check(name, True, f"{installed}{kind}"))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, False, "not installed", "Install lightx2v-tui again."))
    return checks


def _kind(build: TorchBuild) -> str:
    if build.cuda:
        return f"built for CUDA {version(build.cuda)}"
    return "built for ROCm" if build.hip else "built for the CPU only"


def _attention() -> Check:
    """PyTorch's attention is always there; others are used where a preset asks for them."""
    found = [name for name in ATTENTION_PACKAGES if importlib.util.find_spec(name) is not None]
    absent = [name for name in ATTENTION_PACKAGES if name not in found]
    seen = ", ".join(["torch_sdpa", *found, *(f"{name} not installed" for name in absent)])
    return Check("attention", True, seen)


def _memory(memory: HostMemory) -> list[Check]:
    seen = f"{size(memory.available)} of {size(memory.total)} available, {host.cpu_count()} cores"
    swap = f"{size(memory.swap_free)} of {size(memory.swap_total)} free"
    limit = f"{size(memory.limit)}, of this container or service" if memory.limit else "none"
    return [
        Check("RAM", True, seen),
        Check("swap", True, swap if memory.swap_total else "none"),
        Check("memory limit", True, limit),
    ]


def _places(roots: Sequence[Path]) -> Iterator[Check]:
    """Where models are looked for; of the usual places those that are there."""
    named = [paths.expanded(root) for root in roots]
    for folder in dict.fromkeys((*named, *paths.model_dirs())):
        if os.path.isdir(folder):  # noqa: PTH112 - a Path raises at long names
            yield _disk(folder)
        elif folder in named:
            yield Check("models", False, f"{folder}: no such folder", "Check --root.")


def _disk(folder: Path) -> Check:
    disk = disk_of(folder)
    seen = f"{folder}: {disk.kind}, {size(disk.free_bytes)} free"
    slow = disk.kind in ("hdd", "network")
    return Check("models", not slow, seen, "Models load faster from an SSD." if slow else "")


def _runs() -> Iterator[Check]:
    data = paths.data_dir()
    parent = next(folder for folder in (data, *data.parents) if folder.exists())
    writable = os.access(parent, os.W_OK)
    advice = "" if writable else "Set XDG_DATA_HOME to a folder you can write to."
    yield Check("runs", writable, f"{data}", advice)


def _terminal() -> list[Check]:
    term, colours = os.environ.get("TERM", ""), os.environ.get("COLORTERM", "")
    columns, lines = shutil.get_terminal_size()
    truecolor = colours in ("truecolor", "24bit")
    encoding = sys.stdout.encoding or ""
    utf8 = encoding.lower().replace("-", "") == "utf8"
    return [
        Check(
            "terminal", bool(term) and term != "dumb", f"{term or 'none'}, {columns}x{lines}",
            "" if term and term != "dumb" else "Use run and scan; the screens need a terminal.",
        ),
        Check(
            "truecolor", truecolor, colours or "COLORTERM is not set",
            "" if truecolor else "Colours are approximated; export COLORTERM=truecolor if it can.",
        ),
        Check("UTF-8", utf8, encoding, "" if utf8 else "export LANG=C.UTF-8"),
    ]  # fmt: skip
