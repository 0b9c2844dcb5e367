"""A signal that stops, in every phase: a quick end, the database as before."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support import logs, others
from tests.support.files import history, opened, rows
from tests.support.machine import tool
from tests.support.processes import (
    Result,
    Running,
    clean_environment,
    command,
    end,
    run_migrator,
    running,
)
from tests.support.scene import UP, Scene, is_alive, wait_for_end
from tests.support.waiting import until

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
SOON = 8.0
"""Seconds within which a stop must have had its effect: two, and what a busy machine adds."""

SIMPLE = {"001_first.sql": "CREATE TABLE made (id INTEGER);"}


def assert_stopped(
    scene: Scene,
    process: Running,
    number: signal.Signals,
    *pending: str,
    outcome: str = "refused",
) -> Result:
    """Send a signal and assert a quick end, its code, and the three facts of a failed run."""
    began = time.monotonic()
    process.send(number)
    result = process.finish(60)
    assert time.monotonic() - began < SOON
    assert_ended_by(result, number, outcome)
    scene.assert_as_before(*pending)
    return result


def assert_ended_by(result: Result, number: signal.Signals, outcome: str) -> None:
    """Assert the exit code of a signal and what the last line says of it."""
    end = result.finished
    assert (result.code, end["exit_code"]) == (128 + number, 128 + number), end
    assert (end["outcome"], end["reason"]) == (outcome, "signal"), end
    assert number.name in end["error"]
    assert "app.exec" not in result.names
    assert result.stdout == ""


# --- waiting ------------------------------------------------------------------


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_ends_the_wait_for_the_volume(tmp_path, number):
    """Nothing is created by a wait, nor by its end."""
    scene = Scene.make(tmp_path, SIMPLE)
    scene.database.rename(tmp_path / "away.db")
    scene.database.parent.rmdir()
    with scene.running("--", "/bin/echo", "started") as process:
        process.wait_for("volume.waiting")
        began = time.monotonic()
        result = process.stop(number, 60)
        assert time.monotonic() - began < SOON
    assert_ended_by(result, number, "refused")
    assert not scene.database.parent.exists()
    scene.database.parent.mkdir()
    (tmp_path / "away.db").rename(scene.database)
    scene.assert_goes_on("001")


@contextmanager
def locked(scene: Scene) -> Iterator[None]:
    """Hold the run's lock in this process."""
    scene.layout.home.mkdir(mode=0o700, exist_ok=True)
    with scene.layout.lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_ends_the_wait_for_the_lock(tmp_path, number):
    """The other run is not disturbed."""
    scene = Scene.make(tmp_path, SIMPLE)
    with locked(scene), scene.running("--", "/bin/echo") as process:
        process.wait_for("lock.waiting")
        began = time.monotonic()
        result = process.stop(number, 60)
        assert time.monotonic() - began < SOON
    assert_ended_by(result, number, "refused")
    scene.assert_as_before("001")
    scene.assert_goes_on("001")


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_ends_the_wait_for_exclusive_use(tmp_path, number):
    """An idle connection of another process is waited for in the worker."""
    scene = Scene.make(tmp_path, SIMPLE)
    with others.read_transaction(scene.database), scene.running("--", "/bin/echo") as process:
        process.wait_for("volume.waiting")
        began = time.monotonic()
        result = process.stop(number, 60)
        assert time.monotonic() - began < SOON
    assert_ended_by(result, number, "refused")
    scene.assert_as_before("001")
    scene.assert_goes_on("001")


# --- backup and restore ---------------------------------------------------------


def fill(database: Path, megabytes: int) -> None:
    """Make a database big enough for its copy to take a moment."""
    with opened(database) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("CREATE TABLE big (filler BLOB)")
        conn.execute("BEGIN")
        for _ in range(megabytes):
            conn.execute("INSERT INTO big VALUES (zeroblob(1000000))")
        conn.execute("COMMIT")


