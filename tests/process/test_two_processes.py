"""What docs/how-it-works.md says of the two processes, one by one, with real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from migrator.engine.parent import Parent
from migrator.errors import BackupError
from migrator.log.lines import Log
from migrator.model import Settings
from migrator.process.signals import Signals
from migrator.run import in_worker
from migrator.wait import Deadline
from tests.support import others
from tests.support.files import history, make_database, opened, rows, tables, write_migrations
from tests.support.machine import tool
from tests.support.processes import Result, Running, run_entrypoint, run_migrator
from tests.support.scene import (
    SCHEMA,
    UP,
    Scene,
    is_alive,
    open_files,
    wait_for_end,
)
from tests.support.waiting import until

PAUSED = {"PAUSE": "1"}

CHANGES = """
    conn.execute("CREATE TABLE made (id INTEGER)")
    conn.execute("UPDATE items SET name = upper(name)")
    conn.commit()
"""

SLEEPING = {
    "python": {
        "001_first.sql": "CREATE TABLE first (id INTEGER);",
        "002_second.py": UP + CHANGES + "    time.sleep(60 if 'PAUSE' in os.environ else 0)\n",
    },
    "sql": {
        "001_first.sql": "CREATE TABLE first (id INTEGER);",
        "002_second.sql": """
            CREATE TABLE made (id INTEGER);
            INSERT INTO made
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)
            SELECT count(*) FROM n WHERE (SELECT count(*) FROM items) > 2;
            """,
    },
    "copy": {
        "001_first.sql": "-- migrate:up transaction:false\nVACUUM;\n",
        "002_second.py": UP + CHANGES + "    time.sleep(60 if 'PAUSE' in os.environ else 0)\n",
    },
}


def started(process: Running, version: str) -> int:
    """Wait until a migration has been started and return the worker's process number."""
    until(
        lambda: any(
            event["version"] == version
            for event in process.events
            if event["event"] == "migration.started"
        ),
        "The migration was not started:\n{0}",
        facts=lambda: (process.stderr,),
    )
    return process.children()[0]


def quicken(scene: Scene) -> None:
    """Make the endless SQL statement of a scene a short one."""
    for path in scene.migrations.glob("*.sql"):
        path.write_text(path.read_text().replace("100000000", "10"))


# --- the worker killed alone -----------------------------------------------


@pytest.mark.parametrize("kind", SLEEPING)
def test_a_worker_killed_in_a_migration_leaves_the_database_as_before(tmp_path, kind):
    """The parent says which migration it was and how its worker ended, and exits with 80."""
    scene = Scene.make(tmp_path, SLEEPING[kind])
    with scene.running("--", "/bin/echo", "started", env=PAUSED) as process:
        os.kill(started(process, "002"), signal.SIGKILL)
        result = process.finish()
    end = scene.assert_failed(result, 80, "001", "002")
    assert (end["outcome"], end["reason"], end["version"]) == (
        "failed_restored",
        "worker.killed",
        "002",
    )
    assert "killed by SIGKILL, perhaps out of memory" in end["error"]
    assert result.one("migration.failed")["version"] == "002"
    assert result.one("restore.finished")["identical"] is True
    assert result.stdout == ""
    quicken(scene)
    scene.assert_goes_on("001", "002")


def test_a_worker_killed_in_a_first_install_leaves_no_database(tmp_path):
    """Nothing half-made is ever at the database's path."""
    files = {
        "001_first.py": UP + "    conn.execute('CREATE TABLE made (id)')\n" + "    time.sleep("
        "60 if 'PAUSE' in os.environ else 0)\n"
    }
    scene = Scene.make(tmp_path, files, empty=True)
    with scene.running(env=PAUSED) as process:
        os.kill(started(process, "001"), signal.SIGKILL)
        result = process.finish()
    scene.assert_failed(result, 80, "001")
    scene.assert_goes_on("001")


