"""Nothing is called applied that did nothing: what did not run, and what was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.api import MigrationRunner
from migrator.errors import MigrationFailedError
from tests.support.digest import logical_digest
from tests.support.files import history, opened, rows, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

UNRUN = {
    "a generator behind a decorator": (
        (
            "import functools\n"
            "def timed(f):\n"
            "    @functools.wraps(f)\n"
            "    def inner(*a):\n"
            "        return f(*a)\n"
            "    return inner\n"
            "def steps(conn):\n"
            "    yield conn.execute('CREATE TABLE made (x)')\n"
            "NAME = timed(steps)\n"
        ),
        "a generator",
    ),
    "a generator expression": (
        "NAME = lambda conn: (conn.execute(s) for s in ['CREATE TABLE made (x)'])\n",
        "a generator",
    ),
    "a coroutine behind a lambda": (
        (
            "async def steps(conn):\n"
            "    conn.execute('CREATE TABLE made (x)')\n"
            "NAME = lambda conn: steps(conn)\n"
        ),
        "a coroutine",
    ),
    "an asynchronous generator": (
        (
            "async def steps(conn):\n"
            "    yield conn.execute('CREATE TABLE made (x)')\n"
            "NAME = lambda conn: steps(conn)\n"
        ),
        "an asynchronous generator",
    ),
    "an awaitable object": (
        (
            "class Later:\n"
            "    def __init__(self, conn):\n"
            "        self.conn = conn\n"
            "    def __await__(self):\n"
            "        yield self.conn.execute('CREATE TABLE made (x)')\n"
            "NAME = lambda conn: Later(conn)\n"
        ),
        "awaited",
    ),
    "a lazy map": ("NAME = lambda conn: map(conn.execute, ['CREATE TABLE made (x)'])\n", "`map`"),
}
each_unrun = pytest.mark.parametrize("kind", UNRUN)
BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return an empty directory for migrations."""
    return write_migrations(tmp_path / "files", {})


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


def up(database: Path, files: Path, *more: str) -> Result:
    """Run `migrator up`."""
    return run_migrator("up", "--database", database, "--migrations", files, *more)


def refused(result: Result, database: Path, before: str, reason: str, line: int | None) -> None:
    """Say that a file was refused before anything was written, with its line, and is pending."""
    assert "app" not in result.stdout
    assert (78, reason, line) == (
        result.code, result.finished["reason"], result.finished.get("line"),
    )  # fmt: skip
    assert before == logical_digest(database)
    assert not (database.parent / "backups").exists()


# --- what has not run -----------------------------------------------------------------


@each_unrun
@BOTH
def test_what_has_not_run_is_not_applied(database, files, kind, way):
    """An `up` that returns what would have to be run is 80, and says what it returned."""
    head = "transactional = False\n" if way == "copy" else ""
    code, said = UNRUN[kind]
    write_migrations(files, {"001_a.py": head + code.replace("NAME", "up")})
    before = logical_digest(database)
    result = start(database, files)
    assert (80, "migration.failed") == (result.code, result.finished["reason"])
    assert said in result.finished["error"]
    assert "nothing of it has run" in result.finished["error"]
    assert result.finished["hint"].startswith(("Remove the", "Write a loop"))
    assert not result.named("migration.output"), "Python warned of something"
    assert "app" not in result.stdout
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)


@pytest.mark.parametrize("check", ["check_before", "check_after"])
@each_unrun
def test_a_check_that_has_not_run_has_not_passed(database, files, kind, check):
    """A check that returns what would have to be run is 81."""
    code, said = UNRUN[kind]
    up_too = "def up(conn):\n    conn.execute('CREATE TABLE other (x)')\n"
    write_migrations(files, {"001_a.py": up_too + code.replace("NAME", check)})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, f"verify.{check}") == (result.code, result.finished["reason"])
    assert said in result.finished["error"]
    assert result.finished["hint"].startswith(("Remove the", "Write a loop"))
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)


