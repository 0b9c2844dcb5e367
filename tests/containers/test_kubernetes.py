"""The manifests in deploy/kubernetes: valid, restricted, and run by Debian's podman."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.containers.conftest import CHECKOUT, IMAGE
from tests.support.files import history

MANIFESTS = CHECKOUT / "deploy/kubernetes"
NAMES = ("volume", "deployment", "statefulset", "job")


def load(name: str) -> dict[str, Any]:
    """Return one manifest."""
    document: dict[str, Any] = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    return document


def pod(name: str) -> dict[str, Any]:
    """Return the Pod that a manifest makes."""
    spec: dict[str, Any] = load(name)["spec"]["template"]["spec"]
    return spec


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every container of a Pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_valid(name: str) -> None:
    """Every manifest is as Kubernetes' published schema has it, unknown keys refused."""
    kubernetes_validate.validate(load(name), "1.31", strict=True)


def test_kustomization() -> None:
    """The kustomization names files that are there."""
    document = load("kustomization")
    assert all((MANIFESTS / name).is_file() for name in document["resources"])


@pytest.mark.parametrize("name", NAMES[1:])
def test_restricted(name: str) -> None:
    """Every Pod meets the restricted Pod Security Standard."""
    spec = pod(name)
    context = spec["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (
        True,
        65532,
        65532,
    )
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "livenessProbe" not in container


def test_codes_that_are_tried_again() -> None:
    """The Job fails at once on what no second attempt can mend, and tries 69 and 75 again."""
    rules = load("job")["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["action"] == "FailJob"
    assert rules[0]["onExitCodes"]["values"] == [64, 65, 77, 78, 80, 81, 82]


PODMAN = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""What podman needs on a machine that has neither systemd nor much to give."""


@pytest.fixture(autouse=True)
def _podman_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "containers.conf"
    path.write_text(PODMAN)
    monkeypatch.setenv("CONTAINERS_CONF", str(path))


def podman(*words: str | Path, code: int | None = 0) -> str:
    """Run podman, which has to end with that code."""
    command = ["podman", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert code in (done.returncode, None), (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def podman_image(image: str) -> Iterator[str]:
    """Return the image's name in podman."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman")
    with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
        subprocess.run(["podman", "load"], stdin=saved.stdout, capture_output=True, check=True)
    yield f"localhost/{IMAGE}:latest"
    podman("rmi", "--force", f"localhost/{IMAGE}:latest", code=None)


@pytest.mark.slow
def test_pod_of_the_job(podman_image: str, tmp_path: Path) -> None:
    """The Job's Pod runs under its restrictions and leaves the migrated database on its claim."""
    migrations = tmp_path / "migrations"
    shutil.copytree(CHECKOUT / "migrations", migrations)
    migrations.chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    shutil.chown(data, 65532, 65532)
    spec = pod("job")
    (container,) = spec["containers"]
    container |= {"image": podman_image, "imagePullPolicy": "Never"}
    spec["volumes"] = [
        {"name": "data", "hostPath": {"path": str(data), "type": "Directory"}},
        {"name": "migrations", "hostPath": {"path": str(migrations), "type": "Directory"}},
    ]
    name = f"migrate-{tmp_path.name.replace('_', '-')}"
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    path = tmp_path / "pod.yaml"
    path.write_text(json.dumps(document))
    try:
        podman("play", "kube", "--network=host", path)
        ended = podman("wait", f"{name}-migrate").strip()
        log = podman("logs", f"{name}-migrate")
    finally:
        podman("pod", "rm", "--force", name, code=None)
    assert ended == "0", log
    assert len(history(data / "app.db")) == 9
