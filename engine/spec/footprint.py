"""What the weights of a component weigh: counted from headers, cached by the files' identity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from engine.spec.architecture import Shapes
from engine.spec.header import TensorInfo, read_header, unreadable
from engine.spec.job import Weights
from engine.spec.keys import clip_names, dit_names, same_names
from engine.spec.precision import CODE_DTYPES

FLOAT = 4
#: What the DiT keeps in float32 whatever it computes in, as `engine.models.wan` has it.
FLOAT32_NAMES = ("norm", "modulation", "time_embedding", "time_projection", "img_emb.proj.0",
                 "img_emb.proj.4")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Which tensors of a file belong to one network, as the engine's recipes have it."""

    names: Callable[[Iterable[str]], dict[str, str]]
    ignore: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()


PARTS = {
    "t5": Part(same_names),
    "clip": Part(clip_names),
    "vae_encoder": Part(same_names, ignore=("decoder.", "conv2.")),
    "dit": Part(dit_names, float32=FLOAT32_NAMES),
    "vae": Part(same_names, ignore=("encoder.", "conv1.")),
}


@dataclass(frozen=True, eq=False)
class Footprint:
    """Sizes of one network's weights; elements where nothing else is said."""

    shapes: Shapes = field(repr=False)  # of all tensors of the first file, by stored name
    read: int  # bytes
    mapped: int  # bytes that are read through a mapping of a `.pth`
    largest: int  # bytes of the largest stored tensor
    largest_cast: tuple[int, int]  # of those cast, for compute dtypes of two and of four bytes
    plain: int  # kept in the compute dtype
    float32: int  # kept in float32, scales included
    codes: int
    linears: int  # of `plain`, what a converter would quantize
    linear_rows: int
    widest: int  # the largest linear

    def kept(self, item: int) -> int:
        """Bytes in memory, for a compute dtype of `item` bytes."""
        return self.plain * item + self.float32 * FLOAT + self.codes

    def cast(self, item: int) -> int:
        """Bytes of the largest tensor that is cast as it is loaded: it is there twice."""
        return self.largest_cast[item == FLOAT]

    @cached_property
    def quantized(self) -> Footprint:
        """The same network with the linears of its blocks as codes and scales."""
        saved = self.linears  # stored in two bytes each, one as codes
        return replace(
            self, read=self.read - saved, mapped=max(0, self.mapped - saved),
            plain=self.plain - self.linears, codes=self.codes + self.linears,
            float32=self.float32 + self.linear_rows, linears=0, linear_rows=0,
        )  # fmt: skip


def footprint(kind: str, weights: Weights) -> Footprint:
    """Measure one network of `PARTS`; codes where `weights` says so, even of bf16 files.

    Raises:
        CheckpointError: a file is missing or its header is broken.
    """
    found = _measured(kind, tuple(map(_identity, weights.files)))
    return found.quantized if weights.precision.quantized and not found.codes else found


def file_bytes(path: Path) -> int:
    """Size of a file.

    Raises:
        CheckpointError: it is missing.
    """
    return _identity(path)[1]


def _identity(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return path, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=64)
def _measured(kind: str, files: tuple[tuple[Path, int, int], ...]) -> Footprint:
    headers = [read_header(path) for path, _, _ in files]
    part = PARTS[kind]
    ignore = (*part.ignore, *_last_clip_block(headers[0].shapes)) if kind == "clip" else part.ignore
    stored = [name for header in headers for name in header.tensors if not name.startswith(ignore)]
    names = part.names(stored)
    used = [(header, info) for header in headers for info in header.tensors.values()
            if info.name in names]  # fmt: skip
    tensors = [(names[info.name], info) for _, info in used
               if not names[info.name].endswith("weight_scale")]  # fmt: skip
    coded = [info for _, info in tensors if info.dtype in CODE_DTYPES]
    exact = [info for name, info in tensors if info.dtype not in CODE_DTYPES
             and any(mark in name for mark in part.float32)]  # fmt: skip
    others = {info.name for info in (*coded, *exact)}
    plain = {name: info for name, info in tensors if info.name not in others}
    linears = [info for name, info in plain.items() if _is_linear(name, info.shape)]
    return Footprint(
        shapes=headers[0].shapes,
        read=sum(info.nbytes for _, info in used),
        mapped=sum(info.nbytes for header, info in used if header.pickled),
        largest=max((info.nbytes for _, info in used), default=0),
        largest_cast=(_largest_cast(exact, plain.values(), 2),
                      _largest_cast(exact, plain.values(), 4)),
        plain=sum(map(_elements, plain.values())),
        # one scale for each row of codes, however they are stored
        float32=sum(map(_elements, exact)) + sum(info.shape[0] for info in coded),
        codes=sum(map(_elements, coded)),
        linears=sum(map(_elements, linears)),
        linear_rows=sum(info.shape[0] for info in linears),
        widest=max(map(_elements, [*coded, *linears]), default=0),
    )  # fmt: skip


def _elements(info: TensorInfo) -> int:
    return math.prod(info.shape)


def _largest_cast(exact: Iterable[TensorInfo], plain: Iterable[TensorInfo], item: int) -> int:
    """Bytes of the largest tensor that is stored in another width than it is kept in."""
    widths = [*((info, FLOAT) for info in exact), *((info, item) for info in plain)]
    cast = (info.nbytes for info, width in widths if info.nbytes != width * _elements(info))
    return max(cast, default=0)


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether LightX2V's converter would quantize a tensor of this name in the network."""
    in_block = name.startswith(("blocks.", "transformer."))
    bias_of_positions = "relative_attention_bias" in name
    return in_block and len(shape) == 2 and name.endswith(".weight") and not bias_of_positions


def _last_clip_block(shapes: Shapes) -> tuple[str, ...]:
    """The prefix of the block behind the one that features are taken from."""
    start = "visual.transformer."
    blocks = [int(name.split(".")[2]) for name in shapes if name.startswith(start)]
    return (f"{start}{max(blocks)}.",) if blocks else ()