def big_database(path: Path, megabytes: int = 150) -> None:
    """Fill a database so that its backup takes a moment."""
    with opened(path) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("CREATE TABLE big (filler BLOB)")
        conn.execute("BEGIN")
        for _ in range(megabytes):
            conn.execute("INSERT INTO big VALUES (zeroblob(1000000))")
        conn.execute("COMMIT")


def test_a_worker_killed_during_the_backup_has_not_touched_the_database(tmp_path):
    """No migration has begun: 73, and no unfinished backup is left."""
    scene = Scene.make(tmp_path, SLEEPING["python"])
    big_database(scene.database)
    before = scene.database.read_bytes()
    with scene.running() as process:
        process.wait_for("backup.started")
        os.kill(process.children()[0], signal.SIGKILL)
        result = process.finish()
    end = result.finished
    assert (result.code, end["outcome"], end["reason"]) == (73, "refused", "worker.killed")
    assert end["retryable"] is True
    assert "migration.started" not in result.names
    assert scene.database.read_bytes() == before
    assert [each.name for each in scene.layout.backup_dir.iterdir() if "db" in each.name] == []
    scene.assert_goes_on("001", "002")


def test_a_worker_killed_before_the_commit_is_through_leaves_the_database_as_before(tmp_path):
    """A reader holds the commit up: the journal undoes what had been written by then."""
    scene = Scene.make(tmp_path, SLEEPING["python"])
    with others.read_transaction(scene.database), scene.running("--in-use", "allow") as process:
        process.wait_for("verify.finished")
        time.sleep(0.5)
        os.kill(process.children()[0], signal.SIGKILL)
        result = process.finish()
    end = result.finished
    assert (result.code, end["outcome"]) == (80, "failed_restored"), end
    scene.assert_as_before("001", "002")
    scene.assert_goes_on("001", "002")


# --- the parent killed alone ----------------------------------------------


@pytest.mark.parametrize("kind", SLEEPING)
@pytest.mark.parametrize("module", ["entrypoint", "migrator"])
def test_the_worker_and_the_lock_die_with_the_parent(tmp_path, kind, module):
    """The next start settles what is left and goes on by itself."""
    scene = Scene.make(tmp_path, SLEEPING[kind])
    with scene.running(module=module, env=PAUSED) as process:
        worker = started(process, "002")
        assert scene.locked()
        process.send(signal.SIGKILL)
        wait_for_end(worker)
        process.finish(check_log=False)
    assert not scene.locked()
    quicken(scene)
    result = scene.assert_goes_on("001", "002")
    assert result.one("recovery.finished")["outcome"] == "discarded"
    assert result.one("backup.reused")


def test_parent_and_worker_share_the_lock_and_the_parent_has_no_connection(tmp_path):
    """Both hold the lock's file; only the worker has the database open."""
    scene = Scene.make(tmp_path, SLEEPING["python"])
    with scene.running(env=PAUSED) as process:
        worker = started(process, "002")
        for pid in (process.pid, worker):
            assert str(scene.layout.lock) in open_files(pid).values()
        assert str(scene.database) in open_files(worker).values()
        assert str(scene.database) not in open_files(process.pid).values()


# --- ends that are no success ----------------------------------------------

ENDS = {
    "os._exit(0)": ("os._exit(0)", "ended by itself with exit code 0"),
    "os._exit(3)": ("os._exit(3)", "ended by itself with exit code 3"),
    "abort": ("os.abort()", "killed by SIGABRT"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
    "kill": ("os.kill(os.getpid(), 9)", "killed by SIGKILL, perhaps out of memory"),
    "alarm": ("import signal; signal.alarm(1); time.sleep(60)", "killed by SIGALRM"),
    "daemonized": ("os.fork() and os._exit(0); time.sleep(60)", "exit code 0"),
    "exec": ("os.execv('/bin/true', ['true'])", "exit code 0"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["in-place", "copy"])
def test_no_end_of_the_process_passes_for_success(tmp_path, end, way):
    """Only the worker's report and the database count, never an exit code of 0."""
    code, said = ENDS[end]
    head = "" if way == "in-place" else "transactional = False\n"
    scene = Scene.make(tmp_path, {"001_ends.py": head + UP + CHANGES + f"    {code}\n"})
    result = scene.run("--", "/bin/echo", "started")
    failed = scene.assert_failed(result, 80, "001")
    assert said in failed["error"]
    assert failed["reason"] == "worker.killed"
    assert ("memory" in failed["hint"]) == (end == "kill")
    assert result.one("plan.ready")["way"] == way
    assert result.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGSYS, signal.SIGKILL])
