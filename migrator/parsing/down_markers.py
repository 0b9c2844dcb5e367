"""
Find the mark of a lower part in an `.sql` file without `-- migrate:` sections.

Other tools write the upgrade and its undo into one file, with a comment between them.
Read as plain SQL, both would run. A comment is recognised as such a mark by its shape:
it stands between two statements and consists of the words of such marks, or has the SQL
that undoes. Prose is not a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from migrator.model import Script
from migrator.parsing import sql
from migrator.parsing.directory import misfit
from migrator.statement import Statement

_TOOLS = re.compile(
    r"--+\s*(?:[+@!]\s*(?:goose|migrate|micrate|dbmate)\b.*|liquibase\s+formatted\s+sql.*)\s*",
    re.IGNORECASE | re.DOTALL,
)
"""No prose begins with these: they are a mark anywhere."""

_LOWER = frozenset(
    {"down", "downs", "undo", "undos", "rollback", "rollbacks", "revert", "reverts", "downgrade"}
    | {"roll back", "drop below", "back out", "backout", "rolldown", "undoing", "reverting"}
)
_LOWER_OF_A_PAIR = frozenset(
    {"backward", "backwards", "reverse", "unapply", "teardown", "uninstall", "below", "drop"}
)
"""Words also of prose and data: a mark only with a sign or another such word."""

_PAIRED = frozenset(
    {"up", "ups", "migration", "migrations", "migrate", "script", "section", "part", "sql", "apply"}
    | {"forward", "forwards", "setup", "install", "above", "create", "statements"}
)
_FILLING = frozenset(
    {"upgrade", "do", "redo", "change", "changes", "changeset", "step", "steps", "statement"}
    | {"scripts", "sections", "parts", "sqls", "query", "queries", "code", "block", "command"}
    | {"commands", "begin", "begins", "start", "starts", "end", "ends", "here", "goes", "go", "put"}
    | {"add", "write", "your", "the", "this", "that", "these", "it", "of", "for", "to", "and", "or"}
    | {"in", "on", "is", "if", "needed", "necessary", "required", "optional", "manual", "manually"}
    | {"only", "file", "name", "direction", "db", "database", "schema", "version", "transaction"}
    | {"true", "false", "lower", "upper", "half", "plan", "procedure", "operation", "reversible"}
    | {
        "goose",
        "rambler",
        "dbmate",
        "micrate",
        "shmig",
        "mybatis",
        "flyway",
        "tern",
        "play",
        "sqlx",
    }
    | {"diesel", "phinx", "knex", "drizzle", "prisma", "evolution", "evolutions", "liquibase"}
    | {"line", "lines"}
    | {"migrator", "migrant", "umzug", "ley", "postgrator", "geni", "dogfish", "executed"}
)
_VERSION = re.compile(r"v?[0-9]+")
_MOST_WORDS = 9
_SIGNED = re.compile(
    r"[-#*\s/]*(?:[@!+:]\s*/*\s*(\w+)\b|\[\s*(\w+)\s*\]|<\s*(\w+)\s*>|\{\s*(\w+)\s*\})"
)
"""A word with a sign before or around it: `@UNDO`, `:down`, `[down]`."""

_IN_SQL = re.compile(
    r"[-#*\s/]*(?:rollback\s+|\w+(?:\s+(?:back|migration|script))?\s*:\s*)"
    r"(?:drop|delete|alter|update|insert|replace|create|truncate|pragma|vacuum|select|with)\b",
    re.IGNORECASE,
)
"""`--rollback DROP TABLE x;` as Liquibase has it, `-- Down: DROP TABLE x`."""

_REMARK = re.compile(r"[-#*=\s/]*\w+(?:[ -]back)?\s*\([^()]*\)[-#*=\s/:]*")
"""`-- DOWN (if need be)`."""

_MAKING = ("CREATE", "INSERT")
_UPPER = frozenset({"up", "ups", "forward", "forwards", "apply", "setup", "install", "above", "do"})
_BARE = 2


def refuse_marks(scripts: Iterable[Script]) -> None:
    """
    Refuse scripts in which a comment looks like the mark of a lower part.

    Only for pending migrations: an applied file cannot be changed any more.

    Raises:
        MisfitError: With the line of the comment, and how to mark sections here.
    """
    for script in scripts:
        if script.mark is not None:
            raise misfit(
                script.entry,
                f"{script.mark.text!r} looks like the mark of a section in another tool's format,"
                " and what follows it would be run as part of the upgrade.",
                hint="Mark the sections with `-- migrate:up` and `-- migrate:down`,"
                " or reword the comment if it marks none.",
                reason="migrations.directive",
                line=script.mark.line,
            )


def lower_mark(text: str, statements: Sequence[Statement]) -> Statement | None:
    """
    Return the first comment that looks like the mark of another tool's section.

    Args:
        text: The file's text, lines ended by LF.
        statements: Its statements.
    """
    paired = False
    for comment in sql.comments(text):
        line = text.rfind("\n", 0, comment.start) + 1
        if not comment.alone and text[line : comment.start].strip() != "#":
            continue
        if _TOOLS.fullmatch(comment.text):
            return _found(comment)
        words = _words(comment.text)
        if words and _looks(comment.text, words, paired=paired):
            above, below = _around(comment, statements)
            told = _told_below(text[comment.end :])
            if below is not None and _parts(words, comment.text, below, above=above, told=told):
                return _found(comment)
        paired = paired or (len(words) == 1 and words[0] in _UPPER)
    return None


def _found(comment: sql.Comment) -> Statement:
    return Statement(comment.text[:100], comment.line, "")


def _looks(comment: str, words: list[str], *, paired: bool) -> bool:
    """Tell whether a comment has the shape of a lower part's mark."""
    signed = _SIGNED.match(comment)
    sign = next((each.lower() for each in signed.groups() if each), "") if signed else ""
    if not _LOWER.isdisjoint(words):
        remark = words[0] in _LOWER and _REMARK.fullmatch(comment) is not None
        return _of_marks(words) or sign in _LOWER or remark or _in_sql(comment, words)
    if _LOWER_OF_A_PAIR.isdisjoint(words) or not _of_marks(words):
        return False
    fellows = len(words) > 1 and words[0] != "drop" and not _PAIRED.isdisjoint(words)
    return sign in _LOWER_OF_A_PAIR or fellows or (paired and len(words) == 1)


