"""Bugs that kills at random times and concurrent starters show."""

from __future__ import annotations

from tests.faults.planted import Bug


def _bug(name: str, file: str, old: str, new: str, seed: str) -> Bug:
    """Describe a bug; its scene is the seed of the first case that is played."""
    return Bug(name, file, old, new, seed, (), ())


BUGS = (
    _bug(
        "the lock is not taken",
        "migrator/database/lock.py",
        "                _lock(descriptor, self.layout)\n",
        "",
        "lock-2",
    ),
    _bug(
        "a migration's COMMIT commits",
        "migrator/session/authorizer.py",
        'return sqlite3.SQLITE_IGNORE if first != "ROLLBACK" else _ROLLBACK',
        'return sqlite3.SQLITE_OK if first == "COMMIT"'
        ' else sqlite3.SQLITE_IGNORE if first != "ROLLBACK" else _ROLLBACK',
        "commit-0",
    ),
    _bug(
        "work files stay after a crash",
        "migrator/recovery/temporary_files.py",
        "    clean_home(layout)\n",
        "    del layout\n",
        "litter-1",
    ),
    _bug(
        "a start that is killed asks for a person",
        "migrator/errors.py",
        "    exit_code = 73\n",
        "    exit_code = 82\n",
        "person-5",
    ),
    _bug(
        "a -shm stays after the run",
        "migrator/recovery/temporary_files.py",
        "    clean_home(layout)\n",
        "    clean_home(layout)\n    with open(f'{layout.database}-shm', 'ab'):\n        pass\n",
        "shm-0",
    ),
)
