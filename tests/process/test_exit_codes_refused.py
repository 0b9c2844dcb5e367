"""The exit code of migrations that do not fit the database: 78."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.exits import Both, pending, start
from tests.support.files import (
    history,
    opened,
    seed_by_name,
    write_migrations,
)
from tests.support.outcomes import (
    Before,
    assert_failed,
    assert_succeeded,
)
from tests.support.processes import (
    run_entrypoint,
    run_migrator,
)

# --- 78 ----------------------------------------------------------------------


@Both
def test_a_missing_migrations_directory_is_78_at_once(run, database, tmp_path):
    """A missing migrations directory is 78 at once, not waited for."""
    before = Before.of(database)
    result = start(run, database, tmp_path / "nowhere", "--wait-timeout", "60")
    end = assert_failed(result, 78, "migrations.directory_missing")
    assert "nowhere" in end["error"]
    assert result.named("volume.waiting") == []
    before.assert_untouched()


MISFITS = {
    "an open string": ("001_a.sql", "SELECT 'x;\n", "migrations.syntax"),
    "cut off": ("001_a.sql", "SELECT 1;\nCREATE TABLE x (y\n", "migrations.syntax"),
    "unknown directive": ("001_a.sql", "-- migrate:sideways\nSELECT 1;\n", "migrations.directive"),
    "unknown option": (
        "001_a.sql",
        "-- migrate:up transactional:no\nSELECT 1;\n",
        "migrations.directive",
    ),
    "python syntax": ("001_a.py", "def up(conn:\n    pass\n", "migrations.syntax"),
    "python import": (
        "001_a.py",
        "import no_such_module\ndef up(conn):\n    pass\n",
        "migrations.import",
    ),
    "no up": ("001_a.py", "def upp(conn):\n    pass\n", "migrations.no_up"),
    "no literal": (
        "001_a.py",
        "transactional = bool(1)\ndef up(conn):\n    pass\n",
        "migrations.literal",
    ),
    "unknown requirement": (
        "001_a.py",
        "requires = ('009',)\ndef up(conn):\n    pass\n",
        "migrations.requires",
    ),
    "itself": (
        "001_a.py",
        "requires = ('001',)\ndef up(conn):\n    pass\n",
        "migrations.requires",
    ),
    "bad name": ("3-add.sql", "SELECT 1;\n", "migrations.bad_name"),
    "rollback": ("001_a.sql", "SELECT 1;\nROLLBACK;\n", "migrations.not_transactional"),
    "attach": ("001_a.sql", "ATTACH 'x.db' AS x;\n", "migrations.not_transactional"),
    "vacuum": ("001_a.sql", "VACUUM;\n", "migrations.not_transactional"),
    "journal mode": (
        "001_a.sql",
        "SELECT 1;\n\nPRAGMA journal_mode = WAL;\n",
        "migrations.not_transactional",
    ),
    "ends when imported": (
        "001_a.py",
        "import os\nos._exit(0)\ndef up(conn):\n    pass\n",
        "migrations.import",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_file_that_is_no_migration_is_78(case, database, tmp_path):
    """A file that cannot be run is found before the backup, with its name and what to do."""
    name, text, reason = MISFITS[case]
    directory = write_migrations(
        tmp_path / "m", {"000_good.sql": "CREATE TABLE good (id);\n", name: text}
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 78, reason)
    assert name in end["error"]
    assert result.named("backup.started") == []
    assert result.named("migration.started") == []
    before.assert_untouched(ours=True)
    if case != "bad name":
        assert len(pending(database, directory)) == 2


@pytest.mark.parametrize("reported", ["python syntax", "cut off", "rollback", "journal mode"])
def test_a_file_that_does_not_parse_is_named_with_its_line(reported, database, tmp_path):
    """What does not parse is reported with file and line."""
    name, text, reason = MISFITS[reported]
    directory = write_migrations(tmp_path / "m", {name: text})
    end = assert_failed(start(run_entrypoint, database, directory), 78, reason)
    line = {"python syntax": 1, "cut off": 2, "rollback": 2, "journal mode": 3}[reported]
    assert (end["file"], end["line"]) == (name, line)


def test_a_duplicate_version_is_78(database, tmp_path):
    """`1` and `001` are one version."""
    directory = write_migrations(
        tmp_path / "m", {"001_a.sql": "SELECT 1;\n", "1_b.sql": "SELECT 1;\n"}
    )
    before = Before.of(database)
    end = assert_failed(start(run_entrypoint, database, directory), 78, "migrations.duplicate")
    assert "001_a.sql" in end["error"]
    assert "1_b.sql" in end["error"]
    before.assert_untouched()


def with_third(migrations: Path) -> None:
    """Add a third migration, so that something is pending."""
    write_migrations(migrations, {"003_more.sql": "CREATE TABLE more (id);\n"})


@Both
def test_a_newer_database_is_78_even_with_nothing_pending(run, migrated, migrations):
    """A database with migrations that this image lacks is refused, naming both sides."""
    (migrations / "002_create_tags.sql").unlink()
    before = Before.of(migrated)
    end = assert_failed(start(run, migrated, migrations), 78, "history.newer")
    assert "002" in end["error"]
    assert "001" in end["error"]
    assert "migrator restore app.db-" in end["hint"]
    before.assert_untouched()
    result = start(run, migrated, migrations, "--accept", "newer")
    assert_succeeded(result, "up_to_date")
    assert result.one("history.misfit")["kind"] == "newer"


@pytest.mark.parametrize("kind", ["missing", "changed", "out-of-order"])
def test_each_other_misfit_is_78_with_something_pending(kind, migrated, migrations):
    """Missing, changed and out-of-order are refused when something is pending, unless accepted."""
    with_third(migrations)
    applied = 1
    if kind == "missing":
        (migrations / "001_add_email.py").unlink()
    elif kind == "changed":
        (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    else:
        write_migrations(migrations, {"000_early.sql": "CREATE TABLE early (id);\n"})
        applied = 2
    before = Before.of(migrated)
    end = assert_failed(start(run_entrypoint, migrated, migrations), 78, f"history.{kind}")
    assert [each["kind"] for each in end["problems"]] == [kind]
    assert f"--accept {kind}" in end["hint"]
    before.assert_untouched(ours=True)
    result = start(run_entrypoint, migrated, migrations, "--accept", kind)
    assert_succeeded(result, "migrated", applied)
    assert kind in [each["kind"] for each in result.named("history.misfit")]


@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_other_misfits_are_no_refusal_with_nothing_pending(kind, migrated, migrations):
    """With nothing pending `missing` is a warning, and texts are not even hashed."""
    if kind == "missing":
        (migrations / "001_add_email.py").unlink()
    else:
        (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    before = Before.of(migrated)
    result = start(run_entrypoint, migrated, migrations)
    assert_succeeded(result, "up_to_date")
    warned = [each["kind"] for each in result.named("history.misfit")]
    assert warned == (["missing"] if kind == "missing" else [])
    before.assert_untouched()


def test_the_first_of_several_misfits_decides(migrated, migrations):
    """Newer before missing before changed before out-of-order decides; all are listed."""
    with_third(migrations)
    start(run_entrypoint, migrated, migrations)
    (migrations / "003_more.sql").unlink()
    (migrations / "001_add_email.py").unlink()
    (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    write_migrations(migrations, {"000_early.sql": "CREATE TABLE early (id);\n"})
    order = ["newer", "missing", "changed", "out-of-order"]
    accepted: list[str] = []
    for kind in order:
        flags = ["--accept", ",".join(accepted)] if accepted else []
        end = assert_failed(
            start(run_entrypoint, migrated, migrations, *flags), 78, f"history.{kind}"
        )
        listed = [each["kind"] for each in end["problems"]]
        assert listed == order[len(accepted) :], (kind, listed)
        accepted.append(kind)


@Both
def test_a_table_of_the_applications_own_is_78(run, database, migrations):
    """A table `migrations` of another shape belongs to the application and is never touched."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE migrations (id INTEGER PRIMARY KEY, batch INTEGER)")
    before = Before.of(database)
    end = assert_failed(start(run, database, migrations), 78, "history.not_ours")
    assert "--history-table" in end["hint"]
    before.assert_untouched(ours=True)
    result = start(run, database, migrations, "--history-table", "our_migrations")
    assert_succeeded(result, "migrated", 2)
    assert history(database, "our_migrations") == ["001", "002"]