@each_unrun
def test_a_down_that_has_not_run_undoes_nothing(database, files, kind):
    """`down` is 80 as `up` is, and what was applied stays so."""
    code, said = UNRUN[kind]
    up_too = "def up(conn):\n    conn.execute('CREATE TABLE other (x)')\n"
    write_migrations(files, {"001_a.py": up_too + code.replace("NAME", "down")})
    assert 0 == up(database, files).code
    result = run_migrator("down", "--database", database, "--migrations", files)
    assert 80 == result.code
    assert said in result.finished["error"]
    assert ["001"] == history(database)
    assert "other" in tables(database)


@each_unrun
def test_a_registered_function_that_has_not_run_is_not_applied(database, tmp_path, kind):
    """A registry's `up_func` is looked at as well."""
    code, said = UNRUN[kind]
    registry = tmp_path / "registry.py"
    registry.write_text(
        f"{code.replace('NAME', 'apply')}\n"
        "class Migration:\n"
        "    name, version, description = 'one', '1', ''\n"
        "    up_func = staticmethod(apply)\n"
        "class Runner:\n"
        "    migrations = [Migration()]\n"
        "def create_migration_runner(db_path):\n"
        "    return Runner()\n"
    )
    before = logical_digest(database)
    result = start(database, registry)
    assert 80 == result.code
    assert said in result.finished["error"]
    assert before == logical_digest(database)


@each_unrun
def test_what_has_not_run_is_not_applied_in_python(database, files, kind, recwarn):
    """The Python API raises, and Python warns of no coroutine that was never awaited."""
    code, said = UNRUN[kind]
    write_migrations(files, {"001_a.py": code.replace("NAME", "up")})
    before = logical_digest(database)
    runner = MigrationRunner(db_path=str(database), migrations_dir=str(files))
    with pytest.raises(MigrationFailedError, match=said):
        runner.run_pending_migrations(verbose=False)
    assert [] == [str(each.message) for each in recwarn]
    assert before == logical_digest(database)


@pytest.mark.parametrize(
    "result",
    [
        "conn.execute(SQL)",
        "conn.cursor().execute(SQL)",
        "[conn.execute(SQL)]",
        "conn.execute(SQL) and 1",
    ],
)
def test_what_a_lambda_returns_otherwise_is_its_own_business(database, files, result):
    """A cursor is no generator: the statement has been executed."""
    text = f"SQL = 'CREATE TABLE made (x)'\nup = lambda conn: {result}\n"
    write_migrations(files, {"001_a.py": text})
    assert 0 == start(database, files).code
    assert "made" in tables(database)


# --- what holds nothing ---------------------------------------------------------------

EMPTY = {
    "nothing": "",
    "blanks": " \n\t\n",
    "comments": "-- nothing\n/* at all */\n",
    "lone semicolons": ";;\n",
    "a section": "-- migrate:up\n-- nothing\n-- migrate:down\nDROP TABLE users;\n",
    "outside of a transaction": "-- migrate:up transaction:false\n",
    "a transaction around nothing": "BEGIN;\nCOMMIT;\n",
}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_file_without_a_statement_is_applied_with_a_warning(database, files, kind):
    """`migration.empty` names it; it counts as applied."""
    write_migrations(files, {"001_a.sql": EMPTY[kind], "002_b.sql": "CREATE TABLE made (x);"})
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout)
    warning = result.one("migration.empty")
    assert ("warning", "001", "a", "001_a.sql") == tuple(
        warning[key] for key in ("level", "version", "name", "file")
    )
    assert ["001", "002"] == history(database)


def test_an_empty_down_is_said_as_well(database, files):
    """Undoing by a section without a statement undoes nothing but the history's row."""
    write_migrations(files, {"001_a.sql": "-- migrate:up\nCREATE TABLE a (x);\n-- migrate:down\n"})
    assert not up(database, files).named("migration.empty")
    result = run_migrator("down", "--database", database, "--migrations", files)
    assert 0 == result.code
    assert "001" == result.one("migration.empty")["version"]
    assert [] == history(database)


