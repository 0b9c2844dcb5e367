"""The `migrator` command: results on stdout, logs on stderr, one code per outcome."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from migrator.commands.kinds import PROGRAM, Look, Make, Run, as_given
from migrator.commands.table import BY_NAME, help_text, parse
from migrator.database.workspace import Layout
from migrator.errors import DiskError, InterruptedRunError, MigratorError, UsageError
from migrator.log.hints import spelled_out
from migrator.log.lines import Log
from migrator.log.outcome import as_bug, new_run_id, say_failed, say_finished
from migrator.model import Settings
from migrator.options import table
from migrator.options.model import Arguments, Parsed
from migrator.process.descriptors import open_missing_standard_streams
from migrator.process.signals import Signals
from migrator.terminal import printable
from migrator.wait import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.parent import Parent


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
    form, level = table.log_settings(words, environ)
    log = Log(form, level, run_id=new_run_id())
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
        parsed = parse(words)
        if parsed.help or parsed.version:
            return _inform(parsed)
        if parsed.command is None:
            with contextlib.suppress(OSError):
                print(help_text(), file=sys.stderr, flush=True)
            return UsageError.exit_code
        for each in table.check_variables(environ):
            log("settings.ignored", each.message, level="warning", variable=each.variable)
        given = parsed.arguments
        command = as_given(BY_NAME[parsed.command.name], given)
        if isinstance(command, Make):
            write_out(command.make(table.migrations_source(parsed.values, environ), given))
            return 0
        settings = table.engine_settings(parsed.values, environ)
        with spelled_out(settings):
            parent = _parent(settings, log, signals, command)
            if isinstance(command, Look):
                return _look(parent, command, given)
            return _run(parent, command, given, started)
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


def _parent(settings: Settings, log: Log, signals: Signals, command: Look | Run) -> Parent:
    """Return the parent process of a command; what only looks says nothing below a warning."""
    from migrator.engine.parent import Parent

    layout = Layout.of(settings)
    log.database = str(layout.database)
    if isinstance(command, Look):
        level = "warning" if settings.log_level in ("debug", "info") else settings.log_level
        log = Log(log.format, level, database=log.database, run_id=log.run_id)
        log.give_up_when(signals.came)
    deadline = Deadline(settings.wait_timeout)
    return Parent(settings, layout, log, signals, deadline, command=command.name)


def _look(parent: Parent, command: Look, given: Arguments) -> int:
    text, code = command.answer(parent, given)
    write_out(text)
    # From here on the process ends as has been said.
    parent.signals.hold()
    return code


def _run(parent: Parent, command: Run, given: Arguments, started: float) -> int:
    from migrator.inspect import location

    parent.emit("run.started", f"`migrator {command.name}` begins.", command=command.name)
    location.wait_for(
        parent.layout, parent.settings, parent.deadline, parent.emit, restoring=command.mends
    )
    outcome, sentence = command.work(parent, given)
    parent.signals.note_only()
    parent.signals.check()
    if isinstance(outcome, MigratorError):
        with contextlib.suppress(DiskError):
            write_out(sentence)
        raise outcome
    with Signals.last_words():
        say_finished(parent.emit, outcome, time.monotonic() - started)
    with contextlib.suppress(DiskError):
        # The run is over and its end is said: a sentence more or less changes nothing.
        write_out(sentence)
    return 0


def _inform(parsed: Parsed) -> int:
    from migrator._version import __version__

    write_out(f"{PROGRAM} {__version__}" if parsed.version else help_text(parsed.command))
    return 0


def write_out(text: str) -> None:
    """
    Write a result to stdout; if its reader is gone, only the exit code remains.

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
