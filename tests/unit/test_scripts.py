"""What a migration's text says, what is refused in it, and how a `.py` file is imported."""

from __future__ import annotations

import hashlib
import pickle
import sys
import textwrap

import pytest

from migrator.errors import InterruptedRunError, MisfitError
from migrator.model import Entry, Script
from migrator.parsing import directory as source
from migrator.parsing import scripts


@pytest.fixture
def entry(tmp_path):
    """Return a function that writes a file and lists it."""

    def write(name, content):
        if isinstance(content, str):
            content = textwrap.dedent(content).encode()
        (tmp_path / name).write_bytes(content)
        return next(e for e in source.list_directory(tmp_path) if e.file == name)

    return write


@pytest.fixture
def read(entry):
    """Return a function that writes a file and reads it."""
    return lambda name, content: scripts.read(entry(name, content))


@pytest.fixture
def load(read):
    """Return a function that writes a file, reads and loads it."""
    return lambda name, content: scripts.load(read(name, content))


def refused(call, *args: object):
    """Return the error that a call ends with."""
    with pytest.raises(MisfitError) as caught:
        call(*args)
    assert 78 == caught.value.exit_code
    assert caught.value.hint
    return caught.value


# --- text -------------------------------------------------------------------


def test_checksum_ignores_line_ends_and_byte_order_mark(read):
    """A checkout with other line ends, or an editor's BOM, is the same migration."""
    found = {
        read("001_a.sql", content).checksum
        for content in (b"SELECT\n1;\n", b"SELECT\r\n1;\r\n", b"SELECT\r1;\r",
                        b"\xef\xbb\xbfSELECT\n1;\n")
    }  # fmt: skip
    assert {hashlib.sha256(b"SELECT\n1;\n").hexdigest()} == found


def test_checksum_sees_everything_else(read):
    """A blank more is another text."""
    assert read("1_a.sql", "SELECT 1;").checksum != read("1_a.sql", "SELECT  1;").checksum


@pytest.mark.parametrize("name", ["001_a.sql", "001_a.py"])
@pytest.mark.parametrize(
    ("content", "line"),
    [(b"-- a\n\xff\n", 2), (b"\n\n\0", 3), (b"\xff\xfeS\0", 1), (b"# \xc3\n", 1)],
)
def test_what_is_no_text_is_refused(read, name, content, line):
    """Invalid UTF-8 and NULs are refused with their line."""
    error = refused(read, name, content)
    assert "migrations.encoding" == error.reason
    assert (name, line, "001") == (error.data["file"], error.data["line"], error.data["version"])


def test_utf16_is_recognised(read):
    """What PowerShell's `>` writes is named as what it is."""
    assert "UTF-16" in refused(read, "1_a.sql", "SELECT 1;".encode("utf-16")).message


def test_python_may_declare_its_encoding(load):
    """A `.py` file with a coding line is read as Python reads it."""
    script = load(
        "1_a.py", b"# coding: latin-1\ndescription = '\xe9'\ndef up(conn): return '\xe9'\n"
    )
    assert ("é", "é") == (script.description, script.up(None))


def test_an_unknown_encoding_is_refused(read):
    """A codec that Python lacks is an error, not a traceback."""
    assert 78 == refused(read, "1_a.py", b"# coding: nonesuch\ndef up(conn): '\xff'\n").exit_code


@pytest.mark.parametrize("coding", ["undefined", "punycode", "rot13", "base64", "cp424"])
def test_an_encoding_that_the_file_is_not_in_is_refused(read, coding):
    """Whatever a codec raises, the file and its coding are named."""
    text = f"# coding: {coding}\ndef up(conn): pass\n".encode()
    error = refused(read, "1_a.py", text)
    assert (78, "migrations.encoding") == (error.exit_code, error.reason)
    assert "1_a.py" == error.data["file"]
    assert coding in error.message.lower()


def test_a_file_that_vanished_is_refused(entry):
    """A file that goes between listing and reading is named."""
    gone = entry("1_a.sql", "SELECT 1;")
    gone.path.unlink()
    error = refused(scripts.read, gone)
    assert "migrations.unreadable" == error.reason
    assert "1_a.sql" in error.message


