"""Processes that a migration forks do no harm to the run."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import weakref
from contextlib import closing
from pathlib import Path

import pytest

from migrator.session.guard import open_guard
from tests.unit.guard.common import INSERT, ROOT

FORKING = """
import ctypes, multiprocessing, os, sqlite3, sys
from migrator.session.guard import open_guard

path, way, planted, journal = sys.argv[1:5]
guard = open_guard(path)
if planted == "planted":
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(guard.conn))
guard.begin()
guard.start_migration()
conn = guard.conn
conn.execute("PRAGMA cache_size=5")
conn.execute("UPDATE big SET b = zeroblob(900)")
assert os.path.getsize(journal) > 100_000

def use():
    for action in (lambda: conn.execute("SELECT 1"), lambda: conn.execute("DELETE FROM big"),
                   guard.begin, guard.commit, conn.commit):
        try:
            action()
        except sqlite3.OperationalError as error:
            assert "forked" in str(error), error
        else:
            os.abort()
    conn.close()
    guard.close()

def child():
    if way == "use":
        use()
    if way == "exception":
        raise RuntimeError("in the child")
    if way == "os._exit":
        os._exit(0)
    sys.exit(0)

if way == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=use)
    process.start()
    process.join()
    status = process.exitcode
else:
    pid = os.fork()
    if pid == 0:
        child()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == (1 if way == "exception" else 0), status
kept = os.path.exists(journal)
conn.execute("INSERT INTO big VALUES (0, 'end')")
guard.finish_migration()
guard.commit()
guard.close()
print("journal kept" if kept else "journal lost")
"""

WAYS = ("sys.exit", "exception", "os._exit", "multiprocessing", "use")


def fork(
    path: Path, way: str, planted: str = "", mode: str = "DELETE"
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Let a child of a migration end in some way; return the run, and what became of the file."""
    journal = f"{path}{'-wal' if mode == 'WAL' else '-journal'}"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
        conn.execute("CREATE TABLE big (a, b)")
        conn.executemany("INSERT INTO big VALUES (?, zeroblob(800))", [(n,) for n in range(1, 501)])
        conn.commit()
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(path), way, planted, journal],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    with closing(sqlite3.connect(path)) as conn:
        try:
            check = conn.execute("PRAGMA integrity_check").fetchone()[0]
            wide = conn.execute("SELECT count(*) FROM big WHERE length(b) = 900").fetchone()[0]
        except sqlite3.DatabaseError as error:
            return done, str(error)
    return done, f"{check} {wide}"


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("way", WAYS)
def test_a_forked_child_does_no_harm_when_it_ends(path: Path, way: str, mode: str) -> None:
    """However a child ends, or uses what it inherited, its parent's transaction goes on."""
    done, state = fork(path, way, mode=mode)

    assert (0, "journal kept\n") == (done.returncode, done.stdout), done.stderr
    assert "ok 500" == state


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("way", ["sys.exit", "exception"])
def test_without_the_measure_a_child_damages_the_database(path: Path, way: str, mode: str) -> None:
    """The test above has teeth: without the extra reference the child rolls its parent back."""
    done, state = fork(path, way, "planted", mode)

    assert ("journal kept\n", "ok 500") != (done.stdout, state)


def test_a_closed_guard_is_given_back(path: Path) -> None:
    """Closing takes the extra reference back: runs in one process leave nothing behind."""
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    guard.conn.execute(INSERT)
    guard.finish_migration()
    reference = weakref.ref(guard.conn)
    guard.close()
    guard.close()
    del guard
    gc.collect()

    assert reference() is None
