"""
What migrations registered in code do under faults, by a registry and by the Python API.

Only existing databases: one that does not exist is left to the application.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scenes import Scene

REGISTRY = "registry.py"
"""The file among a scene's migrations that holds all of them, where there is one."""

_OF_ITS_OWN = '''
    """A framework with the migrations it runs, in one file that imports nothing of ours."""

    class Migration:
        def __init__(self, name, version, description, up_func):
            self.name, self.version = name, version
            self.description, self.up_func = description, up_func


    class MigrationRunner:
        def __init__(self, db_path):
            self.db_path, self.migrations = db_path, []

        def add_migration(self, migration):
            self.migrations.append(migration)
    '''
_OF_OURS = '''
    """Migrations for the Python API."""

    from migrator import Migration, MigrationRunner
    '''
_MIGRATIONS = """
    def add_email(cursor):
        cursor.execute("PRAGMA cache_size = 1")
        cursor.execute("PRAGMA table_info(users)")
        if "email" in [row[1] for row in cursor.fetchall()]:
            return
        cursor.execute("ALTER TABLE users ADD COLUMN email TEXT")
        cursor.connection.commit()
        cursor.execute("UPDATE users SET email = lower(name) || '@example.org'")
        cursor.executescript("CREATE TABLE log (id INTEGER); INSERT INTO log VALUES (1);")


    def create_tags(cursor):
        cursor.execute("CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        cursor.executemany("INSERT INTO tags (name) VALUES (?)", [("red",), ("blue",)])
        cursor.execute("UPDATE users SET filler = upper(filler) || 'x'")


    def vacuum(cursor):
        cursor.execute("VACUUM")


    def fail(cursor):
        cursor.execute("UPDATE users SET name = 'nobody'")
        cursor.connection.commit()
        cursor.execute("INSERT INTO nowhere VALUES (1)")


    def create_migration_runner(db_path, **options):
        runner = MigrationRunner(db_path, **options)
        runner.add_migration(Migration("add_email", "1.0.0", "Addresses", add_email))
        runner.add_migration(Migration("create_tags", "1.0.0", "Tags", create_tags))
    """
_MORE = {
    "in place": "",
    "on a copy": '    runner.add_migration(Migration("vacuum", "1.1.0", "", vacuum, False))\n',
}
_FAILING = '    runner.add_migration(Migration("fail", "2.0.0", "Fails", fail))\n'
_INLINE = {
    "in place": ("inline", "registered", "allow"),
    "on a copy": ("inline", "registered", "wait"),
}


def registry_scenes(make: type[Scene], command: tuple[str, ...]) -> Iterator[Scene]:
    """
    Yield the scenes.

    Args:
        make: The class.
        command: The one that goes up.
    """
    back = ("migrator", "restore", "latest")
    for journal, hot, fails in product(("delete", "wal"), (False, True), (False, True)):
        state = _named(journal, hot=hot, fails=fails)
        files = _written(_OF_ITS_OWN, fails=fails)
        yield make(f"registry up {state}", "registry", files, command, journal, hot, fails=fails)
        if not fails:
            group = "registry, restore"
            yield make(f"registry restore {state}", group, files, back, journal, hot, prepared=True)
    for way, journal, fails in product(_INLINE, ("delete", "wal"), (False, True)):
        hot = fails != (journal == "wal")
        name = f"registered {way} {_named(journal, hot=hot, fails=fails)}"
        files = _written(_OF_OURS, _MORE[way], fails=fails)
        group = f"Python API, registered, {way}"
        yield make(name, group, files, _INLINE[way], journal, hot, fails=fails)


def _named(journal: str, *, hot: bool, fails: bool) -> str:
    return f"{journal} {'hot' if hot else 'clean'}{' failing' if fails else ''}"


def _written(head: str, more: str = "", *, fails: bool) -> dict[str, str]:
    text = f"{dedent(head)}\n\n{dedent(_MIGRATIONS)}{more}{_FAILING if fails else ''}"
    return {REGISTRY: f"{text}    return runner\n"}
