"""Backups: one a state, kept as told, and put back whatever has become of the database."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import others
from tests.support.aside import backups, digest_aside, pending
from tests.support.digest import logical_digest
from tests.support.files import (
    history,
    listing,
    make_database,
    opened,
    rows,
    tables,
    write_migrations,
)
from tests.support.machine import tool
from tests.support.processes import run_entrypoint, run_migrator, running
from tests.support.waiting import until

FAILS = {
    "001_good.sql": "CREATE TABLE good (id INTEGER);",
    "002_fails.sql": "INSERT INTO no VALUES (1);",
}


def run(command: str, database: Path, migrations: Path, *args: str):
    """Run a command of `migrator`."""
    given = ("--database", database, "--migrations", migrations)
    return run_migrator(command, *args, *given)


def up(database: Path, migrations: Path, *args: str) -> None:
    """Apply what is pending; that must work."""
    result = run("up", database, migrations, *args)
    assert result.code == 0, result.stderr


def upgrade(database: Path, migrations: Path, number: int, *args: str) -> None:
    """Add one more migration and apply it."""
    text = f"CREATE TABLE table_{number} (id INTEGER);"
    write_migrations(migrations, {f"{number:03d}_step.sql": text})
    up(database, migrations, *args)


def names(database: Path, *args: str) -> list[str]:
    """Return the names of the backups, newest first."""
    return [each["name"] for each in backups(database, *args)]


def in_mode(database: Path, mode: str) -> Path:
    """Set the journal mode."""
    with opened(database) as conn:
        assert conn.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
    return database


@pytest.fixture
def steps(tmp_path) -> Path:
    """Return an empty directory for migrations."""
    return write_migrations(tmp_path / "steps", {})


# --- one a state ------------------------------------------------------------------


@pytest.mark.parametrize("transaction", ["true", "false"])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_crash_loop(mode, transaction, database, steps):
    """A loop of failing migrations makes one backup of the state that it always comes back to."""
    in_mode(database, mode)
    before = digest_aside(database)
    write_migrations(steps, FAILS)
    text = f"-- migrate:up transaction:{transaction}\n" + FAILS["002_fails.sql"]
    write_migrations(steps, {"002_fails.sql": text})

    results = [run("up", database, steps) for _ in range(3)]

    assert [80, 80, 80] == [result.code for result in results]
    assert [1, 0, 0] == [len(result.named("backup.finished")) for result in results]
    assert [0, 1, 1] == [len(result.named("backup.reused")) for result in results]
    assert before == digest_aside(database)
    assert 1 == len(backups(database))
    assert ["001", "002"] == pending(database, steps)


@pytest.mark.parametrize(
    ("step", "in_use"),
    [
        ("in-place", "wait"),
        ("in-place", "allow"),
        ("fails", "wait"),
        ("fails", "allow"),
        ("copy", "wait"),
        ("copy-fails", "wait"),
    ],
)
@pytest.mark.parametrize(("first", "then"), [("delete", "wal"), ("wal", "delete")])
def test_another_journal_mode_is_another_state(first, then, step, in_use, database, steps):
    """A backup from before the journal mode was changed takes no part in what a run ends with."""
    in_mode(database, first)
    write_migrations(steps, {"001_fails.sql": FAILS["002_fails.sql"]})
    assert 80 == run("up", database, steps).code
    in_mode(database, then)
    before = digest_aside(database)
    text = FAILS["002_fails.sql" if step.endswith("fails") else "001_good.sql"]
    head = "-- migrate:up transaction:false\n" if step.startswith("copy") else ""
    (steps / "001_fails.sql").write_text(head + text)

    result = run("up", database, steps, "--in-use", in_use)

    assert (80 if step.endswith("fails") else 0) == result.code, result.stderr
    with opened(database) as conn:
        assert (then,) == conn.execute("PRAGMA journal_mode").fetchone()
    assert {first, then} == {noted_mode(name, database) for name in names(database)}
    assert [] == result.named("backup.reused")
    if step.endswith("fails"):
        assert before == digest_aside(database)
    else:
        assert 0 == run("restore", database, steps, "latest").code
        assert before == digest_aside(database)


def noted_mode(name: str, database: Path) -> str:
    """Return the journal mode of the database that a backup was made of."""
    note = database.parent / "backups" / f"{name}.json"
    return str(json.loads(note.read_text())["journal_mode"])


def test_crash_loop_beside_others(database, steps):
    """The same holds with `--in-use allow`, where the backup is only known for the same once made."""
    write_migrations(steps, FAILS)
    with others.idle_connection(database):
        results = [run("up", database, steps, "--in-use", "allow") for _ in range(3)]

    assert [80, 80, 80] == [result.code for result in results]
    assert [1, 0, 0] == [len(result.named("backup.finished")) for result in results]
    assert 1 == len(backups(database))


@pytest.mark.parametrize("transactional", [True, False], ids=["in-place", "copy"])
def test_loop_of_kills(transactional, database, steps):
    """A loop of runs that are killed makes one backup as well, and each next one settles the last."""
    text = f"""
        import os, signal

        transactional = {transactional}

        def up(conn):
            conn.execute("CREATE TABLE half (id INTEGER)")
            conn.execute("INSERT INTO half VALUES (1)")
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    write_migrations(steps, {"001_kills.py": text})
    before = digest_aside(database)

    results = [run("up", database, steps) for _ in range(3)]

    assert [-9, -9, -9] == [result.code for result in results]
    assert [0, 1, 1] == [len(result.named("recovery.finished")) for result in results]
    assert before == digest_aside(database)
    assert 1 == len(backups(database))


