"""The container's options, joined to the engine's."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrypoint import options
from entrypoint.identities import RunAs, User
from entrypoint.options import ContainerSettings, container_settings, parse_arguments
from migrator.errors import UsageError
from migrator.options.model import Option
from migrator.options.table import CONTAINER_VARIABLES, ENGINE_OPTIONS, KNOWN_VARIABLES

CONTRACT = [
    "--database",
    "--migrations",
    "--format",
    "--migrate-command",
    "--pending-command",
    "--app-version",
    "--connect",
    "--migrate",
    "--backup-dir",
    "--backup-keep",
    "--create",
    "--mount",
    "--wait-timeout",
    "--lock-timeout",
    "--in-use",
    "--accept",
    "--history-table",
    "--row-guard",
    "--verify",
    "--run-as",
    "--rehearse",
    "--log-format",
    "--log-level",
]

BAD = [
    *[(options.MIGRATE, text) for text in ("yes", "RUN", "no", "skip ")],
    *[(options.MOUNT, text) for text in ("yes", "Require", "error")],
    *[
        (options.RUN_AS, text)
        for text in (
            "app",
            "1000:app",
            ":1000",
            "1000:",
            "1000:1000:1000",
            "-1",
            "1000 ",
            "1.5",
            "Keep",
            "٣",
            "4294967295",
            "1:4294967295",
            "99999999999",
        )
    ],
]


@pytest.fixture(autouse=True)
def passwd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let user 1000 be the only one on record, with group 100."""

    def look_up(uid: int) -> SimpleNamespace:
        if uid != 1000:
            raise KeyError(uid)
        return SimpleNamespace(pw_gid=100)

    monkeypatch.setattr(pwd, "getpwuid", look_up)


def read(*words: str, **environ: str) -> ContainerSettings:
    """Read settings, with a database."""
    parsed = parse_arguments(("--database", "app.db", *words))
    return container_settings(parsed, environ)


def test_the_table_is_the_contracts_in_its_order() -> None:
    """Flags and variables are the contract's, one variable a flag."""
    assert [option.flag for option in options.OPTIONS] == CONTRACT
    for option in options.OPTIONS:
        assert option.variable == "MIGRATOR_" + option.flag[2:].upper().replace("-", "_")


def test_the_engine_knows_the_names_of_the_containers_variables() -> None:
    """Both programs look for misspellings of all variables, so the engine names ours too."""
    ours = {option.variable for option in options.OPTIONS} - {
        option.variable for option in ENGINE_OPTIONS
    }
    assert ours == set(CONTAINER_VARIABLES)
    assert {option.variable for option in options.OPTIONS} == KNOWN_VARIABLES


def test_the_defaults_are_the_contracts() -> None:
    """Without flags and variables a copied tree runs, warns of mounts and stays who it is."""
    found = read()
    assert (found.migrate, found.mount, found.run_as) == ("run", "warn", None)
    assert found.command == ()
    assert found.engine.database == Path("app.db")


@pytest.mark.parametrize(
    ("option", "text"), [(o, c) for o in (options.MIGRATE, options.MOUNT) for c in o.choices]
)
def test_a_choice_is_read_from_flag_and_variable(option: Option, text: str) -> None:
    """Each choice means the same as a flag and as a variable."""
    assert getattr(read(option.flag, text), option.field) == text
    assert getattr(read(**{str(option.variable): text}), option.field) == text


@pytest.mark.parametrize(("option", "text"), BAD)
def test_a_bad_value_is_refused_by_name(option: Option, text: str) -> None:
    """A bad value is 64 with flag or variable, value and what is allowed."""
    readers: dict[str, Callable[[], ContainerSettings]] = {
        option.flag: lambda: read(option.flag, text),
        str(option.variable): lambda: read(**{str(option.variable): text}),
    }
    for name, reader in readers.items():
        with pytest.raises(UsageError) as caught:
            reader()
        assert caught.value.exit_code == 64
        assert caught.value.message.startswith(f"{name} is {text!r}")
        assert f"expected {option.allows()}." in caught.value.message


@pytest.mark.parametrize("option", [options.MIGRATE, options.MOUNT, options.RUN_AS])
def test_an_empty_flag_is_refused_and_an_empty_variable_is_not_set(option: Option) -> None:
    """An empty flag is 64; an empty variable means the default."""
    with pytest.raises(UsageError):
        read(f"{option.flag}=")
    assert read(**{str(option.variable): ""}) == read()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000:1001", RunAs(User(1000, 1001))),
        ("0:0", RunAs(User(0, 0))),
        ("1000", RunAs(User(1000, 100))),
        ("1234", RunAs(User(1234, 1234))),
        ("4294967294:4294967294", RunAs(User(2**32 - 2, 2**32 - 2))),
        ("keep", RunAs(None, keep=True)),
    ],
)
def test_run_as_is_numbers_or_keep(text: str, expected: RunAs) -> None:
    """Without a group it is the user's in /etc/passwd, else the user's own number."""
    assert read("--run-as", text).run_as == expected
    assert read(MIGRATOR_RUN_AS=text).run_as == expected