def test_a_worker_that_is_killed_before_the_backup(tmp_path, number):
    """It is 73, and more memory is spoken of only after the signal that the want of it sends."""
    scene = Scene.make(tmp_path, {"001_first.py": UP + CHANGES})
    settings = Settings(database=scene.database, migrations=str(scene.migrations))
    host = Parent(settings, scene.layout, Log("json", "error", run_id="r"), Signals(), Deadline(5))
    with pytest.raises(BackupError) as caught:
        in_worker(host, lambda _ctx: os.kill(os.getpid(), number))
    assert number.name in caught.value.message
    assert ("memory" in caught.value.hint) == (number == signal.SIGKILL)
    scene.assert_as_before("001")


@pytest.mark.parametrize("end", ["os._exit(0)", "segfault", "kill"])
def test_an_import_that_ends_the_process_is_found_before_the_backup(tmp_path, end):
    """It is 78, names the file, and nothing has been written."""
    files = {
        "001_good.sql": "CREATE TABLE good (id);",
        "002_ends.py": f"import os, time\n{ENDS[end][0]}\ndef up(conn): pass\n",
    }
    scene = Scene.make(tmp_path, files)
    result = scene.run()
    failed = scene.assert_failed(result, 78, "001", "002")
    assert failed["reason"] == "migrations.import"
    assert "002_ends.py" in failed["error"]
    assert "backup.started" not in result.names


@pytest.mark.parametrize("raised", ["SystemExit(0)", "KeyboardInterrupt", "GeneratorExit"])
def test_an_import_that_raises_what_ends_a_program_is_found_before_the_backup(tmp_path, raised):
    """It is 78 with file and line, as for any other exception."""
    scene = Scene.make(tmp_path, {"001_raises.py": f"raise {raised}\ndef up(conn): pass\n"})
    result = scene.run()
    failed = scene.assert_failed(result, 78, "001")
    assert "001_raises.py, line 1" in failed["error"]
    assert "backup.started" not in result.names


def test_the_migrator_command_believes_no_exit_code_either(tmp_path):
    """`migrator up` works with the same two processes."""
    scene = Scene.make(tmp_path, {"001_ends.py": UP + CHANGES + "    os._exit(0)\n"})
    result = run_migrator("up", *scene.options)
    scene.assert_failed(result, 80, "001")
    assert result.stdout == ""


def test_all_descriptors_closed_is_a_failure(tmp_path):
    """A migration that makes itself a daemon by the book closes SQLite's files as well."""
    code = "    os.closerange(3, 1024)\n    open('/dev/null')\n    conn.execute('SELECT 1')\n"
    scene = Scene.make(tmp_path, {"001_closes.py": UP + CHANGES + code})
    result = scene.run()
    assert result.code in (74, 80)
    scene.assert_failed(result, result.code, "001")


MEMORY = {
    "python": "data = []\n    while True: data.append(bytearray(1 << 20))",
    "sqlite": "conn.execute('SELECT zeroblob(900000000)').fetchone()",
}


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("way", ["in-place", "copy"])
def test_memory_without_end_ends_the_migration_and_not_the_application(tmp_path, kind, way):
    """The run ends with the database as before, also where SQLite is what had no memory."""
    head = "" if way == "in-place" else "transactional = False\n"
    limit = (
        "    import resource\n"
        "    size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)\n"
    )
    files = {"001_eats.py": head + UP + CHANGES + limit + f"    {MEMORY[kind]}\n"}
    scene = Scene.make(tmp_path, files)
    scene.assert_failed(scene.run(), 80, "001")