def test_states_come_and_go(database, steps):
    """A state that was left and comes back is the newest backup again, and not a second one."""
    write_migrations(
        steps,
        {"001_a.sql": "-- migrate:up\nCREATE TABLE a (id);\n-- migrate:down\nDROP TABLE a;\n"},
    )
    before = digest_aside(database)
    up(database, steps)
    first = names(database)
    assert 0 == run("restore", database, steps, "latest").code
    assert before == digest_aside(database)

    up(database, steps)

    assert first[0] == names(database)[0]
    assert ["up", "restore"] == [each["reason"] for each in backups(database)]


# --- what is kept ------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "left"), [("3", 3), ("1", 1), ("9", 4)])
def test_kept(keep, left, database, steps):
    """The newest N finished backups are kept."""
    made = []
    for number in range(1, 5):
        upgrade(database, steps, number, "--backup-keep", keep)
        made.append(names(database)[0])

    assert made[::-1][:left] == names(database)
    files = {path.name for path in (database.parent / "backups").iterdir()}
    assert {".gitignore", *names(database), *(f"{n}.json" for n in names(database))} == files


def test_keep_none(database, steps):
    """With 0 the run's own backup goes once the new state is verified, and a failed run keeps its own."""
    upgrade(database, steps, 1, "--backup-keep", "0")
    assert [] == backups(database)

    write_migrations(steps, {"002_fails.sql": FAILS["002_fails.sql"]})
    assert 80 == run("up", database, steps, "--backup-keep", "0").code
    assert 1 == len(backups(database))
    assert ["002"] == pending(database, steps)


def test_keep_none_after_keeping(database, steps):
    """With 0 the last good backup of earlier runs stays."""
    upgrade(database, steps, 1)
    kept = names(database)
    upgrade(database, steps, 2, "--backup-keep", "0")

    assert kept == names(database)


def test_failed_run_prunes_nothing(database, steps):
    """Only a run that is verified prunes."""
    for number in range(1, 4):
        upgrade(database, steps, number)
    before = names(database)
    write_migrations(steps, {"004_fails.sql": FAILS["002_fails.sql"]})

    result = run("up", database, steps, "--backup-keep", "1")

    assert 80 == result.code
    assert before == names(database)[1:]
    assert not result.named("backup.pruned")


