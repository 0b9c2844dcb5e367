"""What the formats share whose migrations are known by the name of a file or of a directory."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from migrator.formats.tool import Tool
from migrator.model import Applied
from migrator.parsing.directory import no_file, scan
from migrator.parsing.file_names import LOST_AND_FOUND

TYPE_CHECKING = False

_NUMBERED = re.compile(r"([0-9]+)_(.+)", re.DOTALL)


class Named(Tool):
    """
    Migrations whose whole name is their key: `0001_users`.

    VERSION of a command is that name, or its number where only one has it.
    """

    def key(self, text: str) -> str:
        """Return the name that VERSION means."""
        entries = self.entries()
        if any(entry.key == text for entry in entries):
            return text
        return next((str(entry.key) for entry in entries if entry.version == text), text)

    def key_of(self, version: str | None, name: str) -> str:
        """Return the whole name again."""
        return name if version == name else f"{version}_{name}"


def split(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """
    Return the number and the rest of each name.

    A name without a number, or with one that another has too, is both.
    """
    found = {name: _NUMBERED.fullmatch(name) for name in names}
    often = Counter(match[1] for match in found.values() if match is not None)
    return {
        name: (name, name) if match is None or often[match[1]] > 1 else (match[1], match[2])
        for name, match in found.items()
    }


def applied(key: str, at: str | None = None, checksum: str | None = None) -> Applied:
    """Return the row of a name; with a file it is called as that file is."""
    return Applied(key, key, key, at, checksum)


def folders(path: Path, file: str) -> list[tuple[str, Path, str | None]]:
    """
    Return the directories of a directory in the order of their names, hidden ones left out.

    Returns:
        Name, the path of the file in it, and why that is not a readable file, or None.
    """
    home = path.absolute()
    found = []
    for item in sorted(scan(path), key=lambda each: each.name):
        hidden = item.name.startswith(".") or item.name == LOST_AND_FOUND
        if hidden or not os.path.isdir(item.path):
            continue
        inside = home / item.name / file
        there = next((each for each in scan(home / item.name) if each.name == file), None)
        found.append((item.name, inside, "is not there" if there is None else no_file(there)))
    return found


def spelled_checksums(source: bytes) -> tuple[str, ...]:
    """Return the SHA-256 of a file as it is and with other line endings."""
    spelled = (source, source.replace(b"\r\n", b"\n"), source.replace(b"\n", b"\r\n"))
    return tuple(hashlib.sha256(each).hexdigest() for each in spelled)
