"""Where our files lie, whose they are, and that no link leads them elsewhere."""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator import files
from migrator.database.workspace import (
    Layout,
    clean_home,
    like_database,
    make_backup_dir,
    make_home,
)
from migrator.errors import (
    DiskError,
    MigratorError,
    NoPermissionError,
    NotReadyError,
)
from migrator.file_errors import refusal
from migrator.files import (
    Ownership,
    create_file,
    fsync_directory,
    make_directory,
    open_directory,
    remove,
    write_atomic,
)
from migrator.log.translate import of_system
from migrator.model import Settings
from tests.support.files import listing
from tests.support.recorder import in_child, read_only, small_disk

OTHER = (12345, 12345)
OURS = Ownership(os.getuid(), os.getgid(), 0o600, 0o700)


def mode(path: Path) -> int:
    """Return the permission bits of what a path names."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def layout(database: Path) -> Layout:
    """Return the paths of the small database."""
    return Layout.of(Settings(database))


def test_everything_lies_beside_the_resolved_database(database: Path, tmp_path: Path) -> None:
    """Two spellings of one database have one lock: links are resolved."""
    link = tmp_path / "link.db"
    link.symlink_to(database)
    layout = Layout.of(Settings(link))
    assert layout.database == database
    assert layout.home == database.with_name("app.db.migrator")
    assert [path.parent for path in (layout.lock, layout.state, layout.work, layout.new)] == [
        layout.home
    ] * 4
    assert layout.failed == layout.home / "failed"
    assert layout.temporary == layout.home
    assert layout.backup_dir == database.with_name("backups")


def test_a_relative_backup_directory_is_relative_to_the_working_directory(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative `--backup-dir` counts from where the command was given."""
    monkeypatch.chdir(tmp_path)
    assert Layout.of(Settings(database, backup_dir=Path("b"))).backup_dir == tmp_path / "b"


def test_naming_the_paths_creates_nothing(volume: Path) -> None:
    """Nothing is created by looking."""
    before = listing(volume)
    Layout.of(Settings(volume / "sub" / "app.db"))
    assert listing(volume) == before


def test_our_directory_is_private_and_out_of_a_checkout(layout: Layout) -> None:
    """Our directory is 0700, its files 0600, and git does not see it."""
    make_home(layout)
    assert mode(layout.home) == 0o700
    assert (layout.home / ".gitignore").read_text() == "*\n"
    assert mode(layout.home / ".gitignore") == 0o600


def test_a_directory_that_exists_is_taken_as_it_is(layout: Layout) -> None:
    """Wider modes set from outside are accepted and not changed."""
    layout.home.mkdir()
    layout.home.chmod(0o2775)
    make_home(layout)
    make_home(layout)
    assert mode(layout.home) == 0o2775


def put_link(path: Path, elsewhere: Path) -> None:
    """Put a symbolic link to a directory."""
    path.symlink_to(elsewhere)


def put_file(path: Path, elsewhere: Path) -> None:
    """Put a file; nothing is elsewhere."""
    path.touch()


def put_pipe(path: Path, elsewhere: Path) -> None:
    """Put a named pipe; nothing is elsewhere."""
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("put", "found"),
    [(put_link, "a symbolic link"), (put_file, "a file"), (put_pipe, "a named pipe")],
)
def test_what_stands_in_the_place_of_our_directory_is_refused(
    layout: Layout, tmp_path: Path, put: object, found: str
) -> None:
    """A link, a file or a pipe in our directory's place is 69 and not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert callable(put)
    put(layout.home, elsewhere)
    with pytest.raises(NotReadyError, match=found) as caught:
        make_home(layout)
    assert (caught.value.exit_code, caught.value.reason) == (69, "volume.unsafe_entry")
    assert caught.value.retryable is False
    assert list(elsewhere.iterdir()) == []


def test_no_link_above_a_file_is_followed_either(layout: Layout, tmp_path: Path) -> None:
    """A directory that became a link after it was resolved leads nowhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    layout.home.symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError):
        create_file(layout.lock, OURS)
    with pytest.raises(NotADirectoryError):
        write_atomic(layout.state, b"{}", OURS)
    assert not remove(layout.state)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("of_database", "of_file", "of_directory"),
    [
        (0o600, 0o600, 0o700),
        (0o640, 0o640, 0o750),
        (0o644, 0o644, 0o755),
        (0o664, 0o664, 0o775),
        (0o755, 0o644, 0o755),
    ],
)
def test_the_backup_directory_is_as_wide_as_the_database(
    layout: Layout, of_database: int, of_file: int, of_directory: int
) -> None:
    """Who may read the database may read its backups, and nobody else; whatever the umask."""
    layout.database.chmod(of_database)
    make_backup_dir(layout)
    assert mode(layout.backup_dir) == of_directory
    assert mode(layout.backup_dir / ".gitignore") == of_file


