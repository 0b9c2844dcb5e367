"""Bugs planted where a run looks at what it has done: the tests of the rules find each."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.planted import Bug

pytestmark = pytest.mark.timeout(0)

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and the test that fails because of it: its file and how it is named."""

    bug: Bug
    file: str
    test: str


def _planted(name: str, file: str, old: str, new: str, where: str, test: str) -> Planted:
    return Planted(Bug(name, file, old, new, "", (), ()), where, test)


BUGS = (
    _planted(
        "a generator counts as having run",
        "migrator/running/effect.py",
        "    if found is None:\n        return\n",
        "    return\n",
        "test_effect.py",
        "what_has_not_run_is_not_applied and decorator and in-place",
    ),
    _planted(
        "an empty file is applied in silence",
        "migrator/running/effect.py",
        "    return all(sql.keyword(each.text) in TRANSACTION for each in section.statements)\n",
        "    return False\n",
        "test_effect.py",
        "without_a_statement and comments",
    ),
    _planted(
        "a transaction that stays open is accepted",
        "migrator/definitions/transactions.py",
        "    if found.begun is not None and found.early is None:\n",
        "    if False:\n",
        "test_effect.py",
        "other_half and alone and IMMEDIATE",
    ),
    _planted(
        "what is cut off is run",
        "migrator/definitions/sql.py",
        "        if (opened := _opened(rest.text, rest.line) or _unfinished(rest)) is not None:\n",
        "        if (opened := None) is not None:\n",
        "test_effect.py",
        "cut_off_does_not_run and trigger",
    ),
    _planted(
        "what cannot be checked is damage",
        "migrator/storage/structure.py",
        "            if code == sqlite3.SQLITE_ERROR:\n",
        "            if False:\n",
        "test_unchecked.py",
        "blocks_no_run and quick and collation and index",
    ),
    _planted(
        "what cannot be checked is not compared",
        "migrator/backups/backup.py",
        "            self._compare(slot, str(error))\n            return\n",
        "            return\n",
        "test_unchecked.py",
        "what_cannot_be_checked_is_said",
    ),
    _planted(
        "where one table cannot be checked, no other is",
        "migrator/storage/structure.py",
        "        for name in found.tables(conn):\n",
        "        for name in ():\n",
        "test_unchecked.py",
        "damage_beside and collation and without",
    ),
    _planted(
        "a migration's own collation decides",
        "migrator/connection/registrations.py",
        "            if name in BUILTIN_COLLATIONS:\n",
        "            if False:\n",
        "test_unchecked.py",
        "whether_the_database_is_sound and blanks and in-place",
    ),
    _planted(
        "a replaced function is no reason to check everything",
        "migrator/running/steps.py",
        "        ctx.suspect |= desk.record.suspect\n",
        "",
        "test_unchecked.py",
        "whether_the_database_is_sound and function and partial and in-place",
    ),
    _planted(
        "new rows against a constraint are let through",
        "migrator/running/constraints.py",
        "    if more:\n",
        "    if False:\n",
        "test_unchecked.py",
        "left_against_a_constraint and NOT and in-place",
    ),
    _planted(
        "rows from before are taken for new ones",
        "migrator/running/constraints.py",
        "        known[what, _current(table, renames)] += count\n",
        "        pass\n",
        "test_unchecked.py",
        "were_there_before and something and in-place",
    ),
    _planted(
        "a setting that SQLite ignores passes",
        "migrator/connection/guarded.py",
        "        if not made.holds(now):\n",
        "        if False:\n",
        "test_header.py",
        "in_a_py_file_it_is_refused and FULL",
    ),
    _planted(
        "a new database is made without what its first file sets",
        "migrator/running/install.py",
        "        _set_header(ctx.layout.new, header.leading(batch.scripts))\n",
        "",
        "test_header.py",
        "first_file_of_a_new_database and INCREMENTAL",
    ),
)


def run(test: Planted, packages: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run one test of the project's own with packages that lie elsewhere."""
    words = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    file = str(ROOT / "tests" / "process" / test.file)
    # The planted packages come before what is installed, and before the tests' own directory,
    # which pytest would put first.
    words += ["-o", f"pythonpath={packages}"]
    path = os.pathsep.join((str(packages), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *words, file, "-k", test.test],
        cwd=directory, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("planted", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(planted: Planted, tmp_path: Path) -> None:
    """A test of the rule, which passes without the bug, fails with it."""
    found = run(planted, planted.bug.plant(tmp_path / "planted"), tmp_path)
    assert (1, True) == (found.returncode, "FAILED" in found.stdout), found.stdout
