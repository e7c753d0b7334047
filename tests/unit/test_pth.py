"""`.pth` files are read by their pickle alone, and nothing in them can run."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.spec import pth
from engine.spec.errors import CheckpointError
from engine.spec.header import read_header
from engine.spec.plain_pickle import is_state_dict
from tests.unit.helpers import write_pickle

#: One entry `a`, made by `_rebuild_tensor_v3` from a number in place of a storage.
FALSE_STORAGE = (
    b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v3\n"
    b"(K\x05K\x00))\x89NX\x03\x00\x00\x00F32tRs."
)


def save(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def table(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (info.dtype, info.shape) for name, info in read_header(path).tensors.items()}


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    return caught.value


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float32, "F32"), (torch.float64, "F64"), (torch.float16, "F16"),
        (torch.bfloat16, "BF16"), (torch.float8_e4m3fn, "F8_E4M3"), (torch.float8_e5m2, "F8_E5M2"),
        (torch.int8, "I8"), (torch.uint8, "U8"), (torch.int64, "I64"), (torch.bool, "BOOL"),
    ],
)  # fmt: skip
def test_each_dtype_is_read_with_its_shape_and_bytes(
    tmp_path: Path, dtype: torch.dtype, name: str
) -> None:
    tensor = torch.zeros(3, 5).to(dtype)
    path = save(tmp_path / "x.pth", {"blocks.0.weight": tensor, "scalar": tensor[0, 0].clone()})
    header = read_header(path)
    assert table(path) == {"blocks.0.weight": (name, (3, 5)), "scalar": (name, ())}
    assert header.tensors["blocks.0.weight"].nbytes == tensor.nbytes
    assert header.pickled
    assert header.file_bytes == path.stat().st_size


def test_state_dicts_of_modules_and_parameters_are_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    whole = table(save(tmp_path / "x.pth", module.state_dict()))
    assert whole["0.weight"] == ("F32", (3, 2))
    assert whole["1.num_batches_tracked"] == ("I64", ())
    parameters = OrderedDict(module.named_parameters())
    assert table(save(tmp_path / "y.pth", parameters))["0.bias"] == ("F32", (3,))


def test_an_empty_state_dict_is_read_as_no_tensors(tmp_path: Path) -> None:
    assert table(save(tmp_path / "x.pth", {})) == {}


def test_a_view_that_shares_its_storage_is_read(tmp_path: Path) -> None:
    base = torch.zeros(10, 4)
    assert table(save(tmp_path / "x.pth", {"a": base, "b": base[2:4]}))["b"] == ("F32", (2, 4))


class Bomb:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.system, eval, subprocess.check_call, os.mkdir, getattr])
def test_a_pickle_bomb_is_refused_and_nothing_runs(
    tmp_path: Path, call: Callable[..., object]
) -> None:
    victim = tmp_path / "ran"
    bomb = Bomb(call, f"mkdir {victim}" if call in (os.system, eval) else str(victim))
    for value in (bomb, {"a": bomb}, {"a": torch.zeros(2), "b": [bomb]}):
        error = refused(save(tmp_path / "x.pth", value))
        assert "refused" in error.what
        assert call.__name__ in error.why
        assert not victim.exists()


def test_names_are_refused_even_where_torch_itself_has_them(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "x.pth", b"\x80\x02ctorch.hub\nload\n)R.")
    assert "torch.hub.load" in refused(path).why


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([torch.zeros(2)], "list"),
        (torch.zeros(2), "_Tensor"),
        ({"a": {"b": torch.zeros(2)}}, "'a'"),
        ({"step": 5}, "'step'"),
        ({5: torch.zeros(2)}, "5"),
        ("text", "str"),
    ],
)
def test_what_is_not_a_plain_state_dict_is_refused(
    tmp_path: Path, value: object, said: str
) -> None:
    error = refused(save(tmp_path / "x.pth", value))
    assert "not a plain state dict" in error.what
    assert said in error.why


def test_a_truncated_zip_is_refused_at_every_kind_of_cut(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"a": torch.zeros(50)})
    whole = path.read_bytes()
    for length in sorted({0, 4, 8, 63, 64, 65, *range(100, len(whole), 37), len(whole) - 1}):
        path.write_bytes(whole[:length])
        assert refused(path).fix


def test_the_old_pickle_format_is_called_old(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert "old kind" in refused(path).why


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "data.pkl" in refused(path).why


def test_a_tensor_without_its_data_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.pth", {"a": torch.zeros(4)})
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            if "/data/" not in name:
                archive.writestr(name, source.read(name))
    assert "data of 'a' is missing" in refused(path).why


def test_a_tensor_with_too_little_data_is_truncated(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.pth", {"a": torch.zeros(4)})
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name)[:8] if "/data/" in name else source.read(name))
    assert "truncated" in refused(path).what


@pytest.mark.parametrize(
    "pickled",
    [
        b"", b".", b"\x80\x02", b"garbage", b"\x80\x02}X\x05\x00\x00\x00a", b"\x80\x63}.",
        b"\x80\x02}q\x00h\x07.", b"\x80\x02" + b"(" * 5000 + b".",
    ],
)  # fmt: skip
def test_a_damaged_pickle_is_refused(tmp_path: Path, pickled: bytes) -> None:
    assert "not a plain state dict" in refused(write_pickle(tmp_path / "x.pth", pickled)).what


def test_a_tensor_built_on_something_that_is_no_storage_is_refused(tmp_path: Path) -> None:
    assert "without a storage" in refused(write_pickle(tmp_path / "x.pth", FALSE_STORAGE)).why


@pytest.mark.parametrize("shape", [(-3,), (2.0, 2.0), (True, 2)])
def test_a_shape_that_is_no_shape_is_refused(tmp_path: Path, shape: tuple[object, ...]) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", "F32", "0", "cpu", 4) if value is storage else None

    storage, rebuild = object(), torch._utils._rebuild_tensor_v2
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a": Bomb(rebuild, storage, 0, shape, (1,), False, OrderedDict())})
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/data/0", bytes(16))
    refused(path)


READ = """
import sys
from pathlib import Path
from engine.spec import pth
from engine.spec.errors import CheckpointError
from engine.spec.header import read_header
from engine.spec.plain_pickle import is_state_dict
try:
    read_header(Path(sys.argv[1]))
