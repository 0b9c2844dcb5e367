"""Every kind of database that is met in the field, each upgraded both ways, and failing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import others
from tests.support.aside import backups, digest_aside, expected_digest, pending, status
from tests.support.digest import logical_digest
from tests.support.files import (
    AFTER_A_RUN,
    history,
    make_database,
    opened,
    rows,
    tables,
    write_migrations,
)
from tests.support.processes import run_entrypoint, run_migrator

CONTENT = """
    PRAGMA application_id = 4711;
    CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, photo BLOB);
    CREATE TABLE notes (
        id INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        text TEXT
    );
    CREATE INDEX notes_by_user ON notes (user_id);
    INSERT INTO users (name, photo) VALUES ('Ada', randomblob(3000)), ('Grüße', x'00ff');
    INSERT INTO notes (user_id, text) VALUES (1, 'one'), (2, NULL), (2, 'three');
"""

OBJECTS = """
    CREATE TABLE prices (
        id INTEGER PRIMARY KEY,
        net REAL,
        gross REAL GENERATED ALWAYS AS (net * 1.19) VIRTUAL,
        label TEXT GENERATED ALWAYS AS ('# ' || id) STORED
    );
    CREATE TABLE settings (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
    CREATE VIEW expensive AS SELECT * FROM prices WHERE gross > 100;
    CREATE TABLE log (text TEXT);
    CREATE TRIGGER on_note AFTER INSERT ON notes BEGIN
        INSERT INTO log VALUES ('note; ' || new.id);
    END;
    CREATE TRIGGER on_view INSTEAD OF INSERT ON expensive BEGIN
        INSERT INTO prices (net) VALUES (new.net);
    END;
    CREATE UNIQUE INDEX by_label ON prices (label) WHERE net > 0;
    INSERT INTO prices (net) VALUES (50), (500);
    INSERT INTO settings VALUES ('a', 1), ('b', 'two'), ('c', x'03');
"""

FTS = """
    CREATE VIRTUAL TABLE docs USING fts5(title, body);
    INSERT INTO docs VALUES ('first', 'the quick brown fox'), ('second', 'lazy dogs');
"""

RTREE = """
    CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1);
    INSERT INTO boxes VALUES (1, 0, 1, 0, 1), (2, 5, 6, 5, 6);
