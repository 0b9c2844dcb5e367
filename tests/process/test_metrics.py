"""`migrator status --metrics FILE`: what node_exporter's textfile collector reads."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.files import listing, make_database, write_migrations
from tests.support.processes import Result, run_migrator

PREFIX = "sqlite_entrypoint_"


@pytest.fixture
def options(tmp_path: Path) -> tuple[str | Path, ...]:
    """Return the options of a database with one migration pending."""
    database = make_database(tmp_path / "data" / "app.db", "CREATE TABLE users (id);")
    files = write_migrations(tmp_path / "m", {"001_tags.sql": "CREATE TABLE tags (x);"})
    return ("--database", database, "--migrations", files)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return the file, in a directory of its own."""
    (tmp_path / "textfile").mkdir()
    return tmp_path / "textfile" / "app.prom"


def status(page: Path, options: tuple[str | Path, ...]) -> Result:
    """Write the metrics."""
    return run_migrator("status", "--metrics", page, *options)


def read(page: Path) -> dict[str, float]:
    """Return each metric's value by its name, read as Prometheus itself reads it."""
    found = {}
    for family in text_string_to_metric_families(page.read_text(encoding="utf-8")):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert "database" in sample.labels
            name = sample.name.removeprefix(PREFIX)
            found[sample.labels.get("outcome", "") + name] = sample.value
    return found


def unix(text: str) -> int:
    """Return a time of a JSON result as Unix time."""
    return int(datetime.fromisoformat(text).timestamp())


def test_before_a_run_what_is_not_known_is_left_out(page, options):
    """There is no last run, and no backup but their number: an alert on `absent()` sees it."""
    result = status(page, options)
    assert (result.code, result.stdout) == (0, run_migrator("status", *options).stdout)
    assert read(page) == {
        "up_to_date": 0,
        "running": 0,
        "problems": 0,
        "pending_migrations": 1,
        "applied_migrations": 0,
        "backups": 0,
    }


def test_after_a_run_all_of_it_is_there(page, options):
    """Times and sizes are those that `status` and `backups` have as JSON."""
    assert run_migrator("up", *options).code == 0
    facts = json.loads(run_migrator("status", "--json", "--metrics", page, *options).stdout)
    (backup,) = json.loads(run_migrator("backups", "--json", *options).stdout)
    found = read(page)
    outcomes = {name: found.pop(name) for name in list(found) if name.endswith("last_run_outcome")}
    assert [name for name, value in outcomes.items() if value] == ["migratedlast_run_outcome"]
    assert len(outcomes) == 12
    assert found == {
        "up_to_date": 1,
        "running": 0,
        "problems": 0,
        "pending_migrations": 0,
        "applied_migrations": 1,
        "last_run_timestamp_seconds": unix(facts["last_run"]["finished_at"]),
        "last_run_exit_code": 0,
        "backups": 1,
        "last_backup_timestamp_seconds": unix(backup["created_at"]),
        "last_backup_size_bytes": backup["bytes"],
    }


def test_a_failed_run_has_its_exit_code(page, options):
    """What is pending stays so, and the outcome is another one."""
    write_migrations(options[3], {"002_bad.sql": "INSERT INTO nowhere VALUES (1);"})
    assert run_migrator("up", *options).code == 80
    status(page, options)
    found = read(page)
    assert found["last_run_exit_code"] == 80
    assert found["failed_restoredlast_run_outcome"] == 1
    assert found["migratedlast_run_outcome"] == 0
    assert found["pending_migrations"] == 2


def test_what_cannot_be_read_has_no_count(page, options):
    """Nobody takes 0 pending for an answer about a file that is no database."""
    options[1].write_bytes(b"no database" * 1000)
    assert status(page, options).code == 0
    assert read(page).keys() == {"up_to_date", "running", "problems", "backups"}


def test_the_file_is_replaced_as_a_whole(page, options):
    """A reader that has the old one open reads the old one; others may read the new one."""
    page.write_text("old")
    with page.open() as old:
        assert status(page, options).code == 0
        assert old.read() == "old"
    assert stat.S_IMODE(page.stat().st_mode) == 0o644
    assert os.listdir(page.parent) == ["app.prom"]


def test_a_link_to_the_file_stays_a_link(page, options, tmp_path):
    """The file that it leads to is the one that is replaced."""
    link = tmp_path / "link.prom"
    link.symlink_to(page)
    assert status(link, options).code == 0
    assert (link.is_symlink(), page.is_file()) == (True, True)


@pytest.mark.parametrize(
    "name",
    ["app.db", "app.db-wal", "app.db.migrator/lock", "app.db.migrator/new.prom", "backups/x.db"],
)
def test_what_is_the_databases_is_not_overwritten(options, name):
    """64, and every byte stays: the path was a slip."""
    assert run_migrator("up", *options).code == 0
    data = options[1].parent
    before = listing(data)
    result = status(data / name, options)
    assert (result.code, result.stdout) == (64, "")
    assert before == listing(data)


def test_a_pipe_or_a_directory_is_not_replaced(page, options):
    """A rename would take the place of a device."""
    os.mkfifo(page)
    assert status(page, options).code == 64
    assert stat.S_ISFIFO(page.stat().st_mode)
    assert status(page.parent, options).code == 64
    assert os.listdir(page.parent) == ["app.prom"]


def test_a_directory_that_is_not_there_is_64(tmp_path, options):
    """It is not made: whoever reads it would not look there."""
    result = status(tmp_path / "none" / "app.prom", options)
    assert (result.code, result.finished["reason"]) == (64, "usage")
    assert not (tmp_path / "none").exists()


def test_a_name_that_the_format_has_to_escape_is_read_back(tmp_path, page):
    """Quotes, backslashes and line breaks in a path, and bytes that are no UTF-8."""
    folder = tmp_path / 'a "b" \\ c\nd'
    database = make_database(folder / "app.db", "CREATE TABLE users (id);")
    files = write_migrations(tmp_path / "m", {"001_tags.sql": "CREATE TABLE tags (x);"})
    assert status(page, ("--database", database, "--migrations", files)).code == 0
    families = text_string_to_metric_families(page.read_text(encoding="utf-8"))
    labels = {sample.labels["database"] for family in families for sample in family.samples}
    assert labels == {str(database)}
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db"))
    make_database(odd, "CREATE TABLE users (id);")
    assert status(page, ("--database", odd, "--migrations", files)).code == 0
    assert read(page)["pending_migrations"] == 1
