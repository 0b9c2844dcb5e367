"""The engine's options, the reading of command lines, and the variables."""

from __future__ import annotations

import os
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from migrator.commands import table as commands
from migrator.errors import UsageError
from migrator.model import Settings
from migrator.options import suggest, table, types
from migrator.options.command_line import readable_values, split_command
from migrator.options.model import Command, Option
from migrator.options.table import ENGINE_OPTIONS, engine_settings

OPTION = {option.field: option for option in ENGINE_OPTIONS}
SWITCHES = [option for option in ENGINE_OPTIONS if option.switch]
VALUED = [option for option in ENGINE_OPTIONS if not option.switch]

GOOD: list[tuple[str, str, Any]] = [
    ("database", "app.db", Path("app.db")),
    ("database", "/data/my app.db", Path("/data/my app.db")),
    ("database", "sqlite:/data/app.db", Path("/data/app.db")),
    ("database", "SQLite:/data/app.db", Path("/data/app.db")),
    ("database", "sqlite:////data/app.db", Path("/data/app.db")),
    ("database", "/data/my%20app.db", Path("/data/my%20app.db")),
    ("database", "sqlite:/data/100%.db", Path("/data/100%.db")),
    ("database", "/data/:memory:", Path("/data/:memory:")),
    ("database", "-x", Path("-x")),
    ("migrations", "/migrations", "/migrations"),
    ("migrations", "db/framework.py:make", "db/framework.py:make"),
    ("migrate_command", "alembic -x 'db={url}' up", ("alembic", "-x", "db={url}", "up")),
    ("pending_command", "./check --quiet", ("./check", "--quiet")),
    *[("format", name, name) for name in types.FORMATS],
    *[("app_version", text, text) for text in ("1.33.0", "v2-rc.1", "a4f5c2", "2026 spring")],
    ("connect", "app/connect.py", Path("app/connect.py")),
    ("backup_dir", "/backups", Path("/backups")),
    ("backup_keep", "0", 0),
    ("backup_keep", "007", 7),
    ("backup_keep", "9" * 5000, 10**18),
    ("create", "auto", "auto"),
    ("create", "never", "never"),
    ("wait_timeout", "30", 30.0),
    ("wait_timeout", "0", 0.0),
    ("wait_timeout", "0.5", 0.5),
    ("lock_timeout", ".5", 0.5),
    ("lock_timeout", "9" * 400, 1e9),
    ("in_use", "wait", "wait"),
    ("in_use", "allow", "allow"),
    ("accept", "changed", frozenset({"changed"})),
    (
        "accept",
        "changed, missing ,newer,out-of-order",
        frozenset({"changed", "missing", "newer", "out-of-order"}),
    ),
    ("history_table", "app$_Migrations_2", "app$_Migrations_2"),
    ("history_table", "x" * 200, "x" * 200),
    ("row_guard", "on", "on"),
    ("row_guard", "strict", "strict"),
    ("row_guard", "off", "off"),
    ("verify", "quick", "quick"),
    ("verify", "full", "full"),
    ("log_format", "json", "json"),
    ("log_format", "console", "console"),
    ("log_level", "debug", "debug"),
    ("log_level", "INFO", "info"),
    ("log_level", "warning", "warning"),
    ("log_level", "Error", "error"),
]

