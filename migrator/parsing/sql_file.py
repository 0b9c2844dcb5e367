"""
Read the text of an `.sql` migration: its sections, and the losses that it announces.

The directives are dbmate's (https://github.com/amacneil/dbmate), each in a line
comment of its own: `-- migrate:up`, `-- migrate:down`, both with
`transaction:false`; and in addition `-- migrate:allow-row-loss TABLE[, TABLE…]`.
A file without sections is all "up".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from migrator.errors import MisfitError
from migrator.model import Entry, Section
from migrator.parsing import down_markers as marks
from migrator.parsing import sql
from migrator.parsing.directory import misfit
from migrator.statement import Statement

_DIRECTIVE = re.compile(r"--+\s*migrate\s*:\s*(\S*)\s*(.*?)\s*", re.IGNORECASE | re.DOTALL)
_NEVER_INSIDE = {
    "VACUUM": "up",
    "ATTACH": "remove",
    "DETACH": "remove",
    "ROLLBACK": "remove",
}
"""What the run's transaction does not allow, and whether `transaction:false` does."""

_PERHAPS_OUTSIDE = frozenset((*_NEVER_INSIDE, "PRAGMA"))

_PRAGMAS = {
    "JOURNAL_MODE": "up",
    "PAGE_SIZE": "up",
    "LOCKING_MODE": "remove",
    "TEMP_STORE_DIRECTORY": "remove",
    "DATA_STORE_DIRECTORY": "remove",
}


@dataclass(frozen=True, slots=True)
class SqlFile:
    """The content of an `.sql` file."""

    up: Section
    down: Section | None
    allow_row_loss: frozenset[str]
    mark: Statement | None = None
    """The mark of another tool's section, in a file without `-- migrate:` sections."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """The directive that opens a section, and where its statements begin."""

    word: str
    transactional: bool
    line: int
    start: int
    end: int
    no_transaction: str = ""
    """How another tool's file says that it runs in no transaction."""


_WHOLE_FILE = _Mark("up", transactional=True, line=1, start=0, end=0)


def parse(entry: Entry, text: str) -> SqlFile:
    """
    Read an `.sql` migration.

    Args:
        entry: The migration, for messages.
        text: The file's text, lines ended by LF.

    Raises:
        MisfitError: A statement is unfinished, a directive unknown or in the
            wrong place, or a statement cannot run inside a transaction.
    """
    found = _Directives(entry)
    for comment in sql.line_comments(text):
        found.read(comment)
    sections = _sections(entry, text, found.marks)
    # Only without sections: with them the file itself says which part is which.
    mark = None if found.marks else marks.lower_mark(text, sections["up"].statements)
    return SqlFile(sections["up"], sections.get("down"), found.losses, mark)


@dataclass(slots=True)
class _Directives:
    """The directives in a file's line comments."""

    entry: Entry
    marks: list[_Mark] = field(default_factory=list)
    losses: frozenset[str] = frozenset()

    def read(self, comment: sql.Comment) -> None:
        """Read one comment, which need not be a directive."""
        if (match := _DIRECTIVE.fullmatch(comment.text)) is not None:
            self._directive(comment, match[1].lower(), match[2])

    def _directive(self, comment: sql.Comment, word: str, rest: str) -> None:
        # Refused, not ignored: an overlooked directive would run both sections.
        if not comment.alone:
            message = f"{comment.text!r} comes after other text, where it would be overlooked."
            raise _bad(self.entry, comment.line, message, "Put the directive on a line of its own.")
        if word == "allow-row-loss":
            self.losses |= {*_tables(self.entry, comment, rest)}
        elif word in ("up", "down"):
            self.marks.append(_mark(self.entry, comment, word, rest, self.marks))
        else:
            raise _bad(
                self.entry,
                comment.line,
                f"the directive {comment.text!r} is not known.",
                "Known are `-- migrate:up`, `-- migrate:down` and"
                " `-- migrate:allow-row-loss TABLE`. Reword the comment if it is not meant as one.",
            )


def _tables(entry: Entry, comment: sql.Comment, rest: str) -> tuple[str, ...]:
    try:
        return sql.names(rest)
    except ValueError as error:
        raise _bad(
            entry,
            comment.line,
            f"{comment.text!r} does not name tables.",
            "Write `-- migrate:allow-row-loss TABLE[, TABLE…]`, with names that are no"
            ' plain words in double quotes ("my table"), and without a schema or a `;`.',
        ) from error


def _mark(
    entry: Entry, comment: sql.Comment, word: str, options: str, before: Iterable[_Mark]
) -> _Mark:
    """Read the directive that opens a section."""
    for mark in before:
        if mark.word == word:
            raise _bad(
                entry,
                comment.line,
                f"a second `-- migrate:{word}`; the first is on line {mark.line}.",
                "Join the two sections, or make the second a migration of its own.",
            )
    transactional = True
    for option in options.split():
        if option.lower() not in ("transaction:true", "transaction:false"):
            raise _bad(
                entry,
                comment.line,
                f"the option {option!r} of `-- migrate:{word}` is not known.",
                "The one option is `transaction:false` (or `transaction:true`, the default).",
            )
        transactional = option.lower() == "transaction:true"
    return _Mark(word, transactional, comment.line, comment.start, comment.end)


