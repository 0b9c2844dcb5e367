"""What the image is: its size, its contents, and what it says of itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.containers.conftest import CHECKOUT
from tests.containers.engine import PYTHON, RESTRICTED, docker, inspect, run

TREE = "opt/sqlite-entrypoint"
ENGINE_MAKES = {".dockerenv", "dev", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}


@pytest.fixture(scope="module")
def archive(image: str) -> Iterator[tarfile.TarFile]:
    """Return the image's files."""
    container = docker("create", image)
    command = ["docker", "export", container]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    docker("rm", "--volumes", container)
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        yield opened


def python(image: str, code: str, *options: str) -> str:
    """Run code in the tree's own Python."""
    return docker("run", "--rm", *RESTRICTED, *options, f"--entrypoint={PYTHON}", image, "-c", code)


def test_size(image: str) -> None:
    """The tree has at most 25 MB on disk and 10 MB compressed."""
    command = ["python3", str(CHECKOUT / "docker/check.py"), image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stdout.write(f"{done.stdout}{inspect(image)['Size']} bytes, docker inspect says\n")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_but_the_tree(archive: tarfile.TarFile) -> None:
    """Beside the tree there is only what a process needs, its two directories a user's own."""
    members = {member.name: member for member in archive}
    beside = {
        name
        for name, member in members.items()
        if not name.startswith(f"{TREE}/") and not name.startswith("dev/")
    }
    expected = {"opt", TREE, "etc", "etc/passwd", "etc/group", "data", "migrations", "proc", "sys"}
    assert beside - ENGINE_MAKES == expected - ENGINE_MAKES
    owners = {(members[name].uid, members[name].gid) for name in ("data", "migrations")}
    assert owners == {(65532, 65532)}


def test_settings(image: str) -> None:
    """The user is a number, no VOLUME hides a forgotten mount, and the labels are there."""
    config: Any = inspect(image)["Config"]
    assert config["User"] == "65532:65532"
    assert not config["Volumes"]
    assert config["Entrypoint"] == ["/opt/sqlite-entrypoint/bin/entrypoint"]
    env = dict(each.split("=", 1) for each in config["Env"])
    assert env.pop("PATH") == "/opt/sqlite-entrypoint/bin"
    assert env == {
        "MIGRATOR_DATABASE": "/data/app.db",
        "MIGRATOR_MIGRATIONS": "/migrations",
        "MIGRATOR_MOUNT": "require",
    }
    labels = {name.removeprefix("org.opencontainers.image.") for name in config["Labels"]}
    assert {"title", "description", "licenses", "version", "revision"} <= labels


def test_same_input_same_tree(build_stage: str) -> None:
    """Laying out the tree a second time gives the same bytes."""
    digest = (
        "find . -type f -print0 | sort -z | xargs -0 sha256sum;"
        " find . -printf '%p %m %T@ %l\\n' | sort"
    )
    script = f"""
        set -e
        gcc --version >/dev/null
        PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=0 python3.13 tree.py /build/again launcher site LICENSE
        (cd root && ({digest})) >one
        (cd again && ({digest})) >two
        cmp one two && wc -l <one
        """
    assert int(docker("run", "--rm", build_stage, "sh", "-c", script)) > 500


def test_segments(build_stage: str) -> None:
    """The launcher can be mapped by kernels with pages of 64 KiB, every library by its own's."""
    script = "readelf --program-headers --wide root/opt/sqlite-entrypoint/bin/python3 | grep LOAD"
    lines = docker("run", "--rm", build_stage, "sh", "-c", script).splitlines()
    assert {"0x10000"} == {line.split()[-1] for line in lines}


def test_bill_of_materials(archive: tarfile.TarFile) -> None:
    """An SPDX document lists what is inside, and every licence is there."""
    file = archive.extractfile(f"{TREE}/share/sqlite-entrypoint.spdx.json")
    assert file is not None
    document = json.load(file)
    names = {package["name"] for package in document["packages"]}
    licences = {
        member.name.rpartition("/")[2]
        for member in archive
        if member.name.startswith(f"{TREE}/share/licenses/")
    }
    assert document["spdxVersion"] == "SPDX-2.3"
    assert {"sqlite-entrypoint", "structlog", "tenacity", "libsqlite3-0", "libc6"} <= names
    assert names - {"structlog", "tenacity", "tzdata"} == licences


STANDARD = """
import asyncio, bz2, concurrent.futures, csv, ctypes, datetime, decimal, email.message, hashlib
import http.server, json, logging.config, lzma, multiprocessing, shelve, sqlite3, statistics
import subprocess, sys, sysconfig, tomllib, urllib.request, uuid, xml.etree.ElementTree, zoneinfo
summer = datetime.datetime(2026, 7, 1)
assert zoneinfo.ZoneInfo('Europe/Berlin').utcoffset(summer) == datetime.timedelta(hours=2)
child = 'import sys; print(sys.executable)'
out = subprocess.run([sys.executable, '-c', child], capture_output=True, text=True, check=True)
assert out.stdout.strip() == sys.executable == '/opt/sqlite-entrypoint/bin/python3'
print(sqlite3.sqlite_version)
"""


def test_standard_library(image: str) -> None:
    """Migrations have the standard library, and `sys.executable` starts a child in it."""
    assert python(image, STANDARD) >= "3.46"


def test_environment_is_not_read(image: str) -> None:
    """Variables meant for the application's Python change nothing in the tree's."""
    options = ("--env=PYTHONHOME=/nowhere", "--env=PYTHONPATH=/nowhere", "--env=LD_LIBRARY_PATH=/x")
    done = run(image, "--version", options=options)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("entrypoint ")


def test_commands(image: str) -> None:
    """The image's other two commands are there by name."""
    for name, first in (("migrator", "migrator"), ("sqlite-entrypoint", "entrypoint")):
        out = docker("run", "--rm", f"--entrypoint={name}", image, "--version")
        assert out.split()[0] == first