BAD: list[tuple[str, str]] = [
    *[
        ("database", text)
        for text in (
            "sqlite:///app.db",
            "sqlite:///",
            "sqlite://host/app.db",
            "sqlite:app.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:/app.db?mode=ro",
            "sqlite:/my%20app.db",
            "sqlite:////app.db#x",
            "sqlite3:/app.db",
            "sqlite3:///app.db",
            "file:/app.db",
            "FILE:app.db?mode=ro",
            ":memory:",
            "postgres://host/app",
            "sqlite+aiosqlite:///app.db",
            "a\0b",
        )
    ],
    ("migrations", "a\0b"),
    *[("migrate_command", text) for text in ("a 'b", "   ", "''", "a\0b")],
    *[("pending_command", text) for text in ('a "b', " ")],
    *[("format", text) for text in ("rails", "Goose", "golang_migrate", "dbmate,goose")],
    *[("app_version", text) for text in (" 1.0", "1.0\n", "1\0", "\udcff", "1" * 201)],
    ("connect", "a\0b"),
    ("backup_dir", "a\0b"),
    *[("backup_keep", text) for text in ("x", "-1", "+1", "1.5", "1e3", " 1", "1\n", "٣", "1_0")],
    *[("create", text) for text in ("yes", "AUTO", "auto ")],
    *[
        (field, text)
        for field in ("wait_timeout", "lock_timeout")
        for text in ("30s", "-1", "nan", "inf", "1e3", "5.", "1,5", " 1", "1\n", "٣", "x", "+1")
    ],
    *[("in_use", text) for text in ("yes", "deny")],
    *[
        ("accept", text)
        for text in ("all", "changed,", ",changed", "changed,,newer", " ", "Changed", "none")
    ],
    *[
        ("history_table", text)
        for text in (
            "sqlite_x",
            "SQLITE_x",
            "a b",
            "1a",
            'a"b',
            "a.b",
            "a\0",
            "é",
            "x" * 201,
            "a\n",
        )
    ],
    *[("row_guard", text) for text in ("yes", "true", "ON")],
    *[("verify", text) for text in ("none", "off")],
    *[("log_format", text) for text in ("text", "JSON")],
    *[("log_level", text) for text in ("warn", "trace", "20")],
]


def settings(*flags: str, **environ: str) -> Settings:
    """Read settings the way the entrypoint does, with a database unless one is given."""
    parsed = split_command(flags, ENGINE_OPTIONS, "program")
    return engine_settings({"database": "app.db"} | parsed.values, environ)


def refused(*flags: str, **environ: str) -> UsageError:
    """Return the usage error that flags and variables lead to."""
    with pytest.raises(UsageError) as caught:
        settings(*flags, **environ)
    assert caught.value.exit_code == 64
    assert caught.value.hint
    return caught.value


def test_the_table_has_every_field_of_the_settings_with_its_default() -> None:
    """Every option is declared once, with the default that Settings has without it."""
    assert [option.field for option in ENGINE_OPTIONS if option.field != "log_format"] == [
        name for name in Settings._fields if name != "given"
    ]
    engine = Settings._field_defaults
    for option in ENGINE_OPTIONS[1:-2]:
        assert option.default == engine[option.field]
    assert OPTION["log_level"].default == engine["log_level"]


def test_every_value_that_is_good_or_bad_is_tried_for_every_option() -> None:
    """No option is left out of the two tables of this module."""
    assert {field for field, _, _ in GOOD} == {option.field for option in VALUED}
    assert {field for field, _ in BAD} == {option.field for option in VALUED}


@pytest.mark.parametrize(("field", "text", "expected"), GOOD)
def test_a_good_value_is_read_from_flag_and_variable(field: str, text: str, expected: Any) -> None:
    """A value means the same as `--flag value`, as `--flag=value` and as a variable."""
    option = OPTION[field]
    given = {} if field == "database" else {"database": "app.db"}
    variable = {str(option.variable): text}
    if field == "log_format":
        # The log is opened before the settings are read.
        assert expected == table.log_settings([option.flag, text], {})[0]
        assert expected == table.log_settings([f"{option.flag}={text}"], {})[0]
        assert expected == table.log_settings([], variable)[0]
        assert engine_settings(given, variable) == engine_settings(given, {})
        return
    assert expected == getattr(settings(option.flag, text), field)
    assert expected == getattr(settings(f"{option.flag}={text}"), field)
    assert expected == getattr(engine_settings(given, variable), field)


