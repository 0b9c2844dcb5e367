"""A database whose schema tries to run code: when it is opened, looked at, backed up, migrated."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.corpus.place import DATABASE, lay, sound
from tests.faults.planted import Bug
from tests.support.digest import logical_digest
from tests.support.files import make_database, opened, write_migrations
from tests.support.machine import tool
from tests.support.processes import Result, run_entrypoint, run_migrator

_SOURCE = """
#include <fcntl.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) { open(getenv("EVIL"), O_CREAT, 0600); }
int sqlite3_extension_init(void *db, char **error, void *api) { return 0; }
"""
_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"

_HUGE = """
CREATE TABLE goose_db_version (v, version_id AS (zeroblob(900000000)));
INSERT INTO goose_db_version (v) VALUES (1);
"""

ITEMS = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO items VALUES (1, 'a');"

SCHEMAS = {
    "trigger": "CREATE TRIGGER e AFTER UPDATE ON items BEGIN SELECT {}; END;",
    "view": "CREATE VIEW e AS SELECT {};",
    "view called as the history": "CREATE VIEW migrations AS SELECT {} AS version, 1 AS name;",
    "check": "CREATE TABLE e (x CHECK (x IS NULL OR {}));",
    "default": "CREATE TABLE e (x DEFAULT ({}));",
    "another tool's view": "CREATE VIEW schema_migrations AS SELECT {} AS version;",
}
"""Where a schema may call a function."""

CALLS = ("load_extension('{library}')", "writefile('{mark}', 'x')", "edit('x', 'touch {mark}')")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a library that leaves a mark as soon as it is loaded."""
    source, path = tmp_path / "evil.c", tmp_path / "evil.so"
    source.write_text(_SOURCE)
    command = [tool("cc"), "-shared", "-fPIC", "-o", str(path), str(source)]
    subprocess.run(command, check=True)
    return path


_WRITES = Bug(
    "a function that writes files is there for schemas",
    "migrator/session/guard.py",
    "        _set_up(connection, exclusive, temporary, header)\n",
    "        sqlite3.Connection.create_function(\n"
    "            connection, 'writefile', 2, lambda path, text: open(path, 'w').write(text)\n"
    "        )\n"
    "        _set_up(connection, exclusive, temporary, header)\n",
    "",
    (),
    (),
)


def everything(
    database: Path, migrations: Path, mark: Path, packages: Path | None = None
) -> list[Result]:
    """Look at a database in every way, and migrate it, with the mark's path in the environment."""
    where = ("--database", database, "--migrations", migrations)
    env = {"EVIL": str(mark), **({"PYTHONPATH": str(packages)} if packages else {})}
    # The working directory comes before PYTHONPATH.
    looks = [run_migrator(word, *where, env=env, cwd=packages) for word in ("check", "verify")]
    return [*looks, run_entrypoint(*where, "--mount", "ignore", env=env, cwd=packages)]


@pytest.fixture
def update(tmp_path: Path) -> Path:
    """Return migrations that write to the table with the trigger."""
    return write_migrations(
        tmp_path / "migrations", {"001_names.sql": "UPDATE items SET name = upper(name);"}
    )


@pytest.mark.parametrize("where", SCHEMAS)
def test_no_schema_loads_a_library(where: str, update: Path, tmp_path: Path, library: Path) -> None:
    """
    Nothing in a schema loads an extension, writes a file or starts a program.

    `load_extension` may not be called by a schema, and the two others are the shell's own.
    """
    mark = tmp_path / "mark"
    for number, call in enumerate(CALLS):
        text = call.format(library=library, mark=mark)
        database = make_database(tmp_path / f"data{number}" / "app.db", ITEMS)
        _write_schema(database, SCHEMAS[where].format(text))
        before = logical_digest(database)

        results = everything(database, update, mark)

        assert not mark.exists()
        assert 70 not in [result.code for result in results]
        if results[-1].code != 0:
            assert logical_digest(database) == before


