"""
Have sqlx, Diesel and refinery make the dumps: `python -m tests.formats.make_rust_dumps`.

The tools are looked for on PATH. They are on crates.io, and a build of each takes minutes:

    cargo install sqlx-cli --no-default-features --features sqlite,rustls,sqlx-toml
    cargo install diesel_cli --no-default-features --features sqlite-bundled
    cargo install refinery_cli --no-default-features --features sqlite-bundled

`refinery-int8` is refinery's with `--features sqlite-bundled,refinery-core/int8-versions`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from tests.formats import rust_sets as sets
from tests.formats.support import content, run_tool, write

DUMPS = Path(__file__).parent / "dumps"

Dumped = Iterator[tuple[str, Path]]
"""Names of dumps with the databases that they are of."""


def sqlx(database: Path, source: Path, *words: object) -> str:
    """Run a command of `sqlx migrate`, with the settings that lie beside the migrations."""
    url = f"sqlite://{database}?mode=rwc"
    options = ("--source", source, "--database-url", url)
    return run_tool("sqlx", "migrate", *words, *options, cwd=source.parent)


def diesel(database: Path, source: Path, *words: object) -> str:
    """Run a command of `diesel migration`."""
    (source.parent / "diesel.toml").touch()
    options = ("--database-url", database, "--migration-dir", source)
    return run_tool("diesel", "migration", *words, *options, cwd=source.parent)


def refinery(database: Path, source: Path, *words: object, command: str = "refinery") -> str:
    """Run `refinery migrate`, which is to refuse what does not fit, as the library does."""
    database.touch()
    config = source.parent / "refinery.toml"
    config.write_text(f'[main]\ndb_type = "Sqlite"\ndb_path = "{database}"\n')
    return run_tool(command, "migrate", "-d", "-m", "-c", config, "-p", source, *words)


def first(files: Mapping[str, str], count: int) -> dict[str, str]:
    """Return the first files of a set."""
    return dict(islice(files.items(), count))


def of_sqlx(scratch: Path) -> Dumped:
    """Yield databases with two of four migrations, with all, and with one undone."""
    source = write(scratch / "migrations", sets.SQLX)
    sqlx(database := scratch / "some.db", source, "run", "--target-version", "20230201000000")
    yield "some", database
    sqlx(database, source, "run")
    yield "all", database
    sqlx(database, source, "revert")
    yield "reverted", database
    source = write(scratch / "simple", sets.SQLX_SIMPLE)
    sqlx(database := scratch / "simple.db", source, "run")
    yield "simple", database
    source = write(scratch / "set" / "migrations", sets.SQLX_SIMPLE)
    write(source.parent, sets.SQLX_TOML)
    sqlx(database := scratch / "settings.db", source, "run")
    yield "settings", database


def of_diesel(scratch: Path) -> Dumped:
    """Yield databases with two of five migrations, with all, and with one undone."""
    database = scratch / "app.db"
    diesel(database, write(scratch / "some" / "migrations", first(sets.DIESEL, 4)), "run")
    yield "some", database
    source = write(scratch / "migrations", sets.DIESEL)
    diesel(database, source, "run")
    yield "all", database
    diesel(database, source, "revert")
    yield "reverted", database


def of_refinery(scratch: Path) -> Dumped:
    """Yield databases with two of four migrations, with all, and with a late one."""
    source = write(scratch / "migrations", sets.REFINERY)
    refinery(database := scratch / "app.db", source, "-t", "2")
    yield "some", database
    refinery(database, source)
    yield "all", database
    write(source, sets.REFINERY_LATE)
    refinery(database, source)
    yield "late", database


def of_refinery_int8(scratch: Path) -> Dumped:
    """Yield a database whose versions have 64 bits."""
    source = write(scratch / "migrations", sets.REFINERY_INT8)
    refinery(database := scratch / "app.db", source, "-t", "2", command="refinery-int8")
    yield "int8_some", database
    refinery(database, source, command="refinery-int8")
    yield "int8_all", database


MAKERS = {
    "sqlx": ("sqlx", of_sqlx),
    "diesel": ("diesel", of_diesel),
    "refinery": ("refinery", of_refinery),
    "refinery-int8": ("refinery", of_refinery_int8),
}
"""The directory of the dumps, and what makes the databases, by the command."""


def main() -> int:
    """Write the dumps of the tools that are there, and name those that are not."""
    missing = [command for command in MAKERS if shutil.which(command) is None]
    for command, (directory, make) in MAKERS.items():
        if command in missing:
            continue
        (DUMPS / directory).mkdir(parents=True, exist_ok=True)
        version = " ".join(run_tool(command, "--version").split())
        with tempfile.TemporaryDirectory() as scratch:
            for name, database in make(Path(scratch)):
                head = f"-- Made by {version} (tests/formats/make_rust_dumps.py).\n"
                text = head + "\n".join(content(database)) + "\n"
                (DUMPS / directory / f"{name}.sql").write_text(text, encoding="utf-8")
    if missing:
        sys.stderr.write(f"Not on PATH: {', '.join(missing)}.\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
