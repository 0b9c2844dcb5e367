"""A migration takes SQLite's locks away: it is noticed, whatever another process does then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import aside
from tests.support.digest import logical_digest
from tests.support.files import opened, rows
from tests.support.processes import Result, clean_environment
from tests.support.scene import Scene

HEAD = """
import ctypes, os, pkgutil, signal, sqlite3, subprocess, sys

path = os.environ["DATABASE"]
folder, name = os.path.split(path)
libc = ctypes.CDLL(None)

def descriptors(path):
    wanted = os.stat(path)
    for number in range(3, 256):
        try:
            if os.path.samestat(os.fstat(number), wanted):
                yield number
        except OSError:
            pass

def other(script):
    subprocess.run([sys.executable, "-c", script, path], check=True)

def second_library(path):
    # From a copy of the file: with a memory of locks of its own.
    with open("/proc/self/maps") as maps:
        found = {line.split()[-1] for line in maps if "sqlite3" in line.split()[-1]}
    (library,) = [each for each in found if ".cpython" not in each] or found
    copy = os.path.join(os.path.dirname(folder), "second.so")
    subprocess.run(["cp", "-L", library, copy], check=True)
    return ctypes.CDLL(copy)

def change(conn):
    conn.execute("PRAGMA cache_size = 1")
    conn.execute("CREATE TABLE made (id INTEGER)")
    conn.execute("UPDATE items SET name = upper(name)")

def at(module, name, when, do):
    # As a thread that the migration has left would do it, but always at the same point.
    module = pkgutil.resolve_name(module)
    inner = getattr(module, name)
    def outer(*args, **more):
        if when == "before":
            do()
        result = inner(*args, **more)
        if when == "after":
            do()
        return result
    setattr(module, name, outer)
