"""The files of tools that run each in a transaction of its own."""

from __future__ import annotations

from migrator.model import Entry, Section
from migrator.parsing import sql_file
from migrator.statement import Statement

_ENDS = ("COMMIT", "END")
_NEVER = ("VACUUM", "ATTACH", "DETACH", "ROLLBACK")


def wrapped_section(entry: Entry, text: str, no_transaction: str | None = None) -> Section:
    """
    Split a file that its tool puts between `BEGIN` and `COMMIT`.

    Some files end that transaction, do what none allows, and begin another one for the tool to
    end: they are run with the two statements that the tool adds. A PRAGMA that a transaction
    only ignores, or that has its value already, is run outside of one.

    Args:
        entry: The migration, for messages.
        text: The file's text, lines ended by LF.
        no_transaction: What to write, and where, so that the tool runs it in no transaction;
            None where the tool knows no such way.

    Raises:
        MisfitError: A statement is unfinished, or fails in a transaction.
    """
    found = sql_file.section(entry, text)
    if found.transactional:
        return found
    words = {statement.keyword for statement in found.statements}
    if not words.isdisjoint(_ENDS):
        begin = Statement("BEGIN;", found.statements[0].line, "BEGIN")
        commit = Statement("COMMIT;", found.statements[-1].line, "COMMIT")
        return Section((begin, *found.statements, commit), transactional=False)
    if no_transaction is None or words.isdisjoint(_NEVER):
        return found
    return sql_file.section(entry, text, transactional=True, no_transaction=no_transaction)
