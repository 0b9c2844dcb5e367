"""The log of real runs against the contract: the last line, each event's fields, the levels."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import write_migrations
from tests.support.outcomes import assert_explained
from tests.support.processes import Result, run_entrypoint, run_migrator

COMMON = ["timestamp", "level", "event", "message", "logger", "run_id", "database"]

FIELDS = {
    "volume.waiting": {"attempt", "reason", "next_wait"},
    "plan.ready": {"pending", "applied"},
    "backup.started": {"path", "bytes", "seconds"},
    "backup.finished": {"path", "bytes", "seconds"},
    "backup.pruned": {"path", "reason"},
    "migration.started": {"version", "name"},
    "migration.output": {"version", "name", "text"},
    "migration.finished": {"version", "name", "seconds", "rows_removed"},
    "migration.failed": {"version", "name", "seconds", "file", "line", "statement", "error"},
    "verify.started": {"check"},
    "verify.finished": {"check"},
    "verify.failed": {"check", "error"},
    "restore.finished": {"method", "identical"},
    "run.finished": {"outcome", "exit_code", "applied", "seconds"},
    "app.exec": {"command", "args"},
}
"""What the contract names; the schema, which the helpers hold every line against, has the types."""


@pytest.fixture
def flags(database: Path, migrations: Path) -> list[str]:
    """Return the flags of a start that waits for nothing."""
    return [
        "--database",
        str(database),
        "--migrations",
        str(migrations),
        "--wait-timeout",
        "0",
    ]


def succeeding(flags: list[str], *more: str) -> Result:
    """Run what is pending, and become an application."""
    return run_entrypoint(*flags, *more, "--", "true", "with", "arguments")


def failing(flags: list[str], *more: str) -> Result:
    """Run with a last migration that fails after it has said something."""
    write_migrations(
        Path(flags[3]),
        {"003_bad.py": "def up(conn):\n    print('hello')\n    conn.execute('SELEKT 1')\n"},
    )
    return run_entrypoint(*flags, *more, "--", "true")


def refused(flags: list[str], *more: str) -> Result:
    """Run with a command that does not exist."""
    return run_entrypoint(*flags, *more, "--", "no-such-program")


def misused(flags: list[str], *more: str) -> Result:
    """Run with a flag that does not exist."""
    return run_entrypoint(*flags, *more, "--nonsense")


ENDS: dict[Callable[..., Result], tuple[int, str, int]] = {
    succeeding: (0, "migrated", 2),
    failing: (80, "failed_restored", 0),
    refused: (127, "refused", 0),
    misused: (64, "refused", 0),
}


def checked(event: dict[str, Any]) -> dict[str, Any]:
    """Assert what is true of every line."""
    assert list(event)[: len(COMMON)] == COMMON, event
    assert event["logger"] == "sqlite-entrypoint"
    assert event["level"] in ("debug", "info", "warning", "error")
    moment = datetime.fromisoformat(event["timestamp"])
    assert moment.utcoffset() is not None
    assert moment.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    printed = event["event"] == "migration.output"
    assert printed or event["message"].endswith((".", "?")), event
    assert FIELDS.get(event["event"], set()) <= event.keys(), event
    return event


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_run_finished_is_the_last_line_at_any_level(way, level, flags):
    """Every run ends with one `run.finished`, at any level, the last line but for `app.…`."""
    result = way(flags, "--log-level", level)
    code, outcome, applied = ENDS[way]
    end = result.finished
    assert (result.code, end["exit_code"]) == (code, code)
    assert (end["outcome"], end["applied"]) == (outcome, applied)
    assert 0 <= end["seconds"] <= result.seconds
    assert len({event["run_id"] for event in result.events}) == 1
    for event in result.events:
        checked(event)
    if code:
        assert_explained(end)
    assert result.app_stderr == ""
    assert result.names[-1] == ("app.exec" if level != "error" and not code else "run.finished")


def test_the_events_of_an_upgrade_in_their_order(flags):
    """A run says what it does in the order in which it does it."""
    result = succeeding(flags)
    wanted = [
        "run.started",
        "lock.acquired",
        "plan.ready",
        "backup.started",
        "backup.finished",
        "migration.started",
        "migration.finished",
        "migration.started",
        "migration.finished",
        "verify.started",
        "verify.finished",
        "run.finished",
        "app.exec",
    ]
    assert [name for name in result.names if name in wanted] == wanted
    ready = result.one("plan.ready")
    assert (ready["pending"], ready["applied"]) == (2, 0)
    last = result.one("app.exec")
    assert last["command"].endswith("/true")
    assert last["args"] == 2
    assert "arguments" not in result.stderr
    backup = result.one("backup.finished")
    assert Path(backup["path"]).stat().st_size == backup["bytes"]


def test_a_start_with_nothing_pending_says_little(flags):
    """With nothing pending a start says that it began, what is pending, and how it ended."""
    succeeding(flags)
    result = succeeding(flags)
    wanted = ["run.started", "volume.ready", "plan.ready", "run.finished", "app.exec"]
    assert result.names == wanted
    assert (result.finished["outcome"], result.finished["applied"]) == ("up_to_date", 0)


def test_no_migrations_at_all_is_a_warning(flags, tmp_path):
    """A directory without any may be a mount that was forgotten: a start succeeds, and says so."""
    (tmp_path / "empty").mkdir()
    result = run_entrypoint(*flags, "--migrations", tmp_path / "empty")
    ready = result.one("plan.ready")
    assert ("warning", 0, 0) == (ready["level"], ready["pending"], ready["applied"])
    assert (0, "up_to_date") == (result.code, result.finished["outcome"])


def test_the_events_of_a_failure(flags):
    """A failed run says which migration, what it printed, what failed, and that all is undone."""
    result = failing(flags)
    failed = result.one("migration.failed")
    facts = {name: failed[name] for name in ("version", "name", "file", "line", "statement")}
    assert facts == {
        "version": "003",
        "name": "bad",
        "file": "003_bad.py",
        "line": 3,
        "statement": "SELEKT 1",
    }
    assert failed["error"] == 'near "SELEKT": syntax error'
    assert result.one("migration.output")["text"] == "hello"
    assert result.one("restore.finished")["identical"] is True
    assert result.names.index("migration.failed") < result.names.index("restore.finished")
    end = result.finished
    assert {name: end[name] for name in facts} == facts


def test_rows_that_were_said_to_go_are_counted(flags, tmp_path):
    """`rows_removed` counts per table what a migration said would go."""
    directory = write_migrations(tmp_path / "m", {"001_x.sql": "DELETE FROM notes WHERE id > 1;\n"})
    result = run_entrypoint(*flags, "--migrations", directory)
    assert result.one("migration.finished")["rows_removed"] == {"notes": 2}


def test_waiting_says_why_and_for_how_long(flags, tmp_path):
    """A retry is one line with attempt, reason, the next pause and what to do, ever seldomer."""
    database = tmp_path / "later" / "app.db"
    result = run_entrypoint(*flags, "--database", database, "--wait-timeout", "1")
    waits = [checked(event) for event in result.named("volume.waiting")]
    assert [event["attempt"] for event in waits] == [1, 2, 4, 8, 16][: len(waits)]
    assert all(event["hint"] for event in waits)
    assert {event["reason"] for event in waits} == {"volume.directory_missing"}
    assert all(event["next_wait"] > 0 for event in waits)


@pytest.mark.parametrize("way", ENDS)
def test_the_console_format_has_the_same_end(way, flags):
    """For people the last line says the same: outcome, code, what is wrong and what to do."""
    expected = way(flags, "--log-level", "error").finished
    if way is succeeding:
        flags[1] = str(Path(flags[1]).with_name("app2.db"))
        Path(flags[1]).write_bytes(Path(flags[1]).with_name("app.db").read_bytes())
    env = {"MIGRATOR_LOG_FORMAT": "console", "NO_COLOR": "1"}
    words = {succeeding: ["--", "true"], refused: ["--", "no-such-program"]}
    last = words.get(way, ["--nonsense"] if way is misused else ["--", "true"])
    result = run_entrypoint(*flags, *last, env=env, check_log=False)
    assert result.code == expected["exit_code"]
    assert not result.stderr.startswith("{")
    assert "\x1b" not in result.stderr
    assert "logger" not in result.stderr
    assert "Traceback" not in result.stderr
    if way is not succeeding:
        end = f"exit code {expected['exit_code']} ({expected['outcome']}, {expected['reason']})."
        assert result.stderr.count(end) == 1
        assert result.stderr.count(expected["error"]) == 1
        assert result.stderr.splitlines()[-1] == f"  Hint: {expected['hint']}"


@pytest.mark.parametrize(
    ("words", "outcome", "applied"),
    [
        (["up"], "up_to_date", 0),
        (["down"], "migrated", 1),
        (["down", "--steps", "2"], "migrated", 2),
        (["restore", "latest"], "migrated", 1),
        (["baseline", "001"], "up_to_date", 0),
        (["down", "--to", "002"], "up_to_date", 0),
    ],
)
def test_each_command_that_is_a_run_ends_alike(words, outcome, applied, flags):
    """`down`, `restore` and `baseline` end with `migrated` when they changed something."""
    assert succeeding(flags).code == 0
    result = run_migrator(*words, *flags)
    end = checked(result.finished)
    assert (result.code, end["outcome"], end["applied"]) == (0, outcome, applied)
    assert result.one("run.started")["command"] == words[0]
    assert result.stdout.count("\n") == 1


def test_baseline_changes_something(flags):
    """`baseline` counts what it has noted."""
    result = run_migrator("baseline", "002", *flags)
    assert (result.finished["outcome"], result.finished["applied"]) == ("migrated", 2)


@pytest.mark.parametrize("words", [["status"], ["plan"], ["check"], ["backups"], ["verify"]])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_looking_logs_nothing_below_a_warning(words, level, flags):
    """Commands that only look log nothing below a warning, whatever the level."""
    result = run_migrator(*words, *flags, "--log-level", level)
    assert result.stderr == ""
    assert result.stdout


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ["status"],
            {"database", "exists", "up_to_date", "running", "applied", "pending", "problems"},
        ),
        (["plan"], {"way", "pending", "database_bytes", "space_needed_bytes"}),
    ],
)
def test_results_are_json_on_stdout(words, keys, flags):
    """`--json` prints one JSON value with the contract's keys on stdout."""
    result = run_migrator(*words, "--json", *flags)
    assert keys <= json.loads(result.stdout).keys()
    assert result.code == 0


def test_backups_as_json(flags):
    """`backups --json` lists what each backup is, newest first."""
    succeeding(flags)
    run_migrator("down", *flags)
    found = json.loads(run_migrator("backups", "--json", *flags).stdout)
    keys = {"name", "path", "created_at", "bytes", "sha256", "version", "reason"}
    assert [each["reason"] for each in found] == ["down", "up"]
    assert all(keys <= each.keys() for each in found)
    assert [each["version"] for each in found] == ["002", None]


def test_before_the_settings_are_known_the_database_is_null(migrations):
    """Where no database is known, `database` is null, and the run has an id all the same."""
    end = checked(run_entrypoint("--migrations", migrations).finished)
    assert end["database"] is None
    assert end["run_id"]


def test_what_was_logged_of_variables_and_arguments(flags):
    """No variable's value and no argument of the application is logged."""
    result = run_entrypoint(
        *flags,
        "--log-level",
        "debug",
        "--",
        "true",
        "s3cret-argument",
        env={"PASSWORD": "s3cret-value", "MIGRATOR_LOG_LEVEL": "debug"},
    )
    assert result.code == 0
    assert "s3cret" not in result.stderr
