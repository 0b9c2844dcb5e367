"""The manifests in deploy/kubernetes: as the schemas have them, restricted, and kustomize-ready."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from migrator._version import __version__
from tests.containers import api_server
from tests.containers.conftest import CHECKOUT
from tests.containers.manifests import (
    MANIFESTS,
    containers,
    kustomized,
    load,
    pod,
    template,
    told,
    violations,
)

PODS = ("deployment", "statefulset", "job", "restore", "backup", "rehearse")
NAMES = (*PODS, "service", "volume")
COMPONENTS = ("configmap", "image-volume", "init-container", "litestream")
FINAL = [64, 65, 77, 78, 80, 81, 82]
"""The codes that no further attempt can mend."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_valid(name: str) -> None:
    """Every manifest is as Kubernetes' published schema has it, unknown keys refused."""
    kubernetes_validate.validate(load(name), "1.31", strict=True)


def test_every_file_is_looked_at() -> None:
    """No manifest lies there that these tests do not know."""
    others = {"kustomization", "components", "wait"}
    assert {*NAMES, *others} == {path.stem for path in MANIFESTS.iterdir()}
    assert {*COMPONENTS} == {path.name for path in (MANIFESTS / "components").iterdir()}


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


def _text(path: str) -> str:
    return (MANIFESTS / path).read_text()


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
    """
    Whatever runs a migration leaves its reason where `kubectl describe pod` looks for it.

    If it was killed before it could write any, the end of its log stands there.
    """
    runs = containers(pod(name))[0]
    assert (runs["terminationMessagePath"], runs["terminationMessagePolicy"]) == (
        "/dev/termination-log",
        "FallbackToLogsOnError",
    )