def test_a_stop_during_the_backup_leaves_no_half_backup(tmp_path):
    """The database was only read, and the directory of backups is as it was."""
    scene = Scene.make(tmp_path, SIMPLE)
    fill(scene.database, 80)
    before = file_digest(scene.database)
    with scene.running("--", "/bin/echo") as process:
        process.wait_for("backup.started")
        began = time.monotonic()
        result = process.stop(signal.SIGTERM, 60)
        assert time.monotonic() - began < SOON
    assert_ended_by(result, signal.SIGTERM, "refused")
    assert file_digest(scene.database) == before
    left = [path.name for path in scene.layout.backup_dir.iterdir() if path.name != ".gitignore"]
    assert left == []
    scene.assert_goes_on("001")


def file_digest(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_stop_during_a_restore_takes_it_back(tmp_path):
    """A restore is one transaction: undone now, and not done later either."""
    scene = Scene.make(tmp_path, SIMPLE)
    fill(scene.database, 80)
    assert scene.run().code == 0
    with opened(scene.database) as conn:
        conn.execute("UPDATE big SET filler = zeroblob(900000)")
        new = conn.execute("SELECT total(length(filler)) FROM big").fetchone()
    journal = Path(f"{scene.database}-journal")
    words = ("restore", "latest", *scene.options)
    with running("migrator", *words, directory=tmp_path) as process:
        until(
            lambda: b'"restore"' in read(scene.layout.state) and len(read(journal)) > 1 << 20,
            "The restore did not begin: {0}",
            facts=lambda: (process.stderr,),
        )
        began = time.monotonic()
        result = process.stop(signal.SIGTERM, 60)
        assert time.monotonic() - began < SOON
    assert result.code == 128 + signal.SIGTERM, result.finished
    assert rows(scene.database, "SELECT total(length(filler)) FROM big") == [new]
    assert history(scene.database) == ["001"]
    again = scene.assert_goes_on("001")
    assert again.named("recovery.finished") == []
    assert rows(scene.database, "SELECT total(length(filler)) FROM big") == [new]


def read(path: Path) -> bytes:
    """Return what a file holds, nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


# --- migrations --------------------------------------------------------------

ENDLESS = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
    INSERT INTO made SELECT count(*) FROM n;
"""
PAUSE = 'LONG = "PAUSE" in os.environ\n'
PYTHON = {
    "sleep": "time.sleep(300 if LONG else 0)",
    "loop": "while LONG: pass",
    "swallowing": "while LONG:\n        try: time.sleep(0.01)\n        except BaseException: pass",
    "ignoring": "import signal\n    for number in (1, 2, 15):\n"
    "        signal.signal(number, signal.SIG_IGN)\n    while LONG: time.sleep(0.01)",
    "blocking": "import signal\n    signal.pthread_sigmask(signal.SIG_BLOCK, {1, 2, 15})\n"
    "    while LONG: time.sleep(0.01)",
    "exiting": "import signal\n    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "    while LONG: time.sleep(0.01)",
    "stopped": "LONG and os.kill(os.getpid(), 19)",
    "printing": "while LONG: os.write(1, b'y' * 100000 + b'\\n')",
    "child": "import subprocess\n    subprocess.run(['sleep', '300' if LONG else '0'])",
    "statement": "conn.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n'\n"
    "        f' WHERE i < {10**12 if LONG else 10}) SELECT count(*) FROM n').fetchone()",
}
FIRST = "CREATE TABLE made (id INTEGER);\nUPDATE items SET name = upper(name);\n"


def scene_of(tmp_path: Path, code: str, way: str, *, wal: bool = False) -> Scene:
    """Make a database with a migration that changes things and one that does not end."""
    head = "" if way == "in-place" else "transactional = False\n"
    text = UP.replace("def up", PAUSE + head + "def up") + "    conn.execute('DROP TABLE made')\n"
    files = {"001_first.sql": FIRST, "002_second.py": f"{text}    {code}\n"}
    return Scene.make(tmp_path, files, wal=wal)


def wait_for_second(process: Running) -> None:
    """Wait until the second migration is under way."""
    until(
        lambda: process.stderr.count('"event": "migration.started"') == 2,
        "The second migration was not started:\n{0}",
        facts=lambda: (process.stderr[-2000:],),
    )


@pytest.mark.parametrize("way", ["in-place", "copy"])
@pytest.mark.parametrize("kind", PYTHON)
def test_a_stop_ends_whatever_a_migration_does(tmp_path, kind, way):
    """A sleep, a loop, one that swallows everything, an ignored signal, a flood of output."""
    scene = scene_of(tmp_path, PYTHON[kind], way, wal=kind == "loop")
    with scene.running("--", "/bin/echo", "started", env={"PAUSE": "1"}) as process:
        wait_for_second(process)
        worker = process.children()[0]
        stop = signal.SIGTERM
        result = assert_stopped(scene, process, stop, "001", "002", outcome="failed_restored")
        assert not is_alive(worker)
    restored = result.one("restore.finished")
    assert restored["method"] == ("rollback" if way == "in-place" else "discarded")
    # A stop leaves no time to compare, and no more is said.
    compared = restored["identical"] is True
    assert ("The database is as it was" in restored["message"]) == compared
    assert compared or "the database is as" not in result.finished["error"]
    scene.assert_goes_on("001", "002")


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_ends_one_long_sql_statement(tmp_path, number):
    """Python alone would act only when the statement is over."""
    files = {"001_first.sql": FIRST, "002_long.sql": ENDLESS.format(10**12)}
    scene = Scene.make(tmp_path, files)
    with scene.running("--", "/bin/echo", "started") as process:
        wait_for_second(process)
        assert_stopped(scene, process, number, "001", "002", outcome="failed_restored")
    (scene.migrations / "002_long.sql").write_text(ENDLESS.format(10))
    scene.assert_goes_on("001", "002")


def test_a_stop_of_the_whole_group_ends_both_processes(tmp_path):
    """Ctrl-C in a terminal reaches the worker as well as its parent."""
    scene = scene_of(tmp_path, PYTHON["sleep"], "in-place")
    prefix = (tool("setsid"),)
    with scene.running("--", "/bin/echo", env={"PAUSE": "1"}, prefix=prefix) as process:
        wait_for_second(process)
        os.killpg(process.pid, signal.SIGINT)
        result = process.finish()
    assert_ended_by(result, signal.SIGINT, "failed_restored")
    scene.assert_as_before("001", "002")


def test_a_second_stop_changes_nothing(tmp_path):
    """Impatience neither hides how the run ended nor changes its code."""
    scene = scene_of(tmp_path, PYTHON["ignoring"], "in-place")
    with scene.running("--", "/bin/echo", env={"PAUSE": "1"}) as process:
        wait_for_second(process)
        process.send(signal.SIGTERM)
        time.sleep(0.1)
        process.send(signal.SIGINT)
        result = process.stop(signal.SIGTERM, 60)
    assert_ended_by(result, signal.SIGTERM, "failed_restored")
    scene.assert_as_before("001", "002")


def test_a_stop_blocked_by_who_started_us_is_unblocked(tmp_path):
    """A signal mask is inherited over exec; a start that nobody can stop would be the result."""
    scene = scene_of(tmp_path, PYTHON["sleep"], "in-place")
    mask = "import os, signal, sys\nsignal.pthread_sigmask(0, {1, 2, 15})\n"
    prefix = (tool("python3"), "-c", mask + "os.execv(sys.argv[1], sys.argv[1:])")
    with scene.running("--", "/bin/echo", env={"PAUSE": "1"}, prefix=prefix) as process:
        wait_for_second(process)
        assert_stopped(scene, process, signal.SIGTERM, "001", "002", outcome="failed_restored")


TALKING = {
    "001_talks.py": UP + "    conn.execute('CREATE TABLE made (id)')\n"
    "    while 'PAUSE' in os.environ:\n        print('A line. ' * 20)\n"
}


def catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = status.partition("SigCgt:")[2].split(None, 1)[0]
    return bool(int(mask, 16) >> (number - 1) & 1)


def polls(pid: int) -> bool:
    """Tell whether a process waits in poll(2), or in ppoll(2) where there is no other."""
    called = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return called in {"x86_64": ("7",), "aarch64": ("73",)}[os.uname().machine]


@contextmanager
def unread(scene: Scene, module: str, phase: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have a run under way whose stderr nobody reads any more: full at once, or in a migration."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096 if phase == "start" else 65536)
    if phase == "start":
        os.write(writing, b"x" * 4096)
    words = ("up", *scene.options) if module == "migrator" else (*scene.options, "--", "/bin/echo")
    env = clean_environment({"PAUSE": "1"})
    process = subprocess.Popen(command(module, words), stderr=writing, env=env)
    try:
        room = select.poll()
        room.register(writing, select.POLLOUT)
        until(lambda: not room.poll(0), "The pipe never became full.")
        if phase == "migration":
            until(scene.locked, "The run never began.")
        until(lambda: catches(process.pid, signal.SIGTERM), "It never came to catch a stop.")
        time.sleep(0.5)
        yield process
    finally:
        end(process)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("phase", ["start", "migration"])
@pytest.mark.parametrize("module", ["entrypoint", "migrator"])
def test_a_stop_is_obeyed_where_nobody_reads_the_log(tmp_path, module, phase):
    """A log driver that hangs fills the pipe of stderr: the lines are lost, the stop is not."""
    scene = Scene.make(tmp_path, TALKING)
    with unread(scene, module, phase) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    scene.assert_as_before("001")
    scene.assert_goes_on("001")


@pytest.mark.parametrize("module", ["entrypoint", "migrator"])
@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_stop_while_a_failure_is_being_said_changes_nothing(tmp_path, module, number):
    """Neither a traceback nor a hang: the code is that of the failure."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b" " * 4096):
            pass
    os.set_blocking(writing, True)
    words = command(module, ["--nonsense"])
    process = subprocess.Popen(words, env=clean_environment(), stderr=writing)
    os.close(writing)
    try:
        until(lambda: polls(process.pid), "It never came to say how it had failed.")
        process.send_signal(number)
        assert process.wait(20) == 64
    finally:
        end(process)
        os.close(reading)


SWALLOWED = """
    import os, signal, time, weakref
    from migrator.errors import InterruptedRunError
    from migrator.process.signals import Signals

    class Thing:
        pass

    signals = Signals.install()
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    try:
        del thing
        {then}
    except InterruptedRunError as error:
        print(error)
    """


@pytest.mark.parametrize("then", ["time.sleep(60)", "signals.note_only(); signals.hold()"])
def test_a_stop_is_not_lost_where_python_lets_no_exception_out(then):
    """Nor does Python write of it to stderr, where every line is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(SWALLOWED).format(then=then)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (0, "The run was ended by SIGTERM.\n", "") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


def test_a_stop_after_the_last_line_changes_no_code():
    """How the process ends has been said in `run.finished`."""
    code = (
        "import os, signal, sys\nfrom migrator.process.signals import Signals\nSignals.install()\n"
        "with Signals.last_words():\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nsys.exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=False)
    assert done.returncode == 3


def test_a_stop_after_the_result_of_a_look_changes_no_code(database, migrations):
    """1 of `check` says that migrations are pending, and Python ends with 1 for an exception."""
    assert 0 == run_migrator("up", "--database", database, "--migrations", migrations).code
    code = (
        "import os, signal, sys\nfrom migrator.cli import main\ncode = main(sys.argv[1:])\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nsys.exit(code)"
    )
    words = ["check", "--database", str(database), "--migrations", str(migrations)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


EARLY = """
import os, runpy, signal, sys
class Stop:
    def find_spec(name, path=None, target=None):
        if name in ("entrypoint.main", "migrator.cli"):
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Stop)
package = sys.argv.pop(1)
runpy.run_module(package, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("words", [("entrypoint",), ("migrator", "up")])
def test_a_stop_waits_until_the_program_has_been_imported(tmp_path, words):
    """It comes before the first line of ours that could handle it, and is obeyed all the same."""
    scene = Scene.make(tmp_path, {})
    options = [str(each) for each in scene.options]
    done = subprocess.run(
        [sys.executable, "-c", EARLY, *words, *options],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    end = logs.finished(logs.split(done.stderr)[0])
    assert (143, "refused", 15) == (done.returncode, end["outcome"], end["signal"])


def test_an_application_that_cannot_be_started_ends_where_nobody_reads_the_log(tmp_path):
    """The command goes while the run is on, and so does the reader: the exit code still comes."""
    app = tmp_path / "app"
    app.write_text("#!/bin/sh\n")
    app.chmod(0o755)
    scene = Scene.make(tmp_path, {"001_removes.py": UP + f"    os.unlink({str(app)!r})\n"})
    reading, writing = os.pipe()
    # Of one page: it takes a line only when the one before has been read (pipe(7)).
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    args = command("entrypoint", (*scene.options, "--", str(app)))
    process = subprocess.Popen(args, stderr=writing, env=clean_environment())
    os.close(writing)
    try:
        while json.loads(os.read(reading, 4096))["event"] != "run.finished":
            pass
        assert process.wait(20) == 127
        assert json.loads(os.read(reading, 4096))["event"] == "app.exec"
        assert os.read(reading, 1) == b""
    finally:
        end(process)
        os.close(reading)


def test_a_slow_reader_gets_every_line(tmp_path):
    """Without a stop a full pipe is waited for, and no line is lost or torn."""
    scene = Scene.make(tmp_path, {"001_talks.py": UP + "    for n in range(2000): print(n)\n"})
    args = command("entrypoint", (*scene.options, "--", "/bin/echo"))
    with subprocess.Popen(args, stderr=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stderr is not None
        time.sleep(1)
        events = [json.loads(line) for line in process.stderr]
    assert process.returncode == 0
    assert [event["text"] for event in events if event["event"] == "migration.output"] == [
        str(number) for number in range(2000)
    ]
    assert [event["event"] for event in events][-2:] == ["run.finished", "app.exec"]


# --- the commit -----------------------------------------------------------------


@contextmanager
def waiting_commit(tmp_path: Path) -> Iterator[tuple[Scene, Running, sqlite3.Connection]]:
    """Hold the commit of a run up by a reader beside it."""
    scene = Scene.make(tmp_path, SIMPLE)
    with opened(scene.database) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        with scene.running("--in-use", "allow", "--", "/bin/echo", "started") as process:
            process.wait_for("verify.finished")
            time.sleep(0.5)
            yield scene, process, reader


def test_a_stop_during_the_commit_waits_for_its_end(tmp_path):
    """The database is new, and the last line says so; the application is not started."""
    with waiting_commit(tmp_path) as (scene, process, reader):
        process.send(signal.SIGTERM)
        time.sleep(0.3)
        reader.execute("ROLLBACK")
        result = process.finish()
    assert_ended_by(result, signal.SIGTERM, "migrated")
    assert result.finished["applied"] == 1
    assert history(scene.database) == ["001"]
    assert scene.run().finished["outcome"] == "up_to_date"


def test_a_stop_during_a_commit_without_end_leaves_the_database_as_before(tmp_path):
    """After two seconds the worker is killed in it, and the journal undoes it."""
    with waiting_commit(tmp_path) as (scene, process, _reader):
        began = time.monotonic()
        result = process.stop(signal.SIGTERM, 60)
        assert time.monotonic() - began < SOON
    assert_ended_by(result, signal.SIGTERM, "failed_restored")
    scene.assert_as_before("001")
    scene.assert_goes_on("001")


# --- as PID 1 ----------------------------------------------------------------


def descendant(pid: int) -> int:
    """Return the only child of `unshare`, which is process 1 of its namespace."""

    def look() -> int | None:
        path = Path(f"/proc/{pid}/task/{pid}/children")
        found = path.read_text().split()
        return int(found[0]) if found else None

    return until(look, "unshare has started nothing.") or 0


def isolated() -> tuple[str, ...]:
    """Return the command that makes what follows process 1."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return tool("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"


@pytest.mark.root
@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", ["volume", "lock", "migration"])
def test_as_process_1_a_stop_is_obeyed_as_well(tmp_path, phase, number):
    """The kernel drops a signal that process 1 does not handle."""
    scene = scene_of(tmp_path, PYTHON["loop"], "in-place")
    prefix = isolated()
    if phase == "volume":
        scene.database.rename(tmp_path / "away.db")
    with locked(scene) if phase == "lock" else opened(tmp_path / "other.db"):
        if phase == "volume":
            scene.layout.database.parent.rmdir()
        more = {"env": {"PAUSE": "1"}, "prefix": prefix}
        with scene.running("--", "/bin/echo", "started", **more) as process:
            if phase == "migration":
                wait_for_second(process)
            else:
                process.wait_for(f"{phase}.waiting")
            pid = descendant(process.pid)
            began = time.monotonic()
            os.kill(pid, number)
            result = process.finish()
            assert time.monotonic() - began < SOON
            wait_for_end(pid)
    outcome = "failed_restored" if phase == "migration" else "refused"
    assert_ended_by(result, number, outcome)
    if phase == "volume":
        scene.database.parent.mkdir()
        (tmp_path / "away.db").rename(scene.database)
    scene.assert_as_before("001", "002")
    scene.assert_goes_on("001", "002")


@pytest.mark.root
def test_as_process_1_a_worker_that_leaves_daemons_behind_is_tidied_up_after(tmp_path):
    """Orphans come to process 1 anyway; none of them is there when the application begins."""
    code = (
        "if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
        "            time.sleep(300)\n        os._exit(0)\n    os.wait()"
    )
    scene = scene_of(tmp_path, code, "in-place")
    show = "echo $$; ls -d /proc/[0-9]* | wc -l"
    result = scene.run("--", "/bin/sh", "-c", show, prefix=isolated())
    assert result.code == 0, result.stderr
    # The shell itself, `ls` and `wc`.
    number, count = map(int, result.stdout.split())
    assert number == 1
    assert count <= 3
    assert rows(scene.database, "SELECT name FROM items WHERE id = 1") == [("ONE",)]


@pytest.mark.root
def test_as_process_1_what_others_started_in_the_container_is_left_alone(tmp_path):
    """An orphan of a `docker exec` comes to process 1 as well; only the worker's own are killed."""
    go = tmp_path / "go"
    code = f"""
    if os.fork() == 0:
        os.setsid()
        os.execve("/bin/sleep", ["sleep", "3333"], {{}})
    print("begun")
    while not os.path.exists({str(go)!r}):
        time.sleep(0.01)
"""
    scene = Scene.make(tmp_path, {"001_waits.py": UP + code})
    show = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    words = (*scene.options, "--", "/bin/sh", "-c", show)
    with running("entrypoint", *words, directory=tmp_path, prefix=isolated()) as process:
        process.wait_for("migration.output")
        first = descendant(process.pid)
        inside = (tool("nsenter"), "--target", str(first), "--pid", "--mount", "--")
        orphan = "sleep 4444 > /dev/null 2>&1 & echo begun"
        assert subprocess.run([*inside, "/bin/sh", "-c", orphan], check=False).returncode == 0
        until(lambda: has_child(first, "4444"), "The orphan did not come to process 1.")
        go.touch()
        result = process.finish()
    assert result.code == 0, result.stderr
    assert "sleep 4444" in result.stdout
    assert "sleep 3333" not in result.stdout


def has_child(parent: int, text: str) -> bool:
    """Tell whether a process has a child with a text in its command line."""
    names = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return any(text in Path(f"/proc/{name}/cmdline").read_text() for name in names)
