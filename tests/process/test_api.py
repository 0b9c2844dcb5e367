"""The Python API in its caller's process, as the two frameworks before it were used."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from migrator import Migration, MigrationRunner, errors
from migrator.errors import UsageError
from tests.support.digest import logical_digest
from tests.support.files import (
    SEEDS,
    history,
    listing,
    make_database,
    opened,
    rows,
    seed_by_name,
    seed_by_version,
    tables,
    until_there,
    write_migrations,
)
from tests.support.logs import finished
from tests.support.machine import tool
from tests.support.processes import run_migrator, run_script, running


def table(name: str) -> Callable[[sqlite3.Cursor], Any]:
    """Return an `up_func` that makes a table."""
    return lambda cursor: cursor.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY)")


def in_code(database: Path, *names: str, **options: Any) -> MigrationRunner:
    """Return a runner with one registered migration for each table named."""
    runner = MigrationRunner(str(database), **options)
    for name in names:
        runner.add_migration(Migration(name, "1.0.0", f"Makes {name}", table(name)))
    return runner


# --- a directory of files -------------------------------------------------------


def test_pending_files_are_applied_and_counted(database, migrations, capsys):
    """`run_pending_migrations` returns how many it applied, and prints each with `verbose`."""
    runner = MigrationRunner(db_path=str(database), migrations_dir=str(migrations))
    assert 2 == runner.run_pending_migrations(verbose=True)
    out = capsys.readouterr().out
    assert "001" in out
    assert "002" in out
    assert 0 == runner.run_pending_migrations()
    assert capsys.readouterr().out
    assert ["001", "002"] == history(database)
    assert {"tags"} < tables(database)


def test_nothing_is_printed_without_verbose(database, migrations, capfd):
    """With `verbose=False` neither stdout nor stderr gets a line of a run that goes well."""
    structlog.reset_defaults()
    runner = MigrationRunner(database, migrations)
    assert 2 == runner.run_pending_migrations(verbose=False)
    assert runner.rollback_last(verbose=False)
    assert 1 == runner.run_pending_migrations(verbose=False)
    assert ("", "") == tuple(capfd.readouterr())


def test_get_status_has_the_keys_of_the_framework(database, migrations):
    """The five keys say how many there are, and which; looking writes nothing."""
    runner = MigrationRunner(database, migrations)
    before = listing(database.parent)
    assert {
        "total_available": 2,
        "total_applied": 0,
        "total_pending": 2,
        "applied_versions": [],
        "pending_versions": ["001", "002"],
    } == runner.get_status()
    assert before == listing(database.parent)
    runner.run_pending_migrations(verbose=False)
    assert {
        "total_available": 2,
        "total_applied": 2,
        "total_pending": 0,
        "applied_versions": ["001", "002"],
        "pending_versions": [],
    } == runner.get_status()


def test_rollback_last_undoes_one_at_a_time(database, migrations, capsys):
    """It returns whether there was one, and prints what it undid."""
    before = logical_digest(database)
    runner = MigrationRunner(database, migrations)
    assert runner.rollback_last(verbose=False) is False
    runner.run_pending_migrations(verbose=False)
    capsys.readouterr()
    assert runner.rollback_last() is True
    assert "002" in capsys.readouterr().out
    assert ["001"] == history(database)
    assert runner.rollback_last(verbose=False) is True
    assert runner.rollback_last(verbose=False) is False
    with opened(database) as conn:
        conn.execute("DROP TABLE migrations")
    assert before == logical_digest(database)


def test_a_rollback_without_down_or_file_is_a_value_error(database, migrations):
    """As it was in the framework, and the database is as before."""
    write_migrations(migrations, {"003_no_way_back.py": "def up(conn): pass"})
    runner = MigrationRunner(database, migrations)
    runner.run_pending_migrations(verbose=False)
    before = logical_digest(database)
    with pytest.raises(ValueError, match="003_no_way_back") as caught:
        runner.rollback_last(verbose=False)
    assert isinstance(caught.value, errors.MissingDownError)
    (migrations / "003_no_way_back.py").unlink()
    with pytest.raises(ValueError, match="003") as missing:
        runner.rollback_last(verbose=False)
    assert isinstance(missing.value, errors.MissingFileError)
    assert before == logical_digest(database)


def test_a_command_in_a_hint_works_as_it_is_printed(tmp_path):
    """What the runner was given is there as flags: no variable tells `migrator` of it."""
    database = tmp_path / "the data" / "app.db"
    database.parent.mkdir()
    directory = write_migrations(tmp_path / "our migrations", {"001_a.sql": "CREATE TABLE a (id);"})
    options = {"backup_dir": tmp_path / "kept", "history_table": "applied"}
    runner = MigrationRunner(database, directory, **options)
    runner.run_pending_migrations(verbose=False)
    write_migrations(directory, {"002_b.sql": "CREATE TABLE b (id);"})
    runner.run_pending_migrations(verbose=False)
    (directory / "002_b.sql").unlink()
    with pytest.raises(errors.MisfitError) as caught:
        runner.run_pending_migrations(verbose=False)
    line, down = re.findall("`migrator ([^`]+)`", caught.value.hint)
    assert down.startswith("down --to 001 ")
    result = run_migrator(*shlex.split(line), cwd=tmp_path)
    assert (0, "migrated") == (result.code, result.finished["outcome"])
    assert {"a", "applied"} == tables(database)
    assert 0 == runner.run_pending_migrations(verbose=False)


def test_a_failed_migration_raises_with_its_cause(database, migrations):
    """The author's own exception is chained, everything is undone, and all is still pending."""
    write_migrations(
        migrations,
        {
            "003_bad.py": """
                def up(conn):
                    conn.execute("INSERT INTO users (name) VALUES ('Eve')")
                    conn.commit()
                    raise KeyError("mine")
                """
        },
    )
    before = logical_digest(database)
    runner = MigrationRunner(database, migrations)
    with pytest.raises(errors.MigrationFailedError) as caught:
        runner.run_pending_migrations(verbose=False)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "003_bad.py" in str(caught.value)
    assert ("003", 4) == (caught.value.data["version"], caught.value.data["line"])
    assert "what this run had done is undone" in caught.value.hint
    assert before == logical_digest(database)
    assert ["001", "002", "003"] == runner.get_status()["pending_versions"]


