"""The lines that a run writes to stderr, parsed and held against the contract."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).parents[2] / "docs" / "log-event.schema.json"

REASONS = SCHEMA.with_name("logs.md")
_ROW = re.compile(r"^\| ((?:`[^`]+`(?:, )?)+) \| ([0-9, +n]+) \| ([^|]+) \| (.*) \|$", re.MULTILINE)

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
    if "reason" in event and event["event"] == "run.finished":
        reason = reasons().get(event["reason"])
        assert reason is not None, f"{event['reason']!r} is not in docs/{REASONS.name}: {line!r}"
        assert reason.fits(event), f"{line!r} is not as docs/{REASONS.name} has it: {reason}"
    return dict(event)


@dataclass(frozen=True, slots=True)
class Reason:
    """
    What docs/logs.md promises of a reason.

    Args:
        codes: The exit codes.
        retryable: The values that `retryable` may have.
    """

    codes: frozenset[int]
    retryable: frozenset[bool]

    def fits(self, finished: Event) -> bool:
        """Tell whether the last line of a run is so; a signal, and a failed restore, have codes of their own."""
        code = finished["exit_code"]
        known = code in self.codes or code > 128 or finished["outcome"] == "restore_failed"
        return known and finished["retryable"] in self.retryable


@functools.cache
def reasons() -> dict[str, Reason]:
    """Return the table of reasons, by their slugs."""
    found = {}
    for slugs, codes, retry, text in _ROW.findall(REASONS.read_text()):
        said = {word for word in ("yes", "no") if re.search(rf"\b{word}\b", retry)}
        if " for " in retry or re.search(r"; (yes|no) where", text):
            said = {"yes", "no"}
        reason = Reason(
            frozenset(map(int, re.findall(r"\b\d+\b(?!\+n)", codes))),
            frozenset(word == "yes" for word in said),
        )
        found.update(dict.fromkeys(re.findall(r"`([^`]+)`", slugs), reason))
    return found


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
