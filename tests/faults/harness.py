"""
One fault at one point of one scene, and the four questions after it.

Is the database old or new, to a plain `sqlite3`? Do exit code and last log
line say which? Does the next start end new, with no litter? Does every
finished backup open, and hold what was backed up?
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.faults.contents import NOTHING, State, digest_of, state_of
from tests.faults.inline import LOCKED
from tests.faults.launching import Done, HungError, arguments, run, under_faults
from tests.faults.scenes import APPLICATION, Scene, fresh
from tests.faults.shim import Call, Fault, Shim
from tests.faults.truth import early_unknown, wrong_code
from tests.support.logs import Event
from tests.support.processes import PACKAGES

_ID = re.compile(rb"[0-9a-f]{32}\n")
"""What stands in `identity/id`: the whole of it, or there is no such file."""

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
    then: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        fault = f"{self.fault}, then {self.then}" if self.then else str(self.fault)
        what = f"{self.scene} | {fault} | {self.at} | {self.code} {self.outcome} {self.state}"
        return " | ".join([what, *self.problems])


@dataclass(frozen=True, slots=True)
class Next:
    """What the next start led to."""

    code: int
    error: str
    log: str
    state: State
    litter: frozenset[str]
    problems: tuple[str, ...]


class Stage:
    """
    A scene, built once, on which faults are tried.

    Args:
        scene: The scene.
        directory: Where all of it goes; must not exist.
        library: The compiled shim.
        packages: Where the two packages lie: a patched copy in the tests of the harness.

    Attributes:
        forked: Whether runs are forked from a process that has imported the
            packages; otherwise each is a process of its own from the start.
        remembers: Whether the next start is made only once from the same bytes.
    """

    forked = True
    remembers = True

    def __init__(
        self, scene: Scene, directory: Path, library: Path, packages: Path = PACKAGES
    ) -> None:
        directory.mkdir(parents=True)
        self.scene, self.library, self.packages = scene, library, packages
        self.volume, self.migrations = directory / "data", directory / "migrations"
        self.database = self.volume / "app.db"
        self._template, self._peek = directory / "template", directory / "peek"
        self._seen: dict[tuple[str, bytes], State | Exception] = {}
        self._starts: dict[bytes, Next] = {}
        scene.build(self.volume, self.migrations, packages)
        os.rename(self.volume, self._template)
        self.old = self._look(self._template)
        self.earlier = self._finished(self._template)
        self.calls = self._rehearse()

    @property
    def shim(self) -> Shim:
        """The shim that the runs are under."""
        return under_faults(self.library, self.packages).shim

    def _rehearse(self) -> list[Call]:
        """Run without a fault: what it ends in is new."""
        fresh(self._template, self.volume)
        self.arm(Fault(0, "count"))
        self._learn(self._run(self.scene.command, faulty=True))
        calls = self.shim.calls()
        assert calls
        return calls

    def arm(self, fault: Fault, run: int = 1) -> None:
        """Have the next run meet a fault; `run` is how many there will have been."""
        self.shim.arm(fault, self.volume, run)

    def _learn(self, done: Done) -> None:
        """Take what an undisturbed run has led to as new."""
        self.code = done.code
        self.new = self._look(self.volume)
        if self.scene.fails:
            assert done.code == 80, done.stderr
            assert self.new == self.old
        else:
            assert done.code == 0, done.stderr
            assert (self.new == self.old) is self.scene.only_saves
        self.ends = {self.new}
        if self.scene.turns_back:
            self.ends.add(self.old)

    def use(self, packages: Path) -> None:
        """Go on with other packages, whose calls are counted anew; what is new stays."""
        self.packages = packages
        self._starts.clear()
        fresh(self._template, self.volume)
        self.arm(Fault(0, "count"))
        self._run(self.scene.command, faulty=True)
        self.calls = self.shim.calls()

    def _run(self, command: Sequence[str], *, faulty: bool) -> Done:
        """Run a command, with the fault that the shim is armed with, or without any."""
        words = arguments(command, self.database, self.migrations)
        if not faulty:
            self.arm(Fault(0, "count"), run=3)
        if self.forked:
            return under_faults(self.library, self.packages).launcher.run(words)
        return run(words, self.shim.env if faulty else {}, self.packages)

    def _look(self, volume: Path) -> State:
        """Open a copy, so that what is looked at stays for the next start to recover."""

        def look() -> State:
            shutil.rmtree(self._peek, ignore_errors=True)
            self._peek.mkdir()
            for path in volume.glob("app.db*"):
                if path.is_file():
                    shutil.copy(path, self._peek)
            return state_of(self._peek / "app.db")

        return self._once("database", digest_of(volume, _is_of_the_database), look)

    def _finished(self, volume: Path) -> dict[str, State]:
        """Return what each finished backup holds."""
        found = {}
        for facts in sorted((volume / "backups").glob("*.json")):
            if facts.name.startswith(".") or not facts.with_suffix("").exists():
                continue
            noted = json.loads(facts.read_text())
            path = facts.with_suffix("")
            found[path.name] = self._backup(path.read_bytes(), noted["sha256"])
        return found

    def _backup(self, data: bytes, noted: str) -> State:
        digest = hashlib.sha256(data)

        def look() -> State:
            copy = self._peek.with_name("backup.db")
            copy.write_bytes(data)
            found = state_of(copy)
            copy.unlink()
            return found

        if digest.hexdigest() != noted:
            return State("damaged", "")
        return self._once("backup", digest.digest(), look)

    def _once(self, what: str, digest: bytes, look: Callable[[], State]) -> State:
        """Look once at each content: the same bytes hold the same."""
        key = what, digest
        if key not in self._seen:
            try:
                self._seen[key] = look()
            except sqlite3.Error as error:
                self._seen[key] = error
        found = self._seen[key]
        if isinstance(found, Exception):
            raise found
        return found

    # -- one fault ---------------------------------------------------------------------

    def play(self, fault: Fault) -> Verdict:
        """Inject a fault, ask the four questions, start again and ask once more."""
        fresh(self._template, self.volume)
        return self._judge(fault, lambda verdict: self._play(verdict, fault))

    def leave(self, fault: Fault) -> bool:
        """Inject a fault, and leave the volume so; returns whether the fault was met."""
        fresh(self._template, self.volume)
        self.arm(fault)
        self._run(self.scene.command, faulty=True)
        return self.shim.fired > 0

    def recover(self) -> list[Call]:
        """Start without a fault from what is there, and return the calls of that."""
        self.arm(Fault(0, "count"), run=2)
        self._run(self.scene.next_command, faulty=False)
        return self.shim.calls()

    @cached_property
    def undisturbed(self) -> list[Call]:
        """What a start calls that follows no fault."""
        fresh(self._template, self.volume)
        return self.recover()

    def again(self, start: Path, fault: Fault, then: Fault) -> Verdict:
        """
        Kill the start that follows a fault, and start once more.

        Args:
            start: A volume as `fault` had left it.
            fault: The fault of the first run.
            then: The one of the start after it.
        """
        fresh(start, self.volume)
        return self._judge(fault, lambda verdict: self._then(verdict, fault, then))

    def _judge(self, fault: Fault, play: Callable[[Verdict], None]) -> Verdict:
        at = str(self.calls[fault.point - 1]) if 0 < fault.point <= len(self.calls) else "beyond"
        verdict = Verdict(self.scene.name, fault, fired=False, at=at)
        try:
            play(verdict)
        except HungError as error:
            verdict.problems.append("hung")
            verdict.log = str(error)
        except (sqlite3.Error, AssertionError) as error:
            verdict.problems.append(f"{type(error).__name__}: {error}")
        return verdict

    def _play(self, verdict: Verdict, fault: Fault) -> None:
        self._first(verdict, fault)
        self._next(verdict, fault)

    def _then(self, verdict: Verdict, fault: Fault, then: Fault) -> None:
        """Have the start after a fault meet one as well; then comes the last one."""
        self.arm(then, run=2)
        done = self._run(self.scene.next_command, faulty=True)
        verdict.fired = self.shim.fired > 0
        verdict.then = f"{then} {self.shim.calls()[then.point - 1]}" if verdict.fired else "beyond"
        verdict.log += done.stderr
        self._ask_database(verdict, "after the second fault ")
        self._ask_backups(verdict)
        self._next(verdict, fault)

    def _first(self, verdict: Verdict, fault: Fault) -> None:
        self.arm(fault)
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
        if LOCKED in done.stdout:
            say("a program that goes on finds its database locked")
        if last["exit_code"] != done.code:
            say(f"exit code {done.code}, but the log says {last['exit_code']}")
        if (APPLICATION in done.stdout) != (done.code == 0 and APPLICATION in self.scene.command):
            say("the application was started after a failure, or not after a success")
        verdict.problems += self._lies(done, last, state)
        restores = "restore" in self.scene.command
        # Who asks what is pending may be killed (78), or fail on the copy, which means yes (81).
        if not (self.scene.asks and done.code == (78 if fault.kills else 81)):
            verdict.problems += self._wrong_code(fault, done, restores=restores)
        if verdict.outcome == "unknown":
            restored = state == "new" if restores else None
            verdict.problems += early_unknown(fault, done.stderr, restored=restored)

    def _wrong_code(self, fault: Fault, done: Done, *, restores: bool) -> Iterator[str]:
        """Yield what is wrong with the exit code."""
        if done.code not in (0, 69, 73, 74, 77, 80, 82):
            yield f"exit code {done.code}: {(done.last or {}).get('error')}"
        yield from wrong_code(fault, done, fails=self.scene.fails, restores=restores)

    def _lies(self, done: Done, last: Event, state: str) -> Iterator[str]:
        """Yield what the last line says and is not so."""
        outcome = last["outcome"]
        if outcome == "refused" and '"outcome": "unknown"' in done.stderr:
            return  # of a program that tries again, before the first run could be settled
        if last["exit_code"] == 0:
            if self.scene.fails:
                yield "success was reported of failing migrations"
            elif self.scene.only_saves:
                yield from self._unsaved()
            elif state != "new":
                yield "success was reported of the old state"
        elif outcome in ("refused", "failed_restored"):
            if state != "old":
                yield f"{outcome} was reported of the {state} state"
        elif outcome not in ("unknown", "restore_failed"):
            yield f"outcome {outcome}: {last.get('error')}"
        if outcome == "restore_failed" and "restore" not in self.scene.command:
            yield f"82: {last.get('error')}"

    def _unsaved(self) -> Iterator[str]:
        """Yield what is wrong with a start that was to have a backup of the old state."""
        digests = {each.digest for each in self._finished(self.volume).values()}
        if self.old.digest not in digests:
            yield "success was reported without a backup of the state"

    def _ask_backups(self, verdict: Verdict) -> None:
        """Ask (d): each finished backup opens and holds what was backed up."""
        found = self._finished(self.volume)
        for name, state in found.items():
            if name in self.earlier:
                if state != self.earlier[name]:
                    verdict.problems.append(f"the earlier backup {name} was changed")
            elif state.digest != self.old.digest and not self.scene.turns_back:
                verdict.problems.append(f"the backup {name} is not the old state")
        missing = set(self.earlier) - set(found)
        if missing:
            verdict.problems.append(f"backups are gone: {missing}")
        digests = [state.digest for state in found.values()]
        if len(digests) != len(set(digests)) and not self.scene.turns_back:
            verdict.problems.append("there are two backups of one state")

    def _next(self, verdict: Verdict, fault: Fault) -> None:
        """Ask (c): the next start ends new, or fails the same way, and leaves no litter."""
        digest = digest_of(self.volume)
        found = self._starts.get(digest) or self._start()
        if self.remembers:
            self._starts[digest] = found
        say = verdict.problems.append
        if found.code != self.code:
            say(f"the next start ends with {found.code}: {found.error}")
            verdict.log += found.log
        if found.state not in self.ends:
            state = {self.old: "old", self.new: "new"}.get(found.state)
            say(f"after the next start the database is {state or f'neither ({found.state.mode})'}")
        litter = sorted(found.litter - self._allowed(fault, verdict.log))
        if litter:
            say(f"litter after the next start: {litter}")
        verdict.problems += found.problems

    def _start(self) -> Next:
        """Start without a fault from what is there: the same bytes lead to the same end."""
        done = self._run(self.scene.next_command, faulty=False)
        aside = Verdict(self.scene.name, Fault(0, "count"), fired=False, at="")
        self._ask_backups(aside)
        error = str((done.last or {}).get("error"))
        litter = frozenset(self._litter())
        state = self._look(self.volume)
        return Next(done.code, error, done.stderr, state, litter, tuple(aside.problems))

    def _allowed(self, fault: Fault, log: str) -> set[str]:
        """Return what may stay: SQLite's own files that do no harm, and a database put back."""
        allowed = set()
        if '"method": "backup"' in log and "restore" not in self.scene.command:
            allowed.add("app.db.migrator/failed/app.db")
        if self.scene.hot:
            # Of the killed process; SQLite alone with a database neither needs nor removes it.
            allowed.add("app.db-shm")
        if fault.kills or fault.action == "error-on":
            # A start with nothing pending writes nothing; the next run removes it.
            allowed.add("app.db.migrator/.last_run.json.tmp")
            allowed.add("app.db.migrator/application/.commanded.json.tmp")
            allowed.add("app.db.migrator/application/.started.tmp")
        if not fault.kills:
            # What is committed stays there where the disk takes no checkpoint.
            allowed |= {"app.db-wal", "app.db-shm"}
        if self.scene.turns_back:
            # A start with nothing pending writes nothing; the next run removes it.
            allowed.add("app.db.migrator/.state.json.tmp")
        return allowed

    def _litter(self) -> set[str]:
        """Return what should not lie on the volume after an undisturbed run."""
        found = set()
        for base, _, names in os.walk(self.volume):
            for name in names:
                found.add(os.path.relpath(os.path.join(base, name), self.volume))
        own = {"app.db.migrator/lock", "app.db.migrator/.gitignore", "backups/.gitignore"}
        own.add("app.db.migrator/last_run.json")
        if self.scene.only_saves:
            own.add("app.db.migrator/application/started")
        if self.scene.asks:
            own.add("app.db.migrator/application/commanded.json")
        known = self.volume / "app.db.migrator" / "identity" / "id"
        if known.exists() and _ID.fullmatch(known.read_bytes()):
            own.add(os.path.relpath(known, self.volume))
        journal = self.volume / "app.db-journal"
        if journal.exists() and journal.read_bytes()[:1] in (b"", b"\0"):
            # Ended, so that nothing is rolled back; the next one to write removes it.
            own.add(journal.name)
        backups = {
            f"backups/{name}{end}" for name in self._finished(self.volume) for end in ("", ".json")
        }
        return found - own - backups - ({"app.db"} if self.ends != {State(NOTHING, "")} else set())

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.volume.parent, ignore_errors=True)


def _is_of_the_database(path: str) -> bool:
    """Tell whether a file is the database or one of SQLite's beside it."""
    return path.startswith("app.db") and os.sep not in path and path != "app.db.migrator"
