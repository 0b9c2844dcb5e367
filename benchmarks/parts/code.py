"""Migrations of many statements: rows written by Python, and a dump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import material
from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.material import database_of_tables, fresh
from benchmarks.race import Way
from benchmarks.results import OURS, Curve, Goal, Row
from benchmarks.venvs import PYTHON

BARE = "bare `sqlite3`"
SCRIPT = "`executescript`"

LOOP = """
    conn.execute("CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    for index in range({number}):
        conn.execute("INSERT INTO line VALUES (?, ?)", (index, "the text of a row"))
"""
"""What is done with a connection; every contender's is one of `sqlite3`, or lends its method."""


def rows(bench: Bench) -> Iterator[Row | Curve]:
    """Measure rows written one by one by a migration in Python."""
    number = bench.size(200_000, 500)
    place, loop = bench.place("rows"), LOOP.format(number=number)
    template = database_of_tables(bench.directory / "one-table.db", 1)
    head = "from sqlite_utils import Migrations\n\nmigrations = Migrations('benchmark')\n"
    texts = {
        OURS: ("001_fill.py", f"def up(conn):{loop}"),
        "yoyo": ("001_fill.py", f"from yoyo import step\n\n\ndef up(conn):{loop}\n\nstep(up)\n"),
        "sqlite-utils": (
            "migrations.py",
            f"{head}\n\n@migrations()\ndef up(conn):{loop}",
        ),
    }
    bare = place / "bare.py"
    bare.write_text(
        "import sqlite3, sys\n\n\ndef up(conn):"
        f"{loop}\n\nconn = sqlite3.connect(sys.argv[1])\nup(conn)\nconn.commit()\nconn.close()\n"
    )
    ways = [_on_copy(BARE, [PYTHON, str(bare)], place, template)]
    for contender in (bench.ours, *bench.named("yoyo", "sqlite-utils")):
        files = place / contender.name
        files.mkdir()
        name, text = texts[contender.name]
        (files / name).write_text(text)
        ways.append(_applying(contender, files, place, template))
    runs = bench.times(5)
    yield Row(
        "rows",
        f"{number:,} rows written one by one by a `.py`",
        *(bench.race(ways, runs), "s", BARE, Goal(1.7), runs),
    )


def dump(bench: Bench) -> Iterator[Row | Curve]:
    """Measure a migration that is a dump of many statements."""
    number = bench.size(100_000, 500)
    place, migration = bench.place("dump"), material.dump(number)
    template = database_of_tables(bench.directory / "one-table.db", 1)
    bare = place / "bare.py"
    bare.write_text(
        "import sqlite3, sys\nfrom pathlib import Path\n\n"
        "conn = sqlite3.connect(sys.argv[1])\n"
        "conn.executescript(Path(sys.argv[2]).read_text())\nconn.close()\n"
    )
    whole = bench.shell.lay_out(place / "whole", [migration]) / "all.sql"
    ways = [
        _on_copy(SCRIPT, [PYTHON, str(bare)], place, template, str(whole)),
        *(
            bench.migrating(each, [migration], template, place)
            for each in (bench.ours, bench.shell, *bench.named("dbmate"))
        ),
    ]
    runs = bench.times(5)
    yield Row(
        "dump",
        f"a dump of {number:,} statements",
        *(bench.race(ways, runs), "s", SCRIPT, Goal(2.5), runs),
    )


def _on_copy(name: str, command: list[str], place: Path, template: Path, *more: str) -> Way:
    database = place / "volume" / "app.db"
    return Way(name, [*command, str(database), *more], lambda: fresh(place / "volume", template))


def _applying(contender: Contender, files: Path, place: Path, template: Path) -> Way:
    command = contender.up(files, place / "volume" / "app.db")
    return Way(contender.name, command, lambda: fresh(place / "volume", template))
