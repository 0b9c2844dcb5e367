"""
Other things than files: links, pipes, sockets, devices and directories in every place that is ours.

Beside the volume lies `outside/`, which whoever writes the volume may not read:
no command may change it, or show what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.corpus.case import SECRET, Case
from tests.corpus.place import DATABASE, IDENTITY, JOURNAL, STATE, WAL, Files, backup_of, sound
from tests.support.files import make_database

OUTSIDE = "outside/secret"

REFUSED = frozenset({0, 64, 65, 69, 73, 77, 78, 80, 82})
"""What it may end in; 0 where what stands there is in nobody's way."""

HOME = "data/app.db.migrator"


def places(files: Files) -> dict[str, str]:
    """Return every place of ours, by what it is."""
    backup = backup_of(files)
    hidden = backup.replace("backups/", "backups/.")
    return {
        "the database": DATABASE,
        "the -wal": WAL,
        "the -journal": JOURNAL,
        "the -shm": f"{DATABASE}-shm",
        "our directory": HOME,
        "the lock": f"{HOME}/lock",
        "state.json": STATE,
        "state.json while it is written": f"{HOME}/.state.json.tmp",
        "our .gitignore": f"{HOME}/.gitignore",
        "the work copy": f"{HOME}/work.db",
        "the id's directory": f"{HOME}/identity",
        "the id": IDENTITY,
        "the id while it is written": f"{HOME}/identity/.id.tmp",
        "the new database": f"{HOME}/new.db",
        "the failed database": f"{HOME}/failed",
        "the backup directory": "data/backups",
        "a backup": backup,
        "a backup's description": f"{backup}.json",
        "a backup under way": f"{hidden}.partial",
        "a description under way": f"{hidden}.json.partial",
    }


def _link_to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


KINDS: dict[str, Callable[[Path], object]] = {
    "a link to somebody else's file": lambda path: path.symlink_to(_base(path) / OUTSIDE),
    "a link to somebody else's directory": lambda path: path.symlink_to(_base(path) / "outside"),
    "a link to nowhere outside": lambda path: path.symlink_to(_base(path) / "outside/new"),
    "a link to nowhere": _link_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": _link_to("/dev/zero"),
    "a link to a named pipe": lambda path: path.symlink_to(_base(path) / "outside/pipe"),
    "a named pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "a directory": lambda path: path.mkdir(),
    "a directory with something in it": lambda path: (path / "x").mkdir(parents=True),
    "a file of somebody else's text": lambda path: path.write_text("not ours\n"),
}


def entry_cases(seed: str) -> Iterator[Case]:
    """Yield volumes with each kind of thing in each place."""
    del seed
    files = {**sound("plain"), OUTSIDE: f"{SECRET}\n".encode() * 50}
    fresh = {name: data for name, data in files.items() if not name.startswith("data/")}
    for place, name in places(files).items():
        for kind, make in KINDS.items():
            title = f"{kind} in place of {place}"
            yield Case(title, files, REFUSED, _put(name, make), recovers=True)
            if name.startswith(HOME):
                after = _put(name, make)
                yield Case(f"first install, {title}", fresh, REFUSED, after, recovers=True)


def linked_backup_cases(seed: str) -> Iterator[Case]:
    """Yield volumes on which a link to somebody else's database passes for a backup."""
    del seed
    files = sound("plain")
    name = backup_of(files)
    facts = json.loads(files[f"{name}.json"])
    theirs = _database_of_somebody_else()
    noted = {**facts, "bytes": len(theirs), "sha256": hashlib.sha256(theirs).hexdigest()}
    whole = {**files, OUTSIDE: theirs, f"{name}.json": json.dumps(noted).encode()}
    link = _put(name, lambda path: path.symlink_to(_base(path) / OUTSIDE))
    none = {key: data for key, data in whole.items() if key != DATABASE}
    for title, each in (
        ("", whole),
        (", the database damaged", {**whole, DATABASE: b"no database\n" * 99}),
        (", no database", none),
    ):
        yield Case(f"a link that passes for a backup{title}", each, REFUSED, link, recovers=True)


def _database_of_somebody_else() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        script = f"CREATE TABLE t (x); INSERT INTO t VALUES ('{SECRET}')"
        return make_database(Path(directory, "theirs.db"), script).read_bytes()


def _put(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def act(base: Path) -> None:
        path = base / name
        os.mkfifo(base / "outside/pipe")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        make(path)

    return act


def _base(path: Path) -> Path:
    """Return the directory that the volume lies in."""
    return next(parent.parent for parent in path.parents if parent.name == "data")