def test_a_migration_without_a_file_is_as_it_is():
    """What was registered in code has no text to read or import."""
    script = scripts.read(Entry("a", "1", "a"))
    assert (None, script) == (script.checksum, scripts.load(script))


# --- .sql -------------------------------------------------------------------


def test_plain_sql_is_all_up(read):
    """A file without sections is run whole, in the run's transaction."""
    script = read("1_a.sql", "CREATE TABLE a (x);\n-- note\nINSERT INTO a\nVALUES (1);\n")
    assert [1, 3] == [statement.line for statement in script.sql_up.statements]
    assert script.transactional
    assert not script.has_down
    assert script.sql_down is None


def test_sections_are_cut_with_their_lines(read):
    """`up` and `down` hold their own statements, numbered as in the file."""
    script = read(
        "1_a.sql",
        """\
        -- a comment
        -- migrate:up
        CREATE TABLE a (x);

        -- migrate:down
        DROP TABLE a;
        """,
    )
    assert [("CREATE TABLE a (x);", 3)] == [(s.text, s.line) for s in script.sql_up.statements]
    assert [("DROP TABLE a;", 6)] == [(s.text, s.line) for s in script.sql_down.statements]
    assert script.has_down


@pytest.mark.parametrize(
    "directive",
    ["-- migrate:up", "--migrate:up", "  --  migrate:up  ", "\t-- migrate: up", "-- MIGRATE:Up",
     "-- migrate:up\r", "--- migrate:up transaction:true", "\ufeff-- migrate:up"],
)  # fmt: skip
def test_directives_may_be_spelled_freely(read, directive):
    """Blanks, case and a BOM make no comment out of a directive."""
    script = read("1_a.sql", f"{directive}\nSELECT 1;\n--migrate:down\nSELECT 2;\n".encode())
    assert ["SELECT 1;"] == [s.text for s in script.sql_up.statements]
    assert ["SELECT 2;"] == [s.text for s in script.sql_down.statements]


def test_transaction_false_is_of_its_section(read):
    """Each section says for itself whether it runs in the transaction."""
    script = read(
        "1_a.sql", "-- migrate:up transaction:false\nVACUUM;\n-- migrate:down\nSELECT 1;\n"
    )
    assert (False, True) == (script.transactional, script.down_transactional)
    script = read("1_a.sql", "-- migrate:up\n-- migrate:down transaction:false\nVACUUM;\n")
    assert (True, False) == (script.transactional, script.down_transactional)
    assert not script.sql_down.transactional


def test_down_may_stand_first(read):
    """The order of the sections is free."""
    script = read("1_a.sql", "-- migrate:down\nSELECT 2;\n-- migrate:up\nSELECT 1;\n")
    assert ["SELECT 1;"] == [s.text for s in script.sql_up.statements]


@pytest.mark.parametrize("content", ["", "-- nothing\n", "-- migrate:up\n-- migrate:down\n"])
def test_a_file_without_statements_is_allowed(read, content):
    """A migration may do nothing."""
    assert () == read("1_a.sql", content).sql_up.statements


