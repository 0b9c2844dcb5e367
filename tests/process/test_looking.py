"""Looking writes nothing: not a file, not a byte, not a time of change."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.support import others
from tests.support.aside import digest_aside
from tests.support.files import history, make_database, opened, write_migrations
from tests.support.machine import tool
from tests.support.processes import run_entrypoint, run_migrator, running
from tests.support.waiting import until

LOOKS = {
    "status": ("status", "--json"),
    "plan": ("plan", "--json"),
    "check": ("check",),
    "backups": ("backups", "--json"),
    "verify": ("verify",),
}
"""Each with what a program would read; the tables for people come from the same facts."""

Facts = dict[str, tuple[object, ...]]


def photograph(directory: Path, *, shm: bool = True) -> Facts:
    """
    Return everything that writing would change below a directory, and in it.

    Args:
        directory: It counts as well.
        shm: False leaves shared memory out, which every reader of a WAL
            database has a place in.
    """
    found: Facts = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        if path.name.endswith("-shm") and not shm:
            continue
        stat = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        # Not st_ctime: as root SQLite gives a journal that it opens its owner, which it has.
        found[str(path)] = (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, content)
    return found


def changes(before: Facts, after: Facts) -> dict[str, tuple[object, object]]:
    """Return what differs in two photographs: nothing, it is hoped."""
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def looked(what: str, database: Path, migrations: Path, *args: str):
    """Run one of the looking commands."""
    given = ("--database", database, "--migrations", migrations)
    return run_migrator(*LOOKS[what], *given, *args)


def up(database: Path, migrations: Path) -> None:
    """Bring a database up to date."""
    result = run_migrator("up", "--database", database, "--migrations", migrations)
    assert result.code == 0, result.stderr


@pytest.fixture(params=LOOKS)
def what(request) -> str:
    """Return the name of each look."""
    return str(request.param)


@pytest.mark.parametrize("applied", ["never", "partly", "wholly"])
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_clean(what, wal, applied, database, migrations, tmp_path):
    """A look at a clean database changes nothing, in either journal mode, whatever is pending."""
    if applied == "partly":
        first = tmp_path / "first"
        first.mkdir()
        shutil.copy(migrations / "001_add_email.py", first)
        up(database, first)
    if applied == "wholly":
        up(database, migrations)
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    before = photograph(tmp_path)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(tmp_path))
    assert (0 if what != "check" or applied == "wholly" else 1) == result.code, result.stderr
    assert "" == result.stderr
    assert result.stdout


HOLDERS: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "idle": others.idle_connection,
    "reading": others.read_transaction,
    "write-lock": others.write_lock,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_beside_an_application(what, wal, holder, database, migrations):
    """A look beside an application that has the database open waits for nothing and changes nothing."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    with HOLDERS[holder](database):
        before = photograph(database.parent, shm=False)
        result = looked(what, database, migrations)
        assert {} == changes(before, photograph(database.parent, shm=False))

    assert (1 if what == "check" else 0) == result.code, result.stderr


@pytest.mark.parametrize("shm", [True, False], ids=["shm", "no-shm"])
def test_left_wal(what, shm, database, migrations):
    """A look at a database with a killed process's `-wal` sees what it holds, and may add a `-shm`."""
    others.leave_wal(database)
    if not shm:
        Path(f"{database}-shm").unlink()
    folder = database.parent
    before = photograph(folder, shm=False)

    result = looked(what, database, migrations)

    after = photograph(folder, shm=False)
    if not shm:  # a new name in the directory is its one trace
        before.pop(str(folder))
        after.pop(str(folder))
    assert {} == changes(before, after)
    assert (1 if what == "check" else 0) == result.code, result.stderr
    assert {"in_wal"} <= set(_tables(database))


def _tables(database: Path) -> list[str]:
    with opened(database) as conn:
        return [name for (name,) in conn.execute("SELECT name FROM sqlite_schema")]


def test_hot_journal(what, database, migrations):
    """A database with a hot journal is reported, and left for the next start to recover."""
    others.leave_hot_journal(database)
    before = photograph(database.parent)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(database.parent))
    assert result.code == (69 if what in ("check", "verify") else 0), result.stderr
    if what == "status":
        found = json.loads(result.stdout)
        assert ["needs_recovery"] == [each["kind"] for each in found["problems"]]
        assert found["up_to_date"] is False


