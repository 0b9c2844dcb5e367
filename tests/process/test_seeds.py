"""Databases and code of the two frameworks that this project grows out of."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from tests.support.digest import logical_digest
from tests.support.files import (
    SEEDS,
    history,
    listing,
    load_module,
    opened,
    rows,
    seed_by_name,
    seed_by_version,
    tables,
    write_migrations,
)
from tests.support.processes import Result, run_entrypoint, run_migrator

NAMES = ["add_points_column", "create_settings_table", "index_messages_by_user"]

ONE = {
    "001_users.py": """
        def up(conn):
            conn.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
            conn.execute("INSERT INTO users (name) VALUES ('Ada'), ('Grace')")

        def down(conn):
            conn.execute("DROP TABLE users")
        """,
    "002_email.py": """
        def up(conn):
            conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
            for row in conn.execute("SELECT id, name FROM users").fetchall():
                conn.execute(
                    "UPDATE users SET email = ? WHERE id = ?", (row["name"].lower(), row["id"])
                )
            conn.commit()

        def down(conn):
            conn.execute("ALTER TABLE users DROP COLUMN email")
        """,
    "003_tags.py": """
        def up(conn):
            conn.execute("CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT)")
        """,
}

CLASSES = """
    class Migration:
        def __init__(self, name, version, up_func, description=""):
            self.name, self.version, self.description = name, version, description
            self.up_func = up_func

    class Runner:
        def __init__(self, db_path):
            self.db_path, self.migrations = db_path, []

    def table(name):
        return lambda cursor: cursor.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY)")

    def create_migration_runner(db_path):
        runner = Runner(db_path)
        runner.migrations += [Migration(*each) for each in MIGRATIONS]
        return runner
    """


def registry(directory: Path, migrations: str, before: str = "") -> Path:
    """Write a registry file whose list of migrations is the given expression."""
    path = directory / "registry.py"
    body = dedent(CLASSES)
    path.write_text(f"{dedent(before)}\n{body}\nMIGRATIONS = [{migrations}]\n")
    return path


def start(database: Path, migrations: Path | str, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint(
        "--database", database, "--migrations", str(migrations), *more, "--", "echo", "app"
    )


def applied_names(database: Path) -> list[str]:
    """Return the names in a history by name, in the order of their rows."""
    return [name for (name,) in rows(database, "SELECT migration_name FROM migrations ORDER BY id")]


def runner_by_version(database: Path, migrations: Path) -> object:
    """Return that framework's own runner of a directory."""
    module: ModuleType = load_module(SEEDS / "migration_runner.py")
    return module.MigrationRunner(str(database), str(migrations))


# --- numbered files -----------------------------------------------------------


def test_a_database_of_the_framework_of_numbered_files_continues_where_it_is(tmp_path, volume):
    """What that framework has applied is not applied again, and the rest is."""
    files = write_migrations(tmp_path / "migrations", ONE)
    database = seed_by_version(volume / "app.db", files, applied=1)
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout)
    assert ["002", "003"] == [event["version"] for event in result.named("migration.finished")]
    assert ["001", "002", "003"] == history(database)
    assert [("ada",), ("grace",)] == rows(database, "SELECT email FROM users ORDER BY id")


def test_the_framework_of_numbered_files_reads_and_writes_the_history_after_us(tmp_path, volume):
    """Their runner goes on after ours, and ours after theirs, each applying only what is left."""
    files = write_migrations(tmp_path / "migrations", ONE)
    database = seed_by_version(volume / "app.db", files, applied=1)
    (files / "003_tags.py").rename(tmp_path / "003_tags.py")
    assert 0 == start(database, files).code
    (tmp_path / "003_tags.py").rename(files / "003_tags.py")
    theirs = runner_by_version(database, files)
    assert ["003"] == theirs.get_status()["pending_versions"]
    assert 1 == theirs.run_pending_migrations(verbose=False)
    write_migrations(files, {"004_more.sql": "CREATE TABLE more (id INTEGER);"})
    again = start(database, files)
    assert ["004"] == [event["version"] for event in again.named("migration.finished")]
    assert ["001", "002", "003", "004"] == history(database)
    assert 0 == runner_by_version(database, files).run_pending_migrations(verbose=False)