"""


def with_functions(path: Path) -> Path:
    """Make a database whose CHECK and index need functions of the application."""
    make_database(path, CONTENT)
    with opened(path) as conn:
        conn.create_function("is_code", 1, lambda text: text.isalpha(), deterministic=True)
        conn.create_function("folded", 1, str.casefold, deterministic=True)
        conn.create_collation("german", lambda one, two: (one > two) - (one < two))
        conn.executescript(
            """
            CREATE TABLE codes (code TEXT CHECK (is_code(code)));
            CREATE INDEX codes_folded ON codes (folded(code));
            CREATE TABLE words (word TEXT COLLATE german PRIMARY KEY);
            INSERT INTO codes VALUES ('abc'), ('DEF');
            INSERT INTO words VALUES ('eins'), ('zwei');
            """
        )
    return path


def persisted_journal(path: Path) -> Path:
    """Leave a journal whose header was zeroed, as `journal_mode=PERSIST` does."""
    make_database(path, CONTENT)
    with opened(path) as conn:
        conn.execute("PRAGMA journal_mode = PERSIST")
        conn.execute("UPDATE notes SET text = 'changed' WHERE id = 1")
    assert Path(f"{path}-journal").read_bytes()[:8] == bytes(8)
    return path


def truncated_journal(path: Path) -> Path:
    """Leave an empty journal, as `journal_mode=TRUNCATE` does."""
    make_database(path, CONTENT)
    with opened(path) as conn:
        conn.execute("PRAGMA journal_mode = TRUNCATE")
        conn.execute("UPDATE notes SET text = 'changed' WHERE id = 1")
    assert Path(f"{path}-journal").stat().st_size == 0
    return path


def hot_journal(path: Path) -> Path:
    """Leave a hot journal, which the next one to open the database rolls back."""
    make_database(path, CONTENT)
    others.leave_hot_journal(path)
    return path


def left_wal(path: Path, *, shm: bool = True) -> Path:
    """Leave a `-wal` with commits that are nowhere else."""
    make_database(path, CONTENT)
    others.leave_wal(path)
    if not shm:
        Path(f"{path}-shm").unlink()
    return path


def empty(path: Path) -> Path:
    """Make a file of zero bytes, which is a valid empty database."""
    path.touch()
    return path


def _made(script: str = CONTENT, **options: object) -> Callable[[Path], Path]:
    return lambda path: make_database(path, script, **options)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[Path], Path]] = {
    "rollback": _made(),
    "wal": _made(wal=True),
    "hot-journal": hot_journal,
    "left-wal": left_wal,
    "left-wal-no-shm": lambda path: left_wal(path, shm=False),
    "persist": persisted_journal,
    "truncate": truncated_journal,
    "empty": empty,
    "functions": with_functions,
    "objects": _made(CONTENT + OBJECTS),
    "objects-wal": _made(CONTENT + OBJECTS, wal=True),
    "fts5": _made(CONTENT + FTS),
    "rtree": _made(CONTENT + RTREE),
    "utf-16le": _made(encoding="'UTF-16le'"),
    "utf-16be": _made(encoding="'UTF-16be'", wal=True),
    "vacuum-full": _made(auto_vacuum="FULL"),
    "vacuum-incremental": _made(auto_vacuum="INCREMENTAL", wal=True),
    **{
        f"page-{size}": _made(page_size=size, wal=bool(number % 2))
        for number, size in enumerate((512, 1024, 2048, 8192, 16384, 32768, 65536))
    },
}

COMMON_SIZES = {"page-1024", "page-2048", "page-8192", "page-16384", "page-32768"}
"""Sizes of pages between the extremes, which are enough in some tests."""

NEW = """
CREATE TABLE fresh (id INTEGER PRIMARY KEY, text TEXT);
INSERT INTO fresh (text) VALUES ('a; b'), ('c');
CREATE INDEX fresh_text ON fresh (text);
"""

NEW_USERS = """
ALTER TABLE users ADD COLUMN email TEXT DEFAULT 'none';
UPDATE users SET name = name || '!';
"""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of one kind of database."""
    return str(request.param)


def arrange(kind: str, volume: Path) -> Path:
    """Make a database of that kind."""
    try:
        return KINDS[kind](volume / "app.db")
    except sqlite3.OperationalError as error:
        if "no such module" in str(error):
            pytest.skip(f"this SQLite has {error}")
        raise


def changes(kind: str) -> str:
    """Return what the migrations of the good run do."""
    return NEW if kind == "empty" else NEW + NEW_USERS


def up(database: Path, migrations: Path, *args: str):
    """Run `migrator up`."""
    return run_migrator("up", "--database", database, "--migrations", migrations, *args)


def assert_no_litter(database: Path) -> None:
    """Nothing of the run's own is left beside the database, and no hot journal."""
    home = database.with_name(database.name + ".migrator")
    assert sorted(path.name for path in home.iterdir()) == AFTER_A_RUN
    assert not any(path.name.startswith(".app") for path in (database.parent / "backups").iterdir())


def test_in_place(kind, volume, tmp_path):
    """A run in place leaves every kind of database as plain SQL would have, and its header as it was."""
    database = arrange(kind, volume)
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": changes(kind)})
    expected = expected_digest(database, changes(kind))
    before = digest_aside(database)

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    assert "in-place" == result.one("plan.ready")["way"]
    assert ["001"] == history(database)
    assert expected == digest_aside(database, without=("migrations",))
    assert before == logical_digest(Path(backups(database)[0]["path"])) or "wal" in _mode(database)
    assert_no_litter(database)


