"""One damaged volume, what may come of it, and whether that came."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.corpus.place import BACKUPS, DATABASE, Files, lay
from tests.corpus.runs import Runner
from tests.faults.launching import Done, HungError
from tests.support.files import opened
from tests.support.logs import Event, parse_line
from tests.support.processes import LOOKING

RUNS = ("entrypoint", "up", "down", "restore")
LOOKS = ("status", "plan", "check", "verify", "backups")
SECRET = "s3cr3t-0f-s0mebody-else"  # noqa: S105 - a marker
"""What stands in the files outside of the volume."""

COMMANDS = (*RUNS, *LOOKS)
"""What is run on each damaged volume, every time on a fresh one."""

REFUSING = frozenset({0, 64, 65, 69, 77, 78})
"""What damage may end in before anything ran."""

Listing = dict[str, tuple[int, int]]
"""Mode and size of every entry, by its path."""

_LARGE = 64 << 20
_SMALLEST_PAGE = 512
_WAITS = ("--wait-timeout", "0", "--lock-timeout", "0")


@dataclass(frozen=True, slots=True)
class Case:
    """
    One damaged volume.

    Args:
        name: What was damaged, and how.
        files: All of its files.
        codes: What a command may end with; `check` may end with 1 as well.
        after: What cannot be said in bytes, done to the directory in the end.
        recovers: Whether a journal lies beside the database, so that opening it may write.
    """

    name: str
    files: Files
    codes: frozenset[int] = REFUSING
    after: Callable[[Path], object] | None = None
    recovers: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one command made of one case; `problems` is empty where the promises held."""

    case: str
    command: str
    code: int | None
    outcome: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as one sentence."""
        end = f"ended with {self.code} ({self.outcome})"
        return f"{self.case}: `{self.command}` {end}: {'; '.join(self.problems)}."


def words_of(command: str, base: Path) -> list[str]:
    """Return the command line of a command."""
    where = ["--database", str(base / DATABASE), "--migrations", str(base / "migrations")]
    where += ["--log-format", "json", *_WAITS]
    if command == "entrypoint":
        return ["entrypoint", *where, "--mount", "ignore"]
    more = {"status": ["--json"], "backups": ["--json"], "restore": ["latest"]}
    return ["migrator", command, *where, *more.get(command, [])]


def play(case: Case, command: str, base: Path, run: Runner) -> Verdict:
    """Run a command on a fresh copy of a case, and hold what it did against the promises."""
    lay(case.files, base, case.after)
    before, outside, listed = _contents(base), _outside(base), _listing(base)
    try:
        done = run(words_of(command, base))
    except HungError:
        return Verdict(case.name, command, None, "hung", ("it does not end",))
    problems = list(_log_problems(command, done))
    events = [] if problems else [parse_line(line) for line in done.stderr.splitlines()]
    end = next((event for event in events if event["event"] == "run.finished"), None)
    outcome = str(end["outcome"]) if end is not None else ""
    problems += _code_problems(case, command, done, end)
    problems += _write_problems(case, command, done, outcome, before, _contents(base))
    if command in LOOKING:
        problems += _listing_problems(listed, _listing(base))
    problems += _undone_problems(case, events, outcome, before, _contents(base))
    problems += _structure_problems(command, done, base)
    problems += _outside_problems(base, done, outside)
    return Verdict(case.name, command, done.code, outcome, tuple(problems))


def _log_problems(command: str, done: Done) -> Iterator[str]:
    """Yield what is wrong with what came out of stderr: every line JSON, one `run.finished`."""
    if "Traceback (most" in done.stderr:
        yield f"a traceback: {done.stderr[-600:]!r}"
        return
    names = []
    for line in done.stderr.splitlines():
        try:
            names.append(parse_line(line)["event"])
        except AssertionError as error:
            yield str(error)[:300]
            return
    ends = names.count("run.finished")
    looks = command in LOOKING
    if ends > 1 or (ends == 0 and not (looks and done.code in (0, 1))):
        yield f"{ends} lines `run.finished`"
    elif ends and names[-1] != "run.finished":
        yield f"{names[-1]} after `run.finished`"
    if looks and done.code == 0 and command in ("status", "backups"):
        try:
            json.loads(done.stdout)
        except ValueError:
            yield f"stdout is no JSON: {done.stdout[:200]!r}"


def _code_problems(case: Case, command: str, done: Done, end: Event | None) -> Iterator[str]:
    allowed = case.codes | ({1, 75} if command == "check" else set())
    if command == "status":
        allowed = frozenset({0})
    if done.code not in allowed:
        said = end["message"] if end is not None else done.stderr[-300:]
        yield f"the exit code is none of {sorted(allowed)} ({said})"
    if end is not None and end["exit_code"] != done.code:
        yield f"the log says {end['exit_code']}"


def _write_problems(
    case: Case, command: str, done: Done, outcome: str, before: Files, after: Files
) -> Iterator[str]:
    """Yield what was written although nothing might be."""
    refused = outcome in ("refused", "") and done.code != 0
    may_write = case.recovers or not (refused or command in LOOKING)
    if not may_write and before.get(DATABASE) != after.get(DATABASE):
        yield "the database's bytes were changed"
    if command in LOOKING:
        kept = {name: data for name, data in after.items() if not name.endswith("-shm")}
        if kept != {name: data for name, data in before.items() if not name.endswith("-shm")}:
            changed = {n for n in {*kept, *before} if kept.get(n) != before.get(n)}
            yield f"looking changed {sorted(changed)}"


def _listing_problems(before: Listing, after: Listing) -> Iterator[str]:
    """Yield what a look has made, removed or changed in kind; only a full `-wal` gains a `-shm`."""
    for name in sorted(before.keys() | after.keys()):
        if name in before and name in after:
            if before[name][0] != after[name][0]:
                yield f"looking changed the mode of {name}"
            continue
        _, size = after.get(name.removesuffix("-shm") + "-wal", (0, 0))
        if not (name.endswith("-shm") and name in after and size):
            yield f"looking {'made' if name in after else 'removed'} {name}"


def _undone_problems(
    case: Case, events: Sequence[Event], outcome: str, before: Files, after: Files
) -> Iterator[str]:
    """Yield what speaks against a run that says that it has put everything back."""
    if outcome != "failed_restored" or DATABASE not in before:
        return
    if not any(each["event"] == "restore.finished" and each["identical"] for each in events):
        yield "nothing says that the database is identical"
    # What is shorter than a page is an empty database to SQLite, whose rollback makes it one.
    empty = len(before[DATABASE]) < _SMALLEST_PAGE
    if not (case.recovers or empty) and before[DATABASE] != after.get(DATABASE):
        yield "the database is not as before"


def _structure_problems(command: str, done: Done, base: Path) -> Iterator[str]:
    """Yield what is wrong with the structure of a database that a run says is well."""
    database = base / DATABASE
    if command in LOOKING or done.code != 0 or not database.is_file():
        return
    try:
        with opened(database) as conn:
            found = conn.execute("PRAGMA quick_check").fetchone()[0]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        found = str(error)
    if found != "ok" and not found.startswith(("no such", "unknown", "CHECK", "NULL")):
        yield f"the database is damaged: {found[:200]}"


def _outside(base: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return what can be seen of everything beside the volume, where a case has something there."""
    found = {}
    for path in sorted((base / "outside").rglob("*")):
        # A link in place of the database is followed, and what is ours lies where it leads.
        if ".migrator" not in str(path):
            each = path.lstat()
            found[str(path)] = (each.st_mode, each.st_uid, each.st_size, each.st_mtime_ns)
    return found