@pytest.mark.parametrize(
    "content",
    [
        "SELECT '\n-- migrate:down\n';\n",
        "/*\n-- migrate:down\n*/ SELECT 1;\n",
        'SELECT "\n-- migrate:down\n";\n',
    ],
)
def test_directives_within_strings_and_comments_are_none(read, content):
    """Only a real line comment is a directive."""
    script = read("1_a.sql", content)
    assert 1 == len(script.sql_up.statements)
    assert not script.has_down


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("-- migrate:up\n-- migrate:sideways\n", 2, "'-- migrate:sideways' is not known"),
        ("-- migrate:\n", 1, "not known"),
        ("-- migrate:up transaction:no\n", 1, "'transaction:no'"),
        ("-- migrate:up tansaction:false\n", 1, "'tansaction:false'"),
        ("-- migrate:up\nSELECT 1;\n-- migrate:up\n", 3, "the first is on line 1"),
        ("-- x\nSELECT 1;\n-- migrate:up\n", 2, "before `-- migrate:up`"),
        ("\n-- migrate:down\nSELECT 1;\n", 2, "without a `-- migrate:up`"),
        ("-- migrate:up\nSELECT 1; -- migrate:down\nSELECT 2;\n", 2, "after other text"),
        ("DROP TABLE a; -- migrate:allow-row-loss a\n", 1, "after other text"),
        ("-- migrate:allow-row-loss\n", 1, "does not name tables"),
        ("-- migrate:allow-row-loss a b\n", 1, "does not name tables"),
        ("-- migrate:allow-row-loss main.a\n", 1, "does not name tables"),
    ],
)
def test_bad_directives_are_refused(read, content, line, words):
    """A directive that is not understood is refused, with its line and what is known."""
    error = refused(read, "001_a.sql", content)
    assert "migrations.directive" == error.reason
    assert line == error.data["line"]
    assert f"001_a.sql, line {line}: " in error.message
    assert words in error.message


def test_a_comment_below_our_own_marks_is_no_section(read):
    """Where the file has our sections, `-- down` is a comment."""
    script = read("1_a.sql", "-- migrate:up\n-- migrate:down\n-- down\nSELECT 1;\n")
    assert (True, None) == (script.has_down, script.mark)


def test_row_loss_may_be_said_anywhere_and_often(read):
    """The tables of all directives are joined, quoted names unquoted."""
    script = read(
        "1_a.sql",
        '-- migrate:allow-row-loss a, "b c"\n-- migrate:up\n'
        "--migrate:allow-row-loss [d]\nSELECT 1;\n",
    )
    assert {"a", "b c", "d"} == script.allow_row_loss


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("SELECT 1;\nSELECT (2", 2),
        ("SELECT 1;\n\nSELECT 'a;\n", 3),
        ("-- migrate:up\nSELECT 1;\n/* open\n", 3),
        ("-- migrate:up\nCREATE TABLE a (\n-- migrate:down\nDROP TABLE a;\n", 2),
        ("CREATE TRIGGER t BEGIN\nSELECT 1;\n", 1),
    ],
)
def test_a_statement_that_is_cut_off_is_refused(read, content, line):
    """A file that is incomplete does not run."""
    error = refused(read, "1_a.sql", content)
    assert ("migrations.syntax", line) == (error.reason, error.data["line"])


@pytest.mark.parametrize(
    ("content", "line"),
    [(".read x.sql\nSELECT 1;\n", 1), ("SELECT 1;\n.quit\n", 2), ("-- a\n  .mode csv\n.dump\n", 2)],
)
def test_shell_commands_are_refused(read, content, line):
    """Commands of the `sqlite3` shell are no SQL."""
    error = refused(read, "1_a.sql", content)
    assert line == error.data["line"]
    assert "`sqlite3` shell" in error.message


@pytest.mark.parametrize(
    ("statement", "way_out"),
    [
        ("VACUUM;", "transaction:false"),
        ("vacuum main INTO 'x';", "transaction:false"),
        ("PRAGMA journal_mode = WAL;", "transaction:false"),
        ("pragma main . Journal_Mode(wal);", "transaction:false"),
        ('PRAGMA "journal_mode" = wal;', "transaction:false"),
        ("PRAGMA page_size=4096;", "transaction:false"),
        ("PRAGMA locking_mode = EXCLUSIVE;", "Remove"),
        ("PRAGMA temp_store_directory = '/x';", "Remove"),
        ("PRAGMA data_store_directory('/x');", "Remove"),
        ("ATTACH 'x' AS y;", "Remove"),
        ("DETACH y;", "Remove"),
        ("ROLLBACK;", "Remove"),
        ("/* x */ rollback transaction;", "Remove"),
    ],
)
def test_what_no_transaction_allows_is_refused(read, statement, way_out):
    """A statement that cannot run inside the run's transaction is found at once, with the fix."""
    error = refused(read, "1_a.sql", f"SELECT 1;\n{statement}\n")
    assert ("migrations.not_transactional", 2) == (error.reason, error.data["line"])
    assert way_out in error.hint
    error = refused(read, "1_a.sql", f"-- migrate:up\n-- migrate:down\n{statement}\n")
    assert 3 == error.data["line"]
    assert "migrate:down" in error.hint or way_out == "Remove"


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA journal_mode;", "PRAGMA foreign_keys = OFF;", "ROLLBACK TO x;", "BEGIN;", "COMMIT;",
     "ROLLBACK TRANSACTION TO SAVEPOINT x;", "END;", "EXPLAIN VACUUM;", "SELECT 'VACUUM;';",
     "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT RAISE(ROLLBACK, 'x'); END;"],
)  # fmt: skip
def test_what_a_transaction_allows_is_allowed(read, statement):
    """Transactions of the file's own, savepoints and harmless pragmas are fine."""
    assert 1 == len(read("1_a.sql", f"{statement}\n").sql_up.statements)


