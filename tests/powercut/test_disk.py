"""The disk after a power cut: what POSIX promises holds in every outcome, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.powercut.disk import Disk, State
from tests.powercut.outcomes import outcomes
from tests.powercut.recording import Operation

FILE = 1


@pytest.fixture
def disk(volume: Path) -> Disk:
    """Return a disk with an empty directory."""
    return Disk.of(volume, "1")


def happen(disk: Disk, *operations: Operation) -> None:
    """Apply operations."""
    for operation in operations:
        disk.apply(operation)


def every(disk: Disk) -> list[State]:
    """Return every state that is tried."""
    chance = random.Random("1")  # noqa: S311 - nothing secret
    return [disk.state(changes) for _, changes in outcomes(disk, chance, 50, 50)]


def root(disk: Disk) -> int:
    """Return the root's inode."""
    return next(inode for inode, node in disk.nodes.items() if node is disk.root)


def created(name: str, data: bytes) -> tuple[Operation, Operation]:
    """Return a new file's two operations."""
    return Operation("create", FILE, 0o600, name), Operation("write", FILE, 0, name, data=data)


def test_what_was_synced_is_there(disk: Disk) -> None:
    """A file whose data and whose directory were synced is there, whole, whatever comes after."""
    happen(disk, *created("a", b"x" * 1024), Operation("sync", FILE, path="a"))
    happen(
        disk, Operation("sync", root(disk)), Operation("write", FILE, 1024, "a", data=b"y" * 600)
    )
    found = every(disk)
    assert {"a"} == {path for state in found for path in state.files}
    assert {b"x" * 1024} == {state.files["a"][1][:1024] for state in found}


def test_a_synced_file_may_be_without_its_name(disk: Disk) -> None:
    """The data's sync says nothing of the name, and the name's nothing of the data."""
    happen(disk, *created("a", b"data"), Operation("sync", FILE, path="a"))
    assert {None, b"data"} == {state.files.get("a", (0, None))[1] for state in every(disk)}
    happen(disk, Operation("sync", root(disk)), Operation("write", FILE, 0, "a", data=b"DATA"))
    assert {b"data", b"DATA"} == {state.files["a"][1] for state in every(disk)}


def test_a_name_without_data_is_empty_or_zeros(disk: Disk) -> None:
    """What was never synced may be missing, cut off, zeros, or there."""
    happen(disk, *created("a", b"x" * 1024))
    found = {state.files.get("a", (0, None))[1] for state in every(disk)}
    assert {None, b"", bytes(1024), b"x" * 512, bytes(512) + b"x" * 512, b"x" * 1024} <= found


def test_a_rename_leaves_the_old_name_the_new_one_or_both(disk: Disk) -> None:
    """No file system loses both names."""
    happen(disk, *created("a", b"data"), Operation("sync", FILE), Operation("sync", root(disk)))
    happen(disk, Operation("rename", FILE, path="a", target="b"))
    assert {("a",), ("b",), ("a", "b")} == {tuple(sorted(state.files)) for state in every(disk)}


def test_a_removed_file_may_come_back(disk: Disk) -> None:
    """Until its directory is synced."""
    happen(disk, *created("a", b"data"), Operation("sync", FILE), Operation("sync", root(disk)))
    happen(disk, Operation("remove", path="a"))
    assert {(), ("a",)} == {tuple(state.files) for state in every(disk)}
    happen(disk, Operation("sync", root(disk)))
    assert {()} == {tuple(state.files) for state in every(disk)}
