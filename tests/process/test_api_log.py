"""Where the Python API's events go: to the application's log, and never to its standard output."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.faults.planted import Bug
from tests.support.files import make_database, tables
from tests.support.processes import run_script

RUN = """
    import json, sys
    from migrator import Migration, MigrationRunner, errors

    DATABASE, ENDING, VERBOSE = sys.argv[1], sys.argv[2], sys.argv[3] == "verbose"

    def up(cursor):
        cursor.execute("CREATE TABLE made (id)")
        if ENDING == "failed":
            raise ValueError("mine")

    def run():
        runner = MigrationRunner(DATABASE, accept="missing" if ENDING == "warned" else ())
        runner.add_migration(Migration("make", "1", "", up))
        runner.get_status()
        try:
            runner.run_pending_migrations(verbose=VERBOSE)
            runner.run_pending_migrations(verbose=VERBOSE)
        except errors.MigratorError:
            pass
        else:
            if ENDING == "failed":
                sys.exit("it did not fail")
    """

LOGS = {
    "nothing is configured": "",
    "structlog is imported": "import structlog\nlog = structlog.get_logger()\n",
    "logging alone": "import logging\nlogging.basicConfig(level=logging.DEBUG)\n",
    "logging, and structlog imported": "import logging, structlog\nlogging.basicConfig(level=0)\n",
}
"""What an application may have done that is no configuration of structlog."""


def run(
    directory: Path,
    before: str,
    ending: str,
    verbose: bool = False,
    packages: Path | None = None,
) -> CompletedProcess[str]:
    """Run the API in a process of its own, after what an application does before."""
    database = make_database(directory / "app.db", "CREATE TABLE kept (id INTEGER);")
    if ending == "warned":
        script = (
            "CREATE TABLE migrations (id INTEGER PRIMARY KEY, migration_name TEXT UNIQUE NOT NULL,"
            " applied_at TIMESTAMP, version TEXT, description TEXT);"
            "INSERT INTO migrations (migration_name) VALUES ('gone'), ('make');"
        )
        make_database(database, script)
    text = before + "\n".join(line[4:] for line in RUN.splitlines()) + "\nrun()\n"
    how = "verbose" if verbose else "quiet"
    env: dict[str, str | None] = {"PYTHONPATH": str(packages)} if packages else {}
    done = run_script(text, database, ending, how, env=env, cwd=directory)
    assert done.returncode == 0, done.stderr
    assert ("made" in tables(database)) == (ending == "done")
    return done


@pytest.mark.parametrize("before", LOGS.values(), ids=LOGS)
@pytest.mark.parametrize("ending", ["done", "failed", "warned"])
def test_standard_output_is_the_applications(tmp_path: Path, before: str, ending: str) -> None:
    """Where structlog is not configured, `verbose=False` prints nothing, however the run ends."""
    assert run(tmp_path, before, ending).stdout == ""


@pytest.mark.parametrize("before", LOGS.values(), ids=LOGS)
def test_without_a_configured_log_stderr_has_warnings_and_errors_alone(
    tmp_path: Path, before: str
) -> None:
    """A run that went well says nothing; one that was warned of or failed says that and no more."""
    for ending in ("done", "warned", "failed"):
        (tmp_path / ending).mkdir()
    assert run(tmp_path / "done", before, "done").stderr == ""
    warned = run(tmp_path / "warned", before, "warned").stderr
    failed = run(tmp_path / "failed", before, "failed").stderr
    assert {line.split("  ")[1].split(": ")[0] for line in warned.splitlines()} == {"Warning"}
    assert "not among the migrations here" in warned
    first, end, hint = failed.splitlines()
    assert "  Error: Migration make failed: ValueError: mine." in first
    assert "  Error: Ended with exit code 80 (failed_restored, migration.failed)." in end
    assert hint.startswith("  Hint: Mend make")


def test_verbose_prints_what_was_applied_and_no_events(tmp_path: Path) -> None:
    """What the frameworks printed is printed, and nothing else."""
    done = run(tmp_path, "", "done", verbose=True)
    assert done.stdout == "Applied migration make\nNo pending migrations\n"
    assert done.stderr == ""


CONFIGURED = {
    "structlog": """
import structlog
structlog.configure(processors=[structlog.processors.add_log_level,
                                structlog.processors.JSONRenderer()])
""",
    "over logging": """
import logging, sys, structlog
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
structlog.configure(
    processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
""",
}


@pytest.mark.parametrize("before", CONFIGURED.values(), ids=CONFIGURED)
def test_a_configured_log_gets_every_event(tmp_path: Path, before: str) -> None:
    """Wherever the application has it go, standard output included: it said so itself."""
    done = run(tmp_path, before, "done")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events][:1] == ["run.started"]
    assert [event["event"] for event in events].count("run.finished") == 2
    assert {"level", "message", "run_id", "database"} <= set(events[0])
    assert done.stderr == ""


def test_a_log_over_logging_that_is_not_set_up_says_errors_alone(tmp_path: Path) -> None:
    """`logging` without a handler writes warnings and errors to stderr, as it always does."""
    before = CONFIGURED["over logging"].replace("logging.basicConfig", "dict")
    assert run(tmp_path, before, "failed").stdout == ""


def test_a_standard_error_that_is_closed_fails_no_run(tmp_path: Path) -> None:
    """An application without streams (a service) is migrated all the same."""
    assert run(tmp_path, "import sys\nsys.stderr = None\n", "failed").stdout == ""


def test_what_is_printed_without_configuration_is_found(tmp_path: Path) -> None:
    """The planted bug, structlog's own default, prints on the application's standard output."""
    bug = Bug(
        "the API prints its events",
        "migrator/log/lines.py",
        '    structlog: Any = sys.modules.get("structlog")\n'
        "    configured = structlog is not None and structlog.is_configured()\n",
        "    import structlog\n\n    configured = True\n",
        "",
        (),
        (),
    )
    assert run(tmp_path, "", "done", packages=bug.plant(tmp_path / "planted")).stdout != ""