def test_damaged_ones_do_not_count(database, steps):
    """The last good backup is not pruned for newer ones that are damaged."""
    upgrade(database, steps, 1)
    (good,) = names(database)
    upgrade(database, steps, 2)
    bad = Path(backups(database)[0]["path"])
    bad.write_bytes(bad.read_bytes()[:100])

    upgrade(database, steps, 3, "--backup-keep", "2")

    assert good in names(database)


def test_clock_jumps_back(database, steps):
    """Order is the counter: backups from a clock that was ahead are not newer, nor pruned last."""
    for number in (1, 2):
        upgrade(database, steps, number)
        _redate(Path(backups(database)[0]["path"]), "20990101T000000Z")
    future = names(database)
    before = logical_digest(database)

    upgrade(database, steps, 3, "--backup-keep", "2")

    assert 2 == len(names(database))
    assert future[0] == names(database)[1]
    assert "2099" not in names(database)[0]
    assert 0 == run("restore", database, steps, "latest").code
    assert before == logical_digest(database)


def _redate(path: Path, stamp: str) -> None:
    """Make a backup look as if the clock had been another one."""
    base, counter, _ = path.name.rsplit("-", 2)
    new = path.with_name(f"{base}-{counter}-{stamp}.db")
    facts = json.loads(Path(f"{path}.json").read_text())
    facts.update(created_at="2099-01-01T00:00:00Z", name=new.name, path=str(new))
    Path(f"{new}.json").write_text(json.dumps(facts))
    path.rename(new)
    Path(f"{path}.json").unlink()


def test_shared_directory(tmp_path, steps):
    """Two databases of one name share a backup directory, and neither touches the other's backups."""
    store = str(tmp_path / "store")
    one = make_database(
        tmp_path / "one" / "app.db", "CREATE TABLE one (id); INSERT INTO one VALUES (1);"
    )
    two = make_database(
        tmp_path / "two" / "app.db", "CREATE TABLE two (id); INSERT INTO two VALUES (2);"
    )
    given = ("--backup-dir", store)
    before = digest_aside(one)
    write_migrations(steps, {"001_step.sql": "CREATE TABLE table_1 (id INTEGER);"})
    up(one, steps, *given)
    up(two, steps, *given)
    for number in (2, 3):
        upgrade(two, steps, number, *given, "--backup-keep", "1")

    (first,), (second,) = names(one, *given), names(two, *given)
    assert first != second
    result = run("restore", one, steps, second, *given)
    assert 64 == result.code, result.stderr
    assert 0 == run("restore", one, steps, "latest", *given).code
    assert before == digest_aside(one)
    assert not (one.parent / "backups").exists()


def test_own_backup_outlives_a_restores(database, steps):
    """With one backup to keep it is the way back from the run, also after a restore has made one."""
    write_migrations(steps, {"001_a.sql": "CREATE TABLE a (id);"})
    before = digest_aside(database)
    up(database, steps)
    assert 0 == run("restore", database, steps, "latest").code

    up(database, steps, "--backup-keep", "1")

    assert 0 == run("restore", database, steps, "latest").code
    assert before == digest_aside(database)


def test_made_at_once_in_a_shared_directory(tmp_path):
    """Two runs at once in a shared backup directory get each its own backup."""
    store = str(tmp_path / "store")
    folders = [tmp_path / name for name in ("one", "two", "three")]
    migrations = write_migrations(tmp_path / "m", {"001_a.sql": "CREATE TABLE fresh (id);"})
    starts = []
    for folder in folders:
        database = make_database(folder / "app.db", f"CREATE TABLE {folder.name} (id);")
        starts.append(
            running(
                *("migrator", "up", "--database", database, "--migrations", migrations),
                *("--backup-dir", store),
                directory=tmp_path,
            )
        )
    with ExitStack() as stack:
        results = [run.finish() for run in [stack.enter_context(start) for start in starts]]

    assert [0, 0, 0] == [result.code for result in results], results
    for folder in folders:
        (saved,) = backups(folder / "app.db", "--backup-dir", store)
        assert folder.name in tables(Path(saved["path"]))