@pytest.mark.parametrize(("field", "text"), BAD)
def test_a_bad_flag_is_refused_by_name_value_and_what_is_allowed(field: str, text: str) -> None:
    """A bad value of a flag ends with 64, the flag, the value and what is allowed."""
    option = OPTION[field]
    error = refused(option.flag, text)
    assert error.message.startswith(f"{option.flag} is {text!r}"[:200])
    assert f"expected {option.allows()}." in error.message
    assert error.data == {"option": option.flag}


@pytest.mark.parametrize(("field", "text"), BAD)
def test_a_bad_variable_is_refused_by_name_value_and_what_is_allowed(field: str, text: str) -> None:
    """A bad value of a variable ends with 64, the variable, the value and what is allowed."""
    option = OPTION[field]
    with pytest.raises(UsageError) as caught:
        engine_settings(
            {} if field == "database" else {"database": "app.db"}, {str(option.variable): text}
        )
    assert caught.value.message.startswith(f"{option.variable} is {text!r}"[:200])
    assert f"expected {option.allows()}." in caught.value.message
    assert option.flag not in caught.value.message


@pytest.mark.parametrize("option", VALUED, ids=lambda option: option.flag)
def test_an_empty_flag_is_refused(option: Option) -> None:
    """An empty flag ends with 64: somebody's shell variable was not set."""
    for words in ((option.flag, ""), (f"{option.flag}=",)):
        error = refused(*words)
        assert error.message.startswith(f"{option.flag} has an empty value")


@pytest.mark.parametrize("option", VALUED, ids=lambda option: option.flag)
@pytest.mark.parametrize("follower", [(), ("--",), ("--verify",), ("--verify=full",), ("--help",)])
def test_a_flag_without_a_value_is_refused(option: Option, follower: tuple[str, ...]) -> None:
    """The end, `--` and our own flags are no values: the value is missing."""
    error = refused(option.flag, *follower)
    assert error.message.startswith(f"{option.flag} has no value")


@pytest.mark.parametrize("option", ENGINE_OPTIONS[1:], ids=lambda option: option.flag)
def test_an_empty_variable_counts_as_not_set(option: Option) -> None:
    """Compose and Helm write empty variables; they mean the default."""
    assert settings() == settings(**{str(option.variable): ""})


@pytest.mark.parametrize("option", VALUED, ids=lambda option: option.flag)
def test_a_flag_beats_its_variable_whatever_that_holds(option: Option) -> None:
    """Where a flag is given its variable is not even validated."""
    text = next(text for field, text, _ in GOOD if field == option.field)
    assert settings(option.flag, text, **{str(option.variable): "\0 bad"}) == settings(
        option.flag, text
    )


@pytest.mark.parametrize("option", SWITCHES, ids=lambda option: option.flag)
def test_a_switch_alone_says_yes(option: Option) -> None:
    """It takes no value, beats its variable unread, and that says `true` or `false`."""
    found = settings(option.flag, **{str(option.variable): "\0 bad"})
    assert getattr(found, option.field) is True
    assert getattr(settings(), option.field) is False
    for word in (f"{option.flag}=", f"{option.flag}=true"):
        assert "takes no value" in refused(word).message
    for text, value in (("true", True), ("True", True), ("false", False), ("", False)):
        assert getattr(settings(**{str(option.variable): text}), option.field) is value
    for text in ("yes", "1", " true"):
        assert "expected true or false" in refused(**{str(option.variable): text}).message


def test_no_database_is_refused_with_flag_and_variable_named() -> None:
    """Without a database the message names both ways to give one."""
    with pytest.raises(UsageError) as caught:
        engine_settings({}, {"MIGRATOR_DATABASE": ""})
    assert "--database" in caught.value.message
    assert "MIGRATOR_DATABASE" in caught.value.message


