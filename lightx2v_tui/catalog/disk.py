"""What kind of disk a folder lies on, from the mount table and /sys (Linux)."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lightx2v_tui.catalog.model import Disk

NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "beegfs",
    "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.juicefs", "fuse.mergerfs",
    "fuse.goofys", "fuse.glusterfs", "afs", "davfs", "virtiofs", "panfs", "wekafs",
}  # fmt: skip
HIDDEN_BY_HYPERVISOR = ("vd", "xvd")  # virtual disks call themselves rotational, whatever they are
#: Usual sequential read speeds, in bytes a second: what an estimate of the load time rests on.
NVME, SATA, HDD, NET = 2_500_000_000, 500_000_000, 160_000_000, 110_000_000
MAX_DEPTH = 8  # disks made of disks
#: How much of a file is read to measure its disk, and for how long at most.
SAMPLE, SAMPLE_PIECE, SAMPLE_SECONDS = 32 << 20, 1 << 20, 0.3


@dataclass(frozen=True)
class Mount:
    """One line of the mount table: `number` is major:minor, `upper` an overlay's own folder."""

    point: str = "/"
    filesystem: str = ""
    source: str = ""
    number: str = ""
    upper: str = ""


def disk_of(path: Path, sys: Path = Path("/sys"), table: Path | None = None) -> Disk:
    """Describe the disk under `path`; what cannot be told is "unknown", never an error."""
    try:
        free = shutil.disk_usage(path).free
        mount = mount_of(os.path.realpath(path), table)
        kind, speed = _kind(mount, sys, table)
    except (OSError, ValueError):
        return Disk()
    return Disk(kind, Path(mount.point), free, speed)


def mount_point(path: Path) -> Path:
    """Where the mount above `path` begins, told without touching `path`."""
    return Path(mount_of(os.path.abspath(path)).point)  # noqa: PTH100 - resolving could hang


def mount_of(path: str, table: Path | None = None) -> Mount:
    """The longest mount above an absolute path; the last of several on one point is on top."""
    best = Mount()
    try:
        text = (table or Path("/proc/self/mountinfo")).read_text("utf-8", "surrogateescape")
    except OSError:
        return best
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split(" ")
        if len(fields) < 5 or len(kind) < 2:
            continue
        point = _unescaped(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best.point):
            upper = re.search(r"\bupperdir=([^,]*)", kind[-1])
            best = Mount(point, kind[0], _unescaped(kind[1]), fields[2],
                         _unescaped(upper[1]) if upper else "")  # fmt: skip
    return best


def _unescaped(text: str) -> str:
    """The mount table writes space, tab, newline and backslash as octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


@lru_cache(maxsize=64)
def _kind(mount: Mount, sys: Path, table: Path | None, depth: int = 0) -> tuple[str, int]:
    remote = mount.filesystem.startswith("fuse.") and ":" in mount.source
    if remote or mount.filesystem in NETWORK:
        return "network", NET
    if mount.filesystem in ("tmpfs", "ramfs"):
        return "unknown", NVME  # memory, which the fixed list of kinds has no word for
    if mount.filesystem == "overlay" and mount.upper and depth < MAX_DEPTH:
        return _kind(mount_of(mount.upper, table), sys, table, depth + 1)
    number = mount.number
    if number.startswith("0:") and mount.source.startswith("/dev/"):  # btrfs has no number
        try:
            device = Path(mount.source).stat().st_rdev
        except OSError:
            return "unknown", 0
        number = f"{os.major(device)}:{os.minor(device)}"
    return _kind_of_block(sys / "dev" / "block" / number)


def _kind_of_block(block: Path, depth: int = 0) -> tuple[str, int]:
    """A partition's disk is its parent; LVM, RAID and encryption are as slow as what is below."""
    real = block.resolve()
    slaves = real / "slaves"
    below = sorted(slaves.iterdir()) if slaves.is_dir() else []
    if below and depth < MAX_DEPTH:
        kinds = [_kind_of_block(slave, depth + 1) for slave in below]
        return min(kinds, key=lambda kind: kind[1] or NVME)
    if real.name.startswith(HIDDEN_BY_HYPERVISOR):
        return "unknown", 0
    for queue in (real / "queue", real.parent / "queue"):
        try:
            rotational = (queue / "rotational").read_text().strip() == "1"
        except OSError:
            continue
        if rotational:
            return "hdd", HDD
        return "ssd", NVME if real.name.startswith("nvme") else SATA
    return "unknown", 0


def read_speed(path: Path) -> int:
    """Bytes a second that a file's disk gives just now, by reading a little of it; 0 if unknown.

    For disks that do not say what they are, as those of rented machines.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size // 2 - SAMPLE // 2)
            if hasattr(os, "posix_fadvise"):  # what is in memory already would say nothing
                os.posix_fadvise(file.fileno(), start, SAMPLE, os.POSIX_FADV_DONTNEED)
            file.seek(start)
            done, began = 0, time.perf_counter()
            while done < SAMPLE and time.perf_counter() - began < SAMPLE_SECONDS:
                piece = len(file.read(SAMPLE_PIECE))
                if not piece:
                    break
                done += piece
            seconds = time.perf_counter() - began
    except OSError:
        return 0
    return int(done / seconds) if done >= SAMPLE_PIECE and seconds > 0 else 0
