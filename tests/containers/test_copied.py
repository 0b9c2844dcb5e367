"""The tree copied into other images: it runs on any C library or none, and leaves no trace."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containers.engine import Volume, build, docker, run, started
from tests.support.files import history
from tests.support.machine import tool


@pytest.fixture(scope="session")
def musl_image(onto: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an application's image on a musl root: its loader and a program linked to it."""
    directory = tmp_path_factory.mktemp("musl")
    program = directory / "probe"
    source = Path(__file__).parent / "probe.c"
    subprocess.run([tool("musl-gcc"), "-O2", "-o", program, source], check=True)
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    (directory / loader.name).write_bytes(loader.read_bytes())
    (directory / loader.name).chmod(0o755)
    (directory / "Dockerfile").write_text(f"FROM scratch\nCOPY {loader.name} /lib/\n")
    base = build(directory, "sqlite-entrypoint-test-musl-root")
    return onto("musl", base, program)


@pytest.fixture(scope="session")
def bookworm_image(onto: Callable[..., str], older_debian: str, probe: Path) -> str:
    """Return an application's image on an older Debian."""
    return onto("bookworm", older_debian, probe)


@pytest.mark.parametrize(
    "copied_into",
    [
        "app_image",
        "musl_image",
        pytest.param("bookworm_image", marks=pytest.mark.slow),
    ],
)
def test_becomes_the_application(
    request: pytest.FixtureRequest,
    copied_into: str,
    used_volume: Volume,
    add_email: str,
    tmp_path: Path,
) -> None:
    """In any image the tree migrates and becomes the application: PID 1, no trace of ours."""
    image = request.getfixturevalue(copied_into)
    volumes = [used_volume.mount, add_email]
    options = ["--user=65532:65532", "--env=GREETING=hello", "--hostname=box"]
    done = run(image, "/app/probe", "exit", "7", volumes=volumes, options=options)
    assert (done.code, done.finished["outcome"]) == (7, "migrated")
    assert (done.facts("pid"), done.facts("user")) == (["1"], ["65532:65532"])
    env = dict(each.split("=", 1) for each in done.facts("env"))
    assert {"GREETING": "hello", "HOSTNAME": "box", "HOME": env["HOME"], "PATH": env["PATH"]} == env
    zero = {line.split()[1] for line in done.facts("signal") if line[:6] in ("SigBlk", "SigIgn")}
    assert zero == {"0" * 16}
    assert history(used_volume.copy_to(tmp_path)) == ["001", "002"]


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
