"""SQLite's locks are lost late, in another function than `up`, or together with something else."""

from __future__ import annotations

import signal

import pytest

from tests.process.test_locks import (
    DROPS,
    HEAD,
    OTHERS,
    WAYS,
    assert_lost,
    indented,
    migration,
    scene_of,
    start,
)
from tests.support import aside
from tests.support.files import history, opened, rows
from tests.support.scene import Scene

DAMAGES = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=5); "
    "c.execute('PRAGMA journal_mode = DELETE').fetchall(); "
    "c.execute('SELECT count(*) FROM items').fetchall(); c.close(); "
    "f = open(sys.argv[1], 'r+b'); f.seek(3 * 4096); f.write(b'x' * 8192); f.close()"
)
APP_ROWS = "SELECT count(*) FROM items WHERE name LIKE 'APPAPP%'"


def late(place: str, when: str, then: str, *, way: str = "in-place", end: str = "") -> str:
    """Return a migration that ends well, after which the locks are lost at some place."""
    module, _, name = place.rpartition(".")
    lose = indented(f"{DROPS['libc']}\nother({then!r})")
    body = f"change(conn)\nat({module!r}, {name!r}, {when!r}, lose)\n{end}"
    return f"{HEAD}{WAYS[way]}\ndef lose():\n{lose}\ndef up(conn):\n{indented(body)}"


def assert_theirs(scene: Scene, code: int, reason: str, event: dict[str, object]) -> None:
    """Assert that what another process has written is there, and named with the way back."""
    assert (event["exit_code"], event["reason"]) == (code, reason), event
    assert rows(scene.database, APP_ROWS) == [(300,)]
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    assert not (scene.directory / "started").exists()
    (saved,) = aside.backups(scene.database)
    assert saved["name"] in str(event["hint"])


BEFORE_THE_END = {
    "before commit": ("migrator.verify.proof.verify", "after", "in-place"),
    "before publish": ("migrator.strategy.on_copy.note", "after", "copy"),
}


@pytest.mark.parametrize("then", ["does nothing", "writes"])
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("point", BEFORE_THE_END)
def test_a_loss_behind_the_last_migration(tmp_path, point, mode, then):
    """Nothing is committed or published without the locks."""
    place, when, way = BEFORE_THE_END[point]
    scene = scene_of(tmp_path, late(place, when, OTHERS[then], way=way), mode=mode)
    result = start(scene)
    if then == "writes":
        assert_theirs(scene, 82, "lock.lost", result.finished)
        with opened(scene.database) as conn:
            conn.execute("DELETE FROM items WHERE name LIKE 'APPAPP%'")
        scene.assert_as_before("001")
        return
    end = scene.assert_failed(result, 80, "001")
    assert end["reason"] == "lock.lost"
    assert result.one("restore.finished")["identical"] is True
    assert not (scene.directory / "started").exists()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_loss_before_a_failed_run_is_rolled_back(tmp_path, mode):
    """SQLite does not write its old pages over what another process has written."""
    place = "migrator.recovery.rollback.undoable"
    scene = scene_of(tmp_path, late(place, "before", OTHERS["writes"], end="1 / 0"), mode=mode)
    assert_theirs(scene, 82, "lock.lost", start(scene).finished)
    with opened(scene.database) as conn:
        conn.execute("DELETE FROM items WHERE name LIKE 'APPAPP%'")
    scene.assert_as_before("001")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_loss_before_the_backup_is_put_back(tmp_path, mode):
    """What differs from the backup after the rollback is then another process's, and stays."""
    place = "migrator.recovery.rollback._roll_back"
    scene = scene_of(tmp_path, late(place, "after", OTHERS["writes"], end="1 / 0"), mode=mode)
    assert_theirs(scene, 82, "lock.lost", start(scene).finished)


AFTER_THE_COMMIT = {
    "in-place": "migrator.session.guard.Guard.commit",
    "copy": "migrator.strategy.on_copy._publish",
}


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("way", WAYS)
def test_a_failed_check_behind_a_loss_puts_nothing_back(tmp_path, way, mode):
    """After the commit what another process has written is not overwritten with the backup."""
    lose = late("migrator.verify.proof.read_back", "after", OTHERS["writes"], way=way)
    text = lose.replace("def up(", "    raise ValueError('no check')\n\ndef up(")
    scene = scene_of(tmp_path, text, mode=mode)
    end = start(scene).finished
    assert_theirs(scene, 82, "verify.after_release", end)
    assert "without SQLite's locks" in end["error"]
    assert "no check" in end["error"]
    assert history(scene.database) == ["001"]
    assert aside.pending(scene.database, scene.migrations) == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("way", WAYS)
