"""
The entrypoint: from the container's start to the application, in the order of `_start`.

It waits, looks, lets a worker bring the database up to date where that is
needed, and becomes the application; without one it ends (an initContainer).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from entrypoint import options, privileges, termination_log
from entrypoint.identities import Identities, User, home_of
from entrypoint.options import ContainerSettings
from entrypoint.program.replace import original_environment, replace_process, with_home
from entrypoint.program.resolve import resolve_command
from entrypoint.volume.users import pointed_out
from migrator.database.workspace import Layout
from migrator.deadline import Deadline
from migrator.errors import InterruptedRunError, MigratorError
from migrator.log.hints import spelled_out
from migrator.log.lines import Log
from migrator.log.outcome import Result, as_bug, new_run_id, say_failed, say_finished
from migrator.options.model import Parsed
from migrator.options.table import read_environment
from migrator.process.descriptors import open_missing_standard_streams
from migrator.process.signals import Signals

MIGRATOR = "migrator"


@dataclass(slots=True)
class Start:
    """One start: what was given to it, and what its steps share."""

    settings: ContainerSettings
    log: Log
    signals: Signals
    identities: Identities
    environ: Mapping[str, str]
    environment: list[bytes]
    """The environment as this process received it, for the application."""
    began: float
    deadline: Deadline


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the database and become the application; returns an exit code where there is none."""
    began = time.monotonic()
    open_missing_standard_streams()
    environment = original_environment()
    environ = read_environment()
    words = list(sys.argv[1:] if argv is None else argv)
    log = _open_log(words, environ)
    try:
        return _attempt(words, environ, environment, log, began)
    except InterruptedRunError as error:
        # It came when the run had failed and had not said so yet.
        return _fail(log, error, began)


def _attempt(
    words: Sequence[str],
    environ: Mapping[str, str],
    environment: list[bytes],
    log: Log,
    began: float,
) -> int:
    """Do what the command line says, and say how it failed."""
    try:
        signals = Signals.install()
        log.give_up_when(signals.came)
        parsed = options.parse_arguments(words)
        if parsed.help or parsed.version:
            return _inform(parsed)
        if parsed.rest[:1] == (MIGRATOR,):
            from entrypoint import migrator_command

            return migrator_command.run(parsed, environ)
        settings = options.container_settings(parsed, environ)
        identities = Identities.resolve(settings.run_as, root=privileges.is_root())
        deadline = Deadline(settings.engine.wait_timeout)
        start = Start(settings, log, signals, identities, environ, environment, began, deadline)
        with spelled_out(settings.engine):
            return _start(start)
    except MigratorError as error:
        return _fail(log, error, began)
    except Exception as error:  # noqa: BLE001 - a bug is one line and exit code 70
        return _fail(log, as_bug(error), began)


def _start(start: Start) -> int:
    """Tell the whole story: every step in its order, the exec last."""
    layout = Layout.of(start.settings.engine)
    start.log.database = str(layout.database)
    _say_started(start)
    path = _find_command(start)
    if start.settings.migrate == "skip":
        result = _skip(start)
    else:
        others = pointed_out(layout.database, start.environ)
        with others, _ready(start, layout) as prepare_worker:
            result = _bring_up_to_date(start, layout, prepare_worker)
    start.signals.note_only()
    start.signals.check()
    if path is None:
        with Signals.last_words():
            say_finished(start.log, result, time.monotonic() - start.began)
        return 0
    say_finished(start.log, result, time.monotonic() - start.began)
    return _become(start, path)


# --- the steps -------------------------------------------------------------


def _say_started(start: Start) -> None:
    from migrator._version import __version__

    for each in start.settings.ignored:
        start.log("settings.ignored", each.message, level="warning", variable=each.variable)
    start.log(
        "run.started",
        f"The entrypoint {__version__} begins.",
        version=__version__,
        migrate=start.settings.migrate,
    )
    if start.identities.denied is not None:
        privileges.warn_unless_same(start.identities.denied, start.log)


def _find_command(start: Start) -> str | None:
    """Find the application before anything is written: it may not even exist."""
    command = start.settings.command
    if not command:
        return None
    return resolve_command(command[0], start.environ, user=start.identities.app)


