"""What the quick unpickler is given means to it what it means to the careful one."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec import pth
from engine.spec.plain_pickle import is_state_dict

QUICK = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
PIECES = [
    b"\x80\x02", b"}", b"q\x00", b"h\x00", b"h\x01", b"q\x01", b"(", b"t", b"u", b"s", b"b",
    b"Q", b"R", b")", b"K\x03", b"M\x00\x01", b"J\x00\x00\x00\x01", b"\x85", b"\x86", b"\x87",
    b"\x89", b"\x88", b"X\x01\x00\x00\x00a", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"ctorch\nfloat8_e4m3fn\n",
    b"r\x02\x00\x00\x00", b".",
]  # fmt: skip


def pickled(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


SEEDS = [
    pickled(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()),
    pickled({"a": torch.zeros(3).to(torch.float8_e4m3fn), "b": torch.zeros(1, 2, 3, 4)}),
    pickled({}),
]


def meaning(unpickler: type[Any], data: bytes) -> object:
    """What a pickle means, or that it is refused."""
    try:
        state = unpickler(io.BytesIO(data)).load()
    except Exception:  # noqa: BLE001 - a damaged pickle may raise anything; both must refuse it
        return "refused"
    if not isinstance(state, dict):
        return type(state).__name__
    return {
        str(name): (value.dtype, value.shape, value.storage.key)
        if isinstance(value, pth._Tensor)
        else type(value).__name__
        for name, value in state.items()
    }


def agree(data: bytes) -> None:
    if is_state_dict(data):
        assert meaning(pth._FastUnpickler, data) == meaning(pth._StateDictUnpickler, data)


def test_the_seeds_are_plain() -> None:
    assert all(map(is_state_dict, SEEDS))
    assert not is_state_dict(pickle.dumps({"a": (1, (2, 3))}, protocol=2))


@QUICK
@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 400), piece=st.sampled_from(PIECES),
       gone=st.integers(0, 6))  # fmt: skip
def test_a_piece_put_anywhere(seed: bytes, at: int, piece: bytes, gone: int) -> None:
    agree(seed[:at] + piece + seed[at + gone :])


@QUICK
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
def test_programs_of_such_pieces(pieces: list[bytes]) -> None:
    agree(b"\x80\x02" + b"".join(pieces) + b".")


@QUICK
@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 400), byte=st.integers(0, 255))
def test_one_byte_changed(seed: bytes, at: int, byte: int) -> None:
    agree(seed[:at] + bytes([byte]) + seed[at + 1 :])
