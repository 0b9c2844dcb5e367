"""A report is a claim: what the database does not confirm, nobody believes, whoever wrote it."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import textwrap
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, make_database, rows, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import PACKAGES, Result, run_entrypoint, run_migrator
from tests.support.scene import SCHEMA, Scene

LIAR = """
import gc, json, os

def pipe():
    from migrator.process.worker import _Pipe
    return next(each for each in gc.get_objects() if type(each) is _Pipe)

def claim(kind, **more):
    return {"result": {"kind": kind, "changed": ["001"], **more}}

def error(kind):
    return {"error": {"type": kind, "message": "It is said.", "hint": "", "reason": "said",
                      "retryable": False, "data": {}}}

def said(event, **fields):
    return {"event": event, "message": "It is said.", "level": "info", "fields": fields}

def finish():
    facts = {"version": "001", "name": "lies", "seconds": 0.1, "rows_removed": {}}
    pipe().send(said("migration.finished", **facts))

"""
WAYS = {"in-place": "", "copy": "transactional = False\n"}

LIES = {
    "done": "pipe().send(claim('migrated')); os._exit(0)",
    "up to date": "pipe().send(claim('up_to_date')); os._exit(0)",
    "no database": "pipe().send(claim('no_database')); os._exit(0)",
    "created": "pipe().send(claim('created')); os._exit(0)",
    "a nonsense": "pipe().send({'result': {}}); os._exit(0)",
    "done, in odd words": "finish(); pipe().send(claim('migrated', changed=1, file=['x']))\n"
    "    os._exit(0)",
    "done, its migration over": "finish(); pipe().send(claim('migrated')); os._exit(0)",
    "done, all its phases over": "finish()\n"
    "    for phase in ('commit', 'restored', 'prune'): pipe().send(said('phase', phase=phase))\n"
    "    pipe().send(claim('migrated')); os._exit(0)",
    "done twice": "finish(); pipe().send(claim('migrated')); pipe().send(claim('migrated'))\n"
    "    os._exit(0)",
    "done, and dying": "finish(); pipe().send(claim('migrated')); os.abort()",
    "done, cut off": "from migrator.process import reports\n"
    "    line = reports.spell(pipe()._mark, claim('migrated'))\n"
    "    os.write(pipe()._number, line[:-9]); os._exit(0)",
    "a bug": "pipe().send({'crash': 'Traceback'}); os._exit(0)",
    "a failure": "pipe().send(error('UsageError')); os._exit(0)",
    "a failure that it settles": "pipe().send({'error': error('DiskError')['error'] | {'outcome':"
    " 'up_to_date'}}); os._exit(0)",
    "a failure of no kind": "pipe().send(error('Nonsense')); os._exit(0)",
    "enormous": "os.write(pipe()._number, pipe()._mark + b'{' * (20 << 20)); os._exit(0)",
    "without a mark": "os.write(pipe()._number, json.dumps(claim('migrated')).encode() + b'\\n')\n"
    "    os._exit(0)",
}


def lying(lie: str, way: str = "in-place", *, name: str = "up") -> str:
    """Return a migration that changes something, and then reports and ends as it likes."""
    changes = "    conn.execute('CREATE TABLE made (x)')\n    conn.execute('DELETE FROM items')\n"
    other = "" if name == "up" else "def up(conn):\n    pass\n\n"
    allow = "allow_row_loss = ('items',)\n"
    return f"{LIAR}{WAYS[way]}{allow}\n{other}def {name}(conn):\n{changes}    {LIES[lie]}\n"


def assert_settled(scene: Scene) -> None:
    """Assert that nothing of a run is left for the next start."""
    assert not scene.layout.state.exists()
    assert not scene.locked()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lie", LIES)
def test_a_migration_that_lies_starts_no_application(tmp_path, lie, way):
    """The worker's end is a failed run, proven and settled, and the next start goes on."""
    scene = Scene.make(tmp_path, {"001_lies.py": lying(lie, way)})
    result = scene.run("--", "/bin/echo", "started")
    end = scene.assert_failed(result, 80, "001")
    assert (end["reason"], end["outcome"]) == ("worker.killed", "failed_restored")
    assert "started" not in result.stdout
    assert result.one("restore.finished")["identical"] is True
    assert_settled(scene)
    (scene.migrations / "001_lies.py").write_text("def up(conn): pass\n")
    scene.assert_goes_on("001")


