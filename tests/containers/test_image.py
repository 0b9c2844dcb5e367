"""What the image is: its size, its contents, and what it says of itself."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from migrator._version import __version__
from tests.containers.conftest import CHECKOUT
from tests.containers.engine import (
    PYTHON,
    RESTRICTED,
    Volume,
    build,
    build_with_buildkit,
    docker,
    inspect,
    run,
)
from tests.process.test_quiet_start import OURS
from tests.support.digest import logical_digest
from tests.support.files import rows

TREE = "opt/sqlite-entrypoint"
ENGINE_MAKES = {".dockerenv", "dev", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}


@functools.cache
def script(name: str) -> dict[str, Any]:
    """Return what one of the build's own scripts defines."""
    return runpy.run_path(str(CHECKOUT / "docker" / name))


def left_out() -> dict[str, str]:
    """Return the modules that the tree does without, and why."""
    return dict(script("standard_library.py")["LEFT_OUT"])


@pytest.fixture(scope="module")
def archive(image: str) -> Iterator[tarfile.TarFile]:
    """Return the image's files."""
    container = docker("create", image)
    command = ["docker", "export", container]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    docker("rm", "--volumes", container)
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        yield opened


def content(archive: tarfile.TarFile, name: str) -> bytes:
    """Return the content of one file of the tree."""
    file = archive.extractfile(f"{TREE}/{name}")
    assert file is not None
    return file.read()


def python(image: str, code: str, *options: str) -> str:
    """Run code in the tree's own Python."""
    return docker("run", "--rm", *RESTRICTED, *options, f"--entrypoint={PYTHON}", image, "-c", code)


# --- size --------------------------------------------------------------------------