def test_on_copy(kind, volume, tmp_path):
    """A run on a copy leaves every kind of database as plain SQL would have, and its header as it was."""
    database = arrange(kind, volume)
    text = "-- migrate:up transaction:false\n" + changes(kind)
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": text})
    expected = expected_digest(database, changes(kind))
    inode = database.stat().st_ino

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    assert "copy" == result.one("plan.ready")["way"]
    assert ["001"] == history(database)
    assert expected == digest_aside(database, without=("migrations",))
    assert inode == database.stat().st_ino
    assert_no_litter(database)


@pytest.mark.parametrize("transaction", ["true", "false"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in COMMON_SIZES])
def test_failing(kind, transaction, volume, tmp_path):
    """A failing run leaves every kind of database exactly as it was, whichever way it went."""
    database = arrange(kind, volume)
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_new.sql": changes(kind),
            "002_fails.sql": f"""
                -- migrate:up transaction:{transaction}
                CREATE TABLE half (id INTEGER);
                INSERT INTO half VALUES (1);
                INSERT INTO nowhere VALUES (1);
                """,
        },
    )
    before = digest_aside(database)

    result = up(database, migrations)

    assert 80 == result.code, result.stderr
    assert before == digest_aside(database)
    assert before == logical_digest(database)
    assert {"fresh", "half", "migrations"}.isdisjoint(tables(database))
    assert ["001", "002"] == pending(database, migrations)
    restored = result.one("restore.finished")
    assert ("rollback" if transaction == "true" else "discarded") == restored["method"]
    assert restored["identical"] is True
    assert "failed_restored" == result.finished["outcome"]
    failed = result.one("migration.failed")
    assert ("002", 4) == (failed["version"], failed["line"])
    assert_no_litter(database)


def _mode(database: Path) -> str:
    return str(rows(database, "PRAGMA journal_mode")[0][0])


@pytest.mark.parametrize(
    "kind", ["rollback", "wal", "objects", "page-512", "page-65536", "left-wal"]
)
def test_backup_restored_by_hand(kind, volume, tmp_path):
    """`restore latest` gives every kind of database back, its journal mode included."""
    database = arrange(kind, volume)
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": changes(kind)})
    before = digest_aside(database)
    assert 0 == up(database, migrations).code

    result = run_migrator("restore", "latest", "--database", database, "--migrations", migrations)

    assert 0 == result.code, result.stderr
    assert before == digest_aside(database)
    assert ["001"] == pending(database, migrations)


# --- what is no database, or none any more ----------------------------------


def truncated(path: Path) -> Path:
    """Cut a database in the middle of its pages."""
    make_database(path, CONTENT)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return path


def short_header(path: Path) -> Path:
    """Cut a database in its header."""
    make_database(path, CONTENT)
    with path.open("r+b") as file:
        file.truncate(60)
    return path


def damaged_page(path: Path) -> Path:
    """Overwrite the root page of a table with noise."""
    make_database(path, CONTENT)
    root = rows(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'notes'")[0][0]
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(bytes(range(255, -1, -1)) * 16)
    return path


def damaged_schema(path: Path) -> Path:
    """Overwrite the b-tree of the schema with noise, the header aside."""
    make_database(path, CONTENT)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)
    return path


def text_file(path: Path) -> Path:
    """Call a text a database."""
    path.write_text("This is no database at all, only some text.\n" * 200)
    return path


def short_text(path: Path) -> Path:
    """Call a very short text a database."""
    path.write_text("hello\n")
    return path


DAMAGES = (truncated, short_header, damaged_page, damaged_schema, text_file, short_text)