def test_cold_journal(what, database, migrations):
    """A journal whose first byte is zero is not hot: a WAL database beside it is read as ever."""
    with opened(database) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    Path(f"{database}-journal").write_bytes(bytes(1024))
    before = photograph(database.parent)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(database.parent))
    assert (1 if what == "check" else 0) == result.code, result.stderr


@pytest.mark.parametrize("place", ["empty", "no-directory"])
def test_missing(what, place, volume, migrations):
    """A look where there is no database creates none, nor anything else."""
    database = volume / ("app.db" if place == "empty" else "deeper/app.db")
    before = photograph(volume)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(volume))
    assert {"check": 1, "verify": 69}.get(what, 0) == result.code, result.stderr
    if what == "status":
        found = json.loads(result.stdout)
        assert (False, False) == (found["exists"], found["up_to_date"])
        assert ["001", "002"] == [row["version"] for row in found["pending"]]


def test_zero_bytes(what, volume, migrations):
    """A look at a file of zero bytes leaves it at zero bytes."""
    database = volume / "app.db"
    database.touch()
    before = photograph(volume)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(volume))
    assert (1 if what == "check" else 0) == result.code, result.stderr


@pytest.mark.parametrize("emptied", [False, True])
def test_a_lost_database(what, emptied, database, migrations):
    """A look at a database whose backups alone are left says what a start would: 69."""
    up(database, migrations)
    database.unlink()
    if emptied:
        database.touch()
    before = photograph(database.parent)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(database.parent))
    assert {"status": 0, "backups": 0}.get(what, 69) == result.code, result.stderr
    if what == "status":
        found = json.loads(result.stdout)
        assert (emptied, False) == (found["exists"], found["up_to_date"])
        assert ["database.missing"] == [each["kind"] for each in found["problems"]]


def test_no_database(what, volume, migrations):
    """A look at a text that is called a database says so, and changes nothing."""
    database = volume / "app.db"
    database.write_text("no database\n" * 1000)
    before = photograph(volume)

    result = looked(what, database, migrations)

    assert {} == changes(before, photograph(volume))
    harmless = what in ("status", "backups")
    assert (0 if harmless else 65) == result.code, result.stderr


HELD = """
    import pathlib, time

    transactional = {transactional}

    def up(conn):
        conn.execute("CREATE TABLE half (id INTEGER)")
        while not pathlib.Path({go!r}).exists():
            time.sleep(0.01)
    """


@pytest.mark.parametrize("transactional", [True, False], ids=["in-place", "copy"])
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_during_a_run(wal, transactional, database, migrations, tmp_path):
    """During a run every look answers at once, tells of the run, and changes nothing."""
    up(database, migrations)
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    go = tmp_path / "go"
    text = HELD.format(go=str(go), transactional=transactional)
    write_migrations(migrations, {"003_held.py": text})
    given = ("--database", database, "--migrations", migrations)
    with running("migrator", "up", *given, directory=tmp_path) as run:
        run.wait_for("migration.started")
        before = photograph(database.parent, shm=False)
        results = {what: looked(what, database, migrations) for what in LOOKS}
        assert {} == changes(before, photograph(database.parent, shm=False))
        go.touch()
        result = run.finish()

    assert 0 == result.code, result.stderr
    assert ["001", "002", "003"] == history(database)
    found = json.loads(results["status"].stdout)
    assert result.finished["run_id"] == found["running"]["run_id"]
    assert "migrate" == found["running"]["phase"]
    assert found["running"]["since"]
    assert ["001", "002"] == [row["version"] for row in found["applied"]]
    assert ["003"] == [row["version"] for row in found["pending"]]
    assert found["up_to_date"] is False
    assert 75 == results["check"].code
    for what in ("status", "plan", "backups"):
        assert 0 == results[what].code, results[what].stderr
    assert results["verify"].code in ((0, 75) if wal else (75,)), results["verify"].stderr


@pytest.mark.parametrize("transactional", [True, False], ids=["in-place", "copy"])
def test_after_a_crash(transactional, what, database, migrations, tmp_path):
    """What a killed run has left is reported, and stays for the next start to settle."""
    go = tmp_path / "go"
    only = tmp_path / "m"
    write_migrations(only, {"001_h.py": HELD.format(go=str(go), transactional=transactional)})
    given = ("--database", database, "--migrations", only)
    before = digest_aside(database)
    with running("migrator", "up", *given, directory=tmp_path) as run:
        run.wait_for("migration.started")
        (worker,) = run.children()
        run.send(signal.SIGKILL)
        run.process.wait(10)
        until(lambda: not Path(f"/proc/{worker}").exists(), "the worker lives on")
    photographed = photograph(database.parent)

    result = looked(what, database, only)

    assert {} == changes(photographed, photograph(database.parent))
    assert before == digest_aside(database)
    assert (1 if what == "check" else 0) == result.code or (
        what == "verify" and result.code == 69
    ), result.stderr
    if what == "status":
        found = json.loads(result.stdout)
        assert found["running"] is None
        assert "interrupted" in [each["kind"] for each in found["problems"]]
        assert ["001"] == [row["version"] for row in found["pending"]]


