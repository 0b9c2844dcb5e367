"""A scene whose operations are recorded, and the states in which a power cut may leave it."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults.contents import State as Contents
from tests.faults.harness import Verdict
from tests.faults.launching import Done
from tests.faults.scenes import SCENES, fresh
from tests.powercut.disk import SHARED_MEMORY, Disk, State
from tests.powercut.outcomes import outcomes
from tests.powercut.questions import Afterwards
from tests.powercut.recording import Operation, Recorder
from tests.support.processes import PACKAGES

DATABASE = frozenset({"app.db", "app.db-wal", "app.db-journal", "app.db-shm"})
Given = TypeVar("Given")
_ORDER = re.compile(rb'"(since|run_id|created_at)": "[^"]*"')


@dataclass(frozen=True, slots=True)
class Cut:
    """
    One state in which the volume may be found.

    Args:
        after: The number of operations before the cut.
        what: The last of them, and what of the pending changes got through.
        said: Whether the run had said by then that it succeeded.
        state: What is found.
    """

    after: int
    what: str
    said: bool
    state: State


class Scenery(Afterwards):
    """
    A scene whose operations are recorded, and the four questions about its states.

    What depends only on the database's files, or only on the backups, is asked
    once for each content of theirs.
    """

    def __init__(
        self, name: str, directory: Path, library: Path, packages: Path = PACKAGES
    ) -> None:
        self._cut: State | None = None
        self._databases: dict[bytes, Contents | Exception] = {}
        self._backups: dict[bytes, dict[str, Contents] | Exception] = {}
        directory.mkdir(parents=True)
        self.recorder = Recorder(library, directory, directory / "stage/data")
        self.env = self.recorder.env
        super().__init__(SCENES[name], directory / "stage", library, packages)

    # -- the recording -------------------------------------------------------------------

    def use(self, packages: Path) -> None:
        """Record other packages; what is new stays."""
        self.packages = packages
        self.rehearse()

    def rehearse(self) -> Done:
        """Record a run that nothing disturbs."""
        fresh(self._template, self.volume)
        self.stands_for = "old" if self.scene.only_saves else "new"
        return self._record(self.scene.command)

    def start_from(self, cut: Cut) -> None:
        """Record the next start from one of the states, for its power to be cut in turn."""
        cut.state.write(self.volume)
        self.stands_for = "old" if self.scene.turns_back or self.scene.only_saves else "new"
        self._record(self.scene.next_command)

    def _record(self, command: Sequence[str]) -> Done:
        self.recorder.clear()
        self._before = Disk.of(self.volume, self.scene.name)
        done = self._run(command, faulty=True)
        self.operations = self.recorder.operations()
        assert any(map(_says_success, self.operations)) == (done.code == 0)
        self._complete()
        return done

    def _complete(self) -> None:
        """See to it that the operations lead to the very files that are there."""
        disk = self._before.copy()
        for operation in self.operations:
            disk.apply(operation)
        found, there = disk.state(disk.pending), Disk.of(self.volume, "").state([])
        assert _without_shared_memory(found) == _without_shared_memory(there)

    # -- the states ----------------------------------------------------------------------

    def cuts(self, chance: random.Random, subsets: int, most: int) -> Iterator[Cut]:
        """Yield each distinct state once, before and after the word of success."""
        disk, said, seen = self._before.copy(), False, set()
        for after in range(len(self.operations) + 1):
            what = "the start"
            if after:
                operation = self.operations[after - 1]
                what = str(operation)
                disk.apply(operation)
                said = said or _says_success(operation)
            for name, changes in outcomes(disk, chance, subsets, most):
                state = disk.state(changes)
                key = said, state.digest()
                if key not in seen:
                    seen.add(key)
                    yield Cut(after, f"{what}: {name}", said, state)

    # -- the questions -------------------------------------------------------------------

    def ask(self, cut: Cut) -> Verdict:
        """Ask what needs no start: the database, and the backups."""
        self._cut = cut.state
        try:
            return self.judge(cut.what, said=cut.said)
        finally:
            self._cut = None

    def start(self, cut: Cut) -> Verdict:
        """Ask what the next start makes of it."""
        cut.state.write(self.volume)
        return self.go_on(cut.what)

    def kind(self, cut: Cut, verdict: Verdict) -> bytes:
        """
        Return what a start may act upon: states of one kind differ only in what it does not.

        Which database it is and how it has to be recovered, what the run had
        noted, which files there are, and which backups are sound.
        """
        files = cut.state.files
        kind = [
            (path, _sort(path, data), path in cut.state.links)
            for path, (_, data) in sorted(files.items())
            if not path.endswith(SHARED_MEMORY)
        ]
        return hashlib.sha256(repr((verdict.state, kind)).encode()).digest()

    def _look(self, volume: Path) -> Contents:
        if self._cut is None or volume != self.volume:
            return super()._look(volume)
        found = self._cut.only(DATABASE.__contains__)
        key = found.only(lambda path: not path.endswith(SHARED_MEMORY)).digest()
        if key not in self._databases:
            found.write(self.volume)
            try:
                self._databases[key] = super()._look(volume)
            except (sqlite3.Error, OSError) as error:
                self._databases[key] = error
        return _given(self._databases[key])

    def _finished(self, volume: Path) -> dict[str, Contents]:
        if self._cut is None or volume != self.volume:
            return super()._finished(volume)
        found = self._cut.only(lambda path: path.startswith("backups"))
        key = found.digest()
        if key not in self._backups:
            found.write(self.volume)
            try:
                self._backups[key] = super()._finished(volume)
            except (sqlite3.Error, OSError, ValueError) as error:
                self._backups[key] = error
        return _given(self._backups[key])


def _given(answer: Given | Exception) -> Given:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _without_shared_memory(state: State) -> Mapping[str, object]:
    return {
        path: found for path, found in state.files.items() if not path.endswith(SHARED_MEMORY)
    } | state.directories


def _says_success(operation: Operation) -> bool:
    if operation.name != "said":
        return False
    events = [json.loads(line) for line in operation.data.splitlines()]
    return any(e["event"] == "run.finished" and e["exit_code"] == 0 for e in events)


def _sort(path: str, data: bytes) -> object:
    """Return what a start can tell of a file."""
    if path.endswith((".json", ".json.tmp")):
        return _ORDER.sub(b"", data)
    if path in DATABASE:
        # Empty or not, a database or not, a hot journal or not, and in a database its mode.
        return len(data) == 0, data[:8], data[18:20] if path == "app.db" else b""
    if path.startswith("backups/") and not path.startswith("backups/."):
        return hashlib.sha256(data).digest()
    return len(data) == 0
