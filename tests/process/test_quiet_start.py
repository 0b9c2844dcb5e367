"""What a start with nothing pending does, counted: modules, patterns, opens, statements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import rows, write_migrations
from tests.support.processes import PACKAGES, clean_environment, run_entrypoint

NUMBER = 20

COUNTED = """
import glob, json, os, pathlib, re, sqlite3, sys
seen = {"patterns": [], "statements": [], "opened": 0, "listed": 0, "forked": 0}
compile_pattern, connect, scan = re._compiler.compile, sqlite3.connect, os.scandir

def compiled(pattern, flags=0):
    seen["patterns"].append(pattern)
    return compile_pattern(pattern, flags)

def connected(*args, **named):
    seen["opened"] += 1
    conn = connect(*args, **named)
    conn.set_trace_callback(seen["statements"].append)
    return conn

def listed(path):
    seen["listed"] += str(path) == sys.argv[2]
    return scan(path)

def forked():
    seen["forked"] += 1

re._compiler.compile, sqlite3.connect, os.scandir = compiled, connected, listed
os.register_at_fork(before=forked)
if sys.argv[1] == "check":
    from migrator.cli import main
    words = ["check"]
else:
    from entrypoint.main import main
    words = []
code = main([*words, "--migrations", sys.argv[2], "--database", sys.argv[3]])
seen["modules"] = sorted(sys.modules)
print(json.dumps({"code": code, **seen}))
"""

OURS = {
    "entrypoint",
    "entrypoint.identities",
    "entrypoint.main",
    "entrypoint.options",
    "entrypoint.privileges",
    "entrypoint.program",
    "entrypoint.program.elf",
    "entrypoint.program.replace",
    "entrypoint.program.resolve",
    "entrypoint.volume",
    "entrypoint.volume.checks",
    "entrypoint.volume.mounts",
    "entrypoint.volume.users",
    "entrypoint.volume.wait",
    "migrator",
    "migrator._version",
    "migrator.access",
    "migrator.database",
    "migrator.database.lock_probe",
    "migrator.database.run_state",
    "migrator.database.uri",
    "migrator.database.workspace",
    "migrator.engine",
    "migrator.engine.parent",
    "migrator.errors",
    "migrator.files",
    "migrator.formats",
    "migrator.formats.history",
    "migrator.formats.opening",
    "migrator.formats.source",
    "migrator.inspect",
    "migrator.inspect.database",
    "migrator.inspect.location",
    "migrator.inspect.status",
    "migrator.log",
    "migrator.log.hints",
    "migrator.log.lines",
    "migrator.log.outcome",
    "migrator.log.translate",
    "migrator.log.writer",
    "migrator.model",
    "migrator.options",
    "migrator.options.command_line",
    "migrator.options.environment",
    "migrator.options.model",
    "migrator.options.table",
    "migrator.options.types",
    "migrator.parsing",
    "migrator.parsing.directory",
    "migrator.parsing.file_names",
    "migrator.plan",
    "migrator.process",
    "migrator.process.blocked_signals",
    "migrator.process.descriptors",
    "migrator.process.signals",
    "migrator.run",
    "migrator.sqlite",
    "migrator.terminal",
    "migrator.value",
    "migrator.wait",
}
"""Our modules that a start with nothing pending imports: one more is a decision."""

DEAR = {
    *(
        "argparse",
        "ast",
        "dataclasses",
        "inspect",
        "json",
        "logging",
        "random",
        "shlex",
        "string",
        "struct",
    ),
    *("subprocess", "tempfile", "textwrap", "tokenize", "traceback", "typing"),
    *("structlog", "tenacity"),
}
"""Modules of others that take long to import, and that a look does not need."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of migrations."""
    return write_migrations(
        tmp_path / "migrations",
        {f"{n:03}_table.sql": f"CREATE TABLE t{n} (id);" for n in range(1, NUMBER + 1)},
    )


@pytest.fixture
def database(files: Path, tmp_path: Path) -> Path:
    """Return a database with nothing pending."""
    path = tmp_path / "app.db"
    assert run_entrypoint("--database", path, "--migrations", files).code == 0
    return path


def looked(what: str, files: Path, database: Path) -> dict[str, Any]:
    """Have a new process look, and return what it counted."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", COUNTED, what, files, database],
        env=clean_environment({"PYTHONPATH": str(PACKAGES)}),
        check=True,
        capture_output=True,
        text=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert seen["code"] == 0
    return seen


def test_a_start_imports_what_it_needs(files: Path, database: Path) -> None:
    """Of ours the modules of the list."""
    modules = looked("start", files, database)["modules"]
    assert {each for each in modules if each.startswith(("entrypoint", "migrator"))} == OURS


@pytest.mark.parametrize("what", ["start", "check"])
def test_a_look_imports_nothing_dear(what: str, files: Path, database: Path) -> None:
    """Of Python's modules, and others', none is imported that takes long."""
    modules = set(looked(what, files, database)["modules"])
    # What the counting itself imports is not counted.
    assert modules & DEAR == {"json"}


@pytest.mark.parametrize("what", ["start", "check"])
def test_a_look_opens_and_lists_once(what: str, files: Path, database: Path) -> None:
    """The directory is listed once, and of the database the journal mode is found out, then it."""
    seen = looked(what, files, database)
    assert (seen["listed"], seen["opened"], seen["forked"]) == (1, 2, 0)


@pytest.mark.parametrize("what", ["start", "check"])
def test_a_look_asks_a_fixed_number_of_questions(what: str, files: Path, database: Path) -> None:
    """However many migrations there are, it executes the same few statements."""
    first = looked(what, files, database)["statements"]
    # Those that SQLite executes for another one begin with a comment.
    assert len([each for each in first if not each.startswith("--")]) <= 10
    write_migrations(files, {f"{n}_more.sql": f"CREATE TABLE m{n} (id);" for n in range(100, 140)})
    assert run_entrypoint("--database", database, "--migrations", files).code == 0
    assert looked(what, files, database)["statements"] == first


@pytest.mark.parametrize("what", ["start", "check"])
def test_a_look_compiles_no_pattern(what: str, files: Path, database: Path) -> None:
    """Compiling a pattern takes as long as importing several modules."""
    assert looked(what, files, database)["patterns"] == []


def test_a_worker_has_no_log_of_its_own(tmp_path: Path) -> None:
    """structlog, and what it imports, is the parent's: a worker reports to it over a pipe."""
    path = tmp_path / "app.db"
    up = (
        "import sys\n\n\ndef up(conn):\n"
        "    conn.execute('CREATE TABLE seen (name)')\n"
        "    names = [(each,) for each in sys.modules]\n"
        "    conn.executemany('INSERT INTO seen VALUES (?)', names)\n"
    )
    files = write_migrations(tmp_path / "migrations", {"001_seen.py": up})
    subprocess.run(
        [sys.executable, "-m", "entrypoint", "--migrations", files, "--database", path],
        env=clean_environment({"PYTHONPATH": str(PACKAGES)}),
        check=True,
        capture_output=True,
    )
    seen = {name for (name,) in rows(path, "SELECT name FROM seen")}
    assert "migrator.process.worker" in seen
    assert not {"structlog", "asyncio"} & seen
