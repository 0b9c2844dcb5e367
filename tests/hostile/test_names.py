"""Names that a volume may have: bytes of every kind, as long as they may be, and things in the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.corpus.notes import note
from tests.corpus.place import DATABASE, STATE, backup_of, lay, sound
from tests.support.files import history, make_database, tables, write_migrations
from tests.support.outcomes import Before, assert_failed
from tests.support.processes import run_entrypoint, run_migrator

ITEMS = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)"
USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.db",
        "a'b\"c`d.db",
        "%s%n%2e.db",
        "\x1b[31m.db",
        "\udcff\udcfe.db",
        "-journal",
        " .db",
        "a?b#c.db",
    ],
)
def test_a_database_may_be_called_anything(name: str, migrations: Path, volume: Path) -> None:
    """A name of any bytes is one line in the log, and the run is like any other."""
    database = make_database(volume / name, USERS)
    result = run_entrypoint("--database", database, "--migrations", migrations)
    assert result.code == 0, result.stderr
    assert history(database) == ["001", "002"]
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("length", [247, 248, 250, 255])
def test_a_name_without_room_for_ours_is_refused(
    length: int, migrations: Path, volume: Path
) -> None:
    """Where `-journal` or our directory's name would be too long, nothing is written."""
    database = make_database(volume / "short", USERS)
    database = database.rename(volume / ("x" * length))
    before = Before.of(database, readable=False)
    data = database.read_bytes()

    result = run_entrypoint("--database", database, "--migrations", migrations)

    assert_failed(result, 69, "volume.unusable")
    before.assert_untouched()
    assert database.read_bytes() == data


def test_a_pipe_in_a_shared_backup_directory_is_not_waited_for(
    volume: Path, tmp_path: Path
) -> None:
    """A description that is a pipe says nothing, so what lies beside it is no backup."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "app.db-000001-x.db").touch()
    os.mkfifo(shared / "app.db-000001-x.db.json")
    files = write_migrations(tmp_path / "new", {"001_x.sql": "CREATE TABLE x (y);"})
    where = ("--database", volume / "app.db", "--migrations", files, "--backup-dir", shared)

    result = run_entrypoint(*where, "--wait-timeout", "0")

    assert (0, "created") == (result.code, result.finished["outcome"])
    assert run_migrator("backups", "--json", *where).stdout.strip() == "[]"


def test_a_pipe_that_passes_for_a_backup_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe is no backup, and reading it would wait for ever."""
    files = sound("plain")
    name = backup_of(files)
    facts = json.dumps(json.loads(files[f"{name}.json"]) | {"bytes": 0}).encode()
    base = lay({**files, f"{name}.json": facts}, tmp_path / "place")
    (base / name).unlink()
    os.mkfifo(base / name)
    where = ("--database", base / DATABASE, "--migrations", base / "migrations")

    assert run_migrator("verify", *where).code == 0
    assert run_migrator("restore", "latest", *where).code == 64


def test_a_lost_database_is_no_first_install_after_a_crash_either(tmp_path: Path) -> None:
    """A note of an interrupted run does not make an empty database of a lost one."""
    files = {key: data for key, data in sound("plain").items() if key != DATABASE}
    noted = json.dumps(note(files, phase="migrate")).encode()
    base = lay({**files, STATE: noted}, tmp_path / "place")

    result = run_entrypoint(
        *("--database", base / DATABASE, "--migrations", base / "migrations"),
        *("--wait-timeout", "0"),
    )

    assert_failed(result, 69, "database.missing")
    assert not (base / DATABASE).exists()


@pytest.mark.parametrize("command", ["status", "check", "plan", "verify"])
def test_looking_leaves_a_wal_beside_zero_bytes(command: str, tmp_path: Path) -> None:
    """SQLite deletes the `-wal` of a database of zero bytes; a look does not let it."""
    database = tmp_path / "app.db"
    database.touch()
    wal = tmp_path / "app.db-wal"
    wal.write_bytes(b"rows that somebody may still want" * 10)
    (tmp_path / "migrations").mkdir()

    run_migrator(command, "--database", database, "--migrations", tmp_path / "migrations")

    assert wal.read_bytes() == b"rows that somebody may still want" * 10


@pytest.mark.parametrize("command", ["verify", "backups", "restore"])
def test_a_file_in_place_of_the_backups_is_told(command: str, tmp_path: Path) -> None:
    """Something else than a directory of backups is 69, and no traceback."""
    database = make_database(tmp_path / "app.db", ITEMS)
    (tmp_path / "backups").write_text("no directory")
    (tmp_path / "migrations").mkdir()
    more = ("latest",) if command == "restore" else ()

    result = run_migrator(
        command, *more, "--database", database, "--migrations", tmp_path / "migrations"
    )

    assert result.code == 69, result.stderr
    assert result.finished["reason"] == "volume.unsafe_entry"
    assert tables(database) == {"items"}


