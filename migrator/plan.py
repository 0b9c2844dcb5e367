"""
Compare the files with the history: what is pending, and what conflicts.

Nothing is read here but names and versions, except where the texts of applied
migrations are compared, which is only done when something is pending.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from migrator.errors import MisfitError
from migrator.model import Applied, Conflict, Entry, Script
from migrator.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.formats.foreign import ForeignHistory
    from migrator.formats.format import Format

_MOST = 20
"""Misfits that a log line lists: Docker cuts lines of more than 16 KiB in two."""
_NAMED = 5
_LONG = 80
_ORDER = ("newer", "missing", "changed", "out-of-order", "foreign")


class Plan(Value):
    """The migrations that are pending, in order, and the misfits between files and history."""

    pending: tuple[Entry, ...]
    problems: tuple[Conflict, ...] = ()


def compare(entries: Sequence[Entry], history: Collection[Applied], fmt: Format) -> Plan:
    """
    Compare the migrations given with the history.

    Args:
        entries: All migrations, in order.
        history: All applied ones.
        fmt: What says which come after which.
    """
    done = {row.key for row in history}
    pending = tuple(entry for entry in entries if entry.key not in done)
    late = fmt.out_of_order(pending, history)
    problems = _unknown(entries, history, fmt) + _out_of_order(
        [(entry, late[entry.key]) for entry in pending if entry.key in late]
    )
    return Plan(pending, tuple(sorted(problems, key=lambda p: _ORDER.index(p.kind))))


def changed(scripts: Sequence[Script], history: Collection[Applied]) -> tuple[Conflict, ...]:
    """Return the applied migrations whose text is not the one that was applied."""
    recorded = {row.key: row.checksum for row in history}
    found = [
        script.entry
        for script in scripts
        if recorded.get(script.entry.key) not in (None, script.checksum, *script.checksums)
    ]
    was = "was changed after it" if len(found) == 1 else "were changed after they"
    message = f"{_listed([str(entry.file) for entry in found])} {was} had been applied."
    return tuple(Conflict("changed", entry.version, message) for entry in found)


def sentences(problems: Iterable[Conflict]) -> str:
    """Say what does not fit, each sentence once: those of a kind share theirs."""
    return " ".join(dict.fromkeys(problem.message for problem in problems))


def refuse_conflicts(
    problems: Collection[Conflict],
    accept: Collection[str],
    *,
    something_pending: bool,
    newer_hint: Callable[[], str],
) -> tuple[Conflict, ...]:
    """
    Raise for the misfits that forbid a start, and return those to warn about.

    With nothing pending only `newer` forbids it.

    Raises:
        MisfitError: The first of newer, missing, changed, out-of-order decides
            the reason; all are listed.
    """
    refused = [
        problem
        for problem in problems
        if problem.kind not in accept and (something_pending or problem.kind == "newer")
    ]
    if not refused:
        return tuple(problems)
    refused.sort(key=lambda problem: _ORDER.index(problem.kind))
    first = refused[0]
    listed = [_as_json(problem) for problem in refused[:_MOST]]
    data = {"problems": listed, "version": first.version}
    message = sentences(refused)
    kinds = {*accept, *(problem.kind for problem in refused)}
    accepted = ",".join(sorted(kinds, key=_ORDER.index))
    hint = newer_hint() if first.kind == "newer" else _HINTS[first.kind].format(accepted)
    raise MisfitError(message, hint=hint, reason=f"history.{first.kind}", data=data)


def refuse_foreign(
    found: ForeignHistory,
    entries: Sequence[Entry],
    baseline: Callable[[str], str],
    fmt: str | None,
) -> None:
    """
    Raise for a database that has another tool's history and none of ours.

    Args:
        found: The other history.
        entries: Our migrations, to find the one that matches its version.
        baseline: Returns `migrator baseline VERSION` as it is spelled here.
        fmt: Whose the migrations are.

    Raises:
        MisfitError: Nothing may be applied twice.
    """
    raise MisfitError(
        told_foreign(found),
        hint=foreign_hint(found, entries, baseline, fmt),
        reason="history.foreign",
        data={"version": found.version or ""},
    )


def foreign_hint(
    found: ForeignHistory,
    entries: Sequence[Entry],
    baseline: Callable[[str], str],
    fmt: str | None,
) -> str:
    """
    Say how to take over, or accept, another tool's history, for `refuse_foreign`.

    A history of ours is read with the format that is ours: `fmt` is the one that was found.
    """
    accept = "accept it with `--accept foreign` (MIGRATOR_ACCEPT=foreign)"
    if found.ours:
        ours = f"`--history-table {found.table}` (MIGRATOR_HISTORY_TABLE={found.table})"
        if fmt != "native":
            ours = f"`--format native --history-table {found.table}` (MIGRATOR_FORMAT=native)"
        return f"Set {ours}; to begin a second history, {accept}."
    version = _same_version(found.version, entries)
    where = f"where {version} is the last migration whose changes the database has"
    if version is None:
        span = " to ".join(dict.fromkeys((entries[0].identity, entries[-1].identity)))
        where = (
            "with the last migration whose changes the database has in the place of VERSION"
            f" (here are {span})"
        )
    return (
        f"Take it over with `{baseline(version or 'VERSION')}`, {where}; then start again."
        f" Where it says nothing of these migrations, {accept}."
    )


def told_foreign(found: ForeignHistory) -> str:
    """Say what another history is, and its last version."""
    at = f" at version {found.version}" if found.version else ""
    end = "nothing may be applied twice."
    if found.ours:
        return (
            f"The database has a history of ours in the table {found.table!r}{at},"
            f" which is not the table of the migrations given: {end}"
        )
    if found.table is None:
        return (
            f"The database has tables and the `user_version` {found.version}, by which other tools"
            f" and applications count migrations, and no history of ours: {end}"
        )
    of = f"a migration history of {found.tool}" if found.tool else "what looks like a history"
    return f"The database has {of} (table {found.table!r}){at} and none of ours: {end}"


_HINTS = {
    "missing": ("Bring the files back, or accept it with `--accept {0}` (MIGRATOR_ACCEPT={0})."),
    "changed": (
        "Undo the change and put it into a new migration,"
        " or accept it with `--accept {0}` (MIGRATOR_ACCEPT={0})."
    ),
    "out-of-order": (
        "Give the new migration a version above the highest applied one,"
        " or accept it with `--accept {0}` (MIGRATOR_ACCEPT={0})."
    ),
}
"""What to do by the kind that decides; 0 is all that has to be accepted then."""


def _unknown(entries: Sequence[Entry], history: Collection[Applied], fmt: Format) -> list[Conflict]:
    """Return the applied migrations that are not among the ones given."""
    known = {entry.key for entry in entries}
    newer = fmt.newer(entries, history)
    unknown = [row for row in history if row.key not in known]
    return _newer([row for row in unknown if row.key in newer], entries) + _missing(
        [row for row in unknown if row.key not in newer]
    )


def _out_of_order(late: Sequence[tuple[Entry, Applied]]) -> list[Conflict]:
    found = []
    for above in dict.fromkeys(row.version for _, row in late):
        entries = [entry for entry, row in late if row.version == above]
        files = _listed([str(entry.file) for entry in entries])
        are = "is" if len(entries) == 1 else "are"
        message = f"{files} {are} pending, and lower than {above}, which has been applied."
        found += [Conflict("out-of-order", entry.version, message) for entry in entries]
    return found


def _newer(rows: Sequence[Applied], entries: Sequence[Entry]) -> list[Conflict]:
    ours = "there are no migrations here"
    if entries:
        ours = f"the highest migration here is {entries[-1].identity}"
    labels = [_label(row) for row in rows]
    has = _listed(labels)
    if len(rows) > _NAMED:
        has = f"{_cut(labels[0])} to {_cut(labels[-1])}"
    message = f"The database is newer than this image: it has {has}, and {ours}."
    return [Conflict("newer", row.identity, message) for row in rows]


def _missing(rows: Sequence[Applied]) -> list[Conflict]:
    verb, they = ("has", "is") if len(rows) == 1 else ("have", "are")
    labels = _listed([_label(row) for row in rows])
    message = f"{labels} {verb} been applied and {they} not among the migrations here."
    return [Conflict("missing", row.identity, message) for row in rows]


def _listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: the first ones, and how many more."""
    first = [_cut(name) for name in names[:_NAMED]]
    if len(names) > _NAMED:
        return f"{', '.join(first)} and {len(names) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(first[:-1]), *first[-1:])))


def _cut(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[:_LONG]}…"


def _label(row: Applied) -> str:
    named = type(row.key) is tuple and row.name in row.key
    if named or row.name in ("", row.key, row.version):
        return row.identity
    return f"{row.version}_{row.name}"


def _same_version(version: str | None, entries: Sequence[Entry]) -> str | None:
    """Return our version that equals another tool's, or None."""
    from migrator.parsing.file_names import version_key

    number = re.match(r"[Vv]?([0-9]+(?:\.[0-9]+)*)(?=_|\Z)", version or "")
    wanted = version_key(number[1]) if number is not None else None
    for entry in entries:
        if wanted is not None and entry.key == wanted:
            return entry.version
    return None


def _as_json(problem: Conflict) -> dict[str, str]:
    return {"kind": problem.kind, "version": problem.version, "message": problem.message}