def test_a_url_with_three_slashes_is_refused_with_both_readings() -> None:
    """sqlite:///x is two files to two families of tools, and both are named."""
    error = refused("--database", "sqlite:///data/app.db")
    assert "SQLAlchemy the file 'data/app.db' in the working directory" in error.message
    assert "dbmate and others '/data/app.db'" in error.message
    assert "'data/app.db'" in error.hint
    assert "'sqlite:/data/app.db'" in error.hint


def test_a_url_with_an_escape_is_refused_with_both_readings() -> None:
    """Some tools read the escape, others take the file that is called so; a path has none."""
    error = refused("--database", "sqlite:////data/my%20app.db")
    assert "SQLAlchemy '/data/my%20app.db'" in error.message
    assert "dbmate and others '/data/my app.db'" in error.message
    assert "without `sqlite:`" in error.hint


def test_a_relative_url_is_refused_with_the_path_to_write() -> None:
    """What follows sqlite: must be absolute, and the hint has the path alone."""
    assert refused("--database", "sqlite:app.db").hint == "Write the path alone: 'app.db'."


def test_a_long_bad_value_is_cut_in_the_message() -> None:
    """A sentence stays readable whatever a variable holds."""
    assert len(refused("--create", "x" * 10_000).message) < 400


def test_the_last_of_two_equal_flags_wins() -> None:
    """A wrapper may append its own flags."""
    assert settings("--verify", "full", "--verify=quick").verify == "quick"


def test_given_flags_are_kept_as_they_can_be_typed_again() -> None:
    """`given` holds flags only, not variables, the last of each."""
    words = ["--verify=full", "--in-use", "wait", "--verify", "quick"]
    parsed = split_command(words, ENGINE_OPTIONS, "program")
    environ = {"MIGRATOR_DATABASE": "app.db"}
    found = engine_settings(parsed.values, environ)
    assert found.given == ("--in-use", "wait", "--verify", "quick")


@pytest.mark.parametrize(("terminal", "expected"), [(True, "console"), (False, "json")])
def test_the_log_is_json_unless_a_person_watches(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, expected: str
) -> None:
    """Where nothing is said, a terminal gets lines for people and everything else JSON."""
    monkeypatch.setattr(table, "stderr_is_terminal", lambda: terminal)
    assert table.log_choice({}, {}) == (expected, "info")
    assert table.log_choice({"log_format": "x"}, {}) == (expected, "info")
    assert table.log_choice({"log_format": "json"}, {}) == ("json", "info")


