"""Real file systems on a disk that writes down what it is told, and on one as a power cut left it."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.powercut.recording import compiled
from tests.support.waiting import until

SOURCE = Path(__file__).with_name("blockfs.c")
MIB = 1 << 20
BLOCK = 4096
"""What a disk writes whole."""
_RECORD = struct.Struct("=QQ")


@dataclass(frozen=True, slots=True)
class FileSystem:
    """
    A file system.

    Args:
        name: What it is called.
        size: Of the disk, in MiB.
        make: The command that makes it, but for the image.
        options: With which it is mounted.
    """

    name: str
    size: int
    make: tuple[str, ...]
    options: str = "defaults"

    @property
    def kind(self) -> str:
        """What `mount -t` calls it."""
        return self.name.partition(" ")[0]


FILE_SYSTEMS = {
    each.name: each
    for each in (
        FileSystem("ext4", 32, ("mkfs.ext4", "-q")),
        FileSystem("xfs", 320, ("mkfs.xfs", "-q")),
        FileSystem("btrfs", 160, ("mkfs.btrfs", "-q")),
        FileSystem("ext4 data=writeback", 32, ("mkfs.ext4", "-q"), "data=writeback"),
    )
}


@dataclass(frozen=True, slots=True)
class Written:
    """One write that a disk was told, or (without data) a flush."""

    offset: int
    data: bytes

    def blocks(self) -> Iterator[Written]:
        """Cut it at the disk's blocks."""
        at, end = self.offset, self.offset + len(self.data)
        while at < end:
            to = min(end, (at // BLOCK + 1) * BLOCK)
            yield Written(at, self.data[at - self.offset : to - self.offset])
            at = to


def missing(system: FileSystem) -> str:
    """Say what this machine lacks, and nothing where it has everything."""
    if os.geteuid() != 0:
        return "root"
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "loop devices"
    if shutil.which(system.make[0]) is None:
        return system.make[0]
    known = Path("/proc/filesystems").read_text().split()
    if (
        system.kind not in known
        and subprocess.run(("modprobe", system.kind), check=False, capture_output=True).returncode
    ):
        return f"{system.kind} in the kernel"
    return ""


def disk_program(directory: Path) -> Path:
    """Compile the disk that writes down what it is told."""
    return compiled(SOURCE, directory, "-I/usr/include/fuse3", "-lfuse3", "-lpthread")


def call(*words: str | Path) -> str:
    """Run a system tool; an error says what it said."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"{' '.join(map(str, words))}: {done.stderr.strip()}"
        raise OSError(msg)
    return done.stdout.strip()


@contextmanager
def loop_device(file: Path, *options: str) -> Iterator[str]:
    """
    Attach a loop device of its own to a file, until nobody has it any more.

    A container that starts while a file system is mounted has it as well for a
    moment, and the kernel unmounts it only then; `mount -o loop` may take a device
    that has not let go of a file with the same inode number.
    """
    device = call("losetup", "--find", "--show", *options, file)
    try:
        yield device
    finally:
        call("losetup", "--detach", device)
        attached = Path("/sys/block", Path(device).name, "loop")
        until(lambda: not attached.exists(), f"{device} is still in use.", 60)


@contextmanager
def mounted(system: FileSystem, device: str, at: Path) -> Iterator[None]:
    """Mount a device."""
    call("mount", "-t", system.kind, "-o", system.options, device, at)
    try:
        yield
    finally:
        call("umount", at)


def make_image(system: FileSystem, image: Path, contents: Path, at: Path) -> None:
    """Make a file system with these contents, clean and on the disk."""
    with image.open("wb") as file:
        file.truncate(system.size * MIB)
    call(*system.make, image)
    with loop_device(image) as device, mounted(system, device, at):
        shutil.copytree(contents, at, symlinks=True, dirs_exist_ok=True)
        if (at / "lost+found").exists():
            (at / "lost+found").rmdir()


class LoggedDisk:
    """A loop device over an image that stays as it is; what the disk was told is in `log`."""

    def __init__(self, device: str, log: Path) -> None:
        self.device, self._log = device, log

    @property
    def told(self) -> int:
        """Bytes of the log so far: a moment, for `Written` to be compared with."""
        return self._log.stat().st_size

    def written(self, until_byte: int | None = None) -> list[Written]:
        """Return what the disk was told, all of it or until a moment."""
        return list(_parsed(self._log.read_bytes()[:until_byte]))


def _parsed(log: bytes) -> Iterator[Written]:
    at = 0
    while at < len(log):
        offset, size = _RECORD.unpack_from(log, at)
        at += _RECORD.size
        yield Written(offset, log[at : at + size])
        at += size


@contextmanager
def logged_disk(program: Path, image: Path, directory: Path) -> Iterator[LoggedDisk]:
    """Attach a disk that writes down what it is told."""
    at, log = directory / "disk", directory / "disk.log"
    at.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    with ExitStack() as stack:
        process = subprocess.Popen((program, at, image, log))
        stack.callback(_ended, process, at)
        until(
            lambda: process.poll() is not None or (at / "disk").exists(), "The disk is not there."
        )
        if process.poll() is not None:
            msg = f"{program} ended with {process.returncode}."
            raise OSError(msg)
        with loop_device(at / "disk", "--direct-io=on") as device:
            yield LoggedDisk(device, log)


def _ended(process: subprocess.Popen[bytes], at: Path) -> None:
    """Unmount, which ends the process, once the loop device has let go."""
    if process.poll() is None:
        until(lambda: _unmounted(at), f"{at} cannot be unmounted.")
    process.wait(30)


def _unmounted(at: Path) -> bool:
    return not subprocess.run(("umount", at), check=False, capture_output=True).returncode


@dataclass(frozen=True, slots=True)
class Image:
    """The parts of an image that are not zeros, to write it quickly over and over."""

    size: int
    parts: Sequence[Written]

    @classmethod
    def of(cls, path: Path) -> Image:
        """Read an image."""
        with path.open("rb") as file:
            return cls(path.stat().st_size, list(_parts(file.fileno())))

    def write(self, path: Path, told: Sequence[Written]) -> None:
        """Write it, as a new file, as it is once the disk has been told this."""
        path.unlink(missing_ok=True)
        with path.open("wb", 0) as file:
            file.truncate(self.size)
            for each in (*self.parts, *told):
                os.pwrite(file.fileno(), each.data, each.offset)


def _parts(descriptor: int) -> Iterator[Written]:
    at = 0
    while True:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, at, os.SEEK_HOLE)
        yield Written(at, os.pread(descriptor, end - at, at))
        at = end


def survivors(told: Sequence[Written], share: float, chance: random.Random) -> list[Written]:
    """Return what a disk holds after a power cut: what was flushed, and some of the rest."""
    flushes = [n for n, each in enumerate(told) if not each.data]
    durable = flushes[-1] if flushes else 0
    kept = [each for each in told[:durable] if each.data]
    for each in told[durable:]:
        kept += [block for block in each.blocks() if chance.random() < share]
    return kept


def needs(system: FileSystem) -> None:
    """Skip where the machine lacks what the file system needs, unless it is CI."""
    lack = missing(system)
    if lack and os.environ.get("CI"):
        pytest.fail(f"needs {lack}")
    if lack:
        pytest.skip(f"needs {lack}")