@pytest.mark.parametrize("statement", ["VACUUM;", "ATTACH 'x' AS y;", "ROLLBACK;"])
def test_outside_of_a_transaction_all_is_allowed(read, statement):
    """`transaction:false` is the way to say so."""
    script = read("1_a.sql", f"-- migrate:up transaction:false\n{statement}\n")
    assert not script.transactional


# --- .py: what is read without running it -----------------------------------


def test_python_is_read_without_being_run(read):
    """Reading runs no line of the file."""
    script = read("1_a.py", "raise SystemExit('ran')\ndef up(conn): ...\n")
    assert script.up is None


def test_metadata_is_read(read):
    """The optional names are literals at the top level."""
    script = read(
        "002_a.py",
        '''\
        """A docstring."""
        description: str = "Adds " "users"
        transactional = False
        requires = ["001"]
        allow_row_loss = "sessions", "carts"
        def up(conn): ...
        def down(conn): ...
        ''',
    )
    assert "Adds users" == script.description
    assert (False, False) == (script.transactional, script.down_transactional)
    assert ("001",) == script.requires
    assert {"sessions", "carts"} == script.allow_row_loss
    assert script.has_down


def test_defaults_of_python(read):
    """Without the names a migration is transactional and requires nothing."""
    script = read("1_a.py", "def up(conn): ...\n")
    assert Script(script.entry, checksum=script.checksum) == script


def test_docstring_serves_as_description(read):
    """The first line of the docstring describes where nothing else does."""
    assert (
        "Adds users."
        == read("1_a.py", '"""\nAdds users.\n\nMore.\n"""\ndef up(c): ...\n').description
    )


def test_one_table_may_be_a_plain_string(read):
    """`allow_row_loss` takes one name as well."""
    assert {"a"} == read("1_a.py", "allow_row_loss = 'a'\ndef up(c): ...\n").allow_row_loss


@pytest.mark.parametrize(
    "line",
    [
        "requires = '001'", "requires = (1,)", "requires = ('',)", "requires = REQUIRED",
        "requires = ('1',) + ()", "transactional = 0", "transactional = None",
        "transactional = not True", "description = 1", "description = f'{1}'",
        "allow_row_loss = None", "allow_row_loss = ''", "allow_row_loss = {'a': 1}",
        "requires += ('1',)", "transactional, x = False, 1", "import x as description",
        "if x: transactional = False", "def requires(): ...", "for description in 'ab': ...",
        "(transactional := False)",
    ],
)  # fmt: skip
def test_metadata_that_is_no_literal_is_refused(read, line):
    """What cannot be known without running the file, or has a wrong type, is refused."""
    error = refused(read, "1_a.py", f"import x\n{line}\ndef up(conn): ...\n")
    assert ("migrations.literal", 2) == (error.reason, error.data["line"])


def test_names_within_functions_are_no_metadata(read):
    """A function's own variables, and annotations without a value, say nothing."""
    script = read(
        "1_a.py",
        "transactional: bool\ndef up(c):\n  transactional = 0\n  x = [requires for requires in c]\n"
        "class A:\n  description = 1\n",
    )
    assert script.transactional


