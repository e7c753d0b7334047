"""What a `.pth` file holds, from its pickle alone, with nothing in it able to run.

Format: torch.save since 1.6 writes a zip with `NAME/data.pkl` (tensors as persistent ids) and
`NAME/data/KEY` (the bytes, stored). Only the few names that a plain state dict needs resolve,
each to an inert stand-in; any other name is refused by name.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import CheckpointError
from engine.spec.header import BITS, MAX_RANK, TensorInfo, truncated

MAX_PICKLE_BYTES = 64_000_000
MAX_TUPLE_DEPTH = 6  # a state dict needs two; hashing a very deep tuple overflows the C stack
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "UntypedStorage": "U8",
}  # fmt: skip
DTYPES = {
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    dtype: str
    shape: tuple[int, ...]

    @property
    def sound(self) -> bool:
        """True where a storage and a shape are what they are called."""
        sizes = self.shape if isinstance(self.shape, tuple) else (None,)
        return (
            isinstance(self.storage, _Storage)
            and len(sizes) <= MAX_RANK
            and all(type(size) is int and 0 <= size < 1 << 48 for size in sizes)
        )


def _rebuild_tensor(storage: _Storage, _offset: int, size: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage, storage.dtype, tuple(size))


def _rebuild_tensor_v3(
    storage: _Storage, _offset: int, size: tuple[int, ...], _stride: object,
    _grad: object, _hooks: object, dtype: str, *_: object,
) -> _Tensor:  # fmt: skip
    return _Tensor(storage, dtype, tuple(size))


def _rebuild_parameter(data: _Tensor, *_: object) -> _Tensor:
    return data


NAMES: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
    **{("torch.storage", name): dtype for name, dtype in STORAGES.items()},
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


class _StateDictUnpickler(pickle._Unpickler):
    """An unpickler that knows only the names a state dict needs.

    The one written in Python: the one in C takes gigabytes for a memo index that a file names.
    """

    stack: list[object]

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.path = path

    def find_class(self, module: str, name: str) -> object:
        try:
            return NAMES[module, name]
        except KeyError:
            raise unsafe_pickle(self.path, f"it wants to use {module}.{name}") from None

    def persistent_load(self, pid: object) -> _Storage:
        _kind, dtype, key = pid[:3]  # type: ignore[index]
        return _Storage(str(dtype), str(key))


Load = Callable[[_StateDictUnpickler], None]


def _shallow(load: Load) -> Load:
    """Refuse what a tuple opcode made where it is nested too deeply to be hashed."""

    def checked(unpickler: _StateDictUnpickler) -> None:
        load(unpickler)
        if _depth(unpickler.stack[-1]) > MAX_TUPLE_DEPTH:
            raise pickle.UnpicklingError("tuples nested without end")

    return checked


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, tuple) else 0


_OPCODES: dict[int, Load] = dict(pickle._Unpickler.dispatch)  # type: ignore[arg-type] # stubs: Unpickler
for _opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _OPCODES[_opcode[0]] = _shallow(_OPCODES[_opcode[0]])
_StateDictUnpickler.dispatch = _OPCODES  # type: ignore[assignment]


def unsafe_pickle(path: Path, why: str) -> CheckpointError:
    """The error for a pickle that holds more than tensors."""
    return CheckpointError(
        f"{path.name} was refused: it holds more than weights",
        f"{path}: {why}, which could run code on this machine",
        "Do not use this file; get it from the model's own repository, best as safetensors.",
    )


def read_pth(path: Path) -> dict[str, TensorInfo]:
    """Read names, dtypes and shapes of the state dict in `path`.

    Raises:
        CheckpointError: the file is truncated, not a plain state dict, or unsafe.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            pickles = [name for name in sizes if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(pickles) != 1 or sizes[pickles[0]] > MAX_PICKLE_BYTES:
                raise _not_a_state_dict(path, "it has no single data.pkl of a sensible size")
            state = _StateDictUnpickler(path, archive.read(pickles[0])).load()
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path.name} is truncated", f"{path}: {error}", "Download the file again."
        ) from error
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # boundary: a damaged pickle may raise anything
        raise _not_a_state_dict(path, f"its pickle is damaged ({error!r})") from error
    return _tensor_table(path, state, sizes, pickles[0].removesuffix("data.pkl"))


def _tensor_table(
    path: Path, state: object, sizes: dict[str, int], folder: str
) -> dict[str, TensorInfo]:
    if not isinstance(state, dict):
        raise _not_a_state_dict(path, f"it holds a {type(state).__name__}")
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor) or not value.sound:
            raise _not_a_state_dict(path, f"its entry {name!r} is not a tensor")
        try:
            nbytes = math.prod(value.shape) * BITS[value.dtype] // 8
            stored = sizes[f"{folder}data/{value.storage.key}"]
        except (KeyError, TypeError, OverflowError):
            raise _not_a_state_dict(path, f"the data of {name!r} is missing") from None
        if nbytes > stored:
            raise truncated(path, nbytes, stored)
        tensors[name] = TensorInfo(name, value.dtype, value.shape, 0, nbytes)
    return tensors


def _not_a_state_dict(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a plain state dict",
        f"{path}: {why}",
        "Use the file from the model's own repository.",
    )
