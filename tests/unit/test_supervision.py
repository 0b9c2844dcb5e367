"""What the parent takes down of a worker, and what is left of a worker in the end."""

from __future__ import annotations

import json
import os
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from migrator import errors
from migrator.errors import InterruptedRunError, MigratorError
from migrator.model import Outcome
from migrator.process import reports, watch, worker
from migrator.process.blocked_signals import STOPS, name_of
from migrator.process.signals import Signals
from migrator.process.supervisor import supervise
from migrator.process.worker_ending import Ending
from migrator.value import as_dict
from migrator.wait import NotYetError
from tests.support.recorder import Recorder

ERROR = {
    "type": "MigrationFailedError",
    "message": "It failed.",
    "hint": "Mend it.",
    "reason": "migration.failed",
    "retryable": False,
    "data": {},
}
EVENT = {"event": "plan.ready", "message": "It is planned.", "level": "info", "fields": {}}


def followed(work: Callable[[Any], None]) -> tuple[Ending, Recorder]:
    """Have a worker do something with its reporting end, and return what was taken down."""
    said = Recorder()

    def task(emit: Any) -> dict[str, Any]:
        work(emit)
        return {"done": True}

    return supervise(task, emit=said, signals=Signals()), said


def raw(emit: Any, data: bytes) -> None:
    """Write into the report pipe past everything."""
    os.write(emit._number, data)


# --- lines -----------------------------------------------------------------

NO_REPORTS = {
    "no JSON": b"not a report",
    "cut": b'{"result": {"outcome": "migr',
    "nothing": b"",
    "a number": b"7",
    "a list": b'["result"]',
    "null": b"null",
    "nested without end": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "an empty object": b"{}",
    "a result that is a text": b'{"result": "migrated"}',
    "a crash that is none": b'{"crash": 1}',
    "an error that is a text": b'{"error": "failed"}',
    **{
        f"an error without {name}": json.dumps(
            {"error": {key: value for key, value in ERROR.items() if key != name}}
        ).encode()
        for name in ERROR
    },
    **{
        f"an error of the type {name!r}": json.dumps({"error": {**ERROR, "type": name}}).encode()
        for name in ("describe", "Any", "annotations", "Nobody", "InterruptedRunError", 1, None)
    },
    "an error of a run that succeeded": json.dumps(
        {"error": {**ERROR, "outcome": "migrated"}}
    ).encode(),
    "an error that began oddly": json.dumps({"error": {**ERROR, "began": "yes"}}).encode(),
    **{
        f"an event without {name}": json.dumps(
            {key: value for key, value in EVENT.items() if key != name}
        ).encode()
        for name in EVENT
    },
    "an event of an odd level": json.dumps({**EVENT, "level": "loud"}).encode(),
    "an event with a field that is taken": json.dumps({**EVENT, "fields": {"level": 1}}).encode(),
    "an event of the parent's": json.dumps({**EVENT, "event": "run.finished"}).encode(),
    "a phase that is none": json.dumps({**EVENT, "event": "phase", "fields": {}}).encode(),
}


@pytest.mark.parametrize("line", NO_REPORTS.values(), ids=NO_REPORTS)
def test_a_line_that_is_no_report_is_none(line):
    """Whatever a line holds, reading it raises nothing."""
    assert reports.read(line) is None


@pytest.mark.parametrize("line", NO_REPORTS.values(), ids=NO_REPORTS)
def test_a_worker_whose_report_is_none_is_not_credible(line):
    """Also one that bears the mark: the parent goes on, and looks for itself."""
    ending, _ = followed(lambda emit: raw(emit, b"\n" + emit._mark + line + b"\n"))
    assert (ending.result, ending.doubtful, ending.credible) == ({"done": True}, True, False)


def kinds() -> list[type[MigratorError]]:
    """Return every class of errors that a worker may report."""
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    return [each for each in found if issubclass(each, MigratorError)]


@pytest.mark.parametrize("kind", [each for each in kinds() if each is not InterruptedRunError])
def test_every_error_comes_through_as_it_was(kind):
    """Type, texts, reason, data and what became of the run are the same on both sides."""
    error = kind("It is so.", hint="Do this.", reason="odd", retryable=True, data={"line": 2})
    error.began, error.outcome = True, "unknown"
    what = reports.read(json.dumps({"error": reports.dump(error)}).encode())
    assert what is not None
    assert reports.dump(what["error"]) == reports.dump(error)
    assert what["error"].exit_code == kind.exit_code


