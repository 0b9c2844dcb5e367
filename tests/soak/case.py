"""
One random case: a database, its releases, and what is done to the runs that apply them.

After every round the database is old or new by digest, whoever was killed in it; what
exit codes and last lines say is so; and no two runs were under way at once. After the
last, undisturbed start of a release the database is new, and there is no litter.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.faults.contents import State, state_of
from tests.faults.scenes import APPLICATION
from tests.soak.making import Release, make, release
from tests.support.files import load_module, opened
from tests.support.logs import Event, parse_line

HUNG = 90.0
"""Seconds after which a start counts as hung; its own waits are set to less."""
UP = ("entrypoint", "--", "/bin/echo", APPLICATION)
ACCEPTED = "foreign"
"""What a start accepts: the databases have a `user_version`, which is the application's."""
INLINE = ("inline", "up", "wait", ACCEPTED)
LOOKS = (
    ("migrator", "status"),
    ("migrator", "check"),
    ("migrator", "plan"),
    ("migrator", "backups"),
)
KILLS = ("parent", "worker", "group", "term")
_ENDS = {0, 69, 73, 75, 80, 143}
"""Codes of a start: done, in use, no backup (the worker was killed), locked, failed, ended."""


class Started(Protocol):
    """A start under way."""

    def stderr(self) -> str:
        """Return what it has said so far."""

    def running(self) -> bool:
        """Tell whether it still runs."""

    def hit(self, how: str) -> None:
        """Kill a part of it, or end it: one of `KILLS`."""

    def end(self) -> tuple[int, str]:
        """Wait for all of it; returns the exit code (negative for a signal) and stdout."""


class World(Protocol):
    """Where the starts happen: processes on this machine, or containers."""

    volume: Path
    migrations: Path
    watch: str
    inline: bool
    """Whether a program with the Python API can be started there as well."""

    def start(self, command: Sequence[str], number: int) -> Started:
        """Start a command."""

    def adopt(self) -> None:
        """Give the volume the owner that the starts have."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A start that has ended."""

    command: tuple[str, ...]
    hit: str
    code: int
    stdout: str
    events: tuple[Event, ...]

    @property
    def last(self) -> Event | None:
        """Its `run.finished`, None where it was killed before that."""
        found = [event for event in self.events if event["event"] == "run.finished"]
        return found[-1] if found else None

    @property
    def killed(self) -> bool:
        """Whether a signal ended it before it could say so, or after it had said its last."""
        if self.code == 128 + signal.SIGTERM:
            return self.hit == "term" and self.last is not None and self.last["exit_code"] == 0
        return self.code < 0 or self.code == 128 + signal.SIGKILL

    @property
    def held(self) -> tuple[str, str] | None:
        """From when to when it held the run's lock for certain, by its own clock."""
        times = [
            event["timestamp"]
            for event in self.events
            if event["event"] != "run.finished" and not event["event"].startswith("app.")
        ]
        taken = [e["timestamp"] for e in self.events if e["event"] == "lock.acquired"]
        return (taken[0], times[-1]) if taken else None


@dataclass(slots=True)
class Tally:
    """
    What happened in a case.

    Args:
        starts: Starts of any command.
        kills: How many of them were killed or ended.
        together: How often several ran at once.
        problems: Promises that did not hold, one sentence each.
    """

    starts: int = 0
    kills: int = 0
    together: int = 0
    problems: list[str] = field(default_factory=list)