"""

DROPS = {
    "libc": (
        "for each in (path, path + '-shm'):\n"
        "    if os.path.exists(each): libc.close(libc.open(each.encode(), 0))"
    ),
    "the database alone": "libc.close(libc.open(path.encode(), 0))",
    "another SQLite library": (
        "second = second_library(path)\n"
        "handle = ctypes.c_void_p()\n"
        "second.sqlite3_open(path.encode(), ctypes.byref(handle))\n"
        "second.sqlite3_exec(handle, b'SELECT count(*) FROM items', None, None, None)\n"
        "second.sqlite3_close(handle)"
    ),
    "SQLite's own descriptor": "[libc.close(number) for number in descriptors(path)]",
    "another file in its descriptor's place": (
        "for number in descriptors(path): libc.close(number)\n"
        "kept = [os.open('/dev/zero', os.O_RDWR) for _ in range(64)]"
    ),
}
CONNECT = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=5); "
OTHERS = {
    "does nothing": "",
    "reads": CONNECT + "c.execute('SELECT count(*) FROM items').fetchall(); c.close()",
    "writes": CONNECT
    + "c.executemany('INSERT INTO items (name) VALUES (?)', [('APP' * 50,)] * 300);"
    + " c.commit(); c.close()",
}
WAYS = {"in-place": "", "copy": "transactional = False\n"}


def indented(code: str) -> str:
    """Return lines as the body of a function."""
    return "".join(f"    {line}\n" for line in code.splitlines())


def migration(drop: str, then: str = "", *, way: str = "in-place", after: str = "") -> str:
    """Return a migration that changes something, takes the locks away, and goes on."""
    more = 'conn.execute("UPDATE items SET name = lower(name)")'
    body = f"change(conn)\n{drop}\nother({then!r})\n{more}"
    return f"{HEAD}{WAYS[way]}\ndef up(conn):\n{indented(body)}{after}"


def scene_of(tmp_path: Path, text: str, *, mode: str = "delete") -> Scene:
    """Make a database of some hundred pages with one migration."""
    scene = Scene.make(tmp_path, {"001_does.py": text}, wal=mode == "wal")
    with opened(scene.database) as conn:
        conn.execute(
            "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
            " INSERT INTO items (name) SELECT 'name ' || i || hex(zeroblob(50)) FROM n"
        )
    scene.before = logical_digest(scene.database)
    return scene


def start(scene: Scene, *args: str) -> Result:
    """Start the entrypoint with an application that would leave a file."""
    started = ("--", "touch", str(scene.directory / "started"))
    return scene.run(*args, *started, env={"DATABASE": str(scene.database)})


def assert_lost(scene: Scene, result: Result, then: str, *, in_use: str = "wait") -> None:
    """Assert what a run without its locks comes to, by what another process did meanwhile."""
    assert not (scene.directory / "started").exists(), result.stderr
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    written = then == "writes"
    if written:
        query = "SELECT count(*) FROM items WHERE name LIKE 'APPAPP%'"
        assert rows(scene.database, query) == [(300,)]
        with opened(scene.database) as conn:
            conn.execute("DELETE FROM items WHERE name LIKE 'APPAPP%'")
    if written and in_use == "wait":
        end = result.finished
        assert (result.code, end["reason"]) == (82, "lock.lost"), result.stderr
        assert "001_does.py" in end["error"]
        assert "holds what another process has written" in end["error"]
        (saved,) = aside.backups(scene.database)
        assert saved["path"] in end["error"]
        assert saved["name"] in end["hint"]
        scene.assert_as_before("001")
        return
    end = scene.assert_failed(result, 80, "001")
    assert (end["reason"], end["outcome"]) == ("lock.lost", "failed_restored")
    assert "001_does.py" in end["error"]
    assert "another process could write in the middle" in end["error"]
    assert result.one("migration.failed")["version"] == "001"
    identical = True if in_use == "wait" else None
    restored = result.one("restore.finished")
    assert restored["identical"] is identical
    assert ("as it was before" in restored["message"]) == (in_use == "wait")


@pytest.mark.parametrize("then", OTHERS)
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("way", WAYS)
def test_a_lost_lock_is_a_failed_run(tmp_path, way, mode, then):
    """Nothing of the run stays, and nothing that another process has written is overwritten."""
    code = migration(DROPS["libc"], OTHERS[then], way=way)
    scene = scene_of(tmp_path, code, mode=mode)
    assert_lost(scene, start(scene), then)


@pytest.mark.parametrize("then", OTHERS)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_lost_lock_beside_others(tmp_path, mode, then):
    """With `--in-use allow` as well; what others have written is nobody's business there."""
    scene = scene_of(tmp_path, migration(DROPS["libc"], OTHERS[then]), mode=mode)
    assert_lost(scene, start(scene, "--in-use", "allow"), then, in_use="allow")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_shared_lock_alone_beside_others(tmp_path, mode):
    """Where the write lock is another file's, the shared one on the database is looked at too."""
    code = migration(DROPS["the database alone"], OTHERS["reads"])
    scene = scene_of(tmp_path, code, mode=mode)
    assert_lost(scene, start(scene, "--in-use", "allow"), "reads", in_use="allow")


@pytest.mark.parametrize("then", ["does nothing", "writes"])
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("drop", [kind for kind in DROPS if kind != "libc"])
def test_in_whatever_way_the_locks_were_lost(tmp_path, drop, mode, then):
    """What decides is whether they are held, not how a descriptor was opened and closed."""
    scene = scene_of(tmp_path, migration(DROPS[drop], OTHERS[then]), mode=mode)
    assert_lost(scene, start(scene), then)


JOURNALS = {
    "removed": "libc.unlink((path + suffix).encode())",
    "renamed": "libc.rename((path + suffix).encode(), (path + '.mine').encode())",
}


@pytest.mark.parametrize(("mode", "suffix"), [("delete", "-journal"), ("wal", "-wal")])
@pytest.mark.parametrize("how", JOURNALS)
def test_a_lost_journal_is_a_failed_run(tmp_path, how, mode, suffix):
    """SQLite rolls back while it can; after a crash nobody could."""
    scene = scene_of(tmp_path, migration(f"suffix = {suffix!r}\n{JOURNALS[how]}"), mode=mode)
    end = scene.assert_failed(start(scene), 80, "001")
    assert end["reason"] == "journal.lost"
    assert f"app.db{suffix}" in end["error"]
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    assert not (scene.directory / "started").exists()


