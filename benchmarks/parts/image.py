"""The image: what a container's start costs with it, and how large it is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.material import database_of_tables, fresh, small_migrations
from benchmarks.parts.tree import image_id
from benchmarks.race import Way, succeed
from benchmarks.results import OURS, Curve, Figure, Goal, Row
from benchmarks.venvs import ROOT

WITHOUT = "the same container without it"
BASES = ("debian:trixie-slim", "debian:bookworm-slim")
TAG = "sqlite-entrypoint-benchmark"

DOCKERFILE = """\
FROM {base}
COPY --from={image} /opt/sqlite-entrypoint /opt/sqlite-entrypoint
ENTRYPOINT ["/opt/sqlite-entrypoint/bin/entrypoint"]
"""


def docker(bench: Bench) -> Iterator[Row | Curve]:
    """Measure `docker run` of `true` with the entrypoint and without it."""
    number, runs = bench.size(100, 5), bench.times(11)
    work = f"`docker run` of `true`, nothing pending, {number:,} applied"
    try:
        image_id(bench.image)
        base = _base()
    except LookupError as error:
        yield Row("docker", work, {}, "s", WITHOUT, Goal(1.15), runs, str(error))
        return
    build = ["docker", "build", "--quiet", "--tag", TAG, "-"]
    text = DOCKERFILE.format(base=base, image=bench.image)
    succeed(build, text)
    try:
        figures = bench.race(_ways(bench, number), runs)
    finally:
        succeed(["docker", "image", "rm", TAG])
    yield Row("docker", work, figures, "s", WITHOUT, Goal(1.15), runs)


def _ways(bench: Bench, number: int) -> list[Way]:
    """Return both containers, on a database to which that many migrations are applied."""
    place = bench.place("docker")
    database = fresh(place / "data", database_of_tables(bench.directory / "one-table.db", 1))
    files = bench.ours.lay_out(place / "migrations", small_migrations(number))
    options = ["--rm", "--network=none", f"--volume={database.parent}:/data"]
    options += [f"--volume={files}:/migrations:ro", "--env=MIGRATOR_MIGRATIONS=/migrations"]
    run = ["docker", "run", *options, "--env=MIGRATOR_DATABASE=/data/app.db"]
    succeed([*run, TAG, "true"])
    return [
        Way(WITHOUT, [*run, "--entrypoint=true", TAG]),
        Way(OURS, [*run, TAG, "true"]),
    ]


def _base() -> str:
    """Return an image that is here and that an application may start from."""
    for base in BASES:
        if not subprocess.run(
            ["docker", "image", "inspect", base], capture_output=True, check=False
        ).returncode:
            return base
    msg = f"needs one of the images {', '.join(BASES)}"
    raise LookupError(msg)


def image(bench: Bench) -> Iterator[Row | Curve]:
    """Measure the image, on disk and compressed (`docker/check.py`)."""
    goals = {"on disk": Goal(25), "compressed": Goal(10)}
    peers = r"^  (\S+) \S+ +([\d.]+) MB, +([\d.]+) MB compressed"
    missing, said = "", ""
    try:
        image_id(bench.image)
        check = [sys.executable, str(ROOT / "docker/check.py"), bench.image]
        said = subprocess.run(check, capture_output=True, text=True, check=False).stdout
    except LookupError as error:
        missing = str(error)
    for what, goal in goals.items():
        figures: dict[str, Figure] = {}
        for size in re.findall(rf"^{what} +([\d.]+) MB", said, re.MULTILINE):
            figures[OURS] = float(size)
            for name, *both in re.findall(peers, said, re.MULTILINE):
                figures[f"{name} alone"] = float(both[what == "compressed"])
        key, work = f"image-{what.replace(' ', '-')}", f"the image, {what}"
        why = missing or ("" if figures else "docker/check.py did not say")
        yield Row(key, work, figures, "MB", "", goal, 1, why)
