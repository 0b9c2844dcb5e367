"""The example application, its migrations, and the demonstration in the README."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from examples.app.rehearsal import pages
from tests.conftest import ROOT
from tests.support import logs
from tests.support.files import history, load_module, opened, rows, seed_by_version
from tests.support.machine import tool
from tests.support.processes import (
    Running,
    clean_environment,
    run_entrypoint,
    run_migrator,
    running,
)

APP = ROOT / "examples" / "app" / "app.py"
DEMO = ROOT / "examples" / "app" / "demo.py"

ALL = ["001", "002", "003", "004", "005", "006", "007", "008", "009"]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the demonstration's module, which makes the old database."""
    monkeypatch.chdir(ROOT)
    return load_module(DEMO)


@pytest.fixture
def library(demo: ModuleType, volume: Path) -> Path:
    """Return the old release's database: version 002, some ten thousand rows."""
    path = volume / "library.db"
    demo.make_old_database(path)
    return path


@pytest.fixture
def served(
    library: Path, example_migrations: Path, tmp_path: Path
) -> Iterator[tuple[str, Running]]:
    """Start the entrypoint with the application and return its address and the process."""
    command = ("--", sys.executable, APP, "--database", library, "--port", "0")
    arguments = ("--database", library, "--migrations", example_migrations, *command)
    with running("entrypoint", *arguments, directory=tmp_path) as process:
        line = process.wait_for_stdout("listening on ")
        yield line.split()[-1], process


def fetch(address: str, data: bytes | None = None) -> str:
    """Return what the application answers."""
    with urlopen(Request(address, data=data), timeout=10) as response:
        return str(response.read().decode())


def test_every_migration_of_the_example_runs(library: Path, example_migrations: Path):
    """All pending migrations run over ten thousand rows, and only the doubled loans are gone."""
    result = run_entrypoint("--database", library, "--migrations", example_migrations)
    assert result.code == 0
    assert result.finished["outcome"] == "migrated"
    assert result.finished["applied"] == 7
    assert history(library) == ALL
    counts = "SELECT (SELECT count(*) FROM books), (SELECT count(*) FROM loans)"
    assert rows(library, counts) == [(1800, 8000)]
    assert rows(library, "PRAGMA foreign_key_check") == []


def test_the_example_goes_down_to_the_old_release_and_up_again(
    library: Path, example_migrations: Path
):
    """Each down undoes its up: the old columns are back, with the old way to write a date."""
    options = ("--database", library, "--migrations", example_migrations)
    assert run_migrator("up", *options).code == 0
    assert run_migrator("down", "--to", "002", *options).code == 0
    assert history(library) == ["001", "002"]
    (lent,) = rows(library, "SELECT lent_on FROM loans LIMIT 1")[0]
    assert re.fullmatch(r"\d\d/\d\d/\d{4}", lent)
    assert rows(library, "SELECT count(*) FROM books WHERE author IS NOT NULL") == [(1800,)]
    assert run_migrator("up", *options).code == 0
    assert history(library) == ALL


def test_the_rebuild_would_empty_the_loans_with_foreign_keys_on(
    library: Path, example_migrations: Path
):
    """The example holds the trap that it is there to show."""
    authors, books = (
        (example_migrations / name).read_text().partition("-- migrate:down")[0]
        for name in ("003_create_authors.sql", "005_rebuild_books.sql")
    )
    with opened(library) as conn:
        conn.executescript(authors)
        conn.execute("PRAGMA foreign_keys = ON")
        conn.executescript(books)
        assert conn.execute("SELECT count(*) FROM loans").fetchone() == (0,)
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


def test_the_in_house_runner_made_the_old_database(
    demo: ModuleType, library: Path, example_migrations: Path, volume: Path
):
    """The demonstration's history is what the framework of numbered files leaves."""
    other = seed_by_version(volume / "other.db", example_migrations, applied=2)
    schema = "SELECT name, lower(replace(sql, ' ', '')) FROM sqlite_schema ORDER BY name"
    squeezed = [(name, re.sub(r"\s", "", sql or "")) for name, sql in rows(library, schema)]
    assert squeezed == [(name, re.sub(r"\s", "", sql or "")) for name, sql in rows(other, schema)]
    query = "SELECT version, name FROM migrations"
    assert rows(library, query) == rows(other, query)


def test_the_page_shows_the_migrated_rows(served: tuple[str, Running]):
    """The application that the entrypoint becomes reads columns that only the migrations make."""
    address, process = served
    page = fetch(address)
    assert "1800 books by 61 authors, 200 members, 8000 loans." in page
    assert "<th>times lent" in page
    assert re.search(r"<td>2023-\d\d-\d\d<td>The ", page)
    assert json.loads(fetch(f"{address}/health"))["status"] == "ok"
    assert len(json.loads(fetch(f"{address}/books.json"))) == 10
    result = process.stop()
    assert result.code == 0
    assert result.named("app.exec")


