"""Becoming the application: the same process, with nothing of ours and nothing lost."""

from __future__ import annotations

import ast
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, make_database, opened, rows, tables, write_migrations
from tests.support.machine import tool
from tests.support.processes import (
    clean_environment,
    command,
    run_entrypoint,
    running,
    without_coverage,
)
from tests.support.scene import SCHEMA, UP, Scene, wait_for_end

pytestmark = pytest.mark.usefixtures("from_the_start")

SHOW = """
import ctypes, os, sys
flag = ctypes.c_int(9)
ctypes.CDLL(None).prctl(37, ctypes.byref(flag), 0, 0, 0)
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
descriptors = {}
for name in os.listdir("/proc/self/fd"):
    try:
        descriptors[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        pass
print(repr({
    "pid": os.getpid(),
    "argv": sys.argv,
    "environment": open("/proc/self/environ", "rb").read().split(b"\\0")[:-1],
    "cwd": os.getcwd(),
    "umask": status["Umask"].strip(),
    "signals": {name: int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")},
    "pending": int(status["SigPnd"], 16) | int(status["ShdPnd"], 16),
    "ids": (os.getresuid(), os.getresgid(), sorted(os.getgroups())),
    "capabilities": {n: int(status[n], 16) for n in ("CapInh", "CapPrm", "CapEff", "CapAmb")},
    "descriptors": descriptors,
    "subreaper": flag.value,
    "nice": os.nice(0),
    "stdin": sys.stdin.read() if sys.stdin else None,
}))
"""
MASKS = ("SigBlk", "SigIgn", "SigCgt")
LIBC_S_OWN = 1 << 31 | 1 << 32
"""Signals 32 and 33: the posix_spawn that starts the tests ignores them, and nobody can set them."""


@pytest.fixture
def show(tmp_path: Path) -> list[str]:
    """Return a command that shows its process, without what Python needs to find itself."""
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    return [sys.executable, "-E", "-s", str(script), "an argument", "", "--migrate"]


def shown(text: str) -> dict[str, Any]:
    """Return what was shown."""
    found: dict[str, Any] = ast.literal_eval(text)
    return found


def environment(extra: Mapping[str, str | bytes] | None = None) -> dict[bytes, bytes]:
    """Return a small environment in which no locale is set, as a container's is."""
    kept = ("PATH", "PYTHONPATH", "HOME")
    env = without_coverage(clean_environment())
    found = {os.fsencode(name): os.fsencode(env[name]) for name in kept if name in env}
    more = {os.fsencode(name): os.fsencode(value) for name, value in (extra or {}).items()}
    return found | more


def start(scene: Scene, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Start the entrypoint with nothing between it and the test."""
    more.setdefault("env", environment())
    more.setdefault("input", b"")
    args = command("entrypoint", (*scene.options, *words))
    return subprocess.run(args, capture_output=True, timeout=60, check=False, **more)


@pytest.fixture(params=["pending", "nothing pending"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """Return a database with a migration that is pending, or has been applied already."""
    leaves = UP + "    conn.execute('CREATE TABLE made (id)')\n    os.system('sleep 300 &')\n"
    made = Scene.make(tmp_path, {"001_first.py": leaves})
    if request.param != "pending":
        assert made.run().code == 0
    return made


def test_the_application_is_the_same_process_with_its_arguments(scene, show):
    """The PID that the container's runtime knows stays, and every argument arrives."""
    args = command("entrypoint", (*scene.options, "--", *show))
    with subprocess.Popen(
        args,
        env=environment(),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        found = shown((process.communicate(timeout=60)[0]).decode())
    assert found["pid"] == process.pid
    assert found["argv"] == show[3:]
    assert process.returncode == 0


def test_the_environment_is_exactly_as_received(scene, show):
    """No LC_CTYPE of Python's, and bytes that are no UTF-8 are kept."""
    extra = {"EMPTY": "", "BYTES": b"caf\xe9 \xff\n=x", "MIGRATOR_LOG_LEVEL": "debug", "ä": "ö"}
    env = environment(extra)
    found = shown(start(scene, "--", *show, env=env).stdout.decode())
    assert sorted(found["environment"]) == sorted(name + b"=" + env[name] for name in env)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_directory_and_umask_are_kept(scene, show, tmp_path, umask):
    """What we create has the modes that it should have, whatever the umask is."""
    place = tmp_path / "a place"
    place.mkdir()
    found = shown(start(scene, "--", *show, cwd=place, umask=umask).stdout.decode())
    assert (found["cwd"], found["umask"]) == (str(place), f"{umask:04o}")


def _unusual_signals() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD})


