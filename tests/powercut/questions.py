"""The four questions of tests/faults, asked after a power cut."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.faults.harness import Stage, Verdict
from tests.faults.launching import Done, HungError, Launcher, arguments, run
from tests.faults.shim import Call, Fault


def warm(packages: Path) -> Launcher:
    """Return what starts these packages, made once in a process; it ends with it."""
    return _launcher(packages, os.getpid())


@cache
def _launcher(packages: Path, owner: int) -> Launcher:
    """Return one launcher for each process: two that talk to one would get the other's answers."""
    del owner
    return Launcher({}, packages)


KILLED = Fault(0, "all-before")
"""To the questions of tests/faults a power cut is a kill."""
_ERRORS = (sqlite3.Error, AssertionError, ValueError, OSError)


class Afterwards(Stage):
    """A scene after a power cut, whichever way its volume came to be as it is."""

    remembers = False
    env: Mapping[str, str] = {}
    """What the run finds in its environment whose power is cut."""
    stands_for = "new"
    """The state that its success stands for."""

    def _run(self, command: Sequence[str], *, faulty: bool) -> Done:
        """Run a command: as a process of its own where its power is cut, else forked from one."""
        words = arguments(command, self.database, self.migrations)
        return run(words, self.env, self.packages) if faulty else warm(self.packages).run(words)

    def rehearse(self) -> Done:
        """Run what nothing disturbs, on the volume."""
        raise NotImplementedError

    def _rehearse(self) -> list[Call]:
        self._learn(self.rehearse())
        made = set(self._finished(self.volume)) - set(self.earlier)
        self._saves = bool(made) and not self.scene.fails
        return []

    def judge(self, at: str, *, said: bool) -> Verdict:
        """
        Ask of the volume as it is: the database, and the backups.

        Args:
            at: Where the power was cut.
            said: Whether the run had said by then that it succeeded.
        """
        verdict = Verdict(self.scene.name, KILLED, fired=True, at=at)
        try:
            self._ask_database(verdict)
            self._ask_backups(verdict)
            self._ask_way_back(verdict)
        except _ERRORS as error:
            verdict.problems.append(f"{type(error).__name__}: {error}")
        if said and verdict.state != self.stands_for and not verdict.problems:
            verdict.problems.append(f"success was said, and the database is {verdict.state}")
        return verdict

    def go_on(self, at: str) -> Verdict:
        """Ask what the next start makes of the volume as it is."""
        verdict = Verdict(self.scene.name, KILLED, fired=True, at=at)
        self._there = {"app.db-wal"} & set(os.listdir(self.volume))
        try:
            self._next(verdict, KILLED)
        except HungError:
            verdict.problems.append("hung")
        except _ERRORS as error:
            verdict.problems.append(f"{type(error).__name__}: {error}")
        return verdict

    def _ask_way_back(self, verdict: Verdict) -> None:
        """Where the database is new, the backup of the old one is there."""
        if not self._saves or verdict.state != "new":
            return
        saved = self._finished(self.volume).values()
        if self.old.digest not in {each.digest for each in saved}:
            verdict.problems.append("the database is new, and there is no backup of the old one")

    def _allowed(self, fault: Fault, log: str) -> set[str]:
        # SQLite does not make it durable that a `-wal` is gone, and takes it as it is. A
        # `-shm` that stays holds nothing: whoever opens the database first makes it anew.
        return super()._allowed(fault, log) | self._there | {"app.db-shm"}