def test_one_pod_at_a_time() -> None:
    """The old Pod goes before the new one comes, and one Pod has the volume."""
    assert load("deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert load("volume")["spec"]["accessModes"] == ["ReadWriteOncePod"]
    (template,) = load("statefulset")["spec"]["volumeClaimTemplates"]
    assert template["spec"] == load("volume")["spec"]
    assert [1, 1] == [load(name)["spec"]["replicas"] for name in ("deployment", "statefulset")]


def test_the_data_stays(tools: Path, tmp_path: Path) -> None:
    """Neither `kubectl delete -k` nor the end of the StatefulSet takes the claim with it."""
    for resources in ((), ("service.yaml", "statefulset.yaml")):
        text = kustomized(tools / "kubectl", tmp_path / "k", resources)
        assert "PersistentVolumeClaim" not in {each["kind"] for each in yaml.safe_load_all(text)}
    spec = load("statefulset")["spec"]
    retained = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["persistentVolumeClaimRetentionPolicy"] == retained
    assert "kubectl apply -f deploy/kubernetes/volume.yaml\n" in _text("deployment.yaml")


def test_probes() -> None:
    """The startupProbe starts no process, has half an hour, and there is never a livenessProbe."""
    (app,) = pod("statefulset")["containers"]
    probe = app["startupProbe"]
    assert probe["httpGet"] == app["readinessProbe"]["httpGet"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800
    assert not any("livenessProbe" in each for name in PODS for each in containers(pod(name)))


def test_time_to_stop() -> None:
    """The Pods that run on have the seconds that docs/operations.md says."""
    page = (CHECKOUT / "docs/operations.md").read_text()
    for name in ("deployment", "statefulset"):
        seconds = pod(name)["terminationGracePeriodSeconds"]
        assert f"`terminationGracePeriodSeconds: {seconds}`" in page


@pytest.mark.parametrize("name", ["job", "restore", "rehearse"])
def test_a_job_ends_and_goes(name: str) -> None:
    """A Job whose Pod never starts fails after an hour, and an ended one is deleted after a day."""
    spec = load(name)["spec"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (3600, 86400)


def test_backup_is_the_restore_beside_the_application() -> None:
    """The CronJob's Pod is that of the way back, with another command, on the application's node."""
    spec, other = pod("backup"), pod("restore")
    (near,) = spec.pop("affinity")["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert near["topologyKey"] == "kubernetes.io/hostname"
    selected = near["labelSelector"]["matchLabels"]
    assert selected.items() <= pod_labels("deployment").items()
    assert not selected.items() <= pod_labels("backup").items()
    (container,), (restores,) = spec["containers"], other["containers"]
    assert (container.pop("args"), container.pop("name")) == (["migrator", "backup"], "backup")
    del restores["args"], restores["name"], restores["volumeMounts"][1], other["volumes"][1]
    assert spec == other
    whole = load("backup")["spec"]
    assert whole["concurrencyPolicy"] == "Forbid"
    assert whole["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 3600


def test_rehearse_is_the_job_on_a_copy_beside_the_application() -> None:
    """Its Pod is the migrating one's, with another command, and the volume mounted read-only."""
    spec, other = pod("rehearse"), pod("job")
    assert spec.pop("affinity") == pod("backup")["affinity"]
    assert not pod_labels("deployment").items() <= pod_labels("rehearse").items()
    (container,), (migrates,) = spec["containers"], other["containers"]
    command = ["migrator", "rehearse", "--in", "/copy", "--markdown"]
    assert (container.pop("args"), container.pop("name")) == (command, "rehearse")
    mounts, theirs = container.pop("volumeMounts"), migrates.pop("volumeMounts")
    assert mounts == [
        *({**each, "readOnly": True} for each in theirs),
        {"name": "copy", "mountPath": "/copy"},
    ]
    assert spec["volumes"].pop() == {"name": "copy", "emptyDir": {}}
    del migrates["name"]
    assert spec == other
    assert load("rehearse")["spec"]["backoffLimit"] == 0


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
        for name in PODS
        for volume in pod(name).get("volumes", [])
        if "configMap" in volume
    ]
    assert {made["metadata"]["name"]} == set(mounted)
    assert len(made["data"]) == len(list((CHECKOUT / "migrations").glob("*_*.*")))


# --- the components: what kustomize makes of them -------------------------------------------


def _deployment(text: str, version: str = "1.31") -> dict[str, Any]:
    """Return the one Deployment of what kustomize has built, all of which has to be valid."""
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    (found,) = (each for each in documents if each["kind"] == "Deployment")
    assert isinstance(found, dict)
    return found


def _pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    assert [] == list(violations(spec))
    return spec


def _volumes(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each.pop("name"): each for each in copy.deepcopy(_pod_of(deployment)["volumes"])}


@pytest.mark.filterwarnings("ignore")
def test_configmap_with_a_hash(tools: Path, tmp_path: Path) -> None:
    """The Deployment mounts a ConfigMap of just the migrations, and another one if they change."""
    uses = "components/configmap"
    first = kustomized(tools / "kubectl", tmp_path, components=[uses])
    with (tmp_path / uses / "001_create_members_and_books.py").open("a") as file:
        file.write("# changed\n")
    names = []
    for text in (first, told(tools / "kubectl", "kustomize", tmp_path)):
        (made,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "ConfigMap")
        assert made["data"].keys() == {
            path.name for path in (CHECKOUT / "migrations").glob("[0-9]*")
        }
        names.append(made["metadata"]["name"])
        assert _volumes(_deployment(text))["migrations"] == {"configMap": {"name": names[-1]}}
    assert len(set(names)) == 2
    assert "cp migrations/[0-9]* deploy/kubernetes/components/configmap/\n" in _text(
        f"{uses}/kustomization.yaml"
    )


@pytest.mark.filterwarnings("ignore")
def test_image_volume(tools: Path, tmp_path: Path) -> None:
    """The migrations come from an image with a tag of its own, and no ConfigMap is left."""
    uses = ["components/image-volume"]
    text = kustomized(tools / "kubectl", tmp_path, components=uses)
    image = {"reference": "library-migrations:1.0.0", "pullPolicy": "IfNotPresent"}
    assert _volumes(_deployment(text, "1.35"))["migrations"] == {"image": image}
    assert "ConfigMap" not in {each["kind"] for each in yaml.safe_load_all(text)}
    assert "docker build -t library-migrations:1.0.0 " in _text(f"{uses[0]}/kustomization.yaml")


@pytest.mark.filterwarnings("ignore")
def test_litestream(tools: Path, tmp_path: Path) -> None:
    """Litestream starts after the migration and before the application, and runs beside it."""
    uses = ["components/litestream"]
    deployment = _deployment(kustomized(tools / "kubectl", tmp_path, components=uses))
    migrate, litestream = _pod_of(deployment)["initContainers"]
    assert ("migrate", "litestream") == (migrate["name"], litestream["name"])
    assert "restartPolicy" not in migrate
    assert litestream["restartPolicy"] == "Always"
    assert litestream["securityContext"] == migrate["securityContext"]
    mounted = {each["name"]: each["mountPath"] for each in litestream["volumeMounts"]}
    assert mounted == {"data": "/data", "litestream": "/etc/litestream"}
    assert _volumes(deployment)["litestream"]["configMap"]["name"].startswith("library-litestream-")
    (database,) = yaml.safe_load(_text(f"{uses[0]}/litestream.yml"))["dbs"]
    assert database["path"] == "/data/app.db"


THEIRS = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "theirs"},
    "spec": {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "selector": {"matchLabels": {"app": "theirs"}},
        "template": {
            "metadata": {"labels": {"app": "theirs"}},
            "spec": {
                "initContainers": [{"name": "fetch", "image": "fetch:1"}],
                "containers": [
                    {
                        "name": "web",
                        "image": "web:1",
                        "volumeMounts": [{"name": "books", "mountPath": "/srv"}],
                    }
                ],
                "volumes": [
                    {"name": "books", "persistentVolumeClaim": {"claimName": "theirs"}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "other"}},
                ],
            },
        },
    },
}
"""A Deployment of somebody who knows nothing of this program."""


def _header(component: str) -> dict[str, Any]:
    """Return the kustomization that a component's own comment tells to write."""
    lines = [
        line.removeprefix("#   ")
        for line in _text(f"components/{component}/kustomization.yaml").splitlines()
        if line.startswith("#   ")
    ]
    written: dict[str, Any] = yaml.safe_load("\n".join(lines))
    return written


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patched", [False, True], ids=["as it is", "with a patch"])
def test_component_for_somebody_else(tools: Path, tmp_path: Path, patched: bool) -> None:
    """
    Somebody's Deployment gets the initContainer before its own; its containers stay as they were.

    The kustomization is the one in the component's comment, with and without the patch there.
    """
    shutil.copytree(MANIFESTS / "components/init-container", tmp_path / "init-container")
    written = _header("init-container")
    if not patched:
        del written["patches"]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(written))
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(THEIRS))
    (tmp_path / "001_create_users.sql").write_text("CREATE TABLE users (id INTEGER);\n")
    made = _deployment(told(tools / "kubectl", "kustomize", tmp_path))
    assert made["spec"]["strategy"] == {"type": "Recreate"}
    spec, theirs = made["spec"]["template"]["spec"], THEIRS["spec"]["template"]["spec"]
    assert spec["containers"] == theirs["containers"]
    migrate, *others = spec["initContainers"]
    assert others == theirs["initContainers"]
    assert migrate["image"] == f"registry.example.org/sqlite-entrypoint:{__version__}"
    assert [] == list(violations({"containers": [migrate]}))
    mounted = {each["mountPath"]: each["name"] for each in migrate["volumeMounts"]}
    assert mounted == {"/data": "books" if patched else "data", "/migrations": "migrations"}
    assert migrate.get("env", []) == [
        {"name": "MIGRATOR_DATABASE", "value": "/data/books.sqlite3"} for _ in range(patched)
    ]
    assert migrate["securityContext"].get("runAsUser") == (1000 if patched else None)
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes.pop("migrations")["configMap"]["name"].startswith("migrations-")
    assert list(volumes.values()) == theirs["volumes"]


