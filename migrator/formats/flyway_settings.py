"""What `V1__name.sql.conf` says of a migration of Flyway's."""

from __future__ import annotations

from migrator.errors import MisfitError
from migrator.model import Entry
from migrator.parsing.directory import misfit
from migrator.parsing.scripts import text_of
from migrator.value import Value, replace

_KNOWN = "executeInTransaction, encoding and placeholderReplacement"


class FlywaySettings(Value):
    """Whether a transaction was asked for (None: not said), and placeholders are replaced."""

    transactional: bool | None = None
    placeholders: bool = True


def settings_of(entry: Entry) -> FlywaySettings:
    """
    Read the settings beside a migration; without such a file the defaults hold.

    Raises:
        MisfitError: One of them is not known, or is not done here.
    """
    assert entry.path is not None  # noqa: S101 - told to the type checker
    path = entry.path.with_name(f"{entry.path.name}.conf")
    if not path.exists():
        return FlywaySettings()
    conf = replace(entry, path=path, shown=f"{entry.file}.conf")
    found = FlywaySettings()
    for number, line in enumerate(text_of(conf).splitlines(), 1):
        if line.strip() and not line.lstrip().startswith(("#", "!")):
            found = _with(found, conf, number, line)
    return found


def _with(found: FlywaySettings, conf: Entry, number: int, line: str) -> FlywaySettings:
    name, _, value = (part.strip() for part in line.partition("="))
    name = name.removeprefix("flyway.")
    if name == "executeInTransaction" and value.lower() in ("true", "false"):
        return replace(found, transactional=value.lower() == "true")
    if name == "placeholderReplacement" and value.lower() in ("true", "false"):
        return replace(found, placeholders=value.lower() == "true")
    if name == "encoding":
        if value.upper() in ("UTF-8", "UTF8", "US-ASCII", "ASCII"):
            return found
        raise _bad(conf, number, f"the encoding {value!r} is not read.", "Save it as UTF-8.")
    if name == "shouldExecute":
        what = "`shouldExecute` asks for things outside the database, which is not done here."
        raise _bad(conf, number, what, "Take it out, or the migration.", "migrations.other_tool")
    raise _bad(
        conf, number, f"{line.strip()[:100]!r} is not a known setting.", f"Known are {_KNOWN}."
    )


def _bad(
    conf: Entry, line: int, message: str, hint: str, reason: str = "migrations.directive"
) -> MisfitError:
    return misfit(conf, message, hint=hint, reason=reason, line=line)