def test_the_form_lends_a_book(served: tuple[str, Running], library: Path):
    """A loan of today is written, and the trigger counts it."""
    address, _ = served
    query = "SELECT times_lent FROM books WHERE id = 1"
    ((before,),) = rows(library, query)
    assert "Little library" in fetch(f"{address}/loans", b"book=1&member=1")
    assert rows(library, query) == [(before + 1,)]


@pytest.mark.parametrize("form", [b"book=1", b"book=0&member=1", b"book=x&member=1"])
def test_the_form_refuses_what_it_cannot_lend(served: tuple[str, Running], form: bytes):
    """A book or a member that is not there is 400, and no traceback."""
    address, _ = served
    with pytest.raises(HTTPError) as caught:
        fetch(f"{address}/loans", form)
    assert caught.value.code == 400
    caught.value.close()


def test_the_application_never_creates_its_database(tmp_path: Path):
    """Without its database the application answers 503 and leaves nothing behind."""
    missing = tmp_path / "missing.db"
    command = [sys.executable, str(APP), "--database", str(missing), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with pytest.raises(HTTPError) as caught:
            fetch(f"{address}/health")
        assert caught.value.code == 503
        caught.value.close()
        process.terminate()
        assert process.wait(10) == 0
    assert not missing.exists()


def run_demo(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the demonstration as the README does."""
    command = [sys.executable, str(DEMO), *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )


def test_the_demonstration_starts_twice(tmp_path: Path):
    """The first start migrates, the second finds nothing to do; both show the page."""
    first = run_demo("--directory", tmp_path, "--json")
    second = run_demo("--directory", tmp_path, "--json")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    outcomes = [logs.finished(logs.split(one.stderr)[0])["outcome"] for one in (first, second)]
    assert outcomes == ["migrated", "up_to_date"]
    for one in (first, second):
        assert "times lent" in one.stdout
        assert "the application ended with 0" in one.stdout


def test_the_demonstration_shows_what_a_person_would_see(tmp_path: Path):
    """Lines for people: no JSON, the run's header with the database, and the page below."""
    result = run_demo("--directory", tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0].endswith(f"begins on {(tmp_path / 'data' / 'library.db').resolve()}.")
    assert all(re.match(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", line) for line in lines)
    assert "{" not in result.stderr
    assert "1800 books by 61 authors" in result.stdout


def test_the_demonstration_of_a_failure_has_json_beside_it(tmp_path: Path):
    """The failure for people, then the end of the next start as JSON, with the same reason."""
    result = run_demo("--directory", tmp_path, "--fail")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "duplicate column name: name" in result.stderr
    assert "  Hint: Mend 010_archive_old_loans.sql" in result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("{")]
    end = json.loads(line)
    assert ("run.finished", 80, "migration.failed") == tuple(
        end[key] for key in ("event", "exit_code", "reason")
    )
    assert len(list((tmp_path / "failing" / "data" / "backups").glob("*.db"))) == 1


def test_the_demonstration_of_a_failure_shows_the_old_database(tmp_path: Path):
    """Exit code 80, the same digest before and after, and nothing executed."""
    result = run_demo("--directory", tmp_path, "--fail", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"exit code +80\n", result.stdout)
    before, after = re.findall(r"digest \w+ +([0-9a-f]{64})", result.stdout)
    assert before == after
    assert "never reached" not in result.stdout.splitlines()
    end = logs.finished(logs.split(result.stderr)[0])
    assert end["outcome"] == "failed_restored"
    with (
        opened(tmp_path / "failing" / "data" / "library.db") as conn,
        pytest.raises(sqlite3.OperationalError, match="no such table"),
    ):
        conn.execute("SELECT count(*) FROM archive")


# --- the pictures of a rehearsal ----------------------------------------------


def test_the_pictures_are_of_these_pages(tmp_path: Path):
    """The upgrade ends well and says what goes; the failing one says what would end it."""
    well, badly = (page.read_text(encoding="utf-8") for page in pages(tmp_path))
    assert "7 migrations would be applied to library.db." in well
    assert "006_one_row_a_loan.sql: 25 rows of loans, as it says" in well
    assert "The real start of library.db would end with 80." in badly
    assert "Migration 010_archive_old_loans.sql, line 4 failed: duplicate column name" in badly
    assert str(tmp_path) not in well + badly


def test_the_pictures_are_drawn_again_by_their_command(tmp_path: Path):
    """Both are there, as large as those of the page, which names the command."""
    tool("chromium")
    page = (ROOT / "docs" / "rehearse.md").read_text(encoding="utf-8")
    assert "`python -m examples.app.rehearsal docs`" in page
    command = [sys.executable, "-m", "examples.app.rehearsal", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True)
    for name in ("rehearsal.png", "rehearsal-failing.png"):
        drawn, kept = ((place / name).read_bytes() for place in (tmp_path, ROOT / "docs"))
        assert f"]({name})" in page
        assert drawn[:8] == kept[:8] == b"\x89PNG\r\n\x1a\n"
        assert drawn[16:24] == kept[16:24]
        # A page that was not drawn is one colour, and takes a few hundred bytes.
        assert min(len(drawn), len(kept)) > 40_000
