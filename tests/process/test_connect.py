"""`--connect FILE.py`: what the application brings to its database, on every connection of a run."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from textwrap import dedent

import pytest
import sqlite_vec

from migrator import MigrationRunner
from migrator.errors import MisfitError
from tests.support.digest import logical_digest
from tests.support.files import history, make_database, opened, rows, write_migrations
from tests.support.outcomes import Before, assert_failed, assert_succeeded
from tests.support.processes import Result, run_entrypoint, run_migrator

BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])
HEAD = {"in-place": "-- migrate:up\n", "copy": "-- migrate:up transaction:false\n"}
OUTSIDE = {"in-place": "", "copy": "transactional = False\n"}
OWN = """
    def connect(conn):
        conn.create_function("own", 1, lambda value: 1, deterministic=True)
        conn.create_collation("own", lambda a, b: (a > b) - (a < b))
"""
USERS = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO users (name) VALUES ('Ada'), ('Grace');
"""
TOKENIZER = """
    import _sqlite3
    import ctypes

    # SQLite's own, wherever Python's module has it from.
    lib = ctypes.CDLL(_sqlite3.__file__)
    lib.sqlite3_prepare_v2.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
    ]
    lib.sqlite3_bind_pointer.argtypes = [
        ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
    ]
    lib.sqlite3_step.argtypes = lib.sqlite3_finalize.argtypes = [ctypes.c_void_p]
    NAMED = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]

    class Api(ctypes.Structure):
        _fields_ = [
            ("version", ctypes.c_int),
            ("create", ctypes.CFUNCTYPE(ctypes.c_int, *NAMED, ctypes.c_void_p)),
            ("find", ctypes.CFUNCTYPE(ctypes.c_int, *NAMED)),
        ]

    def connect(conn):
        \"\"\"Give FTS5's own tokenizer another name, as an application would give it one of its own.\"\"\"
        database = ctypes.c_void_p.from_address(id(conn) + object.__basicsize__)
        statement, api = ctypes.c_void_p(), ctypes.POINTER(Api)()
        lib.sqlite3_prepare_v2(database, b"SELECT fts5(?1)", -1, ctypes.byref(statement), None)
        lib.sqlite3_bind_pointer(statement, 1, ctypes.byref(api), b"fts5_api_ptr", None)
        lib.sqlite3_step(statement)
        lib.sqlite3_finalize(statement)
        context, tokenizer = ctypes.c_void_p(), (ctypes.c_void_p * 3)()
        assert api.contents.find(api, b"unicode61", ctypes.byref(context), tokenizer) == 0
        assert api.contents.create(api, b"own", context, tokenizer, None) == 0
"""
VECTORS = """
    import sqlite_vec

    def connect(conn):
        conn.enable_load_extension(True)
        sqlite_vec.load(conn)
"""


class Place:
    """A database, its migrations, and what the application brings to it."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "data" / "app.db"
        self.files = write_migrations(directory / "m", {})
        self.connect = directory / "connect.py"

    @property
    def options(self) -> tuple[str, ...]:
        """The options that name all of them."""
        return (
            *("--database", str(self.database), "--migrations", str(self.files)),
            *("--connect", str(self.connect)),
        )

    def start(self, text: str = OWN, *more: str) -> Result:
        """Start the entrypoint with a text of the file."""
        self.connect.write_text(dedent(text))
        return run_entrypoint(*self.options, *more, "--", "echo", "app")

    def migrator(self, *words: str, text: str = OWN) -> Result:
        """Run `migrator`."""
        self.connect.write_text(dedent(text))
        return run_migrator(*words, *self.options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a database with rows."""
    place = Place(tmp_path)
    make_database(place.database, USERS)
    return place


# --- what it is for ----------------------------------------------------------------


NEEDS_IT = """
    UPDATE users SET name = own(name) || name;
    CREATE TABLE o (a TEXT COLLATE own PRIMARY KEY CHECK (own(a) > 0)) WITHOUT ROWID;
    INSERT INTO o VALUES ('b'), ('A');
    CREATE INDEX i ON users (name COLLATE own, own(id));
    CREATE TABLE c (a REFERENCES o (a));
    INSERT INTO c VALUES ('b');
"""


