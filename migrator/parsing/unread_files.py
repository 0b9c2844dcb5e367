"""
Judge the files in a migrations directory that are not read: skip or refuse them.

By names only, and imported only if there are such files. A silently skipped migration is
noticed in production, so anything that looks like a migration (a number, SQL, or a
directory of either) is an error that says what to do. No advice turns an undo script into
an upgrade.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from itertools import islice, pairwise
from pathlib import Path
from shlex import quote

from migrator.model import Entry
from migrator.parsing.file_names import LEFTOVER, LOST_AND_FOUND, is_half, split_name, version_key

_LOWER = frozenset(
    {"down", "downs", "undo", "rollback", "rollbacks", "revert", "reverts", "reverse"}
    | {"backward", "backwards", "downgrade", "teardown", "unapply"}
)
_DOCUMENT = re.compile(
    r"(?!.*\.sql\.).*\.(?:md|markdown|txt|rst|adoc|html?|pdf)", re.IGNORECASE | re.DOTALL
)
_SQL = re.compile(r".*\.(?:sql|ddl|psql)(?:\.[\w-]+)*\s*", re.IGNORECASE | re.DOTALL)
_PYTHON = re.compile(r".*\.py\s*", re.IGNORECASE | re.DOTALL)
_PROGRAM = re.compile(
    r".*\.(?:[cm]?[jt]s|rb|php|exs?|go|java|kts?|groovy|cs|vb|fs|pl|lua|rs|sh|bash|ps1|clj|edn"
    r"|scala|hs|swift|dart|cr|jl|ml|coffee|cfc|erl)\s*",
    re.IGNORECASE | re.DOTALL,
)
_MARKUP = re.compile(r".*\.(?:xml|ya?ml|json|toml)\s*", re.IGNORECASE | re.DOTALL)
_NUMBERED = re.compile(r"\s*[0-9]+(?:[._\-\s].*|\Z)", re.DOTALL)
_LETTERED = re.compile(
    r"(?:[a-z]|version|migrations?|migrate|patch|update|upgrade|step|rev|revision|change|changeset"
    r"|release|schema|db)[._-]?[0-9]{1,}(?![a-z]).*|.*[0-9]{8,}.*",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)*)")
_OURS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)*)(.*)\.(py|sql)\s*", re.IGNORECASE | re.DOTALL)
_FLYWAY = re.compile(r"(?:([VUB])([0-9][0-9._]*)|R)__(.+)\.sql", re.IGNORECASE | re.DOTALL)
_ALEMBIC = re.compile(r"(?=[0-9]*[a-f])[0-9a-f]{12}_.*\.py", re.DOTALL)
_TOLD = re.compile(r"migrat|change-?(?:log|set)", re.IGNORECASE)
_DUMPS = frozenset({"schema.sql", "structure.sql"})
"""Whole schemas that other tools write beside the migrations."""

_HELPERS = re.compile(
    r"(?:.*[_-])?(?:helpers?|utils?|common|conftest|env|setup|base|runner|migrate|manage)\.py",
    re.IGNORECASE,
)
_NO_MIGRATIONS = frozenset(
    {"fixture", "fixtures", "test", "tests", "testdata", "data", "seed", "seeds", "meta"}
    | {"sample", "samples", "example", "examples", "snapshot", "snapshots", "archive"}
    | {"doc", "docs", "templates"}
)
_PASSED_OVER = frozenset({LOST_AND_FOUND, "node_modules", "venv"})
_DEPTH = 4
_MOST = 1000
"""At most so many names of a directory are looked at."""


def troubles(
    path: Path, items: Sequence[os.DirEntry[str]], read: Collection[Entry]
) -> list[tuple[str, str]]:
    """
    Tell what is wrong with the other names in a migrations directory.

    Args:
        path: The directory.
        items: Its entries, without the migrations and without editors' leftovers.
        read: The migrations.

    Returns:
        Each name that looks like a migration's, with what is wrong and what to do.
    """
    names = {item.name for item in items} | {str(entry.file) for entry in read}
    look = _Look(path, frozenset(names), tuple(read))
    found = ((item.name, look.trouble(item)) for item in sorted(items, key=lambda each: each.name))
    return [(name, trouble) for name, trouble in found if trouble is not None]


def undoes(name: str) -> bool:
    """Tell whether a name says that its script undoes an upgrade."""
    flyway = _FLYWAY.fullmatch(name)
    if flyway is not None and (flyway[1] or "").upper() == "U":
        return True
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    pairs = {first + second for first, second in pairwise(words)}
    return not _LOWER.isdisjoint(words) or "rollback" in pairs


class _Look:
    """One look at a directory's entries beside its migrations."""

    def __init__(self, path: Path, names: frozenset[str], read: tuple[Entry, ...]) -> None:
        self.path = path
        self.names = names
        self.read = read
        self.keys = {entry.key for entry in read}
        self.scripts = {entry.key for entry in read if str(entry.file).endswith(".py")}
        """The versions whose own code may read a file beside it."""

    def trouble(self, item: os.DirEntry[str]) -> str | None:
        """Tell what is wrong with a name, None if it is clearly not a migration's."""
        name = item.name
        # From the harmless to the specific: the first kind that fits decides.
        if name in _PASSED_OVER or _DOCUMENT.fullmatch(name):
            return None
        if _is_directory(item):
            return self._directory(item)
        if is_half(name) or (undoes(name) and _is_script(name) and _has_number(name)):
            return _half(name)
        if _SQL.fullmatch(name):
            return self._sql(name)
        if _PYTHON.fullmatch(name):
            return self._python(name)
        return self._other(name)

    # --- files --------------------------------------------------------------

    def _sql(self, name: str) -> str | None:
        # Beside migrations a dump is a by-product; alone it may be all that there is to run.
        if self.read and name.lower() in _DUMPS:
            return None
        flyway = _FLYWAY.fullmatch(name)
        if flyway is not None and (not undoes(name) or name[0] in "Uu"):
            return self._flyway(flyway)
        if _OURS.fullmatch(name):
            return f"is not named NUMBER_NAME.py or NUMBER_NAME.sql; {self._advice(name)}"
        what = "is SQL, and not named NUMBER_NAME.sql"
        if not name.strip().lower().endswith(".sql"):
            return f"{what}; write it as such a file, or rename it to {'_' + name.strip()!r}"
        if undoes(name):
            return f"{what}; {_below(name)}"
        return f"{what}; {_place_in_order(name)}"

    def _python(self, name: str) -> str | None:
        if _ALEMBIC.fullmatch(name):
            return (
                "is named as a revision of Alembic's, which is code for Alembic alone;"
                f" rename it to {'_' + name!r} if it is not to be run here"
            )
        if _NUMBERED.match(name) or _OURS.fullmatch(name):
            return f"is not named NUMBER_NAME.py or NUMBER_NAME.sql; {self._advice(name)}"
        if _LETTERED.fullmatch(name.rpartition(".")[0]):
            return f"is not named NUMBER_NAME.py; {_place_in_order(name)}"
        # Beside migrations, other modules are their helpers.
        if self.read or _HELPERS.fullmatch(name):
            return None
        return (
            "is not named NUMBER_NAME.py, and nothing here is; a registry is named by its file:"
            f" `--migrations {quote(str(self.path / name))}`"
        )

    def _other(self, name: str) -> str | None:
        """Judge a file that is neither SQL nor Python."""
        numbered = _NUMBERED.match(name) is not None
        if _PROGRAM.fullmatch(name):
            if not (numbered or _LETTERED.fullmatch(name.rpartition(".")[0]) or not self.read):
                return None
        elif _MARKUP.fullmatch(name):
            told = not self.read and _TOLD.search(name) is not None
            if not (numbered or told) or self._belongs(name):
                return None
        elif "." in _NUMBER.sub("", name) or not numbered:
            return None
        return (
            "looks like another tool's migration, and is not read here;"
            " write it as NUMBER_NAME.sql or NUMBER_NAME.py,"
            f" or rename it to {'_' + name.strip()!r} if it is not a migration"
        )

    def _flyway(self, found: re.Match[str]) -> str:
        kind, rest = (found[1] or "R").upper(), found[3]
        if kind == "U":
            return f"is an undo script as Flyway names them; {_below(found[0])}"
        if kind == "R":
            return (
                "is run by Flyway whenever it changes; make each change a migration of its own,"
                f" such as {f'NUMBER_{rest}.sql'!r}"
            )
        if kind == "B":
            return (
                "is a baseline as Flyway names them: what its migrations up to there have made,"
                f" at once; rename it to {'_' + found[0]!r} where they are here"
            )
        number = found[2].replace("_", ".").strip(".")
        return f"is named as Flyway does; {self._rename(found[0], number, f'{rest}.sql')}"

    def _advice(self, name: str) -> str:
        """Return the name that was probably meant, or how to have the file ignored."""
        match = _OURS.fullmatch(name)
        if undoes(name):
            return _below(name)
        rest = re.sub(r"[^\w.]+", "_", match[2]).strip("_.") if match is not None else ""
        if match is None or not rest:
            return "give it a name behind its number, as in '001_create_users.sql'"
        return (
            self._rename(name, match[1], f"{rest}.{match[3].lower()}")
            + f", or to {'_' + name.strip()!r} if it is not a migration"
        )

    def _rename(self, name: str, number: str, rest: str) -> str:
        """Propose a new name with a new version."""
        meant = f"{number}_{rest}"
        free = meant not in self.names and version_key(number) not in self.keys
        if not free or is_half(meant) or name == meant:
            return f"version {number} exists already: rename it to {f'NUMBER_{rest}'!r}"
        return f"rename it to {meant!r}"

    def _belongs(self, name: str) -> bool:
        """Tell whether a file has the number of a Python migration, which may read it."""
        found = _NUMBER.match(name)
        return found is not None and version_key(found[1]) in self.scripts

    # --- directories --------------------------------------------------------

    def _directory(self, item: os.DirEntry[str]) -> str | None:
        name = item.name
        if split_name(name) is not None:
            return "has a migration's name but is a directory; rename or remove it"
        if self.read and (name.lower() in _NO_MIGRATIONS or undoes(name) or self._belongs(name)):
            return None
        try:
            inside = self._inside(Path(item.path), name, _DEPTH)
        except OSError as error:
            return f"is a directory that cannot be listed ({error.strerror}); repair it"
        if inside is None:
            return None
        what = f"is a directory with what looks like a migration ({inside!r}), which is not read"
        inner = Path(inside)
        if not self.read and split_name(inner.name) and not _numbered(inner.parent):
            return f"{what}; name it: `--migrations {quote(str(self.path / inner.parent))}`"
        return (
            f"{what}; make each a file of this directory, NUMBER_NAME.sql, what upgrades below"
            " `-- migrate:up` and what undoes it below `-- migrate:down`, or rename it to"
            f" {'_' + name!r} if it holds none"
        )

    def _inside(self, path: Path, told: str, depth: int) -> str | None:
        """Return the first name below a directory that looks like a migration's."""
        with os.scandir(path) as items:
            found = sorted(islice(items, _MOST), key=lambda each: each.name)
        for item in found:
            name = item.name
            if re.fullmatch(LEFTOVER, name) or name in _PASSED_OVER or _DOCUMENT.fullmatch(name):
                continue
            below = f"{told}/{name}"
            if not _is_directory(item):
                if self._counts(below):
                    return below
            elif depth > 1:
                deeper = self._inside(Path(item.path), below, depth - 1)
                if deeper is not None:
                    return deeper
        return None

    def _counts(self, below: str) -> bool:
        """Tell whether a file in a directory looks like a migration, but not one in Python."""
        name = below.rpartition("/")[2]
        if not _is_script(name):
            return False
        if not self.read:
            return not _HELPERS.fullmatch(name)
        if _numbered(Path(below)):
            return not self._belongs(name)
        stem = name.rpartition(".")[0]
        told = _LETTERED.fullmatch(stem) or _ALEMBIC.fullmatch(name)
        return told is not None or (_SQL.fullmatch(name) is not None and not self.scripts)


def _numbered(path: Path) -> bool:
    return any(_NUMBERED.match(part) for part in path.parts)


def _is_directory(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False


def _is_script(name: str) -> bool:
    return any(kind.fullmatch(name) for kind in (_SQL, _PYTHON, _PROGRAM))


def _has_number(name: str) -> bool:
    return _NUMBERED.match(name) is not None


def _half(name: str) -> str:
    if undoes(name):
        return f"is an undo script by its name; {_below(name)}"
    return (
        "is half of a pair; make it one file, NUMBER_NAME.sql,"
        " with the sections `-- migrate:up` and `-- migrate:down`"
    )


def _below(name: str) -> str:
    return (
        "what undoes a migration belongs into the same file, NUMBER_NAME.sql with"
        " the sections `-- migrate:up` and `-- migrate:down` (in Python, as its `down(conn)`);"
        f" rename this one to {'_' + name.strip()!r} or remove it"
    )


def _place_in_order(name: str) -> str:
    stem = re.sub(r"[^\w.]+", "_", name.strip())
    return (
        f"rename it to {f'NUMBER_{stem}'!r} with its place in the order,"
        f" or to {'_' + name.strip()!r} if it is not a migration"
    )