def test_an_sqlite_error_is_chained_too(database, migrations):
    """What SQLite said is the cause, and its words are in the message."""
    write_migrations(migrations, {"003_bad.sql": "INSERT INTO nowhere VALUES (1);"})
    with pytest.raises(errors.MigrationFailedError, match="no such table: nowhere") as caught:
        MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


def test_a_migration_is_given_rows_with_names(database, migrations):
    """The connection's `row_factory` is `sqlite3.Row`, as in the framework of numbered files."""
    write_migrations(
        migrations,
        {
            "003_rows.py": """
                import sqlite3

                def up(conn):
                    assert conn.row_factory is sqlite3.Row
                    row = conn.execute("SELECT name FROM users WHERE id = 1").fetchone()
                    assert row["name"] == "Ada"
                """
        },
    )
    assert 3 == MigrationRunner(database, migrations).run_pending_migrations(verbose=False)


def test_a_database_that_does_not_exist_is_created_from_files(volume, tmp_path):
    """A directory's migrations make the database, all of it or nothing."""
    files = write_migrations(
        tmp_path / "migrations", {"001_a.sql": "CREATE TABLE a (id INTEGER PRIMARY KEY);"}
    )
    database = volume / "new.db"
    assert 1 == MigrationRunner(database, files).run_pending_migrations(verbose=False)
    assert {"a", "migrations"} == tables(database)


def test_making_a_runner_creates_nothing(volume, tmp_path):
    """Neither the database nor our directory is there before something is run."""
    runner = MigrationRunner(volume / "app.db", tmp_path / "nowhere")
    in_code(volume / "app.db", "a")
    assert {} == listing(volume)
    with pytest.raises(errors.MisfitError):
        runner.get_status()
    assert {} == listing(volume)


def test_an_unknown_option_is_a_type_error(volume):
    """A slip in an option's name is found when the runner is made."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'lock_timeuot'"):
        MigrationRunner(volume / "app.db", "migrations", lock_timeuot=1)


@pytest.mark.parametrize("name", ["database", "migrations", "given"])
def test_a_setting_that_has_a_place_of_its_own_is_no_option(volume, name):
    """Another database than `db_path` would be migrated."""
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        MigrationRunner(volume / "app.db", "migrations", **{name: volume / "other.db"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "dbmate"),
        ("migrate_command", "true"),
        ("pending_command", "true"),
        ("rehearse", True),
    ],
)
def test_what_only_the_commands_do_is_no_option(volume, name, value):
    """It would have no effect here: dbmate's files would get a history of ours."""
    with pytest.raises(TypeError, match=f"`{name}` is an option of the commands"):
        MigrationRunner(volume / "app.db", "migrations", **{name: value})
    MigrationRunner(volume / "app.db", "migrations", format="native")


