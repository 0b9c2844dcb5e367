"""Another tool's command in place of migrations: run on a copy, judged, published as one."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.formats.support import content, installed, run_tool, schema
from tests.support.digest import logical_digest
from tests.support.files import listing, make_database, rows
from tests.support.processes import Result, run_entrypoint, run_migrator
from tests.support.scene import is_alive

START = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO users (name) VALUES ('a'), ('b'), ('c');
    """
SQLITE = f"{shlex.quote(sys.executable)} -c"


def python(code: str) -> str:
    """Return a command that runs Python on the copy, open as `c`."""
    text = (
        "import os, sqlite3, sys; c = sqlite3.connect(os.environ['MIGRATOR_DATABASE']); "
        f"{code}; c.commit(); c.close()"
    )
    return f"{SQLITE} {shlex.quote(text)}"


ADD = python("c.execute('ALTER TABLE users ADD COLUMN email TEXT')")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database that an application has made."""
    return make_database(tmp_path / "data" / "app.db", START)


def up(database: Path, command: str, *options: str, name: str = "up") -> Result:
    """Run a command of `migrator` with another tool's command."""
    return run_migrator(name, "--database", database, "--migrate-command", command, *options)


def test_what_the_command_did_to_the_copy_is_published(database: Path) -> None:
    """The run is one of any: backup, events, verification; its output is `migration.output`."""
    done = up(database, python("print('hello'); c.execute('CREATE TABLE tags (tag)')"))
    assert (done.code, done.stdout) == (0, f"Applied: {Path(sys.executable).name}.\n")
    assert done.one("plan.ready")["way"] == "copy"
    assert done.one("migration.output")["text"] == "hello"
    assert done.one("backup.finished")["bytes"] > 0
    assert [row[0] for row in schema(database)] == ["table", "table"]
    assert rows(database, "SELECT count(*) FROM users") == [(3,)]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_placeholders_are_the_copy(tmp_path: Path, mode: str) -> None:
    """`{database}` is its path, `{url}` its URL; the live path is neither."""
    database = make_database(tmp_path / "app.db", START, wal=mode == "wal")
    code = (
        "import os, sqlite3, sys; path, url = sys.argv[1:]; "
        "assert url == 'sqlite:///' + path and path == os.environ['MIGRATOR_DATABASE']; "
        f"assert path != {str(database)!r}; "
        "c = sqlite3.connect(path); c.execute('CREATE TABLE t (x)'); c.close()"
    )
    done = up(database, f"{SQLITE} {shlex.quote(code)} {{database}} {{url}}")
    assert done.code == 0, done.finished
    assert rows(database, "PRAGMA journal_mode") == [(mode,)]
    assert rows(database, "SELECT name FROM sqlite_master WHERE name = 't'") == [("t",)]


def test_a_first_install_is_built_by_the_command(tmp_path: Path) -> None:
    """Without a database it gets an empty file, which is put in place whole."""
    database = tmp_path / "app.db"
    done = up(database, python("c.execute('CREATE TABLE t (x)')"))
    assert (done.code, done.finished["outcome"]) == (0, "created")
    assert rows(database, "SELECT name FROM sqlite_master") == [("t",)]


def test_a_first_install_that_makes_nothing_is_explained(tmp_path: Path) -> None:
    """It has probably opened another database: the hint says how it gets the right one."""
    database = tmp_path / "app.db"
    done = up(database, "true")
    assert (done.code, done.finished["reason"]) == (80, "migration.failed")
    assert "`{database}`" in done.finished["hint"]
    assert not database.exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (python("c.execute('CREATE TABLE half (x)'); c.commit(); sys.exit(3)"), "exit code 3"),
        (python("c.execute('DROP TABLE nowhere')"), "no such table: nowhere"),
        (python("c.execute('DELETE FROM users'); c.commit(); os.kill(os.getpid(), 9)"), "SIGKILL"),
    ],
)
def test_a_command_that_fails_leaves_the_database_as_it_was(
    database: Path, command: str, said: str
) -> None:
    """Exit codes, signals, exceptions in its middle: 80, with its last line, compared."""
    before = logical_digest(database)
    done = up(database, command)
    assert (done.code, done.finished["outcome"]) == (80, "failed_restored")
    assert said in done.finished["error"]
    assert done.one("restore.finished")["identical"] is True
    assert logical_digest(database) == before


