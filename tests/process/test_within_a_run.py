"""A run's lock and what is started while it is held: forked children, and runs within the run."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from pathlib import Path

import pytest

from migrator import Migration, MigrationRunner
from migrator.errors import (
    DamagedError,
    MigrationFailedError,
    MisfitError,
    NotReadyError,
)
from tests.faults.planted import Bug
from tests.support.digest import logical_digest
from tests.support.files import history, rows, tables, write_migrations
from tests.support.processes import run_migrator, run_script
from tests.support.scene import Scene

# --- children that are forked while a run of the API is under way --------------------

FORKED = """
    import multiprocessing, os, sys, threading
    from migrator import Migration, MigrationRunner
    from migrator.model import Settings
    from migrator.database.workspace import Layout
    from migrator.database.lock_probe import probe

    database, how, way = sys.argv[1:4]
    inside, forked = threading.Event(), threading.Event()
    wait, let = os.pipe()

    def up(cursor):
        cursor.execute("INSERT INTO users (name) VALUES ('Eve')")
        inside.set()
        forked.wait()
        cursor.execute("INSERT INTO users (name) VALUES ('Mallory')")

    def stay():
        os.close(let)
        os.read(wait, 1)

    def migrate():
        runner = MigrationRunner(database, in_use="wait" if way == "copy" else "allow")
        runner.add_migration(Migration("a", "1", "", up, transactional=way != "copy"))
        runner.run_migrations(verbose=False)

    thread = threading.Thread(target=migrate)
    thread.start()
    inside.wait()
    if how == "multiprocessing":
        child = multiprocessing.get_context("fork").Process(target=stay)
        child.start()
    elif how == "subprocess":
        import subprocess
        child = subprocess.Popen(["cat"], stdin=wait, stdout=subprocess.DEVNULL, pass_fds=[wait])
        os.set_inheritable(let, False)
    else:
        child = os.fork()
        if child == 0:
            stay()
            sys.exit(0)  # by way of the finalizers of whatever was inherited
    forked.set()
    thread.join()
    print("locked" if probe(Layout.of(Settings(__import__("pathlib").Path(database))).lock) else "free")
    os.close(let)
    if how == "fork":
        os.waitpid(child, 0)
    elif how == "multiprocessing":
        child.join()
    else:
        child.wait()
    """


def forked(database: Path, how: str, way: str, packages: Path | None = None) -> str:
    """Run the API in one thread while another starts a child that stays; say what became of the lock."""
    env: dict[str, str | None] = {"PYTHONPATH": str(packages)} if packages else {}
    done = run_script(FORKED, database, how, way, env=env, cwd=database.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("way", ["in-place", "copy"])
@pytest.mark.parametrize("how", ["fork", "multiprocessing", "subprocess"])
def test_a_child_of_another_thread_does_not_keep_the_lock(
    database: Path, how: str, way: str
) -> None:
    """The lock ends with the run, the child's end harms nothing, and the next run begins at once."""
    assert forked(database, how, way) == "free"
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(database, "SELECT name FROM users WHERE id > 3") == [("Eve",), ("Mallory",)]
    runner = MigrationRunner(database, lock_timeout=0)
    runner.add_migration(Migration("a", "1", "", lambda _: None))
    runner.add_migration(Migration("b", "1", "", lambda c: c.execute("CREATE TABLE b (id)")))
    assert runner.run_migrations(verbose=False)


def test_a_lock_that_a_child_keeps_is_found(database: Path, tmp_path: Path) -> None:
    """The planted bug, a lock that the child does not close, is seen by the same look."""
    bug = Bug(
        "a forked child keeps the lock",
        "migrator/database/lock.py",
        "        if alone:\n            return open_for_itself(",
        "        if False:\n            return open_for_itself(",
        "",
        (),
        (),
    )
    assert forked(database, "fork", "in-place", bug.plant(tmp_path / "planted")) == "locked"


def test_a_grandchild_keeps_its_own_descriptors(database: Path, tmp_path: Path) -> None:
    """What a child of a migration has opened since is closed in none of its own children."""
    scene = """
        import os, sys

        def up(conn):
            pid = os.fork()
            if pid:
                _, status = os.waitpid(pid, 0)
                assert os.waitstatus_to_exitcode(status) == 0
                return
            opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(32)]
            below = os.fork()
            if below == 0:
                os._exit(0 if all(os.path.exists(f"/proc/self/fd/{n}") for n in opened) else 1)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(below, 0)[1]))
        """
    files = write_migrations(tmp_path / "m", {"001_forks.py": scene})
    done = run_migrator("up", "--database", database, "--migrations", files)
    assert done.code == 0, done.stderr


# --- a run within a run --------------------------------------------------------------

