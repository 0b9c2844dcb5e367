"""Applications with migrations of their own: a database of an old release, and the new one's command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.formats.support import content
from tests.support.files import make_database, rows
from tests.support.processes import Result, run_migrator

OLD = Path(__file__).with_name("applications")

APPLICATIONS = {
    "jupyterhub": (
        ["jupyterhub==5.2.1"],
        "jupyterhub-3.1.1",
        "jupyterhub upgrade-db --JupyterHub.db_url={url}",
        ("SELECT version_num FROM alembic_version", [("651f5419b74d",)], [("4621fec11365",)]),
        "SELECT name, admin FROM users ORDER BY name",
    ),
    "optuna": (
        ["optuna==4.5.0"],
        "optuna-2.10.1",
        "optuna storage upgrade --storage {url}",
        ("SELECT version_num FROM alembic_version", [("v2.6.0.a",)], [("v3.2.0.a",)]),
        "SELECT trial_id, number, state FROM trials ORDER BY trial_id",
    ),
}
"""What is installed, the old database, the command, how its history moves, and what stays."""


def installed_application(directory: Path, packages: list[str]) -> Path:
    """Install a release into an environment of its own, and return its `bin`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    # Only what is imported is compiled, and then.
    pip = [sys.executable, "-m", "pip", "--python", directory, "install", "--no-compile"]
    options = ["--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *options, *packages], capture_output=True, text=True, check=False)
    if done.returncode != 0 and os.environ.get("CI") != "true":
        pytest.skip(f"{packages[0]} cannot be installed here")
    assert done.returncode == 0, done.stderr
    return directory / "bin"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_new_release_brings_an_old_ones_database_up(tmp_path: Path, name: str) -> None:
    """Through us, with its rows kept; then its own command finds nothing to do."""
    packages, old, command, (query, before, after), kept = APPLICATIONS[name]
    programs = installed_application(tmp_path / "env", packages)
    database = make_database(tmp_path / "data" / "app.db", (OLD / f"{old}.sql").read_text())
    assert rows(database, query) == before
    wanted = rows(database, kept)

    def up(*options: str) -> Result:
        return run_migrator(
            "up",
            "--database",
            database,
            "--migrate-command",
            command,
            *options,
            env={"PATH": f"{programs}:{os.environ['PATH']}"},
        )

    done = up("--app-version", "new")
    assert (done.code, done.finished["outcome"]) == (0, "migrated"), done.finished
    assert rows(database, query) == after
    assert rows(database, kept) == wanted
    assert up("--app-version", "new").finished["outcome"] == "up_to_date"
    there = content(database)
    done = up("--app-version", "newer")
    assert (done.code, done.finished["outcome"]) == (0, "up_to_date"), done.finished
    assert content(database) == there
    left = {path.name for path in (tmp_path / "data" / "app.db.migrator").iterdir()}
    assert not {each for each in left if each.startswith("work")}
    shutil.rmtree(programs.parent)
