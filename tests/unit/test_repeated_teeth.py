"""Bugs planted where something is not asked, read or waited for again: a test finds each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

REPEATED, COST = "unit/test_repeated.py", "unit/test_cost.py"
TOGETHER = "unit/test_together.py"
RECORDING, GUARDED = "session/recording.py", "session/guarded.py"


def _planted(name: str, file: str, old: str, new: str, test: str, where: str = REPEATED) -> Planted:
    return planted(name, f"migrator/{file}", old, new, where, test)


BUGS = (
    _planted(
        "a statement is repeated outside of the transaction",
        GUARDED,
        "            and real_in_transaction(self)\n",
        "",
        "once_sqlite_has_ended",
    ),
    _planted(
        "a repeated statement begins no transaction",
        GUARDED,
        "            (self._open or not self._begins())\n            and not",
        "            not",
        "where_python_would",
    ),
    _planted(
        "a forked process repeats a statement",
        GUARDED,
        "(self._engine or self._forked or self._pending)",
        "(self._engine or self._pending)",
        "forked",
    ),
    _planted(
        "a refusal is told of a later statement",
        GUARDED,
        "(self._engine or self._forked or self._pending)",
        "(self._engine or self._forked)",
        "statements_own",
    ),
    _planted(
        "no look at the locks before a repeated statement",
        GUARDED,
        "            and (self._locks is None or self._locks.held_lately())\n",
        "",
        "without_the_locks",
    ),
    _planted(
        "a statement trusts the look before the code that ran since",
        GUARDED,
        "lately=self._in_script",
        "lately=True",
        "looks_at_the_locks_itself and statement",
    ),
    _planted(
        "a look at the locks holds for a minute",
        "database/sqlite_locks.py",
        "_LATELY = 0.00005\n",
        "_LATELY = 60.0\n",
        "without_the_locks",
    ),
    _planted(
        "a statement that is known keeps the database open",
        GUARDED,
        "        self.forget_statements()\n",
        "",
        "once_sqlite_has_ended",
    ),
    _planted(
        "the engine's statements are known to a migration",
        RECORDING,
        "self._made is None or record.text is not statement or",
        "self._made is None or",
        "engine_has_executed",
    ),
    _planted(
        "any cursor gets a statement that is known",
        RECORDING,
        "        if ready is None:\n",
        "        if ready is None and statement in self._known:\n"
        "            return self._known[statement][0]\n"
        "        if ready is None:\n",
        "plain_cursor",
    ),
    _planted(
        "a kept statement keeps the copy open",
        "strategy/on_copy.py",
        "            conn.forget_statements()\n",
        "",
        "keeps_no_copy_open",
    ),
    _planted(
        "a traceback keeps a repeated statement",
        RECORDING,
        "        del known\n        try:\n",
        "        try:\n",
        "failed_repetition and False",
    ),
    _planted(
        "a traceback keeps a statement that was known",
        RECORDING,
        "            del known\n            connection._wanted",
        "            connection._wanted",
        "failed_repetition and True",
    ),
    _planted(
        "a statement that has just been prepared is kept for good",
        RECORDING,
        "                connection._wanted = connection._made = None\n",
        "                connection._wanted = None\n",
        "failed_repetition and True",
    ),
    _planted(
        "a pragma of an .sql file stays",
        "session/record.py",
        "            self.lasting = True\n            self.schema_written",
        "            self.schema_written",
        "is_taken_back and pragma",
    ),
    _planted(
        "a temporary trigger of an .sql file stays",
        "session/record.py",
        '        self.lasting |= schema == "temp"\n        if',
        "        if",
        "is_taken_back and trigger",
    ),
    _planted(
        "an .sql file's savepoint stays open",
        GUARDED,
        '        if self._open:\n            self._execute(f"RELEASE',
        '        if False:\n            self._execute(f"RELEASE',
        "is_taken_back and savepoint",
    ),
    _planted(
        "what a function does in an .sql file stays",
        "strategy/in_place.py",
        "        self._code |= script.is_code\n",
        "        self._code = script.is_code\n",
        "function_of_code",
    ),
    _planted(
        "every .sql file's settings are read back",
        "session/guard.py",
        "        if code or self.record.lasting:\n",
        "        if self._baseline is not None:\n",
        "sql_alone_cost",
        COST,
    ),
    _planted(
        "an .sql file's process is never put back",
        "process/state.py",
        "        self._code_has_run |= code\n",
        "        self._code_has_run = code\n",
        "left_behind",
    ),
    _planted(
        "an .sql file's process is always read",
        "process/state.py",
        "        if not self._worker or not self._code_has_run:\n",
        "        if not self._worker:\n",
        "no_process_to_put_back",
    ),
    _planted(
        "the process is kept for every migration",
        "process/state.py",
        "        if not found.same_as(outside):\n",
        "        if found is not outside:\n",
        "is_not_kept",
    ),
    _planted(
        "the process is kept for no migration",
        "process/state.py",
        "        if not found.same_as(outside):\n",
        "        if found is outside:\n",
        "is_not_kept",
    ),
    _planted(
        "output is read before the reports",
        "process/supervisor.py",
        "                    more = unread(watch.reported) > 0 or watch.read_output()\n",
        "                    more = watch.read_output()\n",
        "migration_that_printed",
    ),
    _planted(
        "what is printed at the end is told of nobody",
        "process/watch.py",
        "            self._read_printed(unread_then)\n",
        "            self._end_line()\n",
        "slow_reader",
        "unit/test_supervision.py",
    ),
    _planted(
        "a worker does not wait for its output to be read",
        "process/worker.py",
        "            _let_read(self._output)\n",
        "            pass\n",
        "migration_that_printed",
    ),
    _planted(
        "a dead worker's output is read before its reports",
        "process/watch.py",
        "        while _holds(self.reported) and self.read_report():\n            pass\n",
        "        while _holds(self.printed) and self.read_output():\n            pass\n"
        "        while _holds(self.reported) and self.read_report():\n            pass\n",
        "last_words",
    ),
    _planted(
        "every semicolon of a trigger ends a statement",
        "parsing/sql.py",
        '_PERHAPS_TRIGGERS = ("CREATE", "EXPLAIN")\n',
        '_PERHAPS_TRIGGERS = ("EXPLAIN",)\n',
        "every_spelling",
        "unit/test_sql.py",
    ),
    _planted(
        "an explained trigger ends at its first semicolon",
        "parsing/sql.py",
        '_PERHAPS_TRIGGERS = ("CREATE", "EXPLAIN")\n',
        '_PERHAPS_TRIGGERS = ("CREATE",)\n',
        "every_spelling",
        "unit/test_sql.py",
    ),
    _planted(
        "a dump costs a call for each row",
        RECORDING,
        "                if len(batch) > 1:\n",
        "                if False:\n",
        "costs_a_call",
        TOGETHER,
    ),
    _planted(
        "tables whose names begin alike are taken for one",
        "session/together.py",
        '|"[^"]+")\\s*(?:VALUES\\s*)?\\(\'',
        '|"[^"]+?)\'',
        "only_what_inserts",
        TOGETHER,
    ),
    _planted(
        "statements of any length are given together",
        "session/together.py",
        "_LONGEST = 4096\n",
        "_LONGEST = 1_000_000\n",
        "long_statement",
        TOGETHER,
    ),
    _planted(
        "the first of a batch is blamed",
        RECORDING,
        "            record.together = True\n",
        "",
        "names_its_statement and constraint",
        TOGETHER,
    ),
    _planted(
        "what is no SQL is blamed on the statement before it",
        RECORDING,
        "(begun < len(batch) and self._fails_unasked(batch[begun], error))",
        "False",
        "names_its_statement and SQL",
        TOGETHER,
    ),
    _planted(
        "the second of two statements that fail alike is blamed",
        RECORDING,
        "return not self.record.asked and str(found)",
        "return str(found)",
        "else_is_different and few",
        TOGETHER,
    ),
    _planted(
        "whatever is no SQL is blamed for the error before it",
        RECORDING,
        "return not self.record.asked and str(found) == str(error)\n",
        "return not self.record.asked\n",
        "else_is_different and twice",
        TOGETHER,
    ),
    _planted(
        "a statement is prepared once more after the transaction has ended",
        RECORDING,
        "        if not real_in_transaction(self):\n            return False\n"
        "        self.record.asked = []\n",
        "        self.record.asked = []\n",
        "else_is_different and end",
        TOGETHER,
    ),
    _planted(
        "after a batch everything is recorded as one",
        RECORDING,
        "            record.together = False\n            record.asked = outer\n",
        "            record.asked = outer\n",
        "recorded_by_itself",
        TOGETHER,
    ),
    _planted(
        "no look at the locks within a batch",
        GUARDED,
        "not locks.held_lately() if record.together else locks.gone",
        "locks.gone",
        "locks_are_lost",
        TOGETHER,
    ),
    _planted(
        "a rehearsal is given statements together",
        RECORDING,
        "self.together and self.measure is None",
        "self.together",
        "rehearsal",
        TOGETHER,
    ),
    _planted(
        "the caller's process takes statements together",
        "strategy/in_place.py",
        "self._worker and not self._code",
        "not self._code",
        "sql_alone",
        TOGETHER,
    ),
    _planted(
        "statements are taken together after code has run",
        "strategy/in_place.py",
        "self._worker and not self._code",
        "self._worker",
        "sql_alone",
        TOGETHER,
    ),
    _planted(
        "a comment that is all of a text is not looked at",
        "parsing/sql.py",
        "    while at <= last and",
        "    while at < last and",
        "end_in_a_comment",
        "unit/test_sql.py",
    ),
    _planted(
        "comments are looked for behind the last of one kind alone",
        "parsing/sql.py",
        'max(text.rfind("--"), text.rfind("/*"))',
        'text.rfind("--")',
        "end_in_a_comment",
        "unit/test_sql.py",
    ),
    _planted(
        "comments are looked for in the rows of a dump",
        "parsing/sql.py",
        "    while at <= last and (found",
        "    while (found",
        "behind_the_last",
        "unit/test_sql.py",
    ),
    _planted(
        "no pragma is looked at",
        "parsing/sql_file.py",
        '_PERHAPS_OUTSIDE = frozenset((*_NEVER_INSIDE, "PRAGMA"))',
        "_PERHAPS_OUTSIDE = frozenset(_NEVER_INSIDE)",
        "transaction",
        "unit/test_scripts.py",
    ),
    _planted(
        "a savepoint that stays open is not followed",
        "parsing/sql_transactions.py",
        '*_ENDS, "SAVEPOINT", "RELEASE"',
        '*_ENDS, "RELEASE"',
        "other_half and SAVEPOINT",
        "process/test_effect.py",
    ),
    _planted(
        "a shell's command is run as SQL",
        "parsing/sql_file.py",
        'if not statement.keyword and statement.text.startswith(".")',
        'if statement.keyword and statement.text.startswith(".")',
        "shell",
        "unit/test_scripts.py",
    ),
    _planted(
        "the next question about a batch is not noted",
        "session/record.py",
        "        asked.append(question)\n",
        "",
        "names_its_statement and constraint",
        TOGETHER,
    ),
    _planted(
        "another question about a batch is taken for the same",
        "session/record.py",
        "or asked[0] != question:",
        "or asked[0][0] != question[0]:",
        "else_is_different and view",
        TOGETHER,
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """The tests that are about it fail with the bug; without it they pass as tests of their own."""
    assert_found(bug, tmp_path)