APPLICATION = """
    from migrator import MigrationRunner

    def start():
        runner = MigrationRunner({database!r}, {migrations!r})
        runner.{call}(verbose=False)
    """

NESTED = {
    "imports": "import APP\n\nAPP.start()\n\ndef up(conn):\n    pass\n",
    "exits": "import sys, APP\n\ntry:\n    APP.start()\nexcept Exception:\n"
    "    sys.exit(1)\n\ndef up(conn):\n    pass\n",
    "up": "import APP\n\ndef up(conn):\n    conn.execute('CREATE TABLE made (id)')\n"
    "    APP.start()\n",
    "thread": "import threading, APP\n\ndef up(conn):\n"
    "    conn.execute('CREATE TABLE made (id)')\n    failed = []\n"
    "    def go():\n        try:\n            APP.start()\n"
    "        except Exception as error:\n            failed.append(error)\n"
    "    thread = threading.Thread(target=go)\n    thread.start()\n    thread.join()\n"
    "    raise failed[0]\n",
}


def nested(directory: Path, how: str, call: str = "run_pending_migrations") -> Scene:
    """Make a database whose migration starts a run of the API on it."""
    scene = Scene.make(directory, {})
    text = APPLICATION.format(
        database=str(scene.database), migrations=str(scene.migrations), call=call
    )
    name = f"_theapp_{abs(hash(str(directory)))}"
    write_migrations(scene.migrations, {f"{name}.py": text})
    scene.migrations.joinpath("001_nested.py").write_text(NESTED[how].replace("APP", name))
    return scene


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("imports", 78, "migrations.import"),
        ("exits", 78, "migrations.import"),
        ("up", 80, "migration.failed"),
        ("thread", 80, "migration.failed"),
    ],
)
def test_a_run_within_a_run_is_refused_at_once(
    tmp_path: Path, how: str, code: int, reason: str
) -> None:
    """It names the file and what to do, and waits for nothing: its parent would wait for it."""
    scene = nested(tmp_path, how)
    result = scene.run("--lock-timeout", "600")
    end = scene.assert_failed(result, code, "001")
    assert end["reason"] == reason
    assert "001_nested.py" in end["error"]
    assert "a run within a run" in end["error"]
    assert '`if __name__ == "__main__":`' in end["hint"]
    assert result.named("lock.waiting") == []


