"""What kind of disk a folder lies on, from the mount table and /sys (Linux)."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

from lightx2v_tui.catalog.model import Disk

NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "beegfs",
    "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "afs", "davfs",
}  # fmt: skip
HIDDEN_BY_HYPERVISOR = ("vd", "xvd")  # virtual disks call themselves rotational, whatever they are


def disk_of(path: Path) -> Disk:
    """Describe the disk under `path`; what cannot be told is "unknown", never an error."""
    try:
        device = path.stat().st_dev
        free = shutil.disk_usage(path).free
    except OSError:
        return Disk()
    mount, filesystem, number = _mount_of(str(path.resolve()), device)
    return Disk(_kind(filesystem, number), Path(mount), free)


def _kind(filesystem: str, number: str) -> str:
    if filesystem in NETWORK:
        return "network"
    block = Path("/sys/dev/block") / number
    if block.resolve().name.startswith(HIDDEN_BY_HYPERVISOR):
        return "unknown"
    for queue in (block / "queue", block / ".." / "queue"):  # a partition's disk is its parent
        try:
            return "hdd" if (queue / "rotational").read_text().strip() == "1" else "ssd"
        except OSError:
            continue
    return "unknown"


@lru_cache(maxsize=256)
def _mount_of(path: str, device: int) -> tuple[str, str, str]:
    """Mount point, file system and major:minor of the longest mount above `path`."""
    number = f"{os.major(device)}:{os.minor(device)}"
    best = ("/", "", number)
    try:
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as table:
            for line in table:
                left, _, right = line.partition(" - ")
                fields, kind = left.split(), right.split()
                mount = fields[4].replace("\\040", " ")
                inside = path == mount or path.startswith(mount.rstrip("/") + "/")
                if inside and len(mount) >= len(best[0]):
                    best = (mount, kind[0], fields[2])
    except (OSError, IndexError):
        return "/", "", number
    return best
