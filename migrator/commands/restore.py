"""`migrator restore`: put a backup back, or forget a restore that was interrupted."""

from __future__ import annotations

import contextlib
from functools import partial

from migrator.columns import moment
from migrator.commands.confirm import YES, asks, confirm
from migrator.commands.kinds import Done, Run, done
from migrator.errors import DamagedError, UsageError
from migrator.options import types
from migrator.options.model import Argument, Arguments, Option
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.backups.backup import Backup
    from migrator.engine.parent import Parent


def _restore(parent: Parent, given: Arguments) -> Done:
    from migrator.change.restore import restore
    from migrator.engine.expectation import restored
    from migrator.run import in_worker

    backup, before, before_app = (
        given[each] for each in ("backup", "before", "before_app_version")
    )
    if given["abandon"]:
        outcome = in_worker(parent, partial(restore, wanted=None, before=None, abandon=True))
        return outcome, "No restore is unfinished; the database is as it was."
    if asks(given):
        chosen = _chosen(parent, backup, before, before_app)
        if chosen is not None:
            confirm(_question(parent, chosen))
            if backup in (None, "latest"):
                # Exactly that one: there may be a newer one by now.
                backup, before, before_app = chosen.name, None, None
    work = partial(restore, wanted=backup, before=before, before_app=before_app)
    plan = partial(restored, wanted=backup, before=before, before_app=before_app)
    outcome, sentence = done("Restored", in_worker(parent, work, plan))
    if outcome.backup is not None:
        replaced = outcome.backup.rpartition("/")[2]
        sentence += printable(f" What it replaced is in the backup {replaced}.")
    return outcome, sentence


def _chosen(
    parent: Parent, wanted: str | None, before: str | None, before_app: str | None
) -> Backup | None:
    """Return the backup to restore; None if the run itself will report the problem."""
    from migrator.change.restore import choose

    with contextlib.suppress(UsageError, DamagedError):
        return choose(parent.context(parent.source, parent.emit), wanted, before, before_app)
    return None


def _question(parent: Parent, backup: Backup) -> str:
    version = f", version {backup.version}" if backup.version is not None else ""
    return (
        f"Put {backup.name} ({moment(backup.created_at)} UTC{version}) in the place of"
        f" {parent.layout.database}? What has been written since is then only in a backup."
    )


COMMAND = Run(
    "restore BACKUP|latest|--before VERSION|--before-app-version V|--abandon",
    "put a backup back, after a backup of what it replaces",
    "migrator restore latest",
    argument=Argument("backup", "BACKUP", "a backup's name or path, or `latest`", required=False),
    options=(
        Option(
            "--before",
            "before",
            "the newest backup from before VERSION was applied",
            metavar="VERSION",
            parse=types.without_nul,
            allowed="the version of a migration",
        ),
        Option(
            "--before-app-version",
            "before_app_version",
            "the newest backup of a state that version V of the application had not been started"
            " on: made before its first start, or the state of an older version",
            metavar="V",
            parse=types.app_version,
            allowed="a version that `--app-version` has named",
        ),
        Option(
            "--abandon",
            "abandon",
            "restore nothing, and forget a restore that was interrupted: the database stays",
            switch=True,
        ),
        YES,
    ),
    one_of=("backup", "before", "before_app_version", "abandon"),
    one_needed=True,
    elsewhere=("recover",),
    work=_restore,
    mends=True,
)
