"""
Other processes that use a database: what a start finds in the field.

Each holds what its name says from the moment its context is entered until it
is left, or leaves behind what a SIGKILL leaves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from tests.support.files import opened
from tests.support.processes import clean_environment, end, without_coverage

PREAMBLE = """
import sqlite3, sys, time

def ready():
    print("ready", flush=True)

conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
"""

IDLE = """
conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
ready()
sys.stdin.read()
"""

READING = """
conn.execute("BEGIN")
conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
ready()
sys.stdin.read()
"""

WRITE_LOCK = """
conn.execute("BEGIN IMMEDIATE")
ready()
sys.stdin.read()
conn.execute("ROLLBACK")
"""

WRITING = """
import select
conn.execute("CREATE TABLE IF NOT EXISTS heartbeat (id INTEGER PRIMARY KEY, at REAL)")
pause = float(sys.argv[2])
first = True
while not select.select([sys.stdin], [], [], pause)[0]:
    conn.execute("INSERT INTO heartbeat (at) VALUES (?)", (time.time(),))
    if first:
        ready()
        first = False
"""

HOT_JOURNAL = """
conn.execute("PRAGMA cache_size = 1")
conn.execute("BEGIN IMMEDIATE")
conn.execute("CREATE TABLE half_done (id INTEGER PRIMARY KEY, filler BLOB)")
conn.executemany("INSERT INTO half_done (filler) VALUES (?)", [(bytes(2000),)] * 500)
ready()
sys.stdin.read()
"""

COMMITTED_IN_WAL = """
conn.execute("PRAGMA wal_autocheckpoint = 0")
conn.execute("CREATE TABLE in_wal (id INTEGER PRIMARY KEY)")
conn.executemany("INSERT INTO in_wal (id) VALUES (?)", [(n,) for n in range(10)])
ready()
sys.stdin.read()
"""


@contextmanager
def other_process(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """
    Run a script in another Python until it says `ready`, and hold it there.

    Args:
        script: It finds `conn`, an autocommit connection to its first argument,
            calls `ready()` once, and ends when its standard input ends.
        args: The database's path, and what else the script reads.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + dedent(script), *map(str, args)],
        env=without_coverage(clean_environment()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        if process.poll() is None:
            process.stdin.close()
            process.wait(30)
    finally:
        end(process)


@contextmanager
def idle_connection(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold an open connection without any transaction."""
    with other_process(IDLE, database) as process:
        yield process


@contextmanager
def read_transaction(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold a read transaction, as Litestream does all the time."""
    with other_process(READING, database) as process:
        yield process


@contextmanager
def write_lock(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the write lock with nothing written."""
    with other_process(WRITE_LOCK, database) as process:
        yield process


@contextmanager
def writing(database: Path, every: float = 0.005) -> Iterator[subprocess.Popen[str]]:
    """Insert a row into `heartbeat` every few milliseconds, each in its own transaction."""
    with other_process(WRITING, database, every) as process:
        yield process


def leave_hot_journal(database: Path) -> Path:
    """
    Kill a process in the middle of a transaction that has reached the file.

    Returns:
        The path of the journal, which the next one to open the database must
        roll back: until then `half_done` seems to be there.
    """
    with opened(database) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    _kill_at_ready(HOT_JOURNAL, database)
    journal = Path(f"{database}-journal")
    assert journal.read_bytes()[:8] == bytes.fromhex("d9d505f920a163d7")
    return journal


def leave_wal(database: Path) -> Path:
    """
    Kill a process that has committed ten rows of `in_wal` and never checkpointed.

    Returns:
        The path of the `-wal`, without which those rows are lost.
    """
    with opened(database) as conn:
        assert conn.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    _kill_at_ready(COMMITTED_IN_WAL, database)
    wal = Path(f"{database}-wal")
    assert wal.stat().st_size > 0
    return wal


def _kill_at_ready(script: str, database: Path) -> None:
    with other_process(script, database) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
