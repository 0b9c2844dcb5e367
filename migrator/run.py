"""
A run, from the first look to the last note: read this first.

`bring_up_to_date` is the half of the parent process, which becomes the application and
never imports a migration; `upgrade` and `change` are the half of its worker, and of the
Python API's caller. A start with nothing pending imports what stands at the top; the
steps of a run are imported where they begin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from migrator import access
from migrator.engine.parent import READABLE, Action, Parent
from migrator.errors import MigrationFailedError, MigratorError
from migrator.inspect.status import DatabaseStatus, refuse_or_warn, say_plan
from migrator.model import Emit, Outcome
from migrator.value import replace
from migrator.wait import wait_until_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.context import Change, Context
    from migrator.database.lock import RunLock
    from migrator.database.workspace import Layout
    from migrator.engine.expectation import Expectation
    from migrator.model import Settings

# --- the parent process ----------------------------------------------------------


def bring_up_to_date(parent: Parent) -> Outcome:
    """
    Run what is pending; with nothing pending, fork nothing and write nothing.

    Raises:
        MigratorError: One of its kinds, with its exit code.
    """
    done = nothing_pending(parent.settings, parent.layout, look(parent), parent.emit)
    if done is not None:
        return done
    from migrator.engine.expectation import upgraded

    return in_worker(parent, upgrade, upgraded, lambda: done_by_another_run(parent))


def in_worker(
    parent: Parent,
    action: Action,
    plan: Callable[[Parent], Expectation] | None = None,
    done_already: Callable[[], Outcome | None] = lambda: None,
    *,
    settled: bool = False,
) -> Outcome:
    """
    Wait, take the lock, have a worker do something, and hold its report against the database.

    Args:
        parent: This process.
        action: What the worker does.
        plan: Says, under the lock and before the work, what the database is to hold
            after it.
        done_already: Asked under the lock: where it has an outcome, no worker is needed.
        settled: Whether to recover an interrupted run before that.

    Raises:
        LockedError: Another run held the lock for too long, or it was removed.
        MigratorError: The work failed; the error says what became of the database.
    """
    from migrator.database.lock_selftest import lock_self_test
    from migrator.engine.conclusion import Conclusion
    from migrator.engine.expectation import Expectation
    from migrator.engine.last_run import noted_at_end

    database, deadline = parent.layout.database, parent.deadline
    wait_until_ready(lambda: access.require_writable(database), deadline, parent.emit, level=None)
    with _locked(parent) as lock:
        done = done_already()
        if done is not None:
            return done
        with noted_at_end(parent.layout, lock, parent.command, parent.run_id) as ended:
            lock_self_test(parent.layout.lock)
            work = partial(parent.work, lock=lock)
            if settled and _is_unsettled(parent):
                from migrator.recovery.dead_worker import settle_only

                Conclusion(parent, lock, Expectation(parent), work).of(work(settle_only))
            expected = Expectation(parent) if plan is None else plan(parent)
            try:
                conclusion = Conclusion(parent, lock, expected, work)
                return ended(conclusion.of(work(action, connect=True)))
            except MigrationFailedError as error:
                from migrator.takeover import name_the_version

                name_the_version(parent, error)
                raise


@contextlib.contextmanager
def _locked(parent: Parent) -> Iterator[RunLock]:
    """Hold the run's lock; a stop is noted from then on, and obeyed where that is safe."""
    from migrator.database.lock import RunLock

    lock = RunLock.acquire(parent.layout, parent.settings.lock_timeout, parent.emit)
    parent.deadline.extend(lock.waited)
    parent.signals.note_only()
    try:
        yield lock
    finally:
        lock.release()


def _is_unsettled(parent: Parent) -> bool:
    """Tell whether a worker has to recover an interrupted run first."""
    from migrator.database import run_state

    if run_state.read(parent.layout.state, parent.layout.database) is None:
        # What cannot be seen, planning says, or the worker.
        with contextlib.suppress(MigratorError):
            return parent.survey().sight.needs_recovery is not None
    return True


def look(parent: Parent) -> DatabaseStatus:
    """Look, waiting within the budget while another process's lock keeps readers out."""
    return wait_until_ready(
        lambda: parent.when_free(parent.survey),
        parent.deadline,
        parent.emit,
        ready=READABLE,
        level=None,
    )


def done_by_another_run(parent: Parent) -> Outcome | None:
    """
    Look once more under the lock: who had it before may have done the work.

    What cannot be seen from here is left to the worker, which may recover the database.
    """
    try:
        found = parent.survey()
    except MigratorError:
        return None
    found = replace(found, sight=replace(found.sight, running=False))
    if not found.up_to_date:
        return None
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    return nothing_to_do(found, parent.emit)


def nothing_pending(
    settings: Settings, layout: Layout, found: DatabaseStatus, emit: Emit
) -> Outcome | None:
    """
    Refuse a run that may not start, and return the outcome if there is nothing to do.

    What a run has left, or is about to leave, is recovered under the lock first, and judged after.
    """
    if not found.unsettled:
        refuse_or_warn(settings, layout, found, emit)
    return nothing_to_do(found, emit) if found.up_to_date else None


def nothing_to_do(found: DatabaseStatus, emit: Emit) -> Outcome:
    """Say that nothing is pending, and return the outcome of such a run."""
    say_plan(emit, found, None)
    return Outcome("no_database" if found.left_alone else "up_to_date")


# --- the worker, or the process of the API's caller ------------------------------


def upgrade(ctx: Context) -> Outcome:
    """Recover, look, read what is pending, and apply it."""
    from migrator.prepare import look_under_lock, prepare, require_no_lost_database
    from migrator.recovery.after_crash import recover
    from migrator.recovery.run_error import as_run_error

    with as_run_error(ctx):
        if recover(ctx).kind != "nothing":
            require_no_lost_database(ctx)
        found = look_under_lock(ctx)
        refuse_or_warn(ctx.settings, ctx.layout, found, ctx.emit)
        if found.up_to_date:
            return nothing_to_do(found, ctx.emit)
        work = prepare(ctx, found)
        if work.creates:
            from migrator.strategy import new_file

            return new_file.create(ctx, work)
        return change(ctx, work)


def change(ctx: Context, work: Change) -> Outcome:
    """Back up, apply, verify, commit, read back, prune: or put the old state back."""
    from migrator.backup_step import back_up, prune_and_clean
    from migrator.change.apply import apply_and_verify
    from migrator.exclusive import open_exclusive
    from migrator.recovery.phases import enter, note
    from migrator.recovery.rollback import restored_on_failure, undone_on_failure
    from migrator.strategy.choose import strategy_of

    make, hint = strategy_of(ctx, work)
    with contextlib.closing(open_exclusive(ctx, hint, header=work.header)) as live:
        strategy = make(ctx, live, work)
        strategy.hold()
        backup = back_up(ctx, work, live)
        with undone_on_failure(ctx, live, backup, work.way):
            enter(ctx, "migrate", note(ctx, work, backup))
            with strategy.session(backup) as session:
                steps = apply_and_verify(ctx, work, session, backup.path)
            if steps:  # another tool's command may find nothing to do
                strategy.commit()
        if steps:
            with restored_on_failure(ctx, live, backup):
                strategy.read_back()
        if ctx.observer is not None:
            ctx.observer.committed()
    prune_and_clean(ctx, backup)
    work.ended(ctx)
    kind = "migrated" if steps else "up_to_date"
    return Outcome(kind, tuple(step.identity for step in steps), str(backup.path))