@pytest.mark.parametrize(
    "content",
    [
        "from shared import up",
        "from shared import *",
        "import shared\nup = shared.make()",
        "try:\n  from shared import up\nexcept ImportError:\n  def up(c): ...",
        "import x as up",
        "up = lambda c: None",
        "class up:\n  def __init__(self, conn): ...",
        "from shared import migration as (up)".replace("(up)", "up"),
    ],
)
def test_up_may_be_bound_in_any_way(read, content):
    """A definition, an assignment and an import all make an `up`."""
    assert read("1_a.py", content).entry.version == "1"


@pytest.mark.parametrize(
    "content", ["", "def upgrade(c): ...", "def f():\n  def up(c): ...", "up = None", "up: int"]
)
def test_no_up_is_refused(read, content):
    """A file without `up` is refused before anything runs."""
    assert "migrations.no_up" == refused(read, "1_a.py", content).reason


@pytest.mark.parametrize("name", ["up", "down", "check_before", "check_after"])
def test_async_functions_are_refused(read, name):
    """An async function would be called and never run."""
    content = f"def up(conn): ...\nasync def {name}(conn): ...\n"
    error = refused(read, "1_a.py", content)
    assert ("migrations.bad_function", 2) == (error.reason, error.data["line"])


def test_down_of_none_is_no_down(load):
    """`down = None` says that there is none."""
    script = load("1_a.py", "def up(conn): ...\ndown = None\n")
    assert (False, None) == (script.has_down, script.down)


@pytest.mark.parametrize(
    ("content", "line"),
    [("def up(conn):\n  x = (\n", 2), ("x = 1\nreturn 2\n", 2), ("  x = 1\n", 1),
     ("\nprint 'x'\n", 2), ("x = 1\n\tif y:\n", 2)],
)  # fmt: skip
def test_invalid_python_is_refused(read, content, line):
    """A syntax error is found without running the file, with its line."""
    error = refused(read, "1_a.py", content.encode())
    assert ("migrations.syntax", line) == (error.reason, error.data["line"])


@pytest.mark.parametrize(
    "deep", ["(" * 5000 + ")" * 5000, "-" * 50_000 + "1", "1+" * 200_000 + "1"]
)
def test_python_too_deep_to_parse_is_refused(read, deep):
    """What exhausts the parser is an error about the file."""
    error = refused(read, "1_a.py", f"x = {deep}\ndef up(c): ...\n")
    assert "migrations.syntax" == error.reason


def test_deep_expressions_are_read(read):
    """What Python parses is read, however deep."""
    assert "1" == read("1_a.py", f"x = {'1+' * 900}1\ndef up(c): ...\n").entry.version


@pytest.mark.filterwarnings("error")
def test_reading_warns_of_nothing(read, capfd):
    """The parser's warnings about the user's code stay off stderr."""
    read("1_a.py", r"x = '\d'; y = 1 is 1" "\ndef up(conn): ...\n")
    assert ("", "") == tuple(capfd.readouterr())


# --- all of them ------------------------------------------------------------


def test_all_faulty_files_are_listed(entry):
    """One error names every faulty file; the first gives file and line."""
    entries = [
        entry("1_a.sql", "SELECT 1;"),
        entry("2_b.sql", "SELECT 1;\nVACUUM;"),
        entry("3_c.py", "x"),
    ]
    error = refused(scripts.read_all, entries)
    assert ("2_b.sql", 2, "2") == tuple(error.data[key] for key in ("file", "line", "version"))
    assert "2_b.sql" in error.message
    assert "3_c.py" in error.message
    assert ["not_transactional", "no_up"] == [p["kind"] for p in error.data["problems"]]
    assert ["2", "3"] == [p["version"] for p in error.data["problems"]]