def test_a_command_that_opens_the_live_database_is_explained(database: Path) -> None:
    """It is locked meanwhile, and the hint says what to give the command instead."""
    code = (
        f"import sqlite3; c = sqlite3.connect({str(database)!r}, timeout=0.1); "
        "c.execute('CREATE TABLE t (x)')"
    )
    before = database.read_bytes()
    done = up(database, f"{SQLITE} {shlex.quote(code)}")
    assert done.code == 80
    assert str(database) in done.finished["hint"]
    assert "`{database}`" in done.finished["hint"]
    assert database.read_bytes() == before


def test_lost_rows_are_refused(database: Path) -> None:
    """A command cannot announce them: 81, until it is said for one start."""
    command = python("c.execute('DELETE FROM users WHERE id > 1')")
    before = logical_digest(database)
    done = up(database, command)
    assert (done.code, done.finished["reason"]) == (81, "rows.lost")
    assert "`--row-guard off`" in done.finished["hint"]
    assert logical_digest(database) == before
    assert up(database, command, "--row-guard", "off").code == 0
    assert rows(database, "SELECT count(*) FROM users") == [(1,)]


def test_a_copy_that_was_emptied_is_not_published(database: Path) -> None:
    """A file of zero bytes has no table that was dropped: 81, until it is said for one start."""
    before = logical_digest(database)
    done = up(database, "truncate -s 0 {database}")
    assert (done.code, done.finished["reason"]) == (81, "rows.lost")
    assert "`--row-guard off`" in done.finished["hint"]
    assert logical_digest(database) == before
    assert up(database, "truncate -s 0 {database}", "--row-guard", "off").code == 0
    assert schema(database) == []


def test_what_a_command_leaves_behind_is_ended_with_it(database: Path) -> None:
    """Not waited for, though it has the output open; and it writes nothing into the copy later."""
    late = f"sleep 600; {python('c.execute(chr(99))')}"
    made = "CREATE TABLE made (x)"
    code = (
        "import os, sqlite3, subprocess; c = sqlite3.connect(os.environ['MIGRATOR_DATABASE']);"
        f"c.execute({made!r}); c.commit();"
        f"print(subprocess.Popen(['sh', '-c', {late!r}], start_new_session=True).pid, flush=True)"
    )
    done = up(database, f"{SQLITE} {shlex.quote(code)}")
    assert done.code == 0, done.finished
    assert not is_alive(int(done.one("migration.output")["text"]))
    assert [name for _, name, *_ in schema(database)] == ["made", "users"]


def test_a_rebuilt_table_keeps_its_rows(database: Path) -> None:
    """A rebuild that copies all rows is none of a loss, a dropped table neither."""
    make_database(database, "CREATE TABLE old (x); INSERT INTO old VALUES (1)")
    code = (
        "c.executescript('CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT, e TEXT);"
        " INSERT INTO n (id, name) SELECT id, name FROM users; DROP TABLE users;"
        " ALTER TABLE n RENAME TO users; DROP TABLE old')"
    )
    done = up(database, python(code))
    assert done.code == 0, done.finished
    assert done.one("migration.finished")["rows_removed"] == {"old": 1}


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("os.unlink(f)", 80, "migration.failed"),
        ("os.unlink(f); os.mkdir(f)", 80, "migration.failed"),
        ("open(f, 'w').write('no database' * 1000)", 80, "migration.failed"),
        ("g = open(f, 'r+b'); g.seek(4096); g.write(bytes(4096)); g.close()", 81, None),
        ("open(f, 'w').close()", 81, "rows.lost"),
        ("os.unlink(f); sqlite3.connect(f).execute('CREATE TABLE z (x)')", 81, "rows.lost"),
    ],
)
def test_a_copy_that_is_removed_damaged_or_emptied_is_not_published(
    database: Path, code: str, exit_code: int, reason: str | None
) -> None:
    """It is the command's failure, not the disk's or the database's, which stays as it was."""
    before = logical_digest(database)
    text = f"import os, sqlite3, sys; f = sys.argv[1]; {code}"
    done = up(database, f"{SQLITE} {shlex.quote(text)} {{database}}")
    last = done.finished
    assert (done.code, last["outcome"]) == (exit_code, "failed_restored"), last
    assert last["reason"] in (reason, "verify.structure")
    assert "migrator verify" not in last["hint"]
    assert logical_digest(database) == before


