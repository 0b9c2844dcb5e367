"""
Show a start that migrates, a start with nothing to do, and a run that fails.

    python examples/app/demo.py           an old database, the entrypoint, the application
    python examples/app/demo.py           again: nothing is pending
    python examples/app/demo.py --serve   the same, and the page stays open until Ctrl-C
    python examples/app/demo.py --fail    a migration that fails, on a copy of the database
    python examples/app/demo.py --json    with the log as JSON, which programs read
    python examples/app/demo.py --reset   begin with the old database again

Everything is written below `./demo`, which plays the volume.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import runpy
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(os.path.relpath(ROOT))
MIGRATIONS = HERE / "migrations"
APP = HERE / "examples" / "app" / "app.py"

HISTORY = """
CREATE TABLE migrations (
    version TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
)
"""

OLD = ("001_create_members_and_books.py", "002_create_loans.py")
"""What the old release had applied, with a runner of its own."""

BOOKS, MEMBERS, LOANS, TWICE = 1_800, 200, 8_000, 25

FAILING = """\
-- migrate:up
CREATE TABLE archive AS SELECT * FROM loans WHERE returned_on IS NOT NULL;
DELETE FROM loans WHERE returned_on IS NOT NULL;
ALTER TABLE members ADD COLUMN name TEXT;
"""

GIVEN = "Ada Grace Edsger Barbara Donald Frances Alan Radia Ken Margaret Niklaus Adele".split()
FAMILY = "Okafor Lindqvist Moreau Tanaka Novak Silva Haddad Kowalski Byrne Castillo".split()
ADJECTIVES = "Quiet Last Borrowed Patient Northern Hidden Paper Second Salt Slow".split()
NOUNS = "Harbour Orchard Ledger Winter Staircase Map Garden Letter Tide Clock".split()
PLACES = (
    "Aarhus Bergen Cork Dresden Esbjerg Faro Ghent Hania Ivrea "
    "Jena Kotor Leiden Malmo Nantes Oulu Porto Quimper Riga"
).split()


def main() -> int:
    """Do what the flags say; return the code of a demonstration that went as it should."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--fail", action="store_true", help="run a migration that fails, on a copy")
    parser.add_argument("--json", action="store_true", help="the log as JSON, for programs")
    parser.add_argument("--serve", action="store_true", help="leave the page open until Ctrl-C")
    parser.add_argument("--reset", action="store_true", help="begin with the old database again")
    parser.add_argument("--directory", type=Path, default=Path("demo"), help="where to write")
    parser.add_argument("--port", type=int, default=8000, help="with --serve (default 8000)")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in step with the program's own lines
    if options.reset:
        shutil.rmtree(options.directory, ignore_errors=True)
    env = environment() | {"MIGRATOR_LOG_FORMAT": "json" if options.json else "console"}
    database = options.directory / "data" / "library.db"
    if not database.exists():
        make_old_database(database)
    if options.fail:
        return show_failure(database, options.directory / "failing", env)
    return show_start(database, options.port if options.serve else 0, env, stay=options.serve)


def show_start(database: Path, port: int, env: dict[str, str], *, stay: bool) -> int:
    """Run the entrypoint with the application as its command, and look at the page."""
    app = [short(sys.executable), str(APP), "--database", str(database), "--port", str(port)]
    command = entrypoint(database, MIGRATIONS, app)
    say(shlex.join(command))
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                return process.wait()
            print(line, end="")
            address = line.split()[-1]
            show_page(address)
            if stay:
                say(f"Open {address} in a browser; Ctrl-C ends the application.")
                with suppress(KeyboardInterrupt):
                    return process.wait()
        finally:
            process.terminate()
        say(f"SIGTERM: the application ended with {process.wait()}")
        return process.returncode


def show_failure(original: Path, directory: Path, env: dict[str, str]) -> int:
    """
    Run a migration that fails on a copy of everything, and compare before with after.

    A restart policy starts it again: the last line of that log is shown as a program reads it.
    """
    shutil.rmtree(directory, ignore_errors=True)
    database = directory / "data" / original.name
    database.parent.mkdir(parents=True)
    copy(original, database)
    migrations = Path(shutil.copytree(MIGRATIONS, directory / "migrations"))
    broken = migrations / "010_archive_old_loans.sql"
    broken.write_text(FAILING)
    say(f"{broken} deletes loans, and then fails:")
    print(FAILING)
    before = digest(database)
    command = entrypoint(database, migrations, ["echo", "never reached"])
    say(shlex.join(command))
    code = subprocess.run(command, env=env, check=False).returncode
    after = digest(database)
    say(f"exit code      {code}")
    print(f"digest before  {before}\ndigest after   {after}")
    if env["MIGRATOR_LOG_FORMAT"] != "json":
        say("MIGRATOR_LOG_FORMAT=json: the end of the next start, as a program reads it")
        print(last_line(command, env))
    restored = code == 80 and before == after == digest(database)
    print("The database is as it was." if restored else "THIS IS NOT AS IT SHOULD BE.")
    return 0 if restored else 1