def _in_sql(comment: str, words: list[str]) -> bool:
    return words[0] in _LOWER and _IN_SQL.match(comment) is not None


def _parts(words: list[str], comment: str, below: Statement, *, above: bool, told: bool) -> bool:
    """
    Tell by its surroundings whether a comment with a mark's shape divides the file.

    At the top of a file "Rollback of 003" is a title, and so is "Rollback:" with the undo
    statements in the comments below it (`told`). Above a CREATE
    or INSERT, either describes its undo.
    """
    if told or (not _of_marks(words) and _in_sql(comment, words)):
        return above and sql.keyword(below.text) not in _MAKING
    return above or (len(words) <= _BARE and not any(_VERSION.fullmatch(word) for word in words))


def _told_below(text: str) -> bool:
    """Tell whether the lines directly below a comment are comments with words."""
    for line in text.split("\n", 12)[1:12]:
        if not line.lstrip().startswith("--"):
            return False
        if re.search(r"\w", line):
            return True
    return False


def _of_marks(words: list[str]) -> bool:
    known = _LOWER | _LOWER_OF_A_PAIR | _PAIRED | _FILLING
    return len(words) <= _MOST_WORDS and all(
        word in known or _VERSION.fullmatch(word) is not None for word in words
    )


def _words(comment: str) -> list[str]:
    """Return a comment's words in lower case, two-word marks joined."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", comment)
    found = re.findall(r"[^\W_]+", apart.lower())
    joined: list[str] = []
    for word in found:
        pair = f"{joined[-1]} {word}" if joined else ""
        if pair in _LOWER:
            joined[-1] = pair
        else:
            joined.append(word)
    return joined


def _around(comment: sql.Comment, statements: Sequence[Statement]) -> tuple[bool, Statement | None]:
    """
    Return whether a statement is above a comment, and the first one below it.

    Inside a statement, as between the columns of a table, a comment divides nothing; and
    with nothing below it nothing would run.
    """
    above = False
    for statement in statements:
        if statement.line >= comment.line:
            return above, statement
        above = True
        if statement.line + statement.text.count("\n") >= comment.line:
            break
    return above, None