class Case:
    """
    A case, which its seed makes.

    Args:
        seed: Anything; printed with what was found.
        world: Where it happens.
        scratch: An empty directory for copies.
    """

    def __init__(self, seed: str, world: World, scratch: Path) -> None:
        self.seed, self.world, self.scratch = seed, world, scratch
        self.chance = random.Random(seed)  # noqa: S311 - nothing secret
        self.tally = Tally()
        self.known: set[str] = set()
        self.version = ""

    def play(self, releases: int = 2, rounds: int = 2) -> Tally:
        """Play all of it; stops at the first release after which something is wrong."""
        kind = make(self.world.volume / "app.db", self.chance)
        self.world.adopt()
        self.old = self._look()
        self.known.add(self.old.digest)
        try:
            for number in range(1, releases + 1):
                self._release(number, rounds)
                if self.tally.problems:
                    break
        except (sqlite3.Error, OSError, AssertionError, TimeoutError) as error:
            self._say(f"{type(error).__name__}: {error}")
        self.tally.problems = [f"{each} ({kind})" for each in self.tally.problems]
        return self.tally

    def _say(self, text: str) -> None:
        self.tally.problems.append(f"Seed {self.seed}: {text}")

    # -- a release -------------------------------------------------------------------------

    def _release(self, number: int, rounds: int) -> None:
        wanted = release(number, self.chance, self.world.watch)
        for name, text in wanted.files.items():
            (self.world.migrations / name).write_text(text)
        self.new = self.old if wanted.fails else self._expected(wanted)
        self.known.add(self.new.digest)
        for _ in range(self.chance.randrange(rounds + 1)):
            self._round(UP, wanted.fails)
        self._settle(UP, 80 if wanted.fails else 0, self.new)
        if wanted.fails:
            for name in wanted.files:
                (self.world.migrations / name).unlink()
            return
        if self.chance.random() < 0.5:
            self._back_and_forth(wanted)
        self.old = self.new
        self.version = max(wanted.files).partition("_")[0]

    def _back_and_forth(self, wanted: Release) -> None:
        """Go back to before this release, disturbed, by its backup or its `down`s, and up again."""
        before, now = self.old, self.new
        command: tuple[str, ...] = ("migrator", "restore", "latest")
        if self.version and self.chance.random() < 0.5:
            command = ("migrator", "down", "--to", self.version)
            before = self._expected(wanted, down=True)
        self.known.add(before.digest)
        self.old, self.new = now, before
        if self.chance.random() < 0.7:
            self._round(command, fails=False, alone=True)
        self._settle(command, 0, before)
        self.old, self.new = before, self._expected(wanted)
        self.known.add(self.new.digest)
        self._settle(UP, 0, self.new)

    def _expected(self, wanted: Release, *, down: bool = False) -> State:
        """Return what plain `sqlite3` makes of the migrations, on a copy."""
        path = self._copy() / "app.db"
        with closing(sqlite3.connect(path)) as conn:
            conn.row_factory = sqlite3.Row
            for name in sorted(wanted.files, reverse=down):
                _apply(conn, self.world.migrations / name, wanted.files[name], down=down)
                conn.commit()
        return _without_history(path)

    # -- what is started -------------------------------------------------------------------

    def _round(self, command: Sequence[str], fails: bool, *, alone: bool = False) -> None:
        """Start some at once, kill some of them at any time, and ask."""
        number = 1 if alone else self.chance.choice((1, 1, 2, 3))
        plans = [(self._variant(tuple(command)), *self._fate()) for _ in range(number)]
        if self.chance.random() < 0.4:
            plans.append((self.chance.choice(LOOKS), "", 0.0, ""))
        before = self._ask_database()
        ended = self._run(plans)
        state = self._ask_database()
        moved = len(ended) == 1 and state != before
        for each in ended:
            self._ask_report(each, state, fails, moved)
        self._ask_alone(ended)
        self._ask_backups()

    def _variant(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """Have a program with the Python API do it now and then; it creates no database."""
        there = self.world.inline and (self.world.volume / "app.db").exists()
        return INLINE if command == UP and there and self.chance.random() < 0.3 else command

    def _fate(self) -> tuple[str, float, str]:
        """Return how a start is killed, when, and after which of its events."""
        how = self.chance.choice((*KILLS, *KILLS, ""))
        event = self.chance.choice(
            ("", "run.started", "lock.acquired", "backup.", "migration.started", "verify.finished")
        )
        pause = self.chance.random() ** 2 * (0.1 if event else 1.5)
        return how, pause, event

    def _run(self, plans: Sequence[tuple[tuple[str, ...], str, float, str]]) -> list[Ended]:
        began = []
        self.tally.together += len(plans) > 1
        for command, how, pause, event in plans:
            began.append((self.world.start(command, self.tally.starts), command, how, pause, event))
            self.tally.starts += 1
            time.sleep(self.chance.choice((0, 0, 0.05, 0.3)))
        for started, _, how, pause, event in began:
            if how:
                self._wait(started, event)
                time.sleep(pause)
                if started.running():
                    self.tally.kills += 1
                    started.hit(how)
        ends = _end_all([started for started, *_ in began])
        return [
            Ended(command, how, code, stdout, tuple(_events(started.stderr())))
            for (started, command, how, *_), (code, stdout) in zip(began, ends, strict=True)
        ]

    def _wait(self, started: Started, event: str) -> None:
        deadline = time.monotonic() + HUNG
        while f'"event": "{event}' not in started.stderr() and started.running():
            if time.monotonic() > deadline:
                raise TimeoutError("hung")  # noqa: EM101
            time.sleep(0.01)

    def _settle(self, command: tuple[str, ...], code: int, wanted: State) -> None:
        """Start once more, undisturbed: that ends as it should, without litter."""
        (ended,) = self._run([(command, "", 0.0, "")])
        last = ended.last or {}
        if ended.code != code:
            self._say(f"the undisturbed {command[:3]} ends with {ended.code}: {last.get('error')}")
        found = self._look()
        if found != wanted:
            self._say(f"after the undisturbed {command[:3]} the database is not as it should be")
        litter = self._litter()
        if litter and not self._is_ended(litter):
            self._say(f"litter after the undisturbed {command[:3]}: {sorted(litter)}")
        self._ask_backups()

    def _is_ended(self, litter: set[str]) -> bool:
        """Tell whether it is a journal that rolls nothing back; the next to write removes it."""
        if litter != {"app.db-journal"}:
            return False
        return (self.world.volume / "app.db-journal").read_bytes()[:1] in (b"", b"\0")

    # -- the questions ---------------------------------------------------------------------

    def _copy(self) -> Path:
        copy = self.scratch / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.world.volume, copy, symlinks=True)
        return copy

    def _look(self) -> State:
        return _without_history(self._copy() / "app.db")

    def _ask_database(self) -> str:
        found = self._look()
        if found == self.new:
            return "new"
        if found == self.old:
            return "old"
        if found.digest in (self.old.digest, self.new.digest):
            return "old" if found.digest == self.old.digest else "new"
        self._say("the database is neither old nor new")
        return "neither"

    def _ask_report(self, ended: Ended, state: str, fails: bool, moved: bool) -> None:
        """Ask whether exit code and last line tell the truth; `moved`: by this start alone."""
        what = f"{' '.join(ended.command[:3])}, {ended.hit or 'left alone'}: "
        if ended.command in LOOKS:
            if ended.code not in (0, 1, 69, 75):
                self._say(f"{what}ends with {ended.code}")
        elif ended.killed:
            if not ended.hit:
                self._say(f"{what}ended by signal {ended.code}")
        elif ended.last is None or ended.last["exit_code"] != ended.code:
            said = ended.last and ended.last["exit_code"]
            self._say(f"{what}ends with {ended.code}, saying {said}")
        else:
            for lie in self._lies(ended, ended.last, state, fails, moved):
                self._say(f"{what}{lie}")

    def _lies(
        self, ended: Ended, last: Event, state: str, fails: bool, moved: bool
    ) -> Iterator[str]:
        """Yield what the last line, or the code, says and is not so."""
        applies = ended.command == UP
        if ended.code not in _ENDS:
            yield f"ends with {ended.code}: {last.get('error')}"
        if applies and (APPLICATION in ended.stdout) != (ended.code == 0):
            yield f"the application was started after {ended.code}, or not after 0"
        if ended.code == 0 and (fails or state == "old" != self._same()):
            yield f"success was said, and the database is {state}"
        if ended.code == 80 and not fails and ended.hit != "worker":
            yield f"good migrations failed: {last['error']}"
        told_old = last["outcome"] in ("refused", "failed_restored")
        if moved and told_old:
            yield f"{last['outcome']} was said, and the database has changed"

    def _same(self) -> str:
        """Return "old" where old and new are the same."""
        return "old" if self.old.digest == self.new.digest else ""

    def _ask_alone(self, ended: Sequence[Ended]) -> None:
        """Ask that no two runs were under way at once: by their logs, and by the migrations."""
        held = sorted(each.held for each in ended if each.held)
        for one, other in itertools.pairwise(held):
            if other[0] < one[1]:
                self._say(f"two runs at once: {one} and {other}")
        mark = Path(f"{self.world.migrations.with_name('watch')}", "lock.two")
        if mark.exists():
            self._say("two migrations at once")

    def _ask_backups(self) -> None:
        """Ask that each finished backup is sound, and a state that there was."""
        for facts in sorted((self.world.volume / "backups").glob("[!.]*.json")):
            path = facts.with_suffix("")
            if not path.exists():
                continue
            noted = json.loads(facts.read_text())
            if hashlib.sha256(path.read_bytes()).hexdigest() != noted["sha256"]:
                self._say(f"the backup {path.name} is damaged")
                continue
            copy = self.scratch / "backup.db"
            shutil.copyfile(path, copy)
            if _without_history(copy).digest not in self.known:
                self._say(f"the backup {path.name} is no state that there was")
            copy.unlink()

    def _litter(self) -> set[str]:
        own = {"app.db", "app.db.migrator/lock", "app.db.migrator/identity/id"}
        own.add("app.db.migrator/last_run.json")
        wal = self.world.volume / "app.db-wal"
        left_open = self.tally.kills or self.tally.together
        if left_open or (wal.exists() and wal.stat().st_size):
            # What is committed stays there while nothing is pending, and a look makes its index.
            # What a killed process had open it leaves, and so does a look that ends after the
            # last writer: only who may write deletes both. A start that writes nothing leaves them.
            own |= {"app.db-wal", "app.db-shm"}
        if self.tally.kills:
            own.add("app.db.migrator/.last_run.json.tmp")
        found = set()
        for base, _, names in os.walk(self.world.volume):
            for name in names:
                path = os.path.relpath(os.path.join(base, name), self.world.volume)
                if path not in own and name != ".gitignore" and not _is_backup(path):
                    found.add(path)
        return found


