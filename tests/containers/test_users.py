"""Whose the files are and who runs: any user, another user's files, and each way out as printed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.containers.engine import USER, Ended, Volume, docker, options_printed, run
from tests.support.files import history

OWNER = "1000:1000"


def owners(volume: Volume) -> set[str]:
    """Return the owners of everything on a volume."""
    code = """
import os
for base, folders, files in os.walk('/data'):
    for name in ('', *folders, *files):
        status = os.lstat(os.path.join(base, name))
        print(f'{status.st_uid}:{status.st_gid}')
"""
    return set(volume.python(code, user=0).split())


def test_any_user(image: str, volume: Volume, create_users: str) -> None:
    """A user without an entry in /etc/passwd can run it, and owns what it makes."""
    volume.python("import os; open('/data/kept', 'w'); os.chmod('/data', 0o777)", user=0)
    done = run(image, volumes=[volume.mount, create_users], options=["--user=12345:23456"])
    owner = volume.python("import os; s = os.stat('/data/app.db'); print(s.st_uid, s.st_gid)")
    assert (done.code, done.finished["outcome"], owner) == (0, "created", "12345 23456")


# --- files of another user -----------------------------------------------------------


@pytest.fixture
def others_volume(used_volume: Volume, image: str, add_email: str) -> Volume:
    """Return a volume that user 1000 has run the first version of an application on."""
    script = """
import os
for base, folders, files in os.walk('/data'):
    os.chmod(base, 0o750)
    for name in ('', *files):
        os.chown(os.path.join(base, name), 1000, 1000)
"""
    used_volume.python(script, user=0)
    return used_volume


@pytest.fixture
def refused(image: str, others_volume: Volume, add_email: str) -> Ended:
    """Return the end of a start that may not use them."""
    options = ["--env=MIGRATOR_WAIT_TIMEOUT=0"]
    return run(image, volumes=[others_volume.mount, add_email], options=options)


def test_refused(refused: Ended, others_volume: Volume) -> None:
    """Files that belong to another user are 77, naming their owner, our user and the ways out."""
    end = refused.finished
    assert (77, "refused", "database.permission") == (refused.code, end["outcome"], end["reason"])
    assert f"by {USER}:{USER}" in end["error"]
    assert f"belongs to {OWNER} with mode 0750" in end["error"]
    assert options_printed(end["hint"]) == [
        ["--user", OWNER],
        ["--user", "0:0", "-e", "PUID=1000", "-e", "PGID=1000"],
    ]
    assert f"`chown -R {USER}:{USER} /data`" in end["hint"]
    assert owners(others_volume) == {OWNER}


@pytest.mark.parametrize("number", [0, 1], ids=["--user", "PUID and PGID"])
def test_way_out(
    number: int,
    app_image: str,
    refused: Ended,
    others_volume: Volume,
    add_email: str,
    tmp_path: Path,
) -> None:
    """Each `docker run` that is printed works: run and application are the owner's."""
    printed = options_printed(refused.finished["hint"])[number]
    words = ["docker", "run", "--rm", *printed, f"--volume={others_volume.mount}"]
    words += [f"--volume={add_email}", app_image, "/app/probe"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, f"user {OWNER}" in done.stdout.splitlines()) == (0, True), done.stderr
    assert owners(others_volume) == {OWNER}
    assert history(others_volume.copy_to(tmp_path)) == ["001", "002"]


def test_way_out_under_restrictions(
    app_image: str, refused: Ended, others_volume: Volume, add_email: str
) -> None:
    """Where root lacks the capabilities for it, the next refusal has the options that add them."""
    printed = options_printed(refused.finished["hint"])[1]
    volumes = [others_volume.mount, add_email]
    first = run(app_image, "/app/probe", volumes=volumes, options=printed)
    end = first.finished
    assert (first.code, end["reason"]) == (77, "privileges.denied")
    for more in options_printed(end["hint"]):
        options = [*printed, *more]
        done = run(app_image, "/app/probe", "exit", "0", volumes=volumes, options=options)
        assert (done.code, done.facts("user")) == (0, [OWNER]), (more, done.stderr)


@pytest.mark.parametrize("mode", [0o750, 0o755], ids=["closed", "open"])
def test_way_out_by_chown(
    mode: int,
    base: str,
    image: str,
    others_volume: Volume,
    add_email: str,
    tmp_path: Path,
) -> None:
    """The `chown` that is printed, run on the volume, gives us all that is in the way."""
    ran = "import os; os.makedirs('/data/app.db.migrator'); os.makedirs('/data/backups', 0o700)\n"
    others_volume.python(f"{ran}os.chmod('/data', {mode})", user=1000)
    volumes = [others_volume.mount, add_email]
    end = run(image, volumes=volumes, options=["--env=MIGRATOR_WAIT_TIMEOUT=0"]).finished
    (command,) = re.findall(r"`(chown [^`]+)`", end["hint"])
    docker("run", "--rm", f"--volume={others_volume.mount}", base, "sh", "-c", command)
    assert run(image, volumes=volumes).finished["outcome"] == "migrated"
    assert history(others_volume.copy_to(tmp_path)) == ["001", "002"]


# --- PUID and PGID ----------------------------------------------------------------------

CAPABILITIES = ("--cap-add=SETUID", "--cap-add=SETGID", "--cap-add=CHOWN")


@pytest.mark.parametrize(
    "capabilities",
    [CAPABILITIES, (*CAPABILITIES, "--cap-add=DAC_OVERRIDE", "--cap-add=FOWNER")],
    ids=["the three needed", "more"],
)
def test_handed_over(
    capabilities: Sequence[str],
    app_image: str,
    used_volume: Volume,
    add_email: str,
) -> None:
    """Started as root with PUID and PGID, root's files are handed over, and root is given up."""
    used_volume.python("import os; os.chown('/data', 0, 0); os.chown('/data/app.db', 0, 0)", user=0)
    options = ["--user=0:0", *capabilities, "--env=PUID=1000", "--env=PGID=1001"]
    done = run(app_image, "/app/probe", volumes=[used_volume.mount, add_email], options=options)
    assert (done.code, done.facts("pid"), done.facts("user")) == (0, ["1"], ["1000:1001"])
    assert owners(used_volume) == {"1000:1001"}


def test_root_by_itself(image: str, volume: Volume, create_users: str) -> None:
    """
    A volume that is root's: the refusal's way out makes it the image's user's.

    One that is empty would take over the owner of the image's own /data.
    """
    script = "import os; open('/data/kept', 'w'); os.chown('/data', 0, 0); os.chmod('/data', 0o755)"
    volume.python(script, user=0)
    volumes = [volume.mount, create_users]
    refused = run(image, volumes=volumes, options=["--env=MIGRATOR_WAIT_TIMEOUT=0"])
    (printed,) = options_printed(refused.finished["hint"])
    options = [*printed, *CAPABILITIES]
    done = run(image, volumes=volumes, options=options)
    assert (refused.code, done.code, done.finished["outcome"]) == (77, 0, "created"), done.stderr
    assert owners(volume) == {f"{USER}:{USER}", "0:0"}
    assert run(image, volumes=volumes).finished["outcome"] == "up_to_date"
