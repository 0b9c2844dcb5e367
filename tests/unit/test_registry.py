"""Registries: Python files that register their migrations in code."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from migrator.errors import MisfitError, UsageError
from migrator.formats import registry

CLASSES = '''
from dataclasses import dataclass
from typing import Callable

@dataclass
class Migration:
    name: str
    version: str
    description: str
    up_func: Callable

class MigrationRunner:
    def __init__(self, db_path):
        self.db_path = db_path
        self.migrations = []

    def add_migration(self, migration):
        self.migrations.append(migration)

def users(cursor):
    """Make the users."""
    cursor.execute("CREATE TABLE users (id INTEGER)")
'''

GOOD = f"""{CLASSES}
def create_migration_runner(db_path):
    runner = MigrationRunner(db_path)
    runner.add_migration(Migration("b_users", "1.0.0", "Users", users))
    runner.add_migration(Migration("a_carts", "1.0.0", None, lambda cursor: db_path))
    return runner
"""


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a registry and loads it."""

    def write(content, factory=registry.DEFAULT_FACTORY):
        path = tmp_path / "framework.py"
        path.write_text(textwrap.dedent(content))
        return registry.load(path, factory, Path("/data/app.db"))

    return write


def refused(call, *args: object):
    """Return the error that a call ends with."""
    with pytest.raises(MisfitError) as caught:
        call(*args)
    assert 78 == caught.value.exit_code
    assert caught.value.hint
    assert "framework.py" in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b.py", ("a/b.py", "create_migration_runner")),
        ("/app/b.py:make", ("/app/b.py", "make")),
        ("b.py:größe", ("b.py", "größe")),
        ("x.py.py:f", ("x.py.py", "f")),
        ("migrations", None),
        ("b.py/migrations", None),
        ("a.py:b/c", None),
        ("b.pyc", None),
        (".py", None),
        ("", None),
    ],
)
def test_a_source_is_a_registry_or_a_directory(text, expected):
    """`FILE.py[:FACTORY]` is a registry; everything else is a directory."""
    found = registry.parse_source(text)
    assert expected == (found and (str(found[0]), found[1]))


@pytest.mark.parametrize("text", ["b.py:", "b.py:1x", "b.py:a.b", "b.py:make()", "b.py: make"])
def test_a_factory_must_be_a_name(text):
    """What follows the colon is a function's name, or a usage error."""
    with pytest.raises(UsageError) as caught:
        registry.parse_source(text)
    assert 64 == caught.value.exit_code


def test_a_directory_called_like_a_file_is_a_directory(tmp_path):
    """What exists decides over how it is called."""
    (tmp_path / "x.py").mkdir()
    assert registry.parse_source(str(tmp_path / "x.py")) is None


def test_a_registry_with_its_own_classes_works_unedited(load, tmp_path):
    """The result is taken by its shape, in the order of registration."""
    first, second = load(GOOD)
    assert ["b_users", "a_carts"] == [first.entry.key, second.entry.key]
    assert ("b_users", "1.0.0", tmp_path / "framework.py") == (
        first.entry.name,
        first.entry.version,
        first.entry.path,
    )
    assert ("Users", None) == (first.description, second.description)
    assert first.wants_cursor
    assert first.transactional
    assert not first.has_down
    assert first.checksum is None
    assert "/data/app.db" == second.up(None)


@pytest.mark.parametrize(
    "signature", ["db_path", "path='x'", "*args", "path, /", "a='x', *, verbose=True"]
)
def test_a_factory_gets_the_path_where_it_accepts_one(load, signature):
    """One positional argument is the database's path, as a string."""
    argument = signature.split(",")[0].split("=")[0]
    use = "args[0]" if argument == "*args" else argument
    made = load(
        f"{CLASSES}\ndef make({signature}):\n    r = MigrationRunner({use})\n"
        f"    r.migrations = (Migration('x', '1', str({use}), users),)\n    return r\n",
        "make",
    )
    assert "/data/app.db" == made[0].description


@pytest.mark.parametrize("signature", ["*, db_path", "*, verbose=True, db_path='other.db'"])
def test_a_factory_gets_the_path_by_name_as_well(load, signature):
    """A parameter `db_path` that takes no place is given the path by its name."""
    made = load(
        f"{CLASSES}\ndef make({signature}):\n    r = MigrationRunner(db_path)\n"
        "    r.migrations = (Migration('x', '1', str(db_path), users),)\n    return r\n",
        "make",
    )
    assert "/data/app.db" == made[0].description


@pytest.mark.parametrize("signature", ["", "*, verbose=True", "**options"])
def test_a_factory_without_arguments_gets_none(load, signature):
    """A factory that takes no positional argument is called without."""
    assert () == load(f"{CLASSES}\ndef make({signature}): return MigrationRunner('x')\n", "make")


def test_a_class_may_be_the_factory(load):
    """Whatever can be called with the path will do."""
    assert () == load(CLASSES, "MigrationRunner")