OUTCOMES = {
    "of a run": Outcome("migrated", ("001", "002"), "/b/app.db-000001.db"),
    "of a first install": Outcome("created", ("001",), file=(1, 2)),
    "of a recovery": Outcome("discarded", method="rollback", identical=True, hint="Go on."),
    "that is open": Outcome("postponed", method="rollback", unsettled="the next start does it"),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_every_outcome_comes_through_as_it_was(outcome):
    """What a worker has done, or found, is the same value on both sides of the pipe."""
    what = reports.read(json.dumps({"result": as_dict(outcome)}).encode())
    assert what is not None
    assert reports.read_outcome(what["result"]) == outcome


NO_OUTCOMES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no kind": {"kind": 1},
    "names that are none": {"kind": "migrated", "changed": [1]},
    "one name": {"kind": "migrated", "changed": "001"},
    "a file that is none": {"kind": "created", "file": "app.db"},
    "a file of texts": {"kind": "created", "file": ["1", "2"]},
    "a backup that is no path": {"kind": "migrated", "backup": 1},
    "a comparison that says nothing": {"kind": "discarded", "identical": "yes"},
}


@pytest.mark.parametrize("claim", NO_OUTCOMES.values(), ids=NO_OUTCOMES)
def test_a_claim_that_is_no_outcome_is_none(claim):
    """What a worker says has a shape, or it has claimed nothing."""
    assert reports.read_outcome(claim) is None


def test_an_error_of_a_kind_of_its_own_comes_through_as_what_it_is_one_of():
    """A class that only one module knows keeps its exit code."""
    error = NotYetError(errors.NotReadyError("It is not there.", hint="Wait."))
    what = reports.read(json.dumps({"error": reports.dump(error)}).encode())
    assert what is not None
    assert type(what["error"]) is errors.NotReadyError


# --- workers ---------------------------------------------------------------


def test_a_worker_that_reports_once_and_ends_is_credible():
    """One report, the last word, and the exit code of a worker."""
    ending, _ = followed(lambda emit: emit("plan.ready", "It is planned."))
    assert (ending.result, ending.credible) == ({"done": True}, True)


STRAYS = {
    "a claim": b'{"result": {"outcome": "migrated"}}\n',
    "a cut claim": b'{"result": {"outcome": "migr',
    "no report": b"not a report\n",
    "no end": b"x" * 100_000,
    "bytes": bytes(range(256)),
    "many lines": b"x\n" * 1000,
}


@pytest.mark.parametrize("data", STRAYS.values(), ids=STRAYS)
def test_what_somebody_else_writes_into_the_pipe_is_output(data):
    """It bears no mark, so it is no report, and takes none of the reports along."""
    ending, said = followed(lambda emit: raw(emit, data))
    assert (ending.result, ending.credible) == ({"done": True}, True)
    assert all(len(each["text"]) <= 500 for each in said.named("migration.output"))
    assert said.named("migration.output")


def test_a_line_without_end_is_cut_and_not_kept(monkeypatch):
    """The parent's memory is not the worker's to fill."""
    monkeypatch.setattr(reports, "LONGEST", 1 << 16)
    ending, said = followed(
        lambda emit: raw(emit, emit._mark + b'{"result": "' + b"x" * (1 << 20) + b'"}\n')
    )
    assert (ending.result, ending.doubtful) == ({"done": True}, True)
    assert said.named("migration.output") == []


def test_a_worker_that_goes_on_after_its_report_is_not_credible():
    """The claim came early: what it did afterwards nobody has reported."""

    def work(emit: Any) -> None:
        emit.send({"result": {"early": True}})
        emit("plan.ready", "It is planned.")

    assert not followed(work)[0].credible


def test_a_worker_that_reports_and_dies_is_not_credible():
    """Whoever reports ends in order, at once."""

    def work(emit: Any) -> None:
        emit.send({"result": {"early": True}})
        os._exit(3)

    ending, _ = followed(work)
    assert (ending.reported, ending.credible) == (True, False)


def test_a_report_in_the_middle_of_a_migration_is_not_credible():
    """A worker reports when no migration is under way."""

    def work(emit: Any) -> None:
        emit("migration.started", "It begins.", version="001", name="x")
        emit.send({"result": {"early": True}})
        os._exit(0)

    ending, _ = followed(work)
    assert (ending.reported, ending.credible) == (True, False)


