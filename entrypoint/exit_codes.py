"""The exit codes, as the documentation and the man pages list them."""

from __future__ import annotations

EXIT_CODES: tuple[tuple[str, str, str], ...] = (
    ("0", "done (no command given)", "new or unchanged"),
    ("1", "`check` only: migrations are pending", "untouched"),
    ("64", "usage: bad option, variable or argument", "untouched"),
    ("65", "the database is damaged or no SQLite file, before anything ran", "untouched"),
    (
        "69",
        (
            "volume or database not ready in time: missing, not mounted, locked, in use by another "
            "process"
        ),
        "untouched",
    ),
    ("70", "a bug in this program (traceback in the log)", "as before"),
    ("73", "no backup could be made (space, permission)", "untouched"),
    (
        "74",
        "the disk failed (EIO, ENOSPC, EDQUOT, EROFS) outside the making of the backup",
        (
            "as before; when the commit's own fsync failed: `outcome: unknown`, found out by the "
            "next start"
        ),
    ),
    ("75", "another run holds the lock; retry", "untouched"),
    ("77", "no permission on the database or its directory", "untouched"),
    (
        "78",
        (
            "migrations and history do not fit: unparsable, duplicate, changed, missing, another "
            "tool's, or the database is newer than the image"
        ),
        "untouched",
    ),
    ("80", "a migration failed", "as before, proven"),
    ("81", "the verification failed", "as before, proven"),
    (
        "82",
        (
            "the restore failed, or a check after the database was released; a person is needed; "
            "the backup's path is in the log"
        ),
        "see log",
    ),
    (
        "126 / 127",
        (
            "the command is not executable / not found (as the target user, by permission and "
            "first bytes); found out before anything ran"
        ),
        "untouched",
    ),
    (
        "128+n",
        "ended by signal n",
        "as before; new when the signal came during the commit (`run.finished` says which)",
    ),
    ("other", "after exec: the application's own", ""),
)
