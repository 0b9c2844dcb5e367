"""The SQL lexer: where statements end, on which line they begin, and what they are."""

from __future__ import annotations

import sqlite3
import time
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.parsing import sql
from migrator.statement import Statement

TRIGGER = """CREATE TRIGGER t AFTER INSERT ON a BEGIN
  UPDATE a SET n = CASE WHEN n THEN 1 ELSE 2 END; -- END;
  INSERT INTO log VALUES ('END;');
END;"""


def texts(script: str) -> list[str]:
    """Return the texts of a script's statements."""
    return [statement.text for statement in sql.split(script)]


def test_statements_end_at_their_semicolons():
    """Each statement is its own text, with its semicolon and the line it begins on."""
    expected = (Statement("SELECT 1;", 1, "SELECT"), Statement("SELECT\n2;", 2, "SELECT"))
    assert expected == sql.split("SELECT 1;\nSELECT\n2;\n")


@pytest.mark.parametrize("quoted", ["'a;b'", "'it''s;'", '"a;b"', '"a"";b"', "`a;b`", "[a;b]"])
def test_semicolons_in_quotes_do_not_end_a_statement(quoted):
    """A semicolon within a string or a quoted name belongs to it."""
    assert [f"SELECT {quoted};", "SELECT 2;"] == texts(f"SELECT {quoted}; SELECT 2;")


def test_semicolons_in_comments_do_not_end_a_statement():
    """A semicolon within a comment belongs to it."""
    assert ["SELECT 1 -- a;\n/* b; */;"] == texts("SELECT 1 -- a;\n/* b; */;")


def test_quotes_in_comments_open_nothing():
    """An apostrophe within a comment opens no string."""
    assert ["SELECT 1;", "SELECT 2;"] == texts("-- don't\nSELECT 1; /* it's */ SELECT 2;")


def test_a_trigger_stays_whole():
    """The semicolons of a trigger's body do not end it; `END` followed by one does."""
    assert [TRIGGER, "SELECT 1;"] == texts(f"{TRIGGER}\nSELECT 1;")


@pytest.mark.parametrize(
    "head", ["CREATE TEMP TRIGGER", "create temporary trigger", "/*x*/CREATE--y\nTRIGGER",
             "EXPLAIN CREATE TRIGGER", "CREATE TRIGGER IF NOT EXISTS"]
)  # fmt: skip
def test_every_spelling_of_a_trigger_is_known(head):
    """Temporary triggers, comments between the words and lower case change nothing."""
    assert 2 == len(sql.split(f"{head} t BEGIN SELECT 1; SELECT 2; END; SELECT 3;"))


def test_lone_semicolons_and_comments_are_no_statements():
    """Empty statements and comments alone give nothing."""
    assert () == sql.split("; ;\n-- a\n/* b; */;\n;")


def test_line_is_that_of_the_first_token():
    """A statement begins after the comments above it."""
    assert (Statement("SELECT 1;", 5, "SELECT"),) == sql.split(
        "\n-- a\n/* b\n */\n  SELECT 1; -- c"
    )


def test_first_line_is_counted_from():
    """A section of a file keeps the file's line numbers."""
    assert [11] == [statement.line for statement in sql.split("\nSELECT 1;", 10)]


def test_crlf_lines_are_counted_once():
    """CRLF is one line end, and stays in the text."""
    assert (
        Statement("SELECT\r\n1;", 1, "SELECT"),
        Statement("SELECT 2;", 3, "SELECT"),
    ) == sql.split("SELECT\r\n1;\r\nSELECT 2;\r\n")


def test_a_byte_order_mark_is_blank():
    """A BOM, at the start or where files were joined, is no token."""
    assert ["SELECT 1;", "SELECT 2;"] == texts("\ufeffSELECT 1;\n\ufeffSELECT 2;")


@pytest.mark.parametrize(
    ("script", "line", "opened"),
    [
        ("SELECT 1;\nSELECT 'a;\nb;\n", 2, ("string", 2)),
        ('SELECT "a;\n', 1, ("name", 1)),
        ("SELECT\n[a;\n", 1, ("name", 2)),
        ("SELECT 1;\n/* a;\n", 2, ("comment", 2)),
        ("SELECT 1\n/* a;\n", 1, ("comment", 2)),
        ("SELECT 1;\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\nSELECT 1;\n", 2, ("trigger", 2)),
        ("CREATE TRIGGER t AFTER INSERT ON a", 1, ("trigger", 1)),
        ("CREATE TRIGGER t BEGIN SELECT 1; END SELECT 2", 1, ("trigger", 1)),
        ("SELECT 1;\nCREATE TABLE a (b,\nc DEFAULT (1", 2, ("parenthesis", 3)),
        ("INSERT INTO a VALUES (1, ')'", 1, ("parenthesis", 1)),
        ("SELECT 1 -- a\n  , 'b -- c\n", 1, ("string", 2)),
    ],
)
def test_an_end_that_is_cut_off_is_an_error(script, line, opened):
    """A text that has been cut off does not run: the error has the line."""
    with pytest.raises(sql.UnterminatedError) as caught:
        sql.split(script)
    assert (line, opened) == (caught.value.line, caught.value.opened)