def _end_all(starts: Sequence[Started]) -> list[tuple[int, str]]:
    """Wait for all of them, also where one of them hangs."""
    ends, hung = [], None
    for started in starts:
        try:
            ends.append(started.end())
        except TimeoutError as error:
            hung = error
    if hung is not None:
        raise hung
    return ends


def _is_backup(path: str) -> bool:
    name = path.removeprefix("backups/")
    return name != path and not name.startswith(".") and name.endswith((".db", ".db.json"))


def _apply(conn: sqlite3.Connection, path: Path, text: str, *, down: bool) -> None:
    if path.suffix == ".py":
        module = load_module(path)
        vars(module)["alone"] = contextlib.nullcontext  # this process is no run
        (module.down if down else module.up)(conn)
    else:
        conn.executescript(text.split("-- migrate:down")[down])


def _without_history(path: Path) -> State:
    """Return what the database holds but for the history."""
    with opened(path) as conn:
        conn.execute("DROP TABLE IF EXISTS migrations")
    return state_of(path)


def _events(stderr: str) -> Iterator[Event]:
    """Yield the events; the last line of one that was killed may be cut off."""
    lines = stderr.splitlines(keepends=True)
    for line in lines:
        if line.endswith("\n") and line.startswith("{"):
            yield parse_line(line)