# --- check's codes ------------------------------------------------------------------


def checked(database: Path, migrations: Path, *args: str) -> int:
    """Return what `check` exits with, having changed nothing."""
    before = photograph(database.parent)
    result = looked("check", database, migrations, *args)
    assert {} == changes(before, photograph(database.parent))
    return result.code


def test_check(database, migrations):
    """`check` is 1 with something pending, 0 when up to date, 78 when the database is newer."""
    assert 1 == checked(database, migrations)
    up(database, migrations)
    assert 0 == checked(database, migrations)
    (migrations / "002_create_tags.sql").unlink()
    assert 78 == checked(database, migrations)
    assert 0 == checked(database, migrations, "--accept", "newer")


def test_check_missing_database(volume, migrations):
    """Without a database `check` is 1, and 69 where none may be created."""
    assert 1 == checked(volume / "app.db", migrations)
    assert 69 == checked(volume / "app.db", migrations, "--create", "never")


def test_check_changed(database, migrations):
    """An applied file that was changed does not matter with nothing pending, and is 78 else."""
    up(database, migrations)
    path = migrations / "002_create_tags.sql"
    path.write_text(path.read_text() + "-- changed\n")
    assert 0 == checked(database, migrations)
    (migrations / "003_more.sql").write_text("CREATE TABLE more (id INTEGER);")
    assert checked(database, migrations) in (1, 78)


def test_check_no_migrations(database, tmp_path):
    """Without its directory of migrations `check` is 78."""
    assert 78 == checked(database, tmp_path / "nowhere")


# --- starts that write nothing -------------------------------------------------------


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
@pytest.mark.parametrize("attached", [False, True], ids=["alone", "attached"])
def test_start_with_nothing_pending(wal, attached, database, migrations):
    """A start with nothing pending writes nothing before it becomes the application."""
    up(database, migrations)
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    with others.idle_connection(database) if attached else nullcontext():
        before = photograph(database.parent, shm=False)
        result = run_entrypoint(
            "--database", database, "--migrations", migrations, "--", "echo", "application"
        )
        assert {} == changes(before, photograph(database.parent, shm=False))

    assert (0, "application\n") == (result.code, result.stdout)


def _newer(database: Path, migrations: Path) -> None:
    up(database, migrations)
    (migrations / "002_create_tags.sql").unlink()


def _bad_name(_database: Path, migrations: Path) -> None:
    (migrations / "3-add.sql").touch()


def _no_migrations(_database: Path, migrations: Path) -> None:
    shutil.rmtree(migrations)


def _foreign(database: Path, _migrations: Path) -> None:
    with opened(database) as conn:
        conn.executescript(
            "CREATE TABLE schema_migrations (version TEXT); INSERT INTO schema_migrations VALUES (1);"
        )


def _application_table(database: Path, _migrations: Path) -> None:
    with opened(database) as conn:
        conn.execute("CREATE TABLE migrations (id INTEGER, migration TEXT, batch INTEGER)")


def _nothing(_database: Path, _migrations: Path) -> None:
    pass


def _gone(database: Path, _migrations: Path) -> None:
    database.unlink()


def _stray(database: Path, _migrations: Path) -> None:
    database.unlink()
    Path(f"{database}-wal").write_bytes(b"x" * 100)


def _text(database: Path, _migrations: Path) -> None:
    database.write_text("x" * 5000)


def _folder(database: Path, _migrations: Path) -> None:
    database.unlink()
    database.mkdir()


def _link(database: Path, _migrations: Path) -> None:
    Path(f"{database}.other").hardlink_to(database)


