"""Bugs planted where a run looks at what it has done: the tests of the rules find each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

BUGS = (
    planted(
        "a generator counts as having run",
        "migrator/change/effect.py",
        "    if found is None:\n        return\n",
        "    return\n",
        "process/test_effect.py",
        "what_has_not_run_is_not_applied and decorator and in-place",
    ),
    planted(
        "an empty file is applied in silence",
        "migrator/change/effect.py",
        "    return all(each.keyword in TRANSACTION for each in section.statements)\n",
        "    return False\n",
        "process/test_effect.py",
        "without_a_statement and comments",
    ),
    planted(
        "a transaction that stays open is accepted",
        "migrator/parsing/sql_transactions.py",
        "    if found.begun is not None and found.early is None:\n",
        "    if False:\n",
        "process/test_effect.py",
        "other_half and alone and IMMEDIATE",
    ),
    planted(
        "what is cut off is run",
        "migrator/parsing/sql.py",
        "        if (opened := _opened(rest) or _unfinished(rest)) is not None:\n",
        "        if (opened := None) is not None:\n",
        "process/test_effect.py",
        "cut_off_does_not_run and trigger",
    ),
    planted(
        "what cannot be checked is damage",
        "migrator/database/integrity_check.py",
        "            if code == sqlite3.SQLITE_ERROR:\n",
        "            if False:\n",
        "process/test_unchecked.py",
        "blocks_no_run and quick and collation and index",
    ),
    planted(
        "what cannot be checked is not said",
        "migrator/backups/create.py",
        "            self._say_unchecked(slot, str(found))\n",
        "            pass\n",
        "process/test_unchecked.py",
        "what_cannot_be_checked_is_said",
    ),
    planted(
        "where one table cannot be checked, no other is",
        "migrator/database/integrity_check.py",
        "        for name in found.tables(conn):\n",
        "        for name in ():\n",
        "process/test_unchecked.py",
        "damage_beside and collation and without",
    ),
    planted(
        "a migration's own collation decides",
        "migrator/session/functions.py",
        "            if name in BUILTIN_COLLATIONS:\n",
        "            if False:\n",
        "process/test_unchecked.py",
        "whether_the_database_is_sound and blanks and in-place",
    ),
    planted(
        "a replaced function is no reason to check everything",
        "migrator/change/migrations.py",
        "                ctx.progress.suspect |= session.record.suspect\n",
        "",
        "process/test_unchecked.py",
        "whether_the_database_is_sound and function and partial and in-place",
    ),
    planted(
        "new rows against a constraint are let through",
        "migrator/verify/constraints.py",
        "    if more:\n",
        "    if False:\n",
        "process/test_unchecked.py",
        "left_against_a_constraint and NOT and in-place",
    ),
    planted(
        "rows from before are taken for new ones",
        "migrator/verify/constraints.py",
        "        known[what, _current(table, renames)] += count\n",
        "        pass\n",
        "process/test_unchecked.py",
        "were_there_before and something and in-place",
    ),
    planted(
        "a setting that SQLite ignores passes",
        "migrator/session/guarded.py",
        "        if not made.holds(now):\n",
        "        if False:\n",
        "process/test_header.py",
        "in_a_py_file_it_is_refused and FULL",
    ),
    planted(
        "a new database is made without what its first file sets",
        "migrator/strategy/new_file.py",
        "        set_header(ctx.layout.new, change.header)\n",
        "",
        "process/test_header.py",
        "first_file_of_a_new_database and INCREMENTAL",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of the rule, which passes without the bug, fails with it."""
    assert_found(bug, tmp_path)