def test_what_new_has_written_is_no_empty_file(database, files):
    """A template that nobody filled in fails."""
    assert 0 == run_migrator("new", "add email", "--sql", "--migrations", files).code
    before = logical_digest(database)
    result = start(database, files)
    assert 80 == result.code
    assert not result.named("migration.empty")
    assert before == logical_digest(database)


# --- what ends without its `;`, and what is cut off -------------------------------------

LAST = {
    "a table": ("CREATE TABLE made (x)", "made"),
    "a comment behind it": ("CREATE TABLE made (x) -- the end", "made"),
    "a trigger": (
        (
            "CREATE TABLE made (x);\n"
            "CREATE TRIGGER t AFTER INSERT ON made BEGIN DELETE FROM made WHERE x IS NULL; END"
        ),
        "t",
    ),
    "CRLF": ("CREATE TABLE a (x);\r\nCREATE TABLE made (x)\r\n", "made"),
    "a section": ("-- migrate:up\nCREATE TABLE made (x)\n-- migrate:down\nDROP TABLE made", "made"),
    "outside of a transaction": ("-- migrate:up transaction:false\nCREATE TABLE made (x)", "made"),
    "a transaction of its own": ("BEGIN;\nCREATE TABLE made (x);\nCOMMIT", "made"),
}


@pytest.mark.parametrize("kind", LAST)
def test_a_last_statement_needs_no_semicolon(database, files, kind):
    """It runs, as in SQLite's own shell."""
    text, name = LAST[kind]
    write_migrations(files, {"001_a.sql": text})
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert [(1,)] == rows(database, f"SELECT count(*) FROM sqlite_schema WHERE name = '{name}'")


