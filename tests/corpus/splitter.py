"""
SQLite itself as the judge of where a statement ends: the tail of `sqlite3_prepare_v2`.

The splitter decides which statements a migration runs, and one at a time; what
it takes for one statement must be what SQLite takes for one.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Self

from migrator.parsing import sql
from tests.support.proof import Stopwatch

SECONDS = 300.0
"""How long scripts are made up where nothing else is said."""

_PIECES = (
    *("CREATE", "TEMP", "TEMPORARY", "TRIGGER", "EXPLAIN", "QUERY PLAN", "END", "BEGIN", "CASE"),
    *("SELECT", "WHEN", "THEN", "x", "1", "t", "AFTER INSERT ON t", "IF NOT EXISTS", "tr", "main."),
    *(";", ";", ";", " ", "\n", "\t", "\f", "\r", "\v", "\ufeff", "\u00a0", "\u2028", "\x1f", "\x85"),
    *("'a;b'", "''", "'", '"x;"', '"', "`;`", "`", "[;]", "[", "]", "--", "-- c;\n", "-- c;", "/* ; */"),
    *("/**/", "/*/ */", "/*", "*/", "(", ")", ",", "-", "/", "*", "é", "$1", "$a::b(c)", "#1", "?1", ":a"),
    *("@x", "x'00'", "x'", "0x1F", "1e5", "1.", ".5", "1_0", "||", "->", "->>", "<>", "!", "\\", "{", "}"),
    *("create", "trigger", "end", "endx", "xend", "_end", "END;", "; END", "; END ;", ";end;", "\U0001f600"),
)  # fmt: skip
_WHOLE = (
    "SELECT 1;", "SELECT 'a;b' AS \"c;d\";", "INSERT INTO t VALUES (1, 'x');", "-- a comment; here\n",
    "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; SELECT CASE WHEN 1 THEN 2 END; END;",
    "CREATE TEMP TRIGGER IF NOT EXISTS tr2 AFTER INSERT ON t BEGIN SELECT 'end;'; END;",
    "CREATE TABLE \"a;b\" (x DEFAULT ';');", "EXPLAIN SELECT 1;", "/* ; */", ";", " ; ",
    "UPDATE t SET a = CASE WHEN a THEN 1 ELSE 2 END;", "CREATE VIEW v AS SELECT [;] FROM t;",
)  # fmt: skip


_BLANKS = " \t\n\f\r"
_SQLITE_ROW, _SQLITE_DONE = 100, 101


@cache
def _library() -> Any:
    """Return the SQLite that Python's module has loaded, or the system's."""
    found = ctypes.CDLL(ctypes.util.find_library("sqlite3") or "libsqlite3.so.0")
    found.sqlite3_column_text.restype = ctypes.c_char_p
    return found


class Judge:
    """A SQLite in memory, called without Python's module in between."""

    def __init__(self) -> None:
        self._sqlite = _library()
        self._database = ctypes.c_void_p()
        assert self._sqlite.sqlite3_open(b":memory:", ctypes.byref(self._database)) == 0

    def first(self, text: str) -> tuple[int, int, bool]:
        """
        Prepare the first statement.

        Returns:
            SQLite's code, the length that it read, and whether that was a statement.
        """
        data = text.encode()
        buffer = ctypes.create_string_buffer(data)
        statement, tail = ctypes.c_void_p(), ctypes.c_void_p()
        code = self._sqlite.sqlite3_prepare_v2(
            self._database, buffer, len(data), ctypes.byref(statement), ctypes.byref(tail)
        )
        there = bool(statement.value)
        self._sqlite.sqlite3_finalize(statement)
        read = (tail.value or ctypes.addressof(buffer)) - ctypes.addressof(buffer)
        return code, len(data[:read].decode()), there

    def run(self, text: str) -> tuple[int, list[str]]:
        """
        Run a whole text statement by statement, as SQLite cuts it, up to the first error.

        Returns:
            SQLite's code, 0 for none, and the rows of all of it.
        """
        data = text.encode()
        buffer = ctypes.create_string_buffer(data)
        at, end = ctypes.addressof(buffer), ctypes.addressof(buffer) + len(data)
        rows: list[str] = []
        while at < end:
            statement, tail = ctypes.c_void_p(), ctypes.c_void_p()
            code = self._sqlite.sqlite3_prepare_v2(
                self._database, ctypes.c_void_p(at), -1, ctypes.byref(statement), ctypes.byref(tail)
            )
            if code != 0:
                return code, rows
            if statement.value:
                while (code := self._sqlite.sqlite3_step(statement)) == _SQLITE_ROW:
                    rows.append(self._row(statement))
                self._sqlite.sqlite3_finalize(statement)
                if code != _SQLITE_DONE:
                    return code, rows
            at = tail.value or end
        return 0, rows

    def _row(self, statement: ctypes.c_void_p) -> str:
        number = self._sqlite.sqlite3_column_count(statement)
        return str([self._sqlite.sqlite3_column_text(statement, n) for n in range(number)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sqlite.sqlite3_close(self._database)


def difference(text: str, judge: Judge) -> str | None:  # noqa: PLR0911 - one for each finding
    """
    Say where the splitter and SQLite do not agree on a text, None where they do.

    Each statement that was cut is given to SQLite: one that it can prepare it
    must read to the end, and what it reads of the rest of the text from there
    must be the same statement. One with an error must not be hiding a part that
    is none.
    """
    if text.endswith("/*"):
        # Two operators to SQLite, and an open comment here: no statement either way.
        return None
    try:
        found = sql.split_lenient(text)
    except ValueError:
        return None if "\0" in text else "it raises"
    at = 0
    for statement in found:
        begin = text.find(statement.text, at)
        if begin < at:
            return f"{statement.text!r} does not stand there"
        code, length, there = judge.first(statement.text)
        if (
            code == 0
            and length < len(statement.text.rstrip())
            and _means_something(statement.text[length:], judge)
        ):
            return f"{statement.text!r} is more than one statement"
        whole, reach, _ = judge.first(text[begin:])
        read = text[begin : begin + reach]
        same = read.rstrip(_BLANKS) == statement.text.rstrip(_BLANKS)
        if code == 0 and there and not (whole == 0 and same):
            return f"SQLite reads {read!r}, not {statement.text!r}"
        if whole == 0 and code != 0:
            return f"{statement.text!r} was cut off ({read!r} is whole)"
        at = begin + len(statement.text)
    return None


def _means_something(rest: str, judge: Judge) -> bool:
    code, _, there = judge.first(rest)
    return there or code != 0


def ends_the_same(text: str) -> str | None:
    """Say whether the pieces, run one by one, do what SQLite does with the whole."""
    if text.endswith("/*"):
        return None
    whole = _after([text])
    parts = _after([part.text for part in sql.split_lenient(text)])
    return None if whole == parts else f"as a whole {whole}, in parts {parts}"


def _after(parts: Sequence[str]) -> tuple[int, list[str]]:
    """
    Run some texts on one connection, up to the first error.

    Not by Python's `executescript`, which commits what an earlier part has begun.

    Returns:
        SQLite's code, and what the database holds then.
    """
    with Judge() as judge:
        judge.run("CREATE TABLE t (a, b); CREATE TABLE x (a);")
        code = next((code for part in parts if (code := judge.run(part)[0])), 0)
        judge.run("ROLLBACK")
        rows = [*judge.run("SELECT type, name, sql FROM sqlite_schema")[1]]
        return code, [*rows, *judge.run("SELECT * FROM t")[1]]


def scripts(seed: str) -> Iterator[str]:
    """Yield made-up scripts, without an end."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    while True:
        kind = chance.random()
        if kind < 0.5:
            glue = chance.choice((" ", "", "\n"))
            yield glue.join(chance.choices(_PIECES, k=chance.randrange(1, 25)))
        elif kind < 0.8:
            yield chance.choice(("", " ", "\n")).join(
                chance.choices(_WHOLE, k=chance.randrange(1, 6))
            )
        else:
            text = list(" ".join(chance.choices(_WHOLE, k=chance.randrange(1, 4))))
            for _ in range(chance.randrange(1, 4)):
                text.insert(chance.randrange(len(text) + 1), chance.choice(_PIECES))
            yield "".join(text)


def sweep(seed: str, watch: Stopwatch, most: int | None = None) -> tuple[int, list[str]]:
    """Try scripts until the time is over; returns how many, and those that are cut wrongly."""
    tried, broken = 0, []
    with Judge() as judge:
        judge.run("CREATE TABLE t (a, b)")
        for text in scripts(seed):
            if watch.spent or tried == most:
                break
            tried += 1
            trouble = difference(text, judge) or ends_the_same(text)
            if trouble is not None:
                broken.append(f"{text!r}: {trouble}")
    return tried, broken
