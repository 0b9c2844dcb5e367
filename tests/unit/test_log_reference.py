"""docs/logs.md and docs/log-event.schema.json against each other and against the code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import migrator.errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
SCHEMA = json.loads((ROOT / "docs" / "log-event.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
CODE = Path(migrator.errors.__file__).parents[1]

SLUG = re.compile(
    r"(app|backup|baseline|command|database|disk|history|identity|lock|migrations?|plan|privileges|recovery"
    r"|rehearsal|restore|rows|run|settings|sqlite|state|usage|verify|volume|worker)\.[a-z_-]+"
)
# What looks like a slug and is none: names of files.
NO_SLUGS = {"state.json", "migrations.db", "backup.db", "migration.sql"}

COMMON: dict[str, Any] = {
    "timestamp": "2026-03-01T09:30:12.104518Z",
    "level": "info",
    "message": "Something happened.",
    "logger": "sqlite-entrypoint",
    "run_id": None,
    "database": "/data/app.db",
}
WHO: dict[str, Any] = {"version": "003", "name": "add_email"}
COPY: dict[str, Any] = {"path": "/data/backups/app.db-1.db", "bytes": 4096, "seconds": 0.1}
FAILED: dict[str, Any] = {
    "level": "error",
    "outcome": "refused",
    "exit_code": 69,
    "applied": 0,
    "seconds": 0.1,
    "error": "It is not there.",
    "reason": "volume.not_mounted",
    "retryable": False,
    "hint": "",
}

EVENTS: list[dict[str, Any]] = [
    {"event": "run.started", "run_id": "r1", "database": None},
    {"event": "settings.ignored", "variable": "MIGRATOR_NEW"},
    {"event": "privileges.not_root", "asked": "1:1", "actual": "2:2"},
    {"event": "privileges.dropped", "uid": 1, "gid": 1},
    {"event": "volume.waiting", "attempt": 1, "reason": "volume.stale", "next_wait": 0.5},
    {"event": "volume.not_mounted", "kind": "tmpfs", "fstype": "tmpfs"},
    {"event": "volume.warning", "reason": "volume.empty_dir"},
    {"event": "lock.waiting", "attempt": 1},
    {"event": "recovery.started", "interrupted_run": "r0", "phase": "commit"},
    {"event": "recovery.finished", "interrupted_run": "r0", "outcome": "committed"},
    {"event": "history.misfit", "kind": "newer", "version": "009"},
    {"event": "migrations.ignored", "file": "0004_by_hand.sql"},
    {"event": "baseline.differs", "version": "002", "differences": ["it lacks the index i"]},
    {"event": "plan.ready", "pending": 2, "applied": 5},
    {"event": "backup.started", **COPY},
    {"event": "backup.progress", **COPY},
    {"event": "backup.finished", **COPY},
    {"event": "backup.reused", "path": "/b.db", "bytes": 4096},
    {"event": "backup.check_incomplete", "path": "/b.db", "error": "no such module: x"},
    {"event": "backup.pruned", "path": "/b.db", "reason": "keep"},
    {"event": "backup.by_path", "path": "/b.db"},
    {"event": "backup.others", "path": "/backups", "count": 2},
    {"event": "rehearsal.started", "path": "/data/app.db.migrator/rehearsal-1", "bytes": 4096},
    {"event": "rehearsal.finished", "pending": 2, "seconds": 0.1},
    {"event": "rows.counted", "seconds": 0.1},
    {"event": "rows.uncounted", "table": "notes", "error": "no such module: x"},
    {"event": "migration.started", **WHO},
    {"event": "database.missing", "beside": ["library.sqlite3"]},
    {"event": "migration.empty", **WHO},
    {"event": "migration.progress", **WHO, "seconds": 10.0},
    {"event": "migration.output", **WHO, "text": "hello"},
    {"event": "migration.finished", **WHO, "seconds": 0.1, "rows_removed": {"users": 1}},
    {
        "event": "migration.failed",
        **WHO,
        "seconds": 0.1,
        "file": "003_add_email.sql",
        "line": 3,
        "statement": None,
        "error": "no such table: users",
    },
    {"event": "verify.started", "check": "quick_check"},
    {"event": "verify.progress", "check": "quick_check", "seconds": 10.0},
    {"event": "run.progress", "phase": "publish", "seconds": 10.0},
    {"event": "verify.finished", "check": "quick_check"},
    {"event": "verify.failed", "check": "history", "error": "A row is missing."},
    {"event": "restore.finished", "method": "rollback", "identical": None},
    {"event": "restore.failed", "method": "backup", "identical": False, "error": "I/O error"},
    {
        "event": "run.finished",
        "outcome": "migrated",
        "exit_code": 0,
        "applied": 2,
        "seconds": 0.4,
    },
    {"event": "run.finished", **FAILED},
    {"event": "app.exec", "command": "/usr/bin/app", "args": 3},
    {"event": "app.failed", "error": "No such file or directory"},
]
WITHOUT_FIELDS = {"run.skipped", "volume.ready", "lock.acquired"}


def faults(event: dict[str, Any]) -> list[str]:
    """Return what the schema has against a line."""
    return [fault.message for fault in VALIDATOR.iter_errors(event)]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading of the page."""
    section = PAGE.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [line.strip("| ").split(" | ") for line in lines]


