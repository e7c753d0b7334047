"""Arbitrary and mutated weight files end in a header or a `CheckpointError`, nothing else."""

from __future__ import annotations

import io
import json
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.architecture import DitArchitecture, T5Architecture
from engine.spec.errors import CheckpointError
from engine.spec.header import BITS, Header, read_header
from lightx2v_tui.catalog.components import find_components
from lightx2v_tui.catalog.files import Listing
from lightx2v_tui.catalog.recognise import mark_of
from tests.unit.helpers import dit, raw_safetensors, safetensors_bytes, t5

QUICK = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SECONDS, MEGABYTES = 2.0, 300
VALID = safetensors_bytes({"a": ("F32", (2, 3)), "b": ("BF16", (5,))}, {"format": "pt"})
Read = Callable[[bytes], Header | None]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.safetensors"


def read(path: Path, content: bytes) -> Header | None:
    """Read a file; None where it is refused. A header's tensors must lie inside the file."""
    path.write_bytes(content)
    before, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        header = read_header(path)
    except CheckpointError:
        return None
    finally:
        assert time.monotonic() - before < SECONDS
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
        assert grown / 1024 < MEGABYTES
    for info in header.tensors.values():
        assert isinstance(info.name, str)
        assert info.dtype in BITS
        assert all(type(size) is int and size >= 0 for size in info.shape)
        if not header.pickled:
            assert info.offset + info.nbytes <= len(content)
    return header


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with a few bytes changed, removed or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["set", "cut", "insert", "end"])):
            case "set":
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del content[at : at + draw(st.integers(1, 40))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=20))
            case _:
                del content[at:]
    return bytes(content)


@QUICK
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes(file: Path, content: bytes) -> None:
    read(file, content)


@QUICK
@given(header=st.binary(max_size=200), data=st.binary(max_size=40))
def test_arbitrary_headers(file: Path, header: bytes, data: bytes) -> None:
    read(file, raw_safetensors(header, data))


@QUICK
@given(content=mutated(VALID))
def test_mutated_files(file: Path, content: bytes) -> None:
    read(file, content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*BITS, "X"]) | JSON,
        "shape": st.lists(st.integers(-2, 2**50), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | JSON,
    }
)


@QUICK
@given(
    table=st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), ENTRY | JSON, max_size=4)
)
def test_headers_of_the_right_form_with_any_values(file: Path, table: dict[str, object]) -> None:
    read(file, raw_safetensors(json.dumps(table).encode("utf-8", "surrogatepass"), bytes(64)))


NAMES = st.sampled_from([*dit(2, image=True), *t5(), "blocks.x.ffn.0.weight", "a.lora_A.weight"])
NAMED = st.dictionaries(
    NAMES | st.from_regex(r"blocks\.[0-9]{1,6}\.(ffn|attn)\.0\.weight", fullmatch=True),
    st.tuples(st.sampled_from(["F32", "BF16", "F8_E4M3", "I8", "U8"]),
              st.lists(st.integers(0, 3), max_size=5).map(tuple)),
    max_size=12,
)  # fmt: skip


@QUICK
@given(
    table=NAMED,
    config=JSON | st.dictionaries(st.sampled_from(["num_heads", "eps", "num_layers"]), JSON),
)
def test_networks_of_any_names_and_shapes_are_recognised_or_not(
    file: Path, table: dict[str, tuple[str, tuple[int, ...]]], config: object
) -> None:
    header = read(file, safetensors_bytes(table))
    assert header is not None
    mark_of(header)
    (file.parent / "config.json").write_text(json.dumps(config))
    found = find_components(Listing(file.parent, frozenset(), (file.name,)))
    assert len(found) <= 1
    for architecture in (DitArchitecture, T5Architecture):
        try:
            if architecture is DitArchitecture:
                DitArchitecture.from_shapes(header.shapes, {})
            else:
                T5Architecture.from_shapes(header.shapes)
        except CheckpointError:
            continue


def saved() -> bytes:
    buffer = io.BytesIO()
    state = torch.nn.Linear(2, 3).state_dict()
    torch.save({**state, "fp8": torch.zeros(4).to(torch.float8_e4m3fn)}, buffer)
    return buffer.getvalue()


def pickled() -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved())) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for key in range(3):
            archive.writestr(f"archive/data/{key}", bytes(24))
    return buffer.getvalue()


@QUICK
@given(content=mutated(saved()))
def test_mutated_pth_files(file: Path, content: bytes) -> None:
    read(file.with_suffix(".pth"), content)


@QUICK
@given(data=mutated(pickled()))
def test_mutated_pickles(file: Path, data: bytes) -> None:
    read(file.with_suffix(".pth"), zipped(data))


OPCODES = st.sampled_from([
    b"}", b"]", b")", b"(", b"t", b"u", b"s", b"a", b"e", b"0", b"2", b"N", b"\x88", b"K\x05",
    b"\x85", b"\x86", b"\x87", b"R", b"b", b"Q", b"q\x01", b"h\x01", b"X\x01\x00\x00\x00a", b".",
    b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nFloatStorage\n", b"\x81", b"\x91", b"\x8f", b"\x90", b"cos\nsystem\n",
])  # fmt: skip


@QUICK
@given(program=st.lists(OPCODES, max_size=40))
def test_arbitrary_pickle_programs(file: Path, program: list[bytes]) -> None:
    read(file.with_suffix(".pth"), zipped(b"\x80\x04" + b"".join(program) + b"."))
