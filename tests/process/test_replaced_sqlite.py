"""Another module in the place of `sqlite3`, as applications that want a newer SQLite put it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history
from tests.support.processes import run_migrator, run_script

LIKE_PYSQLITE3 = """\
    import sqlite3 as real, sys, types

    class Connection:
        def __init__(self, *args, **options):
            self.real = real.connect(*args, **options)
        def execute(self, *args):
            return self.real.execute(*args)

    stand_in = types.ModuleType(NAME)
    for name in ("Cursor", "Row", "Error", "OperationalError", "DatabaseError", "SQLITE_OK"):
        setattr(stand_in, name, getattr(real, name))
    stand_in.Connection = Connection
    stand_in.connect = Connection
    database, directory = sys.argv[1:3]
"""
END = """
    try:
        CALL
    except Exception as error:
        print(type(error).__name__, error.exit_code, error.reason)
        print(error.message)
        print(error.hint)
    """
SWAP = 'sys.modules["sqlite3"] = stand_in'
IMPORT = "from migrator import MigrationRunner"
MADE = f"{IMPORT}; runner = MigrationRunner(database, directory); {SWAP}"
WHEN = {
    "before the import": (SWAP, IMPORT),
    "before the runner": (f"{IMPORT}; {SWAP}", "MigrationRunner(database, directory)"),
    "before a run": (MADE, "runner.run_pending_migrations(verbose=False)"),
    "before a look": (MADE, "runner.get_status()"),
    "before a way back": (MADE, "runner.rollback_last(verbose=False)"),
}


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", ["pysqlite3", "sqlean"])
def test_another_module_in_the_place_of_sqlite3_is_refused(
    when: str, name: str, database: Path, migrations: Path
) -> None:
    """It is 78 by name, nothing is touched, and what the hint says works as typed."""
    before = logical_digest(database)
    swap, call = WHEN[when]
    text = LIKE_PYSQLITE3.replace("NAME", repr(name)) + f"    {swap}" + END.replace("CALL", call)

    done = run_script(text, database, migrations)

    assert done.returncode == 0, done.stderr
    first, message, hint = done.stdout.splitlines()
    assert first == "MisfitError 78 sqlite.replaced"
    assert repr(name) in message
    assert name in hint
    assert logical_digest(database) == before
    (command,) = re.findall(r"`migrator ([^`]+)`", hint)
    words = shlex.split(command)
    if when == "before the import":  # nothing is known of any database yet
        words += ["--database", str(database), "--migrations", str(migrations)]
    assert run_migrator(*words).code == 0
    assert history(database) == ["001", "002"]


@pytest.mark.parametrize("name", ["pysqlite3", "sqlean"])
def test_beside_another_module_the_api_works(name: str, database: Path, migrations: Path) -> None:
    """A module under its own name is no matter to it, as the hint says."""
    text = LIKE_PYSQLITE3.replace("NAME", repr(name)) + (
        f"    sys.modules[{name!r}] = stand_in\n"
        "    from migrator import MigrationRunner\n"
        "    print(MigrationRunner(database, directory).run_pending_migrations(verbose=False))\n"
    )
    done = run_script(text, database, migrations)
    assert (done.stdout.split(), done.returncode) == (["2"], 0), done.stderr
    assert history(database) == ["001", "002"]