def _outside_problems(
    base: Path, done: Done, before: dict[str, tuple[int, int, int, int]]
) -> Iterator[str]:
    """Yield what came of the files of somebody else: they are neither changed nor shown."""
    if not before:
        return
    found = _outside(base)
    if (base / BACKUPS).is_symlink():
        # Backups may be put elsewhere by a link, as docs/security.md says: they come to what is
        # there, with the rights of whoever runs this, and change nothing of it.
        found = {name: facts for name, facts in found.items() if not _is_backup(name)}
    if found != before:
        yield "something outside of the volume was changed"
    if SECRET in done.stdout + done.stderr:
        yield "what somebody else's file says was shown"
    if any(SECRET.encode() in data for data in _contents(base).values()):
        yield "what somebody else's file says is on the volume now"


def _listing(base: Path) -> Listing:
    """Return mode and size of everything on the volume, directories and special files too."""
    found = {}
    for path in (base / "data").rglob("*"):
        facts = path.lstat()
        found[str(path.relative_to(base))] = (facts.st_mode, facts.st_size)
    return found


def _is_backup(name: str) -> bool:
    return Path(name).name.startswith(("app.db-", ".app.db-"))


def _contents(base: Path) -> Files:
    """Return every regular file of the volume; those of the migrations are nobody's to write."""
    found = {}
    for path in sorted((base / "data").rglob("*")):
        if path.is_file() and not path.is_symlink():
            size = path.stat().st_size
            # What a damaged journal says of the size makes a file of terabytes, with nothing in it.
            found[str(path.relative_to(base))] = (
                path.read_bytes() if size < _LARGE else f"{size} bytes".encode()
            )
    return found


def run_cases(
    cases: Sequence[Case], commands: Sequence[str], base: Path, run: Runner
) -> list[Verdict]:
    """Run every command on every case."""
    return [play(case, command, base, run) for case in cases for command in commands]
