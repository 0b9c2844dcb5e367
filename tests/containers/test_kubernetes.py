"""The manifests in deploy/kubernetes: as the schemas have them, restricted, and kustomize-ready."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from migrator._version import __version__
from tests.containers.conftest import CHECKOUT
from tests.containers.manifests import (
    MANIFESTS,
    containers,
    kustomized,
    load,
    pod,
    told,
    violations,
)

PODS = ("deployment", "statefulset", "job", "restore")
NAMES = (*PODS, "service", "volume")
FINAL = [64, 65, 77, 78, 80, 81, 82]
"""The codes that no further attempt can mend."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_valid(name: str) -> None:
    """Every manifest is as Kubernetes' published schema has it, unknown keys refused."""
    kubernetes_validate.validate(load(name), "1.31", strict=True)


def test_every_file_is_looked_at() -> None:
    """No manifest lies there that these tests do not know."""
    assert {*NAMES, "kustomization"} == {path.stem for path in MANIFESTS.iterdir()}


@pytest.mark.parametrize("name", PODS)
def test_restricted(name: str) -> None:
    """Every Pod meets the restricted Pod Security Standard, and more."""
    spec = pod(name)
    context = spec["securityContext"]
    assert [] == list(violations(spec))
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {65532} == {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")}
    assert spec["automountServiceAccountToken"] is False
    for container in containers(spec):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"requests", "limits"} == container["resources"].keys()


def _set(spec: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split(".")
    for key in way:
        spec = spec[int(key)] if key.isdecimal() else spec[key]
    spec[last] = value


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("hostNetwork", True, "hostNetwork"),
        ("volumes.0.hostPath", {"path": "/"}, "volume hostPath"),
        ("securityContext.runAsNonRoot", None, "runAsNonRoot"),
        ("securityContext.seccompProfile", {}, "seccompProfile"),
        ("containers.0.securityContext.runAsUser", 0, "runAsUser"),
        ("containers.0.securityContext.privileged", True, "privileged"),
        ("initContainers.0.securityContext.allowPrivilegeEscalation", None, "allowPriv"),
        ("initContainers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}, "capabilities"),
        ("containers.0.ports.0.hostPort", 8000, "hostPort"),
    ],
)
def test_relaxed(path: str, value: object, found: str) -> None:
    """Each rule of the standard is looked at: what breaks it is found."""
    spec = copy.deepcopy(pod("deployment"))
    _set(spec, path, value)
    (said,) = set(violations(spec))
    assert said.startswith(found)


@pytest.mark.parametrize("name", PODS)
def test_reason_of_a_failure(name: str) -> None:
    """Whatever runs a migration leaves its reason where `kubectl describe pod` looks for it."""
    runs = containers(pod(name))[0]
    assert (runs["terminationMessagePath"], runs["terminationMessagePolicy"]) == (
        "/dev/termination-log",
        "File",
    )


def test_one_pod_at_a_time() -> None:
    """The old Pod goes before the new one comes, and one node has the volume."""
    assert load("deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert load("volume")["spec"]["accessModes"] == ["ReadWriteOnce"]
    (template,) = load("statefulset")["spec"]["volumeClaimTemplates"]
    assert template["spec"] == load("volume")["spec"]
    assert [1, 1] == [load(name)["spec"]["replicas"] for name in ("deployment", "statefulset")]


def test_probes() -> None:
    """`migrator check` is a startupProbe with room for half an hour, and never a livenessProbe."""
    (app,) = pod("statefulset")["containers"]
    probe = app["startupProbe"]
    assert probe["exec"] == {"command": ["/opt/sqlite-entrypoint/bin/migrator", "check"]}
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800
    assert not any("livenessProbe" in each for name in PODS for each in containers(pod(name)))


def test_codes_that_are_tried_again() -> None:
    """The Job fails at once on what no second attempt can mend, and tries 69 and 75 again."""
    spec = load("job")["spec"]
    at_once, disrupted = spec["podFailurePolicy"]["rules"]
    (container,) = spec["template"]["spec"]["containers"]
    on = {"containerName": container["name"], "operator": "In", "values": FINAL}
    assert at_once == {"action": "FailJob", "onExitCodes": on}
    assert (disrupted["action"], spec["backoffLimit"]) == ("Ignore", 6)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # else there is no such policy


def test_restore_is_the_job_with_a_command() -> None:
    """The way out is the Job with another command, run once, which needs no migrations."""
    job, restore = load("job"), load("restore")
    (container,) = restore["spec"]["template"]["spec"]["containers"]
    assert container.pop("args") == ["migrator", "restore", "latest"]
    assert container.pop("name") == "restore"
    (other,) = job["spec"]["template"]["spec"]["containers"]
    del other["name"]
    (migrations,) = [
        each["configMap"] for each in restore["spec"]["template"]["spec"]["volumes"][1:]
    ]
    assert migrations.pop("optional") is True
    assert restore["spec"]["template"]["spec"] == job["spec"]["template"]["spec"]
    assert restore["spec"]["backoffLimit"] == 0


def test_images_are_pinned() -> None:
    """Every image has a tag that does not move; the entrypoint's is this release's."""
    named = {
        each["image"]: each["imagePullPolicy"] for name in PODS for each in containers(pod(name))
    }
    assert named == {
        f"sqlite-entrypoint:{__version__}": "IfNotPresent",
        "library:1.0.0": "IfNotPresent",
    }
    renamed = [f"{image['name']}:{image['newTag']}" for image in load("kustomization")["images"]]
    assert sorted(named) == sorted(renamed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "resources", [(), ("service.yaml", "statefulset.yaml")], ids=["deployment", "statefulset"]
)
def test_kustomize(tools: Path, tmp_path: Path, resources: tuple[str, ...]) -> None:
    """Kustomize builds both choices, with the images that the kustomization says, all valid."""
    images = [{"name": "library", "newName": "registry.example.org/library", "newTag": "2.0.0"}]
    text = kustomized(tools / "kubectl", tmp_path / "k", resources, images=images)
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)
    (made,) = (each for each in documents if each["kind"] in {"Deployment", "StatefulSet"})
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == (
        "registry.example.org/library:2.0.0"
    )
    (service,) = (each for each in documents if each["kind"] == "Service")
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_migrations_fit_into_a_configmap(tools: Path) -> None:
    """The command in the header makes a ConfigMap of the name that the manifests mount."""
    (line,) = re.findall(
        r"kubectl (create configmap .*) \| ", (MANIFESTS / "deployment.yaml").read_text()
    )
    words = line.replace("=migrations ", f"={CHECKOUT / 'migrations'} ").split()
    made = yaml.safe_load(told(tools / "kubectl", *words))
    mounted = [
        volume["configMap"]["name"]
        for name in ("deployment", "job", "restore")
        for volume in pod(name)["volumes"]
        if "configMap" in volume
    ]
    assert {made["metadata"]["name"]} == set(mounted)
    assert len(made["data"]) == len(list((CHECKOUT / "migrations").glob("*_*.*")))
