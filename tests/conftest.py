"""Fixtures that every test module may ask for."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import WorkStealingScheduling

from tests.support.files import make_database, write_migrations
from tests.support.machine import unreachable_by_others
from tests.support.processes import FORKED

ROOT = Path(__file__).parents[1]
"""The repository, or the copy of its tests that an installed wheel is tested with."""


_TESTS_RUN_IN = os.getpid()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport() -> None:
    """
    End a forked child that has come back out of its test.

    It would go on to run every further test, forking again in each.
    """
    if os.getpid() != _TESTS_RUN_IN:
        os._exit(70)


def pytest_configure() -> None:
    """
    Give this process, and so its children, Python's own SIGINT.

    A shell's background job (`pytest ... &`) and `nohup` have it ignored (POSIX, sh, 2.11).
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the caller of the tests has set reaches the program under test."""
    for name in tuple(os.environ):
        if name.startswith("MIGRATOR_") or name in {"PUID", "PGID"}:
            monkeypatch.delenv(name)


@pytest.fixture
def from_the_start() -> Iterator[None]:
    """Have each run of a command be a process of its own from the start, as users have it."""
    token = FORKED.set(False)
    yield
    FORKED.reset(token)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Return an empty directory that plays the volume."""
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def database(volume: Path) -> Path:
    """Return a small database on the volume: two tables, one referring to the other."""
    return make_database(
        volume / "app.db",
        """
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        CREATE TABLE notes (
            id INTEGER PRIMARY KEY,
            user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
            text TEXT
        );
        INSERT INTO users (name) VALUES ('Ada'), ('Grace'), ('Edsger');
        INSERT INTO notes (user_id, text) VALUES (1, 'one'), (2, 'two'), (2, 'three');
        """,
    )


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Return a directory with two good migrations, one `.py` and one `.sql`, each with its down."""
    return write_migrations(
        tmp_path / "migrations",
        {
            "001_add_email.py": '''
                """Addresses of users."""

                def up(conn):
                    conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
                    conn.execute("UPDATE users SET email = lower(name) || '@example.org'")

                def down(conn):
                    conn.execute("ALTER TABLE users DROP COLUMN email")
                ''',
            "002_create_tags.sql": """
                -- migrate:up
                CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
                INSERT INTO tags (name) VALUES ('red; green'), ('blue');

                -- migrate:down
                DROP TABLE tags;
                """,
        },
    )


@pytest.fixture
def example_migrations() -> Path:
    """Return the example application's own migrations."""
    return ROOT / "migrations"


@pytest.fixture
def as_root() -> None:
    """Skip a test that needs root where the tests do not run as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def other_user(as_root: None) -> tuple[int, int]:
    """Return the ids of a user without a name, as which this Python can run when root starts it."""
    if path := unreachable_by_others():
        pytest.skip(f"needs a Python that other users can read; {path} is closed to them")
    return 12345, 12345


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return an empty directory that other users can reach, which `tmp_path` is not."""
    path = Path(tempfile.mkdtemp(prefix="sqlite-entrypoint-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of the quick suite (`-m "not slow"`) what starts containers or injects faults."""
    for item in items:
        if item.get_closest_marker("container") or item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WorkStealingScheduling | None:
    """
    Give each worker a whole stretch of the tests, of which those who are done take over a part.

    One worker then builds the images of the containers while the others run what needs none.
    """
    usual = config.getoption("dist") == "load"
    return WorkStealingScheduling(config, log) if usual else None


def _skipped(config: pytest.Config) -> list[pytest.TestReport]:
    """Return the reports of the tests that were skipped, as the terminal has them."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return terminal.stats.get("skipped", []) if terminal is not None else []


def _skipped_containers(config: pytest.Config) -> list[pytest.TestReport]:
    return [report for report in _skipped(config) if "container" in report.keywords]


def _reasons(reports: list[pytest.TestReport]) -> str:
    """Return why tests were skipped, most frequent first, with the number of each reason."""
    places = (each.longrepr for each in reports)
    reasons = Counter(each[2].removeprefix("Skipped: ") for each in places if type(each) is tuple)
    return "; ".join(f"{reason} ({number})" for reason, number in reasons.most_common())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where the tests are a gate and container tests were skipped."""
    if os.environ.get("CI") == "true" and _skipped_containers(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in one line what was skipped and what installs it, and what the containers measured."""
    yield
    skipped = _skipped(terminalreporter.config)
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests were skipped: {_reasons(skipped)}.")
        terminalreporter.write_line(
            "On a Debian, `sudo .ci/run install` installs the tools that are missing."
        )
    for report in terminalreporter.stats.get("passed", []):
        measured = report.when == "call" and "container" in report.keywords
        for name, value in report.user_properties if measured else ():
            terminalreporter.write_line(f"{name}: {value}")


def pytest_report_header() -> str:
    """Say which SQLite is tested with."""
    return f"SQLite {sqlite3.sqlite_version}"