BAD_VALUES = {
    "in_use": "alow",
    "row_guard": "of",
    "verify": "complete",
    "create": "no",
    "backup_keep": -1,
    "lock_timeout": -0.5,
    "wait_timeout": "soon",
    "history_table": "two words",
    "accept": ["newer", "older"],
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_value_is_refused_when_the_runner_is_made(volume, name):
    """A slip in a value would otherwise switch a guard off without a word."""
    with pytest.raises(UsageError, match=f"^{name} is "):
        MigrationRunner(volume / "app.db", "migrations", **{name: BAD_VALUES[name]})


@pytest.mark.parametrize("name", ["", ":memory:", "file:app.db", "sqlite:///app.db"])
def test_what_is_no_path_is_refused_when_the_runner_is_made(volume, monkeypatch, name):
    """A file called `:memory:` is nobody's database."""
    monkeypatch.chdir(volume)
    with pytest.raises(UsageError, match="database is "):
        MigrationRunner(name, "migrations")
    assert [] == os.listdir(volume)


@pytest.mark.parametrize("path", [None, 5, ["app.db"]])
def test_what_is_no_path_at_all_is_a_type_error(volume, monkeypatch, path):
    """A number is no file of that name."""
    monkeypatch.chdir(volume)
    with pytest.raises(TypeError):
        MigrationRunner(path, "migrations")
    assert [] == os.listdir(volume)


def test_a_path_in_bytes_is_that_path(database, migrations):
    """As `sqlite3.connect` takes it."""
    runner = MigrationRunner(os.fsencode(database), os.fsencode(migrations))
    assert 2 == runner.run_pending_migrations(verbose=False)
    assert ["001", "002"] == history(database)


def test_an_empty_value_is_refused_when_the_runner_is_made(volume):
    """As an empty flag is: it would mean the working directory."""
    with pytest.raises(UsageError, match=r"^backup_dir is '', which is empty"):
        MigrationRunner(volume / "app.db", "migrations", backup_dir="")


def test_values_are_given_as_values_or_as_a_command_line_has_them(database, migrations):
    """Numbers, sets and paths, or the texts that their flags take."""
    runner = MigrationRunner(
        str(database),
        migrations,
        in_use="wait",
        backup_dir=str(database.parent / "kept"),
        backup_keep="3",
        accept={"newer"},
        lock_timeout=float("inf"),
        wait_timeout=0.00001,
    )
    assert 2 == runner.run_pending_migrations(verbose=False)
    assert (database.parent / "kept").is_dir()


@pytest.mark.parametrize("nothing", [[], (), set(), frozenset()], ids=repr)
def test_an_empty_collection_accepts_nothing(database, migrations, nothing):
    """No part is no mistake, whatever it comes in: it is the default."""
    runner = MigrationRunner(database, migrations, accept=nothing)
    assert 2 == runner.run_pending_migrations(verbose=False)


def test_another_tools_history_is_refused_unless_it_is_accepted(volume, migrations):
    """`accept=frozenset({"foreign"})` goes on as `--accept foreign` does, and warns once."""
    database = make_database(
        volume / "app.db", "PRAGMA user_version = 7; CREATE TABLE users (id, name);"
    )
    before = logical_digest(database)
    with pytest.raises(errors.MisfitError) as caught:
        MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
    assert ("history.foreign", before) == (caught.value.reason, logical_digest(database))
    assert '`accept="foreign"`' in caught.value.hint
    runner = MigrationRunner(database, migrations, accept=frozenset({"foreign"}))
    with capture_logs() as events:
        assert 2 == runner.run_pending_migrations(verbose=False)
    assert [("warning", "foreign", "7")] == [
        (event["log_level"], event["kind"], event["version"])
        for event in events
        if event["event"] == "history.misfit"
    ]
    assert [(7,)] == rows(database, "PRAGMA user_version")


# --- migrations registered in code ----------------------------------------------


def test_registered_migrations_are_matched_by_name(database):
    """What is applied is known by its name, whatever its version and place say."""
    assert 2 == in_code(database, "a", "b").run_pending_migrations(verbose=False)
    runner = in_code(database, "c", "b", "a")
    assert ["c"] == runner.get_status()["pending_versions"]
    assert 1 == runner.run_pending_migrations(verbose=False)
    assert [("a",), ("b",), ("c",)] == rows(
        database, "SELECT migration_name FROM migrations ORDER BY id"
    )


def test_success_is_true_also_with_nothing_pending(database):
    """`run_migrations` said success with True, so that `if not …: exit` still works."""
    assert in_code(database, "a").run_migrations() is True
    assert in_code(database, "a").run_migrations() is True


def test_a_database_that_does_not_exist_is_left_alone_by_code(volume):
    """The application creates its own schema first, as with the framework of named migrations."""
    assert in_code(volume / "app.db", "a").run_migrations() is True
    assert 0 == in_code(volume / "app.db", "a").run_pending_migrations(verbose=False)
    assert {} == listing(volume)


def test_a_failed_registered_migration_raises(database):
    """Their `False` in silence is not kept: it raises, and nothing of the run stands."""
    before = logical_digest(database)
    runner = in_code(database, "a")
    runner.add_migration(Migration("bad", "1", "", lambda cursor: cursor.execute("SELECT nope")))
    with pytest.raises(errors.MigrationFailedError, match="no such column"):
        runner.run_migrations()
    assert before == logical_digest(database)
    assert ["a", "bad"] == runner.get_status()["pending_versions"]


def test_two_registered_migrations_of_one_name_are_refused(database):
    """As in a registry: the name is what tells them apart, and nothing has run."""
    before = logical_digest(database)
    runner = in_code(database, "a", "b", "a")
    for call in (runner.run_migrations, runner.get_status):
        with pytest.raises(errors.MisfitError, match="'a'") as caught:
            call()
        assert ("migrations.duplicate", 78) == (caught.value.reason, caught.value.exit_code)
    assert before == logical_digest(database)


def test_what_is_registered_is_looked_at_when_it_is_added(database):
    """An object of another shape is refused at once, in words."""
    with pytest.raises(errors.MisfitError, match="up_func"):
        MigrationRunner(database).add_migration(
            object.__new__(type("M", (), {"name": "x", "version": "1", "description": ""}))
        )


def test_a_failed_run_ends_in_the_log_as_the_commands_do(database, migrations):
    """The last event is `run.finished`, with reason and hint, at every end."""
    write_migrations(migrations, {"003_bad.sql": "INSERT INTO nowhere VALUES (1);"})
    runner = MigrationRunner(database, migrations)
    with capture_logs() as events, pytest.raises(errors.MigrationFailedError):
        runner.run_pending_migrations(verbose=False)
    end = finished(events)
    assert ("failed_restored", "migration.failed", 80) == tuple(
        end[key] for key in ("outcome", "reason", "exit_code")
    )
    assert end["hint"]
    (migrations / "003_bad.sql").unlink()
    runner.run_pending_migrations(verbose=False)
    with capture_logs() as events:
        runner.run_pending_migrations(verbose=False)
    expected = ["run.started", "volume.ready", "plan.ready", "run.finished"]
    assert expected == [each["event"] for each in events]
    assert ("run_pending_migrations", 0) == (events[0]["command"], events[2]["pending"])
    assert "up_to_date" == finished(events)["outcome"]


@pytest.mark.parametrize("style", ["code", "directory"])
def test_rows_lost_without_a_word_are_refused_in_process_too(database, tmp_path, style):
    """The row-loss guard is the same as the command's."""
    statements = (
        "CREATE TABLE slim AS SELECT * FROM users WHERE id < 3",
        "DROP TABLE users",
        "ALTER TABLE slim RENAME TO users",
        "DELETE FROM notes",
    )
    before = logical_digest(database)
    if style == "code":
        runner = MigrationRunner(database)
        runner.add_migration(
            Migration("shrink", "1", "", lambda c: [c.execute(each) for each in statements])
        )
    else:
        files = {"001_shrink.sql": "".join(f"{each};\n" for each in statements)}
        runner = MigrationRunner(database, write_migrations(tmp_path / "m", files))
    with pytest.raises(errors.VerificationError) as caught:
        runner.run_pending_migrations(verbose=False)
    assert ("users", 3, 2) == tuple(caught.value.data[k] for k in ("table", "before", "after"))
    assert before == logical_digest(database)
    assert 1 == runner.get_status()["total_pending"]


# --- what it is in its caller's process -------------------------------------------


AUDITED = """
    import json, os, signal, sys
    database, migrations = sys.argv[1:3]
    watched = {database, *(database + end for end in ("-wal", "-shm", "-journal"))}
    seen = []
    def hook(event, args):
        if event == "open" and isinstance(args[0], str) and os.path.abspath(args[0]) in watched:
            seen.append([event, args[0]])
        elif event in ("os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen", "os.system",
                       "shutil.copyfile", "signal.pthread_kill"):
            if event != "shutil.copyfile" or {str(a) for a in args} & watched:
                seen.append([event, repr(args)])
        elif event == "fcntl.fcntl" and args[1] in (1024, 1025):
            seen.append([event, repr(args)])
        elif event == "os.putenv":
            seen.append([event, repr(args)])
    before = {n: signal.getsignal(n) for n in signal.valid_signals() if n not in (9, 19)}
    set_signal = signal.signal
    signal.signal = lambda *args: seen.append(["signal.signal", repr(args)])
    signal.set_wakeup_fd = lambda *args, **more: seen.append(["set_wakeup_fd", repr(args)])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    children = open(f"/proc/self/task/{os.getpid()}/children").read()
    umask, directory, path = os.umask(0o022), os.getcwd(), list(sys.path)
    os.umask(umask)
    descriptors = sorted(os.listdir("/proc/self/fd"))
    import structlog
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    from migrator import MigrationRunner
    sys.addaudithook(hook)
    runner = MigrationRunner(database, migrations, **json.loads(sys.argv[3]))
    runner.get_status()
    count = runner.run_pending_migrations(verbose=False)
    runner.get_status()
    rolled = runner.rollback_last(verbose=False)
    again = runner.run_pending_migrations(verbose=False)
    runner.run_pending_migrations(verbose=False)
    after = {n: signal.getsignal(n) for n in signal.valid_signals() if n not in (9, 19)}
    print(json.dumps({
        "seen": seen, "count": count, "rolled": rolled, "again": again,
        "handlers": before == after, "mask": mask == signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "children": open(f"/proc/self/task/{os.getpid()}/children").read() == children,
        "umask": os.umask(0o022) == umask, "cwd": os.getcwd() == directory,
        "path": sys.path == path, "fds": sorted(os.listdir("/proc/self/fd")) == descriptors,
    }))
    """


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("way", ["in-place", "copy"])
def test_the_database_is_opened_by_sqlite_alone(volume, tmp_path, wal, way):
    """No `open` of the file, no lease, no fork, no signal handler, and nothing left changed."""
    database = make_database(
        volume / "app.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t (x) VALUES (1)",
        wal=wal,
    )
    how = "transaction:false" if way == "copy" else ""
    files = write_migrations(
        tmp_path / "migrations",
        {
            "001_a.sql": "CREATE TABLE a (id INTEGER PRIMARY KEY);",
            "002_b.sql": f"""
                -- migrate:up {how}
                CREATE TABLE b (id INTEGER PRIMARY KEY);
                -- migrate:down {how}
                DROP TABLE b;
                """,
        },
    )
    options = {"in_use": "wait"} if way == "copy" else {}
    done = run_script(AUDITED, database, files, json.dumps(options))
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert [] == found.pop("seen")
    assert (2, True, 1) == (found.pop("count"), found.pop("rolled"), found.pop("again"))
    assert dict.fromkeys(found, True) == found
    assert ["001", "002"] == history(database)
    assert ("wal" if wal else "delete",) == rows(database, "PRAGMA journal_mode")[0]


def test_no_variable_is_read(database, migrations, monkeypatch, tmp_path):
    """What is set for the entrypoint is not meant for the API."""
    settings = {
        "MIGRATOR_DATABASE": str(tmp_path / "other.db"),
        "MIGRATOR_MIGRATIONS": str(tmp_path / "other"),
        "MIGRATOR_HISTORY_TABLE": "elsewhere",
        "MIGRATOR_BACKUP_DIR": str(tmp_path / "backups"),
        "MIGRATOR_CREATE": "never",
        "MIGRATOR_ROW_GUARD": "nonsense",
        "MIGRATOR_LOCK_TIMEOUT": "nonsense",
        "PUID": "12345",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert 2 == MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
    assert ["001", "002"] == history(database)
    assert {"data", "migrations"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("wal", [False, True])
def test_other_connections_of_the_process_stay_open(volume, migrations, wal):
    """An idle connection of the application's is no obstacle, and sees the new state."""
    database = make_database(
        volume / "app.db",
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);"
        "INSERT INTO users (name) VALUES ('Ada');",
        wal=wal,
    )
    with opened(database) as mine:
        mine.execute("SELECT * FROM users").fetchall()
        assert 2 == MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
        assert [(1, "Ada", "ada@example.org")] == mine.execute("SELECT * FROM users").fetchall()
        mine.execute("INSERT INTO users (name) VALUES ('Grace')")
        assert MigrationRunner(database, migrations).rollback_last(verbose=False)
        assert [(2,)] == mine.execute("SELECT count(*) FROM users").fetchall()


def test_a_connection_inside_a_read_transaction_is_allowed_in_wal_mode(volume, migrations):
    """It goes on reading the old state until its own transaction ends."""
    database = make_database(
        volume / "app.db", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", wal=True
    )
    with opened(database) as mine:
        mine.execute("BEGIN")
        assert [] == mine.execute("SELECT * FROM users").fetchall()
        assert 2 == MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
        with pytest.raises(sqlite3.OperationalError, match="tags"):
            mine.execute("SELECT * FROM tags")
        mine.execute("COMMIT")
        assert [("blue",)] == mine.execute("SELECT name FROM tags WHERE id = 2").fetchall()


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
def test_a_transaction_that_does_not_end_is_69_and_changes_nothing(database, migrations, begin):
    """In rollback-journal mode a transaction that stays open is waited for, then refused."""
    before = logical_digest(database)
    runner = MigrationRunner(database, migrations, wait_timeout=0.3)
    with opened(database) as mine:
        mine.execute(begin)
        mine.execute("SELECT * FROM users").fetchall()
        with pytest.raises(errors.NotReadyError) as caught:
            runner.run_pending_migrations(verbose=False)
        assert "database.in_use" == caught.value.reason
        assert "another connection of this process has a transaction open" in str(caught.value)
        assert "`wait_timeout`" in caught.value.hint
        assert "MIGRATOR_" not in caught.value.hint
        mine.execute("COMMIT")
    assert before == logical_digest(database)
    assert 2 == runner.run_pending_migrations(verbose=False)


def test_in_use_wait_wants_the_database_to_itself(database, migrations):
    """With `in_use="wait"` a reader of the same process stands in the way."""
    runner = MigrationRunner(database, migrations, in_use="wait", wait_timeout=0.3)
    before = logical_digest(database)
    with opened(database) as mine:
        mine.execute("BEGIN")
        mine.execute("SELECT * FROM users").fetchall()
        with pytest.raises(errors.NotReadyError) as caught:
            runner.run_pending_migrations(verbose=False)
        assert "database.in_use" == caught.value.reason
        assert "`wait_timeout`" in caught.value.hint
        assert "MIGRATOR_" not in caught.value.hint
        mine.execute("COMMIT")
    assert before == logical_digest(database)
    assert 2 == runner.run_pending_migrations(verbose=False)


def test_in_use_wait_says_that_an_idle_connection_is_enough_in_wal_mode(volume, migrations):
    """It has no transaction, and SQLite's lock all the same."""
    database = make_database(volume / "app.db", "CREATE TABLE users (name TEXT);", wal=True)
    runner = MigrationRunner(database, migrations, in_use="wait", wait_timeout=0)
    with opened(database) as mine:
        mine.execute("SELECT * FROM users").fetchall()
        assert not mine.in_transaction
        with pytest.raises(errors.NotReadyError, match="an idle one is enough"):
            runner.run_pending_migrations(verbose=False)
    assert 2 == runner.run_pending_migrations(verbose=False)


def test_a_migration_outside_a_transaction_needs_the_database_alone(database):
    """Way B is refused beside others, with the way out, and works with `in_use="wait"`."""
    vacuum = Migration("v", "1", "", lambda cursor: cursor.execute("VACUUM"), transactional=False)
    before = logical_digest(database)
    runner = MigrationRunner(database)
    runner.add_migration(vacuum)
    with capture_logs() as events, pytest.raises(errors.NotReadyError) as caught:
        runner.run_migrations()
    said = f"{caught.value} {caught.value.hint}"
    assert ("transaction" in said, '`in_use="wait"`' in said, "--" in said) == (True, True, False)
    assert (str(caught.value), caught.value.hint) == tuple(
        finished(events)[key] for key in ("error", "hint")
    )
    assert before == logical_digest(database)
    assert ["v"] == runner.get_status()["pending_versions"]
    alone = MigrationRunner(database, in_use="wait")
    alone.add_migration(vacuum)
    assert alone.run_migrations()
    assert [("v",)] == rows(database, "SELECT migration_name FROM migrations")


COPIED = """
    import sys
    from migrator import Migration, MigrationRunner, errors

    def up(cursor):
        cursor.execute("CREATE TABLE fresh (id)")

    runner = MigrationRunner(sys.argv[1], in_use="wait")
    runner.add_migration(Migration("new", "1", "", up, transactional=False))
    try:
        runner.run_pending_migrations(verbose=False)
    except errors.MigratorError as error:
        print(type(error).__name__)
    """


def test_a_publication_whose_last_sync_fails_is_not_taken_for_undone(database, tmp_path):
    """Where the publication stands and the disk failed after it, the outcome is unknown."""
    state = Path(f"{database}.migrator", "state.json")
    trace = tmp_path / "trace"
    # SQLite syncs the journal twice before it writes the pages, and once to end it: the commit.
    fault = (*("-P", f"{database}-journal"), *("-e", "inject=fdatasync:error=EIO:when=3"))
    done = run_script(COPIED, database, prefix=(tool("strace"), "-f", "-qq", "-o", trace, *fault))

    assert "(INJECTED)" in trace.read_text()
    assert "fresh" in tables(database)
    assert "OutcomeUnknownError" == done.stdout.splitlines()[-1], done.stdout
    assert state.exists()
    again = run_script(COPIED, database)
    assert (0, "") == (again.returncode, again.stdout), again.stderr
    assert not state.exists()
    assert [("new",)] == rows(database, "SELECT migration_name FROM migrations")


def test_a_runner_works_in_any_thread(database, migrations):
    """A thread that is not the main one can run, fail and roll back."""
    found: list[object] = []

    def work():
        runner = MigrationRunner(database, migrations)
        found.append(runner.run_pending_migrations(verbose=False))
        found.append(runner.rollback_last(verbose=False))
        write_migrations(migrations, {"003_bad.sql": "SELECT nope;"})
        try:
            runner.run_pending_migrations(verbose=False)
        except errors.MigrationFailedError as error:
            found.append(error.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert [2, True, 80] == found
    assert ["001"] == history(database)


def test_the_log_goes_to_structlog_as_it_is_configured(database, migrations, capfd):
    """Events come from the logger of our name, with run id and database; nothing else is set up."""
    with capture_logs() as events:
        MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
    names = [event["event"] for event in events]
    assert "lock.acquired" in names
    assert names.index("backup.finished") < names.index("migration.started")
    assert ["001", "002"] == [e["version"] for e in events if e["event"] == "migration.finished"]
    assert {str(database)} == {event["database"] for event in events}
    assert 1 == len({event["run_id"] for event in events})
    end = finished(events)
    assert ("migrated", 2, 0) == (end["outcome"], end["applied"], end["exit_code"])
    assert ("", "") == tuple(capfd.readouterr())


UNREAD = """
    import sys
    from migrator import Migration, MigrationRunner

    runner = MigrationRunner(sys.argv[1])
    runner.add_migration(Migration("grün", "1", "", lambda cursor: cursor.execute("SELECT 1")))
    sys.stderr.write(f"{runner.run_migrations()} {runner.get_status()['total_applied']}")
    sys.stderr.flush()
    import os
    os._exit(0)
    """


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full", "| true"])
def test_a_standard_output_that_takes_nothing_fails_no_run(database, stdout):
    """Neither what `verbose` prints nor structlog as it comes makes a failure of a success."""
    done = run_script(UNREAD, database, prefix=["sh", "-c", f'"$@" {stdout}', "-"])
    assert (0, "True 1") == (done.returncode, done.stderr)
    assert [("grün",)] == rows(database, "SELECT migration_name FROM migrations")


def test_a_name_that_the_standard_output_cannot_show_fails_no_run(database):
    """The run is committed by the time it is printed."""
    done = run_script(UNREAD, database, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (0, "True 1") == (done.returncode, done.stderr)
    assert [("grün",)] == rows(database, "SELECT migration_name FROM migrations")


def test_the_lock_is_shared_with_the_command(database, migrations, tmp_path):
    """A run of the command is waited for, and the work that it has done is not done again."""
    go = tmp_path / "go"
    write_migrations(migrations, {"003_slow.py": until_there(go)})
    given = ("up", "--database", database, "--migrations", migrations)
    with running("migrator", *given, directory=tmp_path) as other:
        other.wait_for("migration.started")
        with pytest.raises(errors.LockedError):
            MigrationRunner(database, migrations, lock_timeout=0.1).run_pending_migrations()
        found: list[int] = []
        runner = MigrationRunner(database, migrations)
        thread = threading.Thread(
            target=lambda: found.append(runner.run_pending_migrations(verbose=False))
        )
        thread.start()
        go.touch()
        assert 3 == finished(other.finish().events)["applied"]
        thread.join(30)
    assert [0] == found
    assert ["001", "002", "003"] == history(database)


def test_the_command_waits_for_a_run_of_the_api(database, migrations, tmp_path):
    """The API holds the same lock: `check` says 75 meanwhile."""
    codes: list[int] = []

    def up(cursor):
        result = run_migrator("check", "--database", database, "--migrations", migrations)
        codes.append(result.code)

    runner = MigrationRunner(database)
    runner.add_migration(Migration("look", "1", "", up))
    assert runner.run_migrations()
    assert [75] == codes


def test_a_keyboard_interrupt_rolls_back_and_goes_through(database):
    """Ctrl-C in a migration is the caller's to handle, with the database as before."""

    def up(cursor):
        cursor.execute("DELETE FROM notes")
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10_000_000):
            pass

    before = logical_digest(database)
    runner = in_code(database, "a")
    runner.add_migration(Migration("stop", "1", "", up))
    with capture_logs() as events, pytest.raises(KeyboardInterrupt):
        runner.run_migrations()
    end = events[-1]
    assert ("failed_restored", 130, "signal") == (end["outcome"], end["exit_code"], end["reason"])
    last = json.loads(run_migrator("status", "--json", "--database", database).stdout)["last_run"]
    assert "failed_restored" == last["outcome"]
    assert before == logical_digest(database)
    assert 1 == in_code(database, "a").run_pending_migrations(verbose=False)


def test_a_migration_that_exits_does_not_end_the_application(database):
    """`sys.exit` in a migration is its failure, not the end of its host."""
    before = logical_digest(database)
    runner = MigrationRunner(database)
    runner.add_migration(Migration("exit", "1", "", lambda _cursor: sys.exit(0)))
    with pytest.raises(errors.MigrationFailedError):
        runner.run_migrations()
    assert before == logical_digest(database)


def test_what_a_killed_application_left_is_settled_by_the_next_run(database, migrations):
    """A process killed within its run leaves the old database, and the next run does it all."""
    before = logical_digest(database)
    done = run_script(
        """
        import os, signal, sys
        from migrator import Migration, MigrationRunner
        runner = MigrationRunner(sys.argv[1], sys.argv[2])
        runner.run_pending_migrations(verbose=False)
        """,
        database,
        write_migrations(
            migrations.parent / "killing",
            {
                "001_kill.py": """
                    import os, signal

                    def up(conn):
                        conn.execute("DELETE FROM notes")
                        os.kill(os.getpid(), signal.SIGKILL)
                    """
            },
        ),
    )
    assert -signal.SIGKILL == done.returncode
    assert before == logical_digest(database)
    assert 2 == MigrationRunner(database, migrations).run_pending_migrations(verbose=False)
    assert ["001", "002"] == history(database)


# --- code written for the frameworks ------------------------------------------------


def test_the_bots_file_runs_with_nothing_changed_but_the_import(volume, tmp_path):
    """Its own classes cut out and imported instead, the bot's file goes on with its database."""
    database, file = seed_by_name(volume)
    text = file.read_text()
    begin, end = text.index("@dataclass\n"), text.index("def _column_exists")
    file.write_text(
        f"{text[:begin]}from migrator import Migration, MigrationRunner\n\n{text[end:]}"
    )
    main = """
        import sys
        from database.migration_framework import create_migration_runner
        for _ in range(2):
            runner = create_migration_runner(sys.argv[1])
            if not runner.run_migrations():
                sys.exit("failed")
        print("started")
        """
    done = run_script(main, database, env={"PYTHONPATH": f"{_packages()}:{volume}"})
    assert 0 == done.returncode, done.stderr
    assert done.stdout.endswith("started\n")
    assert [
        ("add_points_column",),
        ("create_settings_table",),
        ("index_messages_by_user",),
    ] == rows(database, "SELECT migration_name FROM migrations ORDER BY id")


def test_code_of_the_numbered_framework_runs_with_nothing_changed_but_the_import(volume, tmp_path):
    """What was called on its runner, with its defaults, is there and means the same."""
    files = write_migrations(
        tmp_path / "migrations",
        {
            "001_a.py": "def up(conn): conn.execute('CREATE TABLE a (id)')",
            "002_b.py": "def up(conn): conn.execute('CREATE TABLE b (id)')\n"
            "def down(conn): conn.execute('DROP TABLE b')\n",
        },
    )
    database = seed_by_version(volume / "app.db", files, applied=1)
    code = """
        import sys
        from MODULE import MigrationRunner
        runner = MigrationRunner(sys.argv[1])
        print(sorted(runner.get_status().items()))
        print(runner.run_pending_migrations(verbose=False))
        print(sorted(runner.get_status().items()))
        print(runner.rollback_last(verbose=False))
        print(sorted(runner.get_status().items()))
        try:
            runner.rollback_last(verbose=False)
        except ValueError as error:
            print("ValueError")
        print(runner.run_pending_migrations(verbose=False))
        """
    outputs = []
    for module in ("tests.support.seeds.migration_runner", "migrator"):
        text = dedent(code).replace("MODULE", module)
        done = run_script(
            text,
            database,
            cwd=tmp_path,
            env={"PYTHONPATH": f"{_packages()}:{SEEDS.parents[2]}"},
        )
        assert 0 == done.returncode, done.stderr
        outputs.append(done.stdout)
        with opened(database) as conn:
            conn.execute("DELETE FROM migrations WHERE version = '002'")
            conn.execute("DROP TABLE b")
    assert outputs[0] == outputs[1]


def _packages() -> str:
    import migrator

    return str(Path(migrator.__file__).parents[1])
