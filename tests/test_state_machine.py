"""
Random histories of one database: migrations that work or fail anywhere, up, down, restore.

`HYPOTHESIS_PROFILE=long` tries many more, and longer ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.faults.contents import State, state_of
from tests.support.files import history, make_database, opened, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

_BASE = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), text TEXT);
    INSERT INTO users (name) VALUES ('Ada'), ('Grace'), ('Edsger');
    INSERT INTO notes (user_id, text) VALUES (1, 'one'), (2, 'two');
    """

GOOD = {
    "create": (
        "sql",
        """
        -- migrate:up
        CREATE TABLE made_{n} (id INTEGER PRIMARY KEY, text TEXT);
        INSERT INTO made_{n} (text) VALUES ('a;b'), ('c');
        -- migrate:down
        DROP TABLE made_{n};
        """,
    ),
    "commits": (
        "py",
        """
        def up(conn):
            conn.execute("ALTER TABLE users ADD COLUMN column_{n} TEXT")
            conn.commit()
            with conn:
                conn.execute("UPDATE users SET column_{n} = name")
            conn.executescript("BEGIN; CREATE INDEX index_{n} ON users (column_{n}); COMMIT;")

        def down(conn):
            conn.execute("DROP INDEX index_{n}")
            conn.execute("ALTER TABLE users DROP COLUMN column_{n}")
        """,
    ),
    "vacuum": (
        "sql",
        """
        -- migrate:up transaction:false
        CREATE TABLE made_{n} (id INTEGER PRIMARY KEY);
        VACUUM;
        -- migrate:down transaction:false
        DROP TABLE made_{n};
        VACUUM;
        """,
    ),
}
"""Migrations that work: the kind of file, and its text for number `n`."""