# --- output ----------------------------------------------------------------


def printed(tmp_path: Path, code: str, **more: object) -> Result:
    """Run a migration that prints and return how that went."""
    scene = Scene.make(tmp_path, {"001_prints.py": UP + f"    {code}\n"})
    result = scene.run("--", "/bin/echo", "the application", **more)
    assert result.code == 0, result.stderr
    assert result.stdout == "the application\n"
    assert history(scene.database) == ["001"]
    return result


def texts(result: Result) -> list[str]:
    """Return what the migrations were heard to print."""
    return [event["text"] for event in result.named("migration.output")]


PRINTS = {
    "print": ("print('one'); print('two')", ["one", "two"]),
    "stderr": ("print('oops', file=sys.stderr)", ["oops"]),
    "descriptors": ("os.write(1, b'one\\n'); os.write(2, b'two\\n')", ["one", "two"]),
    "child": ("os.system('echo one; echo two >&2')", ["one", "two"]),
    "no newline": ("print('half', end='')", ["half"]),
    "not utf-8": ("os.write(1, b'caf\\xe9\\n')", ["caf\\xe9"]),
    "empty lines": ("print('\\n\\n  \\none\\n')", ["one"]),
    "json": ('print(\'{"event": "run.finished"}\')', ['{"event": "run.finished"}']),
    "carriage return": ("print('one\\r')", ["one"]),
    "nul": ("os.write(1, b'a\\0b\\n')", ["a\0b"]),
}


@pytest.mark.parametrize("kind", PRINTS)
def test_what_a_migration_prints_becomes_events(tmp_path, kind):
    """Every line stays JSON, and stdout stays the application's."""
    code, expected = PRINTS[kind]
    result = printed(tmp_path, code)
    assert texts(result) == expected
    for event in result.named("migration.output"):
        assert (event["version"], event["name"]) == ("001", "prints")


def test_a_line_without_end_is_cut_and_not_kept(tmp_path):
    """Fifty megabytes without a newline are one event of 500 characters."""
    code = "[os.write(1, b'x' * 65536) for _ in range(800)]; print(); print('after')"
    result = printed(tmp_path, code)
    assert texts(result) == ["x" * 500, "after"]


def test_output_keeps_its_place_among_the_events(tmp_path):
    """What is printed stands between the start and the end of its own migration."""
    files = {
        "001_one.py": "print('import one')\n" + UP + "    print('one')\n",
        "002_two.py": UP + "    print('two')\n",
    }
    scene = Scene.make(tmp_path, files)
    result = scene.run()
    said = [
        (event["event"], event.get("text") or event.get("version"))
        for event in result.events
        if event["event"].startswith("migration.")
    ]
    assert said == [
        ("migration.output", "import one"),
        ("migration.started", "001"),
        ("migration.output", "one"),
        ("migration.finished", "001"),
        ("migration.started", "002"),
        ("migration.output", "two"),
        ("migration.finished", "002"),
    ]


def test_output_of_a_failed_migration_is_not_lost(tmp_path):
    """Also what was printed just before the process was killed is heard."""
    code = "    os.write(1, b'last words')\n    os.kill(os.getpid(), 9)\n"
    scene = Scene.make(tmp_path, {"001_ends.py": UP + CHANGES + code})
    result = scene.run()
    scene.assert_failed(result, 80, "001")
    assert texts(result) == ["last words"]
    (failed,) = [each for each in result.events if each["event"] == "migration.failed"]
    for line in (failed, result.finished):
        assert ("001", "ends", "001_ends.py") == tuple(
            line[key] for key in ("version", "name", "file")
        )


