"""
Draw the pictures of docs/rehearse.md: the example's upgrade rehearsed, and one that would fail.

    python -m examples.app.rehearsal docs

The pages are those of `migrator rehearse --html`, on the database of the last release, as headless
Chromium shows their beginning (`apt-get install chromium`). Two pictures differ in times only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from examples.app.demo import FAILING, MIGRATIONS, environment, make_old_database

WIDTH, HEIGHT = 1100, 1000
"""Pixels of a picture: the beginning of the page, with what is lost and the timeline."""
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def main() -> int:
    """Write the pictures to the directory that is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("directory", type=Path, help="where the pictures go, such as docs")
    directory: Path = parser.parse_args().directory
    with tempfile.TemporaryDirectory() as place:
        for page in pages(Path(place).resolve()):
            draw(page, directory / f"{page.stem}.png")
    return 0


def pages(root: Path) -> tuple[Path, Path]:
    """Rehearse the upgrade, and one with a migration that fails; return both pages."""
    database = root / "data" / "library.db"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        make_old_database(database)
    failing = Path(shutil.copytree(MIGRATIONS, root / "failing"))
    (failing / "010_archive_old_loans.sql").write_text(FAILING, encoding="utf-8")
    return (
        rehearse(database, MIGRATIONS, root / "rehearsal.html", code=0),
        rehearse(database, failing, root / "rehearsal-failing.html", code=80),
    )


def rehearse(database: Path, migrations: Path, page: Path, *, code: int) -> Path:
    """Write the page of a rehearsal, which has to end with that code, and return its path."""
    migrator = Path(sys.executable).with_name("migrator")
    options = ("--html", page, "--database", database, "--migrations", migrations)
    done = subprocess.run(
        [migrator, "rehearse", *options],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != code:
        msg = f"The rehearsal ended with {done.returncode} instead of {code}:\n{done.stderr}"
        raise RuntimeError(msg)
    # As the volume of a container has it.
    text = page.read_text(encoding="utf-8").replace(f"{database.parents[1]}/", "/")
    page.write_text(text, encoding="utf-8")
    return page


def draw(page: Path, picture: Path) -> None:
    """Write a picture of the beginning of a page."""
    program = shutil.which("chromium")
    if program is None:
        msg = "chromium is not here: apt-get install chromium"
        raise FileNotFoundError(msg)
    told = (
        f"--user-data-dir={page.with_suffix('.profile')}",
        f"--window-size={WIDTH},{HEIGHT}",
        f"--screenshot={picture.resolve()}",
    )
    subprocess.run(
        [program, *FLAGS, *told, page.as_uri()],
        env={**os.environ, "HOME": str(page.parent)},
        capture_output=True,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
