"""The corpus finds planted bugs: what finds none of them proves nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.parsing import sql
from tests.corpus import databases, entries, histories, notes, scripts, splitter
from tests.corpus.case import Case, play
from tests.corpus.runs import processes
from tests.faults import launching
from tests.faults.planted import Bug
from tests.support.proof import Stopwatch

pytestmark = pytest.mark.timeout(0)

_HUNG = 15.0
"""Seconds after which a planted bug counts as one that hangs."""


@dataclass(frozen=True, slots=True)
class InputBug:
    """
    A bug, and what shows it.

    Args:
        bug: The bug.
        group: The cases that are for it.
        cases: A regular expression on their names.
        command: The command that shows it.
        found: A regular expression on what is said of it.
    """

    bug: Bug
    group: Callable[[str], Iterator[Case]]
    cases: str
    command: str
    found: str


def _bug(name: str, file: str, old: str, new: str) -> Bug:
    return Bug(name, file, old, new, "", (), ())


BUGS = (
    InputBug(
        _bug(
            "damage is an unexpected error",
            "migrator/log/translate.py",
            "    return primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or told\n",
            "    return primary_code(error) == sqlite3.SQLITE_CORRUPT\n",
        ),
        databases.stranger_cases,
        "text",
        "check",
        "the exit code is none of",
    ),
    InputBug(
        _bug(
            "the structure is not checked",
            "migrator/backups/create.py",
            "            return check_structure(",
            "            return (lambda *_: [])(",
        ),
        databases.header_cases,
        "plain: header: free pages",
        "up",
        "exit code",
    ),
    InputBug(
        _bug(
            "a message that is no text is a traceback",
            "migrator/inspect/database.py",
            "    except (sqlite3.Error, UnicodeDecodeError) as error:\n        # A run",
            "    except sqlite3.Error as error:\n        # A run",
        ),
        databases.schema_cases,
        "no UTF-8",
        "status",
        "traceback|exit code",
    ),
    InputBug(
        _bug(
            "looking recovers the database",
            "migrator/inspect/database.py",
            "    if not _size(database) and (left := _sidecar(database)) is not None:\n",
            "    if False and (left := _sidecar(database)) is not None:\n",
        ),
        databases.journal_cases,
        "-wal beside zero bytes",
        "status",
        "looking changed",
    ),
    InputBug(
        _bug(
            "a deep note is a traceback",
            "migrator/database/run_state.py",
            "    except (ValueError, RecursionError):\n",
            "    except ValueError:\n",
        ),
        notes.state_cases,
        "deep lists",
        "check",
        "exit code",
    ),
    InputBug(
        _bug(
            "a journal mode is believed",
            "migrator/backups/catalog.py",
            "    if value not in JOURNAL_MODES:\n",
            "    if False:\n",
        ),
        notes.backup_cases,
        "journal_mode is an absolute path",
        "restore",
        "exit code",
    ),
    InputBug(
        _bug(
            "a history of another shape is taken for ours",
            "migrator/formats/history.py",
            "        if kind is not None:\n            raise self._not_ours(kind)\n",
            "        if kind is not None:\n            return True\n",
        ),
        histories.history_cases,
        "no columns of ours",
        "up",
        "exit code",
    ),
    InputBug(
        _bug(
            "what does not parse is a traceback",
            "migrator/parsing/python_header.py",
            "    except SyntaxError as error:\n",
            "    except SystemError as error:\n",
        ),
        scripts.script_cases,
        "Python: a syntax error",
        "plan",
        "traceback|exit code",
    ),
    InputBug(
        _bug(
            "a named pipe is waited for",
            "migrator/inspect/database.py",
            "    with translated_errors_at_once(layout.database.parent):\n"
            "        refuse_odd_sidecars(layout.database)\n",
            "",
        ),
        entries.entry_cases,
        "a named pipe in place of the -journal",
        "check",
        "does not end|exit code",
    ),
    InputBug(
        _bug(
            "any entry is read for the id",
            "migrator/access.py",
            "        descriptor = open_regular(path)\n",
            "        descriptor = os.open(path, os.O_RDONLY)\n",
        ),
        entries.entry_cases,
        "^a named pipe in place of the id$",
        "backups",
        "does not end|exit code",
    ),
    InputBug(
        _bug(
            "whatever the id says is an id",
            "migrator/backups/database_id.py",
            "    if not _ID.fullmatch(text):\n",
            "    if False:\n",
        ),
        notes.backup_cases,
        "identity: NULs",
        "up",
        "exit code|traceback",
    ),
    InputBug(
        _bug(
            "looking makes a directory",
            "migrator/inspect/database.py",
            '    mode = "ro" if _has_live_wal(database) else None\n',
            '    Path(f"{database}.looked").mkdir(exist_ok=True)\n'
            '    mode = "ro" if _has_live_wal(database) else None\n',
        ),
        databases.header_cases,
        "plain: header: free pages",
        "status",
        "looking made data/app.db.looked",
    ),
    InputBug(
        _bug(
            "looking leaves a -shm without a -wal",
            "migrator/inspect/database.py",
            '    mode = "ro" if _has_live_wal(database) else None\n',
            '    Path(f"{database}-shm").touch()\n'
            '    mode = "ro" if _has_live_wal(database) else None\n',
        ),
        databases.header_cases,
        "plain: header: free pages",
        "status",
        "looking made data/app.db-shm",
    ),
)
"""Bugs planted into a copy of the packages."""


@pytest.mark.parametrize("bug", BUGS, ids=[bug.bug.name for bug in BUGS])
def test_a_planted_bug_is_found(
    bug: InputBug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus finds this bug, and says nothing against the program without it."""
    planted = bug.bug.plant(tmp_path / "planted")
    named = (case for case in bug.group("1") if re.search(bug.cases, case.name))
    chosen = list(itertools.islice(named, 3))
    assert chosen
    sound = [play(case, bug.command, tmp_path / "w", processes()) for case in chosen]
    assert not [str(verdict) for verdict in sound if verdict.problems]
    monkeypatch.setattr(launching, "HUNG", _HUNG)
    said = []
    for case in chosen:
        verdict = play(case, bug.command, tmp_path / "w", processes(planted))
        if verdict.problems and re.search(bug.found, str(verdict)):
            return
        said.append(str(verdict))
    pytest.fail(f"Nothing shows that {bug.bug.name}: {said}")


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_BLOCK_COMMENT", r"/\*.*(?:\*/|\Z)"),
        ("_LINE_COMMENT", r"(?:--|#)[^\n]*+"),
    ],
    ids=["comments reach to the last end", "MySQL's comments"],
)
def test_a_planted_bug_of_the_splitter_is_found(
    name: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lexer that differs from SQLite's in one token is found out."""
    parts = {each: getattr(sql, each) for each in ("_SPACE", "_LINE_COMMENT", "_BLOCK_COMMENT")}
    space, line, block = (parts | {name: broken}).values()
    quoted = sql._QUOTED
    monkeypatch.setattr(sql, "_SKIP", re.compile(f"(?:{space}|{line}|{block})*+", sql._FLAGS))
    monkeypatch.setattr(sql, "_MARK", re.compile(f"{quoted}|{line}|{block}|;", sql._FLAGS))
    assert splitter.sweep("1", Stopwatch(), most=3000)[1]