@pytest.mark.parametrize("lie", LIES)
def test_a_first_install_that_lies_makes_no_database(tmp_path, lie):
    """Nothing stands at the path, and the command says that it failed."""
    code = lying(lie).replace("    conn.execute('DELETE FROM items')\n", "")
    scene = Scene.make(tmp_path, {"001_lies.py": code}, empty=True)
    result = run_migrator("up", *scene.options)
    scene.assert_failed(result, 80, "001")
    assert_settled(scene)
    (scene.migrations / "001_lies.py").write_text("def up(conn): pass\n")
    scene.assert_goes_on("001")


@pytest.mark.parametrize("lie", LIES)
def test_a_down_that_lies_undoes_nothing(tmp_path, lie):
    """What was to be undone is in the history, so it is not called undone."""
    code = lying(lie, name="down").replace("CREATE TABLE made", "CREATE TABLE other")
    scene = Scene.make(tmp_path, {"001_lies.py": code})
    assert_succeeded(scene.run(), "migrated", 1)
    scene.before = logical_digest(scene.database)
    result = run_migrator("down", *scene.options)
    assert_failed(result, 80, "worker.killed", "failed_restored")
    scene.assert_as_before()
    assert history(scene.database) == ["001"]
    assert_settled(scene)


@pytest.mark.parametrize("way", WAYS)
def test_a_report_that_came_early_is_looked_at_in_the_end(tmp_path, way):
    """The worker went on and did its work: the database confirms it, whatever was said before."""
    code = (
        f"{LIAR}{WAYS[way]}\ndef up(conn):\n    pipe().send(claim('migrated'))\n"
        "    conn.execute('CREATE TABLE made (x)')\n"
    )
    scene = Scene.make(tmp_path, {"001_lies.py": code})
    result = scene.run("--", "/bin/echo", "started")
    assert_succeeded(result, "migrated", 1)
    assert (result.stdout, "made" in tables(scene.database)) == ("started\n", True)
    assert_settled(scene)


IMPORTS = {
    "done": "pipe().send(claim('migrated')); os._exit(0)",
    "done, all its phases over": "pipe().send(said('phase', phase='nothing'))\n"
    "pipe().send(claim('migrated')); os._exit(0)",
    "no word": "os._exit(0)",
}


@pytest.mark.parametrize("lie", IMPORTS)
def test_an_import_that_lies_is_found(tmp_path, lie):
    """Nothing had begun and nothing has been written; the application is not started."""
    code = f"{LIAR}{IMPORTS[lie]}\ndef up(conn): pass\n"
    scene = Scene.make(tmp_path, {"001_lies.py": code})
    result = scene.run("--", "/bin/echo", "started")
    assert 70 < result.code <= 82
    assert result.stdout == ""
    scene.assert_as_before("001")
    assert_settled(scene)


# --- workers that report what they have not done -----------------------------

IDLE = {
    "up": ("migrator.run", "upgrade", "migrated"),
    "down": ("migrator.down", "down", "migrated"),
    "baseline": ("migrator.commands.baseline", "baseline", "migrated"),
    "restore": ("migrator.change.restore", "restore", "migrated"),
}


