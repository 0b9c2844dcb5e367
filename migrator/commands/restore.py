"""`migrator restore`: put a backup back, or forget a restore that was interrupted."""

from __future__ import annotations

from functools import partial

from migrator.commands.kinds import Done, Run, done
from migrator.options import types
from migrator.options.model import Argument, Arguments, Option
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.parent import Parent


def _restore(parent: Parent, given: Arguments) -> Done:
    from migrator.change.restore import restore
    from migrator.engine.expectation import restored
    from migrator.run import in_worker

    backup, before = given["backup"], given["before"]
    if given["abandon"]:
        outcome = in_worker(parent, partial(restore, wanted=None, before=None, abandon=True))
        return outcome, "No restore is unfinished; the database is as it was."
    work = partial(restore, wanted=backup, before=before)
    plan = partial(restored, wanted=backup, before=before)
    outcome, sentence = done("Restored", in_worker(parent, work, plan))
    if outcome.backup is not None:
        replaced = outcome.backup.rpartition("/")[2]
        sentence += printable(f" What it replaced is in the backup {replaced}.")
    return outcome, sentence


COMMAND = Run(
    "restore BACKUP|latest|--before VERSION|--abandon",
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
            "--abandon",
            "abandon",
            "restore nothing, and forget a restore that was interrupted: the database stays",
            switch=True,
        ),
    ),
    one_of=("backup", "before", "abandon"),
    one_needed=True,
    elsewhere=("recover",),
    work=_restore,
    mends=True,
)
