"""Memory and cores within the limits of cgroups, and PyTorch's build, from files made up here."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lightx2v_tui.host import HostMemory, TorchBuild, cpu_count, read_memory, torch_build

GB = 10**9
NO_LIMIT = 9223372036854771712  # what version 1 says where there is none
CGROUPS = "sys/fs/cgroup"
CFS = "cpu/a/cpu.cfs"  # version 1's cores


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 GB, half of it available, with swap and 16 cores."""
    memory = SimpleNamespace(total=64 * GB, available=32 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=8 * GB, free=6 * GB))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)


def write(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def measured(root: Path) -> tuple[float, float, float | None]:
    memory = read_memory(root)
    return memory.total / GB, memory.available / GB, memory.limit and memory.limit / GB


def group(
    folder: str, limit: object, used: int, cache: int = 0, version: int = 2
) -> dict[str, object]:
    files = ("memory.max", "memory.current") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes",
    )  # fmt: skip
    name = "inactive_file" if version == 2 else "inactive_file 1\ntotal_inactive_file"
    at = f"{CGROUPS}/{folder}"
    return {
        f"{at}/{files[0]}": limit,
        f"{at}/{files[1]}": used,
        f"{at}/memory.stat": f"anon 5\n{name} {cache}",
    }


def test_without_cgroups_the_machine_is_told(tmp_path: Path) -> None:
    memory = read_memory(tmp_path)
    assert memory == HostMemory(64 * GB, 32 * GB, memory.process, 8 * GB, 6 * GB, None)
    assert memory.process > 1_000_000
    assert cpu_count(tmp_path) == 16


@pytest.mark.parametrize(
    ("membership", "groups", "expected"),
    [
        # version 2: its own group, one above, the root of a container, and none at all
        ("0::/app", group("app", 10 * GB, 4 * GB, 1 * GB), (10, 7, 10)),
        ("0::/a/b", group("a", 10 * GB, 4 * GB) | group("a/b", "max", 4 * GB), (10, 6, 10)),
        ("0::/a/b", group("a", 10 * GB, 9 * GB) | group("a/b", 8 * GB, 2 * GB), (8, 1, 8)),
        ("0::/", group(".", 10 * GB, 4 * GB), (10, 6, 10)),
        ("0::/../../other", group(".", 10 * GB, 4 * GB), (10, 6, 10)),
        ("0::/app", group("app", "max", 4 * GB), (64, 32, None)),
        # more than the machine has is no limit, and less left than the machine has counts
        ("0::/app", group("app", 200 * GB, 4 * GB), (64, 32, None)),
        ("0::/app", group("app", 60 * GB, 4 * GB), (60, 32, 60)),
        # all of it used, and more cache than is used
        ("0::/app", group("app", 10 * GB, 11 * GB), (10, 0, 10)),
        ("0::/app", group("app", 10 * GB, 1 * GB, 2 * GB), (10, 10, 10)),
        # version 1, where the memory controller has a tree of its own, and both together
        ("4:memory:/app", group("memory/app", 10 * GB, 4 * GB, GB, 1), (10, 7, 10)),
        ("4:memory:/docker/7f", group("memory", 10 * GB, 4 * GB, 0, 1), (10, 6, 10)),
        ("4:memory:/app", group("memory/app", NO_LIMIT, 4 * GB, 0, 1), (64, 32, None)),
        ("2:cpu,memory:/a\n0::/", group("memory/a", 10 * GB, 4 * GB, 0, 1), (10, 6, 10)),
        # of another controller, and lines that are none
        ("3:cpuset:/app", group("cpuset/app", 10 * GB, 4 * GB), (64, 32, None)),
        ("", group("app", 10 * GB, 4 * GB), (64, 32, None)),
        ("nonsense", group("app", 10 * GB, 4 * GB), (64, 32, None)),
    ],
)
def test_a_cgroup_limits_memory(
    tmp_path: Path, membership: str, groups: dict[str, object], expected: tuple[object, ...]
) -> None:
    write(tmp_path, {"proc/self/cgroup": membership, **groups})
    assert measured(tmp_path) == expected


def test_a_limit_without_its_other_files_is_a_limit_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/app", f"{CGROUPS}/app/memory.max": 10 * GB})
    assert measured(tmp_path) == (10, 10, 10)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a", {"a/cpu.max": "200000 100000"}, 2),
        ("0::/a", {"a/cpu.max": "150000 100000"}, 2),
        ("0::/a", {"a/cpu.max": "10000 100000"}, 1),
        ("0::/a", {"a/cpu.max": "max 100000"}, 16),
        ("0::/a", {"a/cpu.max": "6400000 100000"}, 16),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, 4),
        ("1:cpu,cpuacct:/a", {f"{CFS}_quota_us": 300000, f"{CFS}_period_us": 100000}, 3),
        ("1:cpu,cpuacct:/a", {f"{CFS}_quota_us": -1, f"{CFS}_period_us": 100000}, 16),
        ("0::/a", {"a/cpu.max": "0 0"}, 16),
    ],
)  # fmt: skip
def test_a_cgroup_limits_cores(
    tmp_path: Path, membership: str, files: dict[str, object], expected: int
) -> None:
    at_mount = {f"{CGROUPS}/{name}": text for name, text in files.items()}
    write(tmp_path, {"proc/self/cgroup": membership, **at_mount})
    assert cpu_count(tmp_path) == expected


def test_cores_are_counted_where_a_process_cannot_be_tied_to_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu_count(tmp_path) == 6


VERSION = """from typing import Optional
__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
git_version = 'cf30153c'
hip: Optional[str] = {hip}
"""


@pytest.mark.parametrize(
    ("version", "cuda", "hip", "expected"),
    [
        ("2.13.0+cpu", "None", "None", TorchBuild("2.13.0+cpu")),
        ("2.13.0+cu130", "'13.0'", "None", TorchBuild("2.13.0+cu130", (13, 0))),
        ("2.11.0", "'12.6'", "None", TorchBuild("2.11.0", (12, 6))),
        ("2.12.0+rocm7.2", "None", "'7.2.5'", TorchBuild("2.12.0+rocm7.2", None, "7.2.5")),
    ],
)
def test_what_pytorch_was_built_for_is_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, cuda: str, hip: str,
    expected: TorchBuild,
) -> None:  # fmt: skip
    (tmp_path / "version.py").write_text(VERSION.format(version=version, cuda=cuda, hip=hip))
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    assert torch_build() == expected


@pytest.mark.parametrize("spec", [None, SimpleNamespace(submodule_search_locations=["/nowhere"])])
def test_no_pytorch_is_none(monkeypatch: pytest.MonkeyPatch, spec: object) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    assert torch_build() is None


def test_the_installed_pytorch_is_told_as_it_tells_itself() -> None:
    import torch

    build = torch_build()
    assert build is not None
    assert build.version == torch.__version__
    assert bool(build.cuda) is bool(torch.version.cuda)


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="this system has no cgroups")
def test_this_machine_can_be_read() -> None:
    memory = read_memory()
    assert 0 <= memory.available <= memory.total <= 64 * GB
    assert 1 <= cpu_count() <= 16
