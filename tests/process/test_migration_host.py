"""What a migration may do to connection and process: docs/migrations-may.md, line by line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import history, make_database, opened, rows, write_migrations
from tests.support.outcomes import assert_failed, assert_pending
from tests.support.processes import Result, run_migrator
from tests.support.scene import Scene

PAGE = Path(__file__).parents[2] / "docs" / "migrations-may.md"

HEAD = "import json, logging, os, shutil, signal, sqlite3, subprocess, sys, threading, time\n"
CHANGES = """
    conn.execute("CREATE TABLE made (id INTEGER)")
    conn.execute("UPDATE items SET name = upper(name)")
"""
WAYS = {"in-place": "", "copy": "transactional = False\n"}


def migration(code: str, way: str = "in-place", *, after: str = "") -> str:
    """Return a migration that changes something and then does what is tested."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return f"{HEAD}{WAYS[way]}def up(conn):\n{CHANGES}{body}{after}"


def scene_of(tmp_path: Path, code: str, way: str = "in-place") -> Scene:
    """Make a database with one migration that does what is tested."""
    return Scene.make(tmp_path, {"001_does.py": migration(code, way)})


def texts(result: Result) -> list[str]:
    """Return what the migrations printed."""
    return [event["text"] for event in result.named("migration.output")]


def assert_done(scene: Scene, result: Result, way: str = "in-place") -> None:
    """Assert that the run succeeded and that its changes are in a sound database."""
    assert result.code == 0, result.stderr
    assert result.one("plan.ready")["way"] == way
    assert history(scene.database) == ["001"]
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    names = rows(scene.database, "SELECT name FROM items WHERE id <= 3")
    assert names == [("ONE",), ("TWO",), ("THREE",)]


# --- the connection: what is refused -----------------------------------------

REFUSED = {
    "close": ("conn.close()", "may not call close()"),
    "set_authorizer": ("conn.set_authorizer(None)", "may not call set_authorizer()"),
    "backup": ("conn.backup(sqlite3.connect(':memory:'))", "may not call backup()"),
    "deserialize": ("conn.deserialize(b'')", "may not call deserialize()"),
    "rollback statement": ("conn.execute('ROLLBACK')", "ROLLBACK is refused"),
    "attach": ("conn.execute(\"ATTACH ':memory:' AS other\")", "ATTACH and DETACH are refused"),
    "vacuum": ("conn.commit(); conn.execute('VACUUM')", "VACUUM is refused"),
    "journal_mode": ("conn.execute('PRAGMA journal_mode = OFF')", "journal_mode"),
}


@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_end_the_one_transaction_is_refused(tmp_path, kind, swallowed):
    """The run fails with a hint, also where the migration swallows the exception."""
    code, said = REFUSED[kind]
    if swallowed:
        code = f"try: {code}\nexcept Exception: pass"
    scene = scene_of(tmp_path, code)
    end = scene.assert_failed(scene.run(), 80, "001")
    assert said in end["error"]
    assert end["outcome"] == "failed_restored"


def test_a_file_that_sqlite_could_not_open_may_be_no_fault_of_the_migration(tmp_path):
    """SQLite says the same of a journal that it could not make and of a file that is not there."""
    code = "conn.execute(\"ATTACH '/nowhere/other.db' AS other\")"
    scene = scene_of(tmp_path, code, "copy")
    end = scene.assert_failed(scene.run(), 80, "001")
    assert "check the volume and start again" in end["hint"]
    assert "Mend 001" in end["hint"]


NATIVE = {
    "set_authorizer": "conn.set_authorizer(None)",
    "backup": "conn.commit(); conn.backup(sqlite3.connect(':memory:'))",
    "rollback statement": "conn.commit(); conn.execute('BEGIN'); conn.execute('DELETE FROM items');"
    " conn.execute('ROLLBACK')",
    "attach": "conn.commit(); conn.execute(\"ATTACH ':memory:' AS other\")",
    "vacuum": "conn.commit(); conn.execute('VACUUM')",
    "journal_mode": "conn.commit(); conn.execute('PRAGMA journal_mode = MEMORY')",
    "isolation_level": "conn.isolation_level = None; conn.execute('BEGIN IMMEDIATE')",
}


