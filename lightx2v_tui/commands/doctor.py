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
from dataclasses import asdict, dataclass

from lightx2v_tui import host, paths
from lightx2v_tui.catalog.disk import disk_of
from lightx2v_tui.gpus import Gpu, read_gpus
from lightx2v_tui.units import size

ATTENTION_PACKAGES = ("flash_attn", "sageattention")
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "av", "textual", "ftfy")


@dataclass(frozen=True)
class Check:
    """One finding: its topic, whether it is well, what was seen, and what to do if not."""

    topic: str
    ok: bool
    seen: str
    advice: str = ""


def execute(args: argparse.Namespace) -> int:
    """Look at everything, and print text or JSON."""
    reading = read_gpus()
    checks = [*_gpu_checks(reading.gpus, reading.problem), *_packages(), _attention()]
    checks += [*_memory(), *_disks(), *_terminal()]
    if args.json:
        gpus = [
            {**asdict(gpu), "fp8": asdict(gpu.fp8), "int8": asdict(gpu.int8)}
            for gpu in reading.gpus
        ]
        report = {"gpus": gpus, "checks": [asdict(check) for check in checks]}
        print(json.dumps(report, indent=2))  # noqa: T201
        return 0
    for check in checks:
        sys.stdout.write(f"{'ok' if check.ok else 'no':<3} {check.topic:<13} {check.seen}\n")
        if check.advice:
            sys.stdout.write(f"{'':<18}-> {check.advice}\n")
    return 0


def _gpu_checks(gpus: tuple[Gpu, ...], problem: str) -> list[Check]:
    if not gpus:
        advice = "Models run on the CPU, slowly; with an NVIDIA GPU, check that nvidia-smi works."
        return [Check("GPU", False, problem, advice)]
    checks = []
    for gpu in gpus:
        free = size(gpu.total_bytes - gpu.used_bytes)
        seen = f"{gpu.name}, {free} of {size(gpu.total_bytes)} free"
        checks.append(Check(f"GPU {gpu.index}", True, seen))
        for name, support in (("FP8", gpu.fp8), ("INT8", gpu.int8)):
            advice = "" if support.native else f"{name} files load all the same, only slower."
            checks.append(Check(f"  {name}", support.native, support.reason, advice))
    return checks


def _packages() -> list[Check]:
    checks = [Check("python", True, f"{platform.python_version()} on {platform.system()}")]
    for name in PACKAGES:
        try:
            checks.append(Check(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, False, "not installed", "Install lightx2v-tui again."))
    return checks


def _attention() -> Check:
    """PyTorch's attention is always there; others are used where a preset asks for them."""
    found = [name for name in ATTENTION_PACKAGES if importlib.util.find_spec(name) is not None]
    absent = [name for name in ATTENTION_PACKAGES if name not in found]
    seen = ", ".join(["torch_sdpa", *found, *(f"{name} not installed" for name in absent)])
    return Check("attention", True, seen)


def _memory() -> list[Check]:
    memory = host.read_memory()
    seen = f"{size(memory.available)} of {size(memory.total)} available, {host.cpu_count()} cores"
    return [Check("RAM", True, seen)]


def _disks() -> list[Check]:
    checks = []
    for folder in paths.model_dirs():
        if folder.is_dir():
            disk = disk_of(folder)
            seen = f"{folder}: {disk.kind}, {size(disk.free_bytes)} free"
            slow = disk.kind in ("hdd", "network")
            advice = "Models load faster from an SSD." if slow else ""
            checks.append(Check("models", not slow, seen, advice))
    data = paths.data_dir()
    parent = next(folder for folder in (data, *data.parents) if folder.exists())
    writable = os.access(parent, os.W_OK)
    advice = "" if writable else "Set XDG_DATA_HOME to a folder you can write to."
    checks.append(Check("runs", writable, f"{data}", advice))
    return checks


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