def test_requirements_that_are_met(entry):
    """Earlier files and applied versions satisfy, however they spell their number."""
    entries = [
        entry("001_a.sql", "SELECT 1;"),
        entry("002_b.py", "requires = ('1', '0.5')\ndef up(c): ...\n"),
    ]
    scripts.check_requires(scripts.read_all(entries), {(0, 5)})


@pytest.mark.parametrize(
    ("second", "third", "words"),
    [
        (["7"], [], "neither here nor applied"),
        (["users"], [], "neither here nor applied"),
        (["002"], [], "cycle: 002 → 002"),
        (["003"], [], "comes later"),
        (["003"], ["2"], "cycle: 002 → 003 → 002"),
    ],
)
def test_requirements_that_cannot_be_met(entry, second, third, words):
    """Unknown, circular and later requirements are refused before anything runs."""
    entries = [
        entry("002_b.py", f"requires = {second}\ndef up(c): ...\n"),
        entry("003_c.py", f"requires = {third}\ndef up(c): ...\n"),
    ]
    error = refused(scripts.check_requires, scripts.read_all(entries))
    assert "migrations.requires" == error.reason
    assert words in error.message
    assert "002_b.py" == error.data["file"]


# --- .py: the import --------------------------------------------------------


def test_functions_are_taken(load):
    """Loading fills in what runs."""
    script = load(
        "1_a.py",
        """\
        def up(conn): return "up"
        def down(conn): return "down"
        def check_before(conn): return "before"
        def check_after(conn): return "after"
        """,
    )
    called = [f(None) for f in (script.up, script.down, script.check_before, script.check_after)]
    assert ["up", "down", "before", "after"] == called
    assert script.has_down
    assert not script.wants_cursor


def test_sql_needs_no_loading(load):
    """An `.sql` migration is complete once read."""
    assert load("1_a.sql", "SELECT 1;").up is None


def test_loading_twice_runs_once(load):
    """A loaded script is as it is."""
    script = load("1_a.py", "def up(conn): ...\n")
    assert script is scripts.load(script)


def test_the_module_is_complete(load, tmp_path):
    """`__file__`, dataclasses and pickling work as in any module."""
    script = load(
        "1.2_größe-x.py",
        """\
        from __future__ import annotations
        import dataclasses, inspect, pathlib
        @dataclasses.dataclass(slots=True)
        class Row:
            x: int = 1
        def up(conn):
            return __file__, Row(2), inspect.getsource(Row), pathlib.Path(__file__).parent
        """,
    )
    file, row, text, directory = script.up(None)
    assert (str(tmp_path / "1.2_größe-x.py"), tmp_path) == (file, directory)
    assert row == pickle.loads(pickle.dumps(row))  # noqa: S301 - our own
    assert "class Row" in text


def test_our_own_future_imports_do_not_leak(load):
    """The file is compiled with its own `__future__` imports only."""
    assert int is load("1_a.py", "def up(conn, x: int = 1): ...\n").up.__annotations__["x"]


