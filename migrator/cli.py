"""The `migrator` command: results on stdout, logs on stderr, one code per outcome."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from migrator.database.workspace import Layout
from migrator.deadline import Deadline
from migrator.errors import DiskError, InterruptedRunError, MigratorError
from migrator.log.hints import spelled_out
from migrator.log.lines import Log
from migrator.log.outcome import Result, as_bug, new_run_id, say_failed, say_finished
from migrator.model import Settings
from migrator.options import commands, table
from migrator.options.model import Parsed
from migrator.process.descriptors import open_missing_standard_streams
from migrator.process.signals import Signals
from migrator.terminal import printable

_RUNS = ("up", "down", "restore", "baseline")


def main(
    argv: Sequence[str] | None = None, on_failure: Callable[[MigratorError], None] | None = None
) -> int:
    """
    Run one command and return its exit code.

    Args:
        argv: The words behind the program's name.
        on_failure: Told what ended the command, beside the log.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    started = time.monotonic()
    open_missing_standard_streams()
    environ = table.read_environment()
    log = _early_log(words, environ)
    try:
        return _attempt(words, environ, log, started, on_failure)
    except InterruptedRunError as error:
        # It came when the command had failed and had not said so yet.
        return _fail(log, error, started, on_failure)


def _attempt(
    words: list[str],
    environ: Mapping[str, str],
    log: Log,
    started: float,
    on_failure: Callable[[MigratorError], None] | None,
) -> int:
    """Do what the command line says, and say how it failed."""
    try:
        signals = Signals.install()
        log.give_up_when(signals.came)
        parsed = commands.parse(words)
        if parsed.help or parsed.version or parsed.command is None:
            return _inform(parsed)
        for each in table.check_variables(environ):
            log("settings.ignored", each.message, level="warning", variable=each.variable)
        if parsed.command.name == "new":
            return _new(table.migrations_source(parsed.values, environ), parsed.arguments)
        settings = table.engine_settings(parsed.values, environ)
        with spelled_out(settings):
            return _dispatch(parsed, settings, log, signals, started)
    except Exception as error:  # noqa: BLE001 - a bug is one line and exit code 70
        failure = error if isinstance(error, MigratorError) else as_bug(error)
        return _fail(log, failure, started, on_failure)


def _fail(
    log: Log,
    failure: MigratorError,
    started: float,
    on_failure: Callable[[MigratorError], None] | None,
) -> int:
    with Signals.last_words():
        if on_failure is not None:
            on_failure(failure)
        say_failed(log, failure, time.monotonic() - started)
    return failure.exit_code


def _dispatch(
    parsed: Parsed, settings: Settings, log: Log, signals: Signals, started: float
) -> int:
    from migrator.engine.parent import Parent

    name = parsed.command.name if parsed.command is not None else ""
    layout = Layout.of(settings)
    log.database = str(layout.database)
    if name not in _RUNS:
        log = _quiet(log, settings)
        log.give_up_when(signals.came)
    deadline = Deadline(settings.wait_timeout)
    parent = Parent(
        settings,
        layout,
        log,
        log.run_id or "",
        signals,
        deadline,
        log_thoroughly=log.expect_run,
    )
    if name not in _RUNS:
        from migrator.results import LOOKS

        text, code = LOOKS[name](parent, dict(parsed.arguments))
        write_out(text)
        # From here on the process ends as has been said.
        signals.hold()
        return code
    log("run.started", f"`migrator {name}` begins.", command=name)
    result = _run(parent, name, parsed)
    signals.note_only()
    signals.check()
    with Signals.last_words():
        say_finished(log, result, time.monotonic() - started)
    with contextlib.suppress(DiskError):
        # The run is over and its end is said: a sentence more or less changes nothing.
        write_out(_sentence(name, result, parsed.arguments))
    return 0


