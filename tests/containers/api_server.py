"""As much of Kubernetes' API as `kubectl wait` asks for: Jobs and Pods that change when a test says so."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]

GROUPS: Mapping[str, tuple[str, str, str]] = {
    "/api/v1": ("v1", "pods", "Pod"),
    "/apis/batch/v1": ("batch/v1", "jobs", "Job"),
}
"""What the server has: where it lies, its API version, its plural and its kind."""


def job(name: str, *conditions: str) -> Document:
    """Return a Job with conditions that are true."""
    told = [{"type": condition, "status": "True"} for condition in conditions]
    return _object("batch/v1", "Job", name, status={"conditions": told})


def pod(name: str, **labels: str) -> Document:
    """Return a Pod with labels."""
    return _object("v1", "Pod", name, labels=labels)


def _object(version: str, kind: str, name: str, **rest: object) -> Document:
    metadata = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"}
    if labels := rest.pop("labels", None):
        metadata |= {"labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


class ApiServer(ThreadingHTTPServer):
    """Answers lists and watches of what it holds."""

    daemon_threads = True

    def __init__(self, objects: list[Document]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.objects = {each["metadata"]["name"]: each for each in objects}
        self.events: list[Document] = []
        self.ended = False
        self.changed = threading.Condition()
        self.watchers = 0

    def _tell(self, kind: str, changed: Document) -> None:
        with self.changed:
            self.events.append({"type": kind, "object": changed})
            self.changed.notify_all()

    def change(self, changed: Document) -> None:
        """Put an object in the place of the one of that name."""
        self.objects[changed["metadata"]["name"]] = changed
        self._tell("MODIFIED", changed)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._tell("DELETED", self.objects.pop(name))

    def watch(self) -> Iterator[Document]:
        """Return every event from the first one on, until the server is stopped."""
        with self.changed:
            self.watchers += 1
            self.changed.notify_all()
        for number in itertools.count():
            with self.changed:
                self.changed.wait_for(lambda number=number: self.ended or len(self.events) > number)
                if self.ended:
                    return
            yield self.events[number]

    def wait_for_watchers(self, number: int) -> None:
        """Wait until so many watch."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.watchers >= number, 60)

    def stop(self) -> None:
        """End every watch, and listen no more."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        """Answer discovery, an object, a list or a watch."""
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        fixed: dict[str, Document] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("batch")]},
            **{path: _resources(*names) for path, names in GROUPS.items()},
        }
        if url.path in fixed:
            self._answer(fixed[url.path])
            return
        root, _, rest = url.path.partition("/namespaces/default/")
        plural, _, name = rest.partition("/")
        if root not in GROUPS or GROUPS[root][1] != plural:
            self.send_error(404)
        elif name:
            found = self.server.objects.get(name)
            self._answer(found or _missing(name), 200 if found else 404)
        elif query.get("watch"):
            self._watch(GROUPS[root][2], query)
        else:
            self._answer(self._listed(root, query))

    def _listed(self, root: str, query: Mapping[str, str]) -> Document:
        version, _, kind = GROUPS[root]
        items = [each for each in self.server.objects.values() if _selected(each, kind, query)]
        metadata = {"resourceVersion": "1"}
        return {"apiVersion": version, "kind": f"{kind}List", "metadata": metadata, "items": items}

    def _watch(self, kind: str, query: Mapping[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.flush()
        for event in self.server.watch():
            if _selected(event["object"], kind, query):
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()

    def _answer(self, body: Document, status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: object) -> None:
        """Keep the tests' output free of requests."""


def _group(name: str) -> Document:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(version: str, plural: str, kind: str) -> Document:
    known = {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind}
    known["verbs"] = ["get", "list", "watch"]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": [known]}


def _missing(name: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": "NotFound",
        "message": f"{name!r} not found",
        "code": 404,
    }


def _selected(each: Document, kind: str, query: Mapping[str, str]) -> bool:
    labels = each["metadata"].get("labels", {})
    name, value = (query.get("labelSelector") or "=").split("=", 1)
    wanted = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return bool(
        each["kind"] == kind
        and (not name or labels.get(name) == value)
        and wanted in {"", each["metadata"]["name"]}
    )


@contextmanager
def api_server(directory: Path, *objects: Document) -> Iterator[tuple[ApiServer, dict[str, str]]]:
    """Serve, and say with which variables kubectl asks this server."""
    server = ApiServer(list(objects))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = directory / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "current-context": "c",
            }
        )
    )
    try:
        yield server, {**os.environ, "HOME": str(directory), "KUBECONFIG": str(config)}
    finally:
        server.stop()
        thread.join()