# --- restore --------------------------------------------------------------------------


@pytest.fixture
def upgraded(database, steps):
    """Return a database after two upgrades, and the digests of its three states."""
    digests = [digest_aside(database)]
    for number in (1, 2):
        upgrade(database, steps, number)
        digests.append(digest_aside(database))
    return database, digests


def test_restore_latest(upgraded, steps):
    """`restore latest` goes back to before the last run; what it replaced is backed up too."""
    database, digests = upgraded
    inode = database.stat().st_ino

    result = run("restore", database, steps, "latest")

    assert 0 == result.code, result.stderr
    assert digests[1] == digest_aside(database)
    assert inode == database.stat().st_ino
    assert ["002"] == pending(database, steps)
    newest = backups(database)[0]
    assert "restore" == newest["reason"]
    assert digests[2] == logical_digest(Path(newest["path"]))
    done = result.one("restore.finished")
    assert ("backup", True) == (done["method"], done["identical"])
    assert "migrated" == result.finished["outcome"]
    kept = f" What it replaced is in the backup {newest['name']}.\n"
    assert result.stdout.endswith(kept), result.stdout
    assert result.stdout.removesuffix(kept).startswith("Restored: app.db-")


def test_restore_again(upgraded, steps):
    """Repeating `restore latest` changes nothing at all."""
    database, digests = upgraded
    assert 0 == run("restore", database, steps, "latest").code
    before = listing(database.parent)
    before.pop("app.db.migrator")

    for _ in range(2):
        result = run("restore", database, steps, "latest")
        assert 0 == result.code, result.stderr
        assert "up_to_date" == result.finished["outcome"]

    after = listing(database.parent)
    after.pop("app.db.migrator")
    assert before == after
    assert digests[1] == digest_aside(database)


@pytest.mark.parametrize("spelled", ["name", "stem", "path"])
def test_restore_by_name(spelled, upgraded, steps):
    """A backup is named by its name, with or without `.db`, or by its path."""
    database, digests = upgraded
    oldest = Path(backups(database)[-1]["path"])
    word = {"name": oldest.name, "stem": oldest.stem, "path": str(oldest)}[spelled]

    result = run("restore", database, steps, word)

    assert 0 == result.code, result.stderr
    assert digests[0] == digest_aside(database)


@pytest.mark.parametrize(("version", "state"), [("001", 0), ("1", 0), ("002", 1)])
def test_restore_before(version, state, upgraded, steps):
    """`--before VERSION` goes back to the newest state that did not have it."""
    database, digests = upgraded

    result = run("restore", database, steps, "--before", version)

    assert 0 == result.code, result.stderr
    assert digests[state] == digest_aside(database)


@pytest.mark.parametrize("words", [("no-such-backup",), ("--before", "999"), ("/etc/passwd",), ()])
def test_restore_unknown(words, upgraded, steps):
    """An unknown backup or version is 64, and nothing has changed."""
    database, digests = upgraded
    before = names(database)

    result = run("restore", database, steps, *words)

    assert 64 == result.code, result.stderr
    assert digests[2] == digest_aside(database)
    assert before == names(database)


@pytest.mark.parametrize("how", ["byte", "cut", "empty"])
def test_restore_damaged(how, upgraded, steps):
    """A damaged backup is 65 before anything is replaced; `verify` finds it as well."""
    database, digests = upgraded
    path = Path(backups(database)[0]["path"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes({"byte": bytes(content), "cut": bytes(content[:4096]), "empty": b""}[how])

    result = run("restore", database, steps, "latest")

    assert 65 == result.code, result.stderr
    assert "backup.damaged" == result.finished["reason"]
    assert path.name in result.finished["error"]
    assert digests[2] == digest_aside(database)
    verified = run("verify", database, steps)
    assert 65 == verified.code
    assert path.name in verified.stderr
    assert 0 == run("restore", database, steps, names(database)[-1]).code
    assert digests[0] == digest_aside(database)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "[" * 100_000])