def _skip(start: Start) -> Result:
    """Touch nothing but the privileges."""
    start.log(
        "run.skipped",
        "Migrations are skipped, as `--migrate skip` says; the database may be older than the"
        " application.",
        level="warning",
    )
    if start.identities.app is not None:
        privileges.drop(start.identities.app)
    return Result("skipped")


@contextlib.contextmanager
def _ready(start: Start, layout: Layout) -> Iterator[Callable[[], None]]:
    """
    Wait for the volume, and be within who the run's user is.

    Yields:
        What a worker calls first, to be that user for good.
    """
    if start.identities.run is not None:
        _require_python(start.identities.run)
    _wait_for_volume(start, layout)
    user = start.identities.run_on(layout.database)
    if user is None:
        yield _nothing
    elif start.identities.app is None:
        with privileges.acting_as(user):
            yield lambda: privileges.drop_for_good(user)
    else:
        privileges.drop(user)
        start.log(
            "privileges.dropped",
            f"The run and the application are those of {user}.",
            level="debug",
            uid=user.uid,
            gid=user.gid,
        )
        yield _nothing


def _require_python(user: User) -> None:
    """Find out whether a user can run this program, before anything is given to that user."""
    # Imported only here: most containers are not started as root.
    from entrypoint import reachable_python

    reachable_python.require_python(user)


def _wait_for_volume(start: Start, layout: Layout) -> None:
    """Wait until the place of the database is one that the run's user can work in."""
    from entrypoint.volume import checks, mounts
    from migrator.wait import wait_until_ready

    engine = start.settings.engine
    container = mounts.in_container(start.environ, mounts.read())
    backup_dir = engine.backup_dir or layout.database.parent / "backups"

    def admit() -> contextlib.AbstractContextManager[None]:
        user = start.identities.run_on(layout.database)
        if user is None:
            return contextlib.nullcontext()
        _require_python(user)
        return privileges.admitting(layout.database, backup_dir, user, given=engine.database)

    def look() -> object:
        return checks.inspect(
            layout.database,
            layout.backup_dir,
            create=engine.create,
            mount_policy=start.settings.mount,
            container=container,
            emit=start.log,
            unfinished=os.path.lexists(layout.state),
            admit=admit,
        )

    wait_until_ready(look, start.deadline, start.log, level="info")


def _bring_up_to_date(start: Start, layout: Layout, prepare: Callable[[], None]) -> Result:
    """Look, and have a worker do what is pending; or wait until somebody else has done it."""
    from migrator.engine.parent import Parent

    parent = Parent(
        start.settings.engine,
        layout,
        start.log,
        start.log.run_id or "",
        start.signals,
        start.deadline,
        prepare=prepare,
        log_thoroughly=start.log.expect_run,
    )
    if start.settings.migrate == "wait":
        from migrator.start import wait_for_others

        return wait_for_others(parent)
    from migrator.start import bring_up_to_date

    return bring_up_to_date(parent)


def _become(start: Start, path: str) -> int:
    """Replace this process by the application; comes back only where that fails after all."""
    command = start.settings.command
    environment = start.environment
    try:
        if start.identities.app is not None:
            home = os.fsencode(home_of(start.identities.app))
            environment = with_home(environment, home)
        start.log(
            "app.exec",
            f"The application {path} takes over.",
            command=path,
            args=len(command) - 1,
        )
        start.signals.hold()
        replace_process(path, command, environment)
    except MigratorError as error:
        # No signal is handled any more: a reader that has stopped would hold the end up for ever.
        start.log.give_up_when(lambda: True)
        start.log("app.failed", error.message, level="error", command=path, error=error.message)
        return error.exit_code


def _nothing() -> None:
    """Prepare nothing: the worker is already who it is to be."""


# --- what is no start --------------------------------------------------------


def _inform(parsed: Parsed) -> int:
    from migrator._version import __version__
    from migrator.cli import write_out

    write_out(options.help_text() if parsed.help else f"entrypoint {__version__}")
    return 0


def _open_log(words: Sequence[str], environ: Mapping[str, str]) -> Log:
    form, level = options.log_settings(words, environ)
    return Log(form, level, run_id=new_run_id())


def _fail(log: Log, error: MigratorError, began: float) -> int:
    """Say how the run ended, in the log and where Kubernetes looks, and return the exit code."""
    with Signals.last_words():
        termination_log.leave_message(error)
        say_failed(log, error, time.monotonic() - began)
    return error.exit_code