def test_a_loss_after_the_commit_overwrites_nothing(tmp_path, way, mode):
    """Neither a checkpoint nor the closing writes pages over another process's."""
    text = late(AFTER_THE_COMMIT[way], "after", OTHERS["writes"], way=way)
    scene = scene_of(tmp_path, text, mode=mode)
    result = start(scene)
    if way == "copy":
        assert_theirs(scene, 82, "verify.after_release", result.finished)
    else:
        assert result.code == 0, result.stderr
        assert rows(scene.database, APP_ROWS) == [(300,)]
        assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    assert history(scene.database) == ["001"]
    assert rows(scene.database, "SELECT count(*) FROM items WHERE name = 'ONE'") == [(1,)]


@pytest.mark.parametrize("then", OTHERS)
def test_a_loss_in_a_check(tmp_path, then):
    """`check_after` is code of the migration's as well."""
    body = indented(f"{DROPS['libc']}\nother({OTHERS[then]!r})")
    text = f"{HEAD}\ndef up(conn):\n    change(conn)\n\ndef check_after(conn):\n{body}"
    scene = scene_of(tmp_path, text)
    assert_lost(scene, start(scene), then)


@pytest.mark.parametrize("then", OTHERS)
def test_the_migration_that_lost_the_locks_is_named(tmp_path, then):
    """Though it ends at once, and another one would come after it."""
    drop = f"{DROPS['libc']}\nother({OTHERS[then]!r})"
    text = f"{HEAD}\ndef up(conn):\n    change(conn)\n{indented(drop)}"
    scene = scene_of(tmp_path, text)
    (scene.migrations / "002_more.sql").write_text("CREATE TABLE more (id);")
    result = start(scene)
    assert "001_does.py" in result.finished["error"]
    assert [event["version"] for event in result.named("migration.started")] == ["001"]
    assert result.finished["exit_code"] == (82 if then == "writes" else 80)
    assert rows(scene.database, APP_ROWS) == [(300 if then == "writes" else 0,)]
    assert aside.pending(scene.database, scene.migrations) == ["001", "002"]


@pytest.mark.parametrize("then", OTHERS)
def test_a_loss_between_the_rows_of_one_statement(tmp_path, then):
    """`executemany` asks for each row, and SQLite writes none without its locks."""
    more = 'conn.executemany("INSERT INTO items (name) VALUES (?)", values())'
    body = f"conn.execute('PRAGMA cache_size = 1')\nchange(conn)\n{more}"
    lose = indented(f"yield ('A',)\n{DROPS['libc']}\nother({OTHERS[then]!r})")
    lose += "    for _ in range(2000):\n        yield ('B' * 200,)\n"
    text = f"{HEAD}\ndef values():\n{lose}\ndef up(conn):\n{indented(body)}"
    scene = scene_of(tmp_path, text)
    assert_lost(scene, start(scene), then)


@pytest.mark.parametrize("then", OTHERS)
@pytest.mark.parametrize("how", ["conn.rollback()", "raise ValueError", "conn.commit()"])
def test_whatever_a_migration_does_with_its_transaction_then(tmp_path, how, then):
    """A rollback to a savepoint writes pages too, and is not done."""
    body = f"change(conn)\n{DROPS['libc']}\nother({OTHERS[then]!r})\n{how}"
    scene = scene_of(tmp_path, f"{HEAD}\ndef up(conn):\n{indented(body)}")
    assert_lost(scene, start(scene), then)


