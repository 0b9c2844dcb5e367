"""The exit codes of a run that failed after it had begun: 80, 81, 82."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.database import run_state
from migrator.database.checksum import fingerprint
from tests.support.exits import Both, bound_to_fail, pending, planted, start
from tests.support.files import (
    history,
    opened,
    write_migrations,
)
from tests.support.outcomes import (
    Before,
    assert_failed,
    assert_succeeded,
)
from tests.support.processes import (
    run_entrypoint,
    run_migrator,
)

# --- 80 ----------------------------------------------------------------------


FAILING = {
    "an exception": "raise RuntimeError('no')",
    "bad SQL": "conn.execute('CREATE TABEL x (y)')",
    "rollback": "conn.execute('ROLLBACK')",
    "attach": "conn.execute(\"ATTACH ':memory:' AS x\")",
    "a swallowed refusal": """
        try:
            conn.execute("ATTACH ':memory:' AS x")
        except Exception:
            pass
        """,
    "a swallowed end of the transaction": """
        conn.execute("CREATE TABLE x (id INTEGER PRIMARY KEY)")
        conn.execute("INSERT INTO x VALUES (1)")
        try:
            conn.execute("INSERT OR ROLLBACK INTO x VALUES (1)")
        except sqlite3.Error:
            pass
        """,
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "a kill": "os.kill(os.getpid(), 9)",
    "a crash": "os.abort()",
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_migration_is_80_and_proven_undone(case, database, tmp_path):
    """A failed migration leaves the database as before, proven, with everything pending."""
    directory = write_migrations(tmp_path / "m", {"001_good.sql": "CREATE TABLE good (id);\n"})
    bound_to_fail(directory, FAILING[case], "002_bad.py")
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    reason = "worker.killed" if case in ("os._exit", "a kill", "a crash") else "migration.failed"
    end = assert_failed(result, 80, reason, "failed_restored")
    assert end["version"] == "002"
    assert result.one("migration.failed")["version"] == "002"
    restored = result.one("restore.finished")
    assert (restored["method"], restored["identical"]) == ("rollback", True)
    before.assert_same()
    assert pending(database, directory) == ["001", "002"]


def test_a_failing_statement_is_named_with_its_line(database, tmp_path):
    """A failed run names the migration, the statement, its line and SQLite's message."""
    directory = write_migrations(
        tmp_path / "m",
        {"001_a.sql": "CREATE TABLE a (id);\n\nINSERT INTO\n  nowhere VALUES (1);\n"},
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    facts = {name: end[name] for name in ("version", "name", "file", "line", "statement")}
    assert facts == {
        "version": "001",
        "name": "a",
        "file": "001_a.sql",
        "line": 3,
        "statement": "INSERT INTO\n  nowhere VALUES (1);",
    }
    assert "no such table: nowhere" in end["error"]
    failed = result.one("migration.failed")
    assert {name: failed[name] for name in facts} == facts
    assert failed["error"] == "no such table: nowhere"
    before.assert_same()


@pytest.mark.parametrize("head", ["", "transactional = False\n"])
def test_another_connections_failure_is_not_put_down_to_the_last_statement(
    database, tmp_path, head
):
    """The line is that of the call; what was executed there is not known."""
    text = (
        f"import sqlite3\n{head}def up(conn):\n    conn.execute('CREATE TABLE a (id)')\n"
        "    sqlite3.connect(':memory:').execute('SELECT * FROM nowhere')\n"
    )
    directory = write_migrations(tmp_path / "m", {"001_a.py": text})
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert (end["statement"], end["line"]) == (None, len(text.splitlines()))
    assert "no such table: nowhere" in end["error"]
    before.assert_same()


def test_a_failure_while_rows_are_fetched_is_put_down_to_their_query(database, tmp_path):
    """SQLite computes a row when it is asked for, long after `execute` has returned."""
    query = "SELECT abs(-9223372036854775807 - (value > 1)) FROM generate"
    text = (
        "def up(conn):\n    conn.executescript('CREATE TABLE generate (value);"
        " INSERT INTO generate VALUES (1), (2)')\n"
        f"    conn.execute({query!r}).fetchall()\n"
    )
    directory = write_migrations(tmp_path / "m", {"001_a.py": text})
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert (end["statement"], end["line"]) == (query, 3)


@Both
def test_a_failing_migration_on_a_copy_is_80(run, database, tmp_path):
    """On a copy a failure is the same: the copy is thrown away, and that is said."""
    directory = write_migrations(
        tmp_path / "m",
        {
            "001_v.sql": "-- migrate:up transaction:false\nCREATE TABLE a (id);\nVACUUM;\n",
            "002_bad.sql": "INSERT INTO nowhere VALUES (1);\n",
        },
    )
    before = Before.of(database)
    result = start(run, database, directory)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    restored = result.one("restore.finished")
    assert (restored["method"], restored["identical"]) == ("discarded", True)
    before.assert_same()
    assert pending(database, directory) == ["001", "002"]


@Both
@pytest.mark.parametrize("transactional", [True, False])
def test_a_failed_first_install_leaves_no_database(run, transactional, volume, tmp_path):
    """A failed first install leaves no database, and the next start begins anew."""
    mark = "" if transactional else "-- migrate:up transaction:false\n"
    directory = write_migrations(
        tmp_path / "m", {"001_a.sql": f"{mark}CREATE TABLE a (id);\nINSERT INTO b VALUES (1);\n"}
    )
    database = volume / "app.db"
    result = start(run, database, directory)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    left = {path.name for path in volume.iterdir()}
    assert left <= {"app.db.migrator"}
    (directory / "001_a.sql").write_text("CREATE TABLE a (id);\n")
    assert_succeeded(start(run, database, directory), "created", 1)


def test_a_failing_down_is_80(migrated, migrations):
    """A `down` that fails leaves the migration applied."""
    (migrations / "002_create_tags.sql").write_text(
        "-- migrate:up\nSELECT 1;\n-- migrate:down\nDROP TABLE nowhere;\n"
    )
    before = Before.of(migrated)
    flags = ("--database", migrated, "--migrations", migrations, "--accept", "changed")
    result = run_migrator("down", *flags)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    before.assert_same()
    assert history(migrated) == ["001", "002"]


# --- 81 ----------------------------------------------------------------------


@pytest.mark.parametrize("check", ["check_before", "check_after"])
def test_a_failing_check_of_a_migration_is_81(check, database, tmp_path):
    """What `check_before` or `check_after` raises is a failed verification."""
    directory = write_migrations(
        tmp_path / "m",
        {
            "001_a.py": f"""
                def up(conn):
                    conn.execute("CREATE TABLE a (id)")

                def {check}(conn):
                    raise ValueError("three users are one too few")
                """
        },
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 81, f"verify.{check}", "failed_restored")
    assert "three users" in end["error"]
    assert result.one("restore.finished")["identical"] is True
    before.assert_same()
    assert pending(database, directory) == ["001"]


LOSING = {
    "orphans": ("INSERT INTO notes (user_id) VALUES (99);\n", "verify.foreign_keys"),
    "a smaller rebuild": (
        (
            "CREATE TABLE new_users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
            "INSERT INTO new_users SELECT * FROM users WHERE name <> 'Edsger';\n"
            "DROP TABLE users;\nALTER TABLE new_users RENAME TO users;\n"
        ),
        "rows.lost",
    ),
}


@pytest.mark.parametrize("case", LOSING)
def test_what_fails_the_verification_is_81(case, database, tmp_path):
    """Orphans that a migration makes, and rows lost without a word, are 81 and undone."""
    text, reason = LOSING[case]
    directory = write_migrations(tmp_path / "m", {"001_a.sql": text})
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 81, reason, "failed_restored")
    if case == "orphans":
        assert "oreign keys are off during the run" in end["hint"]
        assert result.one("verify.failed")["check"] == "foreign_key_check"
    else:
        assert "users" in end["error"]
        assert end["version"] == "001"
    assert result.one("restore.finished")["identical"] is True
    before.assert_same()
    assert pending(database, directory) == ["001"]


