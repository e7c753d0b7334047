"""Fill a network that was built on the meta device with the weights of a component.

Everything that can be wrong is told from the headers, before a single weight is read: tensors
missing or left over, shapes, codes without their scale. Then tensors are streamed in, each cast
and moved once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopEvent

import torch
from torch import Tensor, nn

from engine.checkpoint import Piece, dtype_of, read_headers, stream
from engine.ops.linear import CODES, choose_linear
from engine.spec.errors import Cancelled, CheckpointError
from engine.spec.events import BytesRead
from engine.spec.header import Header, TensorInfo
from engine.spec.job import Weights
from engine.spec.precision import CODE_DTYPES, Precision, QuantCompute

SCALE = "weight_scale"
TELL_SECONDS = 0.05  # between two events while reading
RUN_AHEAD = 16  # layers the host may be ahead of the device: less than half a DiT block


@dataclass(frozen=True)
class Placement:
    """Where a network lives and how it computes."""

    device: torch.device
    dtype: torch.dtype
    quant_compute: QuantCompute


@dataclass(frozen=True)
class Recipe:
    """How the stored tensors of one component become a network's parameters.

    `ignore` lists prefixes of tensors that belong to the file but not to this network; `float32`
    names the parameters that stay in float32 whatever the compute dtype.
    """

    component: str
    names: Callable[[Iterable[str]], dict[str, str]]
    ignore: tuple[str, ...] = ()
    float32: Callable[[str], bool] = lambda _name: False

    def wanted(self, headers: Iterable[Header]) -> dict[str, str]:
        """Map the stored names this network uses to its own names."""
        stored = [name for header in headers for name in header.tensors]
        return self.names(name for name in stored if not name.startswith(self.ignore))


def load(
    model: nn.Module, recipe: Recipe, weights: Weights, placement: Placement, stop: StopEvent
) -> Iterator[BytesRead]:
    """Give `model` (on the meta device) its weights; yields the bytes read so far.

    Raises:
        CheckpointError: a tensor is missing, left over, misshapen, or has no scale.
        Cancelled: `stop` was set.
    """
    headers = read_headers(weights.files)
    names = recipe.wanted(headers)
    _quantize_structure(model, headers, names, placement)
    stored = {
        names[name]: info
        for header in headers
        for name, info in header.tensors.items()
        if name in names
    }
    origin = {
        names[name]: header.path for header in headers for name in header.tensors if name in names
    }
    _check_precision(recipe, weights, stored)
    _check_complete(model, recipe, stored, origin)
    told = _Told(recipe.component, sum(info.nbytes for info in stored.values()))
    for piece in stream(headers, names, stop):
        if piece.tensor is not None:
            _assign(model, names[piece.name], piece.tensor, recipe, placement)
        yield from told.after(piece)


def read_tensors(
    component: str, headers: Sequence[Header], wanted: Container[str], stop: StopEvent
) -> Generator[BytesRead, None, dict[str, Tensor]]:
    """Read the `wanted` tensors of some files as they are stored; tells the bytes read so far.

    Raises:
        CheckpointError: a file vanished or shrank.
        Cancelled: `stop` was set.
    """
    infos = (info for header in headers for info in header.tensors.values())
    told = _Told(component, sum(info.nbytes for info in infos if info.name in wanted))
    tensors: dict[str, Tensor] = {}
    for piece in stream(headers, wanted, stop):
        if piece.tensor is not None:
            tensors[piece.name] = piece.tensor
        yield from told.after(piece)
    return tensors


class _Told:
    """Counts what is read, and tells of it now and then: a model has thousands of tensors."""

    def __init__(self, component: str, total: int) -> None:
        self._component, self._total = component, total
        self._done, self._last = 0, 0.0

    def after(self, piece: Piece) -> Iterator[BytesRead]:
        """Count a piece; tell it where it is the last one, or the last telling is long ago."""
        self._done += piece.nbytes
        now = time.monotonic()
        if self._done == self._total or now - self._last >= TELL_SECONDS:
            self._last = now
            yield BytesRead(self._component, piece.file.name, self._done, self._total)


def make_cancellable(model: nn.Module, is_stopped: Callable[[], bool]) -> None:
    """Make every layer ask whether the run is stopped before it computes.

    CUDA runs behind the host by up to a thousand kernels. Each layer waits for one a little
    before it, so a cancelled run ends soon after the layer under way, and the queue never dries.
    """
    queued: list[torch.cuda.Event] = []

    def check(_module: nn.Module, inputs: tuple[object, ...]) -> None:
        if is_stopped():
            raise Cancelled
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].is_cuda:
            event = torch.cuda.Event()
            event.record()
            queued.append(event)
            if len(queued) > RUN_AHEAD:
                queued.pop(0).synchronize()

    for module in model.modules():
        if not any(True for _ in module.children()):
            module.register_forward_pre_hook(check)


def _check_precision(recipe: Recipe, weights: Weights, stored: dict[str, TensorInfo]) -> None:
    found = {CODE_DTYPES[info.dtype] for info in stored.values() if info.dtype in CODE_DTYPES}
    actual = next(iter(found), Precision.BF16) if len(found) < 2 else None
    if actual is not weights.precision:
        holds = "a mixture of fp8 and int8" if actual is None else actual.value
        raise CheckpointError(
            f"The {recipe.component} weights are not {weights.precision.value}",
            f"{weights.files[0].parent} holds {holds}",
            "Choose the precision the files have, or the folder of the one you want.",
        )


def _quantize_structure(
    model: nn.Module, headers: Iterable[Header], names: dict[str, str], placement: Placement
) -> None:
    """Replace each `nn.Linear` whose stored weight is codes, and rename that weight in `names`."""
    modules = dict(model.named_modules())
    scaled = {path for path, _, leaf in map(_split, names.values()) if leaf == SCALE}
    for header in headers:
        for name, info in header.tensors.items():
            if name not in names or info.dtype not in CODE_DTYPES:
                continue
            path, _, leaf = _split(names[name])
            if leaf != "weight" or path not in scaled:
                raise CheckpointError(
                    f"{name} has codes but no scale",
                    f"{header.path}: {info.dtype} values mean nothing without {path}.{SCALE}",
                    "Use files written by LightX2V's converter; a plain cast is not enough.",
                )
            linear = modules.get(path)
            if isinstance(linear, nn.Linear):
                shape = (linear.out_features, linear.in_features)
                codes = CODES[info.dtype]
                cls = choose_linear(codes, shape, placement.quant_compute, placement.device)
                model.set_submodule(path, cls(linear, codes))
                names[name] = f"{path}.codes"


def _split(name: str) -> tuple[str, str, str]:
    return name.rpartition(".")


def _check_complete(
    model: nn.Module, recipe: Recipe, stored: dict[str, TensorInfo], origin: dict[str, Path]
) -> None:
    wanted = dict(model.named_parameters(remove_duplicate=True))
    missing = [name for name in wanted if name not in stored]
    left_over = [info.name for name, info in stored.items() if name not in wanted]
    folder = next(iter(origin.values())).parent if origin else Path()
    for problem, found in (("lack", missing), ("hold unknown", left_over)):
        if found:
            raise CheckpointError(
                f"The {recipe.component} weights {problem} tensors",
                f"{folder}: {len(found)}, among them {', '.join(sorted(found)[:4])}",
                "Check that all files of the component are there and belong together.",
            )
    for name, parameter in wanted.items():
        dtype_of(origin[name], stored[name])
        shape = tuple(parameter.shape)
        if not _fits(name, stored[name].shape, shape):
            raise CheckpointError(
                f"{stored[name].name} has the wrong shape",
                f"{origin[name]}: {list(stored[name].shape)} instead of {list(shape)}",
                "These files belong to another model, or config.json does.",
            )


def _fits(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Scales may be [out, 1], [out] or one number; everything else is exact."""
    if name.endswith("." + SCALE):
        return stored in (wanted, wanted[:1], (), (1,), (1, 1))
    return stored == wanted


def _assign(
    model: nn.Module, name: str, tensor: Tensor, recipe: Recipe, placement: Placement
) -> None:
    """Put one tensor in its place, in its dtype and on its device."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    slot = getattr(module, leaf)
    dtype = placement.dtype
    if leaf == SCALE:
        tensor = tensor.float().reshape(-1, 1).expand(slot.shape).contiguous()
        dtype = torch.float32
    elif slot.dtype in CODES.values():
        dtype = slot.dtype
    elif recipe.float32(name):
        dtype = torch.float32
    setattr(module, leaf, nn.Parameter(tensor.to(placement.device, dtype), requires_grad=False))