def test_a_report_that_is_cut_off_is_none():
    """The last line has no end: half of it says nothing."""

    def work(emit: Any) -> None:
        raw(emit, reports.spell(emit._mark, {"result": {"early": True}})[:-5])
        os._exit(0)

    ending, _ = followed(work)
    assert (ending.reported, ending.doubtful) == (False, True)


@pytest.mark.parametrize("raised", [ValueError, MemoryError, KeyboardInterrupt])
def test_whatever_raises_in_the_parent_no_worker_is_left(raised):
    """It is killed and collected before the error goes on: nobody works without the lock."""
    pids: list[int] = []

    def broken(event: str, _message: str, **fields: Any) -> None:
        pids.append(fields["pid"])
        raise raised

    def task(emit: Any) -> dict[str, Any]:
        emit("plan.ready", "It is planned.", pid=os.getpid())
        os.read(os.pipe()[0], 1)
        return {}

    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(raised):
        supervise(task, emit=broken, signals=Signals())
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], os.WNOHANG)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_slow_reader_tears_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waits only so long, here not at all; what it printed is its migration's all the same."""
    monkeypatch.setattr(worker, "DRAIN", 0.0)
    said = Recorder()

    def slowly(event: str, message: str, **fields: Any) -> None:
        if event == "migration.output" and not said.named(event):
            time.sleep(0.3)
        said(event, message, **fields)

    def task(emit: Any) -> dict[str, Any]:
        for version in ("001", "002"):
            emit("migration.started", "It begins.", version=version, name="talks")
            sys.stdout.write("".join(f"{number}\n" for number in range(3000)))
            emit("migration.finished", "It ends.", version=version, name="talks")
        return {}

    supervise(task, emit=slowly, signals=Signals())
    printed = said.named("migration.output")
    assert [each["text"] for each in printed] == [str(number) for number in range(3000)] * 2
    assert [each["version"] for each in printed[:3000]] == ["001"] * 3000


# --- long work -----------------------------------------------------------------


def test_a_long_verification_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ten seconds, here every few milliseconds, until its own end and not that of a part."""
    monkeypatch.setattr(watch, "ALIVE", 0.01)
    whole = {"check": "foreign_key_check, quick_check, history"}

    def work(emit: Any) -> None:
        emit("verify.started", "It begins.", **whole)
        time.sleep(0.1)
        emit("verify.finished", "A part.", level="warning", check="foreign_key_check")
        time.sleep(0.1)
        emit("verify.finished", "All.", **whole)
        time.sleep(0.1)
        emit("plan.ready", "Something else.")

    _, said = followed(work)
    names = [event["event"] for event in said.events]
    first, part, end = (
        names.index("verify.started"),
        names.index("verify.finished"),
        len(names) - 1 - names[::-1].index("verify.finished"),
    )
    assert set(names[first + 1 : part]) == {"verify.progress"}
    assert set(names[part + 1 : end]) == {"verify.progress"}
    assert names[end + 1 :] == ["plan.ready"]
    each = said.events[first + 1]
    assert each["check"] == whole["check"]
    assert each["seconds"] > 0


def test_a_long_phase_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup's check, the commit and the publishing do, unless they show something else."""
    monkeypatch.setattr(watch, "ALIVE", 0.05)

    def work(emit: Any) -> None:
        emit("phase", "prepare", phase="prepare")
        time.sleep(0.2)
        emit("phase", "publish", phase="publish")
        time.sleep(0.2)
        emit("plan.ready", "Something else.")

    _, said = followed(work)
    names = [event["event"] for event in said.events]
    # However long the worker takes to end, nothing else is said.
    assert [name for name in names if name != "run.progress"] == ["plan.ready"]
    assert names[0] == "run.progress"
    assert {event["phase"] for event in said.named("run.progress")} == {"publish"}
    assert all(event["seconds"] > 0 for event in said.named("run.progress"))


def test_a_stop_has_its_name_while_signal_is_being_imported(monkeypatch) -> None:
    """A handler runs at any moment, also within the import of the module that lists the names."""
    monkeypatch.setitem(sys.modules, "signal", types.ModuleType("signal"))
    assert [name_of(number) for number in STOPS] == ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
