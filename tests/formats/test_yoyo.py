"""yoyo's directories and its tables, held against yoyo itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.formats.support import (
    content,
    installed,
    left_alone,
    migrator,
    refused,
    run_tool,
    schema,
    up,
    write,
)
from tests.support.files import make_database, rows
from tests.support.processes import run_migrator

FILES = {
    "0001.users.sql": (
        "-- Users.\r\n"
        "-- depends:\r\n"
        "\r\n"
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\r\n"
        "INSERT INTO users (name) VALUES ('a;b'), ('it''s');\r\n"
    ),
    "0001.users.rollback.sql": "DELETE FROM users;\nDROP TABLE users;\n",
    "0004.by-name-before.sql": (
        "-- depends: 0005.notes\n"
        "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN\n"
        "  UPDATE users SET name = name || '!' WHERE id = new.user;\n"
        "  DELETE FROM users WHERE id < 0;\n"
        "END\n"
    ),
    "0004.by-name-before.rollback.sql": "DROP TRIGGER noted;\n",
    "0005.notes.py": '''"""Notes, and what may fail."""

from yoyo import group, step

__depends__ = {"0001.users"}


def fill(conn):
    cursor = conn.cursor()
    cursor.execute("SELECT id, name FROM users ORDER BY id")
    for id, name in cursor.fetchall():
        cursor.execute("INSERT INTO notes (user, text) VALUES (?, ?)", (id, name.upper()))


def empty(conn):
    conn.execute("DELETE FROM notes")


steps = [
    step(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users, text TEXT)",
        "DROP TABLE notes",
    ),
    step(fill, empty),
    step("INSERT INTO nowhere VALUES (1)", ignore_errors="apply"),
    group(
        [
            step("INSERT INTO notes (text) VALUES ('gone')"),
            step("INSERT INTO nowhere VALUES (1)", "DELETE FROM nowhere", ignore_errors="rollback"),
        ],
        ignore_errors="all",
    ),
    group(step("UPDATE notes SET text = text || '.'"), step("SELECT count(*) FROM notes")),
]
''',
    "0006.compact.sql": "-- transactional: false\n-- depends: 0005.notes\nVACUUM;\n",
    "0006.compact.rollback.sql": "SELECT 1;\n",
    "0007.email.py": """from yoyo import step
__transactional__ = False
__depends__ = ["0006.compact"]
step("ALTER TABLE users ADD COLUMN email TEXT", "ALTER TABLE users DROP COLUMN email")
step("VACUUM")
""",
}
"""An order that is not that of the names, steps that fail and may, and two without a transaction."""

ORDER = ["0001.users", "0005.notes", "0004.by-name-before", "0006.compact", "0007.email"]

COLUMNS = "migration_hash, migration_id FROM _yoyo_migration ORDER BY rowid"


def yoyo(command: str, database: Path, migrations: Path, *words: object) -> str:
    """Run yoyo on a database."""
    where = ("--batch", "--no-config-file", "--database", f"sqlite:///{database}")
    return run_tool(installed("yoyo"), command, *where, *words, migrations)


def states(database: Path, migrations: Path) -> dict[str, str]:
    """Return what yoyo itself says of each migration: A for applied, U for unapplied."""
    lines = yoyo("list", database, migrations).splitlines()[2:]
    return {line.split()[1]: line.split()[0] for line in lines}


def without_times(database: Path) -> list[tuple[Any, ...]]:
    """Return what yoyo's tables hold, but for ids and times."""
    query = "SELECT migration_hash, migration_id, operation, username, comment FROM _yoyo_log"
    return [
        *rows(database, f"SELECT {COLUMNS}"),
        *sorted(rows(database, query), key=str),
        *rows(database, "SELECT version FROM _yoyo_version"),
        *rows(database, "SELECT * FROM yoyo_lock"),
    ]