@pytest.mark.parametrize("before", [None, _unusual_signals], ids=["usual", "unusual"])
def test_signals_are_at_their_default_and_none_is_blocked(scene, show, before):
    """Neither what Python ignores nor what we handle, nor what was inherited, remains."""
    result = start(scene, "--", *show, preexec_fn=before)
    found = shown(result.stdout.decode())
    assert found["signals"]["SigBlk"] == 0
    assert found["pending"] == 0
    result = start(scene, "--", "/bin/cat", "/proc/self/status", preexec_fn=before)
    status = dict(line.split(":", 1) for line in result.stdout.decode().splitlines())
    dispositions = {name: int(status[name], 16) & ~LIBC_S_OWN for name in MASKS}
    assert dispositions == dict.fromkeys(MASKS, 0)


def test_no_descriptor_of_ours_is_left_and_inherited_ones_are_kept(scene, show, tmp_path):
    """The lock, the pipes and the database are closed; what was handed in is still open."""
    (tmp_path / "handed in").write_text("text")
    with (tmp_path / "handed in").open() as file:
        number = file.fileno()
        result = start(scene, "--", *show, pass_fds=(number,))
    found = shown(result.stdout.decode())
    own = {target for target in found["descriptors"].values() if "/proc/" not in target}
    assert found["descriptors"][number] == str(tmp_path / "handed in")
    assert len([target for target in own if target.startswith("pipe:")]) <= 3
    assert set(found["descriptors"]) <= {0, 1, 2, 3, number}
    assert not [target for target in own if target.startswith(str(scene.database.parent))]
    assert found["subreaper"] == 0


def test_the_lock_is_free_while_the_application_runs(scene, tmp_path):
    """Another start beside the running application does not wait for it."""
    with scene.running("--", "/bin/sh", "-c", "echo ready; sleep 60") as process:
        process.wait_for_stdout("ready")
        assert not scene.locked()
        assert scene.run("--lock-timeout", "0").finished["outcome"] == "up_to_date"


def test_standard_input_is_the_application_s(scene, show):
    """Not a byte of it is read before."""
    found = shown(start(scene, "--", *show, input=b"one\ntwo\n").stdout.decode())
    assert found["stdin"] == "one\ntwo\n"


def test_everything_that_was_logged_is_out_before_the_application(scene):
    """`app.exec` is the last line of ours, and nothing is lost in a buffer."""
    result = scene.run("--", "/bin/sh", "-c", "echo app >&2; exit 7")
    assert result.code == 7
    assert result.events[-1]["event"] == "app.exec"
    assert (result.events[-1]["command"], result.events[-1]["args"]) == ("/bin/sh", 2)
    assert result.app_stderr == "app\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_closed_standard_descriptor_never_becomes_a_file_of_ours(scene, tmp_path, closed):
    """No log line lands in the database or in a backup, and the application finds it closed."""

    def close() -> None:
        for number in closed:
            os.close(number)

    note = tmp_path / "found"
    script = (
        f"import os; open({str(note)!r}, 'w').write(repr([n for n in (0, 1, 2)"
        " if not os.path.lexists(f'/proc/self/fd/{n}')]))"
    )
    # The list's own descriptor takes the lowest free number, and is gone when it is looked at.
    args = command("entrypoint", (*scene.options, "--", sys.executable, "-c", script))
    done = subprocess.run(args, env=environment(), preexec_fn=close, timeout=60, check=False)
    assert done.returncode == 0
    found = ast.literal_eval(note.read_text())
    # One of them is the open file itself.
    assert set(closed) - set(found) <= {min(closed)}
    assert history(scene.database) == ["001"]
    assert rows(scene.database, "PRAGMA integrity_check") == [("ok",)]
    for path in scene.database.parent.rglob("*"):
        assert not path.is_file() or b"run.finished" not in path.read_bytes(), path


def test_the_migrator_command_bears_closed_descriptors_too(scene):
    """`migrator up 1>&- 2>&-` ends as it should."""

    def close() -> None:
        os.closerange(0, 3)

    args = command("migrator", ("up", *scene.options))
    done = subprocess.run(args, env=environment(), preexec_fn=close, timeout=60, check=False)
    assert done.returncode == 0
    assert history(scene.database) == ["001"]


