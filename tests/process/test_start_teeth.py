"""Bugs planted where a start, or a run of the API, begins and ends: a test finds each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.teeth import Planted, assert_found, planted

pytestmark = pytest.mark.timeout(0)

AS_ROOT = (
    planted(
        "help asks who is to run it",
        "entrypoint/migrator_command.py",
        "    return read.help or read.version or read.command is None\n",
        "    return False\n",
        "process/test_migrator_command.py",
        "tells_of_itself and nonsense",
    ),
    planted(
        "a command that was given no database is root's and needs one",
        "entrypoint/migrator_command.py",
        "owner_of(database) if database is not None else None",
        "owner_of(database)",
        "process/test_migrator_command.py",
        "new_makes_a_file and no",
    ),
    planted(
        "the image's own database says whose the run is",
        "entrypoint/migrator_command.py",
        "option_value(_DATABASE, parse(words).values, environ)",
        "option_value(_DATABASE, parse([*words, *words[:2]]).values, environ)",
        "process/test_migrator_command.py",
        "users_own_database_decides",
    ),
    planted(
        "owners change before Python's reach is known",
        "entrypoint/volume/wait.py",
        "        _require_python(identities.run)\n",
        "        from entrypoint import ownership\n"
        "        ownership.hand_over(layout.database, layout.backup_dir, identities.run)\n",
        "process/test_unreachable_python.py",
        "cannot_reach and PUID and home",
    ),
    planted(
        "the owner's reach is not asked for",
        "entrypoint/volume/wait.py",
        "    _require_python(user)\n",
        "",
        "process/test_unreachable_python.py",
        "owner_that_a_run",
    ),
)


@pytest.mark.root
@pytest.mark.parametrize("bug", AS_ROOT, ids=[each.bug.name for each in AS_ROOT])
def test_a_planted_bug_of_roots_is_found(
    bug: Planted, other_user: tuple[int, int], open_path: Path
) -> None:
    """A test of what root does fails with it; others can reach the packages that it lies in."""
    assert_found(bug, open_path)


BUGS = (
    planted(
        "a run within a run is told as the exit that it led to",
        "migrator/parsing/python_file.py",
        "    error = within_a_run(error) or error\n",
        "",
        "process/test_within_a_run.py",
        "refused_at_once and exits",
    ),
    planted(
        "the API opens a file of two names",
        "migrator/api.py",
        "                self._wait_for_place(emit)\n",
        "",
        "process/test_within_a_run.py",
        "two_names_of_one_file",
    ),
    planted(
        "doubled entries of the environment are merged",
        "entrypoint/program/replace.py",
        "    if len(pairs) == len(env):\n",
        "    if pairs:\n",
        "unit/test_program.py",
        "every_entry_as_it_was_received",
    ),
    planted(
        "without /proc, Python's LC_CTYPE is passed on",
        "entrypoint/program/replace.py",
        '        if not places or not entry.startswith(b"LC_CTYPE="):\n',
        "        if places:\n",
        "unit/test_program.py",
        "pythons_own_lc_ctype",
    ),
    planted(
        "a connection is interrupted for ever",
        "migrator/session/recording.py",
        "            if self._lent:\n",
        "            if True:\n",
        "process/test_interrupts.py",
        "goes_on_interrupting and command",
    ),
    planted(
        "only exceptions fail a check",
        "migrator/change/migrations.py",
        "    except (Exception, SystemExit) as error:\n",
        "    except Exception as error:\n",
        "process/test_checks.py",
        "calls_exit and copy and before",
    ),
    planted(
        "any module is taken for Python's own",
        "migrator/process/own_sqlite.py",
        '        if getattr(found, "Connection", None) is not _own_connection():\n',
        '        if not hasattr(found, "Connection"):\n',
        "process/test_replaced_sqlite.py",
        "refused and before",
    ),
    planted(
        "structlog is imported before the worker is forked",
        "migrator/run.py",
        "    database, deadline = parent.layout.database, parent.deadline\n",
        "    database, deadline = parent.layout.database, parent.deadline\n"
        "    parent.log.expect_run()\n",
        "process/test_quiet_start.py",
        "no_log_of_its_own",
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    """A test of the rule fails with it."""
    assert_found(bug, tmp_path)
