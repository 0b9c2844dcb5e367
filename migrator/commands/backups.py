"""`migrator backups`: list the backups, newest first."""

from __future__ import annotations

from migrator.columns import aligned, moment, size
from migrator.commands.kinds import JSON, Answer, Look, as_json
from migrator.options.model import Arguments
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.backups.backup import Backup
    from migrator.engine.parent import Parent


def _backups(parent: Parent, given: Arguments) -> Answer:
    found = finished_backups(parent)
    return as_json([_facts(each) for each in found]) if given["json"] else _text(parent, found), 0


COMMAND = Look(
    "backups [--json]",
    "list the backups, newest first",
    "migrator backups",
    options=(JSON,),
    answer=_backups,
)

_COLUMNS = ("BACKUP", "CREATED", "SIZE", "VERSION", "REASON", "APP_VERSION", "FROM_APP")
"""`APP_VERSION` was about to start when it was made, `FROM_APP` had been started last."""


def finished_backups(parent: Parent) -> list[Backup]:
    """
    List the finished backups.

    Raises:
        MigratorError: Their directory cannot be read.
    """
    from migrator.access import denied
    from migrator.backups.catalog import list_backups
    from migrator.log.translate import of_system

    try:
        return list_backups(parent.layout)
    except PermissionError as error:
        raise denied(parent.layout.backup_dir, "may not be accessed") from error
    except OSError as error:
        raise of_system(error, "while the backups were listed") from error


def _facts(backup: Backup) -> dict[str, Any]:
    return {
        "name": backup.name,
        "path": str(backup.path),
        "created_at": backup.created_at,
        "bytes": backup.bytes,
        "sha256": backup.sha256,
        "version": backup.version,
        "reason": backup.reason,
        "app_version": backup.app_version,
        "from_app_version": backup.from_app_version,
        "id": backup.id,
    }


def _text(parent: Parent, found: list[Backup]) -> str:
    """Return the table, and how many backups of other databases of this name lie beside them."""
    from migrator.backups.catalog import readable_backups
    from migrator.backups.find import describe_undescribed

    others = len(readable_backups(parent.layout)) - len(found)
    beside = f"\n{others} more there are of other databases of this name." if others else ""
    beside += "".join(f"\n{printable(each)}" for each in describe_undescribed(parent.layout))
    if not found:
        return f"There is no backup in {printable(str(parent.layout.backup_dir))}.{beside}"
    rows = [
        (
            each.name,
            moment(each.created_at),
            size(each.bytes),
            each.version or "-",
            each.reason,
            each.app_version or "-",
            each.from_app_version or "-",
        )
        for each in found
    ]
    return aligned(_COLUMNS, rows) + beside
