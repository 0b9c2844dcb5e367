"""The manifests in deploy/kubernetes: read, checked against Pod Security, and built by kustomize."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.containers.conftest import CHECKOUT

MANIFESTS = CHECKOUT / "deploy/kubernetes"
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
"""What the restricted standard allows a Pod to mount (`image` since 1.33, kubernetes#130394)."""


def load(name: str) -> dict[str, Any]:
    """Return one manifest."""
    document: dict[str, Any] = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    return document


def template(document: dict[str, Any]) -> dict[str, Any]:
    """Return the template of the Pod that a manifest makes, in the end."""
    spec = document["spec"].get("jobTemplate", document)["spec"]
    made: dict[str, Any] = spec["template"]
    return made


def pod(name: str) -> dict[str, Any]:
    """Return the Pod that a manifest makes."""
    spec: dict[str, Any] = template(load(name))["spec"]
    return spec


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every container of a Pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def violations(spec: dict[str, Any]) -> Iterator[str]:
    """
    Say where a Pod breaks the restricted Pod Security Standard.

    The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/,
    those of "baseline", which it includes, among them.
    """
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
    for volume in spec.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume.keys() - VOLUMES - {"name"})
    context = spec.get("securityContext", {})
    yield from (key for key in ("sysctls", "seLinuxOptions", "windowsOptions") if key in context)
    for container in containers(spec):
        yield from _violations_of(container, context)


def _violations_of(container: dict[str, Any], pod_context: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod_context, **own}
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield "runAsUser"
    if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "capabilities"
    yield from (key for key in ("privileged", "procMount", "seLinuxOptions") if own.get(key))
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"


def kustomized(
    kubectl: Path, directory: Path, resources: Sequence[str] = (), **changes: object
) -> str:
    """
    Return what `kubectl kustomize` makes of a copy of deploy/kubernetes.

    Args:
        kubectl: the program.
        directory: where the copy is made; files that lie there already can be resources. The
            migrations lie where components/configmap wants them.
        resources: what takes the place of the kustomization's own.
        changes: further fields of the kustomization.
    """
    shutil.copytree(MANIFESTS, directory, dirs_exist_ok=True)
    for path in (CHECKOUT / "migrations").glob("[0-9]*"):
        shutil.copy(path, directory / "components/configmap")
    settings = load("kustomization") | changes
    if resources:
        settings["resources"] = list(resources)
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(settings))
    return told(kubectl, "kustomize", directory)


def told(kubectl: Path, *words: str | Path) -> str:
    """Return what kubectl says to a command that asks no server."""
    command = [kubectl, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout
