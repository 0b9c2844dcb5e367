"""The tree copied into other images: it runs on any C library or none, and leaves no trace."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import sqlite_vec

from tests.containers.engine import PYTHON, Volume, build, docker, run, started
from tests.support.files import history, rows
from tests.support.machine import tool

HERE = Path(__file__).parent
FLAGS = ("-shared", "-fPIC", "-O2")


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library for LD_PRELOAD, made for Debian."""
    path = tmp_path_factory.mktemp("preload") / "preload.so"
    subprocess.run([tool("gcc"), *FLAGS, "-o", path, HERE / "preload.c"], check=True)
    return path


@pytest.fixture(scope="session")
def scratch_image(onto: Callable[..., str], probe: Path, preload: Path) -> str:
    """Return an application's image on `scratch`: one static program, and a library."""
    return onto("scratch-preload", "scratch", probe, preload)


@pytest.fixture(scope="session")
def bookworm_image(onto: Callable[..., str], older_debian: str, probe: Path, preload: Path) -> str:
    """Return an application's image on an older Debian."""
    return onto("bookworm", older_debian, probe, preload)


@pytest.fixture(scope="session")
def musl_image(onto: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an application's image on a musl root as Alpine has it: all is linked to its C library."""
    directory = tmp_path_factory.mktemp("musl")
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    libc = directory / loader.name.replace("ld-musl", "libc.musl")
    compiler, program, library = tool("musl-gcc"), directory / "probe", directory / "preload.so"
    named = ("-nostdlib", f"-Wl,-soname,{libc.name}", "-x", "c", "/dev/null")
    subprocess.run([compiler, *FLAGS, *named, "-o", libc], check=True)
    linked = ("-nostdlib", HERE / "preload.c", libc, "-o", library)
    subprocess.run([compiler, *FLAGS, *linked], check=True)
    subprocess.run([compiler, "-O2", "-o", program, HERE / "probe.c"], check=True)
    for name in (loader.name, libc.name):
        (directory / name).write_bytes(loader.read_bytes())
        (directory / name).chmod(0o755)
    (directory / "Dockerfile").write_text("FROM scratch\nCOPY *.so.1 /lib/\n")
    base = build(directory, "sqlite-entrypoint-test-musl-root")
    return onto("musl", base, program, library)


ENVIRONMENT = {
    "GREETING": "hello",
    "LD_LIBRARY_PATH": "/app",
    "LD_PRELOAD": "/app/preload.so",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONVERBOSE": "1",
    "PYTHONWARNINGS": "error",
    "TZ": "Europe/Berlin",
}
"""What an image sets for its application, much of which would change or end our Python."""


@pytest.mark.parametrize(
    ("copied_into", "app_says"),
    [
        ("scratch_image", ""),
        ("musl_image", "preloaded\n"),
        pytest.param("bookworm_image", "", marks=pytest.mark.slow),
    ],
)
def test_becomes_the_application(
    request: pytest.FixtureRequest,
    copied_into: str,
    app_says: str,
    used_volume: Volume,
    add_email: str,
    tmp_path: Path,
) -> None:
    """
    In any image the tree migrates and becomes the application: PID 1, no trace of ours.

    What is in LD_PRELOAD is loaded into the application, if that is no static program, and not
    into us; the environment is the application's to the last byte.
    """
    image = request.getfixturevalue(copied_into)
    volumes = [used_volume.mount, add_email]
    options = [f"--env={name}={value}" for name, value in ENVIRONMENT.items()]
    done = run(image, "/app/probe", "exit", "7", volumes=volumes, options=options)
    assert (done.code, done.finished["outcome"]) == (7, "migrated")
    assert (done.facts("pid"), done.facts("user")) == (["1"], ["65532:65532"])
    env = dict(each.split("=", 1) for each in done.facts("env"))
    assert env.keys() - ENVIRONMENT.keys() == {"HOME", "HOSTNAME", "PATH"}
    assert {name: env[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert done.app_stderr == app_says
    zero = {line.split()[1] for line in done.facts("signal") if line[:6] in ("SigBlk", "SigIgn")}
    assert zero == {"0" * 16}
    assert history(used_volume.copy_to(tmp_path)) == ["001", "002"]


CHILDREN = """
import os
import subprocess
import sys

CHILD = "import sqlite3, sys; print(sys.executable, sqlite3.sqlite_version)"

def up(conn):
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True
    )
    executable, version = done.stdout.split()
    rows = [("child", executable), ("ours", conn.execute("SELECT sqlite_version()").fetchone()[0])]
    rows += [("version", version), ("preload", os.environ["LD_PRELOAD"])]
    conn.execute("CREATE TABLE said (name TEXT, value TEXT)")
    conn.executemany("INSERT INTO said VALUES (?, ?)", rows)
"""


def test_children_of_migrations(
    musl_image: str,
    used_volume: Volume,
    mounted: Callable[[Mapping[str, str]], str],
    tmp_path: Path,
) -> None:
    """`sys.executable` starts the tree's Python, whatever the application's variables are."""
    options = [f"--env={name}={value}" for name, value in ENVIRONMENT.items()]
    volumes = [used_volume.mount, mounted({"001_children.py": CHILDREN})]
    done = run(musl_image, volumes=volumes, options=options)
    assert (done.code, done.finished["outcome"]) == (0, "migrated"), done.stderr
    said = dict(rows(used_volume.copy_to(tmp_path), "SELECT name, value FROM said"))
    assert said["child"] == PYTHON
    assert said["version"] == said["ours"]
    assert said["preload"] == "/app/preload.so"


def test_signals_reach_the_application(app_image: str, used_volume: Volume, add_email: str) -> None:
    """`docker stop` is the application's to answer, and its exit code is the container's."""
    volumes = [used_volume.mount, add_email]
    with started(app_image, "/app/probe", "wait", volumes=volumes) as container:
        container.wait_for("ready\n")
        titles = docker("top", container.id, "-o", "pid,args").splitlines()[1:]
        docker("stop", "--time=60", container.id)
        done = container.wait()
    assert [title.split(None, 1)[1] for title in titles] == ["/app/probe wait"]
    assert (done.code, done.stdout.splitlines()[-1]) == (42, "stopped")


def test_clean_ps(app_image: str, used_volume: Volume, add_email: str) -> None:
    """While it waits, `ps` shows the command as it was given, and no linker or interpreter."""
    used_volume.python("import os; os.rename('/data/app.db', '/data/later')")
    volumes = [used_volume.mount, add_email]
    with started(app_image, "/app/probe", volumes=volumes, env={"MIGRATOR_CREATE": "never"}) as it:
        it.wait_for("volume.waiting")
        lines = docker("top", it.id, "-o", "pid,comm,args").splitlines()[1:]
        it.kill("TERM")
        done = it.wait()
    (line,) = lines
    assert line.split()[1:4] == [
        "entrypoint",
        "/opt/sqlite-entrypoint/bin/entrypoint",
        "--database",
    ]
    assert (done.code, done.finished["outcome"]) == (143, "refused")


def test_missing_application(app_image: str, used_volume: Volume, add_email: str) -> None:
    """A command that is not in the image is found out before the database is touched."""
    done = run(app_image, "/app/nothing", volumes=[used_volume.mount, add_email])
    assert (done.code, done.finished["applied"]) == (127, 0)


def test_puid_and_pgid(app_image: str, used_volume: Volume, add_email: str) -> None:
    """Started as root with PUID and PGID, run and application are that user's."""
    words = ["--user=0:0", "--cap-add=SETUID", "--cap-add=SETGID", "--cap-add=CHOWN"]
    words += ["--cap-add=DAC_OVERRIDE", "--cap-add=FOWNER", "--env=PUID=65532", "--env=PGID=65532"]
    done = run(app_image, "/app/probe", volumes=[used_volume.mount, add_email], options=words)
    assert (done.code, done.facts("user")) == (0, ["65532:65532"])
    assert done.facts("pid") == ["1"]


CONNECT = """
def connect(conn):
    conn.enable_load_extension(True)
    conn.load_extension("/app/vec0")
"""


def test_the_trees_python_loads_an_extension(
    image: str, volume: Volume, mounted: Callable[[Mapping[str, str]], str], tmp_path: Path
) -> None:
    """One that was built for the GNU C library, on every connection of a run (`--connect`)."""
    app = tmp_path / "app"
    app.mkdir(mode=0o755)
    (app / "connect.py").write_text(CONNECT)
    (app / "vec0.so").write_bytes(Path(f"{sqlite_vec.loadable_path()}.so").read_bytes())
    text = "CREATE VIRTUAL TABLE v USING vec0 (a float[2]); INSERT INTO v (a) VALUES ('[1, 2]');"
    volumes = [volume.mount, mounted({"001_vectors.sql": text}), f"{app}:/app:ro"]
    done = run(image, volumes=volumes, options=["--env=MIGRATOR_CONNECT=/app/connect.py"])
    assert (done.code, done.finished["outcome"]) == (0, "created"), done.stderr
    more = mounted({"002_more.sql": "INSERT INTO v (a) SELECT a FROM v;"})
    again = run(
        image,
        volumes=[volume.mount, more, f"{app}:/app:ro"],
        options=["--env=MIGRATOR_CONNECT=/app/connect.py"],
    )
    assert (again.code, again.finished["outcome"]) == (0, "migrated"), again.stderr
    assert not [each for each in again.events if each["level"] == "warning"]
