"""What is run under faults: a database in some state, migrations, and a command."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from tests.faults.command_scenes import command_scenes
from tests.faults.inline_scenes import inline_scenes
from tests.faults.launching import arguments, run
from tests.faults.registry_scenes import registry_scenes
from tests.support.files import make_database, opened, write_migrations
from tests.support.others import leave_hot_journal, leave_wal

APPLICATION = "the application"
_GROUPS = {"in-place": "in place", "copy": "on a copy"}

_BASE = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, filler TEXT);
    CREATE TABLE notes (
        id INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        text TEXT
    );
    CREATE INDEX notes_by_user ON notes (user_id);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 16)
        INSERT INTO users SELECT i, 'user ' || i, hex(zeroblob(150)) FROM n;
    INSERT INTO notes (user_id, text) SELECT id, name FROM users;
    """

_FIRST = {
    "001_add_email.py": '''
        """Addresses of users, written as people write migrations: with commits everywhere."""

        def up(conn):
            conn.execute("PRAGMA cache_size = 1")
            conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
            conn.commit()
            conn.execute("UPDATE users SET email = lower(name) || '@example.org'")
            conn.commit()
            with conn:
                conn.execute("INSERT INTO users (name) VALUES ('Ada')")
            conn.execute("BEGIN")
            conn.execute("INSERT INTO users (name) VALUES ('Grace')")
            conn.execute("COMMIT")
            conn.executescript("CREATE TABLE log (id INTEGER); INSERT INTO log VALUES (1);")

        def down(conn):
            conn.execute("DROP TABLE log")
            conn.execute("DELETE FROM users WHERE name IN ('Ada', 'Grace')")
            conn.execute("ALTER TABLE users DROP COLUMN email")
        '''
}
_SECOND = {
    "002_create_tags.sql": """
        -- migrate:up
        BEGIN;
        CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
        INSERT INTO tags (name) VALUES ('red; green'), ('blue');
        UPDATE users SET filler = upper(filler) || 'x';
        COMMIT;

        -- migrate:down
        DROP TABLE tags;
        UPDATE users SET filler = lower(filler) || 'y';
        """
}
_OUTSIDE = {
    "002_vacuum.sql": """
        -- migrate:up transaction:false
        CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
        INSERT INTO tags (name) VALUES ('red; green'), ('blue');
        VACUUM;

        -- migrate:down transaction:false
        DROP TABLE tags;
        VACUUM;
        """
}
_THIRD = {
    "003_rebuild_notes.py": '''
        """The rebuild that SQLite's documentation describes."""

        def up(conn):
            conn.execute("CREATE TABLE new_notes (id INTEGER PRIMARY KEY, user_id, text)")
            conn.execute("INSERT INTO new_notes SELECT id, user_id, upper(text) FROM notes")
            conn.execute("DROP TABLE notes")
            conn.execute("ALTER TABLE new_notes RENAME TO notes")

        def down(conn):
            conn.execute("UPDATE notes SET text = lower(text)")
        '''
}
_FAILS = {
    "004_fails.py": '''
        """Fails after it has changed and committed something."""

        def up(conn):
            conn.execute("UPDATE users SET name = 'nobody'")
            conn.commit()
            conn.execute("INSERT INTO nowhere VALUES (1)")
        '''
}
_MODE = {
    "002_mode.sql": """
        -- migrate:up transaction:false
        PRAGMA journal_mode = {mode};
        CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
        """
}
_PAGE_SIZE = {
    "002_page_size.sql": """
        -- migrate:up transaction:false
        PRAGMA journal_mode = DELETE;
        PRAGMA page_size = 2048;
        VACUUM;
        PRAGMA journal_mode = {mode};
        """
}
_CREATE = {
    "000_create.sql": f"""
        PRAGMA cache_size = 1;
        {_BASE}
        """
}


