"""The Dockerfiles in examples/: one COPY line takes the entrypoint into each, and all of them run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from testcontainers.core.container import DockerContainer

from tests.containers.conftest import BUILD, CHECKOUT
from tests.containers.engine import Volume, build, docker, run
from tests.support.files import history
from tests.support.waiting import until

EXAMPLES = CHECKOUT / "examples"
COPY_LINE = "COPY --from=sqlite-entrypoint /opt/sqlite-entrypoint /opt/sqlite-entrypoint"


@dataclass(frozen=True)
class Served:
    """An application that listens."""

    container: str
    address: str

    def ask(self, path: str, body: str | None = None) -> str | None:
        """Return what it answers, or None where it does not answer yet."""
        data = None if body is None else body.encode()
        try:
            with urllib.request.urlopen(self.address + path, data, timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            return None

    def waited_for(self, path: str) -> str:
        """Return the first answer."""
        return until(lambda: self.ask(path), "no answer", 60)


@contextmanager
def served(image: str, volume: Volume) -> Iterator[Served]:
    """Start an application as its header says: a volume and a port, and no more."""
    container = DockerContainer(image).with_volume_mapping(volume.name, "/data", "rw")
    with container.with_exposed_ports(8000) as running:
        host, port = running.get_container_host_ip(), running.get_exposed_port(8000)
        yield Served(running.get_wrapped_container().id, f"http://{host}:{port}")


def stopped(container: str) -> int:
    """Stop a container and return its code."""
    docker("stop", "--time=60", container)
    return int(docker("wait", container))


@pytest.mark.parametrize("name", ["python", "node", "scratch"])
def test_one_line(name: str) -> None:
    """Each example has the one COPY line, and nothing else of the tree."""
    lines = (EXAMPLES / name / "Dockerfile").read_text().splitlines()
    assert [COPY_LINE] == [line for line in lines if "/opt/sqlite-entrypoint " in line]


def test_python(image: str, library: str, volume: Volume, tmp_path: Path) -> None:
    """The one in Python makes its database, serves its page, and is up to date."""
    with served(library, volume) as app:
        assert json.loads(app.waited_for("/health"))["status"] == "ok"
        docker("exec", app.container, "migrator", "check")
        assert stopped(app.container) == 0
    assert len(history(volume.copy_to(tmp_path))) == 9


def test_node(image: str, stand_in: Callable[[str], str], volume: Volume, tmp_path: Path) -> None:
    """The one in Node serves the rows that its migrations made, and writes its own."""
    notes = build(EXAMPLES / "node", "notes", f"--build-arg=BASE={stand_in('node:24-slim')}")
    with served(notes, volume) as app:
        made = [note["text"] for note in json.loads(app.waited_for("/"))]
        added = json.loads(app.ask("/", "post a letter") or "null")
        assert stopped(app.container) == 0
    assert made == ["water the plants", "return the ladder"]
    assert added == {"id": 3, "text": "post a letter", "done": 0}
    assert history(volume.copy_to(tmp_path)) == ["001", "002"]


def test_scratch(image: str, build_stage: str, volume: Volume) -> None:
    """The one on `scratch`, a static program, prints the rows that were made before it started."""
    example = build(EXAMPLES / "scratch", "notes-list", f"--build-arg=BASE={BUILD}")
    first, second = (run(example, volumes=[volume.mount]) for _ in range(2))
    assert (first.code, first.finished["outcome"]) == (0, "created")
    assert (second.code, second.finished["outcome"]) == (0, "up_to_date")
    assert first.stdout == second.stdout == "1 the first note\n"


@pytest.mark.slow
def test_wheel(library_base: str, volume: Volume, tmp_path: Path) -> None:
    """With the wheel, a migration imports the application's module, and through it its package."""
    shutil.copytree(EXAMPLES / "wheel", tmp_path / "wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", CHECKOUT]
    subprocess.run(command, cwd=tmp_path / "wheel", check=True)
    articles = build(tmp_path / "wheel", "articles", f"--build-arg=BASE={library_base}")
    done = run(articles, volumes=[volume.mount])
    assert (done.code, done.finished["outcome"]) == (0, "created")
    assert done.stdout == "<h1>One</h1>\n<p>The <em>second</em> one</p>\n"


def test_headers() -> None:
    """Each header makes what is copied first, then builds the directory, and runs the image."""
    for path in EXAMPLES.glob("*/Dockerfile"):
        directory = str(path.parent.relative_to(CHECKOUT))
        commands = re.findall(r"^#   (.*)$", path.read_text(), re.MULTILINE)
        first, built, ran = commands
        wheel = "pip wheel --no-deps -w dist PATH_OF_THE_CLONE"
        assert first in {"docker build -t sqlite-entrypoint .", wheel}
        assert built.endswith(" .") if first == wheel else directory in built
        tag = built.split()[3]
        assert ran.startswith(f"docker run --rm -v {tag}:/data ")
        assert ran.endswith(f" {tag}")