# --- children and threads left behind --------------------------------------

SLEEPERS = {
    "popen": """
    import subprocess
    pid = subprocess.Popen(["sleep", "300"], close_fds=False).pid
""",
    "forked": """
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(300)
""",
    "daemon": """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            import signal
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            while True:
                time.sleep(300)
        os.write(writer, str(pid).encode())
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(reader, 20))
""",
}


@pytest.mark.parametrize("end", ["", "raise ValueError", "os._exit(0)"])
@pytest.mark.parametrize("kind", SLEEPERS)
def test_processes_left_behind_are_killed(tmp_path, kind, end):
    """Whichever way the migration ends: none outlives the run, and the lock is free."""
    note = tmp_path / "pid"
    code = f"    open({str(note)!r}, 'w').write(str(pid))\n    {end or 'pass'}\n"
    scene = Scene.make(tmp_path, {"001_leaves.py": UP + CHANGES + SLEEPERS[kind] + code})
    result = scene.run("--", "/bin/echo", "started")
    assert not is_alive(int(note.read_text()))
    assert not scene.locked()
    if end:
        scene.assert_failed(result, 80, "001")
    else:
        assert (result.code, result.stdout) == (0, "started\n")
        assert history(scene.database) == ["001"]


def test_processes_left_behind_are_killed_where_no_limit_can_be_set(tmp_path):
    """A sandbox may forbid the mark that tells them: what came during the run is then the run's."""
    note, place = tmp_path / "pid", tmp_path / "site"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "import resource\n"
        "def refuse(number, limits, real=resource.setrlimit):\n"
        "    if number == 10:\n"
        "        raise OSError(1, 'Operation not permitted')\n"
        "    return real(number, limits)\n"
        "resource.setrlimit = refuse\n"
    )
    code = f"    open({str(note)!r}, 'w').write(str(pid))\n"
    scene = Scene.make(tmp_path, {"001_leaves.py": UP + CHANGES + SLEEPERS["daemon"] + code})
    result = scene.run("--", "/bin/echo", "started", env={"PYTHONPATH": str(place)})
    assert not is_alive(int(note.read_text()))
    assert (result.code, result.stdout) == (0, "started\n")


def test_a_child_of_a_migration_has_neither_lock_nor_report(tmp_path):
    """What it keeps open cannot hold the next run up, nor speak in the worker's name."""
    note = tmp_path / "descriptors"
    code = f"""
    if os.fork() == 0:
        links = [f"/proc/self/fd/{{name}}" for name in os.listdir("/proc/self/fd")]
        found = [os.readlink(link) for link in links if os.path.lexists(link)]
        pipes = [link for link in links if os.path.lexists(link) and "pipe:" in os.readlink(link)]
        text = repr((found, sorted(pipes)))
        open({str(note)!r}, "w").write(text)
        os._exit(0)
    os.wait()
"""
    scene = Scene.make(tmp_path, {"001_forks.py": UP + code})
    assert scene.run().code == 0
    found, pipes = eval(note.read_text())  # noqa: S307 - our own text
    assert str(scene.layout.lock) not in found
    assert pipes == ["/proc/self/fd/1", "/proc/self/fd/2"]


def test_a_thread_left_behind_ends_with_the_worker(tmp_path):
    """One that is no daemon would keep Python waiting for ever; the run does not wait for it."""
    note = tmp_path / "beats"
    code = f"""
    import threading
    def beat():
        while True:
            open({str(note)!r}, "w").write(str(time.monotonic()))
            time.sleep(0.01)
    threading.Thread(target=beat).start()
"""
    scene = Scene.make(tmp_path, {"001_thread.py": UP + CHANGES + code})
    result = scene.run("--", "/bin/echo", "started")
    assert (result.code, result.stdout) == (0, "started\n")
    last = note.read_text()
    time.sleep(0.1)
    assert note.read_text() == last