def own(database: Path) -> list[str]:
    """Return the application's part of a database."""
    return [line for line in content(database) if "yoyo" not in line]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of yoyo's."""
    return write(tmp_path / "files", FILES)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database to which yoyo has applied everything, made once."""
    home = tmp_path_factory.mktemp("yoyo")
    yoyo("apply", home / "app.db", write(home / "files", FILES))
    return home / "app.db"


@pytest.fixture
def theirs(tmp_path: Path, applied: Path) -> Path:
    """Return a copy of that database."""
    return Path(shutil.copy(applied, tmp_path / "theirs.db"))


@pytest.mark.parametrize("first", [0, 1, 3, 5])
def test_yoyo_applies_some_and_we_the_rest(
    tmp_path: Path, files: Path, theirs: Path, first: int
) -> None:
    """Whoever begins, yoyo finds nothing pending, and schema, rows and history are its own."""
    names = ORDER[:first]
    part = {name: text for name, text in FILES.items() if name.startswith(tuple(names) or "-")}
    database = tmp_path / "app.db"
    if first:
        yoyo("apply", database, write(tmp_path / "part", part))
    done = up(database, files)
    assert done.code == 0, done.finished
    assert done.finished["applied"] == len(ORDER) - first
    assert set(states(database, files).values()) == {"A"}
    assert schema(database) == schema(theirs)
    assert own(database) == own(theirs)
    assert without_times(database) == without_times(theirs)


def test_we_apply_some_and_yoyo_the_rest(tmp_path: Path, files: Path, theirs: Path) -> None:
    """What we leave is what yoyo would have left: it goes on from there, and back."""
    part = {name: text for name, text in FILES.items() if name.startswith(tuple(ORDER[:3]))}
    database = tmp_path / "app.db"
    assert up(database, write(tmp_path / "part", part)).code == 0
    yoyo("apply", database, files)
    assert (schema(database), own(database)) == (schema(theirs), own(theirs))
    assert up(database, files).finished["outcome"] == "up_to_date"
    yoyo("rollback", database, files)
    yoyo("rollback", theirs, files)
    assert own(database) == own(theirs)


def test_the_columns_are_filled_as_yoyo_fills_them(tmp_path: Path, files: Path) -> None:
    """Times are UTC in yoyo's spelling, ids are UUIDs, and the user has a name."""
    database = tmp_path / "app.db"
    assert up(database, files).code == 0
    (found,) = rows(
        database,
        "SELECT count(*), sum(l.created_at_utc LIKE '____-__-__T__:__:__.%'),"
        " sum(applied_at_utc LIKE '____-__-__T__:__:__.%'), sum(length(l.id) = 36),"
        " sum(length(username) > 0), sum(length(hostname) > 0),"
        " sum(julianday('now') - julianday(applied_at_utc) BETWEEN 0 AND 0.1)"
        " FROM _yoyo_log AS l JOIN _yoyo_migration USING (migration_hash)",
    )
    assert found == (5,) * 7


def test_down_runs_rollbacks(tmp_path: Path, files: Path, theirs: Path) -> None:
    """The last applied goes first; yoyo finds them unapplied, and applies them again."""
    before = own(theirs)
    done = migrator("down", theirs, files, "--to", "0001.users")
    assert done.stdout == f"Undone: {', '.join(reversed(ORDER[1:]))}.\n"
    assert states(theirs, files) == {name: "AU"[name != "0001.users"] for name in ORDER}
    query = "SELECT migration_id FROM _yoyo_log WHERE operation = 'rollback' ORDER BY rowid"
    assert [name for (name,) in rows(theirs, query)] == list(reversed(ORDER[1:]))
    yoyo("apply", theirs, files)
    assert own(theirs) == before