def test_it_runs_once_for_each_version_of_the_application(database: Path) -> None:
    """And again where the schema is not the one that it left."""
    assert up(database, ADD, "--app-version", "1.0").stdout.startswith("Applied")
    assert up(database, ADD, "--app-version", "1.0").finished["outcome"] == "up_to_date"
    assert up(database, "false", "--app-version", "1.0", name="check").code == 0
    assert up(database, "false", "--app-version", "1.1", name="check").code == 1
    status = json.loads(up(database, ADD, "--json", "--app-version", "1.0", name="status").stdout)
    assert (status["format"], status["up_to_date"]) == ("command", True)
    make_database(database, "DROP TABLE users")
    assert up(database, "true", "--app-version", "1.0", name="check").code == 1


def test_it_runs_at_each_start_without_a_version(database: Path) -> None:
    """What it has changed is published; where it has changed nothing, nothing is written."""
    once = python("c.execute('CREATE TABLE IF NOT EXISTS t (x)')")
    assert up(database, once).finished["outcome"] == "migrated"
    before = (database.read_bytes(), database.stat().st_mtime_ns)
    done = up(database, once)
    assert (done.code, done.finished["outcome"]) == (0, "up_to_date")
    assert "has changed nothing" in done.one("migration.finished")["message"]
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before


def test_another_command_says_whether_it_is_needed(database: Path, tmp_path: Path) -> None:
    """0: nothing to do, and nothing runs; 1 or more: it runs, and is asked again on the copy."""
    asks = python(
        "sys.exit(not c.execute(\"SELECT 1 FROM pragma_table_info('users')"
        " WHERE name = 'email'\").fetchone())"
    )
    given = ("--pending-command", asks)
    assert up(database, ADD, *given, name="check").code == 1
    assert up(database, ADD, *given).finished["outcome"] == "migrated"
    before = listing(tmp_path)
    done = up(database, ADD, *given)
    assert (done.finished["outcome"], done.one("plan.ready")["level"]) == ("up_to_date", "info")
    assert up(database, ADD, *given, name="check").code == 0
    assert listing(tmp_path) == before


def test_a_command_after_which_something_is_still_pending_is_refused(database: Path) -> None:
    """It has worked on another database, or did not do all: 81, and nothing is published."""
    before = logical_digest(database)
    done = up(database, ADD, "--pending-command", "false")
    assert (done.code, done.finished["reason"]) == (81, "verify.pending")
    assert logical_digest(database) == before


@pytest.mark.parametrize("option", ["--migrate-command", "--pending-command"])
def test_a_program_that_is_not_there_is_refused_before_anything(
    database: Path, tmp_path: Path, option: str
) -> None:
    """78, naming it; no backup is made."""
    given = ["--migrate-command", "true"] if option == "--pending-command" else []
    before = database.read_bytes()
    done = run_migrator("up", "--database", database, *given, option, "no-such-program --now")
    assert (done.code, done.finished["reason"]) == (78, "migrations.command")
    assert "'no-such-program'" in done.finished["error"]
    assert database.read_bytes() == before
    assert not (tmp_path / "data" / "backups").exists()


def test_a_flag_beats_its_variable(database: Path) -> None:
    """The variables are not even looked at."""
    bad = {"MIGRATOR_MIGRATE_COMMAND": "'", "MIGRATOR_PENDING_COMMAND": "'"}
    given = ("--migrate-command", ADD, "--pending-command", "false")
    done = run_migrator("check", "--database", database, *given, env=bad)
    assert done.code == 1
    done = run_migrator("check", "--database", database, env=bad)
    assert done.code == 64


def test_a_command_that_only_says_what_is_pending_is_no_command(database: Path) -> None:
    """`--pending-command` alone is 64."""
    done = run_migrator("up", "--database", database, "--pending-command", "true")
    assert (done.code, done.finished["reason"]) == (64, "usage")
    assert "`--migrate-command`" in done.finished["hint"]