def test_missing_directories_above_the_backups_are_made(database: Path, volume: Path) -> None:
    """A `--backup-dir` several levels deep is made."""
    layout = Layout.of(Settings(database, backup_dir=volume / "a" / "b" / "c"))
    make_backup_dir(layout)
    assert (volume / "a" / "b" / "c" / ".gitignore").exists()


def test_an_operators_own_directory_gets_no_gitignore(database: Path, tmp_path: Path) -> None:
    """A directory with other things in it may be somebody's checkout."""
    (tmp_path / "main.py").touch()
    make_backup_dir(Layout.of(Settings(database, backup_dir=tmp_path)))
    assert not (tmp_path / ".gitignore").exists()


def test_backups_may_be_a_link_to_a_directory(database: Path, tmp_path: Path) -> None:
    """An operator may have moved the backups to another disk."""
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    database.with_name("backups").symlink_to(elsewhere)
    layout = Layout.of(Settings(database))
    make_backup_dir(layout)
    assert layout.backup_dir == elsewhere


def test_a_link_to_nowhere_makes_no_directory_there(database: Path, tmp_path: Path) -> None:
    """A dangling link in the backups' place is refused, not filled."""
    database.with_name("backups").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotReadyError, match="a symbolic link"):
        make_backup_dir(Layout.of(Settings(database)))
    assert not (tmp_path / "nowhere").exists()


def test_as_root_everything_gets_the_databases_owner(layout: Layout, as_root: None) -> None:
    """Started as root, also by `docker exec`, nothing is left that the app cannot use."""
    os.chown(layout.database, 12345, 23456)
    make_home(layout)
    make_backup_dir(layout)
    owner = like_database(layout)
    write_atomic(layout.state, b"{}", owner.private)
    os.close(create_file(layout.backup_dir / "x", owner))
    made = (layout.home, layout.state, layout.backup_dir, layout.backup_dir / "x")
    found = {(path.stat().st_uid, path.stat().st_gid) for path in made}
    assert found == {(12345, 23456)}
    assert mode(layout.state) == 0o600


def test_without_a_database_its_directory_is_the_model(volume: Path, as_root: None) -> None:
    """A first install as root belongs to whom the volume belongs."""
    os.chown(volume, 12345, 23456)
    volume.chmod(0o775)
    before = os.umask(0o027)
    try:
        found = like_database(Layout.of(Settings(volume / "app.db")))
    finally:
        os.umask(before)
    assert found == Ownership(12345, 23456, 0o640, 0o750)


def test_a_group_that_cannot_be_given_gets_no_rights(open_path: Path, as_root: None) -> None:
    """What the database's group may do must not pass to the group that we happen to have."""
    open_path.chmod(0o777)
    database = open_path / "app.db"
    database.touch()
    database.chmod(0o660)
    os.chown(database, OTHER[0], 54321)

    def create() -> int:
        own = like_database(Layout.of(Settings(database)))
        os.close(create_file(open_path / "ours", own))
        return mode(open_path / "ours")

    assert in_child(create, OTHER) == 0o600