def planted(directory: Path, code: str) -> dict[str, str]:
    """Return variables with which the commands run some code first."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(textwrap.dedent(code))
    return {"PYTHONPATH": f"{directory}{os.pathsep}{PACKAGES}"}


def two_applied(tmp_path: Path) -> Scene:
    """Return a database with one migration applied and a second one that is pending."""
    up = "def up(conn):\n    conn.execute('CREATE TABLE a{0} (x)')\n"
    down = "def down(conn):\n    conn.execute('DROP TABLE a{0}')\n"
    scene = Scene.make(tmp_path, {"001_a.py": (up + down).format(1)})
    assert_succeeded(scene.run(), "migrated", 1)
    write_migrations(scene.migrations, {"002_b.py": (up + down).format(2)})
    return scene


def words_of(command: str, scene: Scene) -> tuple[str, ...]:
    """Return a command that has something to do."""
    return {
        "up": ("up",),
        "down": ("down",),
        "baseline": ("baseline", "002"),
        "restore": ("restore", "latest"),
    }[command]


@pytest.mark.parametrize("outcome", ["migrated", "up_to_date", "created", "restored", "nonsense"])
@pytest.mark.parametrize("command", IDLE)
def test_a_worker_that_has_done_nothing_is_not_believed(tmp_path, command, outcome):
    """Each command has its own look: the history, or the pages of the backup."""
    scene = two_applied(tmp_path)
    module, name, _ = IDLE[command]
    env = planted(
        tmp_path / "site",
        f"""
        import {module} as module
        from migrator.model import Outcome
        done = Outcome({outcome!r}, ("002",))
        module.{name} = lambda *given, **more: done
        """,
    )
    before = rows(scene.database, "SELECT * FROM migrations")
    result = run_migrator(*words_of(command, scene), *scene.options, env=env)
    assert_failed(result, 73, "worker.killed", "refused")
    assert "does not confirm" in result.finished["error"]
    assert rows(scene.database, "SELECT * FROM migrations") == before
    assert_settled(scene)


def test_a_baseline_that_took_another_row_with_it_is_82(tmp_path):
    """What was in the history before is to be there still, also when its file is gone."""
    scene = two_applied(tmp_path)
    (scene.migrations / "001_a.py").unlink()
    env = planted(
        tmp_path / "site",
        """
        from migrator.strategy.in_place import RunTransaction
        real = RunTransaction.commit
        def commit(self):
            with self.live.guard.engine():
                self.live.guard.conn.execute("DELETE FROM migrations WHERE version = '001'")
            real(self)
        RunTransaction.commit = commit
        """,
    )
    accepted = ("--accept", "missing")
    result = run_migrator("baseline", "002", *scene.options, *accepted, env=env)
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    assert "its history lacks 001" in end["error"]
    assert history(scene.database) == ["002"]


def test_a_restore_that_wrote_no_page_is_82(tmp_path):
    """It says that it is complete, and the database holds other pages: a person is needed."""
    scene = two_applied(tmp_path)
    env = planted(
        tmp_path / "site",
        """
        import migrator.change.restore as module
        module.write_back = lambda *given, **more: None
        """,
    )
    result = run_migrator("restore", "latest", *scene.options, env=env)
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    assert "does not hold the pages of" in end["error"]
    assert history(scene.database) == ["001"]


def test_a_restore_whose_note_stays_is_settled(tmp_path):
    """A run that calls itself done and is noted still is settled before it is believed."""
    scene = two_applied(tmp_path)
    env = planted(
        tmp_path / "site",
        """
        import migrator.backup_step as module
        module.prune_and_clean = lambda *given, **more: None
        """,
    )
    result = run_migrator("up", *scene.options, env=env)
    assert_succeeded(result, "migrated", 1)
    assert result.one("recovery.finished")["outcome"] == "committed"
    assert history(scene.database) == ["001", "002"]
    assert_settled(scene)


def test_a_first_install_that_is_another_file_is_not_believed(tmp_path):
    """The file at the path has the whole history, and is not the one that was verified."""
    scene = Scene.make(tmp_path, {"001_a.sql": "CREATE TABLE a (x);\n"}, empty=True)
    env = planted(
        tmp_path / "site",
        """
        import os, shutil
        import migrator.strategy.new_file as module
        from migrator.process import audit_hook as protection
        real = module.prune_and_clean
        def housekeep(ctx, saved):
            real(ctx, saved)
            copy = str(ctx.layout.database) + ".copy"
            with protection.allowed():
                shutil.copy(ctx.layout.database, copy)
                os.rename(copy, ctx.layout.database)
        module.prune_and_clean = housekeep
        """,
    )
    result = run_entrypoint(*scene.options, "--", "/bin/echo", "started", env=env)
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    assert "is not the one that was verified" in end["error"]
    assert result.stdout == ""


# --- registries ---------------------------------------------------------------

ANSWERS = {
    "no list": "{'entries': 7}",
    "other pairs": "{'entries': [[1, 2]]}",
    "nothing": "{}",
    "texts": "{'entries': ['ab', 'cd']}",
}


@pytest.mark.parametrize("command", ["up", "status", "plan", "check"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_registry_that_lies_about_its_names_is_refused(tmp_path, answer, command):
    """What a child says of a registry has a shape, else it is 78 and no bug."""
    database = make_database(tmp_path / "app.db", SCHEMA)
    registry = tmp_path / "registry.py"
    registry.write_text(f"{LIAR}pipe().send({{'result': {ANSWERS[answer]}}}); os._exit(0)\n")
    result = run_migrator(command, "--database", database, "--migrations", registry)
    if command == "status":
        assert "did not say which migrations" in result.stdout
        return
    assert_failed(result, 78, "migrations.import")
    assert tables(database) == {"items"}


# --- the comparison is acted on ------------------------------------------------

HALF = """
import ctypes, os