def test_the_framework_of_numbered_files_undoes_what_we_applied(tmp_path, volume):
    """A rollback of theirs takes our row away, and we see it as pending again."""
    files = write_migrations(tmp_path / "migrations", {k: ONE[k] for k in list(ONE)[:2]})
    database = seed_by_version(volume / "app.db", files, applied=1)
    assert 0 == start(database, files).code
    assert runner_by_version(database, files).rollback_last(verbose=False)
    assert ["001"] == history(database)
    status = json.loads(
        run_migrator("status", "--json", "--database", database, "--migrations", files).stdout
    )
    assert ["002"] == [each["version"] for each in status["pending"]]
    assert 0 == start(database, files).code
    assert ["001", "002"] == history(database)


def test_we_undo_what_the_framework_of_numbered_files_applied(tmp_path, volume):
    """`down` works on a row that has none of our own columns."""
    files = write_migrations(tmp_path / "migrations", {k: ONE[k] for k in list(ONE)[:2]})
    database = seed_by_version(volume / "app.db", files, applied=2)
    result = run_migrator("down", "--database", database, "--migrations", files)
    assert 0 == result.code
    assert ["001"] == history(database)
    assert [("Ada",), ("Grace",)] == rows(database, "SELECT name FROM users ORDER BY id")
    assert ["id", "name"] == [row[1] for row in rows(database, "PRAGMA table_info(users)")]


def test_our_columns_come_in_the_transaction_of_the_run(tmp_path, volume):
    """A failed run leaves the seed's table as it was, without our columns."""
    files = write_migrations(
        tmp_path / "migrations", {**ONE, "004_bad.sql": "INSERT INTO nowhere VALUES (1);"}
    )
    database = seed_by_version(volume / "app.db", files, applied=1)
    before = logical_digest(database)
    result = start(database, files)
    assert 80 == result.code
    assert before == logical_digest(database)
    assert ["001"] == history(database)
    columns = [row[1] for row in rows(database, "PRAGMA table_info(migrations)")]
    assert ["version", "name", "applied_at"] == columns


@pytest.mark.parametrize("style", ["by version", "by name"])
def test_our_own_columns_are_nullable_and_come_after_the_frameworks(tmp_path, volume, style):
    """Of a history that we make and of one that we take over, all further columns are nullable."""
    if style == "by version":
        files = write_migrations(tmp_path / "migrations", ONE)
        taken = seed_by_version(volume / "taken.db", files, applied=1)
        databases, source = [taken, volume / "new.db"], files
        first = ["version", "name", "applied_at"]
    else:
        taken, source = seed_by_name(volume)
        databases, first = [taken], ["id", "migration_name", "applied_at", "version", "description"]
    shapes = []
    for database in databases:
        assert 0 == start(database, source).code
        info = rows(database, "PRAGMA table_info(migrations)")
        shapes.append([(row[1], row[2]) for row in info])
        assert first == [row[1] for row in info][: len(first)]
        assert [0] * (len(info) - len(first)) == [row[3] for row in info][len(first) :]
    assert all(shape == shapes[0] for shape in shapes)


def test_nothing_is_written_into_a_seeds_database_with_nothing_pending(tmp_path, volume):
    """A database that the framework has brought up to date is not even given our columns."""
    files = write_migrations(tmp_path / "migrations", ONE)
    database = seed_by_version(volume / "app.db", files, applied=3)
    before = listing(volume)
    result = start(database, files)
    assert (0, "up_to_date") == (result.code, result.finished["outcome"])
    assert before == listing(volume)


# --- named migrations in a file ---------------------------------------------------


@pytest.mark.parametrize("factory", ["", ":create_migration_runner"])
def test_a_registry_that_defines_its_own_classes_works_unedited(volume, factory):
    """The bot's own file is the source as it is, and no bytecode is left beside it."""
    database, file = seed_by_name(volume)
    before = [(path, path.stat().st_mtime_ns) for path in sorted(file.parent.rglob("*"))]
    result = start(database, f"{file}{factory}")
    assert (0, "app\n") == (result.code, result.stdout)
    assert NAMES[1:] == [event["name"] for event in result.named("migration.finished")]
    assert NAMES == applied_names(database)
    assert {"users", "messages", "guild_settings", "migrations"} == tables(database)
    after = [(path, path.stat().st_mtime_ns) for path in sorted(file.parent.rglob("*"))]
    assert before == after