def test_what_has_no_rollback_is_not_undone(tmp_path: Path) -> None:
    """What yoyo would note as undone, doing nothing, is refused here before anything runs."""
    files = write(
        tmp_path / "files",
        {
            "1.a.py": "from yoyo import step\nstep('CREATE TABLE a (x)')\n",
            "2.b.sql": "-- depends: 1.a\nCREATE TABLE b (x);\n",
            "3.c.py": "from yoyo import step\n__depends__ = {'2.b'}\n",
        },
    )
    database = tmp_path / "app.db"
    assert up(database, files).code == 0
    assert migrator("down", database, files).code == 0  # what does nothing
    before = database.read_bytes()
    refused(migrator("down", database, files), "migrations.no_down", "2.b.sql")
    assert migrator("baseline", database, files, "3.c").code == 0
    (files / "2.b.rollback.sql").write_text("DROP TABLE b;\n")
    refused(migrator("down", database, files, "--steps", 3), "migrations.no_down", "1.a.py")
    assert database.read_bytes() != before
    assert [name for _, name in rows(database, f"SELECT {COLUMNS}")] == ["1.a", "2.b", "3.c"]


def test_it_is_recognised_and_told(tmp_path: Path, files: Path, theirs: Path) -> None:
    """`status`, `plan`, `check` and `verify` work on it, in yoyo's order."""
    plan = json.loads(migrator("plan", tmp_path / "new.db", files, "--json").stdout)
    assert (plan["format"], plan["way"]) == ("yoyo", "copy")
    assert [each["version"] for each in plan["pending"]] == ORDER
    assert plan["pending"][0]["file"] == "0001.users.sql"
    status = json.loads(migrator("status", theirs, files, "--json").stdout)
    assert (status["format"], status["pending"], status["problems"]) == ("yoyo", [], [])
    assert [each["name"] for each in status["applied"]] == ORDER
    assert migrator("check", theirs, files).code == 0
    assert migrator("verify", theirs, files).code == 0


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": "import os, yoyo\n"},
        {"a.sql": "CREATE TABLE a (x);\n", "a.rollback.sql": "DROP TABLE a;\n"},
        {"a.sql": "-- A table.\n-- depends: b\nCREATE TABLE a (x);\n", "b.sql": "SELECT 1;\n"},
    ],
)
def test_the_marks(tmp_path: Path, files: dict[str, str]) -> None:
    """An import of yoyo, a rollback script and a dependency on a file are yoyo's alone."""
    done = migrator("status", tmp_path / "app.db", write(tmp_path / "m", files), "--json")
    assert json.loads(done.stdout)["format"] == "yoyo"


def test_a_comment_that_only_reads_like_a_dependency_is_no_mark(tmp_path: Path) -> None:
    """`-- depends: on what` names no file here."""
    files = write(tmp_path / "m", {"1_a.sql": "-- depends: on what\nCREATE TABLE a (x);\n"})
    assert up(tmp_path / "app.db", files).one("plan.ready")["format"] == "native"


@pytest.mark.parametrize(
    "other",
    [
        {"2_b.py": "def up(conn):\n    pass\n"},
        {"2_b.sql": "-- migrate:up\nSELECT 1;\n-- migrate:down\nSELECT 1;\n"},
    ],
)
def test_a_file_of_ours_makes_the_set_ours(tmp_path: Path, other: dict[str, str]) -> None:
    """Run as one of yoyo's it would do nothing, or both halves: neither mark nor table decide."""
    files = write(tmp_path / "m", {"1_a.sql": "-- depends: 1_a\nSELECT 1;\n", **other})
    assert up(tmp_path / "app.db", files).one("plan.ready")["format"] == "native"
    script = "CREATE TABLE _yoyo_migration (migration_hash, migration_id, applied_at_utc);"
    script += "INSERT INTO _yoyo_migration VALUES ('a', 'a', '');"
    refused(up(make_database(tmp_path / "b.db", script), files), "history.foreign", "yoyo")


def test_looking_runs_no_file(tmp_path: Path) -> None:
    """What a file depends on is read from its text."""
    mark = tmp_path / "run"
    files = write(
        tmp_path / "m",
        {
            "a.py": f"import yoyo\n__depends__ = {{'b'}}\nopen({str(mark)!r}, 'w')\n",
            "b.py": "__depends__ = set()\n__transactional__ = True\n",
        },
    )
    for command in ("status", "plan", "check"):
        assert migrator(command, tmp_path / "app.db", files).code in (0, 1)
    assert not mark.exists()
    assert up(tmp_path / "app.db", files).code == 0
    assert mark.exists()