@BOTH
@pytest.mark.parametrize("exists", [True, False], ids=["there", "new"])
def test_migrations_have_what_the_application_has(place: Place, way: str, exists: bool) -> None:
    """In place, on a copy and in a new file; the checks miss nothing, also of the next run."""
    if not exists:
        place.database.unlink()
        write_migrations(place.files, {"000_users.sql": USERS})
    write_migrations(place.files, {"001_needs.sql": HEAD[way] + dedent(NEEDS_IT)})
    first = place.start()
    assert_succeeded(first, "migrated" if exists else "created", 1 if exists else 2)
    assert first.stdout == "app\n"
    write_migrations(place.files, {"002_more.sql": HEAD[way] + "DELETE FROM o WHERE a = own('x');"})
    again = place.start()
    assert_succeeded(again, "migrated", 1)
    for result in (first, again):
        assert not [each for each in result.events if each["level"] == "warning"]
    assert rows(place.database, "SELECT name FROM users") == [("1Ada",), ("1Grace",)]


@pytest.mark.parametrize("way", ["in-place", "copy"])
def test_what_could_not_be_checked_is_checked(place: Place, way: str) -> None:
    """A reference by a key with the application's collation: 81 with it, a warning without it."""
    with opened(place.database) as conn:
        conn.create_collation("own", lambda a, b: (a > b) - (a < b))
        conn.executescript(
            "CREATE TABLE o (a TEXT COLLATE own PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE c (a REFERENCES o (a));"
        )
    write_migrations(place.files, {"001_orphan.sql": HEAD[way] + "INSERT INTO c VALUES ('z');"})
    before = logical_digest_with(place.database)
    result = place.start()
    assert_failed(result, 81, "verify.foreign_keys", "failed_restored")
    assert logical_digest_with(place.database) == before
    without = run_entrypoint(*place.options[:4])
    assert_succeeded(without, "migrated", 1)
    assert [each for each in without.named("verify.finished") if each["level"] == "warning"]


def logical_digest_with(path: Path) -> list[tuple[str, ...]]:
    """Return what is in the database of the test above."""
    return [*rows(path, "SELECT name FROM users"), *rows(path, "SELECT a FROM c")]


@BOTH
def test_the_rows_of_a_table_of_the_applications_module_are_counted(place: Place, way: str) -> None:
    """An extension of PyPI on each connection: rows that a migration loses unsaid are missed."""
    text = "CREATE VIRTUAL TABLE v USING vec0 (a float[2]); INSERT INTO v (a) VALUES ('[1, 2]');"
    write_migrations(place.files, {"001_vectors.sql": HEAD[way] + text})
    assert_succeeded(place.start(VECTORS), "migrated", 1)
    code = (
        OUTSIDE[way] + 'def up(conn):\n    assert conn.execute("SELECT vec_version()").fetchone()\n'
    )
    write_migrations(place.files, {"002_version.py": code})
    used = place.start(VECTORS)
    assert_succeeded(used, "migrated", 1)
    assert not used.named("rows.uncounted")
    lost = (
        "CREATE TABLE t AS SELECT a FROM v WHERE 0; DROP TABLE v;"
        "CREATE VIRTUAL TABLE v USING vec0 (a float[2]); INSERT INTO v (a) SELECT a FROM t;"
    )
    write_migrations(place.files, {"003_lost.sql": HEAD[way] + lost})
    assert_failed(place.start(VECTORS), 81, "rows.lost", "failed_restored")
    assert history(place.database) == ["001", "002"]


@BOTH
def test_rows_that_lie_by_the_applications_collation_are_counted(place: Place, way: str) -> None:
    """A table without rowid is read by its key: a rebuild that comes back smaller is missed."""
    make = "CREATE TABLE {} (a TEXT COLLATE own PRIMARY KEY) WITHOUT ROWID;"
    write_migrations(
        place.files,
        {"001_make.sql": HEAD[way] + make.format("o") + "INSERT INTO o VALUES ('b'), ('A');"},
    )
    assert_succeeded(place.start(), "migrated", 1)
    rebuild = (
        "INSERT INTO n SELECT a FROM o WHERE a < 'a'; DROP TABLE o; ALTER TABLE n RENAME TO o;"
    )
    write_migrations(place.files, {"002_rebuild.sql": HEAD[way] + make.format("n") + rebuild})
    assert_failed(place.start(), 81, "rows.lost", "failed_restored")
    assert history(place.database) == ["001"]