def test_the_framework_of_named_migrations_reads_and_writes_the_history_after_us(volume):
    """Their runner goes on after ours, and ours after theirs."""
    database, file = seed_by_name(volume)
    assert 0 == start(database, file).code
    theirs = load_module(file)
    runner = theirs.create_migration_runner(str(database))
    assert NAMES == runner.get_applied_migrations()
    runner.add_migration(
        theirs.Migration("add_x", "2.0", "X", lambda c: c.execute("CREATE TABLE x (id)"))
    )
    assert runner.run_migrations()
    assert [*NAMES, "add_x"] == applied_names(database)
    with file.open("a") as out:
        out.write(
            dedent("""
            _old = create_migration_runner

            def create_migration_runner(db_path):
                runner = _old(db_path)
                for name in ("add_x", "add_y"):
                    runner.add_migration(Migration(
                        name, "2.0", name, lambda c, name=name: c.execute(
                            f"CREATE TABLE {name[-1]} (id)")))
                return runner
            """)
        )
    again = start(database, file)
    assert ["add_y"] == [event["name"] for event in again.named("migration.finished")]
    assert [*NAMES, "add_x", "add_y"] == applied_names(database)
    assert load_module(file).create_migration_runner(str(database)).run_migrations()
    assert [*NAMES, "add_x", "add_y"] == applied_names(database)


def test_a_failed_registered_migration_leaves_everything_as_before(tmp_path, volume):
    """Their bug, a half-applied migration passed over in silence, is not ours."""
    database, _ = seed_by_name(volume)
    before = logical_digest(database)
    file = registry(
        tmp_path,
        "('add_points_column', '1', table('p')), ('good', '2', table('good')),"
        " ('bad', '3', lambda cursor: cursor.execute('INSERT INTO nowhere VALUES (1)'))",
    )
    result = start(database, file)
    assert 80 == result.code
    failed = result.one("migration.failed")
    assert ("bad", "3") == (failed["name"], failed["version"])
    assert "INSERT INTO nowhere VALUES (1)" == failed["statement"]
    assert before == logical_digest(database)
    assert NAMES[:1] == applied_names(database)


def test_registered_versions_need_not_be_unique_and_order_is_that_of_registration(tmp_path, volume):
    """Neither versions nor names decide the order, and one version may occur twice."""
    database, _ = seed_by_name(volume, applied=0)
    file = registry(
        tmp_path, "('z', '9.0', table('z')), ('a', '1.0', table('a')), ('m', '1.0', table('m'))"
    )
    result = start(database, file)
    assert 0 == result.code
    assert ["z", "a", "m"] == [event["name"] for event in result.named("migration.finished")]
    assert [("z", "9.0"), ("a", "1.0"), ("m", "1.0")] == rows(
        database, "SELECT migration_name, version FROM migrations ORDER BY id"
    )


def test_a_registered_migration_below_an_applied_one_runs(tmp_path, volume):
    """Nothing in a registry is out of order: what is not applied runs."""
    database, _ = seed_by_name(volume, applied=0)
    assert 0 == start(database, registry(tmp_path, "('b', '2.0', table('b'))")).code
    result = start(
        database, registry(tmp_path, "('a', '1.0', table('a')), ('b', '2.0', table('b'))")
    )
    assert 0 == result.code
    assert ["a"] == [event["name"] for event in result.named("migration.finished")]
    assert ["b", "a"] == applied_names(database)


def test_two_registered_migrations_of_one_name_are_refused(tmp_path, volume):
    """The name is the identity, so that a second one of it is 78 before anything is written."""
    database, _ = seed_by_name(volume, applied=0)
    before = listing(volume)
    file = registry(tmp_path, "('a', '1', table('a')), ('a', '2', table('b'))")
    result = start(database, file)
    assert (78, "migrations.duplicate") == (result.code, result.finished["reason"])
    assert before == listing(volume)