def _run(parent: Any, name: str, parsed: Parsed) -> Result:
    from migrator import run
    from migrator.inspect import location

    given = parsed.arguments
    location.wait_for(
        parent.layout, parent.settings, parent.deadline, parent.emit, restoring=name == "restore"
    )
    if name == "up":
        return run.bring_up_to_date(parent)
    settled = name in ("down", "baseline")
    return run.in_worker(parent, _action(name, given), _plan(name, given), settled=settled)


def _action(name: str, given: Any) -> Any:
    """Return the work of a command, imported only in the worker."""

    def down(ctx: Any) -> Any:
        from migrator.down import down

        return down(ctx, given["to"], given["steps"])

    def restore(ctx: Any) -> Any:
        from migrator.change.restore import restore

        return restore(ctx, given["backup"], given["before"], abandon=given["abandon"])

    def baseline(ctx: Any) -> Any:
        from migrator.baseline import baseline

        return baseline(ctx, given["version"])

    return {"down": down, "restore": restore, "baseline": baseline}[name]


def _plan(name: str, given: Any) -> Any:
    """Return what says of a command, before its work, what the database is to hold after it."""
    from migrator.engine import expectation

    return {
        "down": lambda parent: expectation.undone(parent, given["to"], given["steps"]),
        "restore": lambda parent: (
            expectation.Expectation(parent)
            if given["abandon"]
            else expectation.restored(parent, given["backup"], given["before"])
        ),
        "baseline": lambda parent: expectation.noted(parent, given["version"]),
    }[name]


def _sentence(name: str, result: Result, given: Mapping[str, Any]) -> str:
    """Say what a run did, for stdout."""
    if given.get("abandon"):
        return "No restore is unfinished; the database is as it was."
    if result.outcome == "no_database":
        return "There is no database yet; it is left to the application."
    if not result.changed:
        return "Nothing was to be done."
    what = {"up": "Applied", "down": "Undone", "restore": "Restored", "baseline": "Noted"}[name]
    return printable(f"{what}: {', '.join(result.changed)}.")


def _inform(parsed: Any) -> int:
    from migrator._version import __version__
    from migrator.options import usage

    if parsed.version:
        write_out(f"migrator {__version__}")
    elif parsed.command is not None:
        write_out(usage.command_help(parsed.command))
    else:
        write_out(usage.migrator_help())
    return 0


def _new(source: str, arguments: Any) -> int:
    from pathlib import Path

    from migrator.formats import template

    made = template.create(Path(source), arguments["name"], arguments["sql"])
    write_out(printable(str(made)))
    return 0


def _early_log(words: Sequence[str], environ: dict[str, str]) -> Log:
    """Return the log for what goes wrong before the settings are known."""
    form, level = table.log_settings(words, environ)
    return Log(form, level, run_id=new_run_id())


def _quiet(log: Log, settings: Settings) -> Log:
    """Return the log of a command that only looks: it says nothing below a warning."""
    level = "warning" if settings.log_level in ("debug", "info") else settings.log_level
    return Log(log.format, level, database=log.database, run_id=log.run_id)


def write_out(text: str) -> None:
    """
    Write a result to stdout; where nobody reads it any more, the exit code is what is left.

    Args:
        text: Names in it, and other words that are not this program's, have
            been made `printable`: only its own line breaks are let through.

    Raises:
        DiskError: It cannot be written.
    """
    text = printable(text, keep="\n")
    try:
        try:
            print(text)
        except UnicodeEncodeError:
            print(text.encode("ascii", "backslashreplace").decode())
        sys.stdout.flush()
    except OSError as error:
        _silence_stdout()
        if not isinstance(error, BrokenPipeError):
            message = f"The result cannot be written to stdout: {error.strerror}."
            hint = "Look at where stdout leads, and whether there is space."
            reason = "disk.full" if error.errno == errno.ENOSPC else "disk.failed"
            raise DiskError(message, hint=hint, reason=reason) from error


def _silence_stdout() -> None:
    """Keep the interpreter from complaining of what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