@pytest.mark.parametrize(
    "last",
    ["SELECT 2", "SELECT 2 -- a; (", "SELECT 2 /* ' */", "SELECT ')'", "SELECT (1)) -- (",
     "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1;\nEND",
     "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END -- t", ".read x"],
)  # fmt: skip
def test_the_last_statement_needs_no_semicolon(last):
    """What lacks nothing but its `;` is a statement, as in SQLite's own shell."""
    assert (
        Statement("SELECT 1;", 1, "SELECT"),
        Statement(last, 2, sql.keyword(last)),
    ) == sql.split(f"SELECT 1;\n{last}")


def test_lenient_splitting_keeps_the_unfinished_end():
    """`executescript` runs a last statement without its semicolon, and so does the guard."""
    assert (
        Statement("SELECT 1;", 1, "SELECT"),
        Statement("SELECT 2", 2, "SELECT"),
    ) == sql.split_lenient("SELECT 1;\nSELECT 2 \n")


def test_an_open_comment_keeps_the_blank_that_makes_it_one():
    """`/*` with nothing behind it are two operators to SQLite, a syntax error."""
    assert ["END\n/*\n"] == [each.text for each in sql.split_lenient("END\n/*\n")]


def test_lenient_splitting_ends_at_an_open_comment():
    """SQLite takes an open block comment for the end of the text."""
    assert (Statement("SELECT 1;", 1, "SELECT"),) == sql.split_lenient("SELECT 1; /* SELECT 2;")


def test_a_nul_is_refused():
    """A NUL would end the text for SQLite, so that the rest would be dropped in silence."""
    with pytest.raises(ValueError, match="null"):
        sql.split("SELECT 1;\0SELECT 2;")


PIECES = st.sampled_from(
    ["CREATE", "TEMP", "TEMPORARY", "TRIGGER", "EXPLAIN", "END", "BEGIN", "x", "CASE", ";", ";",
     " ", "\n", "\t", "'a;b'", "''", '"x;"', "`;`", "[;]", "-- c;\n", "/* ; */", "/**/", "/*/ */",
     "(", ")", ",", "-", "/", "*", "é", "$1", "create", "trigger", "end", "'", '"', "[", "/*", "--"]
)  # fmt: skip


def by_the_oracle(script: str) -> tuple[list[str], str]:
    """Cut a script by asking `complete_statement` at every character."""
    found, start = [], 0
    for end in range(1, len(script) + 1):
        # A chunk may look complete inside of its own string or comment, whose
        # text then goes on; SQLite only looks at what it is given.
        if script[end - 1] == ";" and sqlite3.complete_statement(script[start:end]):
            found.append(script[start:end])
            start = end
    return found, script[start:]


@settings(deadline=None)
@given(st.lists(PIECES, max_size=25).map(" ".join) | st.lists(PIECES, max_size=25).map("".join))
@example("CREATE TRIGGER t BEGIN SELECT 1; END; SELECT 1;")
@example("-- a;\n/*;*/ ; x ;")
@example("`;` ; CREATE ;")
def test_splitting_agrees_with_sqlite(script):
    """SQLite's own `complete_statement`, asked everywhere, finds the same ends."""
    chunks, _ = by_the_oracle(script)
    # A lone semicolon is one token; a name that is quoted and called so has one behind it.
    expected = [chunk for chunk in chunks if sql.words(chunk, 2) not in ((), (";",))]
    found = [statement.text for statement in sql.split_lenient(script)][: len(expected)]
    assert len(expected) == len(found)
    assert all(chunk.endswith(text) for chunk, text in zip(expected, found, strict=True))


@settings(deadline=None)
@given(st.text(alphabet="CREATETRIGGERENDxé;'\"`[]-/* \n", max_size=60))
def test_nothing_is_lost_or_doubled(script):
    """The statements stand in the text in their order, on the lines they name."""
    at = 0
    for statement in sql.split_lenient(script):
        at = script.index(statement.text, at)
        assert script.count("\n", 0, at) + 1 == statement.line
        at += len(statement.text)


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO t VALUES (1, 'abc;def');\n" * 100_000,
        "CREATE TRIGGER t BEGIN " + "SELECT 'a;'; -- END;\n" * 100_000 + "END;",
        "-- a comment; with a semicolon\n" * 100_000,
        "/*" * 500_000,
        "';" * 500_000,
    ],
)
def test_large_scripts_take_linear_time(script):
    """A dump of megabytes is cut within seconds of work."""
    begin = time.process_time()
    sql.split_lenient(script)
    assert time.process_time() - begin < 10


