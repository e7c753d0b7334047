"""Peak resident memory while a 1 GB FP8 DiT is loaded, mapped pages included (VmHWM)."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

MIB = 1 << 20
ALLOWED = 150 * MIB
#: Eleven blocks 2560 wide: 0.9 GB of codes; embeddings in bf16.
SIZES = {"dim": 2560, "ffn_dim": 7168, "num_heads": 20, "num_layers": 11, "in_dim": 16,
         "out_dim": 16, "text_dim": 1024, "freq_dim": 256}  # fmt: skip

LOAD = """
import gc, json, sys, time
from pathlib import Path
from threading import Event
import torch
from engine.build import Placement, load
from engine.models.wan import WanTransformer
from engine.spec.architecture import DitArchitecture
from engine.spec.job import Weights
from engine.spec.precision import Precision, QuantCompute
from engine.stages import DIT

def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) << 10

files, sizes = tuple(map(Path, json.loads(sys.argv[1]))), json.loads(sys.argv[2])
with torch.device("meta"):
    model = WanTransformer(DitArchitecture(**sizes))
placement = Placement(torch.device("cpu"), torch.bfloat16, QuantCompute.AUTO)
before, started = status("VmHWM"), time.perf_counter()
assert before - status("VmRSS") < 8 << 20, "what importing peaked at would hide what loading does"
for event in load(model, DIT, Weights(files, Precision.FP8), placement, Event()):
    last = event
seconds = time.perf_counter() - started
after, now = status("VmHWM"), status("VmRSS")
kept = sum(value.nbytes for value in model.parameters())
print(json.dumps({"before": before, "after": after, "now": now, "kept": kept,
                  "read": last.done, "total": last.total, "seconds": seconds}))
"""

WRITE_PTH = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
state = {}
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    state |= load_file(path)
torch.save(state, sys.argv[2])
"""


def dit_tensors() -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Files of a block folder: the dtype and shape of every tensor, linears as codes and scales."""
    import torch

    from engine.models.wan import WanTransformer
    from engine.spec.architecture import DitArchitecture

    with torch.device("meta"):
        model = WanTransformer(DitArchitecture(**SIZES))
    files: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for name, value in model.named_parameters():
        parts = name.split(".")
        block = f"block_{parts[1]}" if parts[0] == "blocks" else "non_block"
        tensors = files.setdefault(f"{block}.safetensors", {})
        shape = tuple(value.shape)
        coded = parts[0] == "blocks" and value.ndim == 2
        tensors[name] = ("F8_E4M3" if coded else "BF16", shape)
        if coded:
            tensors[f"{name}_scale"] = ("F32", (shape[0], 1))
    return files


def write_file(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write random codes tensor by tensor; scales and the rest are small and finite."""
    width = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
    table, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * width[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    no_nan = bytes(byte if byte & 0x7F != 0x7F else 0 for byte in range(256))
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for dtype, shape in tensors.values():
            nbytes = math.prod(shape) * width[dtype]
            if dtype == "F8_E4M3":
                file.write(os.urandom(nbytes).translate(no_nan))
            else:
                file.write(bytes(nbytes))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[Path]]:
    """A block folder of about 1 GB, deleted afterwards."""
    folder = tmp_path / "dit"
    folder.mkdir()
    for name, tensors in dit_tensors().items():
        write_file(folder / name, tensors)
    yield sorted(folder.iterdir())
    for path in tmp_path.rglob("*.*"):
        path.unlink()


def loaded(files: list[Path]) -> dict[str, float]:
    """Load the files in a process of its own; gives what it measured."""
    arguments = (json.dumps([str(path) for path in files]), json.dumps(SIZES))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["read"] == figures["total"]
    return figures


def row(name: str, figures: dict[str, float]) -> str:
    growth = figures["after"] - figures["before"]
    over = growth - figures["kept"]
    return (
        f"  {name:<22}{figures['kept'] / MIB:8.0f}{growth / MIB:12.0f}{over / MIB:12.0f}"
        f"{(figures['now'] - figures['before']) / MIB:12.0f}{figures['seconds']:9.1f} s"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_loading_needs_little_more_than_what_it_keeps(files: list[Path], tmp_path: Path) -> None:
    """At most the weights kept plus 150 MB, at the highest moment."""
    size = sum(path.stat().st_size for path in files)
    blocks = loaded(files)
    pth = tmp_path / "dit.pth"
    subprocess.run([sys.executable, "-c", WRITE_PTH, str(files[0].parent), str(pth)], check=True)
    pickled = loaded([pth])
    print(f"\nloading an FP8 DiT of {size / MIB:.0f} MiB in {len(files)} files; MiB of memory")
    print(f"  {'':<22}{'kept':>8}{'growth':>12}{'beyond kept':>12}{'at the end':>12}")
    print(row("block folder", blocks))
    print(row(".pth (report only)", pickled))
    assert size > 900 * MIB
    assert blocks["after"] - blocks["before"] <= blocks["kept"] + ALLOWED