def last_line(command: list[str], env: dict[str, str]) -> str:
    """Start once more and return the last line of the log as JSON."""
    env = env | {"MIGRATOR_LOG_FORMAT": "json"}
    done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=False)
    return done.stderr.splitlines()[-1]


def entrypoint(database: Path, migrations: Path, app: list[str]) -> list[str]:
    """Return the command line, with the script that lies beside this Python."""
    script = Path(sys.executable).with_name("entrypoint")
    program = [short(script)] if script.exists() else [sys.executable, "-m", "entrypoint"]
    return [*program, "--database", str(database), "--migrations", str(migrations), "--", *app]


def short(path: str | Path) -> str:
    """Return a path as a person would type it here."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def environment() -> dict[str, str]:
    """Return the environment without what would change the demonstration."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MIGRATOR_") and name not in {"PUID", "PGID"}
    }


def say(text: str) -> None:
    """Print a line that stands out from what the program prints."""
    print(f"\n>>> {text}", flush=True)


class Page(HTMLParser):
    """The text of a page's first paragraph and the cells of its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraph = ""
        self.tables: list[list[list[str]]] = []
        self._tag = ""

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        """Begin a table or a row, and remember what the next text belongs to."""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        self._tag = tag

    def handle_endtag(self, _tag: str) -> None:
        """Let what follows belong to nothing."""
        self._tag = ""

    def handle_data(self, data: str) -> None:
        """Keep the text of a cell and of the first paragraph."""
        if self._tag in {"td", "th"}:
            self.tables[-1][-1].append(data)
        elif self._tag == "p":
            self.paragraph = self.paragraph or data


def show_page(address: str) -> None:
    """Fetch the page and print what a reader sees of it."""
    page = Page()
    with urlopen(f"{address}/", timeout=10) as response:
        page.feed(response.read().decode())
    say(f"GET {address}/")
    print(page.paragraph)
    for rows in page.tables:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        print()
        for row in rows[:6]:
            line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            print(f"  {line.rstrip()}")


def make_old_database(database: Path) -> None:
    """Make the database of an old release: version 002, some ten thousand rows."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(HISTORY)
        for name in OLD:
            runpy.run_path(str(MIGRATIONS / name))["up"](conn)
            version, _, title = name.removesuffix(".py").partition("_")
            conn.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", (version, title))
        fill(conn, random.Random(1))
        conn.commit()
    say(f"{database}: version 002, {BOOKS + MEMBERS + LOANS + TWICE:,} rows")


def fill(conn: sqlite3.Connection, rng: random.Random) -> None:
    """Fill the tables, always with the same rows; some loans are there twice."""
    people = [f"{given} {family}" for given in GIVEN for family in FAMILY]
    authors = rng.sample(people, 60)
    titles = [
        f"The {adjective} {noun} of {place}"
        for place in PLACES
        for adjective in ADJECTIVES
        for noun in NOUNS
    ]
    first = date(2015, 1, 1)
    conn.executemany(
        "INSERT INTO members (name, joined_on) VALUES (?, ?)",
        [
            (rng.choice(people), day_first(first + timedelta(days=rng.randrange(2500))))
            for _ in range(MEMBERS)
        ],
    )
    conn.executemany(
        "INSERT INTO books (title, author, year) VALUES (?, ?, ?)",
        [
            (title, rng.choice([*authors, None]), rng.randint(1950, 2022))
            for title in rng.sample(titles, BOOKS)
        ],
    )
    loans = [loan(rng) for _ in range(LOANS)]
    conn.executemany(
        "INSERT INTO loans (book_id, member_id, lent_on, returned_on) VALUES (?, ?, ?, ?)",
        loans + rng.sample(loans, TWICE),
    )


def loan(rng: random.Random) -> tuple[int, int, str, str | None]:
    """Return a loan: some books are read more than others, and one in twelve is still out."""
    lent = date(2023, 1, 1) + timedelta(days=rng.randrange(900))
    back = lent + timedelta(days=rng.randint(1, 60))
    book = int(BOOKS * rng.random() ** 2) + 1
    returned = None if rng.random() < 1 / 12 else day_first(back)
    return book, rng.randint(1, MEMBERS), day_first(lent), returned


def day_first(day: date) -> str:
    """Return a date as the old release wrote it."""
    return day.strftime("%d/%m/%Y")


def copy(source: Path, target: Path) -> None:
    """Copy a database through SQLite's backup API."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def digest(database: Path) -> str:
    """Return one number for the schema, every row and the journal mode."""
    with closing(sqlite3.connect(database)) as conn:
        (mode,) = conn.execute("PRAGMA journal_mode").fetchone()
        found = hashlib.sha256(mode.encode())
        for line in conn.iterdump():
            found.update(line.encode())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