def test_a_failing_step_is_told_with_its_line(tmp_path: Path, files: Path, theirs: Path) -> None:
    """Nothing of the run stays, and the line is that of the step."""
    write(
        files,
        {
            "0008.bad.py": "from yoyo import step\n"
            "__depends__ = {'0007.email'}\n"
            "step('CREATE TABLE first (x)')\n"
            "step(\n    'DROP TABLE nowhere'\n)\n"
        },
    )
    before = theirs.read_bytes()
    done = up(theirs, files)
    failed = done.one("migration.failed")
    assert (done.code, failed["line"], failed["statement"]) == (80, 4, "DROP TABLE nowhere")
    assert theirs.read_bytes() == before


def test_what_needs_no_transaction_is_told_how(tmp_path: Path) -> None:
    """The hint names what yoyo calls it."""
    files = write(tmp_path / "m", {"1.py": "from yoyo import step\nstep('VACUUM')\n"})
    done = up(tmp_path / "app.db", files)
    assert (done.code, done.one("migration.failed")["line"]) == (80, 2)
    assert "`__transactional__ = False`" in done.finished["hint"]


def test_yoyo_need_not_be_installed(tmp_path: Path) -> None:
    """The steps are ours, also beside yoyo itself; what else a file needs of yoyo is refused."""
    files = write(
        tmp_path / "m",
        {
            "1.py": "import yoyo\nassert not hasattr(yoyo, 'get_backend')\n"
            "yoyo.step('CREATE TABLE a (x)')\ntransaction(step('CREATE TABLE b (x)'))\n"
        },
    )
    database = tmp_path / "app.db"
    assert up(database, files).code == 0
    assert {row[1] for row in schema(database)} >= {"a", "b"}
    write(files, {"2.py": "import os\nfrom yoyo import get_backend\n"})
    refused(up(database, files), "migrations.import", "2.py, line 2", "--migrate-command")
    write(files, {"2.py": "from yoyo.migrations import step\n"})
    refused(up(database, files), "migrations.import", "2.py, line 1", "--migrate-command")


def test_rows_lost_are_guarded(tmp_path: Path, files: Path, theirs: Path) -> None:
    """A rebuild that leaves rows out is refused unless the file says so, in either language."""
    lossy = (
        "CREATE TABLE n AS SELECT * FROM notes WHERE id > 1; DROP TABLE notes;"
        " ALTER TABLE n RENAME TO notes;"
    )
    steps = "".join(f"step({each!r})\n" for each in lossy.rstrip(";").split(";"))
    head = "from yoyo import step\n__depends__ = {'0007.email'}\n"
    write(files, {"0008.lossy.py": head + steps})
    done = up(theirs, files)
    assert (done.code, done.finished["reason"]) == (81, "rows.lost")
    write(files, {"0008.lossy.py": f"{head}allow_row_loss = ('notes',)\n{steps}"})
    assert up(theirs, files).code == 0
    write(files, {"0009.lossy.sql": "-- depends: 0008.lossy\n" + lossy.replace("> 1", "> 2")})
    assert up(theirs, files).code == 81
    text = "-- depends: 0008.lossy\n-- migrate:allow-row-loss notes\n"
    write(files, {"0009.lossy.sql": text + lossy.replace("> 1", "> 2")})
    assert up(theirs, files).code == 0