def test_a_tokenizer_of_the_applications_is_there(place: Place) -> None:
    """Whatever reaches for SQLite's own connection below Python's finds it."""
    text = "CREATE VIRTUAL TABLE f USING fts5 (a, tokenize=own); INSERT INTO f VALUES ('hello');"
    write_migrations(place.files, {"001_text.sql": text})
    assert_failed(run_entrypoint(*place.options[:4]), 80, "migration.failed", "failed_restored")
    result = place.start(TOKENIZER)
    assert_succeeded(result, "migrated", 1)
    checked = place.migrator("verify", text=TOKENIZER)
    assert (checked.code, checked.events) == (0, [])


@BOTH
def test_what_a_migration_registers_itself_does_not_stay(place: Place, way: str) -> None:
    """Under the application's name: the next migration, and the checks, have the application's."""
    mine = """
        def up(conn):
            conn.create_function("own", 1, lambda value: -5, deterministic=True)
            conn.create_collation("own", lambda a, b: 0)
            conn.execute("UPDATE users SET name = own(name)")
    """
    theirs = "CREATE TABLE t (a CHECK (own(a) > 0)); INSERT INTO t VALUES (own(0));"
    files = {"001_mine.py": OUTSIDE[way] + dedent(mine), "002_theirs.sql": HEAD[way] + theirs}
    write_migrations(place.files, files)
    assert_succeeded(place.start(), "migrated", 2)
    assert rows(place.database, "SELECT DISTINCT name FROM users") == [("-5",)]
    assert rows(place.database, "SELECT a FROM t") == [(1,)]


def test_down_verify_and_restore_have_it_too(place: Place) -> None:
    """Each needs the function, and none warns of what it could not check."""
    up = "-- migrate:up\nUPDATE users SET name = own(name);\nCREATE INDEX i ON users (own(name));\n"
    down = "-- migrate:down\nDROP INDEX i;\nUPDATE users SET name = own(name) + 1;\n"
    write_migrations(place.files, {"001_a.sql": up + down})
    assert_succeeded(place.start(), "migrated", 1)
    for words in (("verify",), ("backup",), ("verify",), ("down",), ("restore", "latest")):
        result = place.migrator(*words)
        assert result.code == 0, result.stderr
        assert not [each for each in result.events if each["level"] == "warning"], words
    assert rows(place.database, "SELECT DISTINCT name FROM users") == [("1",)]


def test_the_file_is_asked_in_the_worker_only(place: Place) -> None:
    """The process that becomes the application never runs it, and with nothing pending nobody does."""
    text = f"""
        import os
        with open({str(place.connect.with_name("ran"))!r}, "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        def connect(conn): os.environ["LEFT"] = "behind"
    """
    place.connect.write_text(dedent(text))
    write_migrations(place.files, {"001_a.sql": "CREATE TABLE t (a);"})
    shell = ("--", "sh", "-c", "echo $$ $LEFT")
    first = run_entrypoint(*place.options, *shell)
    assert_succeeded(first, "migrated", 1)
    again = run_entrypoint(*place.options, *shell)
    assert_succeeded(again, "up_to_date")
    (worker,) = place.connect.with_name("ran").read_text().split()
    assert worker not in (*first.stdout.split(), *again.stdout.split())
    assert len(first.stdout.split()) == 1
    assert not list(place.connect.parent.glob("__pycache__"))


def test_the_variable_names_it_and_the_hint_of_what_lacks_names_the_option(place: Place) -> None:
    """Without it a migration that needs it is told of it; with MIGRATOR_CONNECT it runs."""
    write_migrations(place.files, {"001_a.sql": "UPDATE users SET name = BIN2B64(name);"})
    end = assert_failed(
        run_entrypoint(*place.options[:4]), 80, "migration.failed", "failed_restored"
    )
    assert "no such function: BIN2B64" in end["error"]
    assert "`--connect FILE.py` (MIGRATOR_CONNECT)" in end["hint"]
    text = "def connect(conn): conn.create_function('BIN2B64', 1, str.lower)\n"
    place.connect.write_text(text)
    env = {"MIGRATOR_CONNECT": str(place.connect)}
    assert_succeeded(run_entrypoint(*place.options[:4], env=env), "migrated", 1)
    assert rows(place.database, "SELECT name FROM users") == [("ada",), ("grace",)]


# --- what it may not ---------------------------------------------------------------


def body(line: str) -> str:
    """Return a file whose `connect` has one line."""
    return f"def connect(conn):\n    {line}\n"