def test_component_is_the_deployment() -> None:
    """The component's initContainer is the Deployment's, with what that has from its Pod."""
    patch = yaml.safe_load(_text("components/init-container/deployment.yaml"))
    (added,) = patch["spec"]["template"]["spec"]["initContainers"]
    (migrate,) = pod("deployment")["initContainers"]
    context = {key: pod("deployment")["securityContext"][key] for key in ("runAsNonRoot",)}
    context["seccompProfile"] = {"type": "RuntimeDefault"}
    migrate["securityContext"] |= context
    assert added == migrate


# --- the commands in the headers: kubectl asks a server for Jobs and Pods -------------------


def _started(words: list[str], tools: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    path = f"{tools}:{env['PATH']}"
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env={**env, "PATH": path}, stdout=pipe, stderr=pipe, text=True)


WAIT = [str(MANIFESTS / "wait.sh"), "job/library-migrate", "60s"]


@pytest.mark.parametrize(
    ("conditions", "code", "said"),
    [
        (("SuccessCriteriaMet", "Complete"), 0, "job.batch/library-migrate condition met"),
        (("FailureTarget", "Failed"), 1, "has failed: kubectl logs job/library-migrate"),
    ],
    ids=["complete", "failed"],
)
def test_wait(
    tools: Path, tmp_path: Path, conditions: tuple[str, ...], code: int, said: str
) -> None:
    """A Job that ends, ends the waiting, whichever way it ends, and leaves no process behind."""
    known = api_server.job("library-migrate")
    with (
        api_server.api_server(tmp_path, known) as (server, env),
        _started(WAIT, tools, env) as waiting,
    ):
        server.wait_for_watchers(2)
        server.change(api_server.job("library-migrate", *conditions[:1]))
        server.change(api_server.job("library-migrate", *conditions))
        # Until nobody holds the pipes any more, neither `kubectl` included.
        stdout, stderr = waiting.communicate(timeout=50)
    assert (waiting.returncode, said in stdout + stderr) == (code, True), stderr
    assert len((stdout + stderr).splitlines()) == 1