def test_imports_write_no_bytecode(load, tmp_path, monkeypatch):
    """Neither the file nor what it imports leaves a `__pycache__`, and the setting is put back."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper_of_a_migration.py").write_text("x = 1\n")
    load("1_a.py", "import helper_of_a_migration\ndef up(conn): ...\n")
    assert not (tmp_path / "__pycache__").exists()
    assert sys.dont_write_bytecode is False


def test_bytecode_is_not_believed(load, tmp_path):
    """A `__pycache__` from elsewhere is never run instead of the text."""
    (tmp_path / "__pycache__").mkdir()
    for tag in (sys.implementation.cache_tag,):
        (tmp_path / "__pycache__" / f"1_a.{tag}.pyc").write_bytes(b"rubbish")
    assert "text" == load("1_a.py", "def up(conn): return 'text'\n").up(None)


def test_a_file_changed_since_it_was_read_is_refused(read):
    """What was checked is what runs."""
    script = read("1_a.py", "def up(conn): ...\n")
    script.entry.path.write_text("def up(conn): 1 / 0\n")
    assert "migrations.changed_meanwhile" == refused(scripts.load, script).reason


@pytest.mark.parametrize(
    ("content", "line", "error"),
    [
        ("x = 1\n1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("import nonesuch_module\n", 1, "ModuleNotFoundError: No module named 'nonesuch_module'"),
        ("def f():\n  raise ValueError('x')\nf()\n", 2, "ValueError: x"),
        ("import sys\nsys.exit(0)\n", 2, "SystemExit: 0"),
        ("raise BaseException\n", 1, "BaseException"),
        ("raise GeneratorExit\n", 1, "GeneratorExit"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: "),
        ("exec('x = (')\n", 1, "SyntaxError: "),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E\n", 3, "E: (its text"),
        ("raise ValueError('x' * 9999)\n", 1, "ValueError: xxx"),
    ],
)
def test_a_file_that_does_not_import_is_refused(load, tmp_path, content, line, error):
    """Whatever the import raises is 78, with the innermost line in the file."""
    found = refused(load, "1_a.py", content + "def up(conn): ...\n")
    assert ("migrations.import", line) == (found.reason, found.data["line"])
    assert found.data["error"].startswith(error)
    assert len(found.data["error"]) <= 500
    assert found.__cause__ is not None
    files = {getattr(module, "__file__", None) for module in sys.modules.values()}
    assert str(tmp_path / "1_a.py") not in files


@pytest.mark.parametrize(
    ("prefix", "first"), [("/opt/sqlite-entrypoint", "Do without"), (sys.prefix, "Install")]
)
def test_a_module_is_to_be_installed_only_where_that_can_be_done(load, monkeypatch, prefix, first):
    """The image's own Python takes no packages: the way out is the application's."""
    monkeypatch.setattr(sys, "prefix", prefix)
    hint = refused(load, "1_a.py", "import nonesuch_module\ndef up(conn): ...\n").hint
    assert hint.startswith(f"{first} 'nonesuch_module'")


def test_a_signal_during_the_import_is_no_fault_of_the_file(load):
    """What ends the run passes through."""
    with pytest.raises(KeyboardInterrupt):
        load("1_a.py", "raise KeyboardInterrupt\ndef up(conn): ...\n")


def test_an_error_of_ours_that_a_file_raises_is_its_own(load, monkeypatch):
    """Nothing raises it for a signal where files are imported."""
    error = InterruptedRunError(15, "ended")
    monkeypatch.setattr(sys, "migration_test_error", error, raising=False)
    text = "import sys\nraise sys.migration_test_error\ndef up(conn): ...\n"
    assert "InterruptedRunError: ended" in refused(load, "1_a.py", text).message


@pytest.mark.parametrize(
    "content",
    [
        "up = 1",
        "def up(conn): yield",
        "def up(): ...",
        "def up(conn, cursor): ...",
        "import functools\nasync def f(conn): ...\nup = functools.partial(f)",
        "class A:\n  async def __call__(self, conn): ...\nup = A()",
        "def up(conn): ...\ndef down(): ...",
        "def up(conn): ...\ncheck_after = 3",
    ],
)
def test_functions_that_cannot_do_anything_are_refused(load, content):
    """A function whose call fails or runs nothing is found before anything runs."""
    assert "migrations.bad_function" == refused(load, "1_a.py", content).reason


def test_a_star_import_without_up_is_refused(load):
    """What only the import can tell is told by the import."""
    assert "migrations.no_up" == refused(load, "1_a.py", "from json import *\n").reason


def test_a_decorated_up_is_taken_by_its_outermost_signature(load):
    """A decorator may add arguments to what it wraps."""
    script = load(
        "1_a.py",
        """\
        import functools
        def inject(f):
            @functools.wraps(f)
            def call(conn): return f(conn, "logger")
            return call
        @inject
        def up(conn, logger): return logger
        """,
    )
    assert "logger" == script.up(None)


@pytest.mark.parametrize("up", ["print", "dict", "lambda conn, x=1: x", "lambda *a: a"])
def test_anything_callable_with_one_argument_will_do(load, up):
    """Functions written in C, classes and defaults are fine."""
    assert callable(load("1_a.py", f"up = {up}\n").up)
