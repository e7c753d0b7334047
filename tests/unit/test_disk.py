"""Which kind of disk a folder lies on, told from mount tables and /sys trees made up here."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightx2v_tui.catalog import disk as disks
from lightx2v_tui.catalog.disk import HDD, NET, NVME, SATA, disk_of, mount_of, read_speed


class Machine:
    """A /sys tree and a mount table."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.table = folder / "sys", folder / "mountinfo"
        (self.sys / "dev" / "block").mkdir(parents=True)
        self.lines: list[str] = []

    def block(
        self, name: str, number: str, *, rotational: bool | None = None, part_of: str = "",
        on: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """A block device; a partition has no queue of its own, a mapped device has slaves."""
        inside = self.sys / "devices" / part_of / name
        inside.mkdir(parents=True)
        if rotational is not None:
            (inside / "queue").mkdir()
            (inside / "queue" / "rotational").write_text(f"{int(rotational)}\n")
        for slave in on:
            (inside / "slaves").mkdir(exist_ok=True)
            (real,) = (self.sys / "devices").rglob(slave)
            (inside / "slaves" / slave).symlink_to(real)
        (self.sys / "dev" / "block" / number).symlink_to(inside)

    def mount(
        self, point: Path | str, kind: str, source: str, number: str = "0:50", options: str = "rw"
    ) -> None:
        told = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in str(point))
        self.lines.append(f"36 35 {number} / {told} rw shared:1 - {kind} {source} {options}")
        self.table.write_text("\n".join(self.lines) + "\n")

    def kind(self, path: Path) -> tuple[str, int]:
        found = disk_of(path, self.sys, self.table)
        return found.kind, found.bytes_per_second


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "rotational", "kind", "speed"),
    [
        ("nvme0n1", False, "ssd", NVME),
        ("sda", False, "ssd", SATA),
        ("sdb", True, "hdd", HDD),
        ("mmcblk0", False, "ssd", SATA),
        ("vda", True, "unknown", 0),
        ("xvda", True, "unknown", 0),
        ("sdc", None, "unknown", 0),
    ],
)
@pytest.mark.parametrize("partition", [False, True])
def test_a_disk_and_its_partition(
    machine: Machine, models: Path, name: str, rotational: bool | None, kind: str, speed: int,
    partition: bool,
) -> None:  # fmt: skip
    machine.block(name, "8:0", rotational=rotational)
    if partition:
        machine.block(f"{name}1", "8:1", part_of=name)
    machine.mount(models, "ext4", f"/dev/{name}1", "8:1" if partition else "8:0")
    assert machine.kind(models) == (kind, speed)


@pytest.mark.parametrize("mapped", ["dm-0", "md0"])
@pytest.mark.parametrize(
    ("slow", "kind", "speed"), [(True, "hdd", HDD), (False, "ssd", SATA)]
)  # fmt: skip
def test_what_is_made_of_disks_is_as_slow_as_the_slowest(
    machine: Machine, models: Path, mapped: str, slow: bool, kind: str, speed: int
) -> None:
    machine.block("nvme0n1", "259:0", rotational=False)
    machine.block("sda", "8:0", rotational=slow)
    machine.block("sda2", "8:2", part_of="sda")
    machine.block(mapped, "253:0", rotational=False, on=("nvme0n1", "sda2"))
    machine.mount(models, "xfs", f"/dev/mapper/{mapped}", "253:0")
    assert machine.kind(models) == (kind, speed)


def test_encryption_on_a_volume_on_a_disk(machine: Machine, models: Path) -> None:
    machine.block("sda", "8:0", rotational=True)
    machine.block("dm-0", "253:0", rotational=True, on=("sda",))
    machine.block("dm-1", "253:1", rotational=True, on=("dm-0",))
    machine.mount(models, "ext4", "/dev/mapper/crypt", "253:1")
    assert machine.kind(models) == ("hdd", HDD)


@pytest.mark.parametrize(
    ("filesystem", "source"),
    [
        ("nfs4", "server:/export"), ("nfs", "server:/export"), ("cifs", "//server/share"),
        ("fuse.sshfs", "user@host:/models"), ("fuse.rclone", "remote:bucket"),
        ("fuse.s3fs", "s3fs"), ("ceph", "10.0.0.1:6789:/"), ("lustre", "10.0.0.1@tcp:/fs"),
        ("fuse.unheard-of", "host:/x"), ("9p", "share"), ("virtiofs", "models"),
    ],
)  # fmt: skip
def test_network_mounts(machine: Machine, models: Path, filesystem: str, source: str) -> None:
    machine.mount(models, filesystem, source)
    assert machine.kind(models) == ("network", NET)
    found = disk_of(models, machine.sys, machine.table)
    assert found.advice.startswith("on the network: models load many times faster from an SSD")


def test_a_hard_disk_is_advised_against_and_an_ssd_is_not(machine: Machine, models: Path) -> None:
    machine.block("sdb", "8:16", rotational=True)
    machine.block("nvme0n1", "259:0", rotational=False)
    machine.mount(models, "ext4", "/dev/sdb", "8:16")
    assert "/mnt/ssd/models" in disk_of(models, machine.sys, machine.table).advice
    machine.mount(models, "ext4", "/dev/nvme0n1", "259:0")  # on top of the other
    found = disk_of(models, machine.sys, machine.table)
    assert (found.kind, found.advice, found.mount) == ("ssd", "", models)
    assert found.free_bytes > 0