@pytest.mark.parametrize("words", [["down"], ["baseline", "1"]])
def test_the_commands_own_migrations_are_its_own(database: Path, words: list[str]) -> None:
    """There is nothing to undo or to note here: 64, with the ways that there are."""
    up(database, ADD, "--app-version", "1")
    done = run_migrator(
        *words, "--database", database, "--migrate-command", ADD, "--app-version", "1"
    )
    assert (done.code, done.finished["reason"]) == (64, "usage")
    assert "`migrator restore" in done.finished["hint"]


def test_new_makes_no_file_that_nobody_would_read(database: Path, tmp_path: Path) -> None:
    """The command's tool makes its own: 64, and nothing is written."""
    before = listing(tmp_path)
    done = run_migrator("new", "more", "--migrate-command", ADD, "--migrations", tmp_path / "m")
    assert (done.code, done.finished["reason"]) == (64, "usage")
    assert listing(tmp_path) == before


def test_the_application_starts_on_the_new_state(database: Path) -> None:
    """The same as an ENTRYPOINT."""
    done = run_entrypoint(
        "--database",
        database,
        "--migrate-command",
        ADD,
        "--",
        "sqlite3",
        database,
        "SELECT count(email), count(*) FROM users",
    )
    assert (done.code, done.stdout) == (0, "0|3\n")


def test_a_command_is_rehearsed_as_it_would_run(database: Path, tmp_path: Path) -> None:
    """0 and what it would change, or the code of the real start; the database stays."""
    before = (set(listing(tmp_path)), database.read_bytes())
    report = json.loads(up(database, ADD, "--json", name="rehearse").stdout)
    assert [each["state"] for each in report["migrations"]] == ["applied"]
    assert (set(listing(tmp_path)), database.read_bytes()) == before
    assert up(database, "false", name="rehearse").code == 80
    assert (set(listing(tmp_path)), database.read_bytes()) == before


# --- the real tools -----------------------------------------------------------


def test_dbmate_as_a_command(tmp_path: Path) -> None:
    """Afterwards dbmate itself finds nothing pending, and what fails leaves nothing."""
    files, database = tmp_path / "m", tmp_path / "app.db"
    files.mkdir()
    (files / "1_a.sql").write_text("-- migrate:up\nCREATE TABLE a (x);\n-- migrate:down\n")
    where = f"--migrations-dir {files} --no-dump-schema"
    command = f"{installed('dbmate')} --url sqlite:{{database}} {where}"
    assert up(database, f"{command} up").finished["outcome"] == "created"
    before = content(database)
    (files / "2_b.sql").write_text("-- migrate:up\nCREATE TABLE b (x);\n-- migrate:down\n")
    (files / "3_c.sql").write_text("-- migrate:up\nDROP TABLE nowhere;\n-- migrate:down\n")
    done = up(database, f"{command} up")
    assert (done.code, "no such table: nowhere" in done.finished["error"]) == (80, True)
    assert content(database) == before
    (files / "3_c.sql").unlink()
    assert up(database, f"{command} up").finished["outcome"] == "migrated"
    assert "Pending: 0" in run_tool(
        installed("dbmate"), "--url", f"sqlite:{database}", *shlex.split(where), "status"
    )


ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.get_x_argument(as_dictionary=True)["db"])
with engine.connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = {revision!r}, {down!r}


def upgrade():
{body}
"""


def revision(directory: Path, number: int, *lines: str) -> None:
    """Write a revision of Alembic's."""
    down = f"r{number - 1}" if number > 1 else None
    body = "\n".join(f"    {line}" for line in lines)
    text = REVISION.format(revision=f"r{number}", down=down, body=body)
    (directory / "versions" / f"r{number}.py").write_text(text)