@pytest.mark.parametrize(
    ("environ", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colors_are_for_terminals_that_want_them(
    environ: dict[str, str], *, terminal: bool, expected: bool
) -> None:
    """NO_COLOR (no-color.org), a dumb terminal and a pipe get no colours."""
    assert expected == table.wants_colors(environ, terminal=terminal)


def test_a_mistake_is_logged_in_the_format_that_was_asked_for() -> None:
    """Format and level are found beside any other mistake; bad ones fall back to the default."""
    words = ["--bogus", "status", "--log-format", "console", "--backup-keep"]
    assert table.log_settings(words, {}) == ("console", "info")
    environ = {"MIGRATOR_LOG_LEVEL": "loud", "MIGRATOR_LOG_FORMAT": "console"}
    assert table.log_settings(["--", "--log-format", "json"], environ) == ("console", "info")
    assert readable_values(["app", "--log-format", "json"], ENGINE_OPTIONS, anywhere=False) == {}


def test_the_environment_is_read_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """read_environment returns a copy, which nobody's change reaches."""
    monkeypatch.setenv("MIGRATOR_VERIFY", "full")
    found = table.read_environment()
    found["MIGRATOR_VERIFY"] = "x"
    assert os.environ["MIGRATOR_VERIFY"] == "full"


def test_new_finds_its_directory_without_a_database() -> None:
    """`new` needs the migrations' directory and nothing else."""
    assert table.migrations_source({}, {}) == "migrations"
    assert table.migrations_source({}, {"MIGRATOR_MIGRATIONS": "m"}) == "m"
    assert table.migrations_source({"migrations": "n"}, {"MIGRATOR_MIGRATIONS": "m"}) == "n"


# The application's command line behind the options


@pytest.mark.parametrize(
    ("argv", "rest"),
    [
        ([], ()),
        (["app", "--verify", "x"], ("app", "--verify", "x")),
        (["--verify", "full", "--", "-x", "--", "--help"], ("-x", "--", "--help")),
        (["--verify", "full", "app"], ("app",)),
        (["--"], ()),
        (["--", "--"], ("--",)),
        ([""], ("",)),
        (["--database", "-x", "app"], ("app",)),
    ],
)
def test_options_end_at_the_application(argv: list[str], rest: tuple[str, ...]) -> None:
    """Options end at `--` or at the first other word; the rest is not looked at."""
    assert split_command(argv, ENGINE_OPTIONS, "program").rest == rest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--databse", "--database"),
        ("--data", "--database"),
        ("--Verify", "--verify"),
        ("--verfy=full", "--verify"),
        ("--hlep", "--help"),
        ("--versoin", "--version"),
        ("-x", None),
        ("-", None),
        ("--zzz", None),
        ("-v", None),
    ],
)
def test_an_unknown_flag_is_refused_with_what_may_have_been_meant(
    word: str, meant: str | None
) -> None:
    """Flags are never abbreviated; the message names the flag, without its value."""
    error = refused(word, "app")
    assert error.message == f"{word.partition('=')[0]!r} is not an option of program."
    if meant:
        assert f"Did you mean {meant}?" in error.hint
    else:
        assert "Did you mean" not in error.hint


def test_help_and_version_are_recognised_among_options_only() -> None:
    """Those of the application are its own; ours take no value."""
    for word in ("--help", "-h"):
        assert split_command([word], ENGINE_OPTIONS, "program").help
    assert split_command(["--version"], ENGINE_OPTIONS, "program").version
    parsed = split_command(["app", "--help", "--version"], ENGINE_OPTIONS, "program")
    assert (parsed.help, parsed.version) == (False, False)
    assert refused("--help=yes").message.startswith("--help takes no value")


# The migrator's commands