_CHANGES = "conn.execute(\"UPDATE users SET name = name || '!'\"); conn.commit()"
BAD = {
    "raises": f"{_CHANGES}; raise ValueError('no')",
    "bad SQL": f"{_CHANGES}; conn.execute('INSERT INTO nowhere VALUES (1)')",
    "rolled back by SQLite": f"""{_CHANGES}
    conn.execute("INSERT OR ROLLBACK INTO users (id, name) VALUES (1, 'Ada')")""",
    "row loss": f"""{_CHANGES}
    conn.execute("CREATE TABLE smaller (id INTEGER PRIMARY KEY, user_id INTEGER, text TEXT)")
    conn.execute("INSERT INTO smaller SELECT * FROM notes LIMIT 1")
    conn.execute("DROP TABLE notes")
    conn.execute("ALTER TABLE smaller RENAME TO notes")""",
    "orphans": f"{_CHANGES}; conn.execute('INSERT INTO notes (user_id) VALUES (99)')",
    "exits with 0": f"{_CHANGES}; import os; os._exit(0)",
    "exits with 3": f"{_CHANGES}; import sys; sys.exit(3)",
    "is killed": f"{_CHANGES}; import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}
"""Bodies of migrations that fail after they have changed and committed something."""


class Histories(RuleBasedStateMachine):
    """One database, what is applied to it, and what its newest backup holds."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="sqlite-entrypoint-states-"))
        self.database = self.directory / "data" / "app.db"
        self.migrations = self.directory / "migrations"
        self.migrations.mkdir()
        self.files: list[str] = []
        self.applied: list[str] = []
        self.latest: tuple[State, list[str]] | None = None
        self.number = 0

    def teardown(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.directory)

    @initialize(wal=st.booleans(), free=st.booleans())
    def begin(self, wal: bool, free: bool) -> None:
        """Make the database, with free pages or without."""
        make_database(self.database, _BASE, wal=wal, page_size=1024)
        if free:
            with opened(self.database) as conn:
                conn.execute("CREATE TABLE gone AS SELECT zeroblob(20000) AS bytes")
                conn.execute("DROP TABLE gone")
        self.state = state_of(self.database)

    # -- what people do ----------------------------------------------------------------

    @rule(kind=st.sampled_from(sorted(GOOD)))
    def write_a_migration(self, kind: str) -> None:
        """Add a migration that works."""
        ending, text = GOOD[kind]
        self.files.append(self._write(ending, text))

    @rule()
    def use_the_database(self) -> None:
        """Be the application for a moment."""
        with opened(self.database) as conn:
            conn.execute("INSERT INTO notes (user_id, text) VALUES (1, 'by the application')")
        self.state = state_of(self.database)

    @rule(mode=st.sampled_from(("delete", "wal")))
    def change_the_journal_mode(self, mode: str) -> None:
        """Be an application that sets its journal mode."""
        with opened(self.database) as conn:
            conn.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        self.state = state_of(self.database)

    @rule()
    def upgrade(self) -> None:
        """Apply what is pending: all of it."""
        before = self.state
        result = self._up()
        assert result.code == 0, result.stderr
        if self.files != self.applied:
            self.latest = before, list(self.applied)
        assert result.finished["applied"] == len(self.files) - len(self.applied)
        self.applied = list(self.files)
        self.state = state_of(self.database)

    @rule(kind=st.sampled_from(sorted(BAD)), outside=st.booleans(), more=st.booleans())
    def fail_to_upgrade(self, kind: str, outside: bool, more: bool) -> None:
        """Fail at one of the pending migrations: nothing is applied, and nothing is lost."""
        head = "transactional = False\n\n" if outside else ""
        bad = self._write("py", f"{head}def up(conn):\n    {BAD[kind]}\n")
        later = self._write(*GOOD["create"]) if more else None
        before = self.state
        result = self._up()
        assert result.code in (80, 81), (kind, result.code, result.stderr)
        assert result.finished["outcome"] == "failed_restored"
        assert result.one("restore.finished")["identical"] is True, result.stderr
        assert result.stdout == ""
        assert before == state_of(self.database), (kind, result.stderr)
        self.latest = before, list(self.applied)
        for version in filter(None, (bad, later)):
            next(self.migrations.glob(f"{version}_*")).unlink()

    @precondition(lambda self: self.applied and self.files == self.applied)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        """Undo the last migrations; their files go as well."""
        steps = data.draw(st.integers(1, len(self.applied)), label="steps")
        self.latest = self.state, list(self.applied)
        self._migrator("down", "--steps", str(steps))
        for version in self.applied[-steps:]:
            next(self.migrations.glob(f"{version}_*")).unlink()
        del self.applied[-steps:]
        self.files = list(self.applied)
        self.state = state_of(self.database)

    @precondition(lambda self: self.latest is not None)
    @rule()
    def restore(self) -> None:
        """Put the newest backup back; doing it again changes nothing."""
        assert self.latest is not None
        state, applied = self.latest
        for _ in range(2):
            self._migrator("restore", "latest")
            assert state == state_of(self.database)
        # Files of what is applied again are gone after a `down`: they come back as they were.
        for version in applied:
            if version not in self.files:
                shutil.copy(self.directory / "all" / self._names[version], self.migrations)
        known = {*applied, *self.files}
        self.files = sorted(known)
        self.applied, self.state = list(applied), state

    # -- what is true at any time --------------------------------------------------------

    @invariant()
    def history_and_state_are_as_expected(self) -> None:
        """Find in the history what was applied, and the database as it was left."""
        if self.database.exists():
            assert self.state == state_of(self.database)
            found = history(self.database) if "migrations" in tables(self.database) else []
            assert sorted(found) == self.applied

    # -- helpers -------------------------------------------------------------------------

    @property
    def _names(self) -> dict[str, str]:
        return {path.name[:3]: path.name for path in (self.directory / "all").iterdir()}

    def _write(self, ending: str, text: str) -> str:
        """Write a migration under the next version, which is returned."""
        self.number += 1
        version = f"{self.number:03d}"
        file = {f"{version}_m.{ending}": text.replace("{n}", str(self.number))}
        write_migrations(self.directory / "all", file)
        write_migrations(self.migrations, file)
        return version

    def _where(self) -> tuple[str | Path, ...]:
        waits = ("--wait-timeout", "5", "--lock-timeout", "5")
        return ("--database", self.database, "--migrations", self.migrations, *waits)

    def _up(self) -> Result:
        return run_entrypoint(*self._where(), "--mount", "ignore")

    def _migrator(self, *words: str) -> Result:
        result = run_migrator(*words, *self._where())
        assert result.code == 0, result.stderr
        return result


Histories.TestCase.settings = settings(
    max_examples=300 if _LONG else 6,
    stateful_step_count=25 if _LONG else 8,
    deadline=None,
    derandomize=not _LONG,
    suppress_health_check=list(HealthCheck),
)
TestHistories = pytest.mark.slow(pytest.mark.timeout(0)(Histories.TestCase))
