"""Bugs planted into the row guard are found: tests that find none of them prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

FOLLOWED, COST = "unit/test_rows_followed.py", "unit/test_cost.py"


def _planted(name: str, file: str, old: str, new: str, where: str, test: str) -> Planted:
    return planted(name, f"migrator/{file}", old, new, where, test)


BUGS = (
    _planted(
        "the old rows are counted in the new state",
        "verify/row_loss.py",
        "            self._keep(key, self._old.conn)\n",
        "            self._keep(key, self._conn)\n",
        "unit/test_rows.py",
        "go_unsaid",
    ),
    _planted(
        "what an earlier migration did is counted in the old state",
        "verify/row_loss.py",
        "        self._untouched -= touched\n",
        "",
        "unit/test_rows.py",
        "the_old_state_is_asked",
    ),
    _planted(
        "what has gone unseen is not counted in the old state",
        "verify/row_loss.py",
        "        self._count_old(written | defined | gone)\n",
        "        self._count_old(written | defined)\n",
        FOLLOWED,
        "goes_by_the_schema",
    ),
    _planted(
        "an alteration that nobody has looked at is taken for none",
        "session/record.py",
        '        if self.asked is None or self.command != "ALTER":\n',
        "        if not table:\n",
        "unit/test_rows.py",
        "nobody_has_seen",
    ),
    _planted(
        "tables are followed by their names only",
        "session/changes.py",
        "        if new != name:\n",
        "        if not name:\n",
        FOLLOWED,
        "lives_on and in-place",
    ),
    _planted(
        "a DELETE that was rolled back still counts",
        "session/changes.py",
        "        if stay < len(numbers):\n",
        "        if stay < 0:\n",
        FOLLOWED,
        "taken_back",
    ),
    _planted(
        "only a rollback that Python does is noticed",
        "session/noting.py",
        "        if real_in_transaction(self):\n            self._look(f",
        "        if not self._looking:\n            ledger.finish()\n"
        "        elif real_in_transaction(self):\n            self._look(f",
        FOLLOWED,
        "taken_back and savepoint",
    ),
    _planted(
        "what triggers take out of an index is a loss",
        "verify/row_loss.py",
        "            if now in self._virtual:\n",
        "            if now is None:\n",
        FOLLOWED,
        "index_follows_its_table and rtree",
    ),
    _planted(
        "an index without rows of its own is counted",
        "verify/row_loss.py",
        "        if virtual and _shows_another(conn, name):\n",
        "        if virtual and not name:\n",
        FOLLOWED,
        "loses_none",
    ),
    _planted(
        "a trigger's DELETE is one of the migration's own",
        "session/changes.py",
        "    if own is None or by is not None:\n        return\n",
        "    yield from (Deleted(t) for _, t, _, _ in asked if t)\n"
        "    if own is None or by is not None:\n        return\n",
        FOLLOWED,
        "on_the_view_itself or behind_every_rename",
    ),
    _planted(
        "a DELETE on a view says nothing of its table",
        "session/changes.py",
        "            return said - {own}\n",
        "            return set()\n",
        FOLLOWED,
        "on_a_view_is_one",
    ),
    _planted(
        "an explained DELETE is taken for one",
        "session/record.py",
        '        self.asked = [] if self.command != "EXPLAIN" else _EXPLAINED\n',
        "        self.asked = []\n",
        FOLLOWED,
        "explained",
    ),
    _planted(
        "a DELETE of many rows of parameters is not noted",
        "session/recording.py",
        "            asked = record.asked\n            if record.command in",
        "            asked = record.asked if call is _execute else None\n            if record.command in",
        FOLLOWED,
        "that_stands and _many",
    ),
    _planted(
        "cursors are looked for in the whole memory",
        "session/reset.py",
        "    if not any(each is probe for each in known):\n",
        "    if probe is not None:\n",
        COST,
        "as_many_statements",
    ),
    _planted(
        "every table is listed after each migration",
        "verify/row_loss.py",
        "            self._keep(key, self._conn)\n        self._all = False\n",
        "            self._keep(key, self._conn)\n        self._all = True\n",
        COST,
        "about_everything",
    ),
    _planted(
        "every table is counted after each migration",
        "verify/row_loss.py",
        "        stale = {*written, *defined, *",
        "        stale = {*self._names, *written, *defined, *",
        COST,
        "one_table_of_many",
    ),
    _planted(
        "each new table is asked about by its name",
        "verify/row_loss.py",
        "            found = self._appended(keys) if keys else {}\n",
        "            found = {}\n",
        COST,
        "asks_about_none_by_name",
    ),
    _planted(
        "only what stands at the end of the schema is a table",
        "verify/row_loss.py",
        "for key in keys if key not in found]",
        "for key in keys if key in found]",
        COST,
        "in_the_place_of_a_dropped",
    ),
    _planted(
        "the shadow of a virtual table is taken for a table",
        "verify/row_loss.py",
        "        if self._virtual or not all(root for _, root in tables):\n            return {}\n",
        "",
        "unit/test_rows.py",
        "no_tables",
    ),
    _planted(
        "every table is checked for orphans, by a statement of its own",
        "verify/checks.py",
        "    for table in sorted({table for table, _ in _references(conn)}):\n",
        '    for table in tables(conn, ("table",)):\n',
        COST,
        "without_a_reference",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """The tests that are about it fail with the bug; without it they pass as tests of their own."""
    assert_found(bug, tmp_path)
