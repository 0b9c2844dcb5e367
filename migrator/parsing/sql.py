"""
Cut SQL text into statements, and read the first words of one.

The lexer here follows SQLite's tokenizer
(https://sqlite.org/lang_keywords.html, `tokenize.c`, `complete.c`): strings in
`'…'`, names in `"…"`, `` `…` `` and `[…]`, comments to the end of the line or
between `/*` and `*/`, words of letters, digits, `_`, `$` and everything beyond
ASCII. A statement ends at its first semicolon; of one that may be a trigger
`sqlite3.complete_statement` decides, as in SQLite's own shell. So a dump of many
megabytes is split in linear time, with one match a statement.
"""

from __future__ import annotations

import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from sys import intern

from migrator.sqlite import fold
from migrator.statement import Statement

# A vertical tab is blank only after another blank (sqlite3GetToken, CC_SPACE).
_SPACE = r"(?:[ \t\n\f\r][ \t-\r]*+|\ufeff)"
_BLANKS = " \t\n\f\r"
"""SQLite's blanks; Python has more, which SQLite reports as errors."""

_LINE_COMMENT = r"--[^\n]*+"
_BLOCK_COMMENT = r"/\*.*?(?:\*/|\Z)"
_GAP = rf"(?:{_SPACE}|{_LINE_COMMENT}|{_BLOCK_COMMENT})*+"
_QUOTED = (
    r"'[^']*+(?:''[^']*+)*+(?:'|\Z)"
    r'|"[^"]*+(?:""[^"]*+)*+(?:"|\Z)'
    r"|`[^`]*+(?:``[^`]*+)*+(?:`|\Z)"
    r"|\[[^\]]*+(?:\]|\Z)"
)
# Said by what does not belong to it: a class of all beyond ASCII takes Python long to compile.
_LETTER = r"[^\x00-#%-/:-@\[-\^`{-\x7f]"
_WORD = rf"(?!\ufeff){_LETTER}++"

_INSIDE = rf"(?:[^'\"`\[;/-]++|{_QUOTED}|{_LINE_COMMENT}|{_BLOCK_COMMENT}|[/-])*+"
_OUTSIDE = rf"(?:[^'\"`\[/-]++|{_QUOTED})*+"

_FLAGS = re.DOTALL | re.ASCII
_SKIP = re.compile(_GAP, _FLAGS)
_STATEMENT = re.compile(rf"{_GAP}(({_WORD})?+{_INSIDE}(;)?+)", re.DOTALL)
"""What is before a statement; the statement, its first word, and the semicolon behind it."""
_MORE = re.compile(rf"{_INSIDE};", re.DOTALL)
_COMMENT = re.compile(rf"{_OUTSIDE}(?:({_LINE_COMMENT}|{_BLOCK_COMMENT})|[/-])", re.DOTALL)
"""What is before a comment, or before an operator that might begin one; the comment."""
_MARK = re.compile(rf"{_QUOTED}|{_LINE_COMMENT}|{_BLOCK_COMMENT}", _FLAGS)
_TRIGGER_END = re.compile(rf"{_GAP}END{_GAP};", _FLAGS | re.IGNORECASE)
_TOKEN = re.compile(rf"{_GAP}(?:(?P<quoted>{_QUOTED})|(?P<word>{_WORD})|(?P<other>.))", _FLAGS)

_EMPTY = re.compile(rf"(?:{_GAP};)*+", _FLAGS)

_PERHAPS_TRIGGERS = ("CREATE", "EXPLAIN")
"""The first words of statements in which there may be semicolons (`complete.c`)."""

_statement: Callable[[tuple[str, int, str]], Statement] = partial(tuple.__new__, Statement)
"""`Statement._make` without its own check of the length, in a fifth of the time."""

_CLOSING = {"'": "'", '"': '"', "`": "`", "[": "]"}


class UnterminatedError(ValueError):
    """
    The text ends inside a string, a comment, a parenthesis or a trigger's body.

    Args:
        line: The line on which the unfinished statement (or comment) begins.
        text: The unfinished statement, empty for a comment.
        opened: What is still open (`string`, `name`, `comment`, `parenthesis` or
            `trigger`), and since which line.
    """

    def __init__(self, line: int, text: str, opened: tuple[str, int]) -> None:
        what, since = opened
        message = f"The {what} that begins on line {since} is never closed."
        if what == "trigger":
            message = f"The trigger that begins on line {since} has no `END` of its own."
        super().__init__(message)
        self.line = line
        self.text = text
        self.opened = opened