def test_size(image: str, record_property: Callable[[str, object], None]) -> None:
    """The tree has at most 25 MB on disk and 10 MB compressed, and can be mapped anywhere."""
    command = ["python3", str(CHECKOUT / "docker/check.py"), image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    record_property("sizes", f"{done.stdout}docker inspect: {inspect(image)['Size']} bytes")
    assert done.returncode == 0, done.stdout + done.stderr


def complaints(name: str, data: bytes) -> list[str]:
    """Return what the check says of a tree of one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(f"{TREE}/{name}")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    packed.seek(0)
    check = script("check.py")
    return list(check["complaints"](check["measure"](packed)))


def test_size_is_a_gate(archive: tarfile.TarFile) -> None:
    """The check refuses a tree that is too large, on disk or compressed."""
    program = content(archive, "bin/python3")
    assert complaints("bin/python3", program) == []
    (on_disk,) = complaints("bin/python3", program + bytes(25_000_000))
    both = complaints("bin/python3", program + os.urandom(25_000_000))
    assert "on disk" in on_disk
    assert ["on disk" in both[0], "compressed" in both[1]] == [True, True]


def test_alignment_is_a_gate(archive: tarfile.TarFile) -> None:
    """On arm64, whose pages may have 64 KiB, segments aligned to less are refused."""
    program = bytearray(content(archive, "libexec/python3"))
    program[18:20] = (183).to_bytes(2, "little")  # e_machine: EM_AARCH64
    program[54:56] = (56).to_bytes(2, "little")
    for header in range(int.from_bytes(program[56:58], "little")):
        start = int.from_bytes(program[32:40], "little") + 56 * header
        program[start + 48 : start + 56] = (4096).to_bytes(8, "little")
    (small,) = complaints("libexec/python3", bytes(program))
    assert "AArch64) has a segment aligned to 4096 bytes; pages have 65536" in small


# --- contents ----------------------------------------------------------------------


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


def test_top_of_the_tree(archive: tarfile.TarFile) -> None:
    """The tree has four directories, is root's, and nobody else may write in it."""
    below = [member for member in archive if member.name.startswith(f"{TREE}/")]
    assert {each.name.split("/")[2] for each in below} == {"bin", "lib", "libexec", "share"}
    assert {(each.uid, each.gid) for each in below} == {(0, 0)}
    assert {each.mode & 0o7777 for each in below if not each.issym()} == {0o755, 0o644}


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


HOME = "https://github.com/sqlite-entrypoint/sqlite-entrypoint"


def labels(image: str) -> dict[str, str]:
    """Return an image's OCI labels."""
    config: Any = inspect(image)["Config"]
    return {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }


def test_labels(image: str) -> None:
    """The labels say what it is, the version being the package's; commit and date are given."""
    plain = labels(image)
    moment, revision = "2026-01-02T03:04:05Z", "0123456789abcdef"
    told = ("--build-arg", f"CREATED={moment}", "--build-arg", f"REVISION={revision}")
    given = labels(build(CHECKOUT, "sqlite-entrypoint-test-labels", *told))
    description = plain.pop("description")
    assert (len(description) > 20, given.pop("description")) == (True, description)
    assert plain == {
        "title": "sqlite-entrypoint",
        "url": HOME,
        "source": HOME,
        "documentation": f"{HOME}/tree/main/docs",
        "licenses": "MIT",
        "version": __version__,
        "revision": "",
        "created": "1970-01-01T00:00:00Z",
    }
    assert given == {**plain, "revision": revision, "created": moment}


def test_bill_of_materials(archive: tarfile.TarFile, tmp_path: Path) -> None:
    """A valid SPDX document lists what is inside, and the licence of everything is there."""
    path = tmp_path / "tree.spdx.json"
    path.write_bytes(content(archive, "share/sqlite-entrypoint.spdx.json"))
    tool = Path(sysconfig.get_path("scripts"), "pyspdxtools")
    valid = subprocess.run([tool, "-i", path], capture_output=True, text=True, check=False)
    assert valid.returncode == 0, valid.stdout + valid.stderr
    packages = json.loads(path.read_text())["packages"]
    names = {package["name"] for package in packages}
    beside = f"{TREE}/share/licenses/"
    licences = {each[len(beside) :] for each in archive.getnames() if each.startswith(beside)}
    wheels = {
        each.split("/")[-3].partition("-")[0]
        for each in archive.getnames()
        if re.search(r"\.dist-info/licenses/LICENSE", each)
    }
    assert wheels == {"structlog", "tenacity", "tzdata"}
    assert names == licences | wheels
    assert {"sqlite-entrypoint", "libsqlite3-0", "libc6", "libpython3.13-stdlib", "musl"} <= names


# --- the same every time -----------------------------------------------------------


def test_same_input_same_tree(build_stage: str) -> None:
    """Laying out the tree a second time gives the same bytes."""
    digest = (
        "find . -type f -print0 | sort -z | xargs -0 sha256sum;"
        " find . -printf '%p %m %T@ %l\\n' | sort"
    )
    words = "/build/again start launcher site LICENSE"
    script = f"""
        set -e
        PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=0 python3.13 -m docker.tree {words}
        (cd root && ({digest})) >one
        (cd again && ({digest})) >two
        cmp one two && wc -l <one
        """
    assert int(docker("run", "--rm", build_stage, "sh", "-c", script)) > 500


def digest(image: str) -> str:
    """Return the digest of an image's tree, as `docker/check.py` prints it."""
    check = script("check.py")
    with check["exported"](image) as stream:
        return str(check["measure"](stream).digest)


@pytest.mark.slow
def test_two_builds_of_one_commit(image: str, tmp_path: Path) -> None:
    """
    A build from nothing makes the same tree, byte by byte.

    By the other builder, without its cache, from a checkout with other modes and times.
    """
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("Dockerfile", ".dockerignore", "LICENSE"):
        shutil.copyfile(CHECKOUT / name, checkout / name)
    for name in ("docker", "entrypoint", "migrator"):
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, checkout / name, left, copy_function=shutil.copyfile)
    for path in checkout.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1, 1))
    again = build_with_buildkit(checkout, "sqlite-entrypoint-test-again", "--no-cache")
    assert digest(image) == digest(again)


# --- its Python --------------------------------------------------------------------

STANDARD = """
import asyncio, bz2, concurrent.futures, csv, ctypes, datetime, decimal, email.message, hashlib
import http.server, json, logging.config, lzma, multiprocessing, shelve, sqlite3, statistics
import subprocess, sys, sysconfig, tomllib, urllib.request, uuid, xml.etree.ElementTree, zoneinfo
summer = datetime.datetime(2026, 7, 1)
assert zoneinfo.ZoneInfo('Europe/Berlin').utcoffset(summer) == datetime.timedelta(hours=2)
assert len(zoneinfo.available_timezones()) > 400
assert '\u65e5\u672c'.encode('shift_jis').decode('shift_jis') == '\u65e5\u672c'
assert not hasattr(hashlib, 'scrypt') and not hasattr(hashlib, 'pbkdf2_hmac')
assert hashlib.algorithms_guaranteed <= hashlib.algorithms_available
with concurrent.futures.ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context('spawn')
) as pool:
    assert pool.submit(pow, 2, 10).result() == 1024
print(sqlite3.sqlite_version)
"""


def test_standard_library(image: str) -> None:
    """Migrations have the standard library: time zones, hashes, SQLite, a pool of processes."""
    version = tuple(int(part) for part in python(image, STANDARD).split("."))
    assert version >= (3, 46)


