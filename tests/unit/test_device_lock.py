"""One engine a GPU: held by one process, given back however that ends, waited for."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.errors import JobError
from lightx2v_tui.gpus import Gpu, GpuReading
from lightx2v_tui.output import printable
from lightx2v_tui.paths import data_dir
from lightx2v_tui.runs import device_lock
from lightx2v_tui.runs.device_lock import (
    Device,
    DeviceBusy,
    DeviceLock,
    Devices,
    Holder,
    check_name,
)
from lightx2v_tui.runs.locks import FileLock, is_held

GPU = Device("GPU-1", "GPU 0")
HOLD = """
import sys
from lightx2v_tui.runs.device_lock import Device, DeviceLock
lock = DeviceLock(Device(*sys.argv[1:3]))
assert lock.take(sys.argv[3]) == ""
print("held", flush=True)
input()
"""


@contextmanager
def holding(device: Device, run: str = "20260101-120000") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a device."""
    arguments = [sys.executable, "-c", HOLD, device.key, device.title, run]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(Gpu(n, f"GPU-{n + 1}", "H100", (9, 0), 80, 1) for n in range(2))
    monkeypatch.setattr(device_lock, "read_gpus", lambda: GpuReading(gpus))
    monkeypatch.setattr(device_lock, "LOOK", 0.01)


def test_a_device_of_another_process_is_refused_with_who_and_since_when() -> None:
    with holding(GPU) as process, pytest.raises(DeviceBusy) as caught:
        DeviceLock(GPU).take("mine")
    busy = caught.value
    assert (busy.holder.pid, busy.holder.run) == (process.pid, "20260101-120000")
    assert busy.holder.since is not None
    assert time.time() - busy.holder.since < 60
    clock = time.strftime("%H:%M", time.localtime(busy.holder.since))
    assert busy.what == (
        f"GPU 0 is in use by run 20260101-120000 of process {process.pid} since {clock}"
    )
    assert "--wait" in busy.fix
    assert busy.why.startswith("-c")


def test_networks_that_stay_loaded_are_told_as_that() -> None:
    with holding(GPU, run="") as process, pytest.raises(DeviceBusy) as caught:
        DeviceLock(GPU).take("mine")
    assert f"process {process.pid}, whose networks stay loaded" in caught.value.what
    assert "Ctrl+U" in caught.value.fix


def test_a_killed_holder_leaves_nothing() -> None:
    with holding(GPU) as process:
        process.kill()
        process.wait()
        lock = DeviceLock(GPU)
        assert lock.take("mine") == ""
    assert json.loads((data_dir() / "locks" / "GPU-1.lock").read_bytes())["pid"] == os.getpid()
    lock.release()


def test_each_gpu_has_its_own() -> None:
    devices = Devices()
    with holding(GPU):
        with pytest.raises(DeviceBusy, match="GPU 0"):
            devices.take("cuda:0", "mine")
        with pytest.raises(DeviceBusy, match="GPU 0"):
            devices.take("cuda", "mine")
        assert devices.take("cuda:1", "mine") == ()
        assert devices.take("cuda:1", "again") == ()
    devices.release()


def test_the_cpu_is_never_refused_and_it_is_said() -> None:
    with holding(Device("cpu", "The CPU")) as process:
        (note,) = Devices().take("cpu", "mine")
    assert str(process.pid) in note
    assert "slower" in note


def test_between_runs_it_is_held_as_long_as_something_is_loaded() -> None:
    devices, other = Devices(), DeviceLock(GPU)
    devices.take("cuda:0", "mine")
    assert other.holder().run == "mine"
    devices.rest(loaded=True)
    assert other.holder().run == ""
    with pytest.raises(DeviceBusy, match="stay loaded"):
        other.take("other")
    devices.rest(loaded=False)
    assert other.take("other") == ""
    other.release()


def test_waiting_tells_each_holder_once_and_ends_with_the_device() -> None:
    told: list[DeviceBusy] = []
    devices = Devices()
    with holding(GPU) as process:

        def tell(busy: DeviceBusy) -> None:
            told.append(busy)
            threading.Timer(0.2, process.kill).start()

        assert devices.wait("cuda:0", "mine", lambda: False, tell) == ()
    assert [busy.holder.pid for busy in told] == [process.pid]
    with pytest.raises(DeviceBusy):
        DeviceLock(GPU).take("other")
    assert devices.wait("cuda:0", "again", lambda: False, tell) == ()  # it has it
    devices.release()


def test_waiting_ends_when_it_is_told_to() -> None:
    told: list[DeviceBusy] = []
    with holding(GPU):
        assert Devices().wait("cuda:0", "mine", lambda: bool(told), told.append) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "Read-only"), (errno.ENOLCK, "locks"), (errno.EOPNOTSUPP, "not supported")],
)
def test_a_disk_without_locks_does_not_prevent_a_run(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_descriptor: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    (note,) = Devices().take("cuda:0", "mine")
    assert "could not be locked" in note
    assert words in note


def test_a_data_folder_that_cannot_be_written_does_not_prevent_a_run() -> None:
    data_dir().mkdir(parents=True)
    (data_dir() / "locks").write_text("")
    (note,) = Devices().take("cuda:0", "mine")
    assert "could not be locked" in note


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300)
    | st.dictionaries(
        st.sampled_from(["pid", "run", "since", "command"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none()),
    ).map(lambda table: json.dumps(table).encode())
)
def test_whatever_stands_in_a_lock_is_told_as_text(content: bytes) -> None:
    lock = DeviceLock(GPU)
    path = data_dir() / "locks" / "GPU-1.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    holder = lock.holder()
    assert isinstance(holder, Holder)
    told = str(DeviceBusy("GPU 0", holder))
    assert printable(told, keep="\n") == told
    assert len(told) < 1000


def test_a_file_lock_is_held_once_even_in_one_process(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "a"), FileLock(tmp_path / "a")
    assert not is_held(tmp_path / "a")
    assert first.take()
    assert first.take()
    assert not second.take()
    assert is_held(tmp_path / "a")
    del first  # whoever forgets to release it
    assert second.take()
    second.release()
    assert not second.held
    assert not is_held(tmp_path / "a")


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "cuda:1234"])
def test_names_that_are_no_device(name: str) -> None:
    with pytest.raises(JobError, match="There is no device"):
        check_name(name)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:15"])
def test_names_of_devices(name: str) -> None:
    check_name(name)


def test_the_key_of_a_device_is_a_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Gpu(0, "MIG-1/../x y", "H100", (9, 0), 80, 1)
    monkeypatch.setattr(device_lock, "read_gpus", lambda: GpuReading((odd,)))
    assert device_lock.device_of("cuda").key == "MIG-1____x_y"
    assert device_lock.device_of("cuda:7").key == "cuda-7"  # the engine says that it is not there
