"""Disks of a few MiB that can be filled up to the last block, and quotas."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of disk.

    Args:
        name: What it is called.
        size: Of the image, in MiB.
        make: The command that makes the file system, but for the image.
        quota: Whether a quota is the limit, which `statvfs` does not tell.
    """

    name: str
    size: int
    make: tuple[str, ...]
    quota: bool = False

    @property
    def system(self) -> str:
        """What `mount -t` calls it."""
        return self.name.partition(" ")[0]


KINDS = {
    each.name: each
    for each in (
        Kind("ext4", 16, ("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal")),
        Kind("xfs", 300, ("mkfs.xfs", "-q")),
        Kind("btrfs", 120, ("mkfs.btrfs", "-q")),
        Kind("btrfs quota", 120, ("mkfs.btrfs", "-q"), quota=True),
    )
}
"""
The quotas of ext4 and xfs are not among them: the kernels that this was written on have
neither `CONFIG_QFMT_V2` nor `CONFIG_XFS_QUOTA`.
"""


def missing(kind: Kind) -> str:
    """Say what this machine lacks, and nothing where it has everything."""
    if os.geteuid() != 0:
        return "root"
    if not os.path.exists("/dev/loop-control"):
        return "loop devices"
    if shutil.which(kind.make[0]) is None:
        return kind.make[0]
    if kind.system not in Path("/proc/filesystems").read_text().split():
        done = subprocess.run(("modprobe", kind.system), check=False, capture_output=True)
        return f"{kind.system} in the kernel" if done.returncode else ""
    return ""


def call(*words: str | Path) -> str:
    """Run a system tool; an error says what it said."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"{' '.join(map(str, words))}: {done.stderr.strip()}"
        raise OSError(msg)
    return done.stdout.strip()


class Disk:
    """A mounted disk: `home` is where the volume goes, and `leave` says how much room it has."""

    def __init__(self, kind: Kind, at: Path) -> None:
        self.kind = kind
        self.home = at / "home"
        self.ballast = at / "ballast"
        if kind.quota:
            call("btrfs", "quota", "enable", at)
            call("btrfs", "subvolume", "create", self.home)
            self._group = "0/" + call("btrfs", "inspect-internal", "rootid", self.home)
        else:
            self.home.mkdir()

    def leave(self, room: int) -> None:
        """Leave so many bytes free, as exactly as the file system counts."""
        if self.kind.quota:
            call("sync", "-f", self.home)
            self._limit(str(used_by_quota(self.home) + room))
        else:
            fill(os.fspath(self.ballast), room)

    def release(self) -> None:
        """Have plenty of room again."""
        if self.kind.quota:
            self._limit("none")
        self.ballast.unlink(missing_ok=True)
        call("sync", "-f", self.home)

    def _limit(self, size: str) -> None:
        # By its number: through a directory of its own, a full one cannot be lifted.
        call("btrfs", "qgroup", "limit", size, self._group, self.home.parent)


def used_by_quota(home: Path) -> int:
    """Return how many bytes of its quota a subvolume uses."""
    text = call("btrfs", "qgroup", "show", "-f", "--raw", home)
    return int(text.splitlines()[-1].split()[1])


def fill(ballast: str, room: int) -> None:
    """
    Fill up a disk with a file until only so many bytes are left.

    A migration gets this very text, to play somebody else who fills the disk meanwhile.
    """
    libc = ctypes.CDLL(None)
    descriptor = os.open(ballast, os.O_RDWR | os.O_CREAT, 0o600)
    size, step = 0, 1 << 26
    while step >= 4096:
        try:
            os.posix_fallocate(descriptor, size, step)
            size += step
        except OSError:
            step //= 2
    # btrfs gives nothing back of a piece that is not given back whole, nor before a commit.
    os.ftruncate(descriptor, 0)
    libc.syncfs(descriptor)
    while size > room:
        try:
            os.posix_fallocate(descriptor, 0, size - room)
            break
        except OSError:
            size -= 4096  # somebody else has taken of it meanwhile
    os.close(descriptor)


def used(directory: Path) -> int:
    """Return how many bytes of the disk everything below a directory takes."""
    total = 0
    for base, _, names in os.walk(directory):
        total += os.lstat(base).st_blocks * 512
        total += sum(os.lstat(os.path.join(base, name)).st_blocks * 512 for name in names)
    return total


@contextmanager
def small_disk(kind: Kind, directory: Path) -> Iterator[Disk]:
    """Make a disk of a kind below a directory, and mount it there."""
    image, at = directory / "image", directory / "mount"
    at.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(kind.size * MIB)
    call(*kind.make, image)
    device = call("losetup", "--find", "--show", image)
    try:
        call("mount", "-t", kind.system, device, at)
        try:
            yield Disk(kind, at)
        finally:
            call("umount", at)
    finally:
        call("losetup", "--detach", device)
        image.unlink()
