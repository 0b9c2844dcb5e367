"""Say which database a restored backup belongs to, if no id tells."""

from __future__ import annotations

import os

from migrator.backups import database_id
from migrator.backups.backup import Backup
from migrator.context import Context
from migrator.database.workspace import like_database


def say_whose(ctx: Context, chosen: Backup, wanted: str | None) -> None:
    """
    Warn if only its path says that a backup is this database's, and give a lost id back.

    A database that was lost with its volume takes the id of its backups, unless the backup
    was named by its path: that is a copy, and two databases must not share an id.

    Args:
        ctx: The run, before anything is written.
        chosen: The backup.
        wanted: What was asked for, as it was typed.

    Raises:
        MigratorError: The database's id cannot be read.
        OSError: It cannot be written.
    """
    layout, name = ctx.layout, chosen.name
    own = database_id.read(layout)
    if chosen.id is not None and chosen.id == own:
        return
    elsewhere = chosen.path.parent != layout.backup_dir
    if chosen.id is None:
        text = f"The backup {name} was made before databases had an id; its path alone says whose."
    elif own is None and not elsewhere and os.sep not in (wanted or ""):
        text = f"This database has no id; by its path it is the one that {name} is a backup of."
        if not os.path.lexists(layout.database):
            database_id.write(layout, like_database(layout), chosen.id)
    else:
        text = f"The backup {name} is another database's; it is put here as its path was given."
    ctx.emit("backup.by_path", text, level="warning", path=str(chosen.path))
