"""Started as root with `--run-as`: nothing outside of the volume is changed or shown."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.case import SECRET, words_of
from tests.corpus.entries import HOME, KINDS, OUTSIDE, places
from tests.corpus.place import BACKUPS, DATABASE, JOURNAL, WAL, lay, sound
from tests.corpus.runs import processes
from tests.faults.launching import Done
from tests.support.logs import parse_line

ATTACKER = (12345, 12345)
THEIRS = (54321, 54321)


@pytest.fixture
def place(open_path: Path, other_user: tuple[int, int]) -> Path:
    """Return a volume that the attacker owns, beside a file that is another user's, and root's."""
    base = lay({**sound("plain"), OUTSIDE: SECRET.encode()}, open_path / "place")
    os.mkfifo(base / "outside/pipe")
    (base / "outside/root").write_text(SECRET)
    os.chown(base / OUTSIDE, *THEIRS)
    for path in (base / OUTSIDE, base / "outside/root", base / "outside/pipe"):
        path.chmod(0o600)
    for path in (base / "data", *(base / "data").rglob("*")):
        os.chown(path, *ATTACKER)
    return base


def state_of(directory: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Return owner, mode, size and time of everything outside."""
    found = {}
    for path in (directory, *directory.rglob("*")):
        each = path.lstat()
        facts = each.st_uid, each.st_gid, each.st_mode, each.st_size, each.st_mtime_ns
        found[path.name] = facts
    return found


def start(base: Path, command: str = "entrypoint") -> Done:
    """Start as root, to go on as the attacker's user."""
    words = words_of(command, base)
    if command == "entrypoint":
        return processes()([*words, "--run-as", "12345:12345"])
    return processes()(["entrypoint", "--run-as", "12345:12345", "--", *words])


def assert_kept(base: Path, done: Done, before: dict[str, tuple[int, int, int, int, int]]) -> None:
    """Assert that what lies outside is as it was, and in nothing that was written or said."""
    assert state_of(base / "outside") == before
    assert SECRET not in done.stdout + done.stderr
    for path in (base / "data").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes()
    for line in done.stderr.splitlines():
        parse_line(line)


@pytest.mark.parametrize("what", [DATABASE, WAL, JOURNAL, HOME, f"{HOME}/lock", "data/backups"])
@pytest.mark.parametrize("target", ["root", "new", ""])
def test_a_link_leads_root_to_nothing(what: str, target: str, place: Path) -> None:
    """A link to a file of root's, a new one or their directory does nothing to it."""
    path = place / what
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(place / "outside" / target)
    os.lchown(path, *ATTACKER)
    before = state_of(place / "outside")

    done = start(place)

    assert_kept(place, done, before)
    assert done.code in {0, 65, 69, 73, 77}, done.stderr


def test_backups_that_a_link_leads_elsewhere_change_nothing_there(place: Path) -> None:
    """Where the run's user may write, they are made beside what lies there, and it stays."""
    shutil.rmtree(place / BACKUPS)
    (place / BACKUPS).symlink_to(place / "outside")
    os.lchown(place / BACKUPS, *ATTACKER)
    os.chown(place / "outside", *ATTACKER)
    before = state_of(place / "outside")

    done = start(place)

    after = state_of(place / "outside")
    made = {name for name in after if name.startswith("app.db-")}
    assert (done.code, len(made)) == (0, 2), done.stderr
    # The directory itself has another size and time.
    others = before.keys() - {"outside"}
    assert after.keys() == before.keys() | made
    assert {name: after[name] for name in others} == {name: before[name] for name in others}
    assert after["outside"][:3] == before["outside"][:3]


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a directory"])
@pytest.mark.parametrize("what", ["the lock", "the -wal", "a backup", "a backup's description"])
def test_no_other_thing_is_waited_for(kind: str, what: str, place: Path) -> None:
    """A pipe, a socket or a directory in a file's place ends the start, or is in nobody's way."""
    path = place / places(sound("plain"))[what]
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    KINDS[kind](path)
    for each in (path.parent, path):
        os.chown(each, *ATTACKER)
    before = state_of(place / "outside")

    done = start(place)

    assert_kept(place, done, before)
    assert done.code in {0, 69, 73}, done.stderr


@pytest.mark.parametrize("what", [f"{HOME}/lock", DATABASE, "data/backups", HOME])
def test_what_is_swapped_while_root_looks_leads_nowhere(what: str, place: Path) -> None:
    """A file that becomes a link and a file again, as fast as can be, gives nothing away."""
    before = state_of(place / "outside")
    target = place / "outside" if (place / what).is_dir() else place / "outside/root"
    if what.endswith("lock"):
        (place / what).parent.mkdir(exist_ok=True)
        (place / what).touch()
    os.chown(place / "data", 0, 0)

    with swapping(place / what, target):
        done = [start(place) for _ in range(4)]

    for each in done:
        assert_kept(place, each, before)
        assert each.code != 70, each.stderr


@contextlib.contextmanager
def swapping(path: Path, target: Path) -> Iterator[None]:
    """Within, a path is by turns what it was, and a link."""
    link, kept = path.with_name("the-link"), path.with_name("the-file")
    link.symlink_to(target)
    os.lchown(link, *ATTACKER)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                os.rename(path, kept)
                os.rename(link, path)
            with contextlib.suppress(OSError):
                os.rename(path, link)
                os.rename(kept, path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_hard_link_is_no_way_to_anothers_file(place: Path) -> None:
    """A file with a second name keeps its owner, whatever it is called."""
    os.link(place / "outside/root", place / WAL)
    before = state_of(place / "outside")

    done = start(place)

    assert state_of(place / "outside") == before
    assert SECRET not in done.stdout + done.stderr
    assert done.code in {65, 69, 77}, done.stderr


@pytest.mark.parametrize("command", ["restore", "verify", "backups", "status"])
def test_the_command_is_the_users_too(command: str, place: Path) -> None:
    """`migrator` behind the entrypoint has no more rights than the application."""
    description = next((place / "data/backups").glob("*.json"))
    description.unlink()
    description.symlink_to(place / "outside/root")
    before = state_of(place / "outside")

    done = start(place, command)

    assert_kept(place, done, before)
