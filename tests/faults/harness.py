"""
One fault at one point of one scene, and the four questions after it.

Is the database old or new, to a plain `sqlite3`? Do exit code and last log
line say which? Does the next start end new, with no litter? Does every
finished backup open, and hold what was backed up?
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.scenes import APPLICATION, Scene, fresh
from tests.faults.shim import Call, Fault, Shim
from tests.support.logs import Event, parse_line
from tests.support.processes import PACKAGES, clean_environment, without_coverage
from tests.support.waiting import until

HUNG = 40.0
"""Seconds after which a run counts as hung; the program's own waits are set to far less."""
_WAITS = ("--wait-timeout", "2", "--lock-timeout", "2", "--mount", "ignore")
_VOLATILE = "SELECT version, name FROM migrations ORDER BY version"
_HEADER = ("encoding", "user_version", "application_id", "page_size", "auto_vacuum")
NOTHING = "no database"


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended: its exit code (negative for a signal) and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def last(self) -> Event | None:
        """The last line of the run's log but for `app.…`, None where there is none."""
        events = [parse_line(line) for line in self.stderr.splitlines(keepends=False)]
        events = [event for event in events if not event["event"].startswith("app.")]
        return events[-1] if events else None


def arguments(command: Sequence[str], database: Path, migrations: Path) -> list[str]:
    """Return the arguments of `python -m` for a scene's command."""
    waits = _WAITS if command[0] == "entrypoint" else _WAITS[:4]
    where = ("--database", str(database), "--migrations", str(migrations), "--log-format", "json")
    return [command[0], *where, *waits, *command[1:]]


def run(words: Sequence[str], env: Mapping[str, str], packages: Path = PACKAGES) -> Done:
    """Run one of the commands in a process group of its own, until all of that has ended."""
    environment = without_coverage(clean_environment(dict(env)))
    if packages != PACKAGES:
        environment["PYTHONPATH"] = str(packages)
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=HUNG)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise HungError(err) from None
    until(lambda: not _alive(process.pid), f"The group {process.pid} still lives.")
    return Done(process.returncode, out, err)


class HungError(Exception):
    """A run that did not end."""


def _alive(group: int) -> bool:
    """Tell whether a process of the group is left, zombies that nobody reaps aside."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if int(stat[2]) == group and stat[0] not in "ZX":
                    return True
    return False


# -- what a database holds ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """A database's contents as a digest, and its journal mode."""

    digest: str
    mode: str


def state_of(database: Path) -> State:
    """Return what a plain `sqlite3` finds, the history's times and run ids aside."""
    if not database.exists():
        return State(NOTHING, "")
    digest = hashlib.sha256()
    with closing(sqlite3.connect(database, isolation_level=None)) as conn:
        conn.text_factory = bytes
        schema = conn.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        ).fetchall()
        parts: list[Any] = [schema]
        parts += [conn.execute(f"PRAGMA {name}").fetchone() for name in _HEADER]
        for kind, name, *_ in schema:
            if kind == b"table":
                query = _VOLATILE if name == b"migrations" else f'SELECT * FROM "{name.decode()}"'
                parts.append((name, sorted(map(repr, conn.execute(query)))))
        check = conn.execute("PRAGMA integrity_check").fetchall()
        parts.append(check if check != [(b"ok",)] else "ok")
        mode = conn.execute("PRAGMA journal_mode").fetchone()[0].decode()
    digest.update(repr(parts).encode())
    return State(digest.hexdigest()[:16], mode)


# -- one scene -----------------------------------------------------------------------------


@dataclass(slots=True)
class Verdict:
    """What one fault led to; `problems` is empty where the promises held."""

    scene: str
    fault: Fault
    fired: bool
    at: str
    code: int | None = None
    outcome: str = ""
    state: str = ""
    problems: list[str] = field(default_factory=list)
    log: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        what = f"{self.scene} | {self.fault} | {self.at} | {self.code} {self.outcome} {self.state}"
        return " | ".join([what, *self.problems])