BAD = {
    "does not compile": ("def connect(conn:", "migrations.import", "does not import"),
    "does not import": ("import nowhere_to_be_found", "migrations.import", "nowhere_to_be_found"),
    "ends its process": ("import sys; sys.exit(3)", "migrations.import", "SystemExit"),
    "is killed": ("import os; os._exit(0)", "migrations.import", "connect.py"),
    "has none": ("def connected(conn): pass", "connect.missing", "no function `connect`"),
    "is no function": ("connect = 5", "connect.missing", "no function `connect`"),
    "raises": (body("raise ValueError('own')"), "connect.failed", "line 2: `connect` failed: Val"),
    "ends": (body("raise SystemExit(3)"), "connect.failed", "SystemExit"),
    "dies": (body("import os; os._exit(0)"), "migrations.import", "connect.py"),
    "takes nothing": ("def connect(): pass", "connect.failed", "TypeError"),
    "is asynchronous": ("async def connect(conn): pass", "connect.failed", "asynchronous"),
    "is a generator": (body("yield"), "connect.failed", "generator"),
    "creates": (body("conn.execute('CREATE TABLE t (a)')"), "connect.failed", "may not run"),
    "inserts": (
        body("conn.executescript('CREATE TEMP TABLE t (a); INSERT INTO t VALUES (1)')"),
        "connect.failed",
        "may not run",
    ),
    "begins": (body("conn.execute('BEGIN')"), "connect.failed", "TRANSACTION BEGIN"),
    "attaches": (body("conn.execute(\"ATTACH 'x.db' AS x\")"), "connect.failed", "ATTACH"),
    "sets": (body("conn.execute('PRAGMA journal_mode = WAL')"), "connect.failed", "PRAGMA journal"),
    "swallows a refusal": (
        body("try: conn.execute('PRAGMA foreign_keys = ON')\n    except Exception: pass"),
        "connect.failed",
        "PRAGMA foreign_keys",
    ),
    "commits": (body("conn.commit()"), "connect.failed", "commit()"),
    "closes": (body("conn.close()"), "connect.failed", "close()"),
    "sets an authorizer": (
        body("conn.set_authorizer(None)"),
        "connect.failed",
        "set_authorizer()",
    ),
    "keeps it": (
        "def connect(conn):\n    global kept\n    kept = conn\n",
        "connect.failed",
        "keeps",
    ),
    "keeps it in a function": (
        body("conn.create_function('own', 0, lambda: conn.execute('SELECT 1').fetchone()[0])"),
        "connect.failed",
        "keeps",
    ),
    "keeps a cursor": (
        "kept = []\ndef connect(conn):\n    kept.append(conn.execute('SELECT 1'))\n",
        "connect.failed",
        "keeps",
    ),
    "replaces count": (
        body("conn.create_function('COUNT', -1, lambda *_: 0)"),
        "connect.failed",
        "count()",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_used_is_78_before_anything_is_written(
    place: Place, kind: str
) -> None:
    """Not even a backup is made: the file is named, with what to do."""
    text, reason, words = BAD[kind]
    write_migrations(place.files, {"001_a.sql": "CREATE TABLE t (a);"})
    before = Before.of(place.database)
    result = place.start(text)
    end = assert_failed(result, 78, reason)
    assert words in end["error"]
    assert "connect.py" in end["error"]
    assert "`up`" not in end["hint"], "it is no migration"
    assert not result.named("backup.started")
    before.assert_untouched(ours=True)
    assert result.stdout == ""


@pytest.mark.parametrize("directory", [False, True])
def test_a_file_that_is_not_there(place: Place, directory: bool) -> None:
    """78, with the option that named it; `verify` says so too. So is a directory in its place."""
    write_migrations(place.files, {"001_a.sql": "CREATE TABLE t (a);"})
    if directory:
        place.connect.mkdir()
    end = assert_failed(run_entrypoint(*place.options), 78, "connect.missing")
    assert "--connect" in end["hint"]
    assert ("is a directory" in end["error"]) is directory
    assert run_migrator("verify", *place.options).code == 78


def test_what_may_be_asked_may_be_asked(place: Place) -> None:
    """Queries of SQLite itself, and what Python keeps of a connection, which is put back."""
    text = """
        def connect(conn):
            assert conn.execute("SELECT sqlite_version()").fetchone()
            names = [row[1] for row in conn.execute("PRAGMA collation_list")]
            assert "own" not in names
            conn.create_collation("own", lambda a, b: (a > b) - (a < b))
            conn.row_factory = lambda cursor, row: None
            conn.text_factory = bytes
    """
    write_migrations(place.files, {"001_a.sql": "CREATE INDEX i ON users (name COLLATE own);"})
    assert_succeeded(place.start(text), "migrated", 1)


@BOTH
def test_one_that_fails_later_than_at_its_trial_undoes_the_run(place: Place, way: str) -> None:
    """The first connection is an empty one; what comes up at the database's own is 78 as well."""
    text = """
        calls = []
        def connect(conn):
            calls.append(1)
            if len(calls) > %d:
                raise ValueError("only now")
    """
    write_migrations(place.files, {"001_a.sql": HEAD[way] + "CREATE TABLE t (a);"})
    before = logical_digest(place.database)
    number, result = 1, place.start(text % 1)
    while result.code:
        assert (result.code, result.finished["reason"]) == (78, "connect.failed"), number
        assert logical_digest(place.database) == before
        number += 1
        result = place.start(text % number)
    assert number >= 3
    assert_succeeded(result, "migrated", 1)


# --- extensions, and the Python API ------------------------------------------------


def test_a_python_that_cannot_load_extensions_says_so(place: Place) -> None:
    """Where `sqlite3` was built without them the hint names the reason."""
    text = """
        def connect(conn):
            raise AttributeError(
                "'sqlite3.Connection' object has no attribute 'enable_load_extension'"
            )
    """
    write_migrations(place.files, {"001_a.sql": "CREATE TABLE t (a);"})
    end = assert_failed(place.start(text), 78, "connect.failed")
    assert "cannot load extensions" in end["hint"]


def test_extensions_cannot_be_loaded_by_a_migration_afterwards(place: Place) -> None:
    """What `connect` has allowed is allowed to it alone."""
    path = sqlite_vec.loadable_path()
    write_migrations(place.files, {"001_a.sql": f"SELECT load_extension('{path}');"})
    end = assert_failed(place.start(VECTORS), 80, "migration.failed", "failed_restored")
    assert "not authorized" in end["error"]


@pytest.mark.parametrize("given", ["function", "file"])
def test_the_api_takes_a_function_or_the_file(place: Place, given: str) -> None:
    """On the run's connections, not on the caller's own."""
    write_migrations(place.files, {"001_needs.sql": NEEDS_IT})
    place.connect.write_text(dedent(OWN))

    def own(conn: sqlite3.Connection) -> None:
        conn.create_function("own", 1, lambda _: 1, deterministic=True)
        conn.create_collation("own", lambda a, b: (a > b) - (a < b))

    connect = own if given == "function" else place.connect
    runner = MigrationRunner(place.database, place.files, connect=connect)
    assert runner.run_pending_migrations(verbose=False) == 1
    with opened(place.database) as conn, pytest.raises(sqlite3.OperationalError):
        conn.execute("SELECT own(1)")


def test_the_apis_function_is_held_to_the_same(place: Place) -> None:
    """It raises, with the cause, before anything is written."""
    write_migrations(place.files, {"001_a.sql": "CREATE TABLE t (a);"})
    before = logical_digest(place.database)

    def broken(conn: sqlite3.Connection) -> None:
        conn.execute("CREATE TABLE t (a)")

    runner = MigrationRunner(place.database, place.files, connect=broken)
    with pytest.raises(MisfitError) as caught:
        runner.run_pending_migrations(verbose=False)
    assert caught.value.reason == "connect.failed"
    assert "may not run" in caught.value.message
    assert logical_digest(place.database) == before
    assert not os.path.lexists(place.database.parent / "backups")


def test_a_takeover_and_a_rehearsal_have_it_too(place: Place) -> None:
    """The version that a database has is found with it, and what is pending is rehearsed with it."""
    write_migrations(place.files, {"000_users.sql": USERS, "001_needs.sql": NEEDS_IT})
    place.database.unlink()
    assert_succeeded(place.start(), "created", 2)
    with opened(place.database) as conn:
        conn.execute("DROP TABLE migrations")
    found = run_migrator("baseline", *place.options, check_log=False)
    assert "Its schema is that of 001" in found.stdout
    assert place.migrator("baseline", "001").code == 0
    write_migrations(place.files, {"002_more.sql": "INSERT INTO o VALUES (own(0) || 'c');"})
    rehearsed = place.migrator("rehearse")
    assert (rehearsed.code, rehearsed.finished["outcome"]) == (0, "rehearsed"), rehearsed.stderr
    assert history(place.database) == ["000", "001"]