def test_orphans_from_before_do_not_block(database, migrations):
    """Orphans that were there before are reported and do not block."""
    with opened(database) as conn:
        conn.execute("INSERT INTO notes (user_id) VALUES (77), (78)")
    result = start(run_entrypoint, database, migrations)
    assert_succeeded(result, "migrated", 2)
    warning = next(each for each in result.named("verify.finished") if each["level"] == "warning")
    assert warning["violations"] == 2


def test_a_foreign_key_mismatch_does_not_block(database, migrations):
    """Foreign keys that SQLite cannot check are reported and do not block."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE odd (name TEXT REFERENCES users(name))")
        conn.execute("INSERT INTO odd VALUES ('Ada')")
    result = start(run_entrypoint, database, migrations)
    assert_succeeded(result, "migrated", 2)
    assert "warning" in [each["level"] for each in result.named("verify.finished")]


# --- 82 and 74 unknown ---------------------------------------------------------


def test_an_interrupted_restore_that_cannot_be_finished_is_82(migrated, migrations):
    """A restore that was cut off and whose backup is damaged needs a person: 82, with its path."""
    (backup,) = (migrated.parent / "backups").glob("*.db")
    with backup.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xee" * 100)
    leave_restore(migrated, backup)
    before = Before.of(migrated)
    result = start(run_entrypoint, migrated, migrations)
    end = assert_failed(result, 82, "restore.failed", "restore_failed")
    assert str(backup) in json.dumps(end)
    before.assert_same()
    again = start(run_entrypoint, migrated, migrations)
    assert_failed(again, 82, "restore.failed", "restore_failed")


def leave_restore(database: Path, backup: Path) -> None:
    """Leave the note of a restore that was cut off."""
    with database.open("rb") as file:
        found = {"found": "pages", "fingerprint": fingerprint(file.fileno())}
    noted = run_state.RunState(
        "0123456789abcdef",
        "restore",
        run_state.now(),
        "restore",
        database=str(database),
        backup=backup.name,
        journal_mode="delete",
        extra=found,
    )
    fields = {name: getattr(noted, name) for name in run_state.RunState._fields}
    (Path(f"{database}.migrator") / "state.json").write_text(json.dumps(fields))


def test_an_interrupted_restore_is_finished_by_the_next_start(migrated, migrations):
    """A restore that was cut off is finished by whatever starts next, which then goes on."""
    (backup,) = (migrated.parent / "backups").glob("*.db")
    leave_restore(migrated, backup)
    result = start(run_entrypoint, migrated, migrations)
    assert_succeeded(result, "migrated", 2)
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert history(migrated) == ["001", "002"]


@Both
@pytest.mark.parametrize("in_use", ["wait", "allow"])
def test_a_check_that_fails_after_the_commit(run, in_use, database, migrations, tmp_path):
    """A check after the commit puts the backup back, unless others may have the database: 82."""
    before = Before.of(database)
    with planted(
        tmp_path / "site",
        """
        import migrator.verify.proof
        from migrator.errors import VerificationError

        def broken(*args):
            raise VerificationError("This is planted.", hint="Take it away.")

        migrator.verify.proof.read_back = broken
        """,
    ) as env:
        result = start(run, database, migrations, "--in-use", in_use, env=env)
    if in_use == "wait":
        assert_failed(result, 81, "verify.failed", "failed_restored")
        restored = result.one("restore.finished")
        assert (restored["method"], restored["identical"]) == ("backup", True)
        before.assert_same()
        assert pending(database, migrations) == ["001", "002"]
        return
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    (backup,) = (database.parent / "backups").glob("*.db")
    assert end["backup"] == str(backup)
    assert backup.name in end["hint"]
    assert history(database) == ["001", "002"], "nothing is overwritten any more"


def test_a_database_that_is_damaged_after_its_release_is_82(database, migrations, tmp_path):
    """What is found when others had it already is no refusal: the run had been committed."""
    with planted(
        tmp_path / "site",
        """
        import migrator.backup_step
        from migrator.process import audit_hook as protection

        def damaged(ctx, saved):
            with protection.allowed():
                ctx.layout.database.write_bytes(b"no database")

        migrator.backup_step.prune_and_clean = damaged
        """,
    ) as env:
        result = start(run_entrypoint, database, migrations, env=env)
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    assert str(database) in end["error"]
    assert "migrator backups" in end["hint"]


def test_a_restore_that_fails_is_82(database, migrations, tmp_path):
    """A backup that cannot be put back needs a person, and names the backup."""
    with planted(
        tmp_path / "site",
        """
        import sqlite3
        import migrator.verify.proof, migrator.recovery.copy_back
        from migrator.errors import VerificationError

        def broken(*args):
            raise VerificationError("This is planted.", hint="Take it away.")

        def stuck(*args):
            raise sqlite3.OperationalError("disk I/O error")

        migrator.verify.proof.read_back = broken
        migrator.recovery.copy_back._pump_back = stuck
        """,
    ) as env:
        result = start(run_entrypoint, database, migrations, env=env)
    end = assert_failed(result, 82, "restore.failed", "restore_failed")
    (backup,) = (database.parent / "backups").glob("*.db")
    assert end["backup"] == str(backup)
    assert result.one("restore.failed")["error"]
    again = start(run_entrypoint, database, migrations)
    assert_succeeded(again, "migrated", 2)
    assert again.one("recovery.finished")["outcome"] == "restored"