def test_two_databases_are_chained(tmp_path, show):
    """`entrypoint … -- entrypoint … -- app` brings both up to date; the process stays one."""
    one = Scene.make(tmp_path, {"001_first.sql": "CREATE TABLE made (id);"})
    two = make_database(tmp_path / "data" / "two.db", SCHEMA)
    other = write_migrations(tmp_path / "other", {"001_second.sql": "CREATE TABLE more (id);"})
    inner = command("entrypoint", ("--database", two, "--migrations", other, "--", *show))
    result = start(one, "--", *inner)
    found = shown(result.stdout.decode())
    assert result.returncode == 0
    assert history(one.database) == history(two) == ["001"]
    assert set(found["descriptors"]) <= {0, 1, 2, 3}
    assert sorted(found["environment"]) == sorted(b"=".join(pair) for pair in environment().items())
    assert result.stderr.count(b'"event": "run.finished"') == 2


def test_a_chain_ends_where_its_second_run_fails(tmp_path):
    """The first database is new, the second as before, and the application does not start."""
    one = Scene.make(tmp_path, {"001_first.sql": "CREATE TABLE made (id);"})
    two = make_database(tmp_path / "data" / "two.db", SCHEMA)
    before = logical_digest(two)
    other = write_migrations(tmp_path / "other", {"001_bad.sql": "SELECT * FROM nothing;"})
    inner = command("entrypoint", ("--database", two, "--migrations", other, "--", "/bin/echo"))
    result = start(one, "--", *inner)
    assert (result.returncode, result.stdout) == (80, b"")
    assert history(one.database) == ["001"]
    assert logical_digest(two) == before


# --- another user ---------------------------------------------------------------


@pytest.fixture
def shared(open_path: Path, other_user: tuple[int, int]) -> Scene:
    """Return a database of root's in a directory that other users can reach."""
    made = Scene.make(open_path, {"001_first.sql": "CREATE TABLE made (id);"})
    script = open_path / "show.py"
    script.write_text(SHOW)
    for path in (made.migrations, script, *made.migrations.iterdir()):
        path.chmod(0o755)
    return made


def show_as(scene: Scene, *words: str, **env: str) -> tuple[dict[str, Any], bytes]:
    """Start the entrypoint as root and return what the application is."""
    script = scene.directory / "show.py"
    words = (*words, "--", sys.executable, "-E", "-s", str(script))
    result = start(scene, *words, env=environment(env), cwd=scene.directory)
    assert result.returncode == 0, result.stderr.decode()
    return shown(result.stdout.decode()), result.stderr


@pytest.mark.root
@pytest.mark.parametrize("how", ["--run-as", "PUID"])
def test_the_application_becomes_the_user_for_good(shared, other_user, how):
    """All ids and groups are the user's, no capability is left, and HOME is the user's."""
    uid, gid = other_user
    if how == "PUID":
        found, _ = show_as(shared, PUID=str(uid), PGID=str(gid))
    else:
        found, _ = show_as(shared, "--run-as", f"{uid}:{gid}")
    assert found["ids"] == ((uid,) * 3, (gid,) * 3, [])
    assert set(found["capabilities"].values()) == {0}
    assert b"HOME=/" in found["environment"]
    names = {entry.partition(b"=")[0] for entry in found["environment"]}
    assert b"LC_CTYPE" not in names
    assert found["signals"]["SigBlk"] == 0
    assert history(shared.database) == ["001"]


@pytest.mark.root
def test_the_user_has_a_home_and_its_groups(shared, other_user):
    """A user whom the user database knows gets its own home directory."""
    known = pwd.getpwnam("daemon")
    found, _ = show_as(shared, "--run-as", f"{known.pw_uid}:{known.pw_gid}")
    assert b"HOME=" + os.fsencode(known.pw_dir) in found["environment"]
    groups = set(os.getgrouplist("daemon", known.pw_gid)) - {known.pw_gid}
    assert found["ids"] == ((known.pw_uid,) * 3, (known.pw_gid,) * 3, sorted(groups))


@pytest.mark.root
@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_everything_belongs_to_the_user_afterwards(shared, other_user, again):
    """The database, its directory, what is ours and the backups; modes are never wider."""
    uid, gid = other_user
    shared.database.chmod(0o640)
    for _ in range(1 + again):
        show_as(shared, "--run-as", f"{uid}:{gid}")
    place = shared.database.parent
    paths = [place, *place.rglob("*")]
    assert len(paths) >= 6
    for path in paths:
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (uid, gid), path
        assert found.st_mode & 0o007 == 0 or path in (place, shared.database.parent), path
    assert shared.migrations.stat().st_uid == 0