def test_a_table_of_before_yoyo_6_is_brought_to_the_newer_form(
    tmp_path: Path, files: Path, theirs: Path
) -> None:
    """It is read as it is; the next run does with it what yoyo would do."""
    part = {name: text for name, text in FILES.items() if name.startswith("0001")}
    old = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
    old += "INSERT INTO users (name) VALUES ('a;b'), ('it''s');"
    old += "CREATE TABLE _yoyo_migration (id VARCHAR(255) NOT NULL PRIMARY KEY,ctime TIMESTAMP);"
    old += "INSERT INTO _yoyo_migration VALUES ('0001.users', '2016-01-02 03:04:05.678901');"
    ours = make_database(tmp_path / "ours.db", old)
    by_yoyo = make_database(tmp_path / "by-yoyo.db", old)
    assert up(ours, write(tmp_path / "part", part)).finished["outcome"] == "up_to_date"
    assert up(ours, files).code == 0
    yoyo("apply", by_yoyo, files)
    assert schema(ours) == schema(by_yoyo)
    assert without_times(ours) == without_times(by_yoyo)
    query = "SELECT applied_at_utc FROM _yoyo_migration WHERE migration_id = '0001.users'"
    assert rows(ours, query) == [("2016-01-02 03:04:05.678901",)]
    assert set(states(ours, files).values()) == {"A"}