CHILDREN = {
    "returns": "return",
    "raises": "raise ValueError('in the child')",
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "writes": "conn.execute('DELETE FROM items'); conn.commit()",
    "closes": "conn.close()",
    "rolls back": "conn.rollback()",
}


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("way", ["in-place", "copy"])
def test_a_forked_child_harms_neither_journal_nor_run(tmp_path, kind, way):
    """However a child comes out of the migration, the run goes on in its parent alone."""
    if way == "copy" and kind == "writes":
        pytest.skip("on a copy SQLite behaves as it always does with a connection after a fork")
    head = "" if way == "in-place" else "transactional = False\n"
    code = f"""
    child = os.fork()
    if child == 0:
        {CHILDREN[kind]}
        return
    os.waitpid(child, 0)
    conn.execute("INSERT INTO items (name) VALUES ('after')")
"""
    scene = Scene.make(tmp_path, {"001_forks.py": head + UP + CHANGES + code})
    result = scene.run("--verify", "full")
    assert result.code == 0, result.stderr
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(scene.database, "SELECT name FROM items") == [
        ("ONE",),
        ("TWO",),
        ("THREE",),
        ("after",),
    ]
    assert len(result.named("migration.finished")) == 1


def test_a_pool_of_processes_works_in_a_migration(tmp_path):
    """`multiprocessing` with fork is what people use for conversions."""
    code = """
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        names = pool.map(str.upper, ["a", "b"])
    conn.executemany("INSERT INTO items (name) VALUES (?)", [(name,) for name in names])
"""
    scene = Scene.make(tmp_path, {"001_pool.py": UP + code})
    result = scene.run()
    assert result.code == 0, result.stderr
    assert rows(scene.database, "SELECT name FROM items WHERE id > 3") == [("A",), ("B",)]


# --- the parent stays clean -------------------------------------------------


def test_the_parent_imports_no_migration_and_imports_write_nothing(tmp_path):
    """Code of migrations runs in another process, and leaves no `__pycache__` behind."""
    note = tmp_path / "pids"
    write = f"import os\nopen({str(note)!r}, 'a').write(f'{{os.getpid()}} ')\n"
    files = {
        "001_first.py": write + "import beside\ndef up(conn): beside.change(conn)\n",
        "002_second.py": write + "def up(conn): pass\n",
        "beside.py": write + "def change(conn): conn.execute('CREATE TABLE made (id)')\n",
    }
    scene = Scene.make(tmp_path, files)
    with scene.running("--", "/bin/sh", "-c", "echo $$") as process:
        result = process.finish()
        parent = process.pid
    assert result.code == 0, result.stderr
    pids = note.read_text().split()
    assert len(pids) == 3
    assert len(set(pids)) == 1
    assert str(parent) not in pids
    assert result.stdout == f"{parent}\n"
    assert sorted(each.name for each in scene.migrations.iterdir()) == sorted(files)


def test_the_application_gets_the_standard_input_and_migrations_none(tmp_path):
    """A migration that reads finds the end at once; every byte is the application's."""
    code = "    try:\n        input()\n    except EOFError:\n        print('nothing to read')\n"
    scene = Scene.make(tmp_path, {"001_reads.py": UP + code})
    result = scene.run("--", "/bin/cat", stdin="for the application\n")
    assert result.stdout == "for the application\n"
    assert texts(result) == ["nothing to read"]


def test_nothing_of_a_migration_reaches_the_application(tmp_path):
    """Environment, directory, umask, limits and handlers are the worker's own."""
    code = """
    import resource, signal
    os.environ["LEAKED"] = "yes"
    os.environ.pop("HOME", None)
    os.chdir("/")
    os.umask(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(1)
"""
    show = (
        "pwd; umask; ulimit -n; nice; grep -E 'Sig(Pnd|Blk|Ign|Cgt)' /proc/self/status; env | sort"
    )
    scene = Scene.make(tmp_path, {"001_changes.py": UP + code})
    here = {"cwd": tmp_path, "env": {"HOME": "/somewhere"}}
    first = scene.run("--", "/bin/sh", "-c", show, **here)
    second = scene.run("--", "/bin/sh", "-c", show, **here)
    assert (first.finished["outcome"], second.finished["outcome"]) == ("migrated", "up_to_date")
    assert first.stdout == second.stdout
    assert "LEAKED" not in first.stdout
    assert "HOME=/somewhere" in first.stdout
    assert first.stdout.splitlines()[0] == str(tmp_path)


