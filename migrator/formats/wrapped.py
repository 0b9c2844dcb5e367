"""Files of tools that run each file in its own transaction."""

from __future__ import annotations

from migrator.model import Entry, Section
from migrator.parsing import sql_file
from migrator.statement import Statement

_ENDS = ("COMMIT", "END")
_NEVER = ("VACUUM", "ATTACH", "DETACH", "ROLLBACK")


def wrapped_section(entry: Entry, text: str, no_transaction: str | None = None) -> Section:
    """
    Split a file that its tool puts between `BEGIN` and `COMMIT`.

    Args:
        entry: The migration, for messages.
        text: The file's text, lines ended by LF.
        no_transaction: What to write, and where, so that the tool runs it in no transaction;
            None if the tool has no such mark.

    Raises:
        MisfitError: A statement is unfinished, or fails in a transaction.
    """
    found = wrapped(sql_file.section(entry, text))
    if no_transaction is None or not fails(found):
        return found
    return sql_file.section(entry, text, transactional=True, no_transaction=no_transaction)


def wrapped(found: Section) -> Section:
    """
    Return statements as they run in their tool's transaction.

    A PRAGMA that a transaction only ignores, or that has its value already, is run outside of one.
    """
    words = (statement.keyword for statement in found.statements)
    first = next((word for word in words if word == "BEGIN" or word in _ENDS), "BEGIN")
    if found.transactional or first == "BEGIN":
        return found
    # The file ends the tool's transaction and begins another one for the tool to end: add the
    # two statements that the tool itself adds.
    begin = Statement("BEGIN;", found.statements[0].line, "BEGIN")
    commit = Statement("COMMIT;", found.statements[-1].line, "COMMIT")
    return Section((begin, *found.statements, commit), transactional=False)


def fails(found: Section) -> bool:
    """Tell whether a file has what fails in its tool's transaction, and does not end it before."""
    words = {statement.keyword for statement in found.statements}
    return words.isdisjoint(_ENDS) and not words.isdisjoint(_NEVER)
