"""Waiting for what can still come."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from migrator.errors import DamagedError, NoPermissionError, NotReadyError
from migrator.wait import Deadline, NotYetError, repeat, wait_until_ready
from tests.support.processes import clean_environment


class Log:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, dict[str, Any]]] = []

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Keep one event."""
        self.events.append((event, level, message, fields))

    @property
    def names(self) -> list[str]:
        """The names of the events in their order."""
        return [event[0] for event in self.events]


def not_yet(text: str = "It is missing.") -> NotYetError:
    """Return what a directory that is missing raises."""
    return NotYetError(NotReadyError(text, hint="Mount it.", reason="volume.directory_missing"))


def ready_after(failures: int) -> Callable[[], str]:
    """Return a check that fails so many times."""
    errors = iter([not_yet(f"Missing {number}.") for number in range(failures)])

    def check() -> str:
        for error in errors:
            raise error
        return "ready"

    return check


def test_what_is_ready_needs_no_wait() -> None:
    """A check that succeeds at once is done once, and said at debug only."""
    log = Log()

    assert wait_until_ready(ready_after(0), Deadline(60), log) == "ready"
    assert [(event[0], event[1]) for event in log.events] == [("volume.ready", "debug")]


def test_a_retry_is_logged_with_attempt_reason_and_pause() -> None:
    """`volume.waiting` counts the looks and names the reason and the next pause, which grows."""
    log = Log()

    assert wait_until_ready(ready_after(3), Deadline(60), log) == "ready"

    assert log.names == ["volume.waiting"] * 2 + ["volume.ready"]
    assert [event[3]["attempt"] for event in log.events[:2]] == [1, 2]
    assert {event[3]["reason"] for event in log.events[:2]} == {"volume.directory_missing"}
    pauses = [event[3]["next_wait"] for event in log.events[:2]]
    assert 0.1 <= pauses[0] <= 0.2 <= pauses[1] <= 0.3
    assert log.events[0][2].startswith("Missing 0. Looking again in 0.")


def test_one_reason_is_said_more_and_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is read at night has no forty equal lines."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    log = Log()
    wait_until_ready(ready_after(40), Deadline(10_000), log)
    told = [event[3]["attempt"] for event in log.events if event[0] == "volume.waiting"]
    assert told == [1, 2, 4, 8, 16, 32]


def test_another_reason_is_said_at_once_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the log then need not wait for the end to learn what to mend."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    missing = [not_yet()] * 3
    in_use = NotReadyError("It is in use.", hint="Stop it.", reason="database.in_use")
    errors = iter([*missing, NotYetError(in_use), NotYetError(in_use)])

    def check() -> None:
        for error in errors:
            raise error

    log = Log()
    wait_until_ready(check, Deadline(60), log)
    told = [(e[3]["attempt"], e[3]["reason"], e[3].get("hint")) for e in log.events[:-1]]
    first = not_yet().hint or None
    assert told == [
        (1, "volume.directory_missing", first),
        (2, "volume.directory_missing", first),
        (4, "database.in_use", "Stop it."),
        (5, "database.in_use", "Stop it."),
    ]