@Both
@pytest.mark.parametrize(
    ("table", "columns", "row"),
    [
        ("schema_migrations", "version TEXT PRIMARY KEY", "('001')"),
        ("goose_db_version", "id INTEGER PRIMARY KEY, version_id, is_applied", "(1, 1, 1)"),
        ("alembic_version", "version_num TEXT", "('ae1027a6acf')"),
        ("django_migrations", "id INTEGER PRIMARY KEY, app, name, applied", "(1, 'a', '0001', 0)"),
    ],
)
def test_another_tools_history_is_78(run, table, columns, row, database, migrations):
    """Another tool's history is refused when something is pending, with the way in."""
    with opened(database) as conn:
        conn.execute(f"CREATE TABLE {table} ({columns})")
        conn.execute(f"INSERT INTO {table} VALUES {row}")
    before = Before.of(database)
    end = assert_failed(start(run, database, migrations), 78, "history.foreign")
    assert table in end["error"]
    assert "migrator baseline " in end["hint"]
    before.assert_untouched(ours=True)


def test_a_history_of_the_other_kind_is_78(tmp_path, migrations):
    """A registry's history does not fit a directory of numbered files."""
    database, _ = seed_by_name(tmp_path)
    before = Before.of(database)
    assert_failed(start(run_entrypoint, database, migrations), 78, "history.other_source")
    before.assert_untouched(ours=True)


def test_down_without_a_down_is_78_before_anything_runs(database, tmp_path):
    """`down` over a migration that has none is refused before anything runs."""
    directory = write_migrations(
        tmp_path / "m",
        {
            "001_a.sql": "CREATE TABLE a (id);\n",
            "002_b.sql": "-- migrate:up\nCREATE TABLE b (id);\n-- migrate:down\nDROP TABLE b;\n",
        },
    )
    start(run_entrypoint, database, directory)
    before = Before.of(database)
    result = run_migrator("down", "--steps", "2", "--database", database, "--migrations", directory)
    end = assert_failed(result, 78, "migrations.no_down")
    assert "001_a.sql" in end["error"]
    before.assert_untouched(ours=True)
    assert history(database) == ["001", "002"]
