"""docs/self-migrating.md: one COPY line over an image that knows nothing of this program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.containers.conftest import CHECKOUT
from tests.containers.engine import USER, Ended, Volume, build, run
from tests.support import self_migrating
from tests.support.files import rows
from tests.support.machine import tool

PAGE = (CHECKOUT / "docs/self-migrating.md").read_text()
THEIRS = """
FROM {base}
COPY self_migrating.py /app/
CMD ["python", "/app/self_migrating.py", "/data/app.db", "1.0"]
"""
APP = ("python", "/app/self_migrating.py", "/data/app.db")
NOTES = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
INSERT INTO notes (text) VALUES ('one'), ('two'), ('three'), ('four');
"""


def shown(kind: str) -> list[str]:
    """Return the page's blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copied_over(image: str, library_base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the image that the page's Dockerfile makes of somebody else's."""
    theirs = tmp_path_factory.mktemp("theirs")
    shutil.copy(self_migrating.__file__, theirs)
    (theirs / "Dockerfile").write_text(THEIRS.format(base=library_base))
    made = build(theirs, "sqlite-entrypoint-test-theirs")
    ours = tmp_path_factory.mktemp("ours")
    (dockerfile,) = shown("dockerfile")
    (ours / "Dockerfile").write_text(
        dockerfile.replace("--from=sqlite-entrypoint ", f"--from={image} ")
    )
    return build(ours, "sqlite-entrypoint-test-self-migrating", f"--build-arg=IMAGE={made}")


def test_an_upgrade_that_goes_wrong_is_led_back_from(
    copied_over: str, volume: Volume, tmp_path: Path
) -> None:
    """Backed up, half migrated, refused to the older version, restored: as the page says."""
    volume.execute(NOTES)

    def start(version: str) -> list[str]:
        given = {"MIGRATE": "backup", "APP_VERSION": version, "DATABASE": "/data/app.db"}
        return [
            "--entrypoint=/opt/sqlite-entrypoint/bin/entrypoint",
            *(f"--env=MIGRATOR_{name}={value}" for name, value in given.items()),
            "--env=MIGRATOR_MOUNT=require",
            f"--user={USER}:{USER}",
        ]

    def started(version: str, *how: str) -> Ended:
        command = ("--", *APP, version, *how)
        return run(copied_over, *command, volumes=[volume.mount], options=start(version))

    first = started("1.0")
    assert (first.code, first.finished["outcome"]) == (0, "backed_up")
    assert first.stdout == "serving 1.0\n"
    crashed = started("1.1", "crash")
    assert (crashed.code, crashed.finished["outcome"]) == (self_migrating.CRASHED, "backed_up")
    again = started("1.1", "crash")
    assert (again.code, again.finished["outcome"]) == (self_migrating.CRASHED, "up_to_date")
    refused = started("1.0")
    end = refused.finished
    assert (refused.code, end["reason"], refused.stdout) == (78, "history.newer_app", "")
    (line,) = re.findall(r"`(migrator restore [^`]+)`", end["hint"])
    back = run(copied_over, *line.split(), volumes=[volume.mount], options=start("1.0"))
    assert (back.code, back.finished["outcome"]) == (0, "migrated")
    listed = run(
        copied_over, "migrator", "backups", "--json", volumes=[volume.mount], options=start("1.0")
    )
    made = {(each["reason"], each["app_version"]) for each in json.loads(listed.stdout)}
    assert made == {("restore", None), ("start", "1.1"), ("start", "1.0")}
    assert started("1.0").stdout == "serving 1.0\n"
    notes = rows(volume.copy_to(tmp_path), "SELECT text FROM notes ORDER BY id")
    kept = ["one", "two", "three", "four"]
    assert [text for (text,) in notes] == [*kept, "started 1.0", "started 1.0"]


@pytest.mark.parametrize("text", shown("yaml"), ids=["vaultwarden", "uptime-kuma", "navidrome"])
@pytest.mark.parametrize("program", ["1.29", "2"])
def test_compose_reads_the_pages_files(
    text: str, program: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Both versions of Compose know every key, and the version is said once, for both."""
    (tmp_path / "docker-compose.yml").write_text(text)
    (tmp_path / ".env").write_text("VERSION=1.34.1\n")
    command = (
        tool("docker-compose")
        if program == "1.29"
        else request.getfixturevalue("tools") / "docker-compose"
    )
    done = subprocess.run(
        [command, "config"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "VERSION"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ((name, service),) = yaml.safe_load(done.stdout)["services"].items()
    assert service["build"]["args"]["IMAGE"].endswith(":1.34.1")
    assert name in service["build"]["args"]["IMAGE"]
    given = service["environment"]
    assert (given["MIGRATOR_APP_VERSION"], given["MIGRATOR_MIGRATE"]) == ("1.34.1", "backup")
    (data, *_) = service["volumes"]
    target = data.split(":")[1] if isinstance(data, str) else data["target"]
    assert given["MIGRATOR_DATABASE"].startswith(f"{target}/")