def test_the_rights_of_an_access_list_are_not_taken_for_the_groups(layout: Layout) -> None:
    """Where a file has an access list, its group bits are the list's mask."""
    entries = [(0x01, 6), (0x02, 6), (0x04, 0), (0x10, 6), (0x20, 0)]
    names = {0x02: 12345}
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, rights, names.get(tag, 0xFFFFFFFF)) for tag, rights in entries
    )
    try:
        os.setxattr(layout.database, "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("needs access lists")
    assert mode(layout.database) == 0o660
    assert like_database(layout).file_mode == 0o600


def test_creating_never_replaces_or_follows(tmp_path: Path) -> None:
    """A file that is created was not there, not even as a link to nowhere."""
    (tmp_path / "there").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            create_file(tmp_path / name, OURS)
    assert (tmp_path / "there").read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_of_ours_is_closed_by_exec(tmp_path: Path) -> None:
    """No descriptor of ours reaches the application."""
    descriptor = create_file(tmp_path / "ours", OURS)
    assert os.get_inheritable(descriptor) is False
    os.close(descriptor)


def test_replacing_is_durable_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents are on disk before the name, and the name before the caller goes on."""
    order: list[str] = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)

        def spy(*args: object, _name: str = name, _real: object = real, **more: object) -> object:
            order.append(_name)
            assert callable(_real)
            return _real(*args, **more)

        monkeypatch.setattr(os, name, spy)
    write_atomic(tmp_path / "state", b"new", OURS)
    assert order == ["fsync", "rename", "fsync"]
    assert (tmp_path / "state").read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, as_root: None) -> None:
    """On a full disk the old contents stand, and nothing unfinished."""
    with small_disk(tmp_path / "disk", "64k") as disk:
        write_atomic(disk / "state", b"old", OURS)
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomic(disk / "state", bytes(1 << 20), OURS)
        assert caught.value.errno == errno.ENOSPC
        assert (disk / "state").read_bytes() == b"old"
        assert [path.name for path in disk.iterdir()] == ["state"]


def test_the_leftover_of_a_killed_writer_is_in_nobodys_way(tmp_path: Path) -> None:
    """An unfinished file of a writer that was killed is replaced."""
    (tmp_path / ".state.tmp").write_text("half")
    write_atomic(tmp_path / "state", b"new", OURS)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_writing_goes_on_after_a_short_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take fewer bytes than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    write_atomic(tmp_path / "state", b"0123456789", OURS)
    monkeypatch.undo()
    assert (tmp_path / "state").read_bytes() == b"0123456789"


def test_a_directory_that_cannot_be_fsynced_is_passed_over(open_path: Path, as_root: None) -> None:
    """A directory may be writable and not readable; SQLite goes on there as well."""
    inner = open_path / "inner"
    inner.mkdir()
    os.chown(inner, *OTHER)
    inner.chmod(0o300)
    in_child(lambda: fsync_directory(inner), OTHER)


def test_a_failing_disk_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error while a name is made durable is an error."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        fsync_directory(tmp_path)


def test_a_file_system_without_owners_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On vfat and some network file systems owner and mode cannot be given."""

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    os.close(create_file(tmp_path / "ours", Ownership(12345, 54321, 0o644, 0o755)))
    assert mode(tmp_path / "ours") == 0o600


def test_a_file_that_cannot_be_made_ours_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creating is all or nothing."""

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(OSError, match="Input/output"):
        create_file(tmp_path / "ours", OURS)
    assert list(tmp_path.iterdir()) == []


def test_two_that_make_a_directory_at_once_both_have_it(tmp_path: Path) -> None:
    """Whoever comes second finds the directory."""
    assert make_directory(tmp_path / "d", OURS) is True
    assert make_directory(tmp_path / "d", OURS) is False


def failing(number: int) -> Callable[..., None]:
    """Return what fails as the system does that is told of a descriptor: without a name."""

    def fail(*_args: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("call", "act", "named"),
    [
        ("write", lambda base: write_atomic(base / "new", b"x", OURS), ".new.tmp"),
        ("fsync", lambda base: write_atomic(base / "new", b"x", OURS), ".new.tmp"),
        ("fsync", fsync_directory, "."),
        ("fsync", lambda base: make_directory(base / "new", OURS), "."),
        ("fchmod", lambda base: make_directory(base / "new", OURS), "new"),
        ("fchmod", lambda base: create_file(base / "new", OURS), "new"),
        ("", lambda base: make_directory(base / ("n" * 256), OURS), "n" * 256),
        ("", lambda base: create_file(base / ("n" * 256), OURS), "n" * 256),
        ("", lambda base: create_file(base / "file", OURS), "file"),
        ("", lambda base: files.unlink(base / "missing"), "missing"),
        ("", lambda base: files.rename(base / "missing", base / "new"), "missing"),
        ("", lambda base: create_file(base / "file" / "below" / "new", OURS), "file"),
        ("", lambda base: create_file(base / "missing" / "below" / "new", OURS), "missing"),
    ],
)
def test_an_error_names_the_whole_path(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    act: Callable[[Path], object],
    named: str,
) -> None:
    """Whatever fails, the message leads to the file: no part of a name, and not none."""
    (tmp_path / "file").touch()
    if call:
        monkeypatch.setattr(os, call, failing(errno.EIO))
    with pytest.raises(OSError, match=re.escape(f"'{tmp_path / named}'")):
        act(tmp_path)


def test_what_stands_in_the_way_of_a_rename_is_named(tmp_path: Path) -> None:
    """Not the file that was to be renamed is called out of place, but what has its new name."""
    (tmp_path / "state").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "state", b"new", OURS)
    error = of_system(caught.value, "while it was noted")
    assert error.reason == "volume.unsafe_entry"
    assert error.message.startswith(f"'{tmp_path}/state' is a directory, ")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Walking a path closes what it opened, also where it fails."""
    before = len(os.listdir("/proc/self/fd"))
    with open_directory(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), open_directory(tmp_path / "a" / "b"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.EACCES, NoPermissionError, "database.permission"),
        (errno.EPERM, NoPermissionError, "database.permission"),
        (errno.EROFS, NotReadyError, "volume.read_only"),
        (errno.ELOOP, NotReadyError, "volume.unsafe_entry"),
        (errno.ENOTDIR, NotReadyError, "volume.unsafe_entry"),
        (errno.ENOSPC, DiskError, "disk.full"),
        (errno.EDQUOT, DiskError, "disk.full"),
        (errno.EIO, DiskError, "disk.failed"),
    ],
)
def test_what_the_kernel_says_becomes_the_contracts_error(
    number: int, kind: type[MigratorError], reason: str
) -> None:
    """Each cause that an operator treats differently has its own code and slug."""
    error = refusal(OSError(number, os.strerror(number)), Path("/data/x"), "writing")
    assert (type(error), error.reason) == (kind, reason)
    assert "/data/x" in str(error)
    assert error.hint


