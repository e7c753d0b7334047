"""Arbitrary and mutated GGUF files end in a header or in the project's own error, soon."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.spec.errors import CheckpointError
from engine.spec.gguf import read_gguf
from lightx2v_tui.catalog.recognise import mark_of
from tests.unit.helpers import dit, gguf_bytes, quantized_gguf

QUICK = settings(deadline=None, max_examples=300)
VALID = gguf_bytes(quantized_gguf(dit(1)), {"tokenizer.ggml.model": "t5"})
NUMBERS = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1])
MEMORY = 32 << 20


def read(content: bytes) -> None:
    """Read one file; whatever comes out is a header or an error of our own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            header = read_gguf(path)
            assert all(info.nbytes <= len(content) for info in header.tensors.values())
            mark_of(header)
        except CheckpointError as error:
            assert error.what  # noqa: PT017 - most inputs are refused, some are not
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY


@QUICK
@given(content=st.binary(max_size=400))
def test_any_bytes(content: bytes) -> None:
    read(content)


@QUICK
@given(version=st.integers(0, 5), tensors=NUMBERS, values=NUMBERS, rest=st.binary(max_size=300))
@example(version=3, tensors=2**60, values=0, rest=b"")
def test_any_counts(version: int, tensors: int, values: int, rest: bytes) -> None:
    read(b"GGUF" + struct.pack("<IQQ", version, tensors, values) + rest)


@QUICK
@given(edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_valid_file_with_some_bytes_changed(edits: list[tuple[int, int]]) -> None:
    content = bytearray(VALID)
    for at, value in edits:
        content[at % len(content)] = value
    read(bytes(content))


@QUICK
@given(at=st.integers(0, 3000), number=NUMBERS)
def test_a_valid_file_with_a_number_changed(at: int, number: int) -> None:
    at %= len(VALID) - 8
    read(VALID[:at] + struct.pack("<Q", number) + VALID[at + 8 :])


@QUICK
@given(length=st.integers(0, len(VALID)))
def test_a_valid_file_cut_anywhere(length: int) -> None:
    read(VALID[:length])
