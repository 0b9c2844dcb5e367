"""
A small application that migrates its own database at its start, and badly.

    python self_migrating.py DATABASE VERSION [crash]

Each version adds a table, and each statement is committed at once. With `crash` it ends
in the middle: half of its rows are gone by then.
"""

from __future__ import annotations

import os
import sqlite3
import sys

CRASHED = 9


def main(database: str, version: str, how: str = "") -> None:
    """Bring the database to a version, in steps that nothing holds together, then serve."""
    conn = sqlite3.connect(database, isolation_level=None, timeout=30)
    conn.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
    done = conn.execute("PRAGMA user_version").fetchone()[0]
    wanted = int(version.partition(".")[2] or 0)
    if done > wanted:
        sys.exit(f"{database} is too new for {version}")
    for step in range(done + 1, wanted + 1):
        conn.execute(f"CREATE TABLE IF NOT EXISTS step_{step} (note INTEGER, text TEXT)")
        conn.execute(f"INSERT INTO step_{step} SELECT id, text FROM notes WHERE id % 2 = 0")
        conn.execute("DELETE FROM notes WHERE id % 2 = 0")
        if how == "crash":
            os._exit(CRASHED)
        conn.execute(f"INSERT INTO notes SELECT note, text FROM step_{step}")
        conn.execute(f"PRAGMA user_version = {step}")
    conn.execute("INSERT INTO notes (text) VALUES (?)", (f"started {version}",))
    sys.stdout.write(f"serving {version}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
