"""What is printed for people: other people's words are shown on the terminal, and not obeyed."""

from __future__ import annotations

import contextlib
import json
import random
import shlex
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from migrator import Migration, MigrationRunner, errors
from migrator.terminal import printable, quote
from tests.faults.planted import Bug
from tests.support.files import make_database, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

HOSTILE = "a\x1b[31m\x9b2J\r\t\x00\u202e\u2066\u2028\nforged \udcff"
"""An escape, a C1 control, a return, a tab, bidirectional controls, line breaks, a stray byte."""
NAME = HOSTILE.replace("\x00", "")
"""The same as a file may be called."""
IN_SQL = HOSTILE.replace("\x00", "").replace("\udcff", "")
"""The same as a database may hold it."""

REGISTRY = """
    class Migration:
        version = "1.0.0"
        description = ""

        def __init__(self, name, up_func, down_func):
            self.name, self.up_func, self.down_func = name, up_func, down_func

    NAME = {name!r}

    def bad(cursor):
        cursor.execute('CREATE TABLE "' + NAME + '" (id)')
        raise ValueError(NAME)

    def create_migration_runner():
        class Runner:
            migrations = [
                Migration(NAME, lambda c: c.execute("CREATE TABLE t (id)"),
                          lambda c: c.execute("DROP TABLE t")),
                Migration("bad " + NAME, bad, None),
            ][:{many}]
        return Runner
    """


def assert_printable(*texts: str) -> None:
    """Assert that nothing in these texts is obeyed by a terminal, and that no line is forged."""
    for text in texts:
        odd = {each for each in text if not (each.isprintable() or each in "\n\t")}
        assert not odd, f"{odd} in {text!r}"
        assert "\nforged" not in text, text


@dataclass(frozen=True)
class Place:
    """A database whose directory, history, files and backups bear hostile names."""

    database: Path
    registry: Path

    @classmethod
    def make(cls, directory: Path) -> Place:
        """Make it, with one migration applied of the two that there are."""
        volume = directory / NAME
        database = make_database(volume / "app.db", "CREATE TABLE kept (id INTEGER);")
        place = cls(database, write_migrations(volume, {}) / f"{NAME}.py")
        place.offer(1)
        first = place.run("up")
        assert first.code == 0, first.stderr
        place.offer(2)
        for note in (volume / "backups").glob("*.json"):
            facts = json.loads(note.read_text()) | {"version": IN_SQL, "app_version": IN_SQL}
            note.write_text(json.dumps(facts))
        return place

    def offer(self, many: int) -> None:
        """Write the registry with so many of its migrations."""
        text = REGISTRY.format(name=IN_SQL, many=many)
        write_migrations(self.registry.parent, {self.registry.name: text})

    def run(
        self, *words: str, run: Callable[..., Result] = run_migrator, packages: Path | None = None
    ) -> Result:
        """Run a command as a person at a terminal does, colours aside."""
        env = {"PYTHONPATH": str(packages)} if packages else None
        given = ("--database", self.database, "--migrations", self.registry)
        words = (*words, *given, "--log-format", "console")
        return run(*words, env=env, cwd=self.database.parent, check_log=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return the place with all the hostile names."""
    return Place.make(tmp_path_factory.mktemp("terminal"))


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("plan",),
        ("check",),
        ("backups",),
        ("verify",),
        ("up",),
        ("restore", NAME),
        ("restore", "--before", NAME),
        ("baseline", NAME),
        ("down", "--to", NAME),
        ("no such command",),
    ],
    ids=" ".join,
)
def test_a_command_shows_hostile_names(place: Place, words: tuple[str, ...]) -> None:
    """No escape, no control and no line break of a name gets to stdout or to the log for people."""
    result = place.run(*words)
    assert result.stdout or result.stderr
    assert_printable(result.stdout, result.stderr)


@pytest.mark.parametrize("words", [("down",), ("restore", "latest"), ("baseline", IN_SQL)])
def test_what_a_run_changed_is_shown(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The sentence on stdout names migrations and backups, whatever they are called."""
    place = Place.make(tmp_path)
    if words[0] == "baseline":
        with contextlib.closing(sqlite3.connect(place.database)) as conn:
            conn.execute("DROP TABLE migrations")
    result = place.run(*words)
    assert result.code == 0, result.stderr
    assert result.stdout.startswith(("Undone: ", "Restored: ", "Noted: ")), result.stdout
    assert_printable(result.stdout, result.stderr)


@pytest.mark.parametrize("command", ["status", "backups", "plan"])
def test_json_has_the_names_as_they_are(place: Place, command: str) -> None:
    """A reader of JSON gets the name itself, and the line on the way is plain ASCII."""
    result = place.run(command, "--json")
    assert result.stdout.isascii()
    assert "forged" in json.dumps(json.loads(result.stdout))
    assert_printable(result.stdout)
    if command == "status":
        assert [row["name"] for row in json.loads(result.stdout)["applied"]] == [IN_SQL]


def test_a_start_shows_hostile_names(place: Place, tmp_path: Path) -> None:
    """The entrypoint's own lines for people are as safe as the command's."""
    result = place.run("--mount", "ignore", run=run_entrypoint)
    assert result.code == 80, result.stderr
    assert "forged" in result.stderr
    assert_printable(result.stdout, result.stderr)


@pytest.mark.parametrize("command", ["status", "plan", "check", "up", "verify"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"001_{NAME}.sql", "CREATE TABLE x (id);\n"),
        (f"001_{NAME}.py", f"raise ValueError({IN_SQL!r})\n"),
        (f"{NAME}.sql", "SELECT 1;\n"),
        ("001_a.sql", f"INSERT INTO nowhere VALUES ('{IN_SQL}');\n"),
    ],
    ids=["sql", "import", "unnumbered", "statement"],
)
def test_a_file_may_be_called_anything(tmp_path: Path, command: str, name: str, text: str) -> None:
    """Whether it is read or refused, its name and what it says write on nobody's terminal."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE kept (id INTEGER);")
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / name).write_text(text)
    given = ("--database", database, "--migrations", tmp_path / "migrations")
    result = run_migrator(command, *given, "--log-format", "console", check_log=False)
    assert_printable(result.stdout, result.stderr)


def test_a_word_of_a_command_is_quoted_as_the_standard_library_does() -> None:
    """It is quoted here without that module, which another user may not be able to import."""
    chance = random.Random(1)  # noqa: S311 - nothing secret
    for length in range(7):
        for _ in range(2000):
            word = "".join(chance.choices("abZ09_-./:=@%+,'\" ~!*\u00fc\n\\$;", k=length))
            assert quote(word) == shlex.quote(word)


def test_new_shows_the_path_that_it_made(tmp_path: Path) -> None:
    """A directory's name is as strange as any other."""
    directory = tmp_path / NAME
    result = run_migrator("new", "add users", "--migrations", directory, check_log=False)
    assert result.code == 0, result.stderr
    assert result.stdout.endswith("add_users.py\n")
    assert_printable(result.stdout)