except CheckpointError:
    pass
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def megabytes_to_read(path: Path) -> int:
    """Read a header in a process of its own; the most memory it ever held."""
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


@pytest.mark.parametrize("wrap", [b"\x85", b"N\x86", b"NN\x87"], ids=["one", "two", "three"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"}", b"Ns."),
        (b"}(", b"Nu."),
        (b"ccollections\nOrderedDict\n(](", b"N\x86etR."),
    ],
    ids=["setitem", "setitems", "pairs"],
)
def test_a_key_nested_too_deeply_to_hash_does_not_crash_the_process(
    tmp_path: Path, before: bytes, after: bytes, wrap: bytes
) -> None:
    nested = b"\x80\x02" + before + b")" + wrap * 1_000_000 + after
    assert megabytes_to_read(write_pickle(tmp_path / "x.pth", nested)) < 300


def test_a_pickle_of_ten_bytes_does_not_take_half_a_gigabyte(tmp_path: Path) -> None:
    far = b"\x80\x02}r" + (30_000_000).to_bytes(4, "little") + b"."
    assert megabytes_to_read(write_pickle(tmp_path / "x.pth", far)) < 100


def text(value: bytes) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value


def doubling(levels: int, pair: bytes) -> bytes:
    """Each level holds the one before it twice, through the memo."""
    steps = (pair.replace(b"?", bytes([n])) + b"q" + bytes([n + 1]) for n in range(levels))
    return b"".join(steps)


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"ctorch\nFloatStorage\n"
MILLION = b"x" * 1_000_000
BOMBS = {
    "key": b"})q\x00" + doubling(60, b"h?h?\x86") + b"Ns.",
    "key in a batch": b"}()q\x00" + doubling(60, b"h?h?\x86") + b"Nu.",
    "storage key": b"})q\x00" + doubling(60, b"h?h?\x86") + text(b"a") + REBUILD + b"(("
    + text(b"s") + STORAGE + b"h\x3c" + text(b"cpu") + b"K\x01tQK\x00))\x89NtRs.",
    "storage kind": b"})q\x00" + text(b"a") + REBUILD + b"(" + doubling(60, b"(h?h?h?h?t")
    + b"QK\x00))\x89NtRs.",
    "size": b"}" + text(b"n") + text(MILLION) + b"q\x01s(" + b"".join(
        text(b"%d" % n) + REBUILD + b"((" + text(b"s") + STORAGE + text(b"0") + text(b"cpu")
        + b"K\x01tQK\x00h\x01)\x89NtR" for n in range(300)) + b"u.",
    "attributes": b"}" + REBUILD + b"}" + text(b"__defaults__") + b"K\x01K\x02\x86sb0.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_small_pickles_that_mean_large_things_are_refused(tmp_path: Path, bomb: bytes) -> None:
    path = write_pickle(tmp_path / "x.pth", b"\x80\x02" + bomb)
    assert megabytes_to_read(path) < 150


def test_nothing_in_a_pickle_changes_this_program(tmp_path: Path) -> None:
    refused(write_pickle(tmp_path / "x.pth", b"\x80\x02" + BOMBS["attributes"]))
    assert all(getattr(name, "__defaults__", None) is None for name in pth.NAMES.values())


def test_a_key_that_cannot_even_be_shown_is_refused_in_words(tmp_path: Path) -> None:
    deep: object = ()
    for _ in range(150):
        deep = (deep,)
    path = write_pickle(tmp_path / "x.pth", pickle.dumps({deep: 1}, protocol=2))
    assert "not a tensor" in refused(path).why


@pytest.mark.parametrize(
    "state",
    [
        torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict(),
        {"a": torch.zeros(()), "b": torch.zeros(1, 2, 3, 4, 5), "c": torch.zeros(4).char()},
        {"a": torch.zeros(4).to(torch.float8_e4m3fn)}, {},
        {str(n): torch.zeros(1) for n in range(2500)},
    ],
    ids=["module", "shapes", "fp8", "nothing", "many"],
)  # fmt: skip
def test_what_torch_saves_takes_the_quick_way_to_the_same_end(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "x.pth")
    asked = []
    monkeypatch.setattr(pth, "is_state_dict", lambda data: asked.append(is_state_dict(data)))
    pth._unpickle_once.cache_clear()
    slow = read_header(tmp_path / "x.pth").tensors
    monkeypatch.undo()
    pth._unpickle_once.cache_clear()
    assert asked == [True]
    assert read_header(tmp_path / "x.pth").tensors == slow
    assert {name: info.shape for name, info in slow.items()} == {
        name: tuple(value.shape) for name, value in state.items()
    }


def test_what_shares_memory_or_is_a_parameter_is_read_too(tmp_path: Path) -> None:
    tied = torch.zeros(2, 3)
    torch.save({"a": tied, "b": tied, "c": torch.nn.Parameter(tied)}, tmp_path / "x.pth")
    assert {info.shape for info in read_header(tmp_path / "x.pth").tensors.values()} == {(2, 3)}