def test_restore_undescribed(text, upgraded, steps):
    """Where a newer backup's facts cannot be read, no older one is taken in its place."""
    database, digests = upgraded
    newest, oldest = names(database)
    Path(backups(database)[0]["path"] + ".json").write_text(text)

    for words in (("latest",), ("--before", "002"), (newest,), (newest.removesuffix(".db"),)):
        result = run("restore", database, steps, *words)
        assert (65, "backup.damaged") == (result.code, result.finished["reason"]), words
        assert newest in result.finished["error"]
    assert digests[2] == digest_aside(database)
    verified = run("verify", database, steps)
    assert (65, "backup.damaged") == (verified.code, verified.finished["reason"])
    assert newest in verified.finished["error"]
    assert newest in run("backups", database, steps).stdout
    assert 0 == run("restore", database, steps, oldest).code
    assert digests[0] == digest_aside(database)


def test_others_undescribed(upgraded, steps):
    """What says that it is another database's does not count; an older one does not either."""
    database, digests = upgraded
    newest, oldest = (Path(each["path"] + ".json") for each in backups(database))
    oldest.write_text("{")
    shutil.copy(newest.with_suffix(""), newest.with_name("app.db-000009-20260101T000000Z.db"))
    other = newest.with_name("app.db-000009-20260101T000000Z.db.json")
    other.write_text(json.dumps({"id": "0" * 32}))

    assert 0 == run("restore", database, steps, "latest").code
    assert digests[1] == digest_aside(database)