REFUSALS = {
    "newer": (_newer, 78, ()),
    "bad-name": (_bad_name, 78, ()),
    "no-migrations": (_no_migrations, 78, ()),
    "foreign": (_foreign, 78, ()),
    "application-table": (_application_table, 78, ()),
    "no-command": (_nothing, 127, ("--", "no-such-command")),
    "not-executable": (_nothing, 126, ("--", "/etc/passwd")),
    "usage": (_nothing, 64, ("--verify", "never")),
    "create-never": (_gone, 69, ("--create", "never")),
    "stray": (_stray, 69, ()),
    "text": (_text, 65, ()),
    "directory": (_folder, 65, ()),
    "hard-link": (_link, 69, ()),
    "wait": (_nothing, 69, ("--migrate", "wait")),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_start(refusal, database, migrations, tmp_path):
    """A start that is refused for what looking finds has written nothing at all."""
    arrange, code, args = REFUSALS[refusal]
    arrange(database, migrations)
    before = photograph(database.parent)
    options = ("--database", database, "--migrations", migrations, "--wait-timeout", "0.3")

    result = run_entrypoint(*options, *args)

    assert code == result.code, result.stderr
    assert {} == changes(before, photograph(database.parent))
    assert "refused" == result.finished["outcome"]


def test_waiting_for_the_volume(tmp_path, migrations):
    """Waiting for a directory that does not exist creates neither it nor anything in it."""
    database = tmp_path / "mnt" / "volume" / "app.db"
    before = photograph(tmp_path)

    result = run_entrypoint(
        "--database", database, "--migrations", migrations, "--wait-timeout", "0.5"
    )

    assert 69 == result.code, result.stderr
    assert result.named("volume.waiting")
    after = photograph(tmp_path)
    assert {} == changes(before, after)


def test_waiting_until_the_volume_comes(tmp_path, migrations):
    """Waiting ends when the directory is there."""
    database = tmp_path / "mnt" / "app.db"
    given = ("--database", database, "--migrations", migrations, "--wait-timeout", "30")
    write_migrations(migrations, {"001_add_email.py": "def up(conn): pass\n"})
    with running("entrypoint", *given, directory=tmp_path) as run:
        run.wait_for("volume.waiting")
        assert not database.parent.exists()
        make_database(database, "CREATE TABLE users (id INTEGER);")
        result = run.finish()

    assert 0 == result.code, result.stderr
    assert ["001", "002"] == history(database)


@pytest.mark.parametrize(
    "name_and_text",
    [
        ("003_bad.sql", "CREATE TABLE never_ends (id INTEGER"),
        ("003_bad.py", "def up(conn:\n"),
        ("003_bad.py", "x = 1\n"),
        ("003_bad.py", "import no_such_module\n\ndef up(conn):\n    pass\n"),
    ],
)
def test_unfit_migration(name_and_text, database, migrations):
    """A migration that cannot be read or imported leaves nothing but the empty lock behind, and why."""
    name, text = name_and_text
    (migrations / name).write_text(text)
    before = photograph(database.parent)

    result = run_entrypoint("--database", database, "--migrations", migrations)

    assert 78 == result.code, result.stderr
    after = photograph(database.parent)
    home = database.with_name("app.db.migrator")
    new = {Path(path).name for path in set(after) - set(before)}
    assert {"app.db.migrator", "lock", "last_run.json", ".gitignore"} >= new
    assert before[str(database)] == after[str(database)]
    assert not (home / "state.json").exists()
    assert name in result.finished["error"]


# --- paths that lead nowhere ----------------------------------------------------

CIRCLE, LONG, ROOT, BELOW = "circle.db", "a" * 300, "/", "file/app.db"


@pytest.mark.parametrize("command", ["status", "plan", "check", "verify", "backups"])
@pytest.mark.parametrize(
    ("name", "code"),
    [(CIRCLE, 69), (LONG, 69), (ROOT, 65), (BELOW, 69)],
    ids=lambda each: str(each)[:9],
)
def test_impossible_database(command, name, code, volume, migrations):
    """A circle of links, a name too long, a directory, a file on the way: a code, and no bug."""
    (volume / CIRCLE).symlink_to(CIRCLE)
    (volume / "file").write_text("a file")
    result = run_migrator(command, "--database", volume / name, "--migrations", migrations)
    if command == "status" or (command == "backups" and name != BELOW):
        assert 0 == result.code, result.stderr
    else:
        assert code == result.code, result.stderr
        assert "bug" != result.finished["reason"]


@pytest.mark.parametrize("command", ["plan", "check", "verify"])
@pytest.mark.parametrize("name", ["file/app.db", "file/below/app.db"])
def test_a_file_on_the_way_is_told(command, name, volume, migrations):
    """What is no directory is named, and no path that cannot be."""
    (volume / "file").write_text("a file")
    result = run_migrator(command, "--database", volume / name, "--migrations", migrations)
    assert (69, "volume.no_directory") == (result.code, result.finished["reason"])
    assert f"'{(volume / name).parent}'" in result.finished["error"]
    assert ".migrator" not in result.finished["error"] + result.finished["hint"]


@pytest.mark.parametrize("command", ["plan", "check", "verify"])
@pytest.mark.parametrize("name", ["app.db", "below/app.db"])
def test_the_hint_for_a_closed_directory_opens_it(
    command, name, database, migrations, open_path, other_user
):
    """The directory that may not be entered is named, and its hint's `chown` lets the user in."""
    closed = open_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / name).parent.mkdir(exist_ok=True)
    shutil.copy(database, closed / name)
    shutil.copytree(migrations, open_path / "migrations")
    given = ("--database", closed / name, "--migrations", open_path / "migrations")
    uid, gid = other_user
    user = (tool("setpriv"), f"--reuid={uid}", f"--regid={gid}", "--clear-groups")

    result = run_migrator(command, *given, prefix=user)

    assert (77, "database.permission") == (result.code, result.finished["reason"])
    assert f"'{closed}' belongs to 0:0 with mode 0700" in result.finished["error"]
    (line,) = re.findall(r"`(chown [^`]+)`", result.finished["hint"])
    subprocess.run(shlex.split(line), check=True)
    assert run_migrator(command, *given, prefix=user).code == {"check": 1}.get(command, 0)