@dataclass(frozen=True, slots=True)
class Scene:
    """
    One cell of the matrix.

    Args:
        name: What it is called.
        group: With which others it is a row of the table.
        files: The migrations.
        command: The package and its arguments after `--database` and `--migrations`,
            or `inline` and those of tests/faults/inline.py.
        journal: `delete` or `wal`; empty where there is no database yet.
        hot: Whether a killed process has left its journal.
        prepared: Whether these migrations, but for a failing one, have been applied before.
        fails: Whether the migrations fail.
        after: The command of the next start, where it is another one.
        turns_back: Whether the next start goes on from the new state, back to the old one.
        mode_moves: Whether the journal mode changes outside of the one
            transaction, so that an interruption may show another one until the
            next start.
        only_saves: Whether nothing is to be changed, and a backup is to be there when the
            application starts.
        asks: Whether another tool's command migrates, and one says what is pending: whoever
            kills that one is told so (78).
    """

    name: str
    group: str
    files: Mapping[str, str]
    command: tuple[str, ...] = ("entrypoint", "--", "/bin/echo", APPLICATION)
    journal: str = ""
    hot: bool = False
    prepared: bool = False
    fails: bool = False
    after: tuple[str, ...] | None = None
    turns_back: bool = False
    mode_moves: bool = False
    only_saves: bool = False
    asks: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def next_command(self) -> tuple[str, ...]:
        """What is started after the fault."""
        return self.after or self.command

    def build(self, volume: Path, migrations: Path, packages: Path) -> None:
        """Make the volume and the migrations as they are before the run."""
        volume.mkdir()
        files = {
            name: text.format(mode=self._other_mode) if "{mode}" in text else text
            for name, text in self.files.items()
        }
        write_migrations(migrations, files)
        if not self.journal:
            return
        database = volume / "app.db"
        make_database(database, _BASE, wal=self.journal == "wal", page_size=1024)
        if self.prepared:
            done = run(arguments(("entrypoint",), database, migrations), {}, packages)
            assert done.code == 0, done.stderr
        write_migrations(migrations, self.extra)
        if not self.hot:
            _settle(database)
        elif _is_wal(database):
            leave_wal(database)
        else:
            leave_hot_journal(database)

    @property
    def _other_mode(self) -> str:
        return "WAL" if self.journal == "delete" or "page_size" in self.name else "DELETE"


def _is_wal(database: Path) -> bool:
    """Tell by the header, after migrations that may have changed it."""
    return database.read_bytes()[18] == 2


def _settle(database: Path) -> None:
    with opened(database) as conn:
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def _up_scenes() -> list[Scene]:
    ways = {
        "in-place": {**_FIRST, **_SECOND, **_THIRD},
        "copy": {**_FIRST, **_OUTSIDE, **_THIRD},
    }
    scenes = []
    for way, journal, hot, fails in product(ways, ("delete", "wal"), (False, True), (False, True)):
        name = f"up {way} {journal} {'hot' if hot else 'clean'}{' failing' if fails else ''}"
        files = {**ways[way], **(_FAILS if fails else {})}
        group = f"up, {_GROUPS[way]}{', failing' if fails else ''}"
        scenes.append(Scene(name, group, files, journal=journal, hot=hot, fails=fails))
    for journal in ("delete", "wal"):
        for way, second in (("mode", _MODE), ("page_size", _PAGE_SIZE)):
            files = {**_FIRST, **second}
            name = f"up copy {way} {journal} clean"
            group = "up, another journal mode or page size"
            scenes.append(Scene(name, group, files, journal=journal, mode_moves=True))
    return scenes


def _beside_scenes() -> list[Scene]:
    """Return those of a run beside readers, which has the database open as they have."""
    command = ("entrypoint", "--in-use", "allow", "--", "/bin/echo", APPLICATION)
    scenes = []
    for journal, hot, fails in product(("delete", "wal"), (False, True), (False, True)):
        name = f"up beside {journal} {'hot' if hot else 'clean'}{' failing' if fails else ''}"
        files = {**_FIRST, **_SECOND, **_THIRD, **(_FAILS if fails else {})}
        scenes.append(
            Scene(name, "up, beside readers", files, command, journal, hot=hot, fails=fails)
        )
    return scenes


