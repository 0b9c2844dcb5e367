"""The checks on a database's place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrypoint.volume import checks, mounts
from migrator import access
from migrator.database import lock_selftest
from migrator.errors import (
    DamagedError,
    DiskError,
    MigratorError,
    NoPermissionError,
    NotReadyError,
)
from migrator.inspect.location import orphaned_files
from migrator.wait import NotYetError
from tests.support.files import describe
from tests.support.processes import clean_environment

ANONYMOUS = "/var/lib/docker/volumes/" + "ab" * 32 + "/_data"


class Log:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Keep one event."""
        self.events.append({"event": event, "level": level, "message": message, **fields})


@pytest.fixture
def log() -> Log:
    """Return a log without lines."""
    return Log()


@pytest.fixture
def mounted(volume: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what plays the kernel: a container with one mount on the volume, or none."""

    def mount(line: str | None, *, point: Path = volume) -> None:
        text = "20 1 0:40 / / rw - overlay overlay rw\n"
        if line is not None:
            text += line.format(point=point) + "\n"
        monkeypatch.setattr(mounts, "read", lambda: mounts.parse(text))

    return mount


def look(database: Path, log: Log, policy: str = "require", **others: Any) -> None:
    """Look at a place as in a container."""
    settings: dict[str, Any] = {"create": "auto", "container": True, **others}
    checks.inspect(database, database.parent / "backups", mount_policy=policy, emit=log, **settings)


def listing(directory: Path) -> list[tuple[str, int, int, int]]:
    """Return all that a look could have changed."""
    found = sorted(directory.rglob("*"))
    return [(str(p), p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_size) for p in found]


# --- Looking ---


def test_looking_changes_nothing(database: Path, log: Log) -> None:
    """A look at a good place creates and writes nothing."""
    before = listing(database.parent)

    look(database, log, "ignore")

    assert listing(database.parent) == before


def test_an_empty_place_is_a_first_install(volume: Path, log: Log) -> None:
    """Where nothing was ever, a missing database is no error, and none is made."""
    look(volume / "app.db", log, "ignore")

    assert listing(volume) == []


def test_zero_bytes_are_a_database(volume: Path, log: Log) -> None:
    """An empty file is a valid empty database."""
    (volume / "app.db").touch()

    look(volume / "app.db", log, "ignore", create="never")

    assert log.events == []


# --- What the mount says ---


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (None, "container-layer"),
        ("21 20 0:9 / {point} rw - tmpfs tmpfs rw", "tmpfs"),
        ("21 20 0:9 / {point} rw - ramfs ramfs rw", "tmpfs"),
        (f"21 20 8:1 {ANONYMOUS} {{point}} rw master:1 - ext4 /dev/sda1 rw", "anonymous"),
    ],
)
def test_a_required_volume_that_is_none_is_refused(
    volume: Path, mounted: Callable[..., None], log: Log, line: str | None, kind: str
) -> None:
    """`require` refuses, at once and with the way to a volume, what goes with the container."""
    mounted(line)

    with pytest.raises(NotReadyError) as caught:
        look(volume / "app.db", log)

    assert not isinstance(caught.value, NotYetError)
    assert (caught.value.exit_code, caught.value.reason) == (69, "volume.not_mounted")
    assert caught.value.retryable is False
    assert str(volume) in caught.value.message
    assert f"-v NAME:{volume}" in caught.value.hint
    (event,) = log.events
    assert (event["event"], event["level"]) == ("volume.not_mounted", "error")
    assert event["kind"] == kind


@pytest.mark.parametrize("line", [None, "21 20 0:9 / {point} rw - tmpfs tmpfs rw"])
def test_with_warn_it_is_only_said(
    volume: Path, mounted: Callable[..., None], log: Log, line: str | None
) -> None:
    """`warn` goes on and says once what the place is."""
    mounted(line)

    look(volume / "app.db", log, "warn")

    assert [(e["event"], e["level"]) for e in log.events] == [("volume.not_mounted", "warning")]


def test_with_ignore_nothing_is_said(volume: Path, mounted: Callable[..., None], log: Log) -> None:
    """`ignore` says nothing of a tmpfs."""
    mounted("21 20 0:9 / {point} rw - tmpfs tmpfs rw")

    look(volume / "app.db", log, "ignore")

    assert log.events == []


@pytest.mark.parametrize("policy", ["require", "warn", "ignore"])
def test_on_a_host_nothing_is_said_of_mounts(
    volume: Path, mounted: Callable[..., None], log: Log, policy: str
) -> None:
    """Outside of a container a tmpfs is the operator's choice."""
    mounted("21 20 0:9 / {point} rw - tmpfs tmpfs rw")

    look(volume / "app.db", log, policy, container=False)

    assert log.events == []


def test_a_later_start_on_an_anonymous_volume_is_warned_about(
    database: Path, mounted: Callable[..., None], log: Log
) -> None:
    """The data is there, so the start goes on, and the warning says what the volume is."""
    mounted(f"21 20 8:1 {ANONYMOUS} {{point}} rw master:1 - ext4 /dev/sda1 rw")

    look(database, log)

    (event,) = log.events
    assert (event["event"], event["level"]) == ("volume.not_mounted", "warning")
    assert "anonymous volume abababababab" in event["message"]


def test_an_empty_dir_is_warned_about(volume: Path, mounted: Callable[..., None], log: Log) -> None:
    """A Pod's own directory is accepted with a warning, whatever is required."""
    mounted("21 20 8:1 /pods/1/volumes/kubernetes.io~empty-dir/d {point} rw - ext4 /dev/sda1 rw")

    look(volume / "app.db", log)

    (event,) = log.events
    assert (event["event"], event["reason"]) == ("volume.warning", "volume.empty_dir")


def test_a_named_volume_is_right(volume: Path, mounted: Callable[..., None], log: Log) -> None:
    """A named volume on a local file system is what is wanted: nothing is said."""
    mounted("21 20 8:1 /volumes/data/_data {point} rw master:1 - ext4 /dev/sda1 rw")

    look(volume / "app.db", log)

    assert log.events == []


@pytest.mark.parametrize(("tags", "waits"), [("master:5 ", True), ("shared:5 ", True), ("", False)])
def test_a_missing_mount_is_waited_for_only_where_it_can_arrive(
    volume: Path, mounted: Callable[..., None], log: Log, tags: str, waits: bool
) -> None:
    """Below a mount that receives others from outside the volume may come; elsewhere never."""
    mounted(f"21 20 0:9 / {{point}} rw {tags}- tmpfs tmpfs rw", point=volume.parent)

    with pytest.raises(NotReadyError) as caught:
        look(volume / "app.db", log)

    assert isinstance(caught.value, NotYetError) is waits
    assert [event["event"] for event in log.events] == ([] if waits else ["volume.not_mounted"])
    if isinstance(caught.value, NotYetError):
        assert caught.value.event == "volume.not_mounted"


@pytest.mark.parametrize(
    "line",
    [
        "21 20 0:9 / {point} rw - 9p host rw",
        "21 20 0:9 / {point} rw - nfs s:/e rw,vers=3,nolock",
        "21 20 0:9 / {point} rw - nfs s:/e rw,local_lock=all",
        "21 20 0:9 / {point} rw - nfs s:/e rw,local_lock=posix",
        "21 20 0:9 / {point} rw - cifs //s/e rw,nobrl",
    ],
)
@pytest.mark.parametrize("policy", ["require", "warn", "ignore"])
@pytest.mark.parametrize("container", [True, False])
def test_a_file_system_without_locks_is_refused(
    database: Path,
    mounted: Callable[..., None],
    log: Log,
    line: str,
    policy: str,
    container: bool,
) -> None:
    """Without locks no policy helps, in a container or not."""
    mounted(line)

    with pytest.raises(NotReadyError, match="locks do not work") as caught:
        look(database, log, policy, container=container)

    assert (caught.value.reason, caught.value.retryable) == ("volume.no_locks", False)
    assert not isinstance(caught.value, NotYetError)


@pytest.mark.parametrize(
    "fstype",
    ["nfs4", "cifs", "smb3", "ceph", "virtiofs", "fuse.sshfs", "fuseblk", "overlay", "vfat"],
)
def test_a_doubtful_file_system_is_warned_about(
    database: Path, mounted: Callable[..., None], log: Log, fstype: str
) -> None:
    """Where locks or fsync are not always reliable, the start goes on with a warning."""
    mounted(f"21 20 0:9 / {{point}} rw,local_lock=none - {fstype} s:/e rw")

    look(database, log)

    (event,) = log.events
    assert (event["event"], event["level"]) == ("volume.warning", "warning")
    assert event["fstype"] == fstype


def test_the_containers_own_layer_is_warned_about_once(
    database: Path, mounted: Callable[..., None], log: Log
) -> None:
    """An overlay root is said to be the container's layer, and not an overlay as well."""
    mounted(None)

    look(database, log, "warn")

    assert [event["event"] for event in log.events] == ["volume.not_mounted"]


# --- What stands at the path ---


def test_a_missing_directory_is_waited_for(tmp_path: Path, log: Log) -> None:
    """It may still be mounted or made; it is not made by looking."""
    with pytest.raises(NotYetError, match="does not exist") as caught:
        look(tmp_path / "later" / "app.db", log, "ignore")

    assert (caught.value.exit_code, caught.value.reason) == (69, "volume.directory_missing")
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_on_the_way_cannot_pass(tmp_path: Path, log: Log, name: str) -> None:
    """Where a part of the path is a file, no wait helps."""
    (tmp_path / "file").touch()

    with pytest.raises(NotReadyError) as caught:
        look(tmp_path / name / "app.db", log, "ignore")

    assert not isinstance(caught.value, NotYetError)
    assert caught.value.reason == "volume.no_directory"


def test_a_directory_in_place_of_the_database_is_65(volume: Path, log: Log) -> None:
    """A directory is no database."""
    (volume / "app.db").mkdir()

    with pytest.raises(DamagedError, match="is a directory") as caught:
        look(volume / "app.db", log, "ignore")

    assert (caught.value.exit_code, caught.value.reason) == (65, "database.is_directory")


def _make_fifo(path: Path) -> None:
    os.mkfifo(path)


def _make_socket(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            # A path in a socket's address is at most 107 bytes long.
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def _make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("make", "what"),
    [(_make_fifo, "named pipe"), (_make_socket, "socket"), (_make_link_to_device, "device")],
)
def test_no_regular_file_is_65(
    volume: Path, log: Log, make: Callable[[Path], None], what: str
) -> None:
    """A pipe, a socket or a device is no database, and is not opened to find out."""
    make(volume / "app.db")

    with pytest.raises(DamagedError, match=what):
        look(volume / "app.db", log, "ignore")


def test_more_than_one_hard_link_is_69(database: Path, log: Log) -> None:
    """SQLite's journal has one name, so the database must have one."""
    os.link(database, database.parent / "other.db")

    with pytest.raises(NotReadyError, match="2 hard links") as caught:
        look(database, log, "ignore")

    assert not isinstance(caught.value, NotYetError)
    assert caught.value.reason == "database.hard_links"


def test_a_link_of_an_interrupted_first_install_is_ours(database: Path, log: Log) -> None:
    """A first install that was cut off leaves a second name in our directory, to be settled."""
    ours = database.parent / "app.db.migrator"
    ours.mkdir()
    os.link(database, ours / "new.db")

    look(database, log, "ignore")

    assert log.events == []


def test_a_single_file_mount_is_69(database: Path, mounted: Callable[..., None], log: Log) -> None:
    """A database that is mounted alone has its journal in another place."""
    mounted("21 20 8:1 /srv/app.db {point} rw - ext4 /dev/sda1 rw", point=database)

    with pytest.raises(NotReadyError, match="single file") as caught:
        look(database, log, "ignore")

    assert (caught.value.reason, caught.value.retryable) == ("volume.single_file", False)
    assert f"-v DIRECTORY:{database.parent}" in caught.value.hint


def test_a_directory_that_docker_made_is_explained(
    volume: Path, mounted: Callable[..., None], log: Log
) -> None:
    """Docker mounts a new directory where the file to be mounted does not exist."""
    (volume / "app.db").mkdir()
    mounted("21 20 8:1 /srv/app.db {point} rw - ext4 /dev/sda1 rw", point=volume / "app.db")

    with pytest.raises(NotReadyError, match="Docker makes one") as caught:
        look(volume / "app.db", log, "ignore")

    assert caught.value.reason == "volume.single_file"


# --- A missing database ---


def test_with_create_never_a_missing_database_is_waited_for(volume: Path, log: Log) -> None:
    """`--create never` means that the database comes from elsewhere."""
    with pytest.raises(NotYetError, match="--create never") as caught:
        look(volume / "app.db", log, "ignore", create="never")

    assert (caught.value.exit_code, caught.value.reason) == (69, "database.missing")
    assert listing(volume) == []


@pytest.mark.parametrize(
    "name", ["app.db-wal", "app.db-journal", "backups/app.db-000001-20250101T000000Z.db"]
)
def test_what_a_database_leaves_behind_is_no_first_install(
    volume: Path, log: Log, name: str
) -> None:
    """A sidecar or a backup without its database is waited for, then 69."""
    (volume / "backups").mkdir()
    (volume / name).touch()
    describe(volume / name, volume / "app.db")

    with pytest.raises(NotYetError, match="not a first install") as caught:
        look(volume / "app.db", log, "ignore")

    assert caught.value.exit_code == 69
    assert caught.value.data == {"found": [str(volume / name)]}


@pytest.mark.parametrize(
    "name",
    [
        "app.db-shm",
        "other.db-wal",
        "backups/other.db-000001-x.db",
        "backups/.app.db-000001-x.db.partial",
        "backups/app.db-old.db",
        "backups/.gitignore",
    ],
)
def test_other_files_do_not_stand_in_the_way(volume: Path, log: Log, name: str) -> None:
    """What is another database's, unfinished or somebody's own says nothing."""
    (volume / "backups").mkdir()
    (volume / name).touch()

    look(volume / "app.db", log, "ignore")

    assert log.events == []


def test_an_unfinished_run_explains_a_missing_database(volume: Path, log: Log) -> None:
    """An interrupted restore may have left backups alone; it is settled, not waited for."""
    (volume / "app.db-wal").touch()

    look(volume / "app.db", log, "ignore", unfinished=True, create="never")

    assert log.events == []


@pytest.mark.parametrize(
    ("named", "counts"), [("/data/a/app.db", True), ("/data/b/app.db", False), (None, False)]
)
def test_in_a_shared_backup_directory_the_path_decides(
    tmp_path: Path, named: str | None, counts: bool
) -> None:
    """Of two databases of one name each backup names its own; a file alone is no backup."""
    backup = tmp_path / "app.db-000001-x.db"
    backup.touch()
    if named is not None:
        describe(backup, Path(named))

    found = orphaned_files(Path("/data/a/app.db"), tmp_path)

    assert found == ((backup,) if counts else ())


def test_beside_the_database_the_name_decides(volume: Path) -> None:
    """A volume may be mounted at another path each time; its backups stay its own."""
    backup = volume / "backups" / "app.db-000001-x.db"
    backup.parent.mkdir()
    backup.touch()
    describe(backup, Path("/elsewhere/app.db"))

    assert orphaned_files(volume / "app.db", volume / "backups") == (backup,)


# --- What the system says ---


@pytest.mark.parametrize(
    ("number", "waits", "kind", "reason"),
    [
        (errno.ESTALE, True, NotReadyError, "volume.stale"),
        (errno.ENOTCONN, True, NotReadyError, "volume.stale"),
        (errno.EACCES, True, NoPermissionError, "database.permission"),
        (errno.EIO, False, DiskError, "disk.failed"),
        (errno.ELOOP, False, NotReadyError, "volume.unusable"),
        (errno.ENAMETOOLONG, False, NotReadyError, "volume.unusable"),
    ],
)
def test_what_the_system_says_is_told_apart(
    database: Path,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    waits: bool,
    kind: type[MigratorError],
    reason: str,
) -> None:
    """A stale handle or a missing permission may pass; a failing disk and a bad path do not."""

    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(checks, "check_directory", fail)

    with pytest.raises(MigratorError) as caught:
        look(database, log, "ignore")

    error = caught.value.cause if isinstance(caught.value, NotYetError) else caught.value
    assert (isinstance(caught.value, NotYetError), error.reason) == (waits, reason)
    assert type(error) is kind


def test_files_are_looked_at_as_the_runs_user(database: Path, log: Log) -> None:
    """The looks at files, and only they, happen inside `as_user`."""
    steps: list[str] = []

    @contextlib.contextmanager
    def as_user() -> Iterator[None]:
        steps.append("in")
        yield
        steps.append("out")

    look(database, log, "ignore", as_user=as_user)

    assert steps == ["in", "out"]


# --- Permissions ---


def as_user(code: str, *args: object, uid: int = 12345, groups: str = "[]") -> dict[str, Any]:
    """Run code as another user in a process of its own; `error` is what it raised."""
    script = f"""
import json, os, pwd, sys
from pathlib import Path
from entrypoint.volume import checks
from migrator import access; from migrator import wait
from migrator.errors import MigratorError
database = Path(sys.argv[1])
os.setgroups({groups}); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})
result = {{}}
try:
    {code}
except MigratorError as error:
    result = {{
        "kind": type(getattr(error, "cause", error)).__name__,
        "waits": isinstance(error, wait.NotYetError),
        "code": error.exit_code,
        "reason": error.reason,
        "message": error.message,
        "hint": error.hint,
    }}
print(json.dumps(result))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


READ = "access.require_readable(database)"
WRITE = "access.require_writable(database)"


@pytest.fixture
def owned(open_path: Path, as_root: None) -> Path:
    """Return a database that belongs, with its directory, to user 12345."""
    directory = open_path / "data"
    directory.mkdir()
    path = directory / "app.db"
    path.touch(0o600)
    for each in (directory, path):
        os.chown(each, 12345, 12345)
    return path


@pytest.mark.root
def test_the_owner_may_do_all(owned: Path) -> None:
    """The owner of file and directory passes both questions."""
    assert as_user(READ, owned) == {}
    assert as_user(WRITE, owned) == {}


@pytest.mark.root
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_sidecar_of_another_user_is_77(owned: Path, suffix: str) -> None:
    """What belongs to root can be read and not written, and each file is asked."""
    path = Path(f"{owned}{suffix}")
    path.touch()
    os.chown(path, 0, 0)
    path.chmod(0o644)

    assert as_user(READ, owned) == {}
    found = as_user(WRITE, owned)

    assert (found["code"], found["reason"], found["waits"]) == (77, "database.permission", False)
    assert repr(str(path)) in found["message"]
    assert "12345:12345" in found["message"]
    assert "belongs to 0:0 with mode 0644" in found["message"]
    assert "PUID=12345" in found["hint"]
    assert f"chown 12345:12345 {path}" in found["hint"]


@pytest.mark.root
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_may_not_be_read_is_77(owned: Path, suffix: str) -> None:
    """A database or a sidecar that cannot be read stops the look itself."""
    path = Path(f"{owned}{suffix}")
    path.touch()
    os.chown(path, 4321, 4322)
    path.chmod(0o600)

    found = as_user(READ, owned)

    assert (found["code"], found["waits"]) == (77, False)
    assert "4321:4322 with mode 0600" in found["message"]
    assert "--user 4321:4322" in found["hint"]
    assert 'user: "4321:4322"' in found["hint"]


@pytest.mark.root
def test_a_directory_that_is_not_writable_yet_is_waited_for(owned: Path) -> None:
    """Somebody may still hand it over; the end of the wait is 77."""
    os.chown(owned.parent, 0, 0)

    assert as_user(READ, owned) == {}
    found = as_user(WRITE, owned)

    assert (found["code"], found["waits"], found["kind"]) == (77, True, "NoPermissionError")
    assert repr(str(owned.parent)) in found["message"]


@pytest.mark.root
def test_a_closed_directory_is_waited_for(owned: Path) -> None:
    """A directory that cannot even be searched is named with its owner, and ends in 77."""
    os.chown(owned.parent, 4321, 4321)
    owned.parent.chmod(0o700)
    code = (
        "checks.inspect(database, database.parent / 'backups', create='auto',"
        " mount_policy='ignore', container=False, emit=lambda *a, **k: None)"
    )

    found = as_user(code, owned)

    assert (found["code"], found["waits"], found["kind"]) == (77, True, "NoPermissionError")
    assert f"{str(owned.parent)!r} belongs to 4321:4321 with mode 0700" in found["message"]


@pytest.mark.root
def test_a_group_is_enough(owned: Path) -> None:
    """Access is asked of the kernel, so that a group's rights count as the owner's do."""
    for path, mode in ((owned.parent, 0o770), (owned, 0o660)):
        os.chown(path, 4321, 2000)
        path.chmod(mode)

    assert as_user(WRITE, owned, groups="[2000]") == {}
    assert as_user(READ, owned)["code"] == 77


def test_the_own_file_with_a_narrow_mode_is_explained(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the owner is right and the mode is not, the hint is a chmod."""
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)

    with pytest.raises(NoPermissionError) as caught:
        access.require_readable(database)

    assert "chmod u+rw" in caught.value.hint


