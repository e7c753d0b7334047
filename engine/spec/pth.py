"""What a `.pth` file holds, from its pickle alone, with nothing in it able to run.

Format: torch.save since 1.6 writes a zip with `NAME/data.pkl` (tensors as persistent ids) and
`NAME/data/KEY` (the bytes, stored). Only the few names that a plain state dict needs resolve,
each to an inert stand-in; any other name is refused by name.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import CheckpointError
from engine.spec.header import BITS, MAX_RANK, MAX_SIZE, TensorInfo, truncated

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


class _StateDict:
    """Knows only the names a state dict needs; what it is mixed into unpickles."""

    path: Path

    def find_class(self, module: str, name: str) -> object:
        try:
            return NAMES[module, name]
        except KeyError:
            raise unsafe_pickle(self.path, f"it wants to use {module}.{name}") from None

    def persistent_load(self, pid: object) -> _Storage:
        _kind, dtype, key = pid[:3]  # type: ignore[index]
        return _Storage(str(dtype), str(key))


class _FastUnpickler(_StateDict, pickle.Unpickler):
    """The unpickler in C, for what `_is_plain` has looked over.

    Unguarded it takes gigabytes for a memo index that a file names.
    """


class _StateDictUnpickler(_StateDict, pickle._Unpickler):
    """The unpickler in Python, ten times slower and safe with anything."""

    stack: list[object]


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


#: Opcodes of a fixed size that torch.save writes; a memo index stays below 2**20.
_PLAIN = re.compile(
    rb"(?:[}\])(tNQRsuaeb\x85-\x89]|\x80.|c[\w.]{1,80}\n\w{1,80}\n|[qhK].|M..|[jJ].{4}"
    rb"|r..[\x00-\x0f]\x00){0,2000}",
    re.DOTALL,
)
MAX_TUPLES = 20_000  # that many, nested in one another, can still be hashed


def _is_plain(data: bytes) -> bool:
    """Say whether a pickle holds only what torch.save writes, opcode by opcode."""
    if sum(map(data.count, (b"t", b"\x85", b"\x86", b"\x87"))) > MAX_TUPLES:
        return False
    match, text, start, size = _PLAIN.match, pickle.BINUNICODE[0], 0, len(data)
    while start < size:
        at = match(data, start).end()  # type: ignore[union-attr] # it matches nothing too
        opcode = data[at] if at < size else 0
        if opcode == text:
            start = at + 5 + int.from_bytes(data[at + 1 : at + 5], "little")
        elif opcode == pickle.STOP[0]:
            return at == size - 1
        elif at == start:
            return False
        else:
            start = at
    return False


def _unpickle(path: Path, data: bytes) -> object:
    reader = (_FastUnpickler if _is_plain(data) else _StateDictUnpickler)(io.BytesIO(data))
    reader.path = path
    return reader.load()


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
            state = _unpickle(path, archive.read(pickles[0]))
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
