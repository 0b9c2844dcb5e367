"""README's three ways, and its Dockerfiles, typed as they are printed: what is typed, what is seen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.containers.conftest import CHECKOUT
from tests.containers.engine import Volume, build, docker
from tests.support.waiting import until

README = (CHECKOUT / "README.md").read_text()


def block(language: str, word: str) -> str:
    """Return README's one block in a language that has a word in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (wanted,) = [each for each in found if word in each]
    return wanted


def type_in(directory: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Type a line in a shell."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def logged(container: str) -> str:
    """Return what `docker logs` shows of stderr."""
    command = ["docker", "logs", container]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


# --- the Dockerfiles ------------------------------------------------------------------


@pytest.fixture
def notes(image: str, stand_in: Callable[[str], str], tmp_path: Path) -> str:
    """Return the image of README's first Dockerfile, beside the files that it copies."""
    shutil.copytree(CHECKOUT / "examples/node", tmp_path / "node")
    printed = block("dockerfile", "FROM ")
    base = stand_in("node:24-slim")
    (tmp_path / "node" / "Dockerfile").write_text(printed.replace("node:24-slim", base))
    return build(tmp_path / "node", f"sqlite-entrypoint-readme-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def running(notes: str, volume: Volume) -> Iterator[str]:
    """Start it, with a volume and no more, and return the container."""
    container = docker("run", "--detach", f"--volume={volume.mount}", notes)
    yield container
    docker("rm", "--force", container)


def test_the_image_of_the_page_has_migrator_on_its_path(running: str) -> None:
    """`docker exec app migrator status` works as it is printed, and Node's image keeps its programs."""
    assert "docker exec app migrator status" in README
    command = "docker exec {} migrator status"
    until(lambda: "exec" in logged(running), "no application", 60)
    shown = docker(*command.format(running).split()[1:])
    assert "002" in shown
    assert "pending" in shown
    path = docker("exec", running, "node", "-p", "process.env.PATH")
    assert path.endswith(":/opt/sqlite-entrypoint/bin")
    assert not path.startswith(":")


# --- the three ways -------------------------------------------------------------------


@pytest.fixture
def compose(
    tools: Path, library: str, tmp_path: Path
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a function that runs Compose on the file as README has it."""
    printed = yaml.safe_load(block("yaml", "services:"))
    printed["services"]["app"]["image"] = library  # somebody else may move the tag meanwhile
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(printed))
    project = f"readme{uuid.uuid4().hex[:8]}"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tools / "docker-compose", "-p", project, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    yield run
    run("down", "--volumes", "--remove-orphans")


def test_as_the_entrypoint_of_a_service(
    compose: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """`docker logs` shows lines for people, and the printed command answers beside the application."""
    up = compose("up", "--detach")
    assert up.returncode == 0, up.stderr
    container = compose("ps", "--quiet", "app").stdout.strip()
    until(lambda: "takes over" in logged(container), "no application", 60)
    lines = logged(container).splitlines()
    assert lines[0].endswith(" begins on /data/app.db.")
    assert not [line for line in lines if "{" in line]
    (words,) = re.findall(r"`docker compose (run --rm app migrator status)`", README)
    status = compose(*words.split())
    assert status.returncode == 0, status.stderr
    assert "009" in status.stdout


@pytest.mark.parametrize(("name", "code"), [("app.db", 0), ("library.sqlite3", 69)])
def test_as_a_one_off_on_existing_data(
    image: str, volume: Volume, tmp_path: Path, name: str, code: int
) -> None:
    """The printed line migrates the file that it names; of another name it is refused, and both are said."""
    printed = block("sh", "MIGRATOR_CREATE=never")
    assert printed.endswith("  sqlite-entrypoint\n")
    line = printed.replace("-v data:", f"-v {volume.name}:").replace("  sqlite-entrypoint\n", image)
    volume.execute("CREATE TABLE books (id INTEGER);", name=name)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_more.sql").write_text("CREATE TABLE more (id INTEGER);\n")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    line = line.replace("docker run --rm", "docker run --rm -e MIGRATOR_WAIT_TIMEOUT=1")
    done = type_in(tmp_path, line)
    assert done.returncode == code, done.stderr
    assert "{" not in done.stderr
    assert "/data/app.db" in done.stderr
    if code:
        assert "library.sqlite3" in done.stderr
        assert volume.python("import os; print(sorted(os.listdir('/data')))") == f"[{name!r}]"


def test_existing_data_without_a_history_is_taken_over(
    image: str, volume: Volume, tmp_path: Path
) -> None:
    """The same line with `migrator baseline` at its end names the command that takes it over."""
    assert "the same line with `migrator baseline` at its end" in README
    printed = block("sh", "MIGRATOR_CREATE=never").replace("-v data:", f"-v {volume.name}:")
    line = printed.replace("  sqlite-entrypoint\n", image)
    volume.execute("CREATE TABLE books (id INTEGER);")
    (tmp_path / "migrations").mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    for name, text in {"001_books.sql": "books", "002_more.sql": "more"}.items():
        path = tmp_path / "migrations" / name
        path.write_text(f"CREATE TABLE {text} (id INTEGER);\n")
        path.chmod(0o644)
    looked = type_in(tmp_path, f"{line} migrator baseline")
    (command,) = re.findall(r"`(migrator baseline 001[^`]*)`", looked.stdout + looked.stderr)
    taken = type_in(tmp_path, f"{line} {command}")
    assert taken.returncode == 0, taken.stderr
    started = type_in(tmp_path, line)
    assert started.returncode == 0, started.stderr
    assert "Applying 002_more.sql" in started.stderr
    assert "001_books" not in started.stderr


# --- the wheel ------------------------------------------------------------------------


def test_the_wheel_is_built_without_a_trace_in_the_clone(tmp_path: Path) -> None:
    """The printed command, typed beside a Dockerfile: the clone is as before, down to the names."""
    (words,) = re.findall(r"`(pip wheel --no-deps -w dist\s+PATH_OF_THE_CLONE)`", README)
    clone, app = tmp_path / "clone", tmp_path / "app"
    app.mkdir()
    made = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "demo", "dist")
    shutil.copytree(CHECKOUT, clone, ignore=made)
    before = sorted(clone.rglob("*"))
    line = " ".join(words.split()).replace("PATH_OF_THE_CLONE", str(clone))
    line = line.replace("pip wheel", f"{sys.executable} -m pip wheel -q")
    done = type_in(app, line)
    assert done.returncode == 0, done.stderr
    assert before == sorted(clone.rglob("*"))
    (wheel,) = (app / "dist").glob("sqlite_entrypoint-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [each for each in packed.namelist() if each.endswith("/METADATA")]
        facts = packed.read(name).decode()
        manual = {each for each in packed.namelist() if "/share/man/man1/" in each}
    pages = {f"{each}.1" for each in ("entrypoint", "migrator", "sqlite-entrypoint")}
    assert {Path(each).name for each in manual} == pages
    assert "](docs/" not in facts
    assert "https://github.com/sqlite-entrypoint/sqlite-entrypoint/blob/v" in facts
    assert "Project-URL: Documentation, https://github.com/" in facts
