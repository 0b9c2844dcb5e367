"""
A start, from top to bottom: read `main` and `_start` first.

It finds the application, waits for the volume, brings the database up to date,
and becomes the application. Without one it ends there: an initContainer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from entrypoint import options, privileges
from entrypoint.identities import Identities, User, home_of
from entrypoint.options import ContainerSettings
from entrypoint.privileges import become_run_user
from entrypoint.program.replace import original_environment, replace_process, with_home
from entrypoint.program.resolve import resolve_command
from entrypoint.volume.users import hint_at_users
from migrator.database.workspace import Layout
from migrator.errors import InterruptedRunError, MigratorError
from migrator.log.hints import spelled_out
from migrator.log.lines import Log
from migrator.log.outcome import as_bug, new_run_id, say_failed, say_finished
from migrator.model import Outcome
from migrator.options.table import read_environment
from migrator.process.descriptors import open_missing_standard_streams
from migrator.process.signals import Signals
from migrator.value import Value, replace
from migrator.wait import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from migrator.engine.parent import Parent
    from migrator.options.model import Parsed


class Start(Value):
    """What a start was given, and what its steps share."""

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
    """Prepare the database and become the application; return an exit code without one."""
    began = time.monotonic()
    open_missing_standard_streams()
    environment = original_environment()
    environ = read_environment()
    words = list(sys.argv[1:] if argv is None else argv)
    log = Log(*options.log_settings(words, environ), run_id=new_run_id())
    with _Failures(log, environ, began) as failures:
        signals = Signals.install()
        log.give_up_when(signals.came)
        parsed = options.parse_arguments(words)
        if parsed.help or parsed.version:
            return _inform(parsed)
        if parsed.rest[:1] == ("migrator",):
            from entrypoint import migrator_command

            return migrator_command.run(parsed, environ)
        settings = options.container_settings(parsed, environ)
        identities = Identities.resolve(settings.run_as, root=privileges.is_root())
        deadline = Deadline(settings.engine.wait_timeout)
        start = Start(settings, log, signals, identities, environ, environment, began, deadline)
        with spelled_out(settings.engine):
            return _start(start)
    return failures.exit_code


def _start(start: Start) -> int:
    """Do every step in its order, exec last."""
    layout = Layout.of(start.settings.engine)
    start.log.database = str(layout.database)
    _say_started(start)
    path = _find_command(start)
    if start.settings.migrate == "skip":
        outcome = _skip(start)
    else:
        with hint_at_users(layout.database, start.environ):
            user = _wait_for_volume(start, layout)
            root_again = start.identities.app is None
            with become_run_user(user, root_again=root_again, emit=start.log) as prepare_worker:
                bring_up_to_date = _work(start.settings)
                outcome = bring_up_to_date(_parent(start, layout, prepare_worker))
    # From here on a signal is obeyed between two steps, not within one.
    start.signals.note_only()
    start.signals.check()
    if path is None:
        # The process ends as the last line says, even if a signal arrives meanwhile.
        with Signals.last_words():
            say_finished(start.log, outcome, time.monotonic() - start.began)
        return 0
    say_finished(start.log, outcome, time.monotonic() - start.began)
    return _exec_application(start, path)


class _Failures:
    """
    Within, what fails is logged, and told to Kubernetes.

    Attributes:
        exit_code: The code that this process then ends with.
    """

    def __init__(self, log: Log, environ: Mapping[str, str], began: float) -> None:
        self._log = log
        self._environ = environ
        self._began = began
        self.exit_code = MigratorError.exit_code

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object, /
    ) -> bool:
        """Report an error as the one line that it is; a bug of this program's is 70."""
        if not isinstance(error, Exception):
            return False
        try:
            self._report(error)
        except InterruptedRunError as signalled:
            # A signal arrived after the failure and before `run.finished` was logged.
            self._end(signalled)
        return True

    def _report(self, error: Exception) -> None:
        if not isinstance(error, MigratorError):
            self._end(as_bug(error))
            return
        from entrypoint.place import add_place, add_previous_image

        add_previous_image(error, self._log.database)
        add_place(error, self._environ)
        self._end(error)

    def _end(self, error: MigratorError) -> None:
        """Log how the run ended, and leave the message for Kubernetes."""
        from entrypoint import termination_log

        self.exit_code = error.exit_code
        with Signals.last_words():
            termination_log.leave_message(error)
            say_failed(self._log, error, time.monotonic() - self._began)


def _inform(parsed: Parsed) -> int:
    """Print what `--help` or `--version` asks for."""
    from migrator.cli import write_out

    write_out(options.information(parsed))
    return 0


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
    """Find the application before anything is written: it may not exist."""
    command = start.settings.command
    if not command:
        return None
    return resolve_command(command[0], start.environ, user=start.identities.app)


def _skip(start: Start) -> Outcome:
    """Touch nothing but the privileges."""
    start.log(
        "run.skipped",
        "Migrations are skipped (`--migrate skip`): the database may be older than the"
        " application.",
        level="warning",
    )
    if start.identities.app is not None:
        privileges.drop(start.identities.app)
    return Outcome("skipped")


def _wait_for_volume(start: Start, layout: Layout) -> User | None:
    """Wait until the run's user can work on the volume, and return that user."""
    from entrypoint.volume.wait import wait_for_volume

    return wait_for_volume(
        start.settings, layout, start.identities, start.environ, start.deadline, start.log
    )


def _work(settings: ContainerSettings) -> Callable[[Parent], Outcome]:
    """
    Return what brings the database up to date: a run of what is pending.

    With `wait`, wait until another run has done it; with `backup`, have a backup only;
    with `--rehearse`, first try the run on a copy.
    """
    if settings.migrate == "wait":
        from migrator.engine.others import wait_for_others

        return wait_for_others
    if settings.migrate == "backup":
        from migrator.before_start import back_up_before_start

        return back_up_before_start
    if settings.engine.rehearse:
        from migrator.rehearsal.first import bring_up_to_date
    else:
        from migrator.run import bring_up_to_date

    return bring_up_to_date


def _parent(start: Start, layout: Layout, prepare_worker: Callable[[], None]) -> Parent:
    """Return what the engine knows this process by."""
    from migrator.engine.parent import Parent

    settings = start.settings.engine
    if start.settings.migrate == "backup":
        # The application has migrations of its own: ours are not looked for.
        settings = replace(
            settings, migrations="", format="native", migrate_command=(), pending_command=()
        )
    log, signals, deadline = start.log, start.signals, start.deadline
    return Parent(settings, layout, log, signals, deadline, prepare=prepare_worker)


def _exec_application(start: Start, path: str) -> int:
    """Replace this process by the application; return only if that fails after all."""
    command = start.settings.command
    environment = start.environment
    try:
        if start.identities.app is not None:
            environment = with_home(environment, os.fsencode(home_of(start.identities.app)))
        start.log(
            "app.exec",
            f"The application {path} takes over.",
            command=path,
            args=len(command) - 1,
        )
        start.signals.hold()
        replace_process(path, command, environment)
    except MigratorError as error:
        # Signals are blocked now: a full pipe without a reader must not block the last line.
        start.log.give_up_when(lambda: True)
        start.log("app.failed", error.message, level="error", command=path, error=error.message)
        return error.exit_code