RESTORE = {
    "backup": None,
    "before": None,
    "before_app_version": None,
    "abandon": False,
    "yes": False,
}
"""What `restore` is given, where nothing is."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("up", {}),
        ("status", {"json": False, "metrics": None}),
        ("--json status", {"json": True, "metrics": None}),
        ("plan --json", {"sql": False, "json": True}),
        ("check", {}),
        ("down", {"to": None, "steps": None, "yes": False}),
        ("down --to 004 --yes", {"to": "004", "steps": None, "yes": True}),
        ("--steps=2 down", {"to": None, "steps": 2, "yes": False}),
        ("new add_email", {"name": "add_email", "sql": False}),
        ("new --sql add_email", {"name": "add_email", "sql": True}),
        ("new -- --odd", {"name": "--odd", "sql": False}),
        ("-- new odd", {"name": "odd", "sql": False}),
        ("baseline", {"version": None, "force": False, "json": False}),
        ("baseline 004 --force", {"version": "004", "force": True, "json": False}),
        ("backups --json", {"json": True}),
        ("restore latest", RESTORE | {"backup": "latest"}),
        ("restore --before 004", RESTORE | {"before": "004"}),
        ("restore --before-app-version 1.2", RESTORE | {"before_app_version": "1.2"}),
        ("restore --abandon", RESTORE | {"abandon": True}),
        ("verify", {}),
    ],
)
def test_a_command_has_its_arguments(words: str, expected: dict[str, Any]) -> None:
    """Every option and argument of a command is there, given or not."""
    parsed = commands.parse(words.split())
    assert parsed.command is not None
    assert expected == parsed.arguments


def test_options_stand_before_and_after_the_command_and_its_arguments() -> None:
    """Where an option stands makes no difference, and the last of two wins."""
    words = ["--database", "a", "new", "--verify=full", "x", "--migrations", "m", "--database=b"]
    parsed = commands.parse(words)
    assert parsed.values == {"verify": "full", "migrations": "m", "database": "b"}
    assert parsed.given == ("--verify", "full", "--migrations", "m", "--database", "b")
    assert parsed.arguments == {"name": "x", "sql": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "'stauts' is not a command"),
        ([""], "'' is not a command"),
        (["up", "now"], "'now', an argument too many"),
        (["new"], "needs NAME"),
        (["new", ""], "NAME of `migrator new` is ''"),
        (["new", "a", "b"], "'b', an argument too many"),
        (["baseline", "004", "--json"], "takes VERSION or --json, not both"),
        (["restore"], "needs BACKUP or --before"),
        (["restore", "x", "--before", "4"], "takes BACKUP or --before, not both"),
        (["down", "--to", "4", "--steps", "1"], "takes --to or --steps, not both"),
        (["down", "--steps", "0"], "--steps is '0'"),
        (["down", "--steps", "x"], "--steps is 'x'"),
        (["down", "--to"], "--to has no value"),
        (["down", "--to", "--steps"], "--to has no value"),
        (["down", "--to="], "--to has an empty value"),
        (["up", "--json"], "--json is not an option of `migrator up`"),
        (["status", "--json=1"], "--json takes no value"),
        (["status", "--mount", "warn"], "'--mount' is not an option of migrator"),
        (["status", "-x"], "'-x' is not an option of migrator"),
    ],
)
def test_a_wrong_command_line_is_refused(words: list[str], said: str) -> None:
    """Every mistake ends with 64 and says what it is and what to write."""
    with pytest.raises(UsageError) as caught:
        commands.parse(words)
    assert said in caught.value.message
    assert any(word in caught.value.hint for word in ("commands", "migrator", "Write", "Give"))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["status", "--yaml"], None),
        (["status", "--jsn"], "--json"),
        (["--htm", "rehearse"], "--html"),
        (["--jsn"], "--json"),
    ],
)
def test_an_option_that_the_command_lacks_is_never_meant(
    words: list[str], meant: str | None
) -> None:
    """Of another command's options none is proposed where a command is named."""
    with pytest.raises(UsageError) as caught:
        commands.parse(words)
    asked = f"Did you mean {meant}?" if meant else "Did you mean"
    assert (asked in caught.value.hint) is (meant is not None)


def test_an_unknown_command_is_answered_with_what_there_is() -> None:
    """The hint has the command that may have been meant, and all of them."""
    with pytest.raises(UsageError) as caught:
        commands.parse(["stauts"])
    assert "Did you mean `migrator status`?" in caught.value.hint
    assert all(command.name in caught.value.hint for command in commands.COMMANDS)


def test_help_is_given_before_the_arguments_are_judged() -> None:
    """`migrator restore --help` needs no backup, `migrator --help` no command."""
    parsed = commands.parse(["restore", "--help"])
    assert parsed.help
    assert parsed.command is not None
    assert parsed.command.name == "restore"
    assert commands.parse(["--help"]).command is None
    assert commands.parse(["--version"]).version


@pytest.mark.parametrize("words", [["help", "restore"], ["help", "--verify", "full", "restore"]])
def test_help_is_a_command_too(words: list[str]) -> None:
    """`migrator help restore` is `migrator restore --help`, and `migrator help` is `--help`."""
    parsed = commands.parse(words)
    assert parsed.help
    assert parsed.command is commands.BY_NAME["restore"]
    assert commands.parse(["help"]).help
    assert commands.parse(["help"]).command is None


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rollback"], "down"),
        (["migrate"], "up"),
        (["upgrade"], "up"),
        (["history"], "status"),
        (["up", "--dry-run"], "plan"),
        (["stamp", "004"], "baseline"),
        (["baseline", "--fake"], "baseline"),
    ],
)
def test_what_other_tools_call_a_command_leads_to_it(words: list[str], meant: str) -> None:
    """Who comes from another tool types its words."""
    with pytest.raises(UsageError) as caught:
        commands.parse(words)
    assert f"Did you mean `migrator {meant}`?" in caught.value.hint