@pytest.mark.parametrize("then", OTHERS)
def test_a_loss_in_down(tmp_path, then):
    """Undoing is looked at as applying is: the migration stays applied."""
    body = f"change(conn)\n{DROPS['libc']}\nother({OTHERS[then]!r})"
    text = f"{HEAD}\ndef up(conn):\n    conn.execute('CREATE TABLE kept (id)')\n"
    text += f"\ndef down(conn):\n{indented(body)}"
    scene = scene_of(tmp_path, text)
    env = {"DATABASE": str(scene.database)}
    assert scene.run(env=env).code == 0
    result = down(scene, env)
    assert result.finished["reason"] == "lock.lost"
    assert result.code == (82 if then == "writes" else 80)
    assert rows(scene.database, APP_ROWS) == [(300 if then == "writes" else 0,)]
    assert rows(
        scene.database, "SELECT name FROM sqlite_schema WHERE name IN ('kept', 'made')"
    ) == [("kept",)]
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    assert history(scene.database) == ["001"]


def down(scene: Scene, env: dict[str, str]):
    """Undo everything."""
    from tests.support.processes import run_migrator

    return run_migrator("down", *scene.options, env=env)


STOP = "os.kill(os.getppid(), signal.SIGTERM)"


@pytest.mark.parametrize("then", OTHERS)
@pytest.mark.parametrize("point", ["in a migration", "in the commit"])
def test_a_stop_that_comes_when_the_locks_are_lost(tmp_path, point, then):
    """The worker ends, nothing of it stays, and what another process has written is there."""
    if point == "in the commit":
        text = late("migrator.strategy.in_place.require_locks", "before", OTHERS[then])
        text = text.replace("def up(", f"    {STOP}\n\ndef up(")
    else:
        body = f"change(conn)\n{DROPS['libc']}\nother({OTHERS[then]!r})\n{STOP}\nsignal.pause()"
        text = f"{HEAD}\ndef up(conn):\n{indented(body)}"
    scene = scene_of(tmp_path, text)
    result = start(scene)
    # 82 where the worker has found the loss before the stop has reached it.
    assert result.code in (128 + signal.SIGTERM, 82 if then == "writes" else None), result.stderr
    assert not (scene.directory / "started").exists()
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(scene.database, APP_ROWS) == [(300 if then == "writes" else 0,)]
    with opened(scene.database) as conn:
        conn.execute("DELETE FROM items WHERE name LIKE 'APPAPP%'")
    scene.assert_as_before("001")


@pytest.mark.parametrize("way", WAYS)
def test_a_database_that_was_damaged_meanwhile(tmp_path, way):
    """A copy of it is kept, the backup put back, and a person called."""
    scene = scene_of(tmp_path, migration(DROPS["libc"], DAMAGES, way=way))
    result = start(scene)
    end = result.finished
    assert (result.code, end["reason"]) == (82, "lock.lost"), result.stderr
    kept = scene.layout.failed / "app.db"
    assert str(kept) in end["error"]
    assert b"x" * 8192 in kept.read_bytes()
    assert result.one("restore.finished")["method"] == "backup"
    assert not (scene.directory / "started").exists()
    scene.assert_as_before("001")


WITHOUT = """
import errno, fcntl
asked = fcntl.fcntl
def refuse(fd, command, *more):
    if command == fcntl.F_OFD_GETLK:
        raise OSError(errno.EINVAL, "no such command")
    return asked(fd, command, *more)
fcntl.fcntl = refuse
"""


@pytest.mark.parametrize("then", ["does nothing", "reads"])
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_without_the_query_has_a_child_look(tmp_path, way, mode, then):
    """Before the commit and the publish a child looks, which has none of its parent's locks."""
    scene = scene_of(tmp_path, migration(DROPS["libc"], OTHERS[then], way=way), mode=mode)
    result = old_kernel(scene)
    end = scene.assert_failed(result, 80, "001")
    assert end["reason"] == "lock.lost"
    assert not (scene.directory / "started").exists()


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_without_the_query_migrates(tmp_path, way, mode):
    """A run that keeps its locks is none that has lost them."""
    scene = scene_of(tmp_path, migration("pass", way=way), mode=mode)
    result = old_kernel(scene)
    assert result.code == 0, result.stderr
    assert history(scene.database) == ["001"]


def old_kernel(scene: Scene):
    """Start the entrypoint where the kernel answers no query about this process itself."""
    from tests.support.processes import PACKAGES

    folder = scene.directory / "kernel"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT)
    env = {"DATABASE": str(scene.database), "PYTHONPATH": f"{folder}:{PACKAGES}"}
    return scene.run("--", "touch", str(scene.directory / "started"), env=env)