def test_what_was_split_runs():
    """The pieces, run one by one, make what the script makes."""
    script = f"CREATE TABLE a (n);\nCREATE TABLE log (t);\n{TRIGGER}\nINSERT INTO a VALUES (1);"
    conn = sqlite3.connect(":memory:")
    for statement in sql.split(script):
        conn.execute(statement.text)
    assert [("END;",)] == conn.execute("SELECT t FROM log").fetchall()
    conn.close()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [("  select 1", "SELECT"), ("-- a\n/* b */insert", "INSERT"), ("", ""), (".read x", ""),
     ('"x"', ""), ("; x", "")],
)  # fmt: skip
def test_keyword_is_the_first_word(statement, expected):
    """The keyword is in upper case, comments skipped, empty where there is none."""
    assert expected == sql.keyword(statement)


def test_a_word_has_the_characters_that_sqlite_has_in_one():
    """ASCII letters, digits, `_`, `$` and all beyond ASCII; a byte order mark begins none."""
    for code in (*range(1, 0x200), 0x17F, 0x212A, 0xFEFE, 0xFEFF, 0xFF00, 0xFFFF, 0x10FFFF):
        each = chr(code)
        inside = code > 0x7F or (each.isascii() and (each.isalnum() or each in "_$"))
        expected = f"A{each.upper() if each.isascii() else each}B"
        found = sql.words(f"a{each}b", 1)[0]
        assert (found == expected if code < 0x80 else found == f"a{each}b") is inside, hex(code)
        assert bool(sql.keyword(each)) is (inside and code != 0xFEFF), hex(code)


def test_words_are_upper_case_and_quoted_names_as_written():
    """Bare words are in upper case, quoted ones keep theirs, the rest is single characters."""
    expected = ("PRAGMA", "my Db", ".", "JOURNAL_MODE", "=", "WAL")
    assert expected == sql.words('pragma "my Db" . /*x*/ journal_mode=wal;', 6)
    assert ("PRAGMA",) == sql.words("pragma x", 1)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("alter table t add x", "ALTER"),
        (";\n/* a; */ ; -- b;\n explain delete from t", "EXPLAIN"),
        (";", ""),
        ("; ; 'x'", ""),
    ],
)
def test_command_is_the_first_word_behind_empty_statements(statement, expected):
    """SQLite skips empty statements before the one that it executes."""
    assert expected == sql.command(statement)


@pytest.mark.parametrize(
    ("text", "expected"), [("a", ("a",)), ('a, "b c",[d]', ("a", "b c", "d")), ("é", ("é",))]
)
def test_names_reads_a_list(text, expected):
    """Names are separated by commas and may be quoted."""
    assert expected == sql.names(text)


@pytest.mark.parametrize("text", ["", ",", "a b", "a,", "a,,b", "main.a", "a;", '""', "my-table"])
def test_names_refuses_what_is_no_list(text):
    """Anything else is an error, never a name that matches no table."""
    with pytest.raises(ValueError, match="name"):
        sql.names(text)


def test_line_comments_stand_outside_of_strings():
    """Comments within strings and block comments are none; the others know their line."""
    found = list(sql.line_comments("'-- a' -- b\n/* -- c */\n  -- d\n\"\n-- e\""))
    assert [("-- b", 1, False), ("-- d", 3, True)] == [(c.text, c.line, c.alone) for c in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- all", ["-- all"]),
        ("/* all */", ["/* all */"]),
        ("/* a */-- b", ["/* a */", "-- b"]),
        ("-- a\n/* b */", ["-- a", "/* b */"]),
        ("a - b /* c", ["/* c"]),
        ("a - b / c * d", []),
    ],
)
def test_a_text_may_end_in_a_comment(text, expected):
    """The last comment is found at any place, and an operator is not taken for one."""
    assert expected == [comment.text for comment in sql.comments(text)]


def test_behind_the_last_comment_nothing_is_looked_for(monkeypatch):
    """A dump's rows cost no look each, whatever signs are in them."""
    looks = []
    pattern = sql._COMMENT
    counting = SimpleNamespace(match=lambda *where: (looks.append(1), pattern.match(*where))[1])
    monkeypatch.setattr(sql, "_COMMENT", counting)
    text = "-- a dump\n/* of a table */\n" + "INSERT INTO t VALUES (-1, 4 / 2);\n" * 100
    assert ["-- a dump", "/* of a table */"] == [each.text for each in sql.comments(text)]
    assert 2 == len(looks)


def test_only_what_sqlite_takes_for_blank_is_blank():
    """Python's other blanks stay in the statement, which SQLite then refuses by its name."""
    assert ["SELECT 1;", "\u00a0"] == [each.text for each in sql.split_lenient("SELECT 1;\u00a0")]
    assert ["SELECT 1;"] == texts("SELECT 1;\n\v")


def test_a_byte_order_mark_within_a_trigger_does_not_cut_it():
    """Where files were joined, a mark may stand in the middle."""
    trigger = "CREATE \ufeffTRIGGER t AFTER INSERT ON x BEGIN SELECT 1; END;"
    assert [trigger, "SELECT 2;"] == texts(f"{trigger} SELECT 2;")