def test_a_read_only_volume_is_69(layout: Layout, tmp_path: Path, as_root: None) -> None:
    """Where the mount is read-only nothing can be created, and that is said."""
    with read_only(layout.database.parent, tmp_path / "ro") as shown:
        with pytest.raises(OSError, match="Read-only") as caught:
            make_home(Layout.of(Settings(shown / "app.db")))
        assert refusal(caught.value, shown, "creating").reason == "volume.read_only"


def test_cleaning_keeps_what_is_no_litter(layout: Layout) -> None:
    """Lock, notes and the kept failed database survive; an interrupted run's files do not."""
    make_home(layout)
    layout.failed.mkdir()
    (layout.failed / "app.db").touch()
    litter = ("work.db", "work.db-journal", "new.db", "new.db-wal", "etilqs_x", ".state.json.tmp")
    litter = (*litter, ".last_run.json.tmp")
    for name in ("lock", "state.json", "last_run.json", *litter):
        (layout.home / name).touch()
    clean_home(layout)
    assert {path.name for path in layout.home.iterdir()} == {
        "lock",
        "state.json",
        "last_run.json",
        ".gitignore",
        "failed",
    }
    assert (layout.failed / "app.db").exists()


def test_an_id_under_both_of_its_names_keeps_the_whole_one(layout):
    """A power cut at the rename may leave both; the unfinished name goes with what a run has left."""
    layout.identity.parent.mkdir(parents=True)
    layout.identity.write_text("f" * 32)
    unfinished = layout.identity.with_name(".id.tmp")
    unfinished.write_text("f" * 32)
    clean_home(layout)
    assert [layout.identity] == list(layout.identity.parent.iterdir())


def test_cleaning_what_is_not_there_is_no_error(layout: Layout) -> None:
    """Housekeeping fails no run, and creates nothing."""
    clean_home(layout)
    assert not layout.home.exists()


def test_a_database_goes_with_its_sidecars(tmp_path: Path) -> None:
    """A `-wal` that stays behind would be taken for the next database's."""
    for end in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"work.db{end}").touch()
    files.remove_database(tmp_path / "work.db")
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_is_none_any_more_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python resolves a link in two steps, and does not expect it to go in between."""

    def gone(path: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", os.fspath(tmp_path))

    monkeypatch.setattr(os.path, "realpath", gone)
    with pytest.raises(NotReadyError, match="changed while it was looked at"):
        files.realpath(tmp_path / "backups")
