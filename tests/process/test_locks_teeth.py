"""Bugs planted where SQLite's locks are looked at: a test finds each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

LOOKS = "migrator/database/sqlite_locks.py"

BUGS = (
    planted(
        "no look before a statement",
        "migrator/session/guarded.py",
        "        if self._has_lost_locks(lately=self._in_script):\n",
        "        if False:\n",
        "process/test_locks.py",
        "test_a_lost_lock_is_a_failed_run and writes and delete and in-place",
    ),
    planted(
        "no look between the rows of a statement",
        "migrator/session/guarded.py",
        "        if self._forked or not real_in_transaction(self) or self._has_lost_locks():\n",
        "        if self._forked or not real_in_transaction(self):\n",
        "process/test_locks_late.py",
        "between_the_rows and writes",
    ),
    planted(
        "no look after a migration",
        "migrator/change/migrations.py",
        "            require_locks(ctx, script)\n",
        "",
        "process/test_locks_late.py",
        "that_lost_the_locks_is_named",
    ),
    planted(
        "no look before the commit",
        "migrator/strategy/in_place.py",
        "                        require_locks(self.ctx, decisive=True)\n",
        "",
        "process/test_locks_late.py",
        "behind_the_last_migration and commit",
    ),
    planted(
        "no look before the pages are published",
        "migrator/strategy/on_copy.py",
        "            require_locks(ctx, decisive=True)\n",
        "",
        "process/test_locks_late.py",
        "behind_the_last_migration and publish",
    ),
    planted(
        "no look before the rollback",
        "migrator/recovery/lost_locks.py",
        "    loss = live.guard.lost(decisive=True)\n",
        "    loss = None\n",
        "process/test_locks_late.py",
        "before_a_failed_run_is_rolled_back",
    ),
    planted(
        "no look before the backup is put back",
        "migrator/recovery/rollback.py",
        "    require_held(live)\n",
        "",
        "process/test_locks_late.py",
        "before_the_backup_is_put_back",
    ),
    planted(
        "a failed check after the commit puts the backup back",
        "migrator/recovery/rollback.py",
        "        if not live.alone or not live.guard.holds():\n",
        "        if not live.alone:\n",
        "process/test_locks_late.py",
        "behind_a_loss_puts_nothing_back",
    ),
    planted(
        "no look before the connection is closed",
        "migrator/session/guard.py",
        "not in _guarded or not self.holds():\n",
        "not in _guarded:\n",
        "process/test_locks_late.py",
        "after_the_commit_overwrites_nothing and in-place and wal",
    ),
    planted(
        "a journal that has gone is not missed",
        LOOKS,
        "            if not self._sidecar.is_in_place():\n",
        "            if False:\n",
        "process/test_locks.py",
        "test_a_lost_journal_is_a_failed_run and removed",
    ),
    planted(
        "a database that was replaced is not noticed",
        LOOKS,
        '        if not self._database.is_in_place():\n            return Loss("database", path)\n',
        "",
        "process/test_locks.py",
        "test_a_replaced_database_is_put_back",
    ),
    planted(
        "the shared lock beside others is not looked at",
        LOOKS,
        "        return not self._shared or _has_shared(self._database.identity)\n",
        "        return True\n",
        "process/test_locks.py",
        "shared_lock_alone and wal",
    ),
    planted(
        "no child looks where the kernel does not answer",
        LOOKS,
        "            return not decisive or _seen_from_outside(self._ask) is not False\n",
        "            return True\n",
        "process/test_locks_late.py",
        "has_a_child_look and nothing",
    ),
    planted(
        "a damaged database is kept for another process's",
        "migrator/recovery/lost_locks.py",
        "        if not damaged:\n",
        "        if True:\n",
        "process/test_locks_late.py",
        "damaged_meanwhile and copy",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of the look, which passes without the bug, fails with it."""
    assert_found(bug, tmp_path)