def test_a_start_with_nothing_pending_forks_nothing(tmp_path):
    """One process from the first instruction to the application."""
    scene = Scene.make(tmp_path, {"001_first.sql": "CREATE TABLE made (id);"})
    assert scene.run().code == 0
    trace = tmp_path / "trace"
    prefix = (tool("strace"), "-f", "-qq", "-e", "trace=clone,clone3,fork,vfork,execve")
    result = scene.run("--", "/bin/true", prefix=(*prefix, "-e", "signal=none", "-o", trace))
    if "ptrace" in result.stderr:
        pytest.skip("needs ptrace")
    assert result.code == 0
    calls = [line for line in trace.read_text().splitlines() if " = -1" not in line]
    assert [line.split("(")[0].split()[-1] for line in calls] == ["execve", "execve"], calls


def test_a_registry_is_read_in_a_child_even_with_nothing_pending(tmp_path):
    """It is code: what it does to its process reaches neither parent nor application."""
    note = tmp_path / "pids"
    registry = write_migrations(
        tmp_path / "code",
        {
            "registry.py": f"""
                import os
                open({str(note)!r}, "a").write(f"{{os.getpid()}} ")
                print("hello from the registry")
                os.environ["LEAKED"] = "yes"
                os.chdir("/")

                class Migration:
                    name, version, description = "first", "1", "The first."
                    def up_func(self, cursor):
                        cursor.execute("CREATE TABLE made (id INTEGER)")

                class Runner:
                    migrations = [Migration()]

                def create_migration_runner(path):
                    return Runner()
                """
        },
    )
    database = make_database(tmp_path / "data" / "app.db", SCHEMA)
    options = ("--database", database, "--migrations", registry / "registry.py")
    assert run_entrypoint(*options).finished["outcome"] == "migrated"
    note.unlink()
    script = "echo $$; pwd; echo ${LEAKED-clean}"
    result = run_entrypoint(*options, "--", "/bin/sh", "-c", script, cwd=tmp_path)
    assert result.finished["outcome"] == "up_to_date"
    pid, place, leaked = result.stdout.split()
    assert (place, leaked) == (str(tmp_path), "clean")
    assert pid not in note.read_text().split()
    assert tables(database) == {"items", "made", "migrations"}
    assert not (registry / "__pycache__").exists()


@pytest.mark.slow
def test_a_long_migration_says_that_it_is_alive(tmp_path):
    """Every ten seconds there is a `migration.progress`."""
    scene = Scene.make(tmp_path, {"001_long.py": UP + "    time.sleep(11)\n"})
    result = scene.run()
    assert result.code == 0
    event = result.one("migration.progress")
    assert (event["version"], event["name"]) == ("001", "long")
    assert event["seconds"] >= 10


def test_the_worker_is_no_part_of_what_the_application_can_wait_for(tmp_path):
    """The application begins without a child, and is nobody's subreaper."""
    code = SLEEPERS["daemon"]
    scene = Scene.make(tmp_path, {"001_leaves.py": UP + code})
    show = (
        "import ctypes, os\n"
        "flag = ctypes.c_int(9)\n"
        "ctypes.CDLL(None).prctl(37, ctypes.byref(flag), 0, 0, 0)\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read()\n"
        "print(repr((flag.value, children)))\n"
    )
    result = scene.run("--", sys.executable, "-c", show)
    assert result.stdout == "(0, '')\n"
