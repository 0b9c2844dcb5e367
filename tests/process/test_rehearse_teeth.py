"""Bugs planted into the rehearsal are found: tests that find none of them prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

RUN, FIGURES = "process/test_rehearse.py", "process/test_rehearse_figures.py"
FIRST, FORMS = "process/test_rehearse_first.py", "unit/rehearsal/test_forms.py"

BUGS = (
    planted(
        "a kept copy is not the one that was migrated",
        "migrator/rehearsal/rehearse.py",
        'files = {"after.db": database}',
        'files = {"after.db": before or database}',
        RUN,
        "beside_an_application and rollback",
    ),
    planted(
        "the copy stays",
        "migrator/database/rehearsal_place.py",
        "    finally:\n        _remove_tree(made)\n",
        "    finally:\n",
        RUN,
        "nothing_stays_of_it and rollback",
    ),
    planted(
        "what a killed rehearsal has left stays",
        "migrator/database/workspace.py",
        "    removed.append(rehearsal_place.remove_abandoned(layout.home))\n",
        "",
        RUN,
        "killed_one_leaves and rollback",
    ),
    planted(
        "a start beside a rehearsal removes its copy",
        "migrator/database/rehearsal_place.py",
        "                if descriptor is None or try_flock(descriptor):\n",
        "                if True:\n",
        RUN,
        "no_start_waits",
    ),
    planted(
        "a migration reaches the real database",
        "migrator/rehearsal/copy_parent.py",
        "        audit_hook.forbid(self._real.layout.database)\n",
        "",
        RUN,
        "cannot_reach",
    ),
    planted(
        "a failed rehearsal says that a migration had begun on the database",
        "migrator/rehearsal/rehearse.py",
        "    error.began, error.applied = None, 0\n",
        "    return error\n",
        RUN,
        "ends_as and rollback-fails",
    ),
    planted(
        "each migration is compared with the backup",
        "migrator/rehearsal/rows.py",
        "        self._held = held\n",
        "",
        FIGURES,
        "compared_with_the_one_before",
    ),
    planted(
        "a value is what SQLite would convert it to",
        "migrator/rehearsal/rows.py",
        "IS NOT +b.",
        "IS NOT b.",
        FIGURES,
        "another_type",
    ),
    planted(
        "a new column counts whatever it holds",
        "migrator/rehearsal/rows.py",
        '            test = " OR ".join([*differ, *added]) or "0"\n',
        '            test = " OR ".join([*differ, "1"]) if added else " OR ".join(differ) or "0"\n',
        FIGURES,
        "columns_that_are_new",
    ),
    planted(
        "a plan is asked for after the statement",
        "migrator/rehearsal/watch.py",
        "        told = self._known(cursor.connection, statement, parameters)\n"
        "        began = time.monotonic()\n",
        "        call(cursor, statement, parameters)\n"
        "        told = self._known(cursor.connection, statement, parameters)\n"
        "        call = lambda *_: None\n"
        "        began = time.monotonic()\n",
        FIGURES,
        "plan_from_before",
    ),
    planted(
        "a renamed table is gone",
        "migrator/rehearsal/compare.py",
        "                and not (fold(each.name) in moved and",
        "                and not (False and",
        FIGURES,
        "renamed_and_a_dropped",
    ),
    planted(
        "a start runs what its rehearsal refused",
        "migrator/rehearsal/first.py",
        "        raise error\n",
        "        return\n",
        FIRST,
        "refuses_never_begins",
    ),
    planted(
        "a start runs what it has not rehearsed",
        "migrator/rehearsal/first.py",
        "            _require_the_same(parent, rehearsed)\n",
        "            pass\n",
        FIRST,
        "change_after",
    ),
    planted(
        "after a rehearsal a stop is not obeyed",
        "migrator/process/signals.py",
        "            self._deferring, self.done = before, done\n",
        "            self.done = done\n",
        FIRST,
        "stop_is_obeyed",
    ),
    planted(
        "a name is HTML",
        "migrator/rehearsal/html.py",
        "    return escape(printable(text, keep), quote=True)\n",
        "    return printable(text, keep)\n",
        FORMS,
        "is_html",
    ),
    planted(
        "a name is Markdown",
        "migrator/rehearsal/markdown.py",
        '    return _SPECIAL.sub(r"\\\\\\1", shown).replace("@", "&#64;")\n',
        "    return shown\n",
        FORMS,
        "is_markdown",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of the project's own fails as soon as the bug is there."""
    assert_found(bug, tmp_path)