def up(conn):
    conn.execute("PRAGMA cache_size = 1")
    conn.execute("UPDATE big SET filler = randomblob(500)")
    ctypes.CDLL(None).unlink(os.fsencode(DATABASE) + b"-journal")
    os.kill(os.getpid(), 9)
"""


def test_half_a_run_is_put_back(tmp_path):
    """Its journal is gone, so SQLite undoes nothing: the backup does, and it is compared."""
    scene = Scene.make(tmp_path, {})
    with sqlite3.connect(scene.database) as conn:
        conn.execute("CREATE TABLE big (filler BLOB)")
        conn.executemany("INSERT INTO big VALUES (?)", [(bytes(500),)] * 3000)
    conn.close()
    scene.before = logical_digest(scene.database)
    (scene.migrations / "001_half.py").write_text(f"DATABASE = {str(scene.database)!r}\n{HALF}")
    result = scene.run("--", "/bin/echo", "started")
    end = scene.assert_failed(result, 80, "001")
    assert "the database is as before" in end["error"]
    restored = result.one("restore.finished")
    assert (restored["method"], restored["identical"]) == ("backup", True)
    assert result.stdout == ""
    assert_settled(scene)


def test_what_somebody_has_committed_past_a_dead_run_is_not_overwritten(tmp_path):
    """It ends with 82 and the backup's name, and never says that the database is as before."""
    up = "import os\ndef up(conn):\n    conn.execute('CREATE TABLE made (x)')\n    os._exit(0)\n"
    scene = Scene.make(tmp_path, {"001_dies.py": up})
    env = planted(
        tmp_path / "site",
        """
        import sqlite3
        import migrator.recovery.dead_worker as module
        real = module.recover
        def settle(ctx):
            conn = sqlite3.connect(ctx.layout.database)
            conn.execute("INSERT INTO items (name) VALUES ('theirs')")
            conn.commit()
            conn.close()
            return real(ctx)
        module.recover = settle
        """,
    )
    result = scene.run("--", "/bin/echo", "started", env=env)
    end = assert_failed(result, 82, "restore.not_as_before", "restore_failed")
    assert "as before" not in end["error"].replace("not as before", "")
    assert end["backup"] in end["hint"]
    assert result.one("restore.failed")["identical"] is False
    assert result.stdout == ""
    assert rows(scene.database, "SELECT count(*) FROM items") == [(4,)]
    assert_settled(scene)
    (line,) = re.findall(r"`(migrator restore [^`]+)`", end["hint"])
    typed: Result = run_migrator(*shlex.split(line)[1:])
    assert_succeeded(typed, "migrated", 1)
    assert rows(scene.database, "SELECT count(*) FROM items") == [(3,)]


# --- said once ------------------------------------------------------------------


@pytest.mark.parametrize("module", [run_entrypoint, run_migrator])
def test_what_is_found_twice_is_said_once(tmp_path, module):
    """The volume is ready once, and a misfit that is accepted is warned about once a run."""
    scene = two_applied(tmp_path)
    (scene.migrations / "001_a.py").unlink()
    words = () if module is run_entrypoint else ("up",)
    result = module(*words, *scene.options, "--accept", "missing", "--log-level", "debug")
    assert_succeeded(result, "migrated", 1)
    assert [each["kind"] for each in result.named("history.misfit")] == ["missing"]
    assert len(result.named("volume.ready")) == 1
