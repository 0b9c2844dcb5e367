"""The image under test, built once a session, and what the tests mount into it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its reaper is an image to pull

from tests.containers.engine import Volume, build, docker
from tests.support.files import write_migrations
from tests.support.machine import tool

HERE = Path(__file__).parent
CHECKOUT = Path(os.environ.get("SQLITE_ENTRYPOINT_CHECKOUT") or HERE.parents[1])
"""Where the Dockerfile and what it copies lie, which an installed wheel's tests are away from."""

BASE = "debian:trixie-slim"
IMAGE = "sqlite-entrypoint"
BUILD = "sqlite-entrypoint-build"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, and give it the time that building images takes."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("container")
            item.add_marker(pytest.mark.timeout(900))


def _missing() -> str:
    if shutil.which("docker") is None:
        return "there is no `docker` command"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no engine answers: {done.stderr.strip()}"


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip where there is no container engine, but fail where the tests are a gate."""
    if why := _missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"The container tests have to run here, and {why}.")
        pytest.skip(f"no container engine ({why})")


def make_base(tag: str) -> str:
    """Have an image of Debian: the real one, or a stand-in where it cannot be pulled."""
    script = HERE / "base-image.sh"
    done = subprocess.run([script, tag], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return tag


@pytest.fixture(scope="session")
def base(engine: None) -> str:
    """Return the image that the build stages start from."""
    return make_base(BASE)


@pytest.fixture(scope="session")
def older_debian(engine: None) -> str:
    """Return the image of a Debian whose C library is older than the tree's."""
    return make_base("debian:bookworm-slim")


@pytest.fixture(scope="session")
def build_stage(base: str) -> str:
    """Return the image of the build stage: Debian with a Python and a C compiler."""
    return build(CHECKOUT, BUILD, "--target=build")


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest, engine: None) -> str:
    """Return the image, built from the checkout as a user builds it, or the one to be tested."""
    if given := os.environ.get("SQLITE_ENTRYPOINT_IMAGE"):
        return given
    request.getfixturevalue("build_stage")
    return build(CHECKOUT, IMAGE)


@pytest.fixture(scope="session")
def stand_in(build_stage: str) -> Callable[[str], str]:
    """Return a function that has an official image: the real one, or where that fails a stand-in."""

    def stand_in(tag: str) -> str:
        for command in (["inspect", tag], ["pull", "--quiet", tag]):
            found = subprocess.run(["docker", "image", *command], capture_output=True, check=False)
            if found.returncode == 0:
                return tag
        target = tag.partition(":")[0]
        return build(HERE / "stand-ins", f"sqlite-entrypoint-{target}", f"--target={target}")

    return stand_in


@pytest.fixture(scope="session")
def library_base(stand_in: Callable[[str], str]) -> str:
    """Return what the example in Python starts from."""
    return stand_in("python:3.13-slim")


@pytest.fixture(scope="session")
def library(image: str, library_base: str) -> str:
    """Return the image of the example in Python, which the manifests run."""
    options = ("--file", str(CHECKOUT / "examples/python/Dockerfile"))
    return build(CHECKOUT, "library", *options, f"--build-arg=BASE={library_base}")


@pytest.fixture(scope="session")
def tools(build_stage: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with `docker-compose` (2), `kubectl` and `quadlet`, from Debian 13."""
    directory = tmp_path_factory.mktemp("tools")
    made = build(HERE / "stand-ins", "sqlite-entrypoint-tools", "--target=tools")
    container = docker("create", made)
    try:
        for path in (
            "/usr/libexec/docker/cli-plugins/docker-compose",
            "/usr/bin/kubectl",
            "/usr/libexec/podman/quadlet",
        ):
            docker("cp", f"{container}:{path}", directory)
    finally:
        docker("rm", container)
    return directory


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the static program that plays the application."""
    path = tmp_path_factory.mktemp("probe") / "probe"
    source = HERE / "probe.c"
    subprocess.run([tool("gcc"), "-static", "-O2", "-o", path, source], check=True)
    return path


ONTO = """
FROM {base}
COPY --from={image} /opt/sqlite-entrypoint /opt/sqlite-entrypoint
COPY . /app/
USER 65532:65532
ENTRYPOINT ["/opt/sqlite-entrypoint/bin/entrypoint", "--database", "/data/app.db", \
"--migrations", "/migrations", "--mount", "require", "--"]
"""


@pytest.fixture(scope="session")
def onto(image: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that copies the tree, and an application's files, into a base image."""

    def onto(name: str, base: str, *files: Path) -> str:
        directory = tmp_path_factory.mktemp(name)
        for file in files:
            shutil.copy(file, directory)
        (directory / "Dockerfile").write_text(ONTO.format(base=base, image=image))
        return build(directory, f"sqlite-entrypoint-test-{name}")

    return onto


@pytest.fixture(scope="session")
def app_image(onto: Callable[..., str], probe: Path) -> str:
    """Return an application's image on `scratch`: the tree and one static program."""
    return onto("scratch", "scratch", probe)


@pytest.fixture
def volume(image: str) -> Iterator[Volume]:
    """Return a named volume, removed in the end."""
    volume = Volume(image)
    yield volume
    volume.remove()


USERS = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO users (name) VALUES ('Ada'), ('Grace'), ('Edsger');
"""


@pytest.fixture
def used_volume(volume: Volume) -> Volume:
    """Return a volume that an application has kept its rows on."""
    volume.execute(USERS)
    return volume


@pytest.fixture
def mounted(tmp_path: Path) -> Callable[[Mapping[str, str]], str]:
    """Return a function that writes migrations and says how they are mounted."""

    def mounted(files: Mapping[str, str]) -> str:
        directory = write_migrations(tmp_path / "migrations", files)
        directory.chmod(0o755)
        return f"{directory}:/migrations:ro"

    return mounted


@pytest.fixture
def add_email(mounted: Callable[[Mapping[str, str]], str]) -> str:
    """Return the mount of two good migrations."""
    return mounted(
        {
            "001_add_email.py": """
                def up(conn):
                    conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
                    conn.execute("UPDATE users SET email = lower(name) || '@example.org'")
                """,
            "002_create_tags.sql": "CREATE TABLE tags (name TEXT);\n",
        }
    )


@pytest.fixture
def create_users(mounted: Callable[[Mapping[str, str]], str]) -> str:
    """Return the mount of the migration of a first install."""
    return mounted({"001_users.sql": USERS})