def test_a_name_is_refused_with_the_way_to_its_number() -> None:
    """Names mean other numbers in each image, so they are not looked up."""
    with pytest.raises(UsageError) as caught:
        read("--run-as", "app")
    assert "id -u" in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PUID": "1000", "PGID": "1001"}, RunAs(User(1000, 1001))),
        ({"PUID": "1000"}, RunAs(User(1000, 100))),
        ({"PUID": "1234"}, RunAs(User(1234, 1234))),
        ({"PUID": "", "PGID": ""}, None),
        ({"PUID": "1000", "PGID": "1001", "MIGRATOR_RUN_AS": "5:6"}, RunAs(User(5, 6))),
        ({"PUID": "app", "PGID": "x", "MIGRATOR_RUN_AS": "5:6"}, RunAs(User(5, 6))),
        ({"PGID": "1001", "MIGRATOR_RUN_AS": "5:6"}, RunAs(User(5, 6))),
        (
            {"PUID": "1000", "PGID": "1001", "MIGRATOR_RUN_AS": "keep"},
            RunAs(User(1000, 1001), keep=True),
        ),
        ({"PUID": "1000", "MIGRATOR_RUN_AS": "keep"}, RunAs(User(1000, 100), keep=True)),
    ],
)
def test_puid_and_pgid_count_where_nothing_of_ours_was_said(
    environ: dict[str, str], expected: RunAs | None
) -> None:
    """PUID and PGID stand in many images: they are read only without --run-as, or with keep."""
    assert read(**environ).run_as == expected


@pytest.mark.parametrize("name", ["PUID", "PGID"])
@pytest.mark.parametrize("text", ["app", "-1", "1000:1000", "4294967295", "1e3"])
def test_a_bad_puid_or_pgid_is_refused_by_name(name: str, text: str) -> None:
    """What would decide and is no number is 64, by the variable's name."""
    environ = {"PUID": "1000", "PGID": "1000"} | {name: text}
    with pytest.raises(UsageError) as caught:
        read(**environ)
    assert caught.value.message.startswith(f"{name} is {text!r}")


@pytest.mark.parametrize("more", [{}, {"MIGRATOR_RUN_AS": "keep"}, {"PUID": ""}])
def test_a_group_alone_is_refused_with_both_names(more: dict[str, str]) -> None:
    """PGID without PUID does not say who is to run."""
    with pytest.raises(UsageError) as caught:
        read(PGID="1000", **more)
    assert "PGID" in caught.value.message
    assert "PUID" in caught.value.message


def test_the_command_is_what_stands_behind_the_options() -> None:
    """Everything from the first other word on is the application's, untouched."""
    found = read("--migrate", "wait", "--", "entrypoint", "--database", "b.db", "--", "app", "-x")
    assert found.command == ("entrypoint", "--database", "b.db", "--", "app", "-x")
    assert read("app", "--migrate", "x").command == ("app", "--migrate", "x")


def test_flags_for_the_engine_are_what_migrator_takes() -> None:
    """A printed command, and `entrypoint ... migrator ...`, hand on the engine's flags alone."""
    parsed = options.parse_arguments(["--mount", "warn", "--database=a", "--run-as", "1:1", "app"])
    assert options.engine_flags(parsed) == ("--database", "a")
    settings = options.container_settings(parsed, {})
    assert settings.engine.given == ("--database", "a")


def test_variables_are_looked_over() -> None:
    """Unknown variables are handed on to be warned about, misspelled ones are 64."""
    assert [each.variable for each in read(MIGRATOR_NEW="x").ignored] == ["MIGRATOR_NEW"]
    with pytest.raises(UsageError):
        read(MIGRATOR_MOUTN="warn")


def test_the_log_of_a_mistake_has_the_format_that_was_asked_for() -> None:
    """Flags of the application are not taken for ours."""
    assert options.log_settings(["--log-format=console", "--x"], {}) == ("console", "info")
    environ = {"MIGRATOR_LOG_FORMAT": "json", "MIGRATOR_LOG_LEVEL": "error"}
    assert options.log_settings(["app", "--log-format", "console"], environ) == ("json", "error")


def test_help_lists_every_option() -> None:
    """The help has every flag with its variable, and examples."""
    text = options.help_text()
    for option in options.OPTIONS:
        assert f"  {option.flag} {option.value_name}" in text
        assert str(option.variable) in text
    assert "PUID and PGID" in " ".join(text.split())
    assert "Examples:" in text
    assert text.isascii()
    assert max(len(line) for line in text.splitlines()) <= 100
