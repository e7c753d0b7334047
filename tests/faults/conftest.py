"""One server of processes for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.harness import ForkServer


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Starts processes that have PyTorch already."""
    server = ForkServer()
    yield server
    server.close()