def documented() -> set[str]:
    """Return every name in backticks on the page."""
    return set(re.findall(r"`([a-z_.-]+)`", PAGE))


def slugs_in_code() -> set[str]:
    """Return every text in the code that is an event's name or a reason."""
    found = set()
    for path in [*CODE.rglob("migrator/**/*.py"), *CODE.glob("entrypoint/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if SLUG.fullmatch(node.value) else set()
    return found - NO_SLUGS


def test_the_schema_is_a_schema() -> None:
    """The published schema is valid JSON Schema of draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_event_and_reason_of_the_code_is_documented() -> None:
    """Whoever adds an event or a reason describes it."""
    assert slugs_in_code() - documented() == set()


def test_every_base_class_of_an_error_has_a_documented_reason() -> None:
    """Reason, exit code and retryable of each class are as the page has them."""
    table = {row[0].strip("`"): row[1:3] for row in rows("Reasons")}
    classes = [migrator.errors.MigratorError]
    for each in classes:
        classes += each.__subclasses__()
    for each in classes:
        if each.__module__ == "migrator.errors":
            code = "128+n" if each.reason == "signal" else str(each.exit_code)
            assert [code, "yes" if each.retryable else "no"] == table[each.reason]


def test_the_page_and_the_schema_know_the_same_events() -> None:
    """No event is in one of the two only."""
    events = [re.match(r"`([a-z_.]+)`", row[0]) for row in rows("Events")]
    names = [event[1] for event in events if event]
    assert sorted(names) == sorted(SCHEMA["properties"]["event"]["enum"])
    assert {event["event"] for event in EVENTS} | WITHOUT_FIELDS == set(names)


def test_the_page_and_the_schema_know_the_same_outcomes() -> None:
    """No outcome is in one of the two only."""
    (rule,) = [
        rule["then"]["properties"]["outcome"]["enum"]
        for rule in SCHEMA["allOf"]
        if rule["if"]["properties"] == {"event": {"const": "run.finished"}}
    ]
    names = [row[0].strip("`") for row in rows("How a run ended: `run.finished`")]
    assert names == rule


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["event"])
def test_each_field_that_an_event_has_is_demanded(event: dict[str, Any]) -> None:
    """A line with all its fields passes; without any one of them it does not."""
    whole = COMMON | event
    assert faults(whole) == []
    assert faults(whole | {"something_new": 1}) == []
    for field in whole:
        assert faults({key: value for key, value in whole.items() if key != field}), field


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "2026-03-01T09:30:12Z"},
        {"timestamp": "2026-03-01T09:30:12.104518+01:00"},
        {"level": "fatal"},
        {"event": "run.exploded"},
        {"message": ""},
        {"logger": "root"},
        {"database": "app.db"},
        {"run_id": 5},
        {"outcome": "fine"},
        {"exit_code": 1},
        {"exit_code": 0},
        {"exit_code": 128},
        {"level": "info"},
        {"reason": "Not a slug"},
        {"retryable": "no"},
        {"applied": -1},
        {"outcome": "bug"},
        {"outcome": "restore_failed"},
        {"outcome": "unknown", "exit_code": 81},
        {"outcome": "migrated"},
    ],
)
def test_a_line_that_says_something_else_is_refused(change: dict[str, Any]) -> None:
    """Wrong types, unknown names and codes that do not fit the outcome are found."""
    assert faults(COMMON | {"event": "run.finished"} | FAILED) == []
    assert faults(COMMON | {"event": "run.finished"} | FAILED | change)