def test_a_planted_function_is_called_by_a_schema(update: Path, tmp_path: Path) -> None:
    """The test above can fail: where SQLite has such a function, the trigger does call it."""
    mark = tmp_path / "mark"
    database = make_database(tmp_path / "data" / "app.db", ITEMS)
    _write_schema(database, SCHEMAS["trigger"].format(CALLS[1].format(mark=mark)))

    everything(database, update, mark, _WRITES.plant(tmp_path / "planted"))

    assert mark.exists()


def _write_schema(database: Path, sql: str) -> None:
    """Put a statement into the schema that SQLite itself might refuse to make."""
    kind, name = sql.split()[1].lower(), sql.split()[2]
    table = "items" if kind == "trigger" else name
    with opened(database) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        root = 0
        if kind == "table":
            conn.execute(f"CREATE TABLE {name} (x)")
            root = conn.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)
            ).fetchone()[0]
            conn.execute("DELETE FROM sqlite_schema WHERE name = ?", (name,))
        row = (kind, name, table, root, sql.rstrip(";"))
        conn.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)


def test_the_library_would_leave_its_mark(library: Path, tmp_path: Path) -> None:
    """The test above can fail: loaded on purpose, the library leaves its mark."""
    mark = tmp_path / "mark"
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    python = tool("python3")
    subprocess.run([python, "-c", code, library], env={"EVIL": str(mark)}, check=True)
    assert mark.exists()


@pytest.mark.parametrize(
    "schema",
    [
        f"CREATE VIEW migrations AS {_ENDLESS};",
        f"CREATE VIEW schema_migrations AS {_ENDLESS};",
        f"CREATE VIEW endless AS {_ENDLESS};",
        _HUGE,
        "".join(
            f"CREATE VIEW v{n + 1} AS SELECT * FROM v{n}, v{n} AS other;" for n in range(40)
        ).replace("FROM v0, v0", "FROM items, items"),
    ],
    ids=["history", "another tool's", "a view", "a huge value", "views of views"],
)
def test_no_schema_keeps_a_look_from_ending(schema: str, update: Path, tmp_path: Path) -> None:
    """What never ends, or grows beyond all memory, is not asked for by a look or a check."""
    database = make_database(tmp_path / "data/app.db", ITEMS + schema)
    for result in everything(database, update, tmp_path / "mark"):
        assert result.code in {0, 1, 78}, result.stderr


@pytest.mark.parametrize(
    "trigger",
    [
        "BEFORE INSERT ON migrations BEGIN SELECT RAISE(IGNORE); END",
        "AFTER INSERT ON migrations BEGIN DELETE FROM migrations WHERE version = new.version; END",
        "BEFORE INSERT ON migrations BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    ],
)
def test_a_trigger_on_the_history_makes_no_success(trigger: str, tmp_path: Path) -> None:
    """A run whose history rows are not what it wrote has failed, and the database is as before."""
    base = lay(sound("plain"), tmp_path / "place")
    with opened(base / DATABASE) as conn:
        conn.execute(f"CREATE TRIGGER evil {trigger}")
    before = logical_digest(base / DATABASE)

    result = run_entrypoint(
        *("--database", base / DATABASE, "--migrations", base / "migrations", "--mount", "ignore"),
    )

    assert result.code in {80, 81}, result.stderr
    assert logical_digest(base / DATABASE) == before


def test_a_note_is_no_statement(tmp_path: Path) -> None:
    """What stands in `state.json` or beside a backup goes into no statement and no other path."""
    base = lay(sound("plain"), tmp_path / "place")
    description = next((base / "data/backups").glob("*.json"))
    text = description.read_text()
    description.write_text(text.replace('"journal_mode": "delete"', '"journal_mode": "off"'))
    assert description.read_text() != text
    where = ("--database", base / DATABASE, "--migrations", base / "migrations")

    assert run_migrator("backups", *where, "--json").stdout.strip() == "[]"
    assert run_migrator("restore", "latest", *where).code == 65
