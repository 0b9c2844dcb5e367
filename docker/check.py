"""
Say how large the image is and what its tree's digest is: `python3 docker/check.py IMAGE`.

Ends with 1 when a limit is exceeded. The digest is over names, types, modes, owners, times and
contents of everything below /opt/sqlite-entrypoint: two builds of one commit agree in it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

TREE = "opt/sqlite-entrypoint"
BLOCK = 4096
MOST_ON_DISK = 25_000_000
MOST_COMPRESSED = 10_000_000


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


def measure(stream: IO[bytes]) -> tuple[int, int, str]:
    """Return the tree's bytes on disk, its bytes as tar.gz, and its digest."""
    on_disk, digest, packed = 0, hashlib.sha256(), io.BytesIO()
    with (
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
    return on_disk, len(packed.getvalue()), digest.hexdigest()


def facts(member: tarfile.TarInfo, content: bytes) -> tuple[object, ...]:
    """Return what two builds have to agree in about one file."""
    mode, owner = member.mode & 0o7777, (member.uid, member.gid)
    what = (member.type, mode, owner, int(member.mtime), member.linkname)
    return (member.name, *what, hashlib.sha256(content).hexdigest())


def main(image: str) -> int:
    """Print the three figures, and return 1 when one is too large."""
    with exported(image) as stream:
        on_disk, compressed, digest = measure(stream)
    print(f"on disk     {on_disk / 1e6:5.1f} MB of {MOST_ON_DISK / 1e6:.0f}")
    print(f"compressed  {compressed / 1e6:5.1f} MB of {MOST_COMPRESSED / 1e6:.0f}")
    print(f"tree        sha256:{digest}")
    return int(on_disk > MOST_ON_DISK or compressed > MOST_COMPRESSED)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
