"""
sqlx's own settings, as far as they say how migrations are noted and compared.

`sqlx.toml` lies at the root of a crate, beside its `migrations`; it is read there, and in the
migrations' directory, since an image often has nothing else of the crate
(`sqlx-core/src/config/migrate.rs`).
"""

from __future__ import annotations

from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.toml_file import read_toml, toml_misfit
from migrator.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILE = "sqlx.toml"


class SqlxSettings(Value):
    """What a `sqlx.toml` says: the history's table, and the characters that no checksum counts."""

    table: str | None = None
    ignored: tuple[str, ...] = ()


def has_settings(directory: Path) -> bool:
    """Tell whether there are settings of migrations: the file has others as well."""
    try:
        return "migrate" in _read(directory)
    except MisfitError:
        return True


def read_settings(directory: Path) -> SqlxSettings:
    """
    Read the settings that concern a directory of migrations.

    Raises:
        MisfitError: The file is not TOML, or asks for what is not done here.
    """
    migrate = _read(directory).get("migrate", {})
    if not isinstance(migrate, dict):
        raise toml_misfit(_FILE, "has a `migrate` that is not a table")
    others = [each for each in _texts(migrate, "create-schemas") if each not in ("main", "temp")]
    if others:
        raise toml_misfit(_FILE, f"asks for the schema {others[0]!r}, which a database here lacks")
    ignored = _texts(migrate, "ignored-chars")
    if any(len(each) != 1 for each in ignored):
        raise toml_misfit(_FILE, "has `ignored-chars` that are not one character each")
    return SqlxSettings(_table(migrate.get("table-name")), tuple(ignored))


def _read(directory: Path) -> dict[str, Any]:
    """Return the settings from the file in a directory or beside it; empty without one."""
    home = directory.absolute()
    path = next((each / _FILE for each in (home, home.parent) if (each / _FILE).exists()), None)
    return {} if path is None else read_toml(path, _FILE) or {}


def _texts(migrate: dict[str, Any], key: str) -> list[str]:
    found = migrate.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise toml_misfit(_FILE, f"has a `{key}` that is not a list of strings")
    return found


def _table(name: object) -> str | None:
    """Return the table's name as SQLite has it, without the schema `main` and without quotes."""
    if name is None:
        return None
    from migrator.parsing import sql

    words = sql.words(name, 4) if isinstance(name, str) else ()
    if len(words) == 3 and words[1] == "." and words[0].lower() == "main":
        words = words[2:]
    if len(words) != 1:
        raise toml_misfit(_FILE, f"has the `table-name` {str(name)[:100]!r}, no table of this file")
    plain = str(name).rpartition(".")[2].strip()
    return plain if plain.upper() == words[0] else words[0]