@pytest.mark.parametrize("transaction", ["true", "false"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(damage, transaction, volume, tmp_path):
    """A damaged database is refused with 65 before anything runs, and not one byte of it changes."""
    database = damage(volume / "app.db")
    marker = tmp_path / "ran"
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_new.py": f"""
                transactional = {transaction == "true"}

                def up(conn):
                    open({str(marker)!r}, "w").close()
                """
        },
    )
    content = database.read_bytes()

    result = run_entrypoint(
        "--database", database, "--migrations", migrations, "--", "echo", "started"
    )

    assert 65 == result.code, result.stderr
    assert "" == result.stdout
    assert content == database.read_bytes()
    assert not marker.exists()
    assert [] == backups(database)
    assert "refused" == result.finished["outcome"]
    assert str(database) in result.finished["error"]
    assert result.finished["hint"]


@pytest.mark.parametrize("command", ["up", "status", "check", "verify"])
def test_directory(command, volume, migrations):
    """A directory in place of the database is 65 at once, and what is in it stays."""
    database = volume / "app.db"
    database.mkdir()
    (database / "precious").write_text("x")

    result = run_migrator(
        command, "--database", database, "--migrations", migrations, "--wait-timeout", "30"
    )

    assert (0 if command == "status" else 65) == result.code, result.stderr
    assert ["precious"] == [path.name for path in database.iterdir()]
    assert ["app.db"] == [path.name for path in volume.iterdir()]


def test_symlinked(volume, tmp_path, migrations, database):
    """A symbolic link to a database leads to the one place where all of ours lies, and stays a link."""
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(database)

    result = up(link, migrations)

    assert 0 == result.code, result.stderr
    assert ["link.db"] == [path.name for path in link.parent.iterdir()]
    assert link.is_symlink()
    assert str(database) == result.finished["database"]
    assert {"app.db.migrator", "backups", "app.db"} == {path.name for path in volume.iterdir()}
    assert ["001", "002"] == history(database)


def test_dangling_link(volume, tmp_path, migrations):
    """A link to a database that does not exist yet makes it where the link leads."""
    link = tmp_path / "link.db"
    link.symlink_to(volume / "app.db")
    good = write_migrations(tmp_path / "m", {"001_new.sql": NEW})

    result = up(link, good)

    assert 0 == result.code, result.stderr
    assert link.is_symlink()
    assert ["001"] == history(volume / "app.db")


NAMES = [
    "with space.db",
    'it\'s "quoted".db',
    "100%20.db",
    "what?mode=memory.db",
    "a#fragment.db",
    "new\nline.db",
    "-dash.db",
    "grüße.db",
    "no-suffix",
    "[brackets]*.db",
]


@pytest.mark.parametrize(
    ("name", "transaction"),
    [*((name, "true") for name in NAMES), *((name, "false") for name in NAMES[:4])],
)
def test_names(name, transaction, volume, tmp_path):
    """Whatever characters its path has, a database is upgraded, backed up and restored."""
    database = make_database(volume / f"dir {name}" / name, CONTENT)
    text = f"-- migrate:up transaction:{transaction}\n" + NEW
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": text})
    before = digest_aside(database)
    given = f"--database={database}"

    result = run_migrator("up", given, "--migrations", migrations)

    assert 0 == result.code, result.stderr
    assert {name, f"{name}.migrator", "backups"} == {p.name for p in database.parent.iterdir()}
    assert "fresh" in tables(database)
    result = run_migrator("restore", "latest", given, "--migrations", migrations)
    assert 0 == result.code, result.stderr
    assert before == digest_aside(database)
    assert "2 applied" not in run_migrator("status", given, "--migrations", migrations).stdout


# --- what only way B can change -----------------------------------------------


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
@pytest.mark.parametrize("size", [512, 1024, 8192, 65536])
def test_page_size_changed(size, wal, volume, tmp_path):
    """A migration may change the page size, in either journal mode, and nothing else changes."""
    database = make_database(volume / "app.db", CONTENT + OBJECTS, wal=wal)
    content = rows(database, "SELECT * FROM users, notes")
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_pages.py": f"""
                transactional = False

                def up(conn):
                    mode = conn.execute("PRAGMA journal_mode").fetchone()[0]
                    conn.execute("PRAGMA journal_mode = DELETE")
                    conn.execute("PRAGMA page_size = {size}")
                    conn.execute("VACUUM")
                    conn.execute("PRAGMA journal_mode = " + mode)
                """
        },
    )

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    assert [(size,)] == rows(database, "PRAGMA page_size")
    assert ("wal" if wal else "delete") == _mode(database)
    assert content == rows(database, "SELECT * FROM users, notes")
    assert [(0,)] == rows(database, "PRAGMA user_version")
    assert [(4711,)] == rows(database, "PRAGMA application_id")
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")


@pytest.mark.parametrize(("old", "new"), [("delete", "wal"), ("wal", "delete")])
def test_journal_mode_changed(old, new, volume, tmp_path):
    """A migration may change the journal mode in either direction, and the next start keeps it."""
    database = make_database(volume / "app.db", CONTENT, wal=old == "wal")
    migrations = write_migrations(
        tmp_path / "m",
        {"001_mode.sql": f"-- migrate:up transaction:false\nPRAGMA journal_mode = {new};\n"},
    )

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    assert new == _mode(database)
    assert "up_to_date" == up(database, migrations).finished["outcome"]
    assert new == _mode(database)
    back = run_migrator("restore", "latest", "--database", database, "--migrations", migrations)
    assert 0 == back.code, back.stderr
    assert old == _mode(database)


@pytest.mark.parametrize(("old", "new"), [("delete", "wal"), ("wal", "delete")])
def test_journal_mode_not_changed_by_failure(old, new, volume, tmp_path):
    """A journal mode that a failing run has changed is as before, with all rows."""
    database = make_database(volume / "app.db", CONTENT, wal=old == "wal")
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_mode.sql": f"-- migrate:up transaction:false\nPRAGMA journal_mode = {new};\n",
            "002_fails.sql": "INSERT INTO nowhere VALUES (1);",
        },
    )
    before = digest_aside(database)

    result = up(database, migrations)

    assert 80 == result.code, result.stderr
    assert before == digest_aside(database)
    assert ["001", "002"] == pending(database, migrations)
    assert result.one("restore.finished")["identical"] is True


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_vacuum(wal, volume, tmp_path):
    """`VACUUM` in a migration of its own makes the file smaller, on the same inode."""
    database = make_database(
        volume / "app.db",
        CONTENT + "CREATE TABLE big (b BLOB); INSERT INTO big VALUES (zeroblob(2000000));",
        wal=wal,
    )
    inode, size = database.stat().st_ino, database.stat().st_size
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_drop.sql": "DROP TABLE big;",
            "002_vacuum.sql": "-- migrate:up transaction:false\nVACUUM;\n",
            "003_after.sql": NEW,
        },
    )

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    assert ["001", "002", "003"] == history(database)
    assert inode == database.stat().st_ino
    assert size / 10 > database.stat().st_size
    assert ("wal" if wal else "delete") == _mode(database)


def test_auto_vacuum_changed(volume, tmp_path):
    """A migration may change `auto_vacuum`, which needs a `VACUUM` to take effect."""
    database = make_database(volume / "app.db", CONTENT)
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_auto.sql": """
                -- migrate:up transaction:false
                PRAGMA auto_vacuum = FULL;
                VACUUM;
                """
        },
    )

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    assert [(1,)] == rows(database, "PRAGMA auto_vacuum")
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")


@pytest.mark.parametrize("transaction", ["true", "false"])
def test_header_values_set(transaction, volume, tmp_path):
    """A migration may set `user_version` and `application_id`; a failing one leaves the old ones."""
    database = make_database(volume / "app.db", CONTENT)
    text = f"""
        -- migrate:up transaction:{transaction}
        PRAGMA user_version = 8;
        PRAGMA application_id = 99;
        """
    migrations = write_migrations(
        tmp_path / "m",
        {"001_version.sql": text, "002_fails.sql": "INSERT INTO nowhere VALUES (1);"},
    )
    assert 80 == up(database, migrations).code
    assert [(0,)] == rows(database, "PRAGMA user_version")
    assert [(4711,)] == rows(database, "PRAGMA application_id")

    (migrations / "002_fails.sql").unlink()
    assert 0 == up(database, migrations).code
    assert [(8,)] == rows(database, "PRAGMA user_version")
    assert [(99,)] == rows(database, "PRAGMA application_id")


def test_functions_warned_about(volume, tmp_path):
    """Where SQLite cannot check the structure for want of the application's functions, that is said."""
    database = with_functions(volume / "app.db")
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": NEW})

    result = up(database, migrations)

    assert 0 == result.code, result.stderr
    (warning,) = result.named("backup.check_incomplete")
    assert "warning" == warning["level"]
    assert "byte by byte" in warning["message"]


def test_bytes_behind_the_last_page(volume, tmp_path):
    """A file longer than its header says is upgraded as SQLite sees it."""
    database = make_database(volume / "app.db", CONTENT)
    with database.open("ab") as file:
        file.write(bytes(8192))
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": NEW})
    fails = write_migrations(
        tmp_path / "f", {"001_new.sql": NEW + "INSERT INTO nowhere DEFAULT VALUES;"}
    )
    before = digest_aside(database)

    failed = up(database, fails)

    assert 80 == failed.code, failed.stderr
    assert before == digest_aside(database)
    assert 0 == up(database, migrations).code
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")


def test_wal_of_another_database(volume, tmp_path):
    """A `-wal` that belongs to another database's pages is ignored, as SQLite ignores it."""
    stray = left_wal(volume / "other.db")
    database = make_database(volume / "app.db", CONTENT)
    shutil.move(f"{stray}-wal", f"{database}-wal")
    before = digest_aside(database)
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": NEW})

    result = up(database, migrations)

    assert result.code in (0, 65), result.stderr
    if result.code == 0:
        assert ["001"] == history(database)
    else:
        assert before == digest_aside(database)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.startswith(("page", "vacuum", "utf"))]
)
def test_status_of_each_kind(kind, volume, tmp_path):
    """`status` tells what is pending in every kind of database, or that it needs a recovery."""
    database = arrange(kind, volume)
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": NEW})
    before = digest_aside(database)

    found = status(database, migrations)

    assert found["exists"] is True
    assert ["001"] == [row["version"] for row in found["pending"]]
    kinds = [each["kind"] for each in found["problems"]]
    assert (["needs_recovery"] if kind == "hot-journal" else []) == kinds
    assert before == digest_aside(database)


