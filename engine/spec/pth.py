"""What a `.pth` file holds, from its pickle alone, with nothing in it able to run.

Format: torch.save since 1.6 writes a zip with `NAME/data.pkl` (tensors as persistent ids) and
`NAME/data/KEY` (the bytes, stored). Only the few names that a plain state dict needs resolve,
each to an inert stand-in; any other name is refused by name.
"""

from __future__ import annotations

import io
import math
import pickle
import reprlib
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine.spec.errors import CheckpointError
from engine.spec.header import BITS, MAX_RANK, MAX_SIZE, TensorInfo, truncated
from engine.spec.plain_pickle import is_state_dict

PICKLE = "data.pkl"
MAX_PICKLE_BYTES = 64_000_000
MAX_KEPT_BYTES = 500_000  # of a pickle that is remembered; a 14B model's has less
MAX_TUPLE_PARTS = 200  # a tensor needs twenty; hashing tuples of tuples takes time and C stack
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "UntypedStorage": "U8",
}  # fmt: skip
DTYPES = {
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip


@dataclass(eq=False)
class _Storage:
    __slots__ = ("dtype", "key")
    dtype: str
    key: str


@dataclass(eq=False)
class _Tensor:
    __slots__ = ("dtype", "shape", "storage")
    storage: _Storage
    dtype: str
    shape: tuple[int, ...]

    @property
    def sound(self) -> bool:
        """True where a storage and a shape are what they are called."""
        sizes = self.shape
        if not isinstance(self.storage, _Storage) or type(sizes) is not tuple:
            return False
        for size in sizes:
            if type(size) is not int or not 0 <= size < MAX_SIZE:
                return False
        return len(sizes) <= MAX_RANK


def _tensor(storage: object, size: object, dtype: object) -> _Tensor:
    """Make a tensor of what a pickle says; nothing it says is copied or looked into."""
    if type(storage) is not _Storage or type(size) is not tuple:
        raise pickle.UnpicklingError("a tensor without a storage or a size")
    return _Tensor(storage, dtype if type(dtype) is str else "", size)


def _rebuild_tensor(storage: object, _offset: object, size: object, *_: object) -> _Tensor:
    return _tensor(storage, size, getattr(storage, "dtype", ""))


def _rebuild_tensor_v3(
    storage: object, _offset: object, size: object, _stride: object,
    _grad: object, _hooks: object, dtype: object, *_: object,
) -> _Tensor:  # fmt: skip
    return _tensor(storage, size, dtype)


def _rebuild_parameter(data: object, *_: object) -> _Tensor:
    if type(data) is not _Tensor:
        raise pickle.UnpicklingError("a parameter that is no tensor")
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


class _UnsafeError(Exception):
    """A pickle wants more than tensors; told with the file's name by whoever knows it."""


class _StateDict:
    """Knows only the names a state dict needs; what it is mixed into unpickles."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return NAMES[module, name]
        except KeyError:
            raise _UnsafeError(f"it wants to use {module}.{name}") from None

    def persistent_load(self, pid: object) -> _Storage:
        if type(pid) is not tuple or any(type(part) is not str for part in pid[:4]):
            raise pickle.UnpicklingError("a storage that is not named by texts")
        return _Storage(pid[1], pid[2])


class _FastUnpickler(_StateDict, pickle.Unpickler):
    """The unpickler in C, for what `is_state_dict` has looked over."""


class _StateDictUnpickler(_StateDict, pickle._Unpickler):
    """The unpickler in Python, ten times slower and safe with anything."""

    stack: list[object]


Load = Callable[[_StateDictUnpickler], None]


def _small(load: Load) -> Load:
    """Refuse what a tuple opcode made where hashing it would be felt."""

    def checked(unpickler: _StateDictUnpickler) -> None:
        load(unpickler)
        if _larger(unpickler.stack[-1], MAX_TUPLE_PARTS):
            raise pickle.UnpicklingError("tuples of tuples without end")

    return checked


def _larger(value: object, room: int) -> bool:
    """Say whether a tuple has more parts than there is room, parts of its tuples included."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, tuple):
            room -= len(part)
            if room < 0:
                return True
            pending += [inner for inner in part if isinstance(inner, tuple)]
    return False


def _build(unpickler: _StateDictUnpickler) -> None:
    """Let only an OrderedDict have attributes: torch keeps its `_metadata` so."""
    attributes = unpickler.stack.pop()
    owner = unpickler.stack[-1]
    if type(owner) is not OrderedDict or not isinstance(attributes, dict):
        raise pickle.UnpicklingError("attributes of something that has none")


_OPCODES: dict[int, Load] = dict(pickle._Unpickler.dispatch)  # type: ignore[arg-type] # stubs: Unpickler
for _opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _OPCODES[_opcode[0]] = _small(_OPCODES[_opcode[0]])
_OPCODES[pickle.BUILD[0]] = _build
_StateDictUnpickler.dispatch = _OPCODES  # type: ignore[assignment]


def _unpickle(data: bytes) -> object:
    reader = _FastUnpickler if is_state_dict(data) else _StateDictUnpickler
    return reader(io.BytesIO(data)).load()


#: The same encoders and VAEs lie beside every precision of every model: each is read once.
_unpickle_once = lru_cache(maxsize=16)(_unpickle)


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
            names = [name for name in sizes if name.endswith(f"/{PICKLE}") or name == PICKLE]
            if len(names) != 1 or sizes[names[0]] > MAX_PICKLE_BYTES:
                raise _not_a_state_dict(path, f"it has no single {PICKLE} of a sensible size")
            data = archive.read(names[0])
        kept = len(data) <= MAX_KEPT_BYTES
        state = (_unpickle_once if kept else _unpickle)(data)
        return _tensor_table(path, state, sizes, names[0].removesuffix(PICKLE))
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path.name} is truncated", f"{path}: {error}", "Download the file again."
        ) from error
    except (CheckpointError, OSError):
        raise
    except _UnsafeError as error:
        raise unsafe_pickle(path, str(error)) from error
    except Exception as error:  # boundary: a damaged pickle may raise anything
        why = (
            str(error)[:120] if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        )
        raise _not_a_state_dict(path, f"its pickle is damaged ({why})") from error


def _tensor_table(
    path: Path, state: object, sizes: dict[str, int], folder: str
) -> dict[str, TensorInfo]:
    if not isinstance(state, dict):
        raise _not_a_state_dict(path, f"it holds a {type(state).__name__}")
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor) or not value.sound:
            raise _not_a_state_dict(path, f"its entry {reprlib.repr(name)} is not a tensor")
        try:
            nbytes = math.prod(value.shape) * BITS[value.dtype] // 8
            stored = sizes[f"{folder}data/{value.storage.key}"]
        except (KeyError, TypeError, OverflowError):
            raise _not_a_state_dict(path, f"the data of {reprlib.repr(name)} is missing") from None
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