class Stage:
    """
    A scene, built once, on which faults are tried.

    Args:
        scene: The scene.
        directory: Where all of it goes; must not exist.
        library: The compiled shim.
        packages: Where the two packages lie: a patched copy in the tests of the harness.
    """

    def __init__(
        self, scene: Scene, directory: Path, library: Path, packages: Path = PACKAGES
    ) -> None:
        directory.mkdir(parents=True)
        self.scene, self.packages = scene, packages
        self.volume, self.migrations = directory / "data", directory / "migrations"
        self.database = self.volume / "app.db"
        self._template, self._peek = directory / "template", directory / "peek"
        self.shim = Shim(library, directory / "control", self.volume)
        scene.build(self.volume, self.migrations, packages)
        os.rename(self.volume, self._template)
        self.old = self._look(self._template)
        self.earlier = self._finished(self._template)
        self.calls = self._rehearse()

    def _rehearse(self) -> list[Call]:
        """Run without a fault: what it ends in is new."""
        fresh(self._template, self.volume)
        self.shim.arm(Fault(0, "count"))
        self._learn(self._run(self.scene.command, faulty=True))
        calls = self.shim.calls()
        assert calls
        return calls

    def _learn(self, done: Done) -> None:
        """Take what an undisturbed run has led to as new."""
        self.code = done.code
        self.new = self._look(self.volume)
        if self.scene.fails:
            assert done.code == 80, done.stderr
            assert self.new == self.old
        else:
            assert done.code == 0, done.stderr
            assert self.new != self.old
        self.ends = {self.new}
        if self.scene.after is not None:
            self.ends.add(self.old)

    def use(self, packages: Path) -> None:
        """Go on with other packages, whose calls are counted anew; what is new stays."""
        self.packages = packages
        fresh(self._template, self.volume)
        self.shim.arm(Fault(0, "count"))
        self._run(self.scene.command, faulty=True)
        self.calls = self.shim.calls()

    def _run(self, command: Sequence[str], *, faulty: bool) -> Done:
        words = arguments(command, self.database, self.migrations)
        return run(words, self.shim.env if faulty else {}, self.packages)

    def _look(self, volume: Path) -> State:
        """Open a copy, so that what is looked at stays for the next start to recover."""
        fresh(volume, self._peek)
        return state_of(self._peek / "app.db")

    def _finished(self, volume: Path) -> dict[str, State]:
        """Return what each finished backup holds."""
        found = {}
        for facts in sorted((volume / "backups").glob("*.json")):
            if facts.name.startswith(".") or not facts.with_suffix("").exists():
                continue
            noted = json.loads(facts.read_text())
            path = facts.with_suffix("")
            data = path.read_bytes()
            same = hashlib.sha256(data).hexdigest() == noted["sha256"]
            copy = self._peek.with_name("backup.db")
            copy.write_bytes(data)
            found[path.name] = state_of(copy) if same else State("damaged", "")
            copy.unlink()
        return found

    # -- one fault ---------------------------------------------------------------------

    def play(self, fault: Fault, then: Fault | None = None) -> Verdict:
        """
        Inject a fault, ask the four questions, start again and ask once more.

        Args:
            fault: The fault of the first run.
            then: A fault of the start after it, before the last one.
        """
        fresh(self._template, self.volume)
        at = str(self.calls[fault.point - 1]) if fault.point <= len(self.calls) else "beyond"
        verdict = Verdict(self.scene.name, fault, fired=False, at=at)
        try:
            self._first(verdict, fault)
            if then is not None:
                self.shim.arm(then)
                self._run(self.scene.next_command, faulty=True)
                self._ask_database(verdict, f"second fault {then}: ")
            self._next(verdict, fault)
        except HungError as error:
            verdict.problems.append("hung")
            verdict.log = str(error)
        except (sqlite3.Error, AssertionError) as error:
            verdict.problems.append(f"{type(error).__name__}: {error}")
        return verdict

    def _first(self, verdict: Verdict, fault: Fault) -> None:
        self.shim.arm(fault)
        done = self._run(self.scene.command, faulty=True)
        verdict.fired = self.shim.fired > 0
        verdict.code, verdict.log = done.code, done.stderr
        if verdict.fired and fault.point <= len(self.calls):
            verdict.at = str(self.shim.calls()[fault.point - 1])
        state = self._ask_database(verdict)
        self._ask_report(verdict, fault, done, state)
        self._ask_backups(verdict)

    def _ask_database(self, verdict: Verdict, where: str = "") -> str:
        """Ask (a): old or new, and nothing else."""
        found = self._look(self.volume)
        names = {self.old.digest: "old", self.new.digest: "new"}
        state = names.get(found.digest, "NEITHER")
        if self.old.digest == self.new.digest and state != "NEITHER":
            # Only the journal mode differs, or nothing (the migrations fail).
            state = "old" if found.mode == self.old.mode else "new"
        verdict.state = state
        if state == "NEITHER":
            verdict.problems.append(f"{where}the database is neither old nor new")
        else:
            right = {each.mode for each in (self.old, self.new) if each.digest == found.digest}
            moving = {self.old.mode, self.new.mode, "delete"} if self.scene.mode_moves else right
            if found.mode not in moving | right:
                verdict.problems.append(f"{where}journal mode {found.mode} of the {state} state")
        return state

    def _ask_report(self, verdict: Verdict, fault: Fault, done: Done, state: str) -> None:
        """Ask (b): exit code and last line tell the truth."""
        say = verdict.problems.append
        if done.code < 0:
            if not fault.kills or done.code != -signal.SIGKILL:
                say(f"ended by signal {-done.code}")
            if APPLICATION in done.stdout:
                say("the application ran and the run was killed")
            return
        last = done.last
        if last is None or last["event"] != "run.finished":
            say(f"the last line is {last and last['event']}")
            return
        verdict.outcome = last["outcome"]
        if last["exit_code"] != done.code:
            say(f"exit code {done.code}, but the log says {last['exit_code']}")
        if (APPLICATION in done.stdout) != (done.code == 0 and APPLICATION in self.scene.command):
            say("the application was started after a failure, or not after a success")
        if done.code not in (0, 69, 73, 74, 77, 80, 82):
            say(f"exit code {done.code}: {last.get('error')}")
        verdict.problems += self._lies(last, state)

    def _lies(self, last: Event, state: str) -> Iterator[str]:
        """Yield what the last line says and is not so."""
        outcome = last["outcome"]
        if last["exit_code"] == 0:
            if self.scene.fails:
                yield "success was reported of failing migrations"
            elif state != "new":
                yield "success was reported of the old state"
        elif outcome in ("refused", "failed_restored"):
            if state != "old":
                yield f"{outcome} was reported of the {state} state"
        elif outcome not in ("unknown", "restore_failed"):
            yield f"outcome {outcome}: {last.get('error')}"
        if outcome == "restore_failed" and "restore" not in self.scene.command:
            yield f"82: {last.get('error')}"

    def _ask_backups(self, verdict: Verdict) -> None:
        """Ask (d): each finished backup opens and holds what was backed up."""
        found = self._finished(self.volume)
        for name, state in found.items():
            if name in self.earlier:
                if state != self.earlier[name]:
                    verdict.problems.append(f"the earlier backup {name} was changed")
            elif state.digest != self.old.digest and self.scene.after is None:
                verdict.problems.append(f"the backup {name} is not the old state")
        missing = set(self.earlier) - set(found)
        if missing:
            verdict.problems.append(f"backups are gone: {missing}")
        digests = [state.digest for state in found.values()]
        if len(digests) != len(set(digests)) and self.scene.after is None:
            verdict.problems.append("there are two backups of one state")

    def _next(self, verdict: Verdict, fault: Fault) -> None:
        """Ask (c): the next start ends new, or fails the same way, and leaves no litter."""
        done = self._run(self.scene.next_command, faulty=False)
        state = self._look(self.volume)
        say = verdict.problems.append
        if done.code != self.code:
            say(f"the next start ends with {done.code}: {(done.last or {}).get('error')}")
            verdict.log += done.stderr
        if state not in self.ends:
            word = {self.old: "old", self.new: "new"}.get(state, f"neither ({state.mode})")
            say(f"after the next start the database is {word}")
        litter = sorted(self._litter() - self._allowed(fault, verdict.log))
        if litter:
            say(f"litter after the next start: {litter}")
        self._ask_backups(verdict)

    def _allowed(self, fault: Fault, log: str) -> set[str]:
        """Return what may stay: SQLite's own files that do no harm, and a database put back."""
        allowed = set()
        if '"method": "backup"' in log and "restore" not in self.scene.command:
            allowed.add("app.db.migrator/failed/app.db")
        if self.scene.hot:
            # Of the killed process; SQLite alone with a database neither needs nor removes it.
            allowed.add("app.db-shm")
        if not fault.kills:
            # What is committed stays there where the disk takes no checkpoint.
            allowed |= {"app.db-wal", "app.db-shm"}
        if self.scene.after is not None:
            # A start with nothing pending writes nothing; the next run removes it.
            allowed.add("app.db.migrator/.state.json.tmp")
        journal = self.volume / "app.db-journal"
        if journal.exists() and journal.read_bytes()[:1] in (b"", b"\0"):
            # Ended, so that nothing is rolled back; the next one to write removes it.
            allowed.add(journal.name)
        return allowed

    def _litter(self) -> set[str]:
        """Return what should not lie on the volume after an undisturbed run."""
        found = set()
        for base, _, names in os.walk(self.volume):
            for name in names:
                found.add(os.path.relpath(os.path.join(base, name), self.volume))
        own = {"app.db.migrator/lock", "app.db.migrator/.gitignore", "backups/.gitignore"}
        backups = {
            f"backups/{name}{end}" for name in self._finished(self.volume) for end in ("", ".json")
        }
        return found - own - backups - ({"app.db"} if self.ends != {State(NOTHING, "")} else set())

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.volume.parent, ignore_errors=True)