def _sections(entry: Entry, text: str, marks: list[_Mark]) -> dict[str, Section]:
    """Split a text at its marks."""
    if not marks:
        return {"up": _section(entry, _WHOLE_FILE, text)}
    head = _split(entry, text[: marks[0].start], 1)
    if head:
        raise _bad(
            entry,
            head[0].line,
            f"a statement comes before `-- migrate:{marks[0].word}`, outside of every section.",
            "Move it below `-- migrate:up`.",
        )
    if all(mark.word != "up" for mark in marks):
        raise _bad(
            entry,
            marks[0].line,
            "`-- migrate:down` without a `-- migrate:up`.",
            "Put `-- migrate:up` above the statements that upgrade.",
        )
    ends = [mark.start for mark in marks[1:]] + [len(text)]
    return {
        mark.word: _section(entry, mark, text[mark.end : end])
        for mark, end in zip(marks, ends, strict=True)
    }


def section(
    entry: Entry,
    text: str,
    *,
    line: int = 1,
    transactional: bool | None = None,
    no_transaction: str = "",
) -> Section:
    """
    Split one section of another tool's file.

    Args:
        entry: The migration, for messages.
        text: The section's text, as the tool executes it.
        line: The line of the file in which it begins.
        transactional: Whether the tool runs it in a transaction; None where it does not say,
            so that the statements decide.
        no_transaction: What to write, and where, so that the tool runs it in no transaction.

    Raises:
        MisfitError: A statement is unfinished, or cannot run inside a transaction.
    """
    if transactional is not None:
        return _section(entry, _Mark("up", transactional, line, 0, 0, no_transaction), text)
    statements = _split(entry, text, line)
    return Section(statements, all(_outside(each) is None for each in statements))


def row_losses(entry: Entry, text: str) -> frozenset[str]:
    """
    Return the tables of `-- migrate:allow-row-loss`, which another tool reads as a comment.

    Raises:
        MisfitError: It names no tables.
    """
    found = _Directives(entry)
    for comment in sql.line_comments(text):
        match = _DIRECTIVE.fullmatch(comment.text)
        if match is not None and match[1].lower() == "allow-row-loss":
            found.read(comment)
    return found.losses


def _section(entry: Entry, mark: _Mark, text: str) -> Section:
    statements = _split(entry, text, mark.line)
    if mark.transactional:
        for statement in statements:
            if statement.keyword in _PERHAPS_OUTSIDE:
                _refuse_outside(entry, statement, mark)
    return Section(statements, mark.transactional)


def _split(entry: Entry, text: str, line: int) -> tuple[Statement, ...]:
    """Split a section, with errors that name the file."""
    try:
        statements = sql.split(text, line)
    except sql.UnterminatedError as error:
        _refuse_dots(entry, sql.split_lenient(text, line))
        raise misfit(
            entry,
            _lower_first(str(error)),
            hint="Close what is open; is the file complete?",
            reason="migrations.syntax",
            line=error.opened[1],
            statement=error.text[:500] or None,
        ) from error
    _refuse_dots(entry, statements)
    return statements


def _refuse_dots(entry: Entry, statements: Iterable[Statement]) -> None:
    """Refuse the commands of SQLite's own shell."""
    for statement in statements:
        if not statement.keyword and statement.text.startswith("."):
            command = statement.text.split("\n", 1)[0]
            raise misfit(
                entry,
                f"{command[:100]!r} is a command of the `sqlite3` shell, not SQL.",
                hint="Remove it, or write it as SQL.",
                reason="migrations.syntax",
                line=statement.line,
                statement=command[:500],
            )


def _refuse_outside(entry: Entry, statement: Statement, mark: _Mark) -> None:
    """
    Refuse a statement that fails or does harm inside the run's transaction.

    Raises:
        MisfitError: With the directive that lets the statement run.
    """
    found = _outside(statement)
    if found is None:
        return
    what, way_out = found
    raise misfit(
        entry,
        f"{what} cannot run inside the transaction of the run.",
        hint=_way_out(way_out, mark),
        reason="migrations.not_transactional",
        line=statement.line,
        statement=statement.text[:500],
    )


def _outside(statement: Statement) -> tuple[str, str] | None:
    """Name what cannot run inside a transaction, and say what works instead."""
    first = statement.keyword
    if first not in _PERHAPS_OUTSIDE:
        return None
    _, second, third, fourth, fifth = (*sql.words(statement.text, 5), *[""] * 5)[:5]
    if first == "ROLLBACK" and "TO" in (second, third):
        return None
    if first in _NEVER_INSIDE:
        return first, _NEVER_INSIDE[first]
    name, sign = (fourth, fifth) if third == "." else (second, third)
    name = name.upper()
    if name not in _PRAGMAS or sign not in ("=", "("):
        return None
    return f"PRAGMA {name.lower()} with a value", _PRAGMAS[name]


def _way_out(way_out: str, mark: _Mark) -> str:
    if way_out == "remove":
        return "Remove it; the run keeps to one transaction and one database by itself."
    if mark.no_transaction:
        return f"{mark.no_transaction}, or move the statement into such a file of its own."
    directive = f"-- migrate:{mark.word} transaction:false"
    where = f"on line {mark.line}" if mark.end else "as the first line"
    return f"Write `{directive}` {where}, or move the statement into such a file of its own."


def _bad(entry: Entry, line: int, message: str, hint: str) -> MisfitError:
    return misfit(entry, message, hint=hint, reason="migrations.directive", line=line)


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