@pytest.mark.parametrize(
    ("left", "kind", "code"),
    [
        ("('b', '2', table('b'))", "missing", 0),
        ("('a', '1', table('a'))", "newer", 78),
        ("('a', '1', table('a')), ('c', '3', table('c'))", "newer", 78),
        ("('b', '2', table('b')), ('c', '3', table('c'))", "missing", 78),
    ],
)
def test_applied_names_that_the_file_lacks_are_newer_or_missing(tmp_path, volume, left, kind, code):
    """They are newer when they come after the last known one, else missing."""
    database, _ = seed_by_name(volume, applied=0)
    both = registry(tmp_path, "('a', '1', table('a')), ('b', '2', table('b'))")
    assert 0 == start(database, both).code
    before = logical_digest(database)
    result = start(database, registry(tmp_path, left))
    assert code == result.code
    if code:
        assert f"history.{kind}" == result.finished["reason"]
        told = f"the highest migration here is {left[-4]}." in result.finished["error"]
        assert (kind == "newer") == told
    else:
        assert ["missing"] == [event["kind"] for event in result.named("history.misfit")]
    assert before == logical_digest(database)
    assert 0 == start(database, registry(tmp_path, left), "--accept", "missing,newer").code


@pytest.mark.parametrize("command", [(), ("--", "echo", "app")])
def test_a_registrys_database_that_does_not_exist_is_left_to_the_application(volume, command):
    """The application creates its own schema, so that nothing is made here, and it is started."""
    _, file = seed_by_name(volume)
    database = volume / "other.db"
    before = listing(volume)
    result = run_entrypoint("--database", database, "--migrations", file, *command)
    assert (0, "no_database") == (result.code, result.finished["outcome"])
    assert ("app\n" if command else "") == result.stdout
    assert before == listing(volume)


def test_a_registrys_missing_database_is_refused_where_none_may_be_created(volume):
    """With `--create never` even a registry's database has to exist: 69."""
    _, file = seed_by_name(volume)
    before = listing(volume)
    result = start(volume / "other.db", file, "--create", "never", "--wait-timeout", "0")
    assert 69 == result.code
    assert before == listing(volume)


def test_a_constructor_that_opens_the_database_does_not_write_to_it(tmp_path, volume):
    """Reading a registry whose runner makes its table at once leaves the database alone."""
    database, _ = seed_by_name(volume)
    before = listing(volume)
    file = registry(tmp_path, "('add_points_column', '1', table('a'))")
    file.write_text(
        file.read_text().replace(
            "self.db_path, self.migrations = db_path, []",
            "self.db_path, self.migrations = db_path, []\n"
            "        import sqlite3\n"
            "        conn = sqlite3.connect(db_path)\n"
            "        conn.execute('CREATE TABLE IF NOT EXISTS made_by_constructor (id)')\n"
            "        conn.commit(); conn.close()",
        )
    )
    result = start(database, file)
    assert (0, "up_to_date") == (result.code, result.finished["outcome"])
    assert "made_by_constructor" not in tables(database)
    assert before == listing(volume)
    missing = start(volume / "other.db", file)
    assert (0, "no_database") == (missing.code, missing.finished["outcome"])
    assert before == listing(volume)


def test_a_registry_whose_constructor_opens_the_database_migrates_it(tmp_path, volume):
    """Such a registry is a source like any other when something is pending."""
    database, _ = seed_by_name(volume)
    file = registry(tmp_path, "('add_points_column', '1', table('a')), ('b', '2', table('b'))")
    file.write_text(
        file.read_text().replace(
            "self.db_path, self.migrations = db_path, []",
            "self.db_path, self.migrations = db_path, []\n"
            "        import sqlite3\n"
            "        conn = sqlite3.connect(db_path)\n"
            "        conn.execute('CREATE TABLE IF NOT EXISTS made_by_constructor (id)')\n"
            "        conn.commit(); conn.close()",
        )
    )
    result = start(database, file)
    assert 0 == result.code, result.stderr
    assert ["add_points_column", "b"] == applied_names(database)
    assert "made_by_constructor" not in tables(database)


def test_a_registry_is_read_in_a_child_with_nothing_pending_too(tmp_path, volume):
    """What importing it does to its process does not reach the application."""
    database, _ = seed_by_name(volume)
    pid = tmp_path / "pid"
    file = registry(
        tmp_path,
        "('add_points_column', '1', table('a'))",
        before=f"""
            import os, signal
            os.environ["POISON"] = "1"
            os.umask(0o777)
            os.chdir("/")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("hello from the registry")
            with open({str(pid)!r}, "w") as file:
                file.write(str(os.getpid()))
            os.chmod({str(pid)!r}, 0o600)
            """,
    )
    result = run_entrypoint(
        "--database",
        database,
        "--migrations",
        file,
        "--",
        "sh",
        "-c",
        'echo "$POISON"; umask; pwd; echo $$',
        cwd=tmp_path,
    )
    assert 0 == result.code
    poison, umask, directory, own = result.stdout.splitlines()
    assert ("", str(tmp_path)) == (poison, directory)
    assert "0777" != umask
    assert own != pid.read_text()
    assert "hello from the registry" in [e["text"] for e in result.named("migration.output")]