def test_damaged_backup_is_not_reused(database, steps):
    """A backup of the same state that has been damaged is not reused but made anew."""
    write_migrations(steps, FAILS)
    assert 80 == run("up", database, steps).code
    path = Path(backups(database)[0]["path"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)

    result = run("up", database, steps)

    assert 80 == result.code
    assert 1 == len(result.named("backup.finished"))
    assert 2 == len(backups(database))


def _garbage_header(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[:100] = b"\xee" * 100
    database.write_bytes(content)


def _all_garbage(database: Path) -> None:
    database.write_bytes(os.urandom(20_000))


def _deleted(database: Path) -> None:
    database.unlink()


def _deleted_with_stray_wal(database: Path) -> None:
    others.leave_wal(database)
    database.unlink()


def _garbage_with_stray_wal(database: Path) -> None:
    others.leave_wal(database)
    _garbage_header(database)


def _zeroed(database: Path) -> None:
    database.write_bytes(b"")


def _wal_with_commits(database: Path) -> None:
    others.leave_wal(database)


def _hot(database: Path) -> None:
    others.leave_hot_journal(database)


def _damaged_page(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[4096:8192] = b"\xee" * 4096
    database.write_bytes(content)


def _truncated(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(6000)


DESTRUCTIONS = [
    _garbage_header,
    _all_garbage,
    _deleted,
    _deleted_with_stray_wal,
    _garbage_with_stray_wal,
    _zeroed,
    _wal_with_commits,
    _hot,
    _damaged_page,
    _truncated,
]


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("destroy", DESTRUCTIONS)
def test_restore_over(destroy, mode, database, steps):
    """Whatever has become of the database, its backup is put back, with its journal mode."""
    in_mode(database, mode)
    before = digest_aside(database)
    upgrade(database, steps, 1)
    in_mode(database, "delete")
    destroy(database)

    result = run("restore", database, steps, "latest")

    assert 0 == result.code, result.stderr
    assert before == digest_aside(database)
    assert before == logical_digest(database)
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")
    assert ["001"] == pending(database, steps)
    up(database, steps)
    assert ["001"] == history(database)


def test_restore_keeps_a_destroyed_database(database, steps):
    """What cannot be backed up before it is replaced is kept for inspection, once."""
    upgrade(database, steps, 1)
    _garbage_header(database)
    garbage = database.read_bytes()

    assert 0 == run("restore", database, steps, "latest").code

    failed = database.with_name("app.db.migrator") / "failed"
    assert garbage == (failed / "app.db").read_bytes()
    assert ["app.db"] == [path.name for path in failed.iterdir()]


def test_restore_while_a_start_is_refused(database, steps):
    """`entrypoint … -- migrator restore latest` works at once while the start itself is refused."""
    before = digest_aside(database)
    upgrade(database, steps, 1)
    (steps / "001_step.sql").unlink()
    given = ("--database", database, "--migrations", steps)
    assert 78 == run_entrypoint(*given, "--", "true").code

    result = run_entrypoint(*given, "--", "migrator", "restore", "latest", check_log=False)

    assert 0 == result.code, result.stderr
    assert before == digest_aside(database)
    assert 0 == run_entrypoint(*given, "--", "true").code


# --- a restore that is interrupted ---------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """Return the ids of a process's children, their children and so on, eldest first."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(each) for each in path.read_text().split()] if path.exists() else []
    return found + [below for each in found for below in descendants(each)]


def kill_during_restore(database: Path, steps: Path, directory: Path) -> None:
    """Slow a restore's writes down, and kill parent and worker in the middle of them."""
    slow = (tool("strace"), "-f", "-qq", "-o", "/dev/null", "-P", database)
    inject = ("-e", "inject=pwrite64:delay_enter=20000")
    state = database.with_name("app.db.migrator") / "state.json"
    given = ("restore", "latest", "--database", database, "--migrations", steps)
    with running("migrator", *given, directory=directory, prefix=(*slow, *inject)) as run:
        until(
            lambda: (state.exists() and '"restore"' in state.read_text()) or run.process.poll(),
            "the restore did not begin",
        )
        noted = state.stat().st_mtime_ns
        until(
            lambda: database.stat().st_mtime_ns > noted or run.process.poll() is not None,
            "nothing was written",
        )
        assert run.process.poll() is None, run.stderr
        for pid in descendants(run.pid):
            os.kill(pid, signal.SIGKILL)
        run.process.wait(10)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_interrupted_restore(mode, volume, steps, tmp_path):
    """A restore that was killed is finished by the next start, which then goes on as on any start."""
    script = "CREATE TABLE big (b BLOB);" + "INSERT INTO big VALUES (randomblob(20000));" * 50
    database = in_mode(make_database(volume / "app.db", script), mode)
    before = digest_aside(database)
    text = "CREATE TABLE later (id INTEGER); UPDATE big SET b = randomblob(20000);"
    write_migrations(steps, {"001_step.sql": text})
    up(database, steps)
    with opened(database) as conn:
        conn.execute("INSERT INTO later VALUES (1)")

    kill_during_restore(database, steps, tmp_path)

    found = run("status", database, steps, "--json")
    assert 0 == found.code, found.stderr
    assert {"interrupted"} <= {each["kind"] for each in json.loads(found.stdout)["problems"]}
    empty = write_migrations(tmp_path / "none", {})
    result = run("up", database, empty)
    assert 0 == result.code, result.stderr
    assert "restored" == result.one("recovery.finished")["outcome"]
    assert before == digest_aside(database)
    assert not (database.with_name("app.db.migrator") / "state.json").exists()


def test_interrupted_restore_then_upgrade(volume, steps, tmp_path):
    """The start that finishes a restore applies what is pending then."""
    script = "CREATE TABLE big (b BLOB);" + "INSERT INTO big VALUES (randomblob(20000));" * 50
    database = make_database(volume / "app.db", script)
    text = "CREATE TABLE later (id INTEGER); UPDATE big SET b = randomblob(20000);"
    write_migrations(steps, {"001_step.sql": text})
    up(database, steps)
    with opened(database) as conn:
        conn.execute("INSERT INTO later VALUES (1)")
    kill_during_restore(database, steps, tmp_path)

    result = run_entrypoint(
        "--database", database, "--migrations", steps, "--", "echo", "application"
    )

    assert (0, "application\n") == (result.code, result.stdout), result.stderr
    assert "restored" == result.one("recovery.finished")["outcome"]
    assert "migrated" == result.finished["outcome"]
    assert [] == rows(database, "SELECT * FROM later")
    assert ["001"] == history(database)


# --- whose they are -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o644])
def test_modes_and_owners(mode, as_root, database, steps):
    """What is created has the database's owner and group, and its mode or less."""
    os.chown(database, 12345, 23456)
    os.chown(database.parent, 12345, 23456)
    database.chmod(mode)
    upgrade(database, steps, 1)
    write_migrations(steps, {"002_vacuum.sql": "-- migrate:up transaction:false\nVACUUM;"})
    up(database, steps)
    write_migrations(steps, {"003_fails.sql": "INSERT INTO no VALUES (1);"})
    assert 80 == run("up", database, steps).code
    assert 0 == run("restore", database, steps, "latest").code
    _garbage_header(database)
    assert 0 == run("restore", database, steps, "latest").code

    created = [path for path in database.parent.rglob("*") if path != database]
    assert {"backups", "app.db.migrator", "lock", "failed", ".gitignore"} <= {
        p.name for p in created
    }
    for path in (database, *created):
        found = path.stat()
        assert (12345, 23456) == (found.st_uid, found.st_gid), path
        permissions = stat.S_IMODE(found.st_mode)
        allowed = mode | ((mode & 0o444) >> 2) if path.is_dir() else mode
        assert 0 == permissions & ~allowed, (path, oct(permissions))
    assert mode == stat.S_IMODE(database.stat().st_mode)
    home = database.with_name("app.db.migrator")
    assert 0o700 == stat.S_IMODE(home.stat().st_mode)
    assert 0o600 == stat.S_IMODE((home / "lock").stat().st_mode)
    assert 0 == (home / "lock").stat().st_size


def test_git_ignores_them(database, steps):
    """Our directory and the backups stay out of a checkout that they lie in."""
    upgrade(database, steps, 1)

    for folder in ("app.db.migrator", "backups"):
        assert "*\n" == (database.parent / folder / ".gitignore").read_text()


def test_wider_modes_are_accepted(database, steps):
    """Group bits that Kubernetes' `fsGroup` adds to everything are no reason to refuse."""
    upgrade(database, steps, 1)
    for path in (database.parent, *database.parent.rglob("*")):
        path.chmod(path.stat().st_mode | 0o070)

    upgrade(database, steps, 2)

    assert 0 == run("restore", database, steps, "latest").code
    assert ["001"] == history(database)


def test_backups_are_plain_databases(database, steps):
    """A backup is a file that the `sqlite3` tool opens, in journal mode DELETE, with facts beside it."""
    in_mode(database, "wal")
    before = sorted(rows(database, "SELECT name FROM users"))
    upgrade(database, steps, 1)

    (saved,) = backups(database)

    path = Path(saved["path"])
    copy = database.parent / "copy.db"
    shutil.copy(path, copy)
    assert before == sorted(rows(copy, "SELECT name FROM users"))
    assert [("delete",)] == rows(copy, "PRAGMA journal_mode")
    facts = json.loads(Path(f"{path}.json").read_text())
    assert saved.items() <= facts.items()
    assert str(database) == facts["database"]
    assert None is saved["version"]
    assert path.stat().st_size == saved["bytes"]


def test_backups_read_write_nothing_of_others(database, steps):
    """Somebody's own copies in the backup directory are neither listed nor pruned."""
    upgrade(database, steps, 1)
    mine = database.parent / "backups" / "app.db-before-the-big-change.db"
    shutil.copy(backups(database)[0]["path"], mine)

    upgrade(database, steps, 2, "--backup-keep", "1")

    assert mine.exists()
    assert mine.name not in names(database)