# --- what an application that was killed has left, with nothing pending -----------


@pytest.mark.parametrize("leave", [others.leave_hot_journal, others.leave_wal])
def test_left_with_nothing_pending(leave, volume, tmp_path):
    """A start with nothing pending lets SQLite recover what a killed application has left."""
    database = make_database(volume / "app.db", CONTENT)
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": NEW})
    assert 0 == up(database, migrations).code
    leave(database)
    expected = digest_aside(database)

    result = run_entrypoint(
        "--database", database, "--migrations", migrations, "--", "echo", "application"
    )

    assert (0, "application\n") == (result.code, result.stdout), result.stderr
    assert "up_to_date" == result.finished["outcome"]
    assert expected == logical_digest(database)
    assert 1 == len(backups(database))


@pytest.mark.parametrize("copy", [False, True], ids=["in-place", "copy"])
def test_an_index_that_a_killed_process_left_goes_with_the_next_run(volume, tmp_path, copy):
    """SQLite's `-shm` without a log holds nothing, and stays for ever where nobody takes it away."""
    database = make_database(volume / "app.db", "CREATE TABLE t (id INTEGER);", wal=True)
    index = volume / "app.db-shm"
    index.write_bytes(bytes(32768))
    text = (
        "-- migrate:up transaction:false\nVACUUM;\n" if copy else "CREATE TABLE u (id INTEGER);\n"
    )
    files = write_migrations(tmp_path / "own", {"001_first.sql": text})
    result = run_migrator("up", "--database", database, "--migrations", files)
    assert result.code == 0, result.stderr
    assert not index.exists()
    assert not (volume / "app.db-wal").exists()
