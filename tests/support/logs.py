"""The lines that a run writes to stderr, parsed and held against the contract."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).parents[2] / "docs" / "log-event.schema.json"

Event = dict[str, Any]


@functools.cache
def validator() -> jsonschema.protocols.Validator:
    """Return the validator of the published schema, which must itself be valid."""
    schema = json.loads(SCHEMA.read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def parse_line(line: str) -> Event:
    """Return one line of the log, proven to be JSON and as the schema has it."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError as error:
        msg = f"A line on stderr is no JSON: {line!r}"
        raise AssertionError(msg) from error
    faults = [f"{fault.json_path}: {fault.message}" for fault in validator().iter_errors(event)]
    assert not faults, f"{line!r} is not as {SCHEMA.name} has it: {faults}"
    return dict(event)


def split(stderr: str) -> tuple[list[Event], str]:
    """
    Split what came out of stderr into the run's own events and what follows exec.

    The run's lines end with `run.finished`, or with the `app.…` line after it;
    everything later was written by the application. Without a `run.finished`
    every line is the run's.
    """
    events: list[Event] = []
    lines = stderr.splitlines(keepends=True)
    over = False
    for number, line in enumerate(lines):
        if over and not _is_about_exec(line):
            return events, "".join(lines[number:])
        events.append(parse_line(line))
        over = over or events[-1]["event"] == "run.finished"
    return events, ""


def _is_about_exec(line: str) -> bool:
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return False
    return (
        isinstance(event, dict)
        and event.get("logger") == "sqlite-entrypoint"
        and str(event.get("event", "")).startswith("app.")
    )


def named(events: list[Event], name: str) -> list[Event]:
    """Return the events of that name, in order."""
    return [event for event in events if event["event"] == name]


def finished(events: list[Event]) -> Event:
    """Return the one `run.finished`, which is the last line but for `app.…`."""
    names = [event["event"] for event in events]
    assert names.count("run.finished") == 1, names
    rest = names[names.index("run.finished") + 1 :]
    assert all(name.startswith("app.") for name in rest), names
    return named(events, "run.finished")[0]
