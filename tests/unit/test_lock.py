"""One run at a time: a kernel lock that dies with its holders and is never written to."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrator.database import lock, run_state
from migrator.database.lock import RunLock
from migrator.database.lock_probe import probe
from migrator.database.run_state import RunState
from migrator.database.workspace import Layout, make_home
from migrator.errors import LockedError, NoPermissionError, NotReadyError
from migrator.files import Ownership
from migrator.model import Settings
from tests.support.files import listing
from tests.support.recorder import Recorder, in_child, read_only
from tests.support.waiting import until

OURS = Ownership(os.getuid(), os.getgid(), 0o600, 0o700)
OTHER = (12345, 12345)


@pytest.fixture
def layout(database: Path) -> Layout:
    """Return the paths of the small database."""
    return Layout.of(Settings(database))


@contextmanager
def holder(layout: Layout, seconds: float = 60) -> Iterator[int]:
    """Hold the lock in another process until it is killed or the time is over."""
    pid = os.fork()
    if pid == 0:
        try:
            RunLock.acquire(layout, 0, Recorder())
            time.sleep(seconds)
        finally:
            os._exit(0)
    until(lambda: probe(layout.lock), "the other process never got the lock")
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Clock:
    """What the lock asks of `time`, where a pause costs none."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        """Return how long the pauses were together, in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Note a pause."""
        self.pauses.append(seconds)
        self.now += seconds


def pass_time_at_once(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have a pause cost no time, for who waits for the lock."""
    clock = Clock()
    monkeypatch.setattr(lock, "time", clock)
    monkeypatch.setattr("tenacity.nap.time", clock)
    return clock


def descriptors() -> int:
    """Count what this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_the_lock_is_an_empty_private_file(layout: Layout) -> None:
    """Taking the lock makes our directory and an empty file, which stays when it is released."""
    emit = Recorder()
    held = RunLock.acquire(layout, 0, emit)
    assert emit.names == ["lock.acquired"]
    held.release()
    found = layout.lock.stat()
    assert (found.st_size, found.st_mode & 0o777) == (0, 0o600)
    assert layout.home.stat().st_mode & 0o777 == 0o700


def test_the_second_run_is_refused_at_the_end_of_its_time(layout: Layout) -> None:
    """With a timeout of 0 one looks once: 75, retryable, at once."""
    with holder(layout), pytest.raises(LockedError, match="still held the lock") as caught:
        RunLock.acquire(layout, 0, Recorder())
    assert (caught.value.exit_code, caught.value.retryable) == (75, True)


def test_the_refusal_says_who_holds_it(layout: Layout) -> None:
    """What the holder has noted about itself is in the message."""
    with holder(layout):
        noted = RunState("01JX", "migrate", "2026-01-31T12:00:00Z", "up")
        run_state.write(layout.state, noted, OURS)
        with pytest.raises(LockedError, match="01JX, migrate since 2026-01-31T12:00:00Z"):
            RunLock.acquire(layout, 0, Recorder())


def test_a_state_that_cannot_be_read_hides_no_refusal(layout: Layout) -> None:
    """Whatever state.json holds, the lock's answer is about the lock."""
    with holder(layout):
        layout.state.write_text("garbage")
        with pytest.raises(LockedError):
            RunLock.acquire(layout, 0, Recorder())


def test_a_waiting_run_gets_it_as_soon_as_it_is_free(layout: Layout) -> None:
    """It says that it waits, and how long it took."""
    emit = Recorder()
    with holder(layout, seconds=0.5):
        held = RunLock.acquire(layout, 20, emit)
    held.release()
    assert emit.names == ["lock.waiting", "lock.acquired"]
    assert held.waited > 0
    assert emit.events[1]["seconds"] == round(held.waited, 3)


def test_the_wait_ends_in_time(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pauses together are as long as the time-out, and none begins after it."""
    clock = pass_time_at_once(monkeypatch)
    with holder(layout), pytest.raises(LockedError):
        RunLock.acquire(layout, 60, Recorder())
    assert clock.now == pytest.approx(60)
    assert max(clock.pauses) <= 1


def test_a_long_wait_is_said_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who reads the end of the log sees that the wait goes on."""
    pass_time_at_once(monkeypatch)
    emit = Recorder()
    with holder(layout), pytest.raises(LockedError):
        RunLock.acquire(layout, 3 * lock._SAY_AGAIN, emit)
    assert len(emit.named("lock.waiting")) == 3


class _StopError(Exception):
    """What a signal handler raises, as the entrypoint's does: no OSError."""


def test_a_signal_ends_the_wait(layout: Layout) -> None:
    """A handler that raises ends the wait within a pause, and nothing stays open."""
    before = descriptors()

    def handle(number: int, frame: object) -> None:
        raise _StopError

    old = signal.signal(signal.SIGALRM, handle)
    try:
        with holder(layout):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(_StopError):
                RunLock.acquire(layout, 600, Recorder())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert descriptors() == before


def test_a_killed_holder_leaves_it_free(layout: Layout) -> None:
    """The kernel gives the lock back: there is nothing to clean up and nothing expires."""
    with holder(layout) as pid:
        os.kill(pid, signal.SIGKILL)
        RunLock.acquire(layout, 20, Recorder()).release()


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_worker_shares_the_lock(layout: Layout, first: str) -> None:
    """It ends only when parent and worker have both ended, whoever goes first."""
    held = RunLock.acquire(layout, 0, Recorder())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
            held.release()
        finally:
            os._exit(0)
    os.close(reader)
    if first == "parent":
        held.release()
        assert probe(layout.lock)
        os.close(writer)
        os.waitpid(pid, 0)
    else:
        os.close(writer)
        os.waitpid(pid, 0)
        assert probe(layout.lock)
        held.release()
    assert not probe(layout.lock)


def test_exec_gives_it_back(layout: Layout) -> None:
    """The application does not inherit the lock, whatever it inherits."""
    held = RunLock.acquire(layout, 0, Recorder())
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
    )
    try:
        held.release()
        # The kernel closes descriptors one by one, and Popen returns at the first of them.
        until(lambda: not probe(layout.lock), "the program that was executed has the lock")
    finally:
        sleeper.communicate(b"\n")


