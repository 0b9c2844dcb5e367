"""Bugs planted in what comes before a start, and in what the application brings: tests find each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

START, CONNECT = "process/test_before_start.py", "process/test_connect.py"

BUGS = (
    planted(
        "the version is not noted",
        "migrator/before_start.py",
        "    if version is not None:\n",
        "    if False:\n",
        START,
        "was_started_is_not_backed_up_again",
    ),
    planted(
        "a newer database is started on",
        "migrator/before_start.py",
        '        if "newer" not in settings.accept:\n',
        "        if False:\n",
        START,
        "a_newer_database_is_refused",
    ),
    planted(
        "a restore leaves the version that was noted",
        "migrator/change/restore.py",
        "                _set_version_back(ctx, chosen)\n                return",
        "                return",
        START,
        "what_is_there_already_sets_it_back",
    ),
    planted(
        "a restore that is finished later leaves the version",
        "migrator/recovery/after_crash.py",
        '    if outcome == "restored":\n',
        "    if False:\n",
        START,
        "cut_off_sets_the_version_back",
    ),
    planted(
        "the backup before the version that runs is pruned",
        "migrator/backups/retention.py",
        "backup not in (last, latest, before)",
        "backup not in (last, latest)",
        START,
        "version_that_runs_is_never_pruned",
    ),
    planted(
        "a crash loop pushes out the state from before it",
        "migrator/backups/retention.py",
        "    gone = [each for each in restarts if each.intact][:more]\n",
        "    gone = []\n",
        START,
        "crash_loop_without_a_version",
    ),
    planted(
        "what connect runs is not looked at",
        "migrator/database/connecting.py",
        "        if action in _READS:\n",
        "        if True:\n",
        CONNECT,
        "cannot_be_used and begins",
    ),
    planted(
        "a refusal that connect swallows is forgotten",
        "migrator/database/connecting.py",
        "        if refused:\n            text",
        "        if False:\n            text",
        CONNECT,
        "cannot_be_used and swallows",
    ),
    planted(
        "connect keeps the connection",
        "migrator/database/connecting.py",
        "        if sys.getrefcount(conn) > held:\n            hint",
        "        if False:\n            hint",
        CONNECT,
        "cannot_be_used and cursor",
    ),
    planted(
        "the copy lacks what the application brings",
        "migrator/strategy/on_copy.py",
        "        connecting.prepare(conn)\n",
        "",
        CONNECT,
        "have_what_the_application_has and copy",
    ),
    planted(
        "the backup's rows are counted without it",
        "migrator/verify/row_loss.py",
        "            connecting.prepare(self._conn)\n",
        "",
        CONNECT,
        "by_the_applications_collation_are_counted",
    ),
    planted(
        "what a migration registers takes the application's place",
        "migrator/session/guarded.py",
        "            if self.registrations and not last:\n",
        "            if False:\n",
        CONNECT,
        "registers_itself_does_not_stay and in-place",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of the rule, which passes without the bug, fails with it."""
    assert_found(bug, tmp_path)