@pytest.mark.parametrize("kind", NATIVE)
def test_on_a_copy_sqlite_behaves_as_it_always_does(tmp_path, kind):
    """A migration that says `transactional = False` may do what needs no transaction."""
    scene = scene_of(tmp_path, NATIVE[kind], "copy")
    assert_done(scene, scene.run(), "copy")


def test_on_a_copy_another_database_can_be_attached_while_it_is_in_use(tmp_path):
    """Only the copy is the migration's alone."""
    other = make_database(tmp_path / "other.db", "CREATE TABLE t (a);", wal=True)
    code = f"conn.commit(); conn.execute('ATTACH ? AS other', ({str(other)!r},))"
    scene = scene_of(tmp_path, f"{code}; conn.execute('SELECT * FROM other.t').fetchall()", "copy")
    with opened(other) as theirs:
        theirs.execute("SELECT * FROM t").fetchall()
        assert_done(scene, scene.run(), "copy")


SPOILED = {
    "removed": ("os.unlink(path)", 80, "migration.failed"),
    "damaged": ("f = open(path, 'r+b'); f.seek(4096); f.write(bytes(8192))", 81, None),
    "emptied": ("open(path, 'w').close()", 81, None),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_copy_that_is_spoiled_is_the_migrations_failure(tmp_path, kind):
    """Neither the disk nor the live database is named for it: nothing is wrong with them."""
    code, exit_code, reason = SPOILED[kind]
    path = 'path = conn.execute("PRAGMA database_list").fetchone()[2]'
    scene = scene_of(tmp_path, f"{path}; conn.commit(); {code}", "copy")
    result = scene.run()
    scene.assert_failed(result, exit_code, "001")
    assert result.finished["reason"] in (reason, "verify.structure", "rows.lost")
    assert "migrator verify" not in result.finished["hint"]


@pytest.mark.parametrize("kind", ["close", "deserialize"])
def test_on_a_copy_the_connection_stays_the_one_to_the_copy(tmp_path, kind):
    """What a migration would do after losing it would be lost: the run fails."""
    scene = scene_of(tmp_path, REFUSED[kind][0], "copy")
    scene.assert_failed(scene.run(), 80, "001")


def test_an_authorizer_of_its_own_does_not_hide_lost_rows(tmp_path):
    """On a copy it is allowed, and the row-loss guard goes on seeing what is written."""
    code = (
        "conn.commit()\n"
        "conn.set_authorizer(lambda *_: sqlite3.SQLITE_OK)\n"
        "conn.execute('CREATE TABLE items_new (id INTEGER PRIMARY KEY, name TEXT)')\n"
        "conn.execute('INSERT INTO items_new SELECT * FROM items WHERE id > 1')\n"
        "conn.execute('DROP TABLE items')\n"
        "conn.execute('ALTER TABLE items_new RENAME TO items')\n"
    )
    scene = scene_of(tmp_path, code, "copy")
    end = scene.assert_failed(scene.run(), 81, "001")
    assert end["table"] == "items"


# --- the connection: what is allowed ------------------------------------------

ALLOWED = {
    "isolation_level": "conn.isolation_level = None\nconn.execute('INSERT INTO made VALUES (1)')",
    "begin and commit": "conn.commit()\nconn.execute('BEGIN IMMEDIATE')\n"
    "conn.execute('INSERT INTO made VALUES (1)')\nconn.execute('COMMIT')",
    "executescript": "conn.executescript('BEGIN; INSERT INTO made VALUES (1); COMMIT;')",
    "with conn": "with conn:\n    conn.execute('INSERT INTO made VALUES (1)')",
    "functions": "conn.create_function('one', 0, lambda: 1)\n"
    "conn.create_collation('mine', lambda a, b: (a > b) - (a < b))\n"
    "conn.execute('INSERT INTO made SELECT one() FROM items ORDER BY name COLLATE mine LIMIT 1')",
    "savepoints": "conn.execute('SAVEPOINT s')\nconn.execute('DELETE FROM items')\n"
    "conn.execute('ROLLBACK TO s')\nconn.execute('RELEASE s')\n"
    "conn.execute('INSERT INTO made VALUES (1)')",
    "swallowed": "for sql in ('ALTER TABLE items ADD COLUMN name', 'SELEKT', 'DROP TABLE x'):\n"
    "    try: conn.execute(sql)\n    except sqlite3.OperationalError: pass\n"
    "conn.execute('INSERT INTO made VALUES (1)')",
    "interrupt of nothing": "conn.interrupt()\nconn.execute('INSERT INTO made VALUES (1)')",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ALLOWED)
def test_what_migrations_commonly_do_works_as_it_did(tmp_path, kind, way):
    """Inside the run's transaction as well as on a copy."""
    scene = scene_of(tmp_path, ALLOWED[kind], way)
    assert_done(scene, scene.run(), way)
    assert rows(scene.database, "SELECT * FROM made") == [(1,)]


@pytest.mark.parametrize("way", WAYS)
def test_rollback_undoes_what_was_done_since_the_last_commit(tmp_path, way):
    """A failing `with conn:` and `conn.rollback()` mean what they mean in Python."""
    code = """conn.commit()
conn.execute("DELETE FROM items WHERE id = 1")
conn.rollback()
try:
    with conn:
        conn.execute("DELETE FROM items WHERE id = 2")
        conn.execute("ALTER TABLE items ADD COLUMN name TEXT")
except sqlite3.OperationalError:
    pass
conn.execute("INSERT INTO items (name) VALUES ('four')")"""
    scene = scene_of(tmp_path, code, way)
    assert_done(scene, scene.run(), way)
    assert rows(scene.database, "SELECT id, name FROM items WHERE id > 3") == [(4, "four")]


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_statement_fails_the_run(tmp_path, way):
    """`interrupt()` from another thread ends the statement, and with it the migration."""
    code = """threading.Timer(0.2, conn.interrupt).start()
conn.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
             "SELECT count(*) FROM n").fetchone()"""
    scene = scene_of(tmp_path, code, way)
    end = scene.assert_failed(scene.run(), 80, "001")
    assert "interrupted" in end["error"]


def test_nothing_is_committed_after_sqlite_has_ended_the_transaction(tmp_path):
    """`INSERT OR ROLLBACK`, swallowed, and writing on: everything is undone."""
    code = """try:
    conn.execute("INSERT OR ROLLBACK INTO items (id, name) VALUES (1, 'again')")
except sqlite3.Error:
    pass
try:
    conn.execute("INSERT INTO items (name) VALUES ('alone')")
    conn.commit()
except sqlite3.Error:
    pass"""
    scene = scene_of(tmp_path, code)
    scene.assert_failed(scene.run(), 80, "001")


CONNECTION = """
def up(conn):
    found = {
        "row_factory": conn.row_factory is sqlite3.Row,
        "text_factory": conn.text_factory is str,
        "isolation_level": conn.isolation_level,
        "in_transaction": conn.in_transaction,
        "recursive_triggers": conn.execute("PRAGMA recursive_triggers").fetchone()[0],
        "temporary": [row[0] for row in conn.execute("SELECT name FROM sqlite_temp_master")],
        "total": conn.execute("SELECT count(*) FROM items").fetchone()[0],
    }
    print(json.dumps(found))
    conn.execute("DROP TABLE made")
"""


@pytest.mark.parametrize("way", WAYS)
def test_the_next_migration_gets_the_connection_as_new(tmp_path, way):
    """Factories, levels, settings, temporary tables and open cursors end with their migration."""
    code = """global kept
conn.row_factory = lambda cursor, row: list(row)
conn.text_factory = bytes
conn.isolation_level = None
conn.execute("PRAGMA recursive_triggers = ON")
conn.execute("CREATE TEMP TABLE scratch (id)")
conn.executemany("INSERT INTO made VALUES (?)", [(1,), (2,), (3,)])
kept = conn.execute("SELECT * FROM made")
kept.fetchone()"""
    files = {"001_does.py": migration(code, way), "002_looks.py": HEAD + CONNECTION}
    scene = Scene.make(tmp_path, files)
    result = scene.run()
    assert result.code == 0, result.stderr
    assert json.loads(texts(result)[-1]) == {
        "row_factory": True,
        "text_factory": True,
        "isolation_level": "",
        "in_transaction": False,
        "recursive_triggers": 0,
        "temporary": [],
        "total": 3,
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_thread_cannot_use_the_connection_and_does_not_outlive_the_run(tmp_path, way):
    """Python refuses it in the thread, and the run goes on."""
    code = """def work():
    try:
        conn.execute("DELETE FROM items")
    except sqlite3.ProgrammingError:
        print("refused")
    time.sleep(300)
thread = threading.Thread(target=work)
thread.start()
time.sleep(0.2)"""
    scene = scene_of(tmp_path, code, way)
    result = scene.run()
    assert_done(scene, result, way)
    assert texts(result) == ["refused"]


# --- the database's file --------------------------------------------------------

FILE = 'path = os.environ["DATABASE"]\n'
MOVES = {
    "open": "open(path, 'rb').close()",
    "open for writing": "open(path, 'r+b').close()",
    "os.open": "os.close(os.open(path, os.O_RDONLY))",
    "copy": "shutil.copy(path, path + '.mine')",
    "remove": "os.remove(path)",
    "replace": "open(path + '.mine', 'wb').close(); os.replace(path + '.mine', path)",
    "rename": "os.rename(path, path + '.mine')",
    "move": "shutil.move(path, path + '.mine')",
    "truncate": "os.truncate(path, 0)",
    "journal": "os.remove(path + '-journal')",
    "by a link": "os.symlink(path, path + '.link'); open(path + '.link', 'rb').close()",
}


@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("kind", MOVES)
def test_the_live_file_is_touched_by_sqlite_alone(tmp_path, kind, swallowed):
    """A descriptor closed in this process would drop SQLite's locks; so none is opened."""
    code = MOVES[kind]
    if swallowed:
        code = f"try:\n    {code}\nexcept PermissionError:\n    pass"
    scene = scene_of(tmp_path, FILE + code)
    result = scene.run(env={"DATABASE": str(scene.database)})
    if swallowed:
        assert_done(scene, result)
        return
    end = scene.assert_failed(result, 80, "001")
    assert "is open in SQLite here" in end["error"]


@pytest.mark.parametrize("way", WAYS)
def test_a_second_connection_to_the_same_file_finds_it_locked(tmp_path, way):
    """It cannot read half of a run, nor write into it; another file it may open."""
    code = """other = sqlite3.connect(path, timeout=0)
try:
    other.execute("INSERT INTO items (name) VALUES ('beside')")
    other.commit()
except sqlite3.OperationalError as error:
    print(error)
other.close()
with sqlite3.connect(path + ".own") as own:
    own.execute("CREATE TABLE mine (id)")"""
    scene = scene_of(tmp_path, FILE + code, way)
    result = scene.run(env={"DATABASE": str(scene.database)})
    assert_done(scene, result, way)
    assert texts(result) == ["database is locked"]
    assert rows(scene.database, "SELECT count(*) FROM items") == [(3,)]


def test_another_process_may_read_the_file_and_finds_it_locked(tmp_path):
    """A `cp` harms nothing: its descriptors are its own."""
    code = "subprocess.run(['cp', path, path + '.mine'], check=True)"
    scene = scene_of(tmp_path, FILE + code)
    assert_done(scene, scene.run(env={"DATABASE": str(scene.database)}))


# --- how it ends --------------------------------------------------------------

NAMELESS = "class Meta(type):\n    __name__ = property(lambda self: 1 / 0)\n"
ODD_TEXT = (
    "class Odd(str):\n    def __format__(self, spec): raise SystemExit\n    __str__ = __format__\n"
)

EXITS = {
    "sys.exit(0)": "sys.exit(0)",
    "sys.exit()": "sys.exit()",
    "sys.exit(text)": "sys.exit('done')",
    "exit": "raise SystemExit",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "no str": "class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad",
    "no str at all": "class Bad(BaseException):\n    def __str__(self): raise Bad\nraise Bad",
    "no str of SQLite's": "class Bad(sqlite3.Error):\n    def __str__(self): raise Bad\nraise Bad",
    "no name": f"{NAMELESS}class Bad(Exception, metaclass=Meta): pass\nraise Bad",
    "no plain str": f"{ODD_TEXT}class Bad(Exception):\n    __str__ = lambda self: Odd('x')\nraise Bad",
    "no code": "class Odd:\n    def __repr__(self): raise SystemExit\nraise SystemExit(Odd())",
    "no attributes": "class Bad(Exception):\n    def __getattr__(self, name): 1 / 0\nraise Bad",
    "recursion": "def f(): f()\nf()",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", EXITS)
def test_whatever_is_raised_fails_the_migration(tmp_path, kind, way):
    """An exit is no success, whichever code it has."""
    scene = scene_of(tmp_path, EXITS[kind], way)
    end = scene.assert_failed(scene.run("--", "/bin/echo"), 80, "001")
    assert (end["reason"], end["file"]) == ("migration.failed", "001_does.py")
    assert end["line"] is not None


# --- the process ---------------------------------------------------------------

LOOK = """
def look():
    return {
        "environ": sorted(os.environ.items()),
        "cwd": os.getcwd(),
        "umask": os.popen("umask").read(),
        "path": sys.path,
        "argv": sys.argv,
        "handlers": [str(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)],
        "root": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
        "depth": sys.getrecursionlimit(),
        "bytecode": sys.dont_write_bytecode,
        "trace": str(sys.gettrace()),
        "warnings": len(warnings.filters),
        "streams": [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)],
    }
"""
IMPORTS = "import io, resource, warnings\n"

LEAKS = """os.environ["LEAKED"] = "yes"
os.environ["PATH"] = "/nowhere"
os.environ.pop("HOME", None)
os.chdir("/")
os.umask(0)
sys.path[:] = ["/nowhere"]
sys.argv = ["other"]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
signal.alarm(1)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
logging.basicConfig(level=logging.DEBUG, format="001: %(message)s")
logging.disable(logging.CRITICAL)
sys.setrecursionlimit(500)
sys.dont_write_bytecode = False
sys.settrace(lambda *_: None)
warnings.simplefilter("error")
sys.stdout = sys.stderr = io.StringIO()"""


def looked(directory: Path, files: dict[str, str]) -> dict[str, Any]:
    """Run migrations of which the last one writes down what it finds."""
    directory.mkdir()
    note = directory / "found.json"
    last = HEAD + IMPORTS + LOOK + "def up(conn):\n    found = look()\n    time.sleep(1.2)\n"
    files["009_looks.py"] = f"{last}    json.dump(found, open({str(note)!r}, 'w'))\n"
    scene = Scene.make(directory, files)
    env = {"HOME": "/somewhere", "PWD": None, "OLDPWD": None}
    result = scene.run(cwd=directory.parent, env=env)
    assert result.code == 0, result.stderr
    found: dict[str, Any] = json.loads(note.read_text())
    found["path"] = [path for path in found["path"] if str(directory) not in path]
    found["argv"] = len(found["argv"])
    found["environ"] = [pair for pair in found["environ"] if "COV_" not in pair[0]]
    return found


@pytest.mark.parametrize("when", ["up", "import"])
def test_the_next_migration_finds_the_process_as_it_was(tmp_path, when):
    """Environment, directory, umask, paths, signals, limits and logging do not leak."""
    if when == "up":
        leaking = migration(LEAKS).replace(HEAD, HEAD + IMPORTS)
    else:
        leaking = HEAD + IMPORTS + LEAKS + "\ndef up(conn): pass\n"
    clean = looked(tmp_path / "clean", {"001_clean.py": "import logging\ndef up(conn): pass\n"})
    after = looked(tmp_path / "after", {"001_leaks.py": leaking})
    assert after == clean


def test_what_an_import_changes_its_own_migration_finds_again(tmp_path):
    """A path or a variable set at the top of a file holds for its `up`, and for no other file."""
    top = (
        "import os, sys\n"
        "sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'lib'))\n"
        "os.environ['MODE'] = 'one'\n"
    )
    files = {
        "001_first.py": top + "def up(conn):\n    import helper\n"
        "    print(helper.NAME, os.environ['MODE'])\n",
        "002_second.py": "import os, sys\ndef up(conn):\n"
        "    print(os.environ.get('MODE'), any('lib' in p and 'helper' in str(os.listdir(p))"
        " for p in sys.path if os.path.isdir(p)))\n",
    }
    scene = Scene.make(tmp_path, files)
    write_migrations(scene.migrations / "lib", {"helper.py": "NAME = 'helper'\n"})
    result = scene.run()
    assert result.code == 0, result.stderr
    assert texts(result) == ["helper one", "None False"]


def test_a_migration_imports_and_reads_what_lies_beside_it(tmp_path):
    """`__file__` is the file's path, and its directory is on `sys.path`."""
    code = """
from pathlib import Path
import words
from package.more import WORD

def up(conn):
    lines = (Path(__file__).parent / "words.txt").read_text().split()
    for name in (*lines, words.WORD, WORD):
        conn.execute("INSERT INTO items (name) VALUES (?)", (name,))
"""
    files = {
        "001_reads.py": code,
        "words.py": "WORD = 'module'\n",
        "words.txt": "text\n",
    }
    scene = Scene.make(tmp_path, files)
    more = {"__init__.py": "", "more.py": "WORD = 'package'\n"}
    write_migrations(scene.migrations / "package", more)
    assert scene.run(cwd="/").code == 0
    found = rows(scene.database, "SELECT name FROM items WHERE id > 3")
    assert found == [("text",), ("module",), ("package",)]
    assert not list(scene.migrations.rglob("__pycache__"))


@pytest.mark.parametrize("command", ["up", "down"])
def test_migrations_are_rooms_of_their_own_for_down_as_well(tmp_path, command):
    """What the one that is undone first changes, the next one does not see."""
    from tests.support.processes import run_migrator

    leak = "import os\ndef up(conn): os.environ['LEAKED'] = '1'\n"
    say = "import os\ndef up(conn): print(os.environ.get('LEAKED'))\n"
    files = {
        "001_one.py": leak + say.partition("\n")[2].replace("up", "down"),
        "002_two.py": say + leak.partition("\n")[2].replace("up", "down"),
    }
    scene = Scene.make(tmp_path, files)
    result = scene.run()
    if command == "down":
        result = run_migrator("down", "--steps", "2", *scene.options)
    assert result.code == 0, result.stderr
    assert texts(result) == ["None"]


def test_logging_of_a_migration_becomes_events(tmp_path):
    """Whatever it sets up: a line of its log is a line of its output."""
    code = """logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
logging.getLogger("mine").info("working")"""
    scene = scene_of(tmp_path, code)
    result = scene.run()
    assert_done(scene, result)
    assert texts(result) == ["INFO working"]


# --- the page -----------------------------------------------------------------


def test_the_page_names_tests_that_exist():
    """Each line of docs/migrations-may.md says which test proves it."""
    here = Path(__file__).parent
    known = {
        name
        for file in sorted(here.glob("test_*.py"))
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert named
    assert named <= known, named - known
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    bare = [line for line in lines if "test_" not in line and not line.startswith(("| A", "| -"))]
    assert bare == []


@pytest.mark.parametrize("way", ["", "transactional = False\n"], ids=["in place", "on a copy"])
@pytest.mark.parametrize("code", ["os.unlink(path)", "os.rename(path, path + '.old')"])
def test_a_first_install_whose_file_is_taken_away_is_80(tmp_path, way, code):
    """The fault is the migration's, not the disk's; no database is left."""
    up = (
        f"{way}import os\n\ndef up(conn):\n    conn.execute('CREATE TABLE made (x)')\n"
        f"    path = conn.execute('PRAGMA database_list').fetchone()[2]\n    {code}\n"
    )
    scene = Scene.make(tmp_path, {"001_x.py": up}, empty=True)
    result = scene.run()
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert "Leave the file where it is" in end["hint"]
    assert not scene.database.exists()
    assert_pending(run_migrator("status", "--json", *scene.options), ["001"])