def test_releasing_twice_closes_nothing_else(layout: Layout) -> None:
    """A number that somebody else has by then stays open."""
    held = RunLock.acquire(layout, 0, Recorder())
    held.release()
    with open(os.devnull) as other:
        held.release()
        os.fstat(other.fileno())


def test_somebody_who_only_looks_refuses_nobody(layout: Layout) -> None:
    """A probe holds a shared lock for a moment, which a run with a timeout of 0 outlasts."""
    make_home(layout)
    layout.lock.touch()
    with layout.lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.02, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        timer.start()
        emit = Recorder()
        RunLock.acquire(layout, 0, emit).release()
        timer.join()
    assert emit.names == ["lock.acquired"]


def test_a_lock_on_a_file_that_was_replaced_is_none(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the file must not make two holders: the name is looked at again."""
    real, calls = lock._lock, []

    def replaced(descriptor: int, layout: Layout) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            layout.lock.unlink()
        real(descriptor, layout)

    monkeypatch.setattr(lock, "_lock", replaced)
    held = RunLock.acquire(layout, 0, Recorder())
    assert len(calls) == 2
    assert os.fstat(held.descriptor).st_ino == layout.lock.stat().st_ino
    assert probe(layout.lock)
    held.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without a lock there is no run: 69, and waiting does not help."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = descriptors()
    with pytest.raises(NotReadyError, match="File locks do not work") as caught:
        RunLock.acquire(layout, 60, Recorder())
    assert (caught.value.reason, caught.value.retryable) == ("volume.no_locks", False)
    assert descriptors() == before
    assert not probe(layout.lock)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_regular_file_is_no_lock(layout: Layout, tmp_path: Path, kind: str) -> None:
    """A link, a pipe or a directory in the lock's place is 69, and not followed."""
    make_home(layout)
    if kind == "link":
        layout.lock.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(layout.lock)
    else:
        layout.lock.mkdir()
    before = descriptors()
    with pytest.raises(NotReadyError) as caught:
        RunLock.acquire(layout, 0, Recorder())
    assert caught.value.reason == "volume.unsafe_entry"
    assert not probe(layout.lock)
    assert not (tmp_path / "elsewhere").exists()
    assert descriptors() == before


def test_a_link_in_place_of_our_directory_is_refused(layout: Layout, tmp_path: Path) -> None:
    """No lock file is made wherever a link leads."""
    (tmp_path / "elsewhere").mkdir()
    layout.home.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotReadyError, match="a symbolic link"):
        RunLock.acquire(layout, 0, Recorder())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_permission_it_is_77(open_path: Path, as_root: None) -> None:
    """A directory that this user may not write to is said to be that."""
    (open_path / "app.db").touch()
    layout = Layout.of(Settings(open_path / "app.db"))

    def acquire() -> str:
        try:
            RunLock.acquire(layout, 0, Recorder())
        except NoPermissionError as error:
            return error.hint
        return ""

    assert "user 12345" in in_child(acquire, OTHER)


def test_looking_creates_nothing(layout: Layout) -> None:
    """A lock that does not exist is not held, and still does not exist."""
    before = listing(layout.database.parent)
    assert probe(layout.lock) is False
    assert listing(layout.database.parent) == before


def test_looking_writes_nothing(layout: Layout) -> None:
    """Whether the lock is held is seen without a trace, and without taking it."""
    RunLock.acquire(layout, 0, Recorder()).release()
    before = listing(layout.database.parent)
    assert probe(layout.lock) is False
    with holder(layout):
        assert probe(layout.lock) is True
    assert listing(layout.database.parent) == before


def test_a_look_through_a_read_only_mount_sees_the_holder(
    layout: Layout, tmp_path: Path, as_root: None
) -> None:
    """`status` works on a read-only volume."""
    with holder(layout), read_only(layout.database.parent, tmp_path / "ro") as shown:
        assert probe(shown / layout.home.name / "lock") is True


def test_a_look_without_permission_sees_nobody(open_path: Path, as_root: None) -> None:
    """Another user's look at a private directory is no error."""
    (open_path / "app.db").touch()
    layout = Layout.of(Settings(open_path / "app.db"))
    with holder(layout):
        assert in_child(lambda: probe(layout.lock), OTHER) is False


def test_of_many_that_want_it_one_has_it(layout: Layout) -> None:
    """Twenty processes take turns; no two of them are ever inside together."""
    inside = layout.database.with_name("inside")
    pids = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                held = RunLock.acquire(layout, 60, Recorder())
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                time.sleep(0.002)
                inside.unlink()
                held.release()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 20