def test_alembic_as_a_command(tmp_path: Path) -> None:
    """`alembic upgrade head` with `alembic check`'s sister: batch rebuilds keep their rows."""
    home, database = tmp_path / "alembic", tmp_path / "app.db"
    (home / "versions").mkdir(parents=True)
    (home / "alembic.ini").write_text(f"[alembic]\nscript_location = {home}\n")
    (home / "env.py").write_text(ENV)
    revision(
        home,
        1,
        "op.create_table('users', sa.Column('id', sa.Integer, primary_key=True),",
        "    sa.Column('name', sa.String))",
        "op.execute(\"INSERT INTO users (name) VALUES ('a'), ('b')\")",
    )
    alembic = f"{installed('alembic')} -c {home / 'alembic.ini'} -x db={{url}}"
    given = ("--pending-command", f"{alembic} current --check-heads")
    done = up(database, f"{alembic} upgrade head", *given)
    assert (done.code, done.finished["outcome"]) == (0, "created"), done.finished
    assert up(database, f"{alembic} upgrade head", *given).finished["outcome"] == "up_to_date"
    revision(
        home,
        2,
        "with op.batch_alter_table('users') as batch:",
        "    batch.alter_column('name', nullable=False)",
    )
    done = up(database, f"{alembic} upgrade head", *given)
    assert (done.code, done.finished["outcome"]) == (0, "migrated"), done.finished
    assert rows(database, "SELECT count(*) FROM users") == [(2,)]
    assert rows(database, "SELECT version_num FROM alembic_version") == [("r2",)]
    before = content(database)
    revision(
        home,
        3,
        "op.create_table('tags', sa.Column('id', sa.Integer))",
        "op.execute('DROP TABLE nowhere')",
    )
    assert up(database, f"{alembic} upgrade head", *given).code == 80
    assert content(database) == before


def test_yoyo_as_a_command(tmp_path: Path) -> None:
    """`yoyo apply --batch`; yoyo itself finds nothing left."""
    files, database = tmp_path / "m", tmp_path / "app.db"
    files.mkdir()
    (files / "1-a.sql").write_text("CREATE TABLE a (x);")
    yoyo = f"{installed('yoyo')} apply --batch --no-config-file --database {{url}} {files}"
    assert up(database, yoyo).finished["outcome"] == "created"
    (files / "2-b.py").write_text(
        "from yoyo import step\nsteps = [step('CREATE TABLE b (x)'), step('DROP TABLE nowhere')]\n"
    )
    before = content(database)
    assert up(database, yoyo).code == 80
    assert content(database) == before
    (files / "2-b.py").write_text("from yoyo import step\nsteps = [step('CREATE TABLE b (x)')]\n")
    assert up(database, yoyo).finished["outcome"] == "migrated"
    left = run_tool(
        installed("yoyo"),
        "list",
        "--batch",
        "--no-config-file",
        "--database",
        f"sqlite:///{database}",
        files,
    )
    assert left.count("\nA ") + left.startswith("A ") >= 2 or " U " not in left


DJANGO = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "shop"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv.pop(1)}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
execute_from_command_line(sys.argv)
"""
DJANGO_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = {dependencies}
    operations = [{operation}]
"""


def test_django_as_a_command(tmp_path: Path) -> None:
    """`manage.py migrate` with `migrate --check`: its own apps' migrations, and one that fails."""
    home, database = tmp_path / "site", tmp_path / "app.db"
    shop = home / "shop" / "migrations"
    shop.mkdir(parents=True)
    (home / "manage.py").write_text(DJANGO)
    for path in (home / "shop", shop):
        (path / "__init__.py").touch()

    def write(name: str, operation: str, dependencies: str = "[]") -> None:
        text = DJANGO_MIGRATION.format(operation=operation, dependencies=dependencies)
        (shop / f"{name}.py").write_text(text)

    write(
        "0001_initial",
        "migrations.CreateModel('Item', [('id', models.AutoField("
        "primary_key=True)), ('name', models.CharField(max_length=9))])",
    )
    manage = f"{shlex.quote(sys.executable)} {home / 'manage.py'} {{database}} migrate"
    given = ("--pending-command", f"{manage} --check")
    done = up(database, f"{manage} --noinput", *given)
    assert (done.code, done.finished["outcome"]) == (0, "created"), done.finished
    make_database(database, "INSERT INTO shop_item (name) VALUES ('a'), ('b')")
    write(
        "0002_price",
        "migrations.AddField('item', 'price', models.IntegerField(default=1))",
        "[('shop', '0001_initial')]",
    )
    done = up(database, f"{manage} --noinput", *given)
    assert (done.code, done.finished["outcome"]) == (0, "migrated"), done.finished
    assert rows(database, "SELECT name, price FROM shop_item") == [("a", 1), ("b", 1)]
    before = content(database)
    write("0003_bad", "migrations.RunSQL('DROP TABLE nowhere')", "[('shop', '0002_price')]")
    done = up(database, f"{manage} --noinput", *given)
    assert (done.code, "nowhere" in done.finished["error"]) == (80, True)
    assert content(database) == before