def test_pauses_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, the next look is at most some five seconds away."""
    log = Log()
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)

    wait_until_ready(ready_after(20), Deadline(10_000), log)

    assert max(event[3].get("next_wait", 0) for event in log.events) <= 5.1


def test_a_budget_of_nothing_looks_once() -> None:
    """With 0 seconds there is one look, no pause and the real error."""
    log, looks = Log(), []

    def check() -> None:
        looks.append(1)
        raise not_yet()

    with pytest.raises(NotReadyError, match="It is missing") as caught:
        wait_until_ready(check, Deadline(0), log)

    assert (looks, log.names) == ([1], [])
    assert type(caught.value) is NotReadyError


def test_the_budget_is_used_up_and_not_exceeded() -> None:
    """The last look is just before the end, and nothing happens after it."""
    log, looks = Log(), []
    began = time.monotonic()

    def check() -> None:
        looks.append(time.monotonic() - began)
        raise not_yet()

    with pytest.raises(NotReadyError):
        wait_until_ready(check, Deadline(1.0), log)

    assert time.monotonic() - began < 3
    assert looks[-1] >= 0.85


def test_a_short_budget_has_a_second_attempt_however_long_the_first_pause_takes() -> None:
    """What somebody holds for a moment is not refused because this process was slow."""
    attempts: list[int] = []

    def attempt() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise BlockingIOError
        return "taken"

    left = iter((0.05, -1.0, -1.0))
    taken = repeat(
        attempt,
        lambda: next(left),
        may_pass=lambda error: isinstance(error, BlockingIOError),
        pause=lambda attempts: attempts / 1000,
    )

    assert (taken, len(attempts)) == ("taken", 2)


def test_the_last_cause_is_raised_with_its_own_code() -> None:
    """What ends the wait is the last cause, of its own class and exit code."""
    errors = iter([not_yet()])

    def check() -> None:
        for error in errors:
            raise error
        raise NotYetError(NoPermissionError("It may not be written.", hint="Chown it."))

    with pytest.raises(NoPermissionError, match="may not be written") as caught:
        wait_until_ready(check, Deadline(0.3), Log())

    assert (caught.value.exit_code, caught.value.hint) == (77, "Chown it.")


def test_what_cannot_pass_ends_at_once() -> None:
    """Any other error is raised by the look that met it, during a wait as well."""
    errors = iter([not_yet()])

    def check() -> None:
        for error in errors:
            raise error
        msg = "It is a directory."
        raise DamagedError(msg)

    with pytest.raises(DamagedError):
        wait_until_ready(check, Deadline(60), Log())


def test_the_end_of_a_wait_can_have_an_event_of_its_own() -> None:
    """An error that names an event has it logged once, when the wait is given up."""
    log = Log()

    def check() -> None:
        cause = NotReadyError("No volume.", reason="volume.not_mounted")
        raise NotYetError(cause, event="volume.not_mounted", fields={"kind": "tmpfs"})

    with pytest.raises(NotReadyError):
        wait_until_ready(check, Deadline(0.3), log)

    assert log.names.count("volume.not_mounted") == 1
    assert log.events[-1] == ("volume.not_mounted", "error", "No volume.", {"kind": "tmpfs"})


def test_a_not_yet_error_carries_its_causes_outcome() -> None:
    """Raised by itself, outside of a wait, it ends a run as its cause would."""
    error = NotYetError(NoPermissionError("No.", hint="Chown.", data={"owner": "1:1"}))

    assert (error.exit_code, error.reason, error.hint) == (77, "database.permission", "Chown.")
    assert (error.retryable, error.data) == (False, {"owner": "1:1"})


def test_time_given_back_extends_the_deadline() -> None:
    """Time with a budget of its own does not count."""
    now = [100.0]
    deadline = Deadline(10, clock=lambda: now[0])
    now[0] += 8
    deadline.extend(5)

    assert (deadline.remaining(), deadline.expired) == (7, False)
    now[0] += 8
    assert (deadline.remaining(), deadline.expired) == (0, True)


def test_a_signal_ends_the_pause() -> None:
    """An exception from a signal's handler ends the wait at once."""

    class StopError(Exception):
        """Raised by the handler."""

    def stop(_number: int, _frame: object) -> None:
        raise StopError

    def check() -> None:
        raise not_yet()

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(StopError):
            wait_until_ready(check, Deadline(60), Log())
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_start_that_waits_for_nothing_does_not_import_tenacity() -> None:
    """Tenacity is imported after the first look has failed, not before."""
    code = (
        "import sys; from migrator.wait import Deadline, wait_until_ready;"
        "wait_until_ready(lambda: 1, Deadline(60), lambda *a, **k: None);"
        "print('tenacity' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == "False\n"