@pytest.mark.parametrize("how", ["imports", "up"])
def test_the_api_refuses_a_run_within_its_run(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one thread of one process the second run could only wait for itself."""
    scene = nested(tmp_path, how)
    monkeypatch.syspath_prepend(str(scene.migrations))
    wanted = MisfitError if how == "imports" else MigrationFailedError
    with pytest.raises(wanted, match="a run within a run") as caught:
        MigrationRunner(scene.database, scene.migrations).run_pending_migrations(verbose=False)
    assert "001_nested.py" in str(caught.value)
    assert "__main__" in caught.value.hint
    scene.assert_as_before("001")


def test_the_hint_of_a_run_within_a_run_works(tmp_path: Path) -> None:
    """An application that starts its run only as the main program can be imported."""
    scene = nested(tmp_path, "imports")
    (file,) = scene.migrations.glob("_theapp_*.py")
    file.write_text(file.read_text() + '\n\nif __name__ == "__main__":\n    start()\n')
    text = (scene.migrations / "001_nested.py").read_text()
    (scene.migrations / "001_nested.py").write_text(re.sub(r"\n_theapp_\d+\.start\(\)\n", "", text))
    assert scene.run().code == 0
    assert history(scene.database) == ["001"]


@pytest.mark.parametrize("module", ["migrator", "entrypoint"])
def test_a_command_that_a_migration_starts_is_refused_at_once(tmp_path: Path, module: str) -> None:
    """It ends with 75 and its own reason, which nobody is told to try again."""
    scene = Scene.make(tmp_path, {})
    words = [*(["up"] if module == "migrator" else []), *map(str, scene.options)]
    text = f"""
        import subprocess, sys

        def up(conn):
            conn.execute("CREATE TABLE made (id)")
            done = subprocess.run([sys.executable, "-m", {module!r}, *{words!r}],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            open({str(tmp_path / "said")!r}, "w").write(done.stdout)
            raise SystemExit(done.returncode)
        """
    write_migrations(scene.migrations, {"001_calls.py": text})
    scene.assert_failed(scene.run(), 80, "001")
    end = json.loads((tmp_path / "said").read_text().splitlines()[-1])
    assert (end["exit_code"], end["reason"], end["retryable"]) == (75, "lock.within_a_run", False)
    assert "a run within a run" in end["error"]


def test_a_run_on_another_database_may_be_started(tmp_path: Path) -> None:
    """A migration that brings a second database up to date waits for nobody."""
    scene = Scene.make(tmp_path, {})
    other = tmp_path / "other.db"
    sqlite3.connect(other).close()
    text = f"""
        from migrator import Migration, MigrationRunner

        def up(conn):
            runner = MigrationRunner({str(other)!r})
            runner.add_migration(Migration("b", "1", "", lambda c: c.execute("CREATE TABLE b (i)")))
            runner.run_migrations(verbose=False)
            conn.execute("CREATE TABLE made (id)")
        """
    write_migrations(scene.migrations, {"001_both.py": text})
    assert scene.run().code == 0
    assert "b" in tables(other)
    assert "made" in tables(scene.database)


# --- what a migration raises is the migration's ------------------------------------------

OURS = [
    'InterruptedRunError(15, "x")',
    'MigratorError("x")',
    'RestoreError("x")',
    'DiskError("x")',
    'VerificationError("x")',
    'MigrationFailedError("x")',
]
THEIRS = [*OURS, "KeyboardInterrupt()", "SystemExit(0)", "GeneratorExit()", "BaseException()"]


@pytest.mark.parametrize("raised", THEIRS)
@pytest.mark.parametrize(("where", "code"), [("import", 78), ("up", 80)])
def test_an_error_of_ours_that_a_file_raises_is_the_files(
    tmp_path: Path, raised: str, where: str, code: int
) -> None:
    """Whatever a file raises, a signal's error among it, names the file: no bug, no stop."""
    start = "from migrator.errors import *\n\n"
    body = f"raise {raised}\n\ndef up(conn): pass\n"
    if where == "up":
        body = f"def up(conn):\n    conn.execute('CREATE TABLE made (id)')\n    raise {raised}\n"
    scene = Scene.make(tmp_path, {"001_raises.py": start + body})
    end = scene.assert_failed(scene.run(), code, "001")
    assert "001_raises.py, line" in end["error"]
    assert end["reason"] == ("migrations.import" if where == "import" else "migration.failed")


@pytest.mark.parametrize("raised", OURS)
def test_the_api_tells_them_apart_too(database: Path, tmp_path: Path, raised: str) -> None:
    """In the caller's process there is no signal of ours either."""
    text = f"from migrator.errors import *\n\nraise {raised}\n"
    files = write_migrations(tmp_path / "m", {"001_raises.py": text})
    with pytest.raises(MisfitError, match=r"001_raises\.py, line 3"):
        MigrationRunner(database, files).run_pending_migrations(verbose=False)


@pytest.mark.parametrize("raised", ['InterruptedRunError(15, "x")', 'RestoreError("x")'])
def test_a_registry_that_raises_one_is_named(tmp_path: Path, raised: str) -> None:
    """A registry is code as well, read in a child."""
    scene = Scene.make(
        tmp_path, {"registry.py": f"from migrator.errors import *\nraise {raised}\n"}
    )
    given = ("--database", scene.database, "--migrations", scene.migrations / "registry.py")
    result = run_migrator("up", *given)
    assert (result.code, result.finished["reason"]) == (78, "migrations.import")
    assert "registry.py, line 2" in result.finished["error"]


# --- the place, in the API --------------------------------------------------------------


def test_two_names_of_one_file_are_refused_in_the_api(database: Path, migrations: Path) -> None:
    """69 at once, as the command says it, with nothing pending as well; nothing was changed."""
    before = logical_digest(database)
    other = database.with_name("other.db")
    os.link(database, other)
    runner = MigrationRunner(database, migrations)
    for call in (runner.run_pending_migrations, runner.rollback_last):
        with pytest.raises(NotReadyError, match="2 hard links") as caught:
            call(verbose=False)
        assert (caught.value.reason, caught.value.exit_code) == ("database.hard_links", 69)
    assert before == logical_digest(database)
    other.unlink()
    assert runner.run_pending_migrations(verbose=False) == 2
    os.link(database, other)
    with pytest.raises(NotReadyError, match="2 hard links"):
        runner.run_pending_migrations(verbose=False)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "database.is_directory"),
        (os.mkfifo, "database.not_a_file"),
        (lambda path: path.symlink_to(path), "volume.unusable"),
        (lambda path: Path(f"{path}-wal").write_text("x"), "database.missing"),
    ],
    ids=["directory", "pipe", "circle", "wal without its database"],
)
def test_what_is_no_database_is_refused_in_the_api(
    volume: Path, migrations: Path, make: object, reason: str
) -> None:
    """Whatever stands in its place, nothing is made of it."""
    make(volume / "app.db")  # type: ignore[operator]
    names = set(os.listdir(volume))
    runner = MigrationRunner(volume / "app.db", migrations, wait_timeout=0)
    with pytest.raises((NotReadyError, DamagedError)) as caught:
        runner.run_pending_migrations(verbose=False)
    assert caught.value.reason == reason
    assert names == set(os.listdir(volume))