def test_the_api_shows_what_it_prints(database: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With `verbose=True` a migration's name is one line, whatever it is."""
    structlog.reset_defaults()
    runner = MigrationRunner(database)
    runner.add_migration(Migration(IN_SQL, "1", "", lambda cursor: cursor.execute("SELECT 1")))
    runner.add_migration(Migration("bad", "1", "", lambda cursor: cursor.execute(IN_SQL)))
    with pytest.raises(errors.MigrationFailedError):
        runner.run_migrations()
    runner.migrations.pop()
    assert runner.run_migrations()
    out, err = capfd.readouterr()
    assert out.startswith("Applied migration a\\x1b[31m")
    assert_printable(out, err)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, grün, 漢字, emoji 🙂", "plain, grün, 漢字, emoji 🙂"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b]0;title\x07\x7f\x9b", r"\x1b]0;title\x07\x7f\x9b"),
        ("\u200e\u202e\u2066\u2028\u2029\ufeff", r"\u200e\u202e\u2066\u2028\u2029\ufeff"),
        ("\udcff\U000e0041", r"\udcff\U000e0041"),
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
    ],
)
def test_printable_escapes_what_is_obeyed_or_hidden(text: str, expected: str) -> None:
    """Letters of any script stay; what moves, colours, reverses or hides is an escape."""
    assert printable(text) == expected
    assert printable(f"{text}\v", keep=text) == text + r"\x0b"


BUGS = (
    ("a table", "migrator/columns.py", "tuple(map(printable, row))", "tuple(row)", "status"),
    (
        "a problem",
        "migrator/commands/status.py",
        'printable(f"Problem: {message}")',
        'f"Problem: {message}"',
        "status",
    ),
    (
        "the log for people",
        "migrator/log/console.py",
        "word + printable(message, chr(9))",
        "word + message",
        "up",
    ),
    (
        "what stands below a line of the log for people",
        "migrator/log/console.py",
        'shown = printable(text.rstrip(), "\\n\\t" if key in _IN_LINES else "\\t")',
        "shown = text.rstrip()",
        "up",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[bug[0] for bug in BUGS])
def test_a_raw_name_is_found(tmp_path: Path, bug: tuple[str, str, str, str, str]) -> None:
    """A planted bug, one place that prints names raw, does not pass."""
    name, file, old, new, command = bug
    place = Place.make(tmp_path)
    with contextlib.closing(sqlite3.connect(place.database)) as conn, conn:
        conn.execute("INSERT INTO migrations (migration_name) VALUES (?)", (f"gone {IN_SQL}",))
    planted = Bug(name, file, old, new, "", (), ()).plant(tmp_path / "planted")
    sound = place.run(command)
    assert_printable(sound.stdout, sound.stderr)
    found = place.run(command, packages=planted)
    with pytest.raises(AssertionError):
        assert_printable(found.stdout, found.stderr)