@pytest.mark.parametrize("then", ["", "libc.rename((path + '.mine').encode(), path.encode())"])
def test_a_replaced_database_is_put_back(tmp_path, then):
    """What a migration puts in the database's place under SQLite never stays there."""
    code = f"open(path + '.mine', 'w').write('no database')\nlibc.unlink(path.encode())\n{then}"
    scene = scene_of(tmp_path, migration(code))
    result = start(scene)
    end = scene.assert_failed(result, 80, "001")
    assert end["reason"] == "database.replaced"
    put_back = result.one("restore.finished")
    assert (put_back["method"], put_back["identical"]) == ("backup", True)


API = """
import os, sqlite3, sys
import migrator
from migrator.errors import MigratorError

runner = migrator.MigrationRunner(sys.argv[1], sys.argv[2], in_use=sys.argv[3], wait_timeout=3)
try:
    runner.run_pending_migrations(verbose=False)
except MigratorError as error:
    print(error.exit_code, error.reason)
conn = sqlite3.connect(sys.argv[1], timeout=1)
conn.execute("INSERT INTO items (name) VALUES ('after')")
conn.rollback()
print(conn.execute("SELECT count(*) FROM items WHERE name LIKE 'APPAPP%'").fetchone()[0])
"""


@pytest.mark.parametrize("then", OTHERS)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_lost_lock_in_the_process_of_the_caller(tmp_path, mode, then):
    """The API takes the locks back before SQLite rolls back, and the caller goes on with it."""
    scene = scene_of(tmp_path, migration(DROPS["libc"], OTHERS[then]), mode=mode)
    words = [sys.executable, "-c", API, scene.database, scene.migrations, "allow"]
    env = clean_environment({"DATABASE": str(scene.database)})
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    written = 300 if then == "writes" else 0
    if mode == "wal" and then in ("reads", "writes"):
        # That one has removed the `-wal` at its end: SQLite here has none that counts.
        assert done.stdout == "82 lock.lost\n", done.stderr
        assert "Restart the application" in done.stderr
    else:
        assert done.stdout == f"80 lock.lost\n{written}\n", done.stderr
    query = "SELECT count(*) FROM items WHERE name LIKE 'APPAPP%'"
    assert rows(scene.database, query) == [(written,)]
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    with opened(scene.database) as conn:
        conn.execute("DELETE FROM items WHERE name LIKE 'APPAPP%'")
    scene.assert_as_before("001")


REFUSED = {
    "a path object": "import io, pathlib; io.FileIO(pathlib.Path(path)).close()",
    "bytes": "os.close(os.open(os.fsencode(path), os.O_RDONLY))",
    "unlink in a directory": "os.unlink(name, dir_fd=os.open(folder, os.O_RDONLY))",
    "rename in a directory": (
        "there = os.open(folder, os.O_RDONLY)\n"
        "os.rename(name, 'mine', src_dir_fd=there, dst_dir_fd=there)"
    ),
    "the journal in a directory": (
        "os.unlink(name + '-journal', dir_fd=os.open(folder, os.O_RDONLY))"
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_python_does_to_the_file_is_refused_before_it_is_done(tmp_path, how):
    """By whatever kind of name; the run fails with the database as before."""
    scene = scene_of(tmp_path, migration(REFUSED[how]))
    end = scene.assert_failed(start(scene), 80, "001")
    assert "is open in SQLite here" in end["error"]


def test_what_is_opened_by_a_descriptor_of_its_directory_is_looked_at(tmp_path):
    """Python does not tell of the directory, so that only the look finds it."""
    drop = "os.close(os.open(name, os.O_RDONLY, dir_fd=os.open(folder, os.O_RDONLY)))"
    scene = scene_of(tmp_path, migration(drop, OTHERS["writes"]))
    assert_lost(scene, start(scene), "writes")
