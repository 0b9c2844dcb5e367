"""Bugs planted into the copying of the database's file are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

COPY, CREATE = "migrator/database/file_copy.py", "migrator/backups/create.py"
FOUND_BY = "unit/test_file_copy.py"

BUGS = (
    planted(
        "a copy that is not the database is a backup",
        COPY,
        "        if original != copy:\n",
        "        if not original:\n",
        FOUND_BY,
        "is_no_backup",
    ),
    planted(
        "nobody hears what the comparison has found",
        COPY,
        "        if self._error is not None and kind is None:\n",
        "        if False:\n",
        FOUND_BY,
        "is_no_backup",
    ),
    planted(
        "what is only in the `-wal` is not in the backup",
        "migrator/exclusive.py",
        "            if wal.stat().st_size and not self.checkpoint():\n",
        "            if not self.alone:\n",
        FOUND_BY,
        "only_in_the_wal",
    ),
    planted(
        "a file that SQLite does not have open is backed up",
        "migrator/exclusive.py",
        "        if self.raw is None or not self.raw.is_in_place():\n",
        "        if self.raw is None:\n",
        FOUND_BY,
        "another_file",
    ),
    planted(
        "the copy costs SQLite its locks",
        CREATE,
        "                copied_file(live.descriptor, slot.partial",
        '                open(live.path, "rb") as file,\n'
        "                copied_file(file.fileno(), slot.partial",
        FOUND_BY,
        "costs_no_lock",
    ),
    planted(
        "the copy stays in WAL mode",
        COPY,
        "        if mended and end <= _STEP:\n",
        "        if not mended:\n",
        FOUND_BY,
        "equals_its_original and True",
    ),
    planted(
        "whatever the backup has become is put in place",
        "migrator/recovery/copy_back.py",
        "like_database(ctx.layout)) != chosen.sha256:\n",
        "like_database(ctx.layout)) is None:\n",
        FOUND_BY,
        "put_in_place",
    ),
    planted(
        "the copy is not made durable",
        COPY,
        "                self._work.finish()\n",
        "                pass\n",
        "unit/backups/test_making.py",
        "on_disk_before_it_has_its_name",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of the copy, which passes without the bug, fails with it."""
    assert_found(bug, tmp_path)