def _install_scenes() -> list[Scene]:
    ways = {
        "in-place": {**_CREATE, **_FIRST, **_SECOND},
        "copy": {**_CREATE, **_FIRST, **_OUTSIDE},
        "copy wal": {**_CREATE, **_FIRST, "002_mode.sql": _MODE["002_mode.sql"].format(mode="WAL")},
    }
    scenes = []
    for way, files in ways.items():
        scenes.append(Scene(f"install {way}", "first install", files))
        failing = {**files, **_FAILS}
        scenes.append(
            Scene(f"install {way} failing", "first install, failing", failing, fails=True)
        )
    return scenes


def _down_scenes() -> list[Scene]:
    ways = {
        "in-place": {**_FIRST, **_SECOND, **_THIRD},
        "copy": {**_FIRST, **_OUTSIDE, **_THIRD},
    }
    command = ("migrator", "down", "--to", "001")
    bad = {
        "003_rebuild_notes.py": _THIRD["003_rebuild_notes.py"].replace(
            'conn.execute("UPDATE notes SET text = lower(text)")',
            'conn.execute("UPDATE notes SET text = lower(text)"); conn.commit()\n'
            '            conn.execute("DELETE FROM nowhere")',
        )
    }
    scenes = []
    for way, journal, hot, fails in product(ways, ("delete", "wal"), (False, True), (False, True)):
        name = f"down {way} {journal} {'hot' if hot else 'clean'}{' failing' if fails else ''}"
        group = f"down, {_GROUPS[way]}{', failing' if fails else ''}"
        files = {**ways[way], **(bad if fails else {})}
        scenes.append(
            Scene(name, group, files, command, journal, hot=hot, prepared=True, fails=fails)
        )
    return scenes


def _restore_scenes() -> list[Scene]:
    files = {**_FIRST, **_SECOND}
    command = ("migrator", "restore", "latest")
    scenes = [
        Scene(
            f"restore {journal} {'hot' if hot else 'clean'}",
            "restore",
            files,
            command,
            journal,
            hot=hot,
            prepared=True,
        )
        for journal, hot in product(("delete", "wal"), (False, True))
    ]
    scenes += [
        Scene(
            f"restore {way} {journal} {'hot' if hot else 'clean'}",
            "restore, another journal mode or page size",
            {**_FIRST, **second},
            command,
            journal,
            hot=hot,
            prepared=True,
            mode_moves=True,
        )
        for way, second in (("mode", _MODE), ("page_size", _PAGE_SIZE))
        for journal, hot in product(("delete", "wal"), (False, True))
    ]
    start = scenes[0]
    scenes.append(
        replace(
            start,
            name="restore delete clean, then a start",
            after=("entrypoint", "--", "/bin/echo", APPLICATION),
            turns_back=True,
        )
    )
    return scenes


def _start_scenes() -> list[Scene]:
    """Return those of an application that migrates itself: only a backup comes before its start."""
    flags = ("--migrate", "backup", "--app-version", "1.1")
    command = ("entrypoint", *flags, "--", "/bin/echo", APPLICATION)
    return [
        Scene(
            f"start {journal} {'hot' if hot else 'clean'}",
            "start of an application that migrates itself",
            {},
            command,
            journal,
            hot=hot,
            only_saves=True,
        )
        for journal, hot in product(("delete", "wal"), (False, True))
    ]


_OF_THE_COMMANDS = {
    scene.name: scene
    for scene in (
        *_up_scenes(),
        *_beside_scenes(),
        *_install_scenes(),
        *_down_scenes(),
        *_restore_scenes(),
        *_start_scenes(),
    )
}
_UP = ("entrypoint", "--", "/bin/echo", APPLICATION)
SCENES = {
    **_OF_THE_COMMANDS,
    **{scene.name: scene for scene in inline_scenes(_OF_THE_COMMANDS)},
    **{scene.name: scene for scene in registry_scenes(Scene, _UP)},
    **{scene.name: scene for scene in command_scenes(Scene, ("/bin/echo", APPLICATION))},
}


def fresh(template: Path, volume: Path) -> None:
    """Put a volume back to what it was before."""
    shutil.rmtree(volume, ignore_errors=True)
    shutil.copytree(template, volume, symlinks=True)
