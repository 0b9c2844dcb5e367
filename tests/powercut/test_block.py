"""
Power cuts on real file systems: a few cuts on each, and the bugs that they must show.

The whole of it is `python -m tests.prove --only block`.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.powercut.block import Machine, examine
from tests.powercut.filesystems import FILE_SYSTEMS, disk_program, needs
from tests.powercut.planted import BUGS

pytestmark = [
    pytest.mark.faults,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.usefixtures("as_root"),
]

SEED = "1"
_TRIES = 60
_SHOWN = {
    "the guard runs with synchronous=OFF": "ext4",
    "the backup is not synced": "ext4",
    "a backup through SQLite is not synced": "xfs",
    "a first install is linked into place without a sync": "btrfs",
}


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled disk."""
    return disk_program(tmp_path_factory.mktemp("disk"))


@pytest.mark.parametrize("name", ["up in-place delete clean", "up copy wal clean", "install copy"])
@pytest.mark.parametrize("system", FILE_SYSTEMS)
def test_after_a_power_cut_the_file_system_holds_old_or_new(
    system: str, name: str, tmp_path: Path, program: Path
) -> None:
    """Whichever blocks have reached the disk, the database is old or new, and the next start new."""
    needs(FILE_SYSTEMS[system])
    machine = Machine(name, FILE_SYSTEMS[system], tmp_path / "machine", program)
    row = examine(machine, 5, SEED)
    assert row.tried == 5
    assert () == row.broken


@pytest.mark.parametrize(
    "bug", [bug for bug in BUGS if bug.name in _SHOWN], ids=lambda bug: bug.name
)
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path, program: Path) -> None:
    """A sync that is left out shows on a real file system."""
    system = FILE_SYSTEMS[_SHOWN[bug.name]]
    needs(system)
    machine = Machine(bug.scene, system, tmp_path / "machine", program)
    machine.use(bug.plant(tmp_path / "planted"))
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    for moment in itertools.islice(machine.moments(chance), _TRIES):
        if machine.cut(moment, chance).problems:
            return
    pytest.fail(f"No cut showed that {bug.name}.")