@dataclass(frozen=True, slots=True)
class Comment:
    """
    One comment outside of strings and other comments.

    `start` and `end` are offsets into the text, `line` counts from 1, and
    `alone` says that only blanks are before it on its line.
    """

    text: str
    start: int
    end: int
    line: int
    alone: bool


def split(text: str, first_line: int = 1) -> tuple[Statement, ...]:
    """
    Split a script into its statements.

    Lone semicolons and comments are not statements. A statement's text begins at its
    first token, after the comments above it, and ends with its `;`, which the last one
    may lack, as in SQLite's own shell.

    Args:
        text: SQL, lines ended by LF or CRLF.
        first_line: The number of the text's first line.

    Raises:
        UnterminatedError: A string, a comment, a parenthesis or a trigger's body
            is still open at the end: the text is cut off.
    """
    statements, tail = _scan(text, first_line)
    rest = _rest(tail)
    if rest is not None:
        if (opened := _opened(rest) or _unfinished(rest)) is not None:
            raise UnterminatedError(rest.line, rest.text, opened)
        statements = (*statements, rest)
    # SQLite takes an open block comment for the end of the text; in a file it
    # is what an editor or a broken download left, and may hide statements.
    hidden = _opened(tail)
    if hidden is not None:
        raise UnterminatedError(hidden[1], "", hidden)
    return statements


def split_lenient(text: str, first_line: int = 1) -> tuple[Statement, ...]:
    """
    Split a script as `split` does, with an unfinished end as the last statement.

    SQLite runs the last statement of a script without its `;`, takes an open
    block comment for the end of the text, and refuses an open string itself.
    """
    statements, tail = _scan(text, first_line)
    rest = _rest(tail)
    return statements if rest is None else (*statements, rest)


def line_comments(text: str) -> Iterator[Comment]:
    """Yield the `--` comments of a script in order."""
    return (comment for comment in comments(text) if comment.text.startswith("--"))


def comments(text: str) -> Iterator[Comment]:
    """Yield the comments of a script in order, `--` and `/* */` alike."""
    line, seen, at = 1, 0, 0
    # Behind the last of these nothing is looked at: a dump has its comments at its head.
    last = max(text.rfind("--"), text.rfind("/*"))
    while at <= last and (found := _COMMENT.match(text, at)) is not None:
        at = found.end()
        if found[1] is None:
            continue
        start = found.start(1)
        line += text.count("\n", seen, start)
        seen = start
        before = text[text.rfind("\n", 0, start) + 1 : start]
        yield Comment(found[1], start, at, line, not before.strip(f"{_BLANKS}\ufeff"))


def keyword(statement: str) -> str:
    """Return a statement's first word in upper case, `''` if it does not begin with one."""
    token = _TOKEN.match(statement)
    return _upper(token["word"]) if token is not None and token["word"] else ""


def command(statement: str) -> str:
    """Return the first word, in upper case, after empty statements, which SQLite skips."""
    empty = _EMPTY.match(statement)
    return keyword(statement[empty.end() :] if empty is not None else statement)


def words(statement: str, n: int) -> tuple[str, ...]:
    """
    Return at most the first `n` tokens of a statement.

    Bare words are in upper case, quoted ones without their quotes and as
    written; everything else is one character each.
    """
    return tuple(text if quoted else _upper(text) for text, quoted in islice(_tokens(statement), n))


def names(text: str) -> tuple[str, ...]:
    """
    Read a comma-separated list of names, quoted or not.

    Raises:
        ValueError: The text is empty or not such a list.
    """
    tokens = list(_tokens(text))
    if len(tokens) % 2 == 0 or any(token != (",", False) for token in tokens[1::2]):
        msg = f"{text!r} is not a list of names."
        raise ValueError(msg)
    for name, quoted in tokens[::2]:
        if not name or not (quoted or re.fullmatch(_WORD, name)):
            msg = f"{name!r} is not a name."
            raise ValueError(msg)
    return tuple(name for name, _ in tokens[::2])


def normal(text: str) -> tuple[str, ...]:
    """
    Return the tokens of a text, so that two texts that say the same have the same.

    Without comments and blanks; names without their quotes where they need none, and in lower
    case, as keywords are; strings as they are written.
    """
    found, at = [], 0
    while (token := _TOKEN.match(text, at)) is not None:
        at = token.end()
        quoted = token["quoted"]
        if not quoted:
            found.append(fold(token["word"] or token["other"]))
        elif quoted[0] == "'":
            found.append(quoted)
        else:
            name = _unquote(quoted)
            found.append(fold(name if re.fullmatch(_WORD, name) else f'"{name}"'))
    return tuple(found)