def test_no_command_is_called_as_another_tool_calls_another_one() -> None:
    """One word leads to one command, and none of our own words elsewhere."""
    words = [word for command in commands.COMMANDS for word in command.elsewhere]
    assert len(words) == len(set(words))
    assert not set(words) & {*commands.BY_NAME, *(option.flag for option in ENGINE_OPTIONS)}


def test_every_command_has_a_file_of_its_name_and_is_in_the_table() -> None:
    """A file that the table does not join would be a command that nobody can type."""
    files = {path.stem for path in Path(commands.__file__).parent.glob("*.py")}
    assert files - {"__init__", "confirm", "kinds", "metrics", "table"} == {
        each.name for each in commands.COMMANDS
    }


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: command.name)
def test_each_command_has_an_example_that_parses(command: Command) -> None:
    """The example of every command is a command line that this program takes."""
    program, *words = command.example.split()
    assert program == "migrator"
    assert commands.parse(words).command == command
    assert f"  {command.example}\n" in commands.help_text(command)
    told = " ".join(commands.help_text(command).split())
    assert f"Usage: migrator {command.usage}" in told


def test_help_lists_every_option_and_command_within_100_columns() -> None:
    """The help comes from the tables, aligned and narrow enough to read."""
    text = commands.help_text()
    for option in ENGINE_OPTIONS:
        assert f"  {option.flag} {option.value_name}".rstrip() in text
        assert str(option.variable) in text
    for command in commands.COMMANDS:
        assert f"  {command.usage}" in text
    for _, each in commands.all_help():
        assert max(len(line) for line in each.splitlines()) <= 100
        assert each.isascii()


# Variables that look like ours


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("MIGRATOR_DATABSE", "MIGRATOR_DATABASE"),
        ("MIGRATOR_DATABASEE", "MIGRATOR_DATABASE"),
        ("MIGRATOR_DATABAES", "MIGRATOR_DATABASE"),
        ("MIGRATOR_DATEBASE", "MIGRATOR_DATABASE"),
        ("MIGATOR_DATABASE", "MIGRATOR_DATABASE"),
        ("MIGARTOR_DATABASE", "MIGRATOR_DATABASE"),
        ("IGRATOR_DATABASE", "MIGRATOR_DATABASE"),
        ("XMIGRATOR_DATABASE", "MIGRATOR_DATABASE"),
        ("MIGRATORDATABASE", "MIGRATOR_DATABASE"),
        ("MIGRATOR__DATABASE", "MIGRATOR_DATABASE"),
        ("MIGRATOR-DATABASE", "MIGRATOR_DATABASE"),
        ("MIGRATOR_MIGRATION", "MIGRATOR_MIGRATIONS"),
        ("MIGRATOR_RUNAS", "MIGRATOR_RUN_AS"),
        ("MIGRATOR_MOUNTS", "MIGRATOR_MOUNT"),
        ("MIGRATOR_LOGLEVEL", "MIGRATOR_LOG_LEVEL"),
        ("MIGRATORY_VERIFY", "MIGRATOR_VERIFY"),
    ],
)
def test_a_variable_one_slip_away_is_refused(name: str, right: str) -> None:
    """One character too many, too few, wrong or swapped is 64 with name, value and right name."""
    with pytest.raises(UsageError) as caught:
        table.check_variables({name: "the value"})
    assert caught.value.exit_code == 64
    assert name in caught.value.message
    assert "'the value'" in caught.value.message
    assert right in caught.value.message
    assert not table.check_variables({name: ""})