def test_a_backup_directory_below_a_file_is_73(migrations: Path, volume: Path) -> None:
    """The path is what is wrong, not the disk."""
    database = make_database(volume / "app.db", USERS)
    (volume / "file").write_text("a file")
    before = Before.of(database)
    given = ("--database", database, "--migrations", migrations)

    result = run_entrypoint(*given, "--backup-dir", volume / "file" / "below")

    assert_failed(result, 73, "backup.failed")
    assert "--backup-dir" in result.finished["hint"]
    before.assert_untouched(ours=True)


LONGEST = 214
"""Bytes that a name of 255 leaves to the database, when its longest backup file is made."""


@pytest.mark.parametrize("character", ["x", "\xe4"])
@pytest.mark.parametrize("first", [True, False], ids=["a first install", "an upgrade"])
def test_a_name_without_room_for_its_backups_is_refused(
    first: bool, character: str, migrations: Path, volume: Path
) -> None:
    """The longest name that can be backed up works, and of a longer one the limit is told."""
    fits = volume / (character * (LONGEST // len(character.encode())))
    given = ("--migrations", migrations)
    (migrations / "000_users.sql").write_text(f"{USERS};" if first else "SELECT 1;")
    longer = make_database(volume / "short", USERS).rename(fits.with_name(f"{fits.name}x"))
    if first:
        longer.unlink()
    before = Before.of(longer)

    result = run_entrypoint("--database", longer, *given)

    assert_failed(result, 69, "volume.unusable")
    before.assert_untouched()
    assert os.listdir(volume) == ([] if first else [longer.name])
    assert f"at most {LONGEST} bytes" in result.finished["hint"]
    if not first:
        longer.rename(fits)
    assert run_entrypoint("--database", fits, *given).code == 0
    (migrations / "003_more.sql").write_text("CREATE TABLE more (id);")
    assert run_entrypoint("--database", fits, *given).code == 0
    assert len(list((volume / "backups").glob("*.db"))) == (1 if first else 2)


def test_a_name_without_room_for_its_backups_needs_none(migrations: Path, volume: Path) -> None:
    """With nothing pending such a database is started; `down`, which needs a backup, is refused."""
    database = make_database(volume / "short", USERS)
    given = ("--migrations", migrations)
    assert run_entrypoint("--database", database, *given).code == 0
    database = database.rename(volume / ("x" * (LONGEST + 1)))
    assert run_entrypoint("--database", database, *given).finished["outcome"] == "up_to_date"

    result = run_migrator("down", "--database", database, *given)

    assert_failed(result, 69, "volume.unusable")
    assert history(database) == ["001", "002"]


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_directory_in_place_of_a_sidecar_is_told(
    end: str, migrations: Path, volume: Path
) -> None:
    """It is said whose place that is, and the hint's command clears it, whatever the name."""
    database = make_database(volume / "it's a $HOME.db", USERS)
    Path(f"{database}{end}").mkdir()

    result = run_entrypoint("--database", database, "--migrations", migrations)

    assert_failed(result, 69, "volume.unsafe_entry")
    said = " is a directory, where a file that SQLite keeps beside the database belongs."
    assert result.finished["error"].endswith(said)
    (line,) = re.findall(r"`(mv [^`]+)`", result.finished["hint"])
    subprocess.run(["sh", "-c", line], check=True)
    result = run_entrypoint("--database", database, "--migrations", migrations)
    assert result.code == 0, result.stderr


@pytest.mark.parametrize("up_to_date", [True, False])
def test_a_file_in_place_of_our_directory_is_told(
    up_to_date: bool, migrations: Path, volume: Path
) -> None:
    """It is named, not what would be below it, and the hint's command clears it."""
    database = make_database(volume / "app.db", USERS)
    given = ("--database", database, "--migrations", migrations)
    if up_to_date:
        assert run_entrypoint(*given).code == 0
        shutil.rmtree(f"{database}.migrator")
    Path(f"{database}.migrator").write_text("a file")

    for result in (run_entrypoint(*given), run_migrator("check", *given)):
        assert (result.code, result.finished["reason"]) == (69, "volume.unsafe_entry")
        assert f"'{database}.migrator' is a file, where" in result.finished["error"]
    (line,) = re.findall(r"`(mv [^`]+)`", result.finished["hint"])
    subprocess.run(["sh", "-c", line], check=True)
    assert run_entrypoint(*given).code == 0


def test_a_directory_in_the_way_of_a_note_is_told(tmp_path: Path) -> None:
    """What stands in the way of a file of ours is named, and nothing has begun."""
    base = lay(sound("plain"), tmp_path / "place")
    (base / "data/app.db.migrator/.state.json.tmp").mkdir(parents=True)

    result = run_entrypoint("--database", base / DATABASE, "--migrations", base / "migrations")

    assert_failed(result, 69, "volume.unsafe_entry")
