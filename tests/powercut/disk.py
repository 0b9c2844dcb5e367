"""
What POSIX leaves of a directory tree when the power is cut.

A `fsync` of a file makes its data, size and mode durable; one of a directory
the names in it. Of everything else each change may be there or not,
independently of all others: a name without the data, the data without the name,
some sectors of a write, a size without what was written.
"""

from __future__ import annotations

import copy
import hashlib
import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.powercut.recording import Operation

SHARED_MEMORY = "-shm"
_NAMELESS = re.compile(r"(^|/)#\d+( \(deleted\))?$")
"""What Linux calls a file that has never had a name."""


@dataclass(slots=True, eq=False)
class Node:
    """A file or a directory: what of it is durable."""

    mode: int
    data: bytes = b""
    names: dict[str, Node] | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it holds names."""
        return self.names is not None


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change that is not durable yet, of the node that an fsync of makes it durable."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Data(Change):
    """Bytes at an offset."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Size(Change):
    """A size: cut off, or grown with zeros."""

    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Mode(Change):
    """A mode."""

    mode: int


@dataclass(frozen=True, slots=True, eq=False)
class Name(Change):
    """A name that appears, or (without `of`) disappears, once `after` is there."""

    name: str
    of: Node | None
    after: Name | None = None


@dataclass(frozen=True, slots=True)
class State:
    """
    What is found after the cut: files and directories by their paths, with their modes.

    `links` are the files that have another name as well, which comes before them.
    """

    files: dict[str, tuple[int, bytes]]
    directories: dict[str, int]
    links: dict[str, str]

    def only(self, wanted: Callable[[str], bool]) -> State:
        """Return what of it has these paths."""
        files = {path: found for path, found in self.files.items() if wanted(path)}
        directories = {p: mode for p, mode in self.directories.items() if wanted(p)}
        return State(files, directories, {})

    def digest(self) -> bytes:
        """Return a digest of everything."""
        tree = sorted(self.directories.items()), sorted(self.links.items())
        digest = hashlib.sha256(repr(tree).encode())
        for path, (mode, data) in sorted(self.files.items()):
            digest.update(f"{path}\0{mode}\0{len(data)}\0".encode())
            digest.update(data)
        return digest.digest()

    def write(self, volume: Path) -> None:
        """Make the directory as it is after the cut."""
        shutil.rmtree(volume, ignore_errors=True)
        volume.mkdir()
        for path in sorted(filter(None, self.directories)):
            (volume / path).mkdir()
        for path, (mode, data) in sorted(self.files.items()):
            if path in self.links:
                os.link(volume / self.links[path], volume / path)
                continue
            number = os.open(volume / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(number, data)
            os.fchmod(number, mode)
            os.close(number)
        for path, mode in self.directories.items():
            os.chmod(volume / path, mode)


AnyChange = Data | Size | Mode | Name


@dataclass(slots=True)
class Disk:
    """
    A disk that has been told so many operations.

    `pending` is what is not durable, in its order. Shared memory, which is
    written without a call, holds anything at all.
    """

    root: Node
    nodes: dict[int, Node]
    chance: random.Random
    pending: list[AnyChange] = field(default_factory=list)

    @classmethod
    def of(cls, volume: Path, seed: str) -> Disk:
        """Take a directory, all of it durable."""
        nodes: dict[int, Node] = {}
        root = _scanned(volume, nodes)
        return cls(root, nodes, random.Random(seed))  # noqa: S311 - nothing secret

    def copy(self) -> Disk:
        """Return one that goes its own way."""
        return copy.deepcopy(self)

    # -- operations --------------------------------------------------------------------

    def apply(self, operation: Operation) -> None:
        """Follow one operation; of a file without a name (`O_TMPFILE`) nothing is left."""
        if _NAMELESS.search(operation.path):
            return
        getattr(self, f"_{operation.name}")(operation)

    def _create(self, operation: Operation) -> None:
        node = self.nodes[operation.inode] = Node(operation.number)
        self._name(operation.path, node)
        if operation.path.endswith(SHARED_MEMORY):
            self.pending.append(Data(node, 0, self.chance.randbytes(1 << 15)))

    def _mkdir(self, operation: Operation) -> None:
        node = self.nodes[operation.inode] = Node(operation.number, names={})
        self._name(operation.path, node)

    def _write(self, operation: Operation) -> None:
        if not operation.path.endswith(SHARED_MEMORY):
            node = self.nodes[operation.inode]
            self.pending.append(Data(node, operation.number, operation.data))

    def _size(self, operation: Operation) -> None:
        if not operation.path.endswith(SHARED_MEMORY):
            self.pending.append(Size(self.nodes[operation.inode], operation.number))

    def _mode(self, operation: Operation) -> None:
        self.pending.append(Mode(self.nodes[operation.inode], operation.number))

    def _remove(self, operation: Operation) -> None:
        self._name(operation.path, None)

    def _link(self, operation: Operation) -> None:
        self._name(operation.path, self.nodes[operation.inode])

    def _rename(self, operation: Operation) -> None:
        # A crash may leave both names, but no file system takes the old one first.
        made = self._name(operation.target, self.nodes[operation.inode])
        self._name(operation.path, None, made)

    def _said(self, operation: Operation) -> None:
        pass

    def _sync(self, operation: Operation) -> None:
        node = self.nodes[operation.inode]
        done = self._possible([change for change in self.pending if change.node is node])
        if done:
            made = _Applied(done)
            node.data, node.mode, node.names = made.data(node), made.mode(node), made.names(node)
            self.pending = [change for change in self.pending if change not in done]

    def _possible(self, changes: Sequence[AnyChange]) -> list[AnyChange]:
        """Leave out the old names of files whose new ones are not there yet."""
        return [
            change
            for change in changes
            if not isinstance(change, Name)
            or change.after is None
            or change.after in changes
            or change.after not in self.pending
        ]

    def _name(self, path: str, node: Node | None, after: Name | None = None) -> Name:
        where = PurePosixPath(path)
        change = Name(self._directory(where.parent), where.name, node, after)
        self.pending.append(change)
        return change

    def _directory(self, path: PurePosixPath) -> Node:
        """Return a directory as everybody sees it now, durable or not."""
        now = _Applied(self.pending)
        node = self.root
        for part in path.parts:
            node = (now.names(node) or {})[part]
        return node

    # -- states --------------------------------------------------------------------------

    def state(self, changes: Sequence[AnyChange]) -> State:
        """Return what is found when these of the pending changes have got through."""
        made = _Applied(self._possible(changes))
        files: dict[str, tuple[int, bytes]] = {}
        directories: dict[str, int] = {}
        paths: dict[Node, list[str]] = {}
        left = [("", self.root)]
        while left:
            path, node = left.pop()
            names = made.names(node)
            if names is None:
                files[path] = made.mode(node), made.data(node)
                paths.setdefault(node, []).append(path)
                continue
            directories[path] = made.mode(node)
            left += [(f"{path}/{name}".lstrip("/"), below) for name, below in names.items()]
        links = {each: min(found) for found in paths.values() for each in found}
        return State(files, directories, {p: one for p, one in links.items() if p != one})


class _Applied:
    """Changes, ordered by what they change."""

    def __init__(self, changes: Iterable[AnyChange]) -> None:
        self._by: dict[Node, list[AnyChange]] = {}
        for change in changes:
            self._by.setdefault(change.node, []).append(change)

    def data(self, node: Node) -> bytes:
        data: bytearray | None = None
        for change in self._by.get(node, ()):
            if isinstance(change, Data):
                data = bytearray(node.data) if data is None else data
                end = change.offset + len(change.data)
                data.extend(bytes(max(0, change.offset - len(data))))
                data[change.offset : end] = change.data
            elif isinstance(change, Size):
                data = bytearray(node.data) if data is None else data
                del data[change.size :]
                data.extend(bytes(change.size - len(data)))
        return node.data if data is None else bytes(data)

    def mode(self, node: Node) -> int:
        modes = [each.mode for each in self._by.get(node, ()) if isinstance(each, Mode)]
        return modes[-1] if modes else node.mode

    def names(self, node: Node) -> dict[str, Node] | None:
        if node.names is None:
            return None
        names = dict(node.names)
        for change in self._by.get(node, ()):
            if isinstance(change, Name):
                if change.of is None:
                    names.pop(change.name, None)
                else:
                    names[change.name] = change.of
        return names


def _scanned(path: Path, nodes: dict[int, Node]) -> Node:
    found = path.lstat()
    mode = found.st_mode & 0o7777
    if path.is_dir():
        node = Node(mode, names={each.name: _scanned(each, nodes) for each in path.iterdir()})
    else:
        node = Node(mode, path.read_bytes())
    return nodes.setdefault(found.st_ino, node)
