"""
What the last run did, or why it failed: noted at its end, for `status` and for metrics.

It is for people, and nothing is decided by it: a run that cannot write it does not fail, and what
cannot be read is as good as not there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from migrator.database.run_state import now
from migrator.database.workspace import Layout, like_database
from migrator.errors import MigratorError
from migrator.files import create_file, open_regular, remove, rename, temporary_name, write_all
from migrator.log.outcome import as_bug, outcome_of
from migrator.model import Outcome
from migrator.value import Value, as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.database.lock import RunLock

_FORMAT = 1
_LARGEST = 1 << 16
_LONG = 2000
"""Characters of a sentence that are kept."""
_TEXTS = ("command", "run_id", "outcome", "finished_at")
_PERHAPS = ("reason", "error", "hint")


class LastRun(Value):
    """
    How the last run ended that had the lock.

    Args:
        command: `entrypoint`, the command of `migrator`, or `api`.
        run_id: What its log lines have as well.
        outcome: As in `run.finished`.
        exit_code: Its exit code; the application's own comes later.
        applied: How many migrations it applied, undid or noted.
        finished_at: ISO 8601 in UTC, to the second.
        reason: Of a failure: the slug.
        error: Of a failure: the sentence.
        hint: Of a failure: what to do.
    """

    command: str
    run_id: str
    outcome: str
    exit_code: int
    applied: int
    finished_at: str
    reason: str | None = None
    error: str | None = None
    hint: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it did not do what it was told."""
        return self.exit_code != 0


@contextlib.contextmanager
def noted_at_end(
    layout: Layout, lock: RunLock, command: str, run_id: str
) -> Iterator[Callable[[Outcome], Outcome]]:
    """
    Within, a run is done under the lock; note how it ended, unless it found nothing to do.

    Yields what is told the outcome, and returns it.
    """
    ended: list[Outcome] = []

    def tell(outcome: Outcome) -> Outcome:
        ended.append(outcome)
        return outcome

    try:
        yield tell
    except Exception as error:
        failure = error if isinstance(error, MigratorError) else as_bug(error)
        _write(layout, lock, _of_failure(command, run_id, failure))
        raise
    for done in ended:
        if done.kind != "up_to_date":
            _write(layout, lock, LastRun(command, run_id, done.kind, 0, done.applied, now()))


def _of_failure(command: str, run_id: str, error: MigratorError) -> LastRun:
    return LastRun(
        command,
        run_id,
        outcome_of(error),
        error.exit_code,
        error.applied,
        now(),
        error.reason,
        error.message[:_LONG],
        error.hint[:_LONG],
    )


def _write(layout: Layout, lock: RunLock, run: LastRun) -> None:
    """
    Note it, unless the lock was removed: our directory may be another run's then.

    It is not forced onto the disk, which would make every run wait: a power cut may take it.
    """
    import json

    if lock.lost:
        return
    text = json.dumps({"format": _FORMAT, **as_dict(run)}, indent=1)
    temporary = temporary_name(layout.last_run)
    with contextlib.suppress(OSError, MigratorError):
        remove(temporary)
        descriptor = create_file(temporary, like_database(layout).private)
        try:
            try:
                write_all(descriptor, text.encode("ascii") + b"\n")
            finally:
                os.close(descriptor)
            rename(temporary, layout.last_run)
        except BaseException:
            remove(temporary)
            raise


def read(layout: Layout) -> LastRun | None:
    """Return how the last run ended; None if there was no run, or its note cannot be read."""
    import json

    try:
        descriptor = open_regular(layout.last_run)
        try:
            fields = json.loads(os.read(descriptor, _LARGEST))
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not _fits(fields):
        return None
    known: dict[str, Any] = {name: fields.get(name) for name in LastRun._fields}
    return LastRun(**known)


def _fits(fields: dict[str, Any]) -> bool:
    """Check the types; unknown fields of a later version are ignored."""
    return (
        all(isinstance(fields.get(name), str) for name in _TEXTS)
        and all(isinstance(fields.get(name), str | None) for name in _PERHAPS)
        and all(type(fields.get(name)) is int for name in ("exit_code", "applied"))
    )