def _scan(text: str, first_line: int) -> tuple[tuple[Statement, ...], Statement]:
    """Return the finished statements, and what is behind the last one."""
    if "\0" in text:
        msg = "embedded null character"
        raise ValueError(msg)
    statements: list[Statement] = []
    keywords: dict[str | None, str] = {None: ""}
    line, seen, start = first_line, 0, 0
    while (found := _STATEMENT.match(text, start)) is not None:
        statement, first, semicolon = found.groups()
        if semicolon is None:
            break
        begin, end = found.span(1)
        word = keywords.get(first)
        if word is None:
            # One for all files: there may be thousands.
            word = keywords[first] = intern(_upper(first))
        if word in _PERHAPS_TRIGGERS:
            end = _end_of_trigger(text, begin, end)
            if end < 0:
                break
            statement = text[begin:end]
        line += text.count("\n", seen, begin)
        if statement != ";":
            statements.append(_statement((statement, line, word)))
        seen, start = begin, end
    line += text.count("\n", seen, start)
    return tuple(statements), Statement(text[start:], line, "")


def _end_of_trigger(text: str, begin: int, end: int) -> int:
    """
    Return the offset after the semicolon that ends a statement, or -1.

    Args:
        text: The script.
        begin: Where the statement begins.
        end: Behind its first semicolon.
    """
    # Only for `complete_statement` a byte order mark is a letter.
    while not sqlite3.complete_statement(text[begin:end].replace("\ufeff", " ")):
        # Only `; END ;` can be the end. Asking at every semicolon of a long body would take
        # quadratic time.
        inside = True
        while inside:
            last, found = end, _MORE.match(text, end)
            if found is None:
                return -1
            end = found.end()
            inside = _TRIGGER_END.fullmatch(text, last, end) is None
    return end


def _rest(tail: Statement) -> Statement | None:
    """Return the unfinished statement; None if there are only comments."""
    begin = _begin(tail.text, 0)
    if begin == len(tail.text):
        return None
    rest = tail.text[begin:].rstrip(_BLANKS)
    if rest.endswith("/*"):
        # At the end of the text SQLite takes it for two operators.
        rest = tail.text[begin:]
    return Statement(rest, tail.line + tail.text.count("\n", 0, begin), keyword(rest))


def _begin(text: str, start: int) -> int:
    """Return the offset of the first token at or after `start`."""
    match = _SKIP.match(text, start)
    return match.end() if match is not None else start


def _opened(rest: Statement) -> tuple[str, int] | None:
    """Return what is still open at the end of a text, and the line it begins on."""
    marks = deque(_MARK.finditer(rest.text), maxlen=1)
    if not marks or _is_closed(marks[0][0]):
        return None
    last = marks[0]
    what = {"'": "string", "/": "comment"}.get(last[0][0], "name")
    return what, rest.line + rest.text.count("\n", 0, last.start())


def _unfinished(rest: Statement) -> tuple[str, int] | None:
    """Return what else than a `;` the last statement lacks, and the line it begins on."""
    # On a line of its own, since a comment may stand at the end.
    if not sqlite3.complete_statement(rest.text.replace("\ufeff", " ") + "\n;"):
        return "trigger", rest.line
    open_at: list[int] = []
    at = 0
    while (token := _TOKEN.match(rest.text, at)) is not None:
        at = token.end()
        if token["other"] == "(":
            open_at.append(token.start("other"))
        elif token["other"] == ")" and open_at:
            open_at.pop()
    if not open_at:
        return None
    return "parenthesis", rest.line + rest.text.count("\n", 0, open_at[-1])


def _is_closed(mark: str) -> bool:
    """Tell whether a string, name or comment of the lexer is closed."""
    if mark.startswith("/*"):
        return len(mark) > 3 and mark.endswith("*/")
    if mark[0] == "[":
        return mark.endswith("]")
    # A doubled quote is part of the string, so their number decides.
    return mark[0] not in _CLOSING or mark.count(mark[0]) % 2 == 0


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each token of a text, unquoted, and whether it was quoted."""
    at = 0
    while (token := _TOKEN.match(text, at)) is not None:
        at = token.end()
        if token["quoted"]:
            yield _unquote(token["quoted"]), True
        else:
            yield token["word"] or token["other"], False


def _unquote(token: str) -> str:
    close = _CLOSING[token[0]]
    body = token[1:-1] if len(token) > 1 and token.endswith(close) else token[1:]
    return body if close == "]" else body.replace(close * 2, close)


def _upper(word: str) -> str:
    # SQLite's keywords are ASCII, and `str.upper` turns some other letters into ASCII.
    return word.upper() if word.isascii() else word
