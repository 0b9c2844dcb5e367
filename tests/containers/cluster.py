"""
A cluster of one: the manifests, built by kustomize and run by Debian's podman.

podman runs a Pod and a Deployment as they are. It has no StatefulSet and no Job, so of these
the Pod is taken. It has no sidecars either, so these are containers beside the application's. What
else is changed stands in `_fitted`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from examples.app.demo import make_old_database
from tests.containers.engine import USER
from tests.containers.manifests import containers, kustomized, template, told
from tests.support.machine import tool
from tests.support.waiting import until

SETTINGS = Path(__file__).with_name("containers.conf")
KEPT = {"io.podman.annotations.init.container.type": "always"}
"""Podman keeps an initContainer that has ended; it would remove it, at times before it knows."""

LITESTREAM = """
dbs:
  - path: /data/app.db
    replica: {type: file, path: /data/replica, sync-interval: 100ms}
"""

Document = dict[str, Any]


def try_podman(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run podman to whatever end."""
    return subprocess.run(
        [tool("podman"), *map(str, words)],
        env={**os.environ, "CONTAINERS_CONF": str(SETTINGS)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def podman(*words: str | Path) -> str:
    """Run podman, which has to succeed."""
    done = try_podman(*words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


def _take_down(path: Path) -> None:
    """
    Remove what was played of a manifest.

    Podman leaves a container whose `shm` is mounted elsewhere at that moment (EBUSY, as when
    another container is just being made), and its pod with it: these are removed once it is free.
    """
    done = try_podman("play", "kube", "--down", path)
    left = re.findall(r"^[0-9a-f]{64}$", done.stdout, re.MULTILINE) if done.returncode else []
    assert done.returncode == 0 or (left and "resource busy" in done.stderr), (path, done)
    remove = ("pod", "rm", "--force", "--ignore", *left)
    if left:
        until(lambda: try_podman(*remove).returncode == 0, f"{left} cannot be removed", 60)


class Cluster:
    """What lasts from one release to the next: the claim with the old release's database on it."""

    def __init__(self, kubectl: Path, images: Mapping[str, str], directory: Path) -> None:
        self.claim = f"library-data-{uuid.uuid4().hex[:8]}"
        self.said = directory / "termination-log"
        self._kubectl = kubectl
        self._images = images
        self._directory = directory
        self._played: dict[str, Path] = {}
        podman("volume", "create", self.claim)
        data = Path(podman("volume", "inspect", "--format={{.Mountpoint}}", self.claim))
        self.database = data / "app.db"

    def use_old_database(self) -> None:
        """Put the old release's database on the volume."""
        make_old_database(self.database)
        for path in (self.database, self.database.parent):
            os.chown(path, USER, USER)

    def play(
        self,
        manifest: str,
        migrations: Path,
        arguments: tuple[str, ...] = (),
        mounts: Mapping[str, Path] = {},
        components: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Apply one manifest and its ConfigMap; what an earlier one of that name left goes first."""
        self.delete(manifest)
        self.said.write_text("")
        self.said.chmod(0o666)
        built = self._built(manifest, migrations, components)
        (made,) = (each for each in built if each["kind"] != "ConfigMap")
        spec = template(made)["spec"]
        if arguments:
            spec["containers"][0]["args"] = list(arguments)
        self._fitted(spec, mounts)
        made["metadata"]["annotations"] = KEPT
        if made["kind"] != "Deployment":
            made = {"apiVersion": "v1", "kind": "Pod", "metadata": made["metadata"], "spec": spec}
        path = self._directory / f"{manifest}.yaml"
        maps = [each for each in built if each["kind"] == "ConfigMap"]
        for text in (each["data"] for each in maps if "litestream.yml" in each["data"]):
            text["litestream.yml"] = LITESTREAM
        path.write_text(yaml.safe_dump_all([*maps, made]))
        self._played[manifest] = path
        return try_podman("play", "kube", "--network=host", path)

    def _built(
        self, manifest: str, migrations: Path, components: tuple[str, ...]
    ) -> list[Document]:
        """Return what kustomize makes of a manifest, under names that nobody else here has."""
        directory = self._directory / "kustomize"
        directory.mkdir(exist_ok=True)
        told_map = ("create", "configmap", "library-migrations", f"--from-file={migrations}")
        text = told(self._kubectl, *told_map, "--dry-run=client", "-o", "yaml")
        (directory / "migrations.yaml").write_text(text)
        images = [
            {"name": name, "newName": new.rpartition(":")[0], "newTag": new.rpartition(":")[2]}
            for name, new in self._images.items()
        ]
        suffix = self.claim.removeprefix("library-data")
        resources = ("migrations.yaml", "volume.yaml", f"{manifest}.yaml")
        if "components/configmap" in components:
            resources = resources[1:]
        changes = {"nameSuffix": suffix, "images": images, "components": list(components)}
        made = kustomized(self._kubectl, directory, resources, **changes)
        documents: list[Document] = list(yaml.safe_load_all(made))
        # As in a cluster, a claim that is there stays as it is; podman would refuse to play it.
        (claim,) = (each for each in documents if each["kind"] == "PersistentVolumeClaim")
        assert claim["metadata"]["name"] == self.claim
        return [each for each in documents if each["kind"] != "PersistentVolumeClaim"]

    def _fitted(self, spec: Document, mounts: Mapping[str, Path]) -> None:
        """
        Fit a Pod into the host's network, and do the kubelet's part.

        There are no ports of its own: the application takes a free one. The kubelet would make the
        file for the termination message, mount the StatefulSet's claim, and start a sidecar before
        the application. No Secret is here for Litestream, which replicates to a directory.
        """
        initial = spec.get("initContainers", [])
        sidecars = [each for each in initial if each.pop("restartPolicy", "") == "Always"]
        for sidecar in sidecars:
            initial.remove(sidecar)
            spec["containers"].append(sidecar)
            sidecar.pop("envFrom", None)
        volumes = spec.setdefault("volumes", [])
        if not any("persistentVolumeClaim" in volume for volume in volumes):
            volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": self.claim}})
        for container in containers(spec):
            container.pop("ports", None)
            container.setdefault("env", []).append({"name": "APP_PORT", "value": "0"})
        runs = containers(spec)[0]
        for target, path in {runs["terminationMessagePath"]: self.said, **mounts}.items():
            name = f"host-{len(volumes)}"
            kind = "Directory" if path.is_dir() else "File"
            volumes.append({"name": name, "hostPath": {"path": str(path), "type": kind}})
            runs["volumeMounts"].append({"name": name, "mountPath": target})

    def container(self, name: str) -> str:
        """Return the full name of a container in what was played."""
        names = podman("ps", "--all", "--format={{.Names}}").split()
        suffix = self.claim.removeprefix("library-data")
        (found,) = (each for each in names if f"{suffix}-" in each and each.endswith(f"-{name}"))
        return found

    def state(self, name: str) -> str:
        """Return a container's state and its code, in podman's words."""
        form = "--format={{.State.Status}} {{.State.ExitCode}}"
        return podman("inspect", form, self.container(name))

    def log(self, name: str) -> str:
        """Return both streams of a container."""
        done = try_podman("logs", self.container(name))
        return done.stdout + done.stderr

    def ended(self, name: str) -> int:
        """Wait for a container's end and return its code."""
        return int(podman("wait", self.container(name)))

    def page(self, path: str = "/") -> str:
        """Return what the application answers, once it listens."""
        port = until(
            lambda: re.search(r"listening on http://0\.0\.0\.0:(\d+)", self.log("app")),
            "the application does not listen",
            90,
        )[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return str(response.read().decode())

    def delete(self, manifest: str) -> None:
        """Delete what was made of a manifest, if anything was, and its ConfigMap."""
        if path := self._played.pop(manifest, None):
            _take_down(path)
            name = self.claim.replace("data", "migrations")
            try_podman("volume", "rm", "--force", name)

    def remove(self) -> None:
        """Remove everything."""
        for manifest in tuple(self._played):
            self.delete(manifest)
        try_podman("volume", "rm", "--force", self.claim)
        shutil.rmtree(self._directory / "kustomize", ignore_errors=True)
