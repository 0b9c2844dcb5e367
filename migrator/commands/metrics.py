"""
`migrator status --metrics FILE`: what `status` says, for node_exporter's textfile collector.

The form is Prometheus's text format
(https://prometheus.io/docs/instrumenting/exposition_formats/); the collector wants a file that is
replaced as a whole. What is not known is left out, so that an alert on `absent()` sees it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from migrator.access import denied
from migrator.errors import UsageError
from migrator.files import realpath, sidecars
from migrator.log.lines import clean
from migrator.log.outcome import OUTCOMES
from migrator.log.translate import of_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.backups.backup import Backup
    from migrator.database.workspace import Layout

_PREFIX = "sqlite_entrypoint"
_MODE = 0o644
"""node_exporter reads it as another user."""


def render(facts: dict[str, Any], backups: Sequence[Backup] | None) -> str:
    """
    Return the metrics of one database.

    Args:
        facts: What `status --json` prints.
        backups: Its finished backups, newest first; None where they cannot be read.
    """
    own = f'database="{_escaped(str(facts["database"]))}"'
    return "".join(
        f"# HELP {_PREFIX}_{name} {about}\n# TYPE {_PREFIX}_{name} gauge\n"
        + "".join(f"{_PREFIX}_{name}{{{own}{more}}} {value}\n" for more, value in samples)
        for name, about, samples in _metrics(facts, backups)
        if samples
    )


def _metrics(
    facts: dict[str, Any], backups: Sequence[Backup] | None
) -> Iterator[tuple[str, str, list[tuple[str, object]]]]:
    """Yield name, meaning and samples of each metric; a sample is its further labels and value."""
    run, known = facts["last_run"], facts["history_read"]
    newest = (backups or ())[:1]
    yield (
        "up_to_date",
        "Whether nothing is pending or unfinished, and a start is not refused.",
        [("", int(facts["up_to_date"]))],
    )
    yield "running", "Whether a run is under way.", [("", int(facts["running"] is not None))]
    yield "problems", "What `migrator status` calls a problem.", [("", len(facts["problems"]))]
    yield (
        "pending_migrations",
        "Migrations that are not applied yet.",
        [("", len(facts["pending"]))] if known else [],
    )
    yield (
        "applied_migrations",
        "Migrations that are applied.",
        [("", len(facts["applied"]))] if known else [],
    )
    yield (
        "last_run_timestamp_seconds",
        "When the last run ended that had something to do.",
        _times([run["finished_at"]] if run else []),
    )
    yield (
        "last_run_exit_code",
        "The exit code of that run: 0, or why it failed.",
        [("", run["exit_code"])] if run else [],
    )
    yield (
        "last_run_outcome",
        "The outcome of that run: 1 for the one that it was.",
        [(f',outcome="{each}"', int(run["outcome"] == each)) for each in OUTCOMES] if run else [],
    )
    yield "backups", "Finished backups.", [] if backups is None else [("", len(backups))]
    yield (
        "last_backup_timestamp_seconds",
        "When the newest backup was made.",
        _times([each.created_at for each in newest]),
    )
    yield (
        "last_backup_size_bytes",
        "The size of the newest backup.",
        [("", each.bytes) for each in newest],
    )


def _times(noted: Sequence[str]) -> list[tuple[str, object]]:
    """Return the recorded times as samples in Unix time; invalid ones are left out."""
    from datetime import UTC, datetime

    samples: list[tuple[str, object]] = []
    for text in noted:
        with contextlib.suppress(ValueError, OverflowError):
            found = datetime.fromisoformat(text)
            samples.append(("", int(found.replace(tzinfo=found.tzinfo or UTC).timestamp())))
    return samples


def _escaped(text: str) -> str:
    """Return a label's value, escaped for the format; bytes that are not UTF-8 are shown."""
    shown = str(clean(text))
    return shown.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def write(path: Path, text: str, layout: Layout) -> None:
    """
    Replace a file with these metrics by one rename, so that no reader sees a part of them.

    Raises:
        UsageError: Something else lies there that a rename would destroy.
        NoPermissionError: The directory may not be written.
        MigratorError: It cannot be written.
    """
    target = realpath(path)
    _refuse_ours(path, target, layout)
    # The collector reads `*.prom`: until it is whole it has another name.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _refuse_no_file(path, target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, _MODE), "w", encoding="utf-8") as file:
            try:
                os.fchmod(file.fileno(), _MODE)
                file.write(text)
                file.flush()
                os.rename(temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise
    except PermissionError as error:
        raise denied(target.parent, "may not be written") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"The metrics cannot be written to {str(path)!r}: {error.strerror}."
        hint = "Name a file in a directory that exists, such as node_exporter's textfile directory."
        raise UsageError(message, hint=hint) from error
    except OSError as error:
        raise of_system(error, "while the metrics were written") from error


def _refuse_ours(path: Path, target: Path, layout: Layout) -> None:
    ours = (layout.database, *sidecars(layout.database))
    if target in ours or {layout.home, layout.backup_dir} & set(target.parents):
        message = f"The metrics would replace {str(path)!r}, which belongs to the database."
        hint = "Name another file, such as one in node_exporter's textfile directory."
        raise UsageError(message, hint=hint)


def _refuse_no_file(path: Path, target: Path) -> None:
    """Refuse anything but a plain file: the rename would replace a device or a pipe."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        message = f"{str(path)!r} is not a file, so the metrics cannot take its place."
        raise UsageError(message, hint="Name a file.")
