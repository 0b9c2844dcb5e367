"""Read the first bytes of a program: elf(5), and the formats registered with the kernel."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    _Order: TypeAlias = Literal["little", "big"]

MAGIC = b"\x7fELF"

_PT_INTERP = 3
_MAX_HEADERS = 128
_MAX_PATH = 4096
_MACHINES = {
    3: "i386",
    8: "MIPS",
    20: "32-bit PowerPC",
    21: "64-bit PowerPC",
    22: "s390x",
    40: "32-bit ARM",
    62: "x86-64",
    183: "64-bit ARM",
    243: "RISC-V",
    258: "LoongArch",
}
_FAMILIES = (frozenset({3, 62}), frozenset({40, 183}), frozenset({20, 21}))
"""A kernel often runs both machines of a pair; only the kernel knows, so they pass."""

_MISC = "/proc/sys/fs/binfmt_misc"


def foreign_machine(head: bytes) -> str | None:
    """Return the machine that a binary was built for, None for this one."""
    theirs, ours = _machine(head), _our_machine()
    if theirs is None or ours is None or theirs == ours:
        return None
    same_order = theirs[0] == ours[0]
    family = any({theirs[1], ours[1]} <= family for family in _FAMILIES)
    if same_order and (theirs[1] == ours[1] or family):
        return None
    return _MACHINES.get(theirs[1], f"machine type {theirs[1]}")


def interpreter(head: bytes, descriptor: int) -> str | None:
    """Return a binary's dynamic loader, None for a static or a broken binary."""
    with contextlib.suppress(OSError, ValueError):
        order, wide = _byte_order(head), head[4] == 2
        start, size, count = _program_headers(head, order, wide=wide)
        for index in range(min(count, _MAX_HEADERS)):
            header = os.pread(descriptor, size, start + index * size)
            offset, length = _extent(header, order, wide=wide)
            if _number(header, 0, 4, order) == _PT_INTERP:
                path = os.pread(descriptor, min(length, _MAX_PATH), offset)
                return os.fsdecode(path.split(b"\0", 1)[0])
    return None


def has_registered_format(path: str, head: bytes, directory: str = _MISC) -> bool:
    """
    Tell whether a registered format takes this file: the kernel's binfmt-misc.rst.

    In most containers its directory is not mounted, and no format is seen.
    """
    root = Path(directory)
    try:
        if (root / "status").read_text("utf-8", "replace").strip() != "enabled":
            return False
        entries = [entry for entry in root.iterdir() if entry.name not in ("status", "register")]
    except OSError:
        return False
    return any(_matches(entry, path, head) for entry in entries)


def _matches(entry: Path, path: str, head: bytes) -> bool:
    try:
        lines = entry.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    if not lines or lines[0] != "enabled":
        return False
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    if "extension" in fields:
        return path.rpartition("/")[2].endswith(fields["extension"])
    with contextlib.suppress(ValueError, KeyError):
        magic = bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields.get("mask", "ff" * len(magic)))
        offset = int(fields.get("offset", "0"))
        there = head[offset : offset + len(magic)]
        pairs = zip(there, magic, mask, strict=True)
        return all((byte ^ wanted) & bits == 0 for byte, wanted, bits in pairs)
    return False


@functools.cache
def _our_machine() -> tuple[_Order, int] | None:
    """Return the machine of Python itself: under an emulator, the emulated one."""
    for path in (sys.executable, "/proc/self/exe"):
        with contextlib.suppress(OSError, TypeError), open(path, "rb") as file:
            if machine := _machine(file.read(64)):
                return machine
    return None


def _machine(head: bytes) -> tuple[_Order, int] | None:
    if len(head) < 20 or not head.startswith(MAGIC):
        return None
    order = _byte_order(head)
    return order, _number(head, 18, 2, order)


def _byte_order(head: bytes) -> _Order:
    return "big" if head[5] == 2 else "little"


def _program_headers(head: bytes, order: _Order, *, wide: bool) -> tuple[int, int, int]:
    """Return offset, size and number of the program headers."""
    start = _number(head, 32, 8, order) if wide else _number(head, 28, 4, order)
    at = 54 if wide else 42
    return start, _number(head, at, 2, order), _number(head, at + 2, 2, order)


def _extent(header: bytes, order: _Order, *, wide: bool) -> tuple[int, int]:
    """Return offset and length of a segment in the file."""
    if wide:
        return _number(header, 8, 8, order), _number(header, 32, 8, order)
    return _number(header, 4, 4, order), _number(header, 16, 4, order)


def _number(data: bytes, at: int, size: int, order: _Order) -> int:
    """
    Return the number of so many bytes.

    Raises:
        ValueError: The data ends before it.
    """
    part = data[at : at + size]
    if len(part) < size:
        msg = "The header is cut off."
        raise ValueError(msg)
    return int.from_bytes(part, order)
