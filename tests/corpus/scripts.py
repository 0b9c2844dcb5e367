"""Damaged migrations: files that are no Python, no SQL, no text, or no files."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.corpus.case import Case
from tests.corpus.place import SECOND, Files, sound

FAILING = frozenset({0, 69, 78, 80, 81})
_UP = b"def up(conn):\n    conn.execute('SELECT 1')\n"

PYTHON = {
    "empty": b"", "a syntax error": b"def up(conn:\n", "no up": b"x = 1\n", "up is a number": b"up = 1\n",
    "up is None": b"up = None\n", "a NUL": b"def up(conn):\0 pass\n", "no UTF-8": b"# \xff\xfe\n" + _UP,
    "a wrong coding line": b"# coding: klingon\n" + _UP, "a coding line of another text": b"# coding: utf-16\n" + _UP,
    "coding: zip": b"# coding: zlib_codec\n" + _UP, "coding: rot13": b"# coding: rot13\n" + _UP,
    "coding: idna": b"# coding: idna\n" + _UP + b"# " + b"a" * 3000, "coding: punycode": b"# coding: punycode\n" + _UP,
    "coding: unicode_escape": b"# coding: unicode_escape\n\\udc80 = 1\n" + _UP,
    "coding: raw_unicode_escape": b"# coding: raw_unicode_escape\n# \\ud800\n" + _UP,
    "coding: utf-7": b"# coding: utf-7\n# +2AA-\n" + _UP, "coding: mbcs": b"# coding: mbcs\n" + _UP,
    "coding: undefined": b"# coding: undefined\n" + _UP, "coding with a NUL": b"# coding: utf\0-8\n" + _UP,
    "two byte order marks": b"\xef\xbb\xbf" * 2 + _UP, "a byte order mark": b"\xef\xbb\xbf" + _UP,
    "a byte order mark and latin-1": b"\xef\xbb\xbf# coding: latin-1\n" + _UP,
    "UTF-16": _UP.decode().encode("utf-16"), "UTF-32": _UP.decode().encode("utf-32"),
    "CRLF": _UP.replace(b"\n", b"\r\n"), "CR": _UP.replace(b"\n", b"\r"), "form feeds": b"\f\f\n" + _UP,
    "deep parentheses": b"x = " + b"(" * 5000 + b")" * 5000 + b"\n" + _UP,
    "deep lists": b"x = " + b"[" * 150 + b"]" * 150 + b"\n" + _UP,
    "deep minus": b"x = " + b"-" * 100_000 + b"1\n" + _UP, "deep sums": b"x = " + b"1+" * 50_000 + b"1\n" + _UP,
    "deep calls": b"x = " + b"f(" * 3000 + b")" * 3000 + b"\n" + _UP,
    "deep attributes": b"x = a" + b".b" * 50_000 + b"\n" + _UP, "deep lambdas": b"x = " + b"lambda:" * 3000 + b"1\n" + _UP,
    "deep ifs": b"".join(b" " * n + b"if 1:\n" for n in range(99)) + b" " * 99 + b"x = 1\n" + _UP,
    "deep requires": b"requires = " + b"(" * 190 + b"'001'," + b")" * 190 + b"\n" + _UP,
    "deep literal": b"requires = " + b"-" * 3000 + b"1\n" + _UP,
    "a huge number": b"x = " + b"9" * 10_000 + b"\n" + _UP, "a long line": b"x = '" + b"y" * 3_000_000 + b"'\n" + _UP,
    "many lines": b"x = 1\n" * 100_000 + _UP, "tabs and spaces": b"def up(conn):\n\tx = 1\n        y = 2\n",
    "Python 2": b"def up(conn):\n    print 'hello'\n", "async": b"async def up(conn):\n    pass\n",
    "a generator": b"def up(conn):\n    yield 1\n", "raises when imported": b"1 / 0\n" + _UP,
    "exits when imported": b"import sys\nsys.exit(0)\n" + _UP, "ends the process when imported": b"import os\nos._exit(0)\n" + _UP,
    "ends the process": b"import os\ndef up(conn):\n    os._exit(0)\n", "exits": b"import sys\ndef up(conn):\n    sys.exit(0)\n",
    "recurses": b"def up(conn):\n    up(conn)\n", "recurses when imported": b"def f():\n    f()\nf()\n" + _UP,
    "raises a strange exception": b"class E(BaseException):\n    def __str__(self):\n        raise E\ndef up(conn):\n    raise E\n",
    "raises with a lone surrogate": b"def up(conn):\n    raise ValueError('\\ud800')\n",
    "raises a huge text": b"def up(conn):\n    raise ValueError('x' * 10_000_000)\n",
    "prints a lone surrogate": b"def up(conn):\n    print('\\ud800')\n",
    "writes bytes": b"import os\ndef up(conn):\n    os.write(1, bytes(range(256)) * 100)\n    os.write(2, b'no end')\n",
    "a literal set": b"requires = {'001'}\n" + _UP, "requires itself": b"requires = ('002',)\n" + _UP,
    "a huge requirement": b"requires = ('" + b"9" * 5000 + b"',)\n" + _UP,
    "a crash in C": b"import os, signal\ndef up(conn):\n    os.kill(os.getpid(), signal.SIGSEGV)\n",
    "no arguments": b"def up():\n    pass\n", "a class": b"class up:\n    pass\n",
    "closes everything": b"import os\ndef up(conn):\n    os.closerange(0, 50)\n",
}  # fmt: skip
"""What may stand in a `.py` file."""

_SQL = SECOND.encode()
SQL = {
    "empty": b"", "blank": b" \n\t\n", "only comments": b"-- nothing\n/* at all */\n",
    "an open string": b"SELECT 'abc;\n", "an open name": b'SELECT "abc;\n', "an open bracket": b"SELECT [abc;\n",
    "an open comment": b"SELECT 1;\n/* and so on\n", "no semicolon": b"CREATE TABLE t (x)",
    "a NUL": b"SELECT 1;\0SELECT 2;", "a NUL in a string": b"SELECT 'a\0b';", "no UTF-8": b"SELECT '\xff';",
    "overlong UTF-8": b"SELECT '\xc0\x80';", "a surrogate in UTF-8": b"SELECT '\xed\xa0\x80';",
    "UTF-16": _SQL.decode().encode("utf-16"), "a byte order mark": b"\xef\xbb\xbf" + _SQL,
    "two byte order marks": b"\xef\xbb\xbf" * 2 + _SQL, "CRLF": _SQL.replace(b"\n", b"\r\n"),
    "CR": _SQL.replace(b"\n", b"\r"), "a syntax error": b"CREATE TABEL t (x);", "an open trigger": b"CREATE TRIGGER t AFTER INSERT ON items BEGIN SELECT 1;",
    "a trigger without an end": b"CREATE TRIGGER t AFTER INSERT ON items BEGIN SELECT 1; END SELECT 2;",
    "a huge statement": b"SELECT " + b"1+" * 400_000 + b"1;", "a huge string": b"CREATE TABLE t (x); INSERT INTO t VALUES ('" + b"x" * 5_000_000 + b"');",
    "more than SQLite takes": b"SELECT '" + b"x" * 1_100_000 + b"'" + b"||'x'" * 1200 + b";",
    "deep parentheses": b"SELECT " + b"(" * 3000 + b"1" + b")" * 3000 + b";", "many values": b"SELECT " + b"1," * 40_000 + b"1;",
    "many semicolons": b";" * 100_000 + b"SELECT 1;", "many statements": b"SELECT 1;\n" * 20_000,
    "deep cases": b"SELECT " + b"CASE WHEN 1 THEN " * 2000 + b"1" + b" END" * 2000 + b";",
    "an unknown directive": b"-- migrate:sideways\nSELECT 1;", "two ups": b"-- migrate:up\nSELECT 1;\n-- migrate:up\nSELECT 2;",
    "only down": b"-- migrate:down\nSELECT 1;", "a statement before up": b"SELECT 1;\n-- migrate:up\nSELECT 2;",
    "another tool's mark": b"-- +goose Up\nSELECT 1;\n-- +goose Down\nDROP TABLE items;",
    "a shell command": b".read other.sql\n", "ROLLBACK": b"SELECT 1; ROLLBACK;", "ATTACH": b"ATTACH 'x.db' AS x;",
    "COMMIT": b"COMMIT; CREATE TABLE t (x);", "parameters": b"INSERT INTO items (name) VALUES (?1), (:a), (@b), ($c);",
    "a lone quote": b"'", "a lone slash": b"/", "a lone dash": b"-", "a lone backslash": b"\\",
    "loads an extension": b"SELECT load_extension('/data/evil.so');", "writes a file": b"SELECT writefile('/tmp/evil', 'x');",
    "drops the history": b"DROP TABLE migrations;", "writes the schema": b"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'x';",
    "EXPLAIN": b"EXPLAIN SELECT 1;", "a journal mode": b"PRAGMA journal_mode = OFF;", "text behind the end": b"SELECT 1; and so on",
    "only a directive": b"-- migrate:up\n", "directives alone": b"-- migrate:up\n-- migrate:down\n",
    "a lossy directive": b"-- migrate:allow-row-loss\nDELETE FROM items;", "recursion in a trigger":
    b"PRAGMA recursive_triggers = ON; CREATE TRIGGER t AFTER UPDATE ON items BEGIN UPDATE items SET size = 1; END; UPDATE items SET size = 2;",
}  # fmt: skip
"""What may stand in an `.sql` file."""


def script_cases(seed: str) -> Iterator[Case]:
    """Yield migrations that are damaged, pending ones and applied ones."""
    files = sound("plain")
    for name, content in PYTHON.items():
        yield _instead(f"Python: {name}", files, "002_tags.py", content)
    for name, content in SQL.items():
        yield _instead(f"SQL: {name}", files, "002_tags.sql", content)
        outside = b"-- migrate:up transaction:false\n" + content
        yield _instead(f"SQL, outside of the transaction: {name}", files, "002_tags.sql", outside)
        yield Case(f"SQL, applied: {name}", {**files, "migrations/001_sizes.sql": content}, FAILING)
    for name, act in _PLACES.items():
        yield Case(f"migrations: {name}", files, FAILING, after=act)
    yield from _flipped(files, seed)


def _instead(name: str, files: Files, file: str, content: bytes) -> Case:
    kept = {key: data for key, data in files.items() if key != "migrations/002_tags.sql"}
    return Case(name, {**kept, f"migrations/{file}": content}, FAILING)


def _flipped(files: Files, seed: str) -> Iterator[Case]:
    for turn in range(200):
        chance = random.Random(f"{seed} {turn}")  # noqa: S311 - nothing secret
        name, text = chance.choice((("002_tags.sql", _SQL), ("002_tags.py", _UP)))
        changed = bytearray(text)
        for _ in range(chance.choice((1, 1, 3))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield _instead(f"bytes changed, turn {turn}: {name}", files, name, bytes(changed))


def _in(act: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda base: act(base / "migrations")


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def act(base: Path) -> None:
        path = base / "migrations" / "002_tags.sql"
        path.unlink()
        make(path)

    return act


def _away(base: Path, make: Callable[[Path], object]) -> None:
    directory = base / "migrations"
    directory.rename(base / "migrations.away")
    make(directory)


_PLACES: dict[str, Callable[[Path], object]] = {
    "a directory of that name": _replaced(Path.mkdir),
    "a link to nowhere": _replaced(lambda path: path.symlink_to("nowhere.sql")),
    "a link to itself": _replaced(lambda path: path.symlink_to(path.name)),
    "a link to a directory": _replaced(lambda path: path.symlink_to("..")),
    "a named pipe": _replaced(os.mkfifo),
    "a link to a device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to a terminal": _replaced(lambda path: path.symlink_to("/dev/tty")),
    "a name that is no UTF-8": _in(lambda path: Path(f"{path}/003_\udcff.sql").write_text("SELECT 1;")),
    "a name with a line break": _in(lambda path: (path / "003_a\nb.sql").write_text("SELECT 1;")),
    "a name with quotes": _in(lambda path: (path / "003_'\"`.sql").write_text("SELECT 1;")),
    "a name with a percent sign": _in(lambda path: (path / "003_%s%n.sql").write_text("SELECT 1;")),
    "a name of 255 bytes": _in(lambda path: (path / f"003_{'x' * 247}.sql").write_text("SELECT 1;")),
    "a version of 200 digits": _in(lambda path: (path / f"{'9' * 200}_x.sql").write_text("SELECT 1;")),
    "two of one version": _in(lambda path: (path / "2_again.sql").write_text("SELECT 1;")),
    "a file in place of the directory": lambda base: _away(base, lambda path: path.write_text("x")),
    "a named pipe in place of the directory": lambda base: _away(base, os.mkfifo),
    "a link to nowhere in place of the directory": lambda base: _away(base, lambda path: path.symlink_to("gone")),
    "no directory": lambda base: (base / "migrations").rename(base / "migrations.away"),
    "a link to the directory": lambda base: _away(base, lambda path: path.symlink_to("migrations.away")),
}  # fmt: skip
