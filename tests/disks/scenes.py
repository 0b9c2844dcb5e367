"""What is run on full disks: databases of a few hundred KiB, and migrations that grow them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.disks.small import fill
from tests.faults.launching import arguments, run
from tests.faults.scenes import Scene
from tests.support.files import make_database, opened, write_migrations

SIZE, GROWTH = 200 << 10, 1600 << 10
"""Bytes of the database, and what the migrations add: more than the slack of a 16 MiB disk."""
APPLICATION_WRITES = "UPDATE users SET name = name WHERE id = 1"
"""What the application does to its database, and what leaves it as it is."""

_BASE = f"""
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, filler BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
        INSERT INTO users SELECT i, 'user ' || i, zeroblob({SIZE} / 50) FROM n;
    """
_CHANGE = {
    "001_add_email.py": '''
        """Addresses of users, written as people write migrations: with commits in between."""

        def up(conn):
            conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
            conn.commit()
            with conn:
                conn.execute("UPDATE users SET email = lower(name) || '@example.org'")

        def down(conn):
            conn.execute("ALTER TABLE users DROP COLUMN email")
        '''
}
_GROW = {
    "002_grow.sql": f"""
        -- migrate:up transaction:{{transaction}}
        CREATE TABLE grown (id INTEGER PRIMARY KEY, data BLOB);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 64)
            INSERT INTO grown SELECT i, zeroblob({GROWTH} / 64) FROM n;
        UPDATE users SET name = upper(name);

        -- migrate:down transaction:{{transaction}}
        UPDATE users SET name = lower(name);
        CREATE TABLE more AS SELECT * FROM grown;
        DROP TABLE grown;
        """
}
_SWALLOW = {
    "002_swallow.py": f'''
        """Goes on whatever SQLite says, as a few migrations do."""

        transactional = {{flag}}

        def up(conn):
            conn.execute("CREATE TABLE grown (id INTEGER PRIMARY KEY, data BLOB)")
            for number in range(64):
                try:
                    conn.execute("INSERT INTO grown VALUES (?, zeroblob({GROWTH} / 64))", (number,))
                except Exception:
                    pass
            conn.execute("UPDATE users SET name = upper(name)")
        '''
}
_BUS = {
    "002_map.py": f'''
        """Ends as the kernel ends who writes to a mapped page for which there is no block."""

        import os
        import signal

        transactional = False

        def up(conn):
            try:
                conn.execute("CREATE TABLE grown (id INTEGER PRIMARY KEY, data BLOB)")
                conn.execute("INSERT INTO grown VALUES (1, zeroblob({GROWTH}))")
                conn.commit()
            except Exception:
                os.kill(os.getpid(), signal.SIGBUS)
        '''
}
_MEANWHILE = {
    "000_meanwhile.py": '''
        """Somebody else fills the disk meanwhile, as far as a file beside the migrations says."""

        {fill}

        def up(conn):
            if os.path.exists({order!r}):
                ballast, room = open({order!r}).read().splitlines()
                fill(ballast, int(room))
        '''
}
_CREATE = {"000_create.sql": _BASE}


@dataclass(frozen=True, slots=True)
class DiskScene(Scene):
    """
    A scene on a disk of limited size.

    Args:
        meanwhile: Whether the disk fills up only during the run, after space was found enough.
        crowd: How many earlier backups there are.
    """

    meanwhile: bool = False
    crowd: int = 0

    def build(self, volume: Path, migrations: Path, packages: Path) -> None:
        """Make the volume and the migrations as they are before the run."""
        volume.mkdir()
        write_migrations(migrations, _written(self.files, order_of(migrations)))
        if not self.journal:
            return
        database = volume / "app.db"
        make_database(database, _BASE, wal=self.journal == "wal")
        earlier: dict[str, str] = {}
        for number in range(self.crowd):
            name = f"000.{number}_earlier.sql"
            earlier[name] = f"CREATE TABLE earlier_{number} (id INTEGER);"
            directory = write_migrations(migrations.with_name("earlier"), earlier)
            done = run(arguments(("entrypoint",), database, directory), {}, packages)
            assert done.code == 0, done.stderr
        write_migrations(migrations, earlier)
        if self.prepared:
            done = run(arguments(("entrypoint",), database, migrations), {}, packages)
            assert done.code == 0, done.stderr
        with opened(database) as conn:
            conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def order_of(migrations: Path) -> Path:
    """Return the file that tells a migration how far to fill the disk."""
    return migrations.with_name("order")


def _written(files: Mapping[str, str], order: Path) -> dict[str, str]:
    source = "import ctypes\nimport os\n\n" + inspect.getsource(fill)
    indented = source.replace("\n", "\n        ")
    return {
        name: text.replace("{fill}", indented).replace("{order!r}", repr(str(order)))
        for name, text in files.items()
    }


def _files(transaction: str) -> dict[str, str]:
    grow = {name: text.format(transaction=transaction) for name, text in _GROW.items()}
    return {**_CHANGE, **grow}


def _scenes() -> list[DiskScene]:
    ways = {"in-place": _files("true"), "copy": _files("false")}
    scenes = []
    for way, files in ways.items():
        for journal in ("delete", "wal"):
            up = DiskScene(f"up {way} {journal}", "up", files, journal=journal)
            scenes.append(up)
            full = {**_MEANWHILE, **files}
            scenes.append(replace(up, name=f"{up.name} meanwhile", files=full, meanwhile=True))
        scenes.append(DiskScene(f"install {way}", "install", {**_CREATE, **files}))
        command = ("migrator", "down", "--to", "001")
        scenes.append(DiskScene(f"down {way} wal", "down", files, command, "wal", prepared=True))
        flag = str(way == "in-place")
        swallow = {name: text.replace("{flag}", flag) for name, text in _SWALLOW.items()}
        name = f"up {way} delete swallowing"
        scenes.append(DiskScene(name, "up", {**_CHANGE, **swallow}, journal="delete"))
    scenes.append(DiskScene("up copy wal mapping", "up", {**_CHANGE, **_BUS}, journal="wal"))
    scenes.append(
        DiskScene("up in-place delete crowded", "up", ways["in-place"], journal="delete", crowd=3)
    )
    for journal in ("delete", "wal"):
        back, files = ("migrator", "restore", "latest"), ways["in-place"]
        scenes.append(
            DiskScene(f"restore {journal}", "restore", files, back, journal, prepared=True)
        )
    for way, in_use in (("in-place", "allow"), ("copy", "wait")):
        for journal, what in (("delete", "up"), ("wal", "down")):
            name, program = f"inline {what} {way} {journal}", ("inline", what, in_use)
            after = ("migrator", "down", "--to", "001") if what == "down" else None
            scene = DiskScene(name, f"Python API, {what}", ways[way], program, journal, after=after)
            scenes.append(replace(scene, prepared=what == "down"))
    return scenes


SCENES = {scene.name: scene for scene in _scenes()}