@pytest.mark.parametrize("ask", [access.require_readable, access.require_writable])
def test_a_journal_that_has_just_gone_is_refused_to_nobody(
    ask: Callable[[Path], None], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application deletes its journal between the look for it and the question."""
    database.touch()
    journal = Path(f"{database}-journal")
    journal.touch()
    access_of_system = os.access

    def deleted_first(path: Path, *args: Any, **kwargs: Any) -> bool:
        if Path(path) == journal:
            journal.unlink()
        return access_of_system(path, *args, **kwargs)

    monkeypatch.setattr(os, "access", deleted_first)
    ask(database)
    assert not journal.exists()


# --- Real mounts ---


def unshared(script: str) -> list[str]:
    """Run a script in a mount namespace of its own and return the lines it printed."""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        env={**clean_environment(), "PYTHON": sys.executable},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


LOOK = """
"$PYTHON" - <<'END'
from pathlib import Path
from entrypoint.volume import checks, mounts
from migrator import access
from migrator.errors import MigratorError
database = Path("%s")
try:
    checks.inspect(
        database, database.parent / "backups", create="auto", mount_policy="require",
        container=True, emit=lambda event, message, **fields: print(event, fields["level"]),
    )
    print(mounts.classify(database, mounts.read()).kind)
    access.require_writable(database)
    print("writable")
except MigratorError as error:
    print(error.exit_code, error.reason)
END
"""


@pytest.mark.root
def test_a_real_read_only_volume_can_be_looked_at(database: Path, as_root: None) -> None:
    """Read-only is no reason to refuse a look, and 69 at once when something is to be written."""
    script = f"""
mount --bind {database.parent} {database.parent}
mount -o remount,ro,bind {database.parent}
{LOOK % database}"""

    assert unshared(script) == ["bind", "69 volume.read_only"]


@pytest.mark.root
def test_a_real_single_file_mount_is_refused(database: Path, as_root: None) -> None:
    """The kernel's list tells a file that is mounted alone, which stat does not."""
    script = f"""
touch {database.parent.parent}/alone
mount --bind {database.parent} {database.parent}
mount --bind {database.parent.parent}/alone {database}
{LOOK % database}"""

    assert unshared(script) == ["69 volume.single_file"]


@pytest.mark.root
def test_a_real_tmpfs_is_refused(volume: Path, as_root: None) -> None:
    """Memory is no volume."""
    script = f"mount -t tmpfs tmpfs {volume}\n{LOOK % (volume / 'app.db')}"

    assert unshared(script) == ["volume.not_mounted error", "69 volume.not_mounted"]


# --- Locks ---


def test_locks_that_work_pass_the_test(volume: Path) -> None:
    """Both kinds of lock keep others out, and the file stays empty."""
    (volume / "lock").touch()

    lock_selftest.lock_self_test(volume / "lock")

    assert (volume / "lock").read_bytes() == b""


def test_the_test_leaves_a_lock_that_is_held(volume: Path) -> None:
    """Tried while this program holds the lock, the test passes and the lock stays held."""
    path = volume / "lock"
    path.touch()
    with path.open("r+b") as held, path.open("r+b") as other:
        fcntl.flock(held, fcntl.LOCK_EX)
        lock_selftest.lock_self_test(path)

        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("broken", ["flock", "lockf"])
def test_locks_that_keep_nobody_out_are_found(
    volume: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A lock that everybody gets is none."""
    (volume / "lock").touch()
    monkeypatch.setattr(f"fcntl.{broken}", lambda *_args: None)

    with pytest.raises(NotReadyError, match="locks do not work") as caught:
        lock_selftest.lock_self_test(volume / "lock")

    assert caught.value.reason == "volume.no_locks"


def test_locks_that_the_system_refuses_are_found(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks answers with an error."""
    (volume / "lock").touch()

    def fail(*_args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fail)

    with pytest.raises(NotReadyError, match="No locks available"):
        lock_selftest.lock_self_test(volume / "lock")
