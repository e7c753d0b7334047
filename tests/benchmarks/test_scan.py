"""The scan of a large disk, against a bare walk of it that reads the same headers."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lightx2v_tui.catalog import ModelRoot, find_roots
from lightx2v_tui.catalog.files import SKIP, WEIGHTS
from tests.processes import REPOSITORY
from tests.terminal import Terminal
from tests.unit.helpers import CODES, dit_block, dit_rest, safetensors_bytes

pytestmark = pytest.mark.benchmark

FOLDERS, FILES, ROOTS = 2000, 200_000, 40
LAYERS = 30
ALLOWED = 1.5
ATTEMPTS = 5
MIB = 1 << 20
REMEMBERED_MS = 50
TITLE = "lightx2v-tui › Models"
ALLOWED_MIB = 4


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 folders of 100 files, 40 model roots of different layouts among them."""
    disk = tmp_path_factory.mktemp("disk")
    pth = real_pth(disk / "t5.pth")
    (disk / "t5.pth").unlink()
    for number in range(FOLDERS):
        folder = disk / f"d{number % 20}" / f"e{number}"
        folder.mkdir(parents=True)
        for name in range(FILES // FOLDERS):
            (folder / f"file_{name}.txt").touch()
        if number % (FOLDERS // ROOTS) == 0:
            write_model(folder, number // (FOLDERS // ROOTS), pth)
    return disk


def real_pth(path: Path) -> bytes:
    """A `.pth` as torch.save writes it, with the 242 names of UMT5-XXL."""
    import torch

    names = ["attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate.0", "ffn.fc1", "ffn.fc2", "norm1",
             "norm2", "pos_embedding.embedding"]  # fmt: skip
    state = {f"{name}.weight": torch.zeros(4, 8) for name in ("token_embedding", "norm")}
    for layer in range(24):
        state |= {f"blocks.{layer}.{name}.weight": torch.zeros(8, 4) for name in names}
    torch.save(state, path)
    return path.read_bytes()


def write_model(folder: Path, number: int, pth: bytes) -> None:
    """A block folder, single file or flat shards in turn, each with a T5."""
    precision = ("bf16", "fp8", "int8")[number % 3]
    blocks = {layer: dit_block(layer, CODES[precision]) for layer in range(LAYERS)}
    if number % 3:
        inner = folder / f"distill_{precision}"
        inner.mkdir()
        (inner / "non_block.safetensors").write_bytes(safetensors_bytes(dit_rest()))
        for layer, table in blocks.items():
            (inner / f"block_{layer}.safetensors").write_bytes(safetensors_bytes(table))
    else:
        inner = folder
        whole = dict(dit_rest())
        for table in blocks.values():
            whole |= table
        name = "wan2.1_t2v_14b_lightx2v_4step.safetensors"
        (inner / name).write_bytes(safetensors_bytes(whole))
    (inner / f"models_t5_umt5-xxl-enc-{precision}.pth").write_bytes(pth)


def bare_walk(start: Path) -> int:
    """`os.scandir` over everything, and every weight file's header read and parsed."""
    count, pending = 0, [str(start)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(WEIGHTS):
                    count += len(bare_header(entry.path))
                elif entry.name not in SKIP and entry.is_dir():
                    pending.append(entry.path)
    return count


def bare_header(path: str) -> dict[str, Any]:
    if path.endswith(".safetensors"):
        with open(path, "rb") as file:  # noqa: PTH123 - as bare as can be
            size = int.from_bytes(file.read(8), "little")
            return dict(json.loads(file.read(size)))
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return dict(BareUnpickler(io.BytesIO(archive.read(name))).load())


class BareUnpickler(pickle.Unpickler):
    """The standard library's, which makes tuples of everything."""

    def find_class(self, _module: str, _name: str) -> Callable[..., object]:
        return lambda *arguments: arguments if arguments else dict(arguments)

    def persistent_load(self, pid: object) -> object:
        return pid


def whole_scan(start: Path) -> int:
    return sum(isinstance(found, ModelRoot) for found in find_roots([start], Event()))


def seconds(work: Callable[[Path], int], start: Path) -> float:
    gc.collect()
    started = time.perf_counter()
    assert work(start) >= ROOTS
    return time.perf_counter() - started


def pairs(disk: Path) -> list[tuple[float, float]]:
    """Seconds of a bare walk and of a scan, in turn."""
    return [(seconds(bare_walk, disk), seconds(whole_scan, disk)) for _ in range(5)]


#: In a process of its own, as `scan` is: this one is full of what torch and the tests have made.
MEASURE = """
import json, sys
from pathlib import Path
from tests.benchmarks.test_scan import pairs
print(json.dumps(pairs(Path(sys.argv[1]))))
"""


def test_a_scan_takes_little_more_than_a_bare_walk(disk: Path) -> None:
    """At most 1.5 times os.scandir and the same headers, medians of 5 pairs."""
    for _ in range(ATTEMPTS):  # another program on the machine must not decide
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(disk)],
            capture_output=True, text=True, check=True, cwd=REPOSITORY,
        )  # fmt: skip
        bare, ours = (
            statistics.median(times) for times in zip(*json.loads(done.stdout), strict=True)
        )
        if ours <= ALLOWED * bare:
            break
    print(
        f"\n{FILES} files in {FOLDERS} folders, {ROOTS} roots: bare walk and headers "
        f"{bare:.3f} s, scan {ours:.3f} s (x{ours / bare:.2f})"
    )
    assert ours <= ALLOWED * bare


def peak_of_scan(start: Path) -> int:
    """The most memory that a scan holds at once."""
    gc.collect()
    tracemalloc.start()
    try:
        whole_scan(start)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_stays_flat(disk: Path) -> None:
    """Twenty times the files take no more than what is found of them."""
    whole_scan(disk / "d0")  # what is imported on the way is not counted
    part, whole = peak_of_scan(disk / "d0"), peak_of_scan(disk)
    print(
        f"\npeak memory of a scan: {part / MIB:.1f} MiB for {FILES // 20} files, "
        f"{whole / MIB:.1f} MiB for {FILES}"
    )
    assert whole - part < ALLOWED_MIB * MIB


def test_a_second_start_shows_what_is_remembered_in_its_first_frames(disk: Path) -> None:
    """They stand in the very first frame, long before the scan could have found them."""
    with Terminal.app("--root", str(disk)) as terminal:
        terminal.wait(f"{ROOTS} models in")
    waits = []
    for _ in range(7):
        with Terminal.app("--root", str(disk)) as terminal:
            terminal.wait("remembered from")
            shown = time.perf_counter() - terminal.started
            assert terminal.painted is not None
            waits.append((shown - terminal.painted) * 1000)
            assert terminal.text.count(TITLE) == 1  # every frame begins with it
    wait = statistics.median(waits)
    print(f"\nremembered models: {wait:.0f} ms after the first letters, worst {max(waits):.0f} ms")
    assert wait < REMEMBERED_MS
