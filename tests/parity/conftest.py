"""The golden data, the command line that is held against it, and the table of errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.engine.support import command, relative

Tensors = dict[str, Tensor]


@pytest.fixture(scope="session")
def reference(golden: Path) -> Tensors:
    """What the original networks compute."""
    return load_file(golden / "reference.safetensors")


@pytest.fixture(scope="session")
def make_video(
    golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Tensors]]:
    """Make a preset and run it through the command line, once for each combination; the tensors."""
    folder = tmp_path_factory.mktemp("golden-runs")
    facts = json.loads((golden / "reference.json").read_text())

    @cache
    def run(root: str, choice: tuple[str, ...], options: tuple[str, ...]) -> Tensors:
        name = f"run{len(list(folder.glob('*.json')))}"
        preset, kept = folder / f"{name}.json", folder / f"{name}.safetensors"
        assert command("preset", "make", golden / root, *choice, "-o", preset) == 0
        assert command(
            "run", preset, "--compute-dtype", "float32", "--device", "cpu",
            "--prompt", facts["prompt"], "--negative-prompt", facts["negative_prompt"],
            "--seed", facts["seed"], "--set", f"target_video_length={facts['num_frames']}",
            "--set", f"target_height={facts['height']}", "--set", f"target_width={facts['width']}",
            "--save-tensors", kept, "--output", folder / f"{name}.mp4", "--progress", "none",
            *options,
        ) == 0  # fmt: skip
        return load_file(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        yield run


@pytest.fixture(scope="session")
def compare() -> Iterator[Callable[[str, Tensor, Tensor, float], None]]:
    """Compare one tensor, and print all errors at the end."""
    rows: list[str] = []

    def check(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        error = relative(ours, theirs)
        rows.append(f"{name:<44} {error:>10.2e}  <= {tolerance:g}")
        assert error <= tolerance, rows[-1]

    yield check
    print("\n" + "\n".join(rows))
