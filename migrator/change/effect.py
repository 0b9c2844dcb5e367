"""Call a migration; tell whether it did anything, and whether its checks passed."""

from __future__ import annotations

import sqlite3
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import contextmanager, suppress
from typing import Any

from migrator.errors import REPORT, MigrationFailedError, MigratorError, VerificationError
from migrator.log.translate import END_IT, LEFT_BEHIND, is_interrupted, registered_elsewhere
from migrator.model import Script, Section
from migrator.session.authorizer import OUTSIDE, RefusedError
from migrator.session.recording import RecordingConnection

TRANSACTION = ("BEGIN", "COMMIT", "END")
"""How statements begin that change nothing within the run's own transaction."""

_LAZY = (map, filter)
"""What calls a function for each item once somebody asks for it, and nobody does."""


class NotRunError(Exception):
    """
    A function has returned what would have to be run, and nothing of it has.

    Args:
        message: A sentence.
        hint: What to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class CheckFailedError(Exception):
    """A migration's own check has failed, rather than the migration itself."""

    def __init__(self, failure: VerificationError) -> None:
        super().__init__(failure.message)
        self.failure = failure


def is_empty(section: Section) -> bool:
    """Tell whether a section has no statement but `BEGIN` and `COMMIT`."""
    return all(each.keyword in TRANSACTION for each in section.statements)


def call(script: Script, conn: sqlite3.Connection, *, down: bool) -> None:
    """Have a migration do its work, or undo it."""
    section = script.sql_down if down else script.sql_up
    function = script.down if down else script.up
    if section is not None:
        _run_section(section, conn)
    elif function is None:
        message = f"{script.entry.label} has not been loaded."
        raise MigratorError(message, hint=REPORT)
    else:
        result = function(conn.cursor() if script.wants_cursor else conn)
        refuse_unrun("down" if down else "up", result)


def _run_section(section: Section, conn: sqlite3.Connection) -> None:
    """
    Execute the statements of an `.sql` file.

    In a transactional section a `BEGIN` or `COMMIT` of its own changes
    nothing: the whole run is one transaction already.
    """
    if not isinstance(conn, RecordingConnection):
        message = "The connection of a migration records nothing."
        raise MigratorError(message, hint=REPORT)
    conn.run_statements(
        statement
        for statement in section.statements
        if not (section.transactional and statement.keyword in TRANSACTION)
    )


def refuse_unrun(name: str, result: Any) -> None:
    """
    Refuse what a function returned where its code has not been run by calling it.

    A decorator, a lambda or `functools.partial` hides from whoever looks at the function
    that it is a generator or a coroutine.

    Raises:
        NotRunError: Saying what was returned. It is closed, so that Python does not warn
            of a coroutine that was never awaited.
    """
    found = _kind(result)
    if found is None:
        return
    what, hint = found
    if isinstance(result, Generator | Coroutine):
        with suppress(Exception):
            result.close()
    message = f"`{name}` returned {what}: nothing of it has run."
    raise NotRunError(message, hint)


def _kind(result: Any) -> tuple[str, str] | None:
    """Name what has not run and say what to do, None for anything else."""
    remove_async = "Remove the `async`, or run it in the function, with `asyncio.run(...)`."
    remove_yield = "Remove the `yield`, or run it in the function, with `for _ in ...: pass`."
    if isinstance(result, AsyncGenerator | AsyncIterator):
        return "an asynchronous generator", remove_async
    if isinstance(result, Coroutine):
        return "a coroutine", remove_async
    if isinstance(result, Generator):
        return "a generator", remove_yield
    if isinstance(result, Awaitable):
        return "what has to be awaited", remove_async
    if isinstance(result, _LAZY):
        return f"a `{type(result).__name__}`", "Write a loop in its place."
    return None


@contextmanager
def interrupted_by(script: Script) -> Iterator[None]:
    """Within, a statement of the engine's that is interrupted is a failure of the migration."""
    try:
        yield
    except sqlite3.Error as error:
        if not is_interrupted(error):
            raise
        message = f"Migration {script.entry.label} failed: {error}. {LEFT_BEHIND}"
        data = {"file": script.entry.file, "error": str(error)}
        raise MigrationFailedError(message, hint=END_IT, data=data) from error


def own_hint(script: Script, error: BaseException) -> str:
    """Return what an error itself says to do, in the words of a migration's own tool."""
    known = isinstance(error, RefusedError | MigratorError | NotRunError)
    hint: str = getattr(error, "hint", "") if known else ""
    if hint == OUTSIDE and script.no_transaction:
        return f"{script.no_transaction}: it then runs on a copy, outside of any transaction."
    return hint or registered_elsewhere(error) or ""