@pytest.mark.root
def test_with_keep_the_run_is_the_owner_s_and_the_application_root_s(shared, other_user):
    """s6 and gosu start as root; no migration runs as root."""
    uid, gid = other_user
    note = shared.directory / "note"
    note.mkdir()
    note.chmod(0o777)
    write_migrations(
        shared.migrations,
        {
            "002_who.py": f"import os\ndef up(conn): open('{note}/ids', 'w')"
            ".write(repr((os.getresuid(), os.getresgid(), os.getgroups())))\n"
        },
    )
    for path in (shared.database, shared.database.parent):
        os.chown(path, uid, gid)
    found, _ = show_as(shared, "--run-as", "keep")
    assert ast.literal_eval((note / "ids").read_text()) == ((uid,) * 3, (gid,) * 3, [])
    assert found["ids"][0] == (0, 0, 0)
    assert found["ids"][2] == sorted(os.getgroups())
    assert found["environment"].count(b"HOME=" + os.environb.get(b"HOME", b"/root")) == 1
    assert {path.stat().st_uid for path in shared.database.parent.rglob("*")} == {uid}
    assert history(shared.database) == ["001", "002"]


@pytest.mark.root
def test_a_stop_reaches_the_worker_that_is_another_user(shared, other_user):
    """With `keep` the parent is root and the worker is not: it is ended all the same."""
    uid, gid = other_user
    text = "import os, time\ndef up(conn):\n    time.sleep(300 if 'PAUSE' in os.environ else 0)\n"
    write_migrations(shared.migrations, {"002_long.py": text})
    for path in (shared.database, shared.database.parent):
        os.chown(path, uid, gid)
    words = (*shared.options, "--run-as", "keep", "--", "/bin/echo")
    with running("entrypoint", *words, directory=shared.directory, env={"PAUSE": "1"}) as process:
        process.wait_for("migration.finished")
        result = process.stop(timeout=60)
    assert result.code == 128 + signal.SIGTERM
    shared.before = None
    with opened(shared.database) as conn:
        assert conn.execute("SELECT name FROM sqlite_schema WHERE name = 'made'").fetchall() == []


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_without_the_capability_to_kill_the_worker_ends_as_well(shared, other_user, number):
    """`--cap-drop ALL` takes CAP_KILL: during the run the parent acts as the worker's user."""
    uid, gid = other_user
    text = """
        import os, signal, time

        def up(conn):
            conn.execute("CREATE TABLE half (id)")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("begun")
            while "PAUSE" in os.environ:
                time.sleep(1)
        """
    write_migrations(shared.migrations, {"002_long.py": text})
    for path in (shared.database, shared.database.parent):
        os.chown(path, uid, gid)
    words = (*shared.options, "--run-as", "keep", "--", "/bin/echo")
    prefix = (tool("setpriv"), "--bounding-set=-kill", "--inh-caps=-kill")
    more = {"directory": shared.directory, "env": {"PAUSE": "1"}, "prefix": prefix}
    with running("entrypoint", *words, **more) as process:
        process.wait_for("migration.output")
        (worker,) = process.children()
        process.send(number)
        process.process.wait(60)
        wait_for_end(worker)
    expected = 128 + number if number == signal.SIGTERM else -number
    assert process.process.returncode == expected
    assert not shared.locked()
    assert tables(shared.database) == {"items"}
    found, _ = show_as(shared, "--run-as", "keep")
    assert found["ids"][0] == (0, 0, 0)
    assert history(shared.database) == ["001", "002"]


@pytest.mark.root
def test_who_is_not_root_is_told_what_helps(shared, other_user):
    """PUID as a plain user is a warning with both users and the compose line; the start goes on."""
    uid, gid = other_user
    for path in (shared.database, shared.database.parent):
        os.chown(path, uid, gid)
    env = environment({"PUID": "4711", "PGID": "4711"})
    result = start(
        shared,
        "--",
        "/usr/bin/id",
        "-u",
        env=env,
        user=uid,
        group=gid,
        extra_groups=[],
        cwd=shared.directory,
    )
    assert result.stdout.decode().strip() == str(uid)
    assert b"privileges.not_root" in result.stderr
    for text in (f"{uid}:{gid}", "4711:4711", 'user: \\"4711:4711\\"', 'user: \\"0:0\\"'):
        assert text.encode() in result.stderr


@pytest.mark.root
def test_skip_drops_the_privileges_as_well(shared, other_user):
    """Touching nothing does not mean starting the application as root."""
    uid, gid = other_user
    before = shared.database.stat()
    result = run_entrypoint(
        *shared.options,
        "--migrate",
        "skip",
        "--run-as",
        f"{uid}:{gid}",
        "--",
        "/usr/bin/id",
        "-u",
        cwd=shared.directory,
    )
    assert result.stdout.strip() == str(uid)
    assert shared.database.stat() == before
