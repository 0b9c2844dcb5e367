"""A backup of the state that there is already: used again instead of a second one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from migrator.backups.backup import Backup
from migrator.backups.catalog import (
    MADE_BY_RUNS,
    START,
    highest_counter,
    known_backups,
    readable_backups,
)
from migrator.backups.owner import take
from migrator.backups.pending import cannot_write, writing
from migrator.database.workspace import like_database
from migrator.files import write_atomic

if TYPE_CHECKING:
    from migrator.backups.backup import Facts
    from migrator.database.workspace import Layout
    from migrator.model import Emit


def identified(layout: Layout) -> str:
    """
    Return the database's id, which it gets with its first backup.

    Raises:
        MigratorError: It cannot be read.
        BackupError: It cannot be written.
    """
    try:
        return take(layout, like_database(layout), readable_backups(layout))
    except OSError as error:
        raise cannot_write(error.errno, layout.identity, "id of the database") from error


def reuse(layout: Layout, backup: Backup, facts: Facts, emit: Emit) -> Backup:
    """
    Use a backup of the same state instead of a new one.

    For `up`, `down` and the start of an application it moves to the place in the order
    that a new one would have, so that `latest` is the state before this run. A restore's own
    backup keeps its place: repeating the restore changes nothing.

    Raises:
        BackupError: Its new place cannot be written.
    """
    newest = known_backups(layout)[:1] == [backup]
    identified(layout)
    claimed = _claimed(backup, facts, newest=newest)
    # Nothing to write if it is the newest already: a crash loop must not write at each start.
    if facts.reason in (*MADE_BY_RUNS, START) and not (newest and claimed == backup):
        backup = replace(claimed, counter=highest_counter(layout) + 1)
        with writing(backup.json_path):
            write_atomic(backup.json_path, bytes(backup.encoded()), like_database(layout))
    message = f"The backup {backup.name} holds this state already."
    emit("backup.reused", message, path=str(backup.path), bytes=backup.bytes, name=backup.name)
    return backup


def _claimed(backup: Backup, facts: Facts, *, newest: bool) -> Backup:
    """Return a backup marked as used by another run or start."""
    # A run's backup keeps its reason, by which `latest` finds it.
    kept = backup.reason in MADE_BY_RUNS and (newest or facts.reason == START)
    reason = backup.reason if kept else facts.reason
    versions = [each for each in backup.app_versions if each != facts.app_version]
    if facts.app_version is not None:
        versions.append(facts.app_version)
    return replace(backup, reason=reason, app_versions=tuple(versions))
