"""Bugs planted where the parent looks: the tests of what it believes find each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

CLAIMS, LOCK = "process/test_claims.py", "process/test_removed_lock.py"
WORKERS = "unit/test_supervision.py"

BUGS = (
    planted(
        "the history is not looked at",
        "migrator/engine/expectation.py",
        "        if missing:\n",
        "        if False:\n",
        CLAIMS,
        "done_nothing and up-migrated",
    ),
    planted(
        "the rows from before a baseline are not looked at",
        "migrator/engine/expectation.py",
        "    there = {row.key: row.identity for row in Expectation(parent).sight().history or ()}\n",
        "    there = {}\n",
        CLAIMS,
        "took_another_row",
    ),
    planted(
        "what was to go is not looked at",
        "migrator/engine/expectation.py",
        "        if left:\n",
        "        if False:\n",
        CLAIMS,
        "done_nothing and down-migrated",
    ),
    planted(
        "the pages are not compared",
        "migrator/engine/expectation.py",
        "        if same or (claim is not None and self._was_written_to(self.chosen)):\n",
        "        if True:\n",
        CLAIMS,
        "wrote_no_page",
    ),
    planted(
        "another file is believed",
        "migrator/engine/expectation.py",
        "        if claim.file is None:\n",
        "        if True:\n",
        CLAIMS,
        "another_file",
    ),
    planted(
        "what is unsettled is not looked at",
        "migrator/engine/conclusion.py",
        "        if self._confirmed(ending) and not self._unsettled():\n",
        "        if self._confirmed(ending):\n",
        CLAIMS,
        "note_stays",
    ),
    planted(
        "a report in the middle of a migration counts",
        "migrator/process/worker_ending.py",
        "        return in_order and (self.migration is None or self.error is not None)\n",
        "        return in_order\n",
        WORKERS,
        "in_the_middle_of_a_migration",
    ),
    planted(
        "a report counts that was no last word",
        "migrator/process/watch.py",
        "        ending.doubtful = ending.doubtful or ending.reported or what is None\n",
        "        pass\n",
        WORKERS,
        "goes_on_after_its_report",
    ),
    planted(
        "a worker that dies after its report is believed",
        "migrator/process/worker_ending.py",
        "        in_order = self.reported and not self.doubtful and self.status == 0\n",
        "        in_order = self.reported and not self.doubtful\n",
        WORKERS,
        "reports_and_dies",
    ),
    planted(
        "a line needs no mark",
        "migrator/process/watch.py",
        "        if not line.startswith(self.mark):\n",
        "        if not line.strip():\n",
        WORKERS,
        "somebody_else_writes and claim",
    ),
    planted(
        "the worker is not killed",
        "migrator/process/supervisor.py",
        "                _end(watch, before, marked=marked)\n",
        "                pass\n",
        WORKERS,
        "no_worker_is_left and ValueError",
    ),
    planted(
        "an event may be the parent's own",
        "migrator/process/reports.py",
        "        and not event.startswith(_PARENTS)\n",
        "",
        WORKERS,
        "no_report_is_none and parent",
    ),
    planted(
        "what a registry's child says has no shape",
        "migrator/engine/parent.py",
        "        if not isinstance(rows, list) or not all(map(_is_entry, rows)):\n",
        "        if False:\n",
        CLAIMS,
        "about_its_names and list and up",
    ),
    planted(
        "half a run stays",
        "migrator/recovery/dead_worker.py",
        "            if identical is not False:\n",
        "            if True:\n",
        CLAIMS,
        "half_a_run_is_put_back",
    ),
    planted(
        "what somebody has committed is overwritten",
        "migrator/recovery/dead_worker.py",
        '    if counter is None or counter != left.extra.get("change_counter"):\n',
        "    if False:\n",
        CLAIMS,
        "committed_past_a_dead_run",
    ),
    planted(
        "a removed lock is not noticed",
        "migrator/database/lock.py",
        "        return (named.st_dev, named.st_ino) != self.identity\n",
        "        return False\n",
        LOCK,
        "commits_nothing and another and in-place and last",
    ),
    planted(
        "what is linked is not compared",
        "migrator/strategy/new_file.py",
        "    if not os.path.samestat(os.lstat(database), os.fstat(held)):\n",
        "    if False:\n",
        LOCK,
        "gets_no_place and link",
    ),
    planted(
        "another run's files are tidied away",
        "migrator/recovery/rollback.py",
        "    if ctx.lock_is_lost:\n        # The files",
        "    if False:\n        # The files",
        LOCK,
        "commits_nothing and second and in-place and last",
    ),
    planted(
        "the parent does not look at the lock",
        "migrator/engine/conclusion.py",
        "        if self.lock.lost:\n",
        "        if False:\n",
        LOCK,
        "after_the_commit",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of what the parent believes, which passes without the bug, fails with it."""
    assert_found(bug, tmp_path)