@pytest.mark.parametrize("end", ["", "-wal"])
@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [("EIO", 74, "disk.failed"), ("ESTALE", 69, "volume.stale")],
)
@pytest.mark.parametrize("command", ["plan", "check", "verify"])
def test_a_look_tells_a_failing_disk_and_a_stale_mount(
    command, number, code, reason, end, database, migrations, tmp_path
):
    """They have their codes also where it is not SQLite that meets them."""
    inject = f"inject=%%stat:error={number}"
    traced = ("-P", f"{database}{end}", "-e", inject)
    prefix = (tool("strace"), "-f", "-qq", "-o", tmp_path / "trace", *traced)
    given = ("--database", database, "--migrations", migrations)
    result = run_migrator(command, *given, prefix=prefix)
    assert (code, reason) == (result.code, result.finished["reason"]), result.stderr
    assert f"'{database}{end}'" in result.finished["error"]


@pytest.mark.parametrize("name", ["file", "file/below", "circle"])
@pytest.mark.parametrize("command", ["backups", "verify", "restore"])
def test_impossible_backup_directory(command, name, database, migrations, tmp_path):
    """What stands in the backup directory's place is named, and nothing is restored from it."""
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("a file")
    words = (command, "latest") if command == "restore" else (command,)
    given = ("--database", database, "--migrations", migrations)
    result = run_migrator(*words, *given, "--backup-dir", tmp_path / name)
    assert (69, "volume.unsafe_entry") == (result.code, result.finished["reason"])
    assert str(tmp_path / name) in result.finished["error"]


def test_newer_with_an_impossible_backup_directory(database, migrations, tmp_path):
    """What is wrong with the backups does not hide that the database is newer."""
    given = ("--database", database, "--migrations", migrations)
    assert 0 == run_migrator("up", *given).code
    (migrations / "002_create_tags.sql").unlink()
    (tmp_path / "file").write_text("a file")
    result = run_entrypoint(*given, "--backup-dir", tmp_path / "file")
    assert (78, "history.newer") == (result.code, result.finished["reason"])
    assert "no backup here leads back" in result.finished["hint"]


@pytest.mark.parametrize("what", ["status", "plan", "check", "verify"])
def test_a_failing_disk_is_not_written_to(what, database, migrations, tmp_path):
    """Whether there is room is only tried in a run: a look reports the failure, and no more."""
    up(database, migrations)
    trace = tmp_path / "trace"
    paths = ("-P", database, "-P", database.parent)
    prefix = (tool("strace"), "-f", "-qq", "-o", trace, *paths)
    inject = ("-e", "inject=pread64:error=EIO:when=4+")
    given = (*LOOKS[what], "--database", database, "--migrations", migrations)

    result = run_migrator(*given, prefix=(*prefix, *inject))

    assert (0 if what == "status" else 74) == result.code, result.stderr
    assert "disk I/O error" in result.stdout + result.stderr
    calls = trace.read_text()
    assert "(INJECTED)" in calls
    writes = ("O_TMPFILE", "O_CREAT", "fallocate(", "pwrite64(")
    assert [] == [line for line in calls.splitlines() if any(each in line for each in writes)]