def test_wait_for_what_is_over(tools: Path, tmp_path: Path) -> None:
    """A Job that has failed before is seen at once; one that does not end in time is 1 as well."""
    for conditions, words in ((("Failed",), WAIT), ((), [*WAIT[:2], "1s"])):
        known = api_server.job("library-migrate", *conditions)
        with (
            api_server.api_server(tmp_path, known) as (_, env),
            _started(words, tools, env) as waiting,
        ):
            _, stderr = waiting.communicate(timeout=50)
        assert waiting.returncode == 1
        assert ("has failed" if conditions else "timed out") in stderr


def test_scaling_to_zero_waits_for_the_pod(tools: Path, tmp_path: Path) -> None:
    """After `kubectl scale --replicas=0` the headers wait until the application's Pod is gone."""
    commands = {
        line
        for name in ("job", "restore")
        for scaled, line in re.findall(
            r"^#   (kubectl scale .*--replicas=0)\n#   (.*)$", _text(f"{name}.yaml"), re.MULTILINE
        )
    }
    (command,) = commands
    labels = pod_labels("deployment")
    objects = [api_server.pod("library-1", **labels), api_server.pod("another")]
    with api_server.api_server(tmp_path, *objects) as (server, env):
        with _started(shlex.split(command), tools, env) as waiting:
            server.wait_for_watchers(1)
            assert waiting.poll() is None
            server.delete("library-1")
            waiting.communicate(timeout=50)
        assert waiting.returncode == 0
        with _started(shlex.split(command), tools, env) as waiting:
            waiting.communicate(timeout=50)
        assert waiting.returncode == 0, "no Pod, and it waits"


def pod_labels(name: str) -> dict[str, str]:
    """Return the labels of the Pod that a manifest makes."""
    labels: dict[str, str] = template(load(name))["metadata"]["labels"]
    return labels