@pytest.mark.parametrize("name", ["my models", "tab\there", "new\nline", "back\\slash", "ünï"])
def test_mount_points_with_any_name(machine: Machine, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    machine.block("sdb", "8:16", rotational=True)
    machine.mount("/", "ext4", "/dev/gone", "8:99")
    machine.mount(folder, "ext4", "/dev/sdb", "8:16")
    assert machine.kind(folder) == ("hdd", HDD)
    assert disk_of(folder, machine.sys, machine.table).mount == folder


def test_a_name_that_only_begins_like_a_mount_is_not_on_it(machine: Machine, models: Path) -> None:
    beside = models.with_name("models2")
    beside.mkdir()
    machine.mount("/", "nfs4", "server:/root")
    machine.mount(models, "tmpfs", "tmpfs")
    assert machine.kind(beside) == ("network", NET)
    assert mount_of(str(models / "inner"), machine.table).point == str(models)


def test_a_link_to_another_disk_is_followed(machine: Machine, models: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(models)
    machine.mount("/", "tmpfs", "tmpfs")
    machine.mount(models, "nfs4", "server:/export")
    assert machine.kind(link) == ("network", NET)


@pytest.mark.parametrize("upper_on", ["hdd", "nothing"])
def test_an_overlay_lies_where_its_upper_folder_does(
    machine: Machine, models: Path, tmp_path: Path, upper_on: str
) -> None:
    machine.block("sdb", "8:16", rotational=True)
    docker = tmp_path / "docker"
    if upper_on == "hdd":
        machine.mount(docker, "ext4", "/dev/sdb", "8:16")
    options = f"rw,lowerdir=/a:/b,upperdir={docker}/upper,workdir={docker}/work"
    machine.mount(models, "overlay", "overlay", "0:60", options)
    assert machine.kind(models) == (("hdd", HDD) if upper_on == "hdd" else ("unknown", 0))


def test_an_overlay_on_itself_ends(machine: Machine, models: Path) -> None:
    machine.mount(models, "overlay", "overlay", "0:60", f"rw,upperdir={models}/upper")
    assert machine.kind(models) == ("unknown", 0)


def test_disks_that_lie_on_each_other_end(machine: Machine, models: Path) -> None:
    machine.block("dm-0", "253:0")
    machine.block("dm-1", "253:1", on=("dm-0",))
    slaves = machine.sys / "devices" / "dm-0" / "slaves"
    slaves.mkdir()
    (slaves / "dm-1").symlink_to(machine.sys / "devices" / "dm-1")
    machine.mount(models, "ext4", "/dev/mapper/x", "253:0")
    assert machine.kind(models) == ("unknown", 0)


def test_btrfs_is_told_from_its_device(
    machine: Machine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.block("sdb", "8:16", rotational=True)
    machine.mount(models, "btrfs", "/dev/sdb", "0:31", "rw,subvol=/models")
    real = disks.os.stat

    class Status:
        st_rdev = 8 << 8 | 16

    def stat(path: object, **options: object) -> object:
        return Status if str(path) == "/dev/sdb" else real(path, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(disks.os, "stat", stat)
    monkeypatch.setattr(Path, "stat", lambda self, **options: stat(str(self), **options))
    assert machine.kind(models) == ("hdd", HDD)


def test_btrfs_on_a_device_that_is_not_there(machine: Machine, models: Path) -> None:
    machine.mount(models, "btrfs", "/dev/no-such-device", "0:31")
    assert machine.kind(models) == ("unknown", 0)


@pytest.mark.parametrize(
    "table", ["", "\n\n", "x", "36 35 8:1 / -", "36 35 8:1 / / rw - ext4", "a b c d e - f g h",
              " - - - ", "36 35 8:1 / \\999 rw - ext4 /dev/sda rw"],
)  # fmt: skip
def test_a_table_that_is_none_is_no_crash(machine: Machine, models: Path, table: str) -> None:
    machine.table.write_text(table)
    assert machine.kind(models) == ("unknown", 0)


def test_no_table_and_no_sys_is_unknown(tmp_path: Path, models: Path) -> None:
    found = disk_of(models, tmp_path / "no-sys", tmp_path / "no-table")
    assert (found.kind, found.bytes_per_second, found.mount) == ("unknown", 0, Path("/"))
    assert found.free_bytes > 0


def test_a_folder_that_is_gone_is_unknown(machine: Machine, tmp_path: Path) -> None:
    machine.mount("/", "nfs4", "server:/root")
    assert disk_of(tmp_path / "gone", machine.sys, machine.table).kind == "unknown"


def test_a_disk_that_does_not_say_what_it_is_is_measured(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(4 << 20))
    assert read_speed(large) > 1_000_000
    assert large.stat().st_size == 4 << 20


def test_what_is_too_small_or_gone_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    assert read_speed(tmp_path / "small") == 0
    assert read_speed(tmp_path / "gone") == 0
    assert read_speed(tmp_path) == 0