CUT_OFF = {
    "a string": ("CREATE TABLE a (x);\nINSERT INTO a VALUES ('on and on", 2),
    "a name": ('CREATE TABLE a (x);\nSELECT "on', 2),
    "a comment": ("CREATE TABLE a (x);\n/* on\nand on", 2),
    "a trigger": (
        "CREATE TABLE a (x);\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\nDELETE FROM a;\n", 2,
    ),
    "a table": ("CREATE TABLE a (\n  x,\n  y", 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", CUT_OFF)
def test_what_is_cut_off_does_not_run(database, files, kind):
    """A file that lost its end is 78, with the line of what is never closed."""
    text, line = CUT_OFF[kind]
    write_migrations(files, {"001_a.sql": text})
    before = logical_digest(database)
    refused(start(database, files), database, before, "migrations.syntax", line)


UNPAIRED = {
    "BEGIN alone": ("BEGIN;\nCREATE TABLE a (x);\n", 1),
    "BEGIN IMMEDIATE alone": ("CREATE TABLE a (x);\nBEGIN IMMEDIATE;\nDROP TABLE a;\n", 2),
    "BEGIN TRANSACTION as the last word": ("CREATE TABLE a (x);\nBEGIN TRANSACTION", 2),
    "COMMIT alone": ("CREATE TABLE a (x);\nCOMMIT;\n", 2),
    "END TRANSACTION alone": ("CREATE TABLE a (x);\nEND TRANSACTION;\n", 2),
    "two of BEGIN": ("BEGIN;\nCREATE TABLE a (x);\nBEGIN;\nDROP TABLE a;\nCOMMIT;\n", 3),
    "two of COMMIT": ("BEGIN;\nCREATE TABLE a (x);\nCOMMIT;\nCOMMIT;\n", 4),
    "its half in the other section": (
        "-- migrate:up\nBEGIN;\nCREATE TABLE a (x);\n-- migrate:down\nCOMMIT;\nDROP TABLE a;\n", 2,
    ),
    "outside of a transaction": ("-- migrate:up transaction:false\nBEGIN;\nCREATE TABLE a (x);", 2),
    "COMMIT first, outside of a transaction": (
        "-- migrate:up transaction:false\nCOMMIT;\nCREATE TABLE a (x);\nBEGIN;", 2,
    ),
    "a savepoint": ("SAVEPOINT a;\nCREATE TABLE a (x);\n", 1),
    "a savepoint rolled back to": ("SAVEPOINT a;\nCREATE TABLE a (x);\nROLLBACK TO a;\n", 1),
    "the outer of two savepoints": ("SAVEPOINT a;\nSAVEPOINT b;\nRELEASE b;\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNPAIRED)
def test_a_transaction_without_its_other_half_does_not_run(database, files, kind):
    """In SQLite's shell it would do nothing, or fail: 78, with the line; `plan` says so too."""
    text, line = UNPAIRED[kind]
    write_migrations(files, {"001_a.sql": text})
    before = logical_digest(database)
    planned = run_migrator("plan", "--database", database, "--migrations", files)
    assert 78 == planned.code
    refused(start(database, files), database, before, "migrations.transaction", line)


PAIRED = {
    "BEGIN and COMMIT": "BEGIN;\nCREATE TABLE made (x);\nCOMMIT;\n",
    "BEGIN IMMEDIATE and END": "BEGIN IMMEDIATE;\nCREATE TABLE made (x);\nEND;\n",
    "one behind the other": "BEGIN;\nCREATE TABLE a (x);\nCOMMIT;\nBEGIN;\nCREATE TABLE made (x);\nEND;\n",
    "a trigger's BEGIN": (
        "CREATE TABLE made (x);\nCREATE TRIGGER t AFTER INSERT ON made BEGIN SELECT 1; END;\n"
    ),
    "savepoints": (
        "SAVEPOINT a;\nSAVEPOINT b;\nCREATE TABLE made (x);\nRELEASE SAVEPOINT b;\nRELEASE A;\n"
    ),
    "the outer savepoint alone": "SAVEPOINT a;\nSAVEPOINT b;\nCREATE TABLE made (x);\nRELEASE a;\n",
    "a savepoint inside a transaction": "BEGIN;\nSAVEPOINT a;\nCREATE TABLE made (x);\nCOMMIT;\n",
    "out of a runner's transaction and into another": (
        "COMMIT;\nPRAGMA foreign_keys = OFF;\nBEGIN;\nCREATE TABLE made (x);\n"
    ),
}


@pytest.mark.parametrize("kind", PAIRED)
def test_transactions_of_the_files_own_are_fine(database, files, kind):
    """Each with both halves, in any spelling, changes nothing."""
    write_migrations(files, {"001_a.sql": PAIRED[kind]})
    result = start(database, files)
    assert 0 == result.code, result.stderr
    assert "made" in tables(database)


def test_a_rolled_back_transaction_is_closed_outside_of_the_run_s(database, files):
    """With `transaction:false` a file may roll its own transaction back."""
    head = "-- migrate:up transaction:false\n"
    text = f"{head}BEGIN;\nCREATE TABLE a (x);\nROLLBACK;\nCREATE TABLE made (x);\n"
    write_migrations(files, {"001_a.sql": text})
    assert 0 == start(database, files).code
    assert {"made"} == tables(database) & {"a", "made"}


def test_an_applied_file_is_not_held_to_it(database, files):
    """What was applied before cannot be changed any more, and blocks nothing."""
    write_migrations(files, {"001_a.sql": "BEGIN;\nCREATE TABLE a (x);\n"})
    noted = ("baseline", "001", "--force", "--database", database, "--migrations", files)
    assert 0 == run_migrator(*noted).code
    write_migrations(files, {"002_b.sql": "CREATE TABLE made (x);"})
    assert 0 == start(database, files).code
    assert ["001", "002"] == history(database)


def test_a_down_without_its_other_half_does_not_run(database, files):
    """`down` refuses its own section, and what was applied stays so."""
    text = "-- migrate:up\nCREATE TABLE made (x);\n-- migrate:down\nBEGIN;\nDROP TABLE made;\n"
    write_migrations(files, {"001_a.sql": text})
    assert 0 == up(database, files).code
    result = run_migrator("down", "--database", database, "--migrations", files)
    assert (78, 4) == (result.code, result.finished["line"])
    assert ["001"] == history(database)
    with opened(database) as conn:
        assert [] == conn.execute("SELECT x FROM made").fetchall()