def test_what_every_start_imports_is_frozen(image: str) -> None:
    """A module that is a file would be looked for, opened and read at each start."""
    code = (
        "import importlib, json; print(json.dumps([name for name in"
        f" {sorted(OURS)} if importlib.import_module(name).__spec__.origin != 'frozen']))"
    )
    assert json.loads(python(image, code)) == []


NAMES = """
import json, pathlib, sys, sysconfig
root = pathlib.Path(sysconfig.get_path('stdlib'))
names = set(sys.stdlib_module_names)
for path in root.rglob('*.py'):
    *parents, last = path.relative_to(root).with_suffix('').parts
    if all(each.isidentifier() for each in [*parents, last]) and last != '__main__':
        names.add('.'.join(parents if last == '__init__' else [*parents, last]))
print(json.dumps(sorted(names)))
"""

IMPORTS = """
import contextlib, importlib, io, json
said = {{}}
for name in {names}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            importlib.import_module(name)
        except BaseException as error:
            said[name] = str(error)
print(json.dumps(said))
"""

OTHER_SYSTEMS = {
    *("_aix_support", "_android_support", "_apple_support", "_ios_support", "_osx_support"),
    *("_overlapped", "_scproxy", "_winapi", "_wmi", "msvcrt", "nt", "winreg", "winsound"),
}

DEBIANS = "sitecustomize"


@pytest.fixture(scope="module")
def refused(image: str, build_stage: str) -> dict[str, str]:
    """Return what cannot be imported in the tree but in Debian's Python, and what is said."""
    debian = ("run", "--rm", "--network=none", build_stage, "python3.13", "-c")
    code = IMPORTS.format(names=docker(*debian, NAMES))
    in_debian = json.loads(docker(*debian, code))
    here = json.loads(python(image, code))
    # Debian has tkinter and the like in packages of their own, which are not in that stage.
    return {
        name: text for name, text in here.items() if name not in in_debian or "was left out" in text
    }


def test_modules(refused: dict[str, str]) -> None:
    """Every module of the standard library is there, or importing it says why not."""
    whys = left_out() | script("standard_library.py")["HELPERS_LEFT_OUT"]
    reasons = {name: text for name, text in refused.items() if "was left out" in text}
    parents = {name.partition(".")[0] for name in reasons} - {"dbm", "multiprocessing"}
    assert parents == set(whys)
    assert {name for name in reasons if name.startswith("dbm.")} == {"dbm.gnu", "dbm.ndbm"}
    for name, why in whys.items():
        assert f"{name!r} was left out of this Python" in reasons[name]
        assert why in reasons[name]
    assert refused.keys() - reasons.keys() <= OTHER_SYSTEMS | {DEBIANS}


def test_page_lists_what_is_left_out() -> None:
    """docs/image.md names every module that a migration would miss, and no other."""
    page = (CHECKOUT / "docs/image.md").read_text()
    table = page.partition("| left out | why |")[2].partition("\n\n")[0]
    first = " ".join(line.split("|")[1] for line in table.splitlines()[2:])
    named = {name for name in re.findall(r"`([^`]+)`", first) if name in left_out()}
    others = set(re.findall(r"`([a-zA-Z_]+)`", first)) - named
    assert named == set(left_out())
    assert not others & set(sys.stdlib_module_names)


def test_commands(image: str) -> None:
    """The image's other two commands are there by name."""
    for name, first in (("migrator", "migrator"), ("sqlite-entrypoint", "entrypoint")):
        done = run(image, "--version", options=[f"--entrypoint={name}"])
        assert (done.code, done.stdout.split()[0]) == (0, first)


# --- what it is for ----------------------------------------------------------------


def test_install_upgrade_and_failure(
    image: str, volume: Volume, mounted: Callable[[Mapping[str, str]], str], tmp_path: Path
) -> None:
    """A first install, an upgrade, and a failing migration, which leaves the upgraded database."""
    users = {
        "001_users.sql": "CREATE TABLE users (name TEXT);\nINSERT INTO users VALUES ('Ada');\n"
    }
    email = {"002_email.py": "def up(conn):\n    conn.execute('ALTER TABLE users ADD email')\n"}
    broken = {"003_broken.sql": "DELETE FROM users;\nINSERT INTO nowhere VALUES (1);\n"}
    ends, digests = [], []
    for number, files in enumerate((users, users | email, users | email | broken)):
        done = run(image, volumes=[volume.mount, mounted(files)])
        path = volume.copy_to(tmp_path / str(number))
        ends.append((done.code, done.finished["outcome"]))
        digests.append(logical_digest(path))
    assert ends == [(0, "created"), (0, "migrated"), (80, "failed_restored")]
    assert (digests[0] != digests[1], digests[1] == digests[2]) == (True, True)
    assert rows(path, "SELECT name, email FROM users") == [("Ada", None)]
