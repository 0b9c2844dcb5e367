"""
What the safety costs: one upgrade by the entrypoint, and the same SQL by plain `sqlite3`.

`python benchmarks/upgrade.py [--megabytes N] [--runs N]`: a database of that size
gets a column, a tenth of its rows are updated, and an index is built. Once as a bare
transaction; once through the entrypoint, with the backup, the checks before and after,
and the fsyncs; once with `transaction:false`, on a copy. All three in turn on copies of
one database; the medians, and their ratios.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[1]
UPGRADE = """
ALTER TABLE entry ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
UPDATE entry SET seen = 1 WHERE id % 10 = 0;
CREATE INDEX entry_word ON entry (word);
"""


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", help="where to work; the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        template = make_database(directory / "template.db", options.megabytes)
        ways = {
            "plain sqlite3": plain,
            "in place": through_entrypoint(directory / "in-place", ""),
            "on a copy": through_entrypoint(directory / "on-a-copy", " transaction:false"),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.runs):
            for way, upgrade in ways.items():
                taken[way].append(measure(upgrade, template, directory / "volume"))
    base = statistics.median(taken["plain sqlite3"])
    for way, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{way:14} {median / base:5.2f} times plain sqlite3 ({median:.2f} s)")


def make_database(path: Path, megabytes: int) -> Path:
    """Fill a database of about that size."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, word TEXT, body BLOB)")
        conn.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO entry (word, body) SELECT hex(randomblob(8)), randomblob(960) FROM n",
            (megabytes * 1024,),
        )
    return path


def measure(upgrade: Callable[[Path], None], template: Path, volume: Path) -> float:
    """Return the seconds of one upgrade of a fresh copy."""
    shutil.rmtree(volume, ignore_errors=True)
    volume.mkdir()
    database = Path(shutil.copy(template, volume / "app.db"))
    subprocess.run(["sync", "--file-system", volume], check=True)
    began = time.perf_counter()
    upgrade(database)
    return time.perf_counter() - began


def plain(database: Path) -> None:
    """Upgrade as one bare transaction: no backup, no check."""
    with closing(sqlite3.connect(database, isolation_level=None)) as conn:
        conn.executescript(f"BEGIN;{UPGRADE}COMMIT;")


def through_entrypoint(migrations: Path, words: str) -> Callable[[Path], None]:
    """Return a function that upgrades by the entrypoint, with one migration."""
    migrations.mkdir()
    (migrations / "001_upgrade.sql").write_text(f"-- migrate:up{words}\n{UPGRADE}")
    command = [sys.executable, "-m", "entrypoint", "--migrations", str(migrations)]

    def upgrade(database: Path) -> None:
        subprocess.run(
            [*command, "--database", str(database)], cwd=ROOT, check=True, capture_output=True
        )

    return upgrade


if __name__ == "__main__":
    main()