def test_every_single_deletion_of_every_name_is_found() -> None:
    """No place in any of our names is one where a slip goes unseen."""
    for known in table.KNOWN_VARIABLES:
        for at in range(len(known)):
            name = known[:at] + known[at + 1 :]
            with pytest.raises(UsageError):
                table.check_variables({name: "x"})


def test_our_names_are_more_than_one_slip_apart() -> None:
    """No name of ours is a misspelling of another one."""
    for a, b in combinations(sorted(table.KNOWN_VARIABLES), 2):
        assert not suggest.one_slip(a, b)


def test_another_unknown_variable_is_a_warning_without_its_value() -> None:
    """A rolled-back image meets newer variables: they are named, their values are not."""
    (found,) = table.check_variables({"MIGRATOR_SHINY": "secret", "PATH": "/bin"})
    assert found.variable == "MIGRATOR_SHINY"
    assert "MIGRATOR_SHINY" in found.message
    assert "secret" not in found.message


@pytest.mark.parametrize(
    "service", ["MIGRATOR", "MIGRATOR_DATABASE", "MIGRATOR_A1", "MIGRATOR_MOUNT"]
)
@pytest.mark.parametrize(
    "ending",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "SERVICE_PORT_HTTP_ALT",
        "PORT",
        "PORT_80_TCP",
        "PORT_80_TCP_ADDR",
        "PORT_53_UDP_PORT",
        "PORT_80_SCTP_PROTO",
    ],
)
def test_kubernetes_service_links_are_nothing_at_all(service: str, ending: str) -> None:
    """A Service called migrator, or migrator-..., puts variables into every container."""
    assert table.check_variables({f"{service}_{ending}": "tcp://10.0.0.1:80"}) == ()


@pytest.mark.parametrize(
    "name",
    [*sorted(table.KNOWN_VARIABLES), "PUID", "PGID", "PUDI", "GUID", "TIMIGRATOR_X", "MIG", ""],
)
def test_our_own_and_strangers_variables_are_left_alone(name: str) -> None:
    """Our names are no misspellings, and other people's names are theirs."""
    assert table.check_variables({name: "x"}) == ()


def test_two_hundred_variables_take_no_visible_time() -> None:
    """A full Kubernetes environment costs few calls a variable, whatever it is called."""
    environ = {f"SERVICE_{n}_PORT_{n}_TCP_ADDR": "10.0.0.1" for n in range(100)}
    environ |= {f"MIGRATOR_SOME_{n}_OTHER": "x" for n in range(100)}
    calls = []
    sys.setprofile(lambda frame, event, _: event == "call" and calls.append(frame.f_code.co_name))
    try:
        table.check_variables(environ)
    finally:
        sys.setprofile(None)

    assert 0 < len(calls) < 30 * len(environ)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("abc", "abc", False),
        ("abc", "ab", True),
        ("abc", "abcd", True),
        ("abc", "axc", True),
        ("abc", "acb", True),
        ("abc", "cba", False),
        ("abc", "bca", False),
        ("abcd", "badc", False),
        ("", "a", True),
        ("ab", "abcd", False),
        ("aab", "aba", True),
    ],
)
def test_one_slip_is_a_distance_of_one(a: str, b: str, *, expected: bool) -> None:
    """Insert, delete, substitute or swap once: that is one slip, both ways round."""
    assert expected == suggest.one_slip(a, b)
    assert expected == suggest.one_slip(b, a)


def test_importing_the_options_imports_nothing_heavy() -> None:
    """A start with nothing pending pays for what options import."""
    import subprocess

    code = (
        "import sys; import migrator.options.table, migrator.log.lines, entrypoint.options;"
        "print([m for m in ('structlog', 'asyncio', 'argparse', 'textwrap', 'json', 'sqlite3',"
        " 'migrator.commands', 'migrator.options.usage') if m in sys.modules])"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n"