def test_migrations_may_be_a_dictionary(load):
    """The values of a dictionary count, in their order."""
    made = load(
        f"{CLASSES}\nclass R: migrations = {{n: Migration(n, '1', '', users) for n in 'ba'}}\n"
        "def create_migration_runner(): return R\n"
    )
    assert ["b", "a"] == [script.entry.name for script in made]


def test_optional_attributes_are_taken(load):
    """An item may say that it loses rows, cannot run in a transaction, or has a way back."""
    made = load(
        f"{CLASSES}\ndef create_migration_runner(db_path):\n"
        "    m = Migration('x', 2, 'd', users)\n"
        "    m.transactional, m.allow_row_loss, m.down_func = False, ['a', 'b'], users\n"
        "    r = MigrationRunner(db_path); r.add_migration(m); return r\n"
    )
    assert (False, False) == (made[0].transactional, made[0].down_transactional)
    assert {"a", "b"} == made[0].allow_row_loss
    assert made[0].has_down
    assert "2" == made[0].entry.version


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        ("1 / 0", "migrations.import", 1),
        ("x = (", "migrations.import", 1),
        ("raise SystemExit", "migrations.import", 1),
        ("def create_migration_runner(p):\n  import sys\n  sys.exit(0)", "migrations.import", 3),
        ("def create_migration_runner(p):\n  return 1 / 0", "migrations.import", 2),
        ("x = 1", "migrations.registry", None),
        ("create_migration_runner = 1", "migrations.registry", None),
        ("async def create_migration_runner(p): ...", "migrations.registry", None),
        ("def create_migration_runner(a, b): ...", "migrations.registry", None),
        ("def create_migration_runner(*, a): ...", "migrations.registry", None),
        ("def create_migration_runner(p): ...", "migrations.registry", None),
        ("class create_migration_runner:\n  migrations = {1}", "migrations.registry", None),
        (
            "class create_migration_runner:\n  def migrations(self): ...",
            "migrations.registry",
            None,
        ),
    ],
)
def test_a_registry_that_cannot_be_taken_is_refused(load, content, reason, line):
    """A file or factory that fails, or gives something else, is 78."""
    error = refused(load, content)
    assert (reason, line) == (error.reason, error.data.get("line"))


def test_a_missing_factory_names_those_that_are_there(load):
    """The hint lists the file's functions."""
    error = refused(load, "def make(db_path): ...\ndef _private(): ...\nfrom os import getcwd\n")
    assert "Functions in it: make." in error.hint


@pytest.mark.parametrize(
    "item",
    [
        "object()",
        "Migration('', '1', '', users)",
        "Migration(1, '1', '', users)",
        "Migration('x', None, '', users)",
        "Migration('x', True, '', users)",
        "type('I', (), dict(name='x', version='1', up_func=users))()",
        "type('I', (), dict(name='x', version='1', description=''))()",
        "type('I', (), dict(name='x', version='1', description='', up_func=1))()",
        "Migration('x', '1', '', lambda: None)",
        "type('M', (Migration,), dict(transactional='no'))('x', '1', '', users)",
        "type('M', (Migration,), dict(allow_row_loss=1))('x', '1', '', users)",
        "type('M', (Migration,), dict(allow_row_loss=[1]))('x', '1', '', users)",
        "type('M', (Migration,), dict(down_func=1))('x', '1', '', users)",
    ],
)
def test_an_item_of_another_shape_is_refused(load, item):
    """An item without its attributes, or with wrong ones, is 78 before anything runs."""
    refused(
        load,
        f"{CLASSES}\ndef create_migration_runner(db_path):\n"
        f"    r = MigrationRunner(db_path); r.add_migration({item}); return r\n",
    )


def test_one_name_twice_is_refused(load):
    """The name tells migrations apart; versions may repeat."""
    error = refused(load, GOOD.replace("a_carts", "b_users"))
    assert "migrations.duplicate" == error.reason
    assert "'b_users'" in error.message


def test_a_missing_file_is_refused(tmp_path):
    """A registry that is not there is 78."""
    error = refused(registry.load, tmp_path / "framework.py", "make", Path("x.db"))
    assert "migrations.registry_missing" == error.reason


def test_a_signal_in_the_factory_passes_through(load):
    """What ends the run is no fault of the file."""
    with pytest.raises(KeyboardInterrupt):
        load("def create_migration_runner(p): raise KeyboardInterrupt\n")


def test_an_error_of_ours_that_the_factory_raises_is_the_files_own(load):
    """Nothing raises it for a signal where a registry is read."""
    error = refused(
        load,
        "from migrator.errors import InterruptedRunError\n"
        "def create_migration_runner(p): raise InterruptedRunError(15, 'ended')\n",
    )
    assert error.message.endswith("`create_migration_runner` failed: InterruptedRunError: ended.")


def test_an_item_registered_through_the_api_has_no_file(load):
    """The same shape is taken without a file."""
    item = type("I", (), {"name": "x", "version": "1", "description": "", "up_func": print})()
    assert registry.script_of(item).entry.file is None