@pytest.mark.parametrize(
    "body",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "raise RuntimeError('no')",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    ],
)
@pytest.mark.parametrize("where", ["import", "factory"])
def test_a_registry_that_ends_its_process_is_78(tmp_path, volume, body, where):
    """A crash, an exit and an exception while it is read name the file, and write nothing."""
    database, _ = seed_by_name(volume)
    before = listing(volume)
    file = registry(tmp_path, "('a', '1', table('a'))", before=body if where == "import" else "")
    if where == "factory":
        file.write_text(
            file.read_text().replace(
                "    runner = Runner(db_path)", f"    {body}\n    runner = Runner(db_path)"
            )
        )
    result = start(database, file)
    assert 78 == result.code, result.stderr
    assert "registry.py" in result.finished["error"]
    assert result.finished["hint"]
    assert before == listing(volume)


@pytest.mark.parametrize("command", ["status", "plan", "check", "verify"])
def test_looking_at_a_registry_writes_nothing(volume, command):
    """The commands that look read a registry, print what they found, and create nothing."""
    database, file = seed_by_name(volume)
    before = listing(volume)
    result = run_migrator(command, "--database", database, "--migrations", file)
    assert (1 if command == "check" else 0) == result.code, result.stderr
    assert result.stdout
    assert before == listing(volume)


@pytest.mark.parametrize("command", ["status", "plan", "check", "up"])
def test_a_registry_cannot_write_to_the_database_while_it_is_read(tmp_path, volume, command):
    """Not even by a path of its own, past the one that its factory is given: 78, nothing written."""
    database, _ = seed_by_name(volume)
    before = listing(volume)
    file = registry(
        tmp_path,
        "('a', '1', table('a'))",
        before=f"""
            import sqlite3
            conn = sqlite3.connect({str(database)!r})
            conn.execute("CREATE TABLE IF NOT EXISTS made_by_import (id)")
            conn.commit()
            conn.close()
            """,
    )
    result = run_migrator(command, "--database", database, "--migrations", file)
    assert (0 if command == "status" else 78) == result.code, result.stderr
    assert "only being read" in result.stdout + result.stderr
    assert before == listing(volume)
    assert "made_by_import" not in tables(database)


def test_the_commands_mean_a_registered_name_by_version(volume):
    """`baseline`, `plan` and `status` identify a registered migration by its name."""
    database, file = seed_by_name(volume)
    options = ("--database", database, "--migrations", file)
    noted = run_migrator("baseline", NAMES[1], *options)
    assert 0 == noted.code
    assert NAMES[:2] == applied_names(database)
    assert "guild_settings" not in tables(database)
    plan = json.loads(run_migrator("plan", "--json", *options).stdout)
    assert ([NAMES[2]], "in-place") == ([each["name"] for each in plan["pending"]], plan["way"])
    unknown = run_migrator("baseline", "1.2.0", *options)
    assert (64, NAMES[:2]) == (unknown.code, applied_names(database))


def test_a_registry_that_does_not_exist_is_78(volume):
    """A file that is named and is not there is found before anything is written."""
    database, _ = seed_by_name(volume)
    before = listing(volume)
    result = start(database, volume / "nowhere.py")
    assert 78 == result.code
    assert "nowhere.py" in result.finished["error"]
    assert before == listing(volume)


def test_a_registry_and_a_history_of_versions_do_not_mix(tmp_path, volume):
    """A history written for the other kind of source is refused with 78, naming the way out."""
    files = write_migrations(tmp_path / "migrations", ONE)
    database = seed_by_version(volume / "app.db", files, applied=1)
    before = logical_digest(database)
    result = start(database, registry(tmp_path, "('a', '1', table('a'))"))
    assert 78 == result.code
    assert "--history-table" in result.finished["hint"]
    assert before == logical_digest(database)
    with opened(database) as conn:
        assert 1 == conn.execute("SELECT count(*) FROM migrations").fetchone()[0]