def test_baseline_marks(tmp_path: Path, files: Path) -> None:
    """It notes in yoyo's tables what `yoyo mark` would note, in yoyo's order."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE users (id INTEGER, name TEXT);")
    done = migrator("baseline", database, files, "0004.by-name-before", "--format", "yoyo")
    assert done.code == 0, done.finished
    assert [name for _, name in rows(database, f"SELECT {COLUMNS}")] == ORDER[:3]
    assert rows(database, "SELECT DISTINCT operation FROM _yoyo_log") == [("mark",)]
    assert states(database, files)["0006.compact"] == "U"


def test_the_version_of_a_database_is_found(tmp_path: Path, files: Path, theirs: Path) -> None:
    """The tables that are yoyo's own are no part of a version's schema."""
    for path in (*files.glob("0004*"), *files.glob("0006*"), *files.glob("0007*")):
        path.unlink()
    script = "DROP TABLE _yoyo_log; DROP TABLE _yoyo_version; DROP TABLE yoyo_lock;"
    script += "DROP TABLE _yoyo_migration; DROP TRIGGER noted; ALTER TABLE users DROP email;"
    where = ("--database", make_database(theirs, script), "--migrations", files)
    done = run_migrator("baseline", *where, check_log=False)
    assert (done.code, "Its schema is that of 0005.notes:" in done.stdout) == (0, True)


def test_what_is_applied_and_has_no_file(tmp_path: Path, files: Path, theirs: Path) -> None:
    """Applied after the last one that is known it is newer, else missing."""
    for path in files.glob("0007*"):
        path.unlink()
    refused(up(theirs, files), "history.newer", "0007.email")
    write(files, {"0007.email.py": FILES["0007.email.py"], "0008.new.sql": "SELECT 1;\n"})
    for path in files.glob("0004*"):
        path.unlink()
    refused(up(theirs, files), "history.missing", "0004.by-name-before")


def test_what_an_applied_one_depends_on_is_out_of_order(files: Path, theirs: Path) -> None:
    """A file between applied ones runs, as with yoyo, unless one of them depends on it."""
    write(files, {"0002.late.sql": "CREATE TABLE late (x);\n"})
    assert up(theirs, files).code == 0
    write(
        files,
        {
            "0003.too-late.sql": "CREATE TABLE too_late (x);\n",
            "0006.compact.sql": "-- depends: 0003.too-late\nVACUUM;\n",
        },
    )
    refused(up(theirs, files), "history.out-of-order", "0003.too-late.sql", "0006.compact")


PY = "from yoyo import step\n"


@pytest.mark.parametrize(
    ("given", "reason", "told"),
    [
        ({"x.sql": "-- depends: nowhere\nSELECT 1;\n"}, "migrations.requires", ["x.sql, line 1"]),
        (
            {"x.py": "__depends__ = 'y'\n", "y.py": "__depends__ = ['x']\n"},
            "migrations.requires",
            ["x.py, line 1", "x → y → x"],
        ),
        ({"x.py": "__depends__ = {'x'}\n"}, "migrations.requires", ["x → x"]),
        ({"x.py": "\n__depends__ = here()\n"}, "migrations.literal", ["x.py, line 2"]),
        ({"x.py": "if 1:\n    __depends__ = {'y'}\n"}, "migrations.literal", ["x.py, line 2"]),
        ({"x.py": "__transactional__ = 'no'\n"}, "migrations.literal", ["x.py, line 1"]),
        ({"x.py": "__depends__ = {\n"}, "migrations.syntax", ["x.py"]),
        ({"x.py": PY + "step(1)\n"}, "migrations.import", ["x.py, line 2"]),
        ({"x.py": PY + "step('', ignore_errors='no')\n"}, "migrations.import", ["x.py, line 2"]),
        ({"x.py": "raise SystemExit\n"}, "migrations.import", ["x.py, line 1"]),
        (
            {"x.sql": "-- transactional: perhaps\nSELECT 1;\n"},
            "migrations.directive",
            ["x.sql, line 1"],
        ),
        (
            {"x.sql": "-- transactional: false\n-- transactional: false\nSELECT 1;\n"},
            "migrations.directive",
            ["x.sql, line 1"],
        ),
        (
            {"x.sql": "SELECT 1;\nVACUUM;\n"},
            "migrations.not_transactional",
            ["x.sql, line 2", "`-- transactional: false`"],
        ),
        (
            {"x.sql": "SELECT 1;\n", "x.rollback.sql": "\nVACUUM;\n"},
            "migrations.not_transactional",
            ["x.rollback.sql, line 2", "`-- transactional: false`", "of x.sql"],
        ),
        ({"x.sql": "SELECT 'a;\n"}, "migrations.syntax", ["x.sql, line 1"]),
        ({"x.sql": "SELECT 1;\n", "x.py": PY}, "migrations.duplicate", ["x.py", "x.sql"]),
        ({"x.rollback.sql": "SELECT 1;\n"}, "migrations.bad_name", ["x.rollback.sql", "x.sql"]),
        ({"post-apply.py": PY}, "migrations.other_tool", ["post-apply.py", "--migrate-command"]),
        ({"post-apply-2.sql": "SELECT 1;\n"}, "migrations.other_tool", ["post-apply-2.sql"]),
    ],
)
def test_bad_files_are_refused_when_they_are_read(
    files: Path, theirs: Path, given: dict[str, str], reason: str, told: list[str]
) -> None:
    """File and line are named, and nothing is written."""
    write(files, {"0009.new.sql": "SELECT 1;\n", **given})
    left_alone(theirs, files, reason=reason, told=told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("INSERT INTO yoyo_lock VALUES (1, '2024-01-01', 42);", "history.broken", "process 42"),
        ("INSERT INTO _yoyo_version VALUES (3, '');", "history.broken", "version 3"),
        ("DROP TABLE _yoyo_log;", "history.broken", "_yoyo_log"),
        ("DROP TABLE _yoyo_version;", "history.broken", "_yoyo_version"),
        (
            "INSERT INTO _yoyo_migration (migration_hash) VALUES ('a');",
            "history.broken",
            "the migration None",
        ),
        ("ALTER TABLE _yoyo_migration ADD COLUMN more;", "history.not_ours", "more"),
    ],
)
def test_bad_tables_are_refused(
    files: Path, theirs: Path, script: str, reason: str, told: str
) -> None:
    """The table and what to do about it are named, and nothing is written."""
    make_database(theirs, script)
    left_alone(theirs, files, "--format", "yoyo", reason=reason, told=told)


def test_another_name_of_the_table(tmp_path: Path, files: Path) -> None:
    """`--history-table` is yoyo's `--migration-table`."""
    database = tmp_path / "app.db"
    assert up(database, files, "--history-table", "done").code == 0
    table = ("--migration-table", "done")
    lines = yoyo("list", database, files, *table).splitlines()[2:]
    assert {line.split()[0] for line in lines} == {"A"}
