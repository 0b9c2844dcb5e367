"""Somebody removes the lock's directory "to unlock": the run notices, and nothing is mixed up."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from migrator.context import Context
from migrator.database.lock import RunLock
from migrator.database.workspace import Layout
from migrator.errors import LockedError
from migrator.formats.source import DirectorySource
from migrator.model import Settings
from migrator.strategy import new_file
from migrator.wait import Deadline
from tests.support.files import history, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import PACKAGES, run_migrator
from tests.support.recorder import Recorder
from tests.support.scene import Scene

UNLOCK = """
import os, shutil, sqlite3

HOME = {home!r}

def unlock(conn):
    os.rename(HOME, HOME + "-gone") if {kept!r} else shutil.rmtree(HOME)

def second():
    os.mkdir(HOME)
    for name in ("lock", "state.json", "new.db", "work.db"):
        with open(os.path.join(HOME, name), "w") as file:
            file.write("" if name == "lock" else "another run's")
"""
WAYS = {"in-place": "", "copy": "transactional = False\n"}
DOINGS = {
    "the directory is removed": "unlock(conn)",
    "a second run has begun": "unlock(conn)\n    second()",
    "the lock alone is removed": "os.unlink(os.path.join(HOME, 'lock'))",
    "another lock is in its place": "os.rename(os.path.join(HOME, 'lock'), HOME + '-lock')\n"
    "    open(os.path.join(HOME, 'lock'), 'w').close()",
}


def unlocking(scene: Scene, doing: str, way: str = "in-place", *, last: bool = True) -> None:
    """Write a migration that removes the lock it runs under, perhaps with another one after it."""
    head = UNLOCK.format(home=str(scene.layout.home), kept=True)
    text = f"{head}{WAYS[way]}\ndef up(conn):\n    conn.execute('CREATE TABLE made (x)')\n    {doing}\n"
    files = {"001_unlocks.py": text}
    if not last:
        files["002_more.sql"] = "CREATE TABLE more (x);\n"
    write_migrations(scene.migrations, files)


def assert_untouched(scene: Scene, doing: str) -> None:
    """Assert that what another run has put into our directory is there still."""
    if "second" in doing:
        for name in ("state.json", "new.db", "work.db"):
            assert (scene.layout.home / name).read_text() == "another run's"
            (scene.layout.home / name).unlink()


@pytest.mark.parametrize("last", [True, False], ids=["last", "before others"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("doing", DOINGS.values(), ids=DOINGS)
def test_a_run_whose_lock_is_removed_commits_nothing(tmp_path, doing, way, last):
    """It is 75, says so and not that the disk or a permission failed; the next start goes on."""
    scene = Scene.make(tmp_path, {})
    unlocking(scene, doing, way, last=last)
    result = scene.run("--", "/bin/echo", "started")
    end = assert_failed(result, 75, "lock.removed", "failed_restored")
    assert str(scene.layout.lock) in end["error"]
    assert (end["retryable"], result.stdout) == (True, "")
    assert tables(scene.database) == {"items"}
    assert_untouched(scene, doing)
    write_migrations(scene.migrations, {"001_unlocks.py": "def up(conn): pass\n"})
    assert_succeeded(scene.run(), "migrated", 1 if last else 2)
    assert history(scene.database)[0] == "001"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("doing", DOINGS.values(), ids=DOINGS)
def test_a_first_install_whose_lock_is_removed_makes_no_database(tmp_path, doing, way):
    """The application never starts on a database that is empty, locked or another run's."""
    scene = Scene.make(tmp_path, {}, empty=True)
    unlocking(scene, doing, way)
    result = scene.run("--", "/bin/echo", "started")
    assert_failed(result, 75, "lock.removed", "failed_restored")
    assert (scene.database.exists(), result.stdout) == (False, "")
    assert_untouched(scene, doing)
    write_migrations(scene.migrations, {"001_unlocks.py": "def up(conn): pass\n"})
    assert_succeeded(scene.run(), "created", 1)


def test_a_worker_that_dies_without_the_lock_settles_nothing(tmp_path):
    """What lies in our directory is another run's by then: nothing of it is removed."""
    scene = Scene.make(tmp_path, {})
    unlocking(scene, f"{DOINGS['a second run has begun']}\n    os._exit(0)")
    result = run_migrator("up", *scene.options)
    end = assert_failed(result, 75, "lock.removed", "unknown")
    assert "as before" not in end["error"]
    assert_untouched(scene, DOINGS["a second run has begun"])
    assert tables(scene.database) == {"items"}


def test_a_lock_that_is_removed_after_the_commit_starts_no_application(tmp_path):
    """The run is done, and says so; another one may have begun all the same."""
    scene = Scene.make(tmp_path, {"001_a.sql": "CREATE TABLE a (x);\n"})
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import shutil\n"
        "import migrator.backup_step as module\n"
        "real = module.prune_and_clean\n"
        "def housekeep(ctx, saved):\n"
        "    real(ctx, saved)\n"
        "    shutil.rmtree(ctx.layout.home)\n"
        "module.prune_and_clean = housekeep\n"
    )
    env = {"PYTHONPATH": f"{site}{os.pathsep}{PACKAGES}"}
    result = scene.run("--", "/bin/echo", "started", env=env)
    end = assert_failed(result, 75, "lock.removed", "unknown")
    assert ("is done" in end["error"], result.stdout) == (True, "")
    assert history(scene.database) == ["001"]
    assert scene.run().finished["outcome"] == "up_to_date"


# --- the place itself ---------------------------------------------------------


@pytest.fixture
def placing(tmp_path: Path) -> tuple[Context, int]:
    """Return a run that has built and verified a file, and a descriptor of that."""
    scene = Scene.make(tmp_path, {}, empty=True)
    layout: Layout = scene.layout
    lock = RunLock.acquire(layout, 0, Recorder())
    source = DirectorySource(scene.migrations)
    ctx = Context(
        Settings(layout.database), layout, source, Recorder(), "run", Deadline(0), lock=lock
    )
    sqlite3.connect(layout.new).close()
    held = os.open(layout.new, os.O_RDWR | os.O_CREAT, 0o600)
    return ctx, held


@pytest.mark.parametrize("links", [True, False], ids=["link", "rename"])
def test_another_file_by_that_name_gets_no_place(placing, links, monkeypatch):
    """Between the look at the lock and the link nothing can be mixed up either."""
    ctx, held = placing
    layout = ctx.layout
    os.rename(layout.new, layout.new.with_name("verified.db"))
    layout.new.write_text("another run's")
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    with pytest.raises(LockedError) as caught:
        new_file._place(ctx, held)
    assert caught.value.reason == "lock.removed"
    assert not layout.database.exists()
    assert layout.new.read_text() == "another run's"
    ctx.lock.release()
    os.close(held)


@pytest.mark.parametrize("links", [True, False], ids=["link", "rename"])
def test_the_verified_file_gets_its_place(placing, links, monkeypatch):
    """It is that very file, by link or by rename."""
    ctx, held = placing
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    new_file._place(ctx, held)
    assert os.path.samestat(os.stat(ctx.layout.database), os.fstat(held))
    ctx.lock.release()
    os.close(held)


def _no_links(*_given: object, **_more: object) -> None:
    raise PermissionError(1, "Operation not permitted")
