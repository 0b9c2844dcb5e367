"""The note of a run in `state.json`, by which the next start recovers from it."""

from __future__ import annotations

from contextlib import suppress

from migrator.access import read_small
from migrator.errors import MisfitError
from migrator.files import fsync_directory, unlink, write_atomic
from migrator.terminal import quote
from migrator.value import EMPTY, Value, as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, Final

    from migrator.files import Ownership
    from migrator.model import Applied

FORMAT: Final = 2
"""The latest: 2 marks a restore, which an earlier version would finish without looking."""
PHASES: Final = ("prepare", "backup", "migrate", "commit", "publish", "restore", "restored")
RESTORING: Final = ("restore", "restored")
"""The phases of a restore whose pages are being written, or are committed."""
FOUND: Final = ("pages", "file", "nothing")
"""What a restore replaces: a database, another file, or no file at all."""
JOURNAL_MODES: Final = (None, "delete", "truncate", "persist", "wal")
"""The journal modes that may be put back; a noted mode becomes part of a pragma."""
_LARGEST = 1 << 20


class RunState(Value):
    """
    One run as it was when it last wrote.

    Args:
        run_id: The run's id, which its history rows carry too.
        phase: One of `PHASES`.
        since: When the phase began, ISO 8601 in UTC.
        reason: What the run is: `up`, `down`, `restore`...
        way: `in-place`, `copy` or `create`.
        database: The database's resolved path.
        backup: The name of the run's backup, if there is one.
        journal_mode: The database's journal mode before the run.
        extra: Whatever else recovery needs. JSON values only. For a restore what it
            replaces: `found` (one of `FOUND`), its `fingerprint`, `schema_version` and
            journal `mode`, and `kept`, the backup made of it; `source` and `sha256` of the
            backup that takes its place, and the `app_version` whose state that is; and
            whether it is `cancelled`.
    """

    run_id: str
    phase: str
    since: str
    reason: str
    way: str | None = None
    database: str | None = None
    backup: str | None = None
    journal_mode: str | None = None
    extra: Mapping[str, Any] = EMPTY
    format: int = 1

    def is_in(self, rows: Sequence[Applied]) -> bool:
        """Tell by the history's rows whether this run was committed."""
        known = {row.identity for row in rows}
        if (undone := self.extra.get("undone")) is not None:
            return not known & set(undone)
        # Another tool's history knows no runs, only what is applied.
        if (applied := self.extra.get("applied")) is not None:
            return known >= set(applied)
        return any(row.run_id == self.run_id for row in rows)


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read(path: Path, database: Path | None = None) -> RunState | None:
    """
    Read the note of an unfinished run, or None.

    Args:
        path: The note.
        database: Its database, so that the error can name everything that needs permission.

    Raises:
        MisfitError: A later version wrote it, or it is damaged.
        NotReadyError: Something other than a regular file is in its place.
        NoPermissionError: It may not be read.
        DiskError: It cannot be read.
    """
    data = read_small(path, _LARGEST + 1, database)
    return None if data is None else _parse(path, data)


def _parse(path: Path, data: bytes) -> RunState:
    import json

    try:
        fields = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or type(fields.get("format")) is not int:
        raise _unreadable(path)
    if fields["format"] > FORMAT:
        raise _newer(path, fields["format"])
    # Unknown fields are ignored: a later version may add some without a new format.
    known = {name: fields[name] for name in RunState._fields if name in fields}
    if not _fits(known):
        raise _unreadable(path)
    return RunState(**known)


def _fits(fields: dict[str, Any]) -> bool:
    """Check the types: a value that this program did not write must not reach recovery."""
    needed = all(isinstance(fields.get(name), str) for name in ("run_id", "since", "reason"))
    optional = (fields.get(name) for name in ("way", "database", "backup", "journal_mode"))
    return (
        needed
        and fields["run_id"] != ""
        and fields.get("phase") in PHASES
        and all(value is None or isinstance(value, str) for value in optional)
        and fields.get("journal_mode") in JOURNAL_MODES
        and _extra_fits(fields.get("extra", {}))
    )


def _extra_fits(extra: Any) -> bool:
    if not isinstance(extra, dict) or extra.get("wanted_journal_mode") not in JOURNAL_MODES:
        return False
    return _is_list(extra.get("undone")) and _is_list(extra.get("applied")) and _found_fits(extra)


def _is_list(value: Any) -> bool:
    """Tell whether a value is a list of texts, or None."""
    return value is None or (isinstance(value, list) and all(isinstance(x, str) for x in value))


def _found_fits(extra: dict[str, Any]) -> bool:
    names = ("fingerprint", "kept", "source", "sha256", "app_version")
    texts = (extra.get(name) for name in names)
    return (
        extra.get("found") in (None, *FOUND)
        and extra.get("mode") in JOURNAL_MODES
        and all(value is None or isinstance(value, str) for value in texts)
        and type(extra.get("schema_version", 0)) is int
        and type(extra.get("cancelled", False)) is bool
        and type(extra.get("by_pages", False)) is bool
    )


def _newer(path: Path, found: int) -> MisfitError:
    return MisfitError(
        f"A later version of this program wrote {str(path)!r} (format {found}; "
        f"this one knows {FORMAT}), and its run is unfinished.",
        hint="Start the later version once more, so that it can finish its run.",
        reason="state.newer",
    )


def _unreadable(path: Path) -> MisfitError:
    return MisfitError(
        f"{str(path)!r} does not hold what this program writes there, "
        "so what the last run was doing is unknown.",
        hint="No crash leaves it so. Compare the database with its newest backup, "
        f"then delete the file: `rm {quote(str(path))}`.",
        reason="state.unreadable",
    )


def write(path: Path, state: RunState, ownership: Ownership) -> None:
    """
    Write the run's note, durably.

    Raises:
        OSError: It cannot be written; the note before it still stands.
    """
    import json

    fields = {**as_dict(state), "extra": dict(state.extra)}
    text = json.dumps(fields, indent=1, sort_keys=True)
    write_atomic(path, text.encode("ascii") + b"\n", ownership.private)


def clear(path: Path) -> None:
    """
    Delete the note, durably: no run is unfinished.

    Raises:
        OSError: The disk failed.
    """
    with suppress(FileNotFoundError):
        unlink(path)
        fsync_directory(path.parent)
