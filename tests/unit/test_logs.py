"""The lines on stderr, and the forwarding of events to an application's own log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from migrator.errors import InterruptedRunError
from migrator.log import writer
from migrator.log.lines import Forward, Log, clean, to_structlog


class Reader:
    """The other end of a pipe."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def text(self) -> str:
        """Return what was written, and end the pipe."""
        os.close(self.writing)
        with os.fdopen(self.reading, "rb") as file:
            return file.read().decode()

    def events(self) -> list[dict[str, Any]]:
        """Return the JSON lines."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Return a pipe to log to."""
    pipe = Reader()
    yield pipe
    for descriptor in (pipe.reading, pipe.writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_every_line_has_the_common_fields_first(reader: Reader) -> None:
    """timestamp, level, event, message, logger, run_id and database, then the event's own."""
    log = Log(fd=reader.writing, database=Path("/data/app.db"))
    log.run_id = "r1"
    log("plan.ready", "Two migrations are pending.", pending=2, applied=5)
    (event,) = reader.events()
    timestamp = event.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)
    assert list(event.items()) == [
        ("level", "info"),
        ("event", "plan.ready"),
        ("message", "Two migrations are pending."),
        ("logger", "sqlite-entrypoint"),
        ("run_id", "r1"),
        ("database", "/data/app.db"),
        ("pending", 2),
        ("applied", 5),
    ]


def test_run_and_database_are_null_until_they_are_known(reader: Reader) -> None:
    """A message about wrong settings has neither, and says so."""
    Log(fd=reader.writing)("run.started", "The run started.")
    (event,) = reader.events()
    assert event["run_id"] is None
    assert event["database"] is None


@pytest.mark.parametrize("least", ["debug", "info", "warning", "error"])
def test_events_below_the_level_are_dropped_but_for_the_last(least: str, reader: Reader) -> None:
    """--log-level filters everything except run.finished, which every run ends with."""
    log = Log(level=least, fd=reader.writing)
    for level in ("debug", "info", "warning", "error"):
        log(f"x.{level}", "Something happened.", level=level)
    log("run.finished", "Done.", outcome="up_to_date")
    order = ["debug", "info", "warning", "error"]
    expected = [f"x.{level}" for level in order[order.index(least) :]]
    assert [event["event"] for event in reader.events()] == [*expected, "run.finished"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\udcffb", "a\\udcffb"),
        ("a\nb", "a\nb"),
        (b"\xff/x", "\\xff/x"),
        (Path("/a\udc80"), "/a\\udc80"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ((1, [2]), [1, [2]]),
        ({3, 1}, [1, 3]),
        ({Path("/a"): {1: b"x"}, "b\udcff": 2}, {"/a": {"1": "x"}, "b\\udcff": 2}),
        (ValueError("no"), "ValueError('no')"),
    ],
)
def test_every_value_becomes_plain_json(value: object, expected: object, reader: Reader) -> None:
    """File names that are no UTF-8, NaN and objects of all kinds give strict JSON in one line."""
    assert clean(value) == expected
    Log(fd=reader.writing)("x", "Something happened.", value=value)
    (line,) = reader.text().splitlines()
    assert line.isascii()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(line, parse_constant=refuse)["value"] == expected


class _Unprintable:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        msg = "no"
        raise RuntimeError(msg)


def test_a_line_that_cannot_be_rendered_is_replaced(reader: Reader) -> None:
    """The event is reported without its fields where need be; the run goes on."""
    cycle: list[object] = []
    cycle.append(cycle)
    log = Log(fd=reader.writing)
    log("x", "Something happened.", value=_Unprintable())
    log("y", "Something else happened.", value=cycle)
    events = reader.events()
    assert [event["event"] for event in events] == ["x", "y"]
    assert [event["message"] for event in events] == [
        "Something happened.",
        "Something else happened.",
    ]
    assert events[0]["log_error"].startswith("RuntimeError")


def test_lines_before_a_run_are_the_same_without_structlog(reader: Reader) -> None:
    """A start with nothing pending renders by itself what structlog renders of a run."""
    log = Log(fd=reader.writing, run_id="r", database="/data/app.db")
    fields = {
        "text": "\udcff\n",
        "number": 1.5,
        "nothing": None,
        "rows": {"t": 1},
        "nan": float("nan"),
    }
    log("x", "Something happened.", level="warning", **fields)
    log.expect_run()
    log("x", "Something happened.", level="warning", **fields)
    plain, rendered = (
        re.sub(r'"timestamp": "[^"]*"', "", line) for line in reader.text().splitlines()
    )
    assert plain == rendered


def test_the_pretence_of_a_field_does_not_break_a_line(reader: Reader) -> None:
    """An unknown level is info, and a field named like structlog's own argument is a field."""
    Log(fd=reader.writing)("x", "Something happened.", level="loud", method_name="m", exc_info=1)
    (event,) = reader.events()
    assert (event["event"], event["level"]) == ("x", "info")


def test_a_line_is_one_write(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on one stderr do not mix their lines as long as a line is one write."""
    sizes: list[int] = []
    write = os.write

    def counting(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counting)
    Log(fd=reader.writing)("x", "Something happened.", text="a" * 3000)
    assert len(sizes) == 1
    assert len(reader.text()) == sizes[0]


def test_short_writes_are_continued(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system did not take at once is written again from there."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    Log(fd=reader.writing)("x", "Something happened.")
    assert reader.events()[0]["message"] == "Something happened."


def test_a_full_pipe_is_waited_for(reader: Reader) -> None:
    """A reader that is slow gets every line whole, on a non-blocking stderr too."""
    os.set_blocking(reader.writing, False)
    log = Log(fd=reader.writing)
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(_drain(reader.reading)))
    thread.start()
    for _ in range(50):
        log("x", "Something happened.", text="a" * 10_000)
    os.close(reader.writing)
    thread.join()
    assert len([json.loads(line) for line in texts[0].splitlines()]) == 50


def _drain(fd: int) -> str:
    parts = []
    while part := os.read(fd, 4096):
        parts.append(part)
    return b"".join(parts).decode()


def test_a_reader_that_has_stopped_does_not_hold_the_run_up(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads a full pipe: after a moment the line is dropped."""
    monkeypatch.setattr(writer, "_PATIENCE", 0.01)
    os.set_blocking(reader.writing, False)
    Log(fd=reader.writing)("x", "Something happened.", text="a" * 200_000)


def test_a_stop_does_not_wait_for_a_reader_that_has_stopped(reader: Reader) -> None:
    """What is cut off by it does not spoil the line that is written once somebody reads again."""
    log = Log(fd=reader.writing)
    stopping = threading.Event()
    log.give_up_when(stopping.is_set)
    thread = threading.Thread(target=lambda: log("x", "Too long.", text="a" * 200_000))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    stopping.set()
    thread.join()
    log("x", "Dropped.")
    left = os.read(reader.reading, 1 << 20)
    log("run.finished", "The end.")
    lines = (left.decode() + reader.text()).splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["message"] == "The end."


@pytest.mark.parametrize("event", ["run.finished", "app.failed"])
def test_a_last_word_is_given_a_moment(event: str, reader: Reader) -> None:
    """Where nothing is waited for any more, a reader that is a little slow still gets the end."""
    os.set_blocking(reader.writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(reader.writing, b"." * 4096):
            pass
    log = Log(fd=reader.writing)
    # Asked once the pipe was found full: the reader comes only then.
    log.give_up_when(lambda: bool(os.read(reader.reading, 1 << 20)))
    log(event, "The end.", level="error")
    assert ["The end."] == [line["message"] for line in reader.events()]


def test_a_signal_in_the_middle_of_a_line_ends_the_run(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logging never fails a run, but a stop that comes during it is no failure of the log."""

    def stopped(*_arguments: object) -> int:
        raise InterruptedRunError(15, "The run was ended by SIGTERM.")

    for thorough in (False, True):
        log = Log(fd=reader.writing)
        if thorough:
            log.expect_run()
        monkeypatch.setattr(os, "write", stopped)
        with pytest.raises(InterruptedRunError):
            log("x", "Something happened.")


def test_nobody_on_the_other_end_fails_nothing() -> None:
    """A closed pipe and a closed stderr lose lines and nothing else."""
    pipe = Reader()
    os.close(pipe.reading)
    Log(fd=pipe.writing)("x", "Something happened.")
    os.close(pipe.writing)
    Log(fd=pipe.writing)("x", "Something happened.")
    Log("console", fd=pipe.writing)("x", "Something happened.")


def test_structlog_is_imported_for_a_run_only() -> None:
    """Importing structlog costs more than all the rest of a start with nothing pending."""
    import subprocess
    import sys

    code = (
        "import sys, migrator.log.lines; log = migrator.log.lines.Log();"
        "log('x', 'm.'); print('structlog' in sys.modules);"
        "log.expect_run(); log('x', 'm.'); print('structlog' in sys.modules)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["False", "True"]


def test_our_lines_do_not_follow_the_configuration_of_structlog(reader: Reader) -> None:
    """An application, or a migration, that configures structlog does not change our lines."""
    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    try:
        Log(fd=reader.writing)("x", "Something happened.")
    finally:
        structlog.configure(**before)
    assert reader.events()[0]["event"] == "x"


# Lines for people


def test_a_line_for_people_is_the_time_and_the_sentence(reader: Reader) -> None:
    """What happened and how long it took; fields are for programs, which read JSON."""
    log = Log("console", fd=reader.writing, database="/data/app.db", run_id="r1", colors=False)
    log("run.started", "`migrator up` begins.", command="up")
    log("backup.finished", "The backup is finished.", path="/b.db", bytes=4096, seconds=1.25)
    log("lock.acquired", "The lock is held.", seconds=1.25)
    log("history.misfit", "001_a is missing.", level="warning", kind="missing", version="001")
    log("run.finished", "It is done.", outcome="migrated", exit_code=0, applied=1, seconds=0.01)
    first, *rest = reader.text().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  `migrator up` begins on /data/app.db\.", first
    )
    assert [re.sub(r"^\d\d:\d\d:\d\d", "TIME", line) for line in rest] == [
        "TIME  The backup is finished (1.2 s).",
        "TIME  The lock is held.",
        "TIME  Warning: 001_a is missing.",
        "TIME  It is done.",
    ]


def test_a_failure_is_told_once_and_the_hint_is_last(reader: Reader) -> None:
    """Where it happens with the statement in its lines; at the end only what came of it."""
    log = Log("console", fd=reader.writing, colors=False)
    told = {"error": "It failed.", "statement": "INSERT\n  INTO t;\n"}
    log("migration.failed", "It failed.", level="error", name="a", **told)
    hint = """Go back with `migrator restore latest --database 'it'"'"'s "here".db'`."""
    end = {"outcome": "failed_restored", "exit_code": 80, "reason": "migration.failed"}
    log("run.finished", "It failed.", level="error", hint=hint, **told, **end)
    lines = [re.sub(r"^\d\d:\d\d:\d\d", "TIME", line) for line in reader.text().splitlines()]
    assert lines == [
        "TIME  Error: It failed.",
        "    statement:",
        "      INSERT",
        "        INTO t;",
        "TIME  Error: Ended with exit code 80 (failed_restored, migration.failed).",
        f"  Hint: {hint}",
    ]


def test_a_refusal_is_two_lines(reader: Reader) -> None:
    """What is wrong with the code, and what to do."""
    log = Log("console", fd=reader.writing, colors=False)
    end = {"outcome": "refused", "exit_code": 64, "reason": "usage"}
    log("run.finished", "It is not an option.", level="error", hint="Write it so.", **end)
    first, second = reader.text().splitlines()
    assert first.endswith("  Error: It is not an option. Ended with exit code 64 (refused, usage).")
    assert second == "  Hint: Write it so."


def test_a_traceback_and_a_backup_stand_below(reader: Reader) -> None:
    """What a person needs of a bug, and of a state that is still there."""
    log = Log("console", fd=reader.writing, colors=False)
    log("run.finished", "A bug.", level="error", traceback="A\n  B", backup="/b.db", seconds=1.0)
    assert reader.text().splitlines()[1:] == [
        "    backup:",
        "      /b.db",
        "    traceback:",
        "      A",
        "        B",
    ]


def test_control_characters_are_shown_and_not_obeyed(reader: Reader) -> None:
    """What a migration printed cannot clear or colour the terminal."""
    log = Log("console", fd=reader.writing, colors=False)
    log("migration.output", "It printed: \x1b[2J\r\x9bred\x7f")
    text = reader.text()
    assert "\x1b" not in text
    assert "\\x1b[2J\\r\\x9bred\\x7f" in text


def test_colors_are_used_when_wanted_only(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are a terminal's, and NO_COLOR is respected."""
    monkeypatch.setenv("NO_COLOR", "1")
    Log("console", fd=reader.writing, terminal=True)("x", "Plain.")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    Log("console", fd=reader.writing, terminal=True)("x", "Coloured.")
    Log("console", fd=reader.writing)("x", "Plain again.")
    plain, coloured, again = reader.text().splitlines()
    assert ["\x1b" in line for line in (plain, coloured, again)] == [False, True, False]


def test_progress_is_a_bar_on_a_terminal(reader: Reader) -> None:
    """The bar is drawn in place, and gone before the next line."""
    log = Log("console", fd=reader.writing, terminal=True, colors=False)
    facts: dict[str, Any] = {"total_bytes": 200_000_000, "seconds": 1.0}
    log("backup.progress", "Half.", bytes=100_000_000, **facts)
    log("backup.progress", "All.", bytes=210_000_000, **facts)
    log("backup.finished", "The backup is finished.")
    first, second, last = reader.text().split("\r\x1b[K")[1:]
    assert first == "backup  [##########..........]  50 %  100 MB/s  1 s left"
    assert second == "backup  [####################]  100 %  210 MB/s"
    assert re.fullmatch(r"\d\d:\d\d:\d\d  The backup is finished\.\n", last)


@pytest.mark.parametrize(
    ("event", "fields", "expected"),
    [
        ("backup.progress", {"bytes": 5_000_000}, "backup  5 MB"),
        ("backup.progress", {"bytes": 5_000_000, "seconds": 2.0}, "backup  5 MB  2 MB/s"),
        ("backup.progress", {"bytes": 0, "total_bytes": 0, "seconds": 0.0}, "backup  0 MB"),
        (
            "migration.progress",
            {"version": "003", "name": "x\x1b", "seconds": 20.4},
            "migration  003 x\\x1b  20 s",
        ),
        ("migration.progress", {}, "migration    0 s"),
    ],
)
def test_a_bar_says_what_is_known(
    event: str, fields: dict[str, Any], expected: str, reader: Reader
) -> None:
    """Without a total there is no share, and a migration has only its time."""
    Log("console", fd=reader.writing, terminal=True)(event, "Still busy.", **fields)
    assert reader.text() == f"\r\x1b[K{expected}"


def test_a_bar_below_the_level_is_not_drawn(reader: Reader) -> None:
    """--log-level warning means no progress either."""
    log = Log("console", "warning", fd=reader.writing, terminal=True)
    log("backup.progress", "Half.", bytes=1)
    assert reader.text() == ""


def test_progress_is_lines_where_nobody_watches(reader: Reader) -> None:
    """In JSON, and in a file, progress is events like all others."""
    Log("json", fd=reader.writing, terminal=True)("backup.progress", "Half.", bytes=1)
    assert reader.events()[0]["bytes"] == 1


# The Python API


class Recorder:
    """A logger that remembers."""

    def __init__(self, *, refuses: tuple[str, ...] = (), always: bool = False) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self._refuses = refuses
        self._always = always

    def _take(self, level: str, event: str, **fields: Any) -> None:
        if self._always or any(name in fields for name in self._refuses):
            msg = "Attempt to overwrite a field in LogRecord"
            raise KeyError(msg)
        self.calls.append((level, event, fields))

    def info(self, event: str, **fields: Any) -> None:
        """Take an event of level info."""
        self._take("info", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Take an event of level error."""
        self._take("error", event, **fields)


def test_events_are_forwarded_to_the_applications_log() -> None:
    """The application's logger gets the event with all that our own line would have."""
    logger = Recorder()
    emit = Forward(logger)
    emit("run.started", "The run started.")
    emit.run_id, emit.database = "r1", Path("/app.db")
    emit("migration.failed", "It failed.", level="error", version="003")
    common = {"message": "The run started.", "run_id": None, "database": None}
    assert logger.calls[0] == ("info", "run.started", common)
    common = {"message": "It failed.", "run_id": "r1", "database": "/app.db", "version": "003"}
    assert logger.calls[1] == ("error", "migration.failed", common)


def test_a_log_that_refuses_our_fields_gets_the_sentence() -> None:
    """Structlog over logging refuses `message` and `name`: the event arrives without fields."""
    logger = Recorder(refuses=("message",))
    Forward(logger)("x", "Something happened.")
    assert logger.calls == [("info", "x: Something happened.", {})]


def test_a_log_that_fails_does_not_fail_the_run() -> None:
    """An exception in the application's log is not a failed migration."""
    Forward(Recorder(always=True))("x", "Something happened.")


def test_the_default_is_structlog_as_the_application_configured_it() -> None:
    """Without a logger of its own the application's structlog gets our events."""
    with structlog.testing.capture_logs() as events:
        to_structlog()("x", "Something happened.", level="warning", pending=1)
    assert events == [
        {
            "event": "x",
            "message": "Something happened.",
            "log_level": "warning",
            "run_id": None,
            "database": None,
            "pending": 1,
        }
    ]
